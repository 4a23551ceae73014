"""Receipts and notices of a running gateway: killed at every step of the way, nothing is lost, and what may come
twice has one id; and the commands that show and test them.
"""

from __future__ import annotations

import shutil
import signal
import smtplib
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest
from sqlalchemy import update

from gateway.config import load
from gateway.core.steps import NOTICE_STEPS
from gateway.install import create
from tests.servers.gateway_process import Installation, installation, running
from tests.support.core_process import CoreProcess
from tests.support.hook_sink import HookSink
from tests.support.mail_sink import MailSink, text_of
from tests.support.wire import Admin, Door, inspect_one, until
from vault.catalogue.schema import messages
from vault.keys.root import load_root_key
from vault.store import Store

KILLER = Path(__file__).parents[1] / "support" / "killing_core.py"
NOTE = b"Strongroom demonstration note\n\nDate: 2026-11-20\nThis note may be discarded.\n"


@pytest.fixture(scope="module")
def made_once():
    home = Path(tempfile.mkdtemp(prefix="sr-t-", dir="/tmp"))
    create.create(home / "i", datetime.now(UTC), demo=True)
    yield home / "i"
    shutil.rmtree(home)


@pytest.fixture
def home():
    folder = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def relay(home):
    with MailSink(home / "relay") as sink:
        yield sink


@pytest.fixture
def folder(made_once, home, relay):
    """An installation that sends receipts at once."""
    place = home / "i"
    shutil.copytree(made_once, place, symlinks=True)
    with (place / "config.toml").open("a") as config:
        config.write(relay.toml(digest_minutes=0))
    return place


def admin_of(folder: Path) -> Admin:
    return Admin(folder / "run" / "admin.sock", folder / "demo")


def courier(folder: Path) -> CoreProcess:
    return CoreProcess(
        folder,
        [sys.executable, "-m", "gateway.cli", "courier", "-c", str(folder / "config.toml")],
    )


def send(folder: Path) -> None:
    """Have the client ask for receipts, and send a document that is accepted."""
    admin_of(folder).call("client.change", slug="acme", notice_to="books@acme.example")
    door = Door(folder / "run" / "sftp.sock", "acme", folder / "demo" / "acme")
    door.upload("/inbox/note.txt", NOTE)
    door.close()
    inspect_one(folder / "run" / "inspect.sock")


def states(folder: Path) -> list[str]:
    return [each["state"] for each in admin_of(folder).call("notice.list")]


def kill(process: CoreProcess) -> None:
    process.process.kill()
    process.process.wait(30)


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("step", list(NOTICE_STEPS))
def test_a_core_killed_at_any_step_sends_it_once_while_the_courier_lives(
    folder, relay, step, phase
):
    config = str(folder / "config.toml")
    victim = CoreProcess(folder, [sys.executable, str(KILLER), config, step, phase])
    with victim, courier(folder):
        send(folder)
        assert victim.process.wait(60) == -signal.SIGKILL, victim.log()
        with CoreProcess(folder):
            until(lambda: states(folder) == ["sent"], 60)
            assert admin_of(folder).call("ledger.verify")["findings"] == []
            assert [each["To"] for each in relay.mails] == ["books@acme.example"]


def test_a_courier_killed_before_the_answer_sends_it_again_under_the_same_id(folder, relay):
    relay.data = "hang"
    with CoreProcess(folder):
        victim = courier(folder)
        send(folder)
        assert relay.got.wait(60)
        kill(victim)
        relay.data = ""
        with courier(folder):
            until(lambda: states(folder) == ["sent"], 60)
        victim.stop()
    first, second = relay.mails
    assert first["Message-ID"] == second["Message-ID"]


def test_both_killed_after_the_relay_took_it_send_it_again_under_the_same_id(folder, relay):
    """What the protocol can't tell: it is taken, and nobody has heard of it."""
    config = str(folder / "config.toml")
    victim = CoreProcess(folder, [sys.executable, str(KILLER), config, "notice.send", "after"])
    carrier = courier(folder)
    send(folder)
    assert victim.process.wait(60) == -signal.SIGKILL, victim.log()
    kill(carrier)
    with CoreProcess(folder), courier(folder):
        until(lambda: states(folder) == ["sent"], 60)
    for process in (victim, carrier):
        process.stop()
    assert len(relay.mails) == 2
    assert len({each["Message-ID"] for each in relay.mails}) == 1


@pytest.mark.parametrize(("courier_too", "times"), [(False, 1), (True, 2)])
def test_an_event_that_was_taken_comes_once_more_only_if_both_died(
    folder, home, courier_too, times
):
    with HookSink(home / "hook") as hook:
        with (folder / "config.toml").open("a") as config:
            config.write(
                f'\n[[webhook]]\nname = "duty"\nurl = "{hook.url}"\nsecret = "{hook.secret}"\n'
            )
        text = str(folder / "config.toml")
        victim = CoreProcess(folder, [sys.executable, str(KILLER), text, "notice.send", "after"])
        carriers = [courier(folder)]
        door = Door(folder / "run" / "sftp.sock", "acme", folder / "demo" / "acme")
        door.upload("/inbox/of no class.bin", bytes(range(256)))
        door.close()
        inspect_one(folder / "run" / "inspect.sock")
        assert victim.process.wait(60) == -signal.SIGKILL, victim.log()
        if courier_too:
            kill(carriers[0])
            carriers.append(courier(folder))
        with CoreProcess(folder):
            until(lambda: states(folder) == ["sent"], 60)
        for process in (victim, *carriers):
            process.stop()
        assert hook.wrong == []
        assert len(hook.ids) == times
        assert len(set(hook.ids)) == 1
        assert hook.events[0]["type"] in {"notice.review", "notice.quarantine"}


