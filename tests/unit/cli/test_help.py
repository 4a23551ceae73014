"""Every command says what it is for and names its options; none that is not there is offered."""

from __future__ import annotations

import pytest
import typer

from gateway.cli import app
from tests.unit.cli.here import Program

ANY = {"--config", "-c", "--help"}
RESULT = ANY | {"--json"}
SIGNED = RESULT | {"--as", "--key"}
COMMANDS = {
    "init": {"--demo", "--json"},
    "run": ANY,
    "core": ANY,
    "sftp": ANY,
    "smtp": ANY,
    "inspect": ANY,
    "courier": ANY,
    "resolver": ANY,
    "mailbox": ANY,
    "client add": SIGNED
    | {
        "--name",
        "--fiscal-year-end",
        "--jurisdiction",
        "--email",
        "--language",
        "--unproven",
        "--notice-to",
    }
    | {"--quota-bytes", "--quota-files", "--quota-file-size"},
    "client change": SIGNED
    | {
        "--name",
        "--fiscal-year-end",
        "--jurisdiction",
        "--email",
        "--language",
        "--unproven",
        "--notice-to",
    }
    | {"--quota-bytes", "--quota-files", "--quota-file-size"},
    "client tag add": SIGNED | {"--label"},
    "client tag remove": SIGNED | {"--label"},
    "client senders": RESULT,
    "client list": RESULT,
    "client show": RESULT,
    "client close": SIGNED,
    "client password add": SIGNED | {"--label"},
    "client password list": SIGNED,
    "client password remove": SIGNED,
    "account add": RESULT
    | {"--role", "--client", "--key", "--password", "--totp", "--as", "--signing-key"}
    | {"--expires", "--network", "--hours", "--email"},
    "account change": SIGNED | {"--expires", "--network", "--hours", "--email"},
    "account totp": SIGNED,
    "account password": SIGNED | {"--remove"},
    "clock show": RESULT,
    "clock confirm": SIGNED | {"--reason"},
    "notice list": RESULT | {"--state", "--limit"},
    "notice test": SIGNED | {"--account"},
    "penalty list": RESULT,
    "penalty lift": SIGNED,
    "account list": RESULT,
    "account enable": SIGNED,
    "account disable": SIGNED,
    "account key": SIGNED | {"--add", "--remove"},
    "account recover": SIGNED | {"--add", "--root-key"},
    "account cancel-recovery": SIGNED,
    "account review-recovery": SIGNED,
    "account grant": SIGNED | {"--client"},
    "account rename": SIGNED | {"--to"},
    "account app-password add": SIGNED | {"--label"},
    "account app-password list": RESULT,
    "account app-password remove": SIGNED | {"--label"},
    "account vouch": SIGNED,
    "account revoke": SIGNED | {"--client"},
    "document list": RESULT | {"--client", "--state", "--class", "--year", "--after", "--limit"},
    "document show": RESULT,
    "document release": SIGNED | {"--class", "--year"},
    "document reject": SIGNED,
    "document reclassify": SIGNED | {"--class", "--year"},
    "document unlock": SIGNED | {"--deposit", "--deposited", "--label"},
    "document restore": SIGNED | {"--from"},
    "document export": SIGNED | {"--output"},
    "hold place": SIGNED | {"--document", "--client", "--reason"},
    "hold release": SIGNED,
    "hold list": RESULT | {"--released"},
    "retention explain": RESULT,
    "retention preview": RESULT | {"--at", "--client"},
    "retention rules": RESULT,
    "disposal propose": SIGNED | {"--client", "--document", "--whole-client"},
    "disposal list": RESULT,
    "disposal show": RESULT,
    "disposal statement": RESULT | {"--as", "--decision"},
    "disposal approve": SIGNED | {"--signature"},
    "disposal reject": SIGNED | {"--signature"},
    "disposal execute": SIGNED,
    "disposal witness": SIGNED,
    "disposal sanitised": SIGNED
    | {"--medium", "--serial", "--method", "--performed-on", "--place"},
    "certificate list": RESULT,
    "certificate show": RESULT | {"--pdf", "--output"},
    "certificate verify": RESULT | {"--vkey"},
    "certificate keys": RESULT | {"--signer"},
    "certificate schema": set(),
    "receipt verify": RESULT | {"--vkey"},
    "receipt schema": set(),
    "access list": RESULT | {"--all"},
    "access approve": SIGNED | {"--hours", "--folder"},
    "access deny": SIGNED | {"--reason"},
    "access revoke": SIGNED,
    "backup run": RESULT | {"--fresh"},
    "backup list": RESULT,
    "backup settle": SIGNED,
    "backup verify": RESULT | {"--backup", "--sample"},
    "backup restore": {
        "--from",
        "--into",
        "--keyrings",
        "--root-key",
        "--backup",
        "--json",
        "--help",
    }
    | {"--host-key", "--login-key", "--credentials", "--endpoint", "--region"},
    "ledger verify": RESULT | {"--against"},
    "ledger checkpoint": RESULT,
    "ledger settle": SIGNED,
    "ledger export": RESULT | {"--tiles"},
    "ledger prove": RESULT,
    "ledger consistency": RESULT,
    "ledger verify-proof": {"--vkey", "--old", "--new", "--json", "--help"},
    "keys status": RESULT,
    "keys rotate": RESULT | {"--client", "--at-once"},
    "keys host": RESULT,
    "keys copies": RESULT,
    "keys restore": SIGNED,
    "keys settle": SIGNED | {"--statement"},
    "check": SIGNED | {"--read-data", "--acknowledge"},
    "status": RESULT,
    "doctor": RESULT,
}


def offered() -> set[str]:
    """All commands there are, as typed."""
    found = set()

    def walk(command, path):
        if not hasattr(command, "list_commands"):
            found.add(path)
            return
        for name in command.list_commands(None):
            walk(command.get_command(None, name), f"{path} {name}".strip())

    walk(typer.main.get_command(app.app), "")
    return found


def test_the_commands_are_those_listed_here_and_no_others() -> None:
    assert offered() == set(COMMANDS)


@pytest.mark.parametrize(("command", "options"), COMMANDS.items())
def test_help_names_every_option_and_says_what_the_command_is_for(
    command: str, options: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    done = Program(capsys)(*command.split(), "--help")
    assert done.code == 0
    assert done.err == ""
    words = set(done.out.replace(",", " ").split())
    assert options <= words
    usage, *rest = done.out.strip().splitlines()
    assert usage.startswith(f"Usage: strongroom {command} ")
    about = next(line.strip() for line in rest if line.strip())
    assert len(about) > 15
    assert not about.startswith("Options")


@pytest.mark.parametrize("group", ["", "client", "document", "hold", "ledger", "keys"])
def test_a_group_without_a_command_shows_its_help_as_a_usage_error(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Program(capsys)(*group.split())
    assert done.code == 2
    assert done.out == ""
    assert "Commands:" in done.err


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    done = Program(capsys)("--version")
    assert done.code == 0
    assert done.out.startswith("strongroom ")
    assert len(done.out.splitlines()) == 1
