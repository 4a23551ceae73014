"""Acts on an installation at rest: accounts, clients, holds, the ledger, and whose hand they take."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli.commands import ledger
from gateway.cli.support import connection
from gateway.cli.support.connection import Console, at_console
from gateway.cli.support.signing import Person, person
from gateway.config import load
from gateway.errors import Disconnected, Refusal
from gateway.wire.channel import Channel
from gateway.wire.messages import AdminCall, Challenge
from gateway.wire.signed_act import NAMESPACE
from tests.servers.gateway_process import Installation, installation
from tests.unit.cli.here import Program
from vault.crypto import sshsig
from vault.keys.root import FileRootKey


@pytest.fixture
def made():
    with installation() as made:
        yield made


@pytest.fixture
def program(made: Installation, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(capsys, made.config)


def public_key(path: Path) -> Path:
    path.write_text(f"# a comment\n\n{sshsig.public_line(Ed25519PrivateKey.generate())} me\n")
    return path


def test_a_client_is_added_with_everything_that_was_said_of_it(program: Program) -> None:
    added = program.json(
        "client", "add", "beta", "--name", "贝塔有限公司", "--fiscal-year-end", "03-31",
        "--email", "a@beta.example", "--email", "@beta.example", "--language", "zh",
        "--custody-role", "record_copy", "--entity-type", "partnership",
    )  # fmt: skip
    shown = program.json("client", "show", "beta")
    assert shown["id"] == added["id"]
    assert shown["name"] == "贝塔有限公司"
    assert shown["emails"] == ["a@beta.example", "@beta.example"]
    assert (shown["fiscal_year_end"], shown["language"]) == ("03-31", "zh")
    assert (shown["custody_role"], shown["entity_type"]) == ("record_copy", "partnership")
    assert "贝塔有限公司" in program("client", "show", "beta").out
    assert [client["slug"] for client in program.json("client", "list")] == ["acme", "beta"]


def test_a_client_without_documents_can_be_closed_and_then_is_named_no_more(
    program: Program,
) -> None:
    assert program("client", "add", "beta", "--name", "Secret Name").code == 0
    assert program("client", "close", "beta").code == 0
    assert program.json("client", "show", "beta")["state"] == "closed"
    assert "Secret Name" not in program("client", "show", "beta").out


def test_a_password_is_read_from_a_line_of_input_and_appears_nowhere(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\nmore\n"))
    done = program("account", "add", "alice", "--role", "admin", "--password", "--totp", "--json")
    assert done.data["totp_uri"].startswith("otpauth://totp/")
    assert "correct horse" not in done.out + done.err
    alice = next(a for a in program.json("account", "list") if a["name"] == "alice")
    assert (alice["password"], alice["totp"], alice["keys"]) == (True, True, [])
    secret = done.data["totp_uri"].partition("secret=")[2].partition("&")[0]
    assert secret
    assert secret not in program("account", "list", "--json").out


def test_limits_and_factors_are_given_changed_lifted_and_shown(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    done = program(
        "account", "add", "temp", "--role", "client", "--client", "acme", "--password",
        "--expires", "2027-03-31", "--network", "192.0.2.0/24", "--network", "2001:db8::/32",
        "--hours", "Mon-Fri 08:00-19:00",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    done = program("account", "add", "lacking", "--role", "auditor", "--password")
    assert done.code == 0
    assert (
        "a key and a one-time code" not in done.err
    )  # the demonstration's policy takes a key alone
    assert "takes a key" in done.err
    listed = {each["name"]: each for each in program.json("account", "list")}
    assert listed["temp"]["networks"] == ["192.0.2.0/24", "2001:db8::/32"]
    assert listed["temp"]["expires_at"] == "2027-04-01T00:00:00.000000+00:00"
    assert (listed["temp"]["hours"], listed["temp"]["lacks"]) == ("Mon-Fri 08:00-19:00", [])
    assert listed["lacking"]["lacks"] == ["a key"]
    changed = program.json(
        "account", "change", "temp", "--expires", "never", "--network", "any", "--hours", "any"
    )
    assert changed == {"name": "temp", "expires_at": None, "networks": [], "hours": "", "email": ""}
    uris = {program.json("account", "totp", "temp")["totp_uri"] for _ in range(2)}
    assert len(uris) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("another horse battery\n"))
    assert program.json("account", "password", "temp") == {"name": "temp", "password": True}
    assert program.json("account", "password", "temp", "--remove")["password"] is False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--expires", "soon"], "expires: expected a day"),
        (["--network", "192.0.2.1/24"], "network: expected a network"),
        (["--hours", "always"], "hours: expected hours"),
    ],
)
def test_a_limit_that_says_something_else_is_refused(
    program: Program, options: list[str], said: str
) -> None:
    assert said in program("account", "change", "acme", *options).one_line(1)


def test_a_change_of_nothing_and_an_empty_password_are_usage_errors(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--expires" in program("account", "change", "acme").one_line(2)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "empty" in program("account", "password", "acme").one_line(2)


def test_host_keys_and_penalties_are_shown_and_changed(program: Program) -> None:
    before = program.json("keys", "host")
    assert [each["type"] for each in before["in_use"]] == ["ssh-ed25519", "ssh-rsa"]
    assert before["announced"] == []
    fingerprint = before["in_use"][0]["fingerprint"]
    assert fingerprint in program("keys", "status").out
    rotated = program.json("keys", "rotate", "host")
    assert len(rotated["announced"]) == 2
    out = program("keys", "host").out
    assert all(each["fingerprint"] in out for each in rotated["announced"])
    assert rotated["announced"][0]["line"] in out
    assert "--at-once" in program("keys", "rotate", "groups", "--at-once").one_line(1)
    assert program("penalty", "list").out == "No source is penalised.\n"
    assert "192.0.2.9" in program("penalty", "lift", "192.0.2.9").one_line(1)


def test_a_short_password_is_refused(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("eleven char\n"))
    line = program("account", "add", "al", "--role", "admin", "--password").one_line(1)
    assert "at least 12" in line
    assert "eleven" not in line


def test_a_password_typed_differently_the_second_time_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["correct horse battery", "correct horse batterie"])
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    line = program("account", "add", "al", "--role", "admin", "--password").one_line(2)
    assert "batter" not in line


def test_a_private_key_never_leaves_for_the_core(made: Installation, program: Program) -> None:
    line = program("account", "add", "x", "--role", "officer", "--key", made.key("acme")).one_line(
        2
    )
    assert "found a private key" in line


def test_keys_are_added_and_removed_and_one_key_is_one_person_s(
    made: Installation, program: Program, tmp_path: Path
) -> None:
    key = public_key(tmp_path / "k.pub")
    added = program.json("account", "key", "auditor", "--add", key)
    assert added["fingerprint"] == sshsig.fingerprint(key.read_text().splitlines()[-1])
    assert "in use" in program("account", "key", "accountant", "--add", key).one_line(1)
    assert program("account", "key", "auditor", "--remove", added["fingerprint"]).code == 0
    program("account", "key", "auditor", "--remove", added["fingerprint"]).one_line(1)
    assert program("account", "key", "accountant", "--add", key).code == 0


def test_grants_are_given_and_taken_back(program: Program) -> None:
    def seen() -> list[str]:
        accounts = program.json("account", "list")
        return next(a["clients"] for a in accounts if a["name"] == "officer1")

    assert program("account", "grant", "officer1", "--client", "acme").code == 0
    assert seen() == ["acme"]
    assert program("account", "revoke", "officer1", "--client", "acme").code == 0
    assert seen() == []


def test_a_hold_is_placed_by_the_console_and_released_by_an_officer_s_own_key_only(
    made: Installation, program: Program
) -> None:
    hold = program.json("hold", "place", "--client", "acme", "--reason", "a dispute")["id"]
    assert "found console" in program("hold", "release", hold).one_line(1)
    assert "found accountant" in program(
        "hold", "release", hold, *made.signed("accountant")
    ).one_line(1)
    other = ["--as", "officer1", "--key", made.key("officer2")]
    assert "a registered key" in program("hold", "release", hold, *other).one_line(1)
    assert [entry["reason"] for entry in program.json("hold", "list")] == ["a dispute"]
    first = program("hold", "release", hold, *made.signed("officer1"))
    assert (first.code, "another officer" in first.out) == (0, True)
    assert len(program.json("hold", "list")) == 1
    assert program("hold", "release", hold, *made.signed("officer2")).code == 0
    assert program.json("hold", "list") == []
    assert program.json("hold", "list", "--released")[0]["released_at"] is not None
    program("hold", "release", hold, *made.signed("officer1")).one_line(1)


def test_a_disabled_account_signs_nothing_any_more(made: Installation, program: Program) -> None:
    hold = program.json("hold", "place", "--client", "acme", "--reason", "x")["id"]
    assert program("account", "disable", "officer1").code == 0
    assert "found none" in program("hold", "release", hold, *made.signed("officer1")).one_line(1)


def replay(made: Installation, desk: Console, again: Console) -> None:
    """Perform a signed act, then send the very same bytes to `again`."""
    sent: list[AdminCall] = []
    calls = desk._call

    def watch(request: Challenge | AdminCall):
        if isinstance(request, AdminCall):
            sent.append(request)
        return calls(request)

    signer = person("officer1", made.key("officer1"))
    hold = desk.act("hold.place", {"client": "acme", "reason": "x"}).data["id"]
    Console(watch).act("hold.release", {"hold": hold}, signer)
    (call,) = sent
    with pytest.raises(Refusal, match="a signature over this very act"):
        again._call(call)
    done = desk.act("hold.release", {"hold": hold}, person("officer2", made.key("officer2")))
    assert done.data["released_at"]


def test_a_statement_signed_once_is_no_second_act(made: Installation) -> None:
    with at_console(load(made.config)) as desk:
        replay(made, desk, desk)


def test_a_signature_for_one_act_serves_no_other(made: Installation) -> None:
    key = person("officer1", made.key("officer1"))
    assert key is not None
    with at_console(load(made.config)) as desk:
        hold = desk.act("hold.place", {"client": "acme", "reason": "x"}).data["id"]
        other = desk.act("hold.place", {"client": "acme", "reason": "y"}).data["id"]
        swapped = Person(
            "officer1",
            lambda message, space: key.sign(message.replace(other.encode(), hold.encode()), space),
        )
        with pytest.raises(Refusal, match=r"act hold\.release"):
            desk.act("hold.release", {"hold": other}, swapped)
        elsewhere = Person("officer1", lambda message, space: key.sign(message, space + "-v2"))
        with pytest.raises(Refusal, match=f"namespace {NAMESPACE}"):
            desk.act("hold.release", {"hold": hold}, elsewhere)
        assert len(desk.act("hold.list").data) == 2


def test_a_core_that_may_not_be_asked_is_no_reason_to_open_the_store(
    made: Installation, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, timeout: float | None = None) -> Channel:
        raise Disconnected(f"{path}: expected the core listening, found no permission") from (
            PermissionError(13, "Permission denied")
        )

    def never(config: object) -> None:
        raise AssertionError("the store was opened")

    monkeypatch.setattr(connection.Channel, "connect", refuse)
    monkeypatch.setattr(connection, "_own_core", never)
    assert "found no permission" in program("status").one_line(1)


def test_the_ledger_is_exported_whole_over_several_pages(
    made: Installation, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = program.json("status")["ledger"]["entries"]
    for page in (1, 2, entries - 1, entries, entries + 1):
        monkeypatch.setattr(ledger, "_LEDGER_PAGE", page)
        path = tmp_path / f"ledger-{page}.jsonl"
        assert program.json("ledger", "export", path) == {"file": str(path), "entries": entries}
        lines = path.read_bytes().splitlines()
        assert [json.loads(line)["seq"] for line in lines] == list(range(entries))
    assert "expected no file" in program("ledger", "export", path).one_line(2)


def test_a_kept_checkpoint_is_held_against_the_ledger(program: Program, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text(program("ledger", "checkpoint").out)
    assert program("hold", "place", "--client", "acme", "--reason", "x").code == 0
    done = program("ledger", "verify", "--against", tmp_path / "kept", "--json")
    assert (done.code, done.data["findings"]) == (0, [])
    with installation() as other:
        # Another history with the same keys: the copy was made before its first entry differed.
        Program(program._capsys, other.config)("hold", "place", "--client", "acme", "--reason", "y")
        foreign = Program(program._capsys, other.config)("ledger", "checkpoint").out
    (tmp_path / "foreign").write_text(foreign)
    done = program("ledger", "verify", "--against", tmp_path / "foreign", "--json")
    assert done.code == 1
    assert done.data["findings"]
    assert "NOT WHOLE" in program("ledger", "verify", "--against", tmp_path / "foreign").out


def test_a_check_that_finds_something_ends_with_1_and_says_what_to_do(
    made: Installation, program: Program
) -> None:
    assert program("check", "--read-data").code == 0
    stray = made.folder / "vault" / "blobs" / "objects" / "00" / "01M00000000000000000000000"
    stray.write_bytes(b"")
    done = program("check")
    assert done.code == 1
    assert "WHAT TO DO" in done.out
    assert "blob 01M00000000000000000000000" in done.out


def test_a_certificate_that_is_none_fails_at_step_one(program: Program, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{}")
    done = program("certificate", "verify", tmp_path / "c.json", "--json")
    assert done.code == 1
    (result,) = done.data
    assert result["passed"] is False
    assert [step["number"] for step in result["steps"]] == [1]
    text = program("certificate", "verify", tmp_path / "c.json")
    assert text.code == 1
    assert "1. FAIL  format" in text.out
    assert "NOT VERIFIED" in text.out


def test_files_the_program_writes_are_its_own_users_and_new(
    program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "l.jsonl"
    program("ledger", "export", path)
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0


def _lost(program: Program) -> None:
    for name in ("officer2", "officer3"):
        assert program("account", "disable", name).code == 0


def test_a_lost_quorum_is_recovered_with_the_root_keys_file_which_goes_nowhere(
    made: Installation, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    act = Console.act

    def watched(self, name, arguments=None, person=None):
        sent.append(json.dumps(arguments))
        return act(self, name, arguments, person)

    monkeypatch.setattr(Console, "act", watched)
    _lost(program)
    assert "1 can sign; the quorum is LOST" in program("status").out
    root = made.folder / load(made.config).root_key
    command = [
        "account", "recover", "late", "--add", str(public_key(tmp_path / "late.pub")),
        *made.signed("officer1"),
    ]  # fmt: skip
    assert "--root-key" in program(*command).err
    done = program(*command, "--root-key", str(root), "--json")
    secret = root.read_text().split()[1]
    assert secret not in done.out + done.err + "".join(sent)
    assert "RECOVERY of late" in program("status").out
    assert any(each["subject"] == "recovery of the quorum" for each in program.json("doctor"))
    said = program("account", "cancel-recovery", "late", *made.signed("officer2"))
    assert "cancelled" in said.out
    assert any(each["subject"] == "officers" for each in program("doctor", "--json").data)
    program("account", "review-recovery", *made.signed("officer1")).one_line(1)


def test_another_root_key_or_none_recovers_nothing(
    made: Installation, program: Program, tmp_path: Path
) -> None:
    _lost(program)
    FileRootKey.create(tmp_path / "other.key")
    command = [
        "account", "recover", "late", "--add", str(public_key(tmp_path / "late.pub")),
    ]  # fmt: skip
    root = made.folder / load(made.config).root_key
    signed = made.signed("officer1")
    other = program(*command, "--root-key", str(tmp_path / "other.key"), *signed)
    assert "this store's root key" in other.one_line(1)
    assert program(*command, "--root-key", str(tmp_path / "none.key"), *signed).code != 0
    assert "--as" in program(*command, "--root-key", str(root)).one_line(2)
    assert "LOST" in program("status").out