def test_no_message_lies_on_the_disk_while_it_waits(folder, relay):
    relay.data = "hang"
    with CoreProcess(folder), courier(folder):
        send(folder)
        assert relay.got.wait(60)
        (message_id,) = [str(each["Message-ID"]).strip("<>") for each in relay.mails]
        for path in (folder / "vault").rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert message_id.encode() not in content, path
                assert b"books@acme.example" not in content, path
        relay.data = ""


def test_the_command_line_lists_and_tests_notices(folder, relay):
    made = Installation(folder, 0, 0)
    with HookSink(folder / "hook") as hook:
        with (folder / "config.toml").open("a") as config:
            config.write(
                f'\n[[webhook]]\nname = "duty"\nurl = "{hook.url}"\nsecret = "{hook.secret}"\n'
            )
        at_rest = made.cli("notice", "test", "relay", "--account", "accountant")
        assert at_rest.returncode == 1
        assert "running gateway" in at_rest.stderr
        with CoreProcess(folder), courier(folder):
            without = made.cli("notice", "test", "relay", "--account", "accountant")
            assert without.returncode == 1
            assert "--email" in without.stderr
            changed = made.cli("account", "change", "accountant", "--email", "acc@firm.example")
            assert changed.returncode == 0, changed.stderr
            sent = made.cli("notice", "test", "relay", "--account", "accountant")
            assert (sent.returncode, sent.stdout) == (0, "Sent: relay has taken it.\n")
            assert "the relay works" in text_of(relay.mails[0])
            called = made.cli("notice", "test", "webhook:duty")
            assert (called.returncode, hook.wrong) == (0, [])
            assert hook.events[0]["type"] == "notice.test"
            relay.rcpt = "550 5.7.1 Not from here"
            refused = made.cli("notice", "test", "relay", "--account", "accountant")
            assert refused.returncode == 1
            assert "550 5.7.1 Not from here" in refused.stdout
            listed = made.json("notice", "list")
            assert [each["state"] for each in listed] == ["refused", "sent", "sent"]
            assert [each["to"] for each in listed] == ["accountant", "webhook:duty", "accountant"]
            assert "firm.example" not in made.cli("notice", "list").stdout
            assert made.json("notice", "list", "--state", "refused")[0]["id"] == listed[0]["id"]
            unknown = made.cli("notice", "test", "webhook:other")
            assert "relay, webhook:duty" in unknown.stderr
            assert "1 FAILED" in made.cli("status").stdout
            assert "Not from here" in made.cli("doctor").stdout


@pytest.fixture
def gateway_with_relay(relay):
    with installation(lambda text: text + relay.toml(digest_minutes=0)) as made:
        yield made


def mail_in(made: Installation, *headers: tuple[str, str]) -> None:
    """Send a mail with a note attached, through the door."""
    message = EmailMessage()
    message["From"], message["To"] = "Owner <owner@mailer.example>", "mailer@intake.localhost"
    message["Subject"], message["Message-ID"] = "Notes 12,345.67", "<note-1@mailer.example>"
    for name, value in headers:
        message[name] = value
    message.set_content("See attachment.\n")
    message.add_attachment(NOTE, maintype="text", subtype="plain", filename="note of may.txt")
    with smtplib.SMTP("127.0.0.1", made.smtp_port, timeout=60) as client:
        client.send_message(message, "owner@mailer.example", "mailer@intake.localhost")


def prove(made: Installation) -> None:
    """Between two runs: what has come was signed by its domain."""
    config = load(made.config)
    root = load_root_key(config.root_key)
    with closing(Store.open(config.store_path, root, [])) as store:
        store.catalogue.write(
            lambda tx: tx.connection.execute(update(messages).values(proof="dkim"))
        )


def test_a_mail_is_answered_from_door_to_relay(gateway_with_relay, relay):
    made = gateway_with_relay
    with running(made, "core", "smtp"):
        made.admin.call(
            "client.add", slug="mailer", name="Mailer", emails=["@mailer.example"], language="both"
        )
        mail_in(made)
        mail_in(made, ("Auto-Submitted", "auto-replied"))
        mail_in(made, ("List-Id", "<list.mailer.example>"))
    prove(made)
    with running(made, "core", "inspect", "courier"):
        until(
            lambda: (
                sorted(each["state"] for each in made.admin.call("notice.list"))
                == ["sent", "withheld", "withheld"]
            ),
            100,
        )
        withheld = made.admin.call("notice.list", state="withheld")
        assert {each["failure"].partition("(")[2] for each in withheld} == {
            "auto-submitted)",
            "list-id)",
        }
    (answer,) = relay.mails
    assert relay.recipients == ["owner@mailer.example"]
    assert answer["In-Reply-To"] == "<note-1@mailer.example>"
    assert answer["Subject"].startswith(
        "回执：1 份文件，1 份已接收 / Receipt: 1 received, 1 accepted"
    )
    said = text_of(answer)
    assert "已接收" in said
    assert "note of may" not in said
    assert "12,345" not in said + str(answer["Subject"])
