"""The mail door and the real core: what is acknowledged is in the store, what is not is nowhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import smtplib
import socket
import sys
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.support.core_process import CoreProcess
from tests.support.sftp import Gateway, free_port
from tests.support.wire import Door

MIB = 1024 * 1024


class MailGateway(Gateway):
    """A core and a mail door."""

    def start_door(self):
        self.port = free_port()
        text = self.config.read_text("utf-8")
        assert '"127.0.0.1:2525"' in text
        self.config.write_text(text.replace('"127.0.0.1:2525"', f'"127.0.0.1:{self.port}"'))
        command = [sys.executable, "-m", "gateway.cli", "smtp", "-c", str(self.config)]
        self.door = CoreProcess(self.folder, command)
        self.admin.call("client.add", slug="mailer", name="Mailer", emails=["@mailer.example"])

    def mail(self, to="mailer@intake.localhost", size=0):
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "ap@mailer.example", to, "Invoice"
        message.set_content("See attachment.\n")
        message.add_attachment(b"x" * size, maintype="application", subtype="octet-stream")
        return message

    def received(self):
        documents = self.admin.call("document.list", client="mailer")
        return [(document["sha256"], document["size"]) for document in documents]


def wire_bytes(message):
    return b"\r\n".join(message.as_bytes().splitlines()) + b"\r\n"


@pytest.fixture
def gateway(template):
    with MailGateway(template) as running:
        yield running


def test_an_acknowledged_message_is_in_the_store_byte_for_byte(gateway):
    raw = wire_bytes(gateway.mail(size=5 * MIB))
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
        client.sendmail("ap@mailer.example", ["mailer@intake.localhost"], raw)
    assert gateway.received() == [(hashlib.sha256(raw).hexdigest(), len(raw))]
    assert gateway.spooled() == []


def test_strangers_and_unknown_clients_are_refused_with_the_cores_words(gateway):
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
        client.ehlo()
        client.mail("thief@elsewhere.example")
        assert client.rcpt("mailer@intake.localhost")[0] == 550
        assert client.rcpt("nobody@intake.localhost")[0] == 550
        assert client.rcpt("mailer@elsewhere.example")[0] == 550
        client.rset()
        client.mail("")
        assert client.rcpt("mailer@intake.localhost")[0] == 550
        client.rset()
        client.mail("ap@mailer.example")
        assert client.rcpt("mailer+2026@intake.localhost")[0] == 250
    assert gateway.received() == []


def test_a_core_killed_while_a_message_arrives_leaves_nothing_and_the_sender_may_try_again(gateway):
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
        client.ehlo()
        client.mail("ap@mailer.example")
        client.rcpt("mailer@intake.localhost")
        assert client.docmd("DATA")[0] == 354
        client.send(b"x" * MIB)
        gateway.core.process.send_signal(signal.SIGKILL)
        gateway.core.process.wait(10)
        client.send(b"\r\n.\r\n")
        assert client.getreply()[0] == 451
    gateway.start_core()
    assert gateway.received() == []
    assert gateway.spooled() == []
    assert gateway.stored() == []
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
        client.send_message(gateway.mail())
    assert len(gateway.received()) == 1


def test_a_connection_cut_in_data_leaves_nothing(gateway):
    with contextlib.closing(socket.create_connection(("127.0.0.1", gateway.port))) as line:
        line.sendall(
            b"EHLO c\r\nMAIL FROM:<ap@mailer.example>\r\nRCPT TO:<mailer@intake.localhost>\r\nDATA\r\n"
        )
        line.sendall(b"x" * MIB)
        deadline = time.monotonic() + 10
        while not gateway.spooled():
            assert time.monotonic() < deadline, "nothing was ever spooled"
            time.sleep(0.02)
    while gateway.spooled():
        assert time.monotonic() < deadline + 10, "the cut message is still there"
        time.sleep(0.02)
    assert gateway.received() == []


KILLER = Path(__file__).parents[1] / "support" / "killing_core.py"


@pytest.mark.parametrize(
    ("step", "phase"),
    [
        ("receive.publish", "before"),
        ("receive.publish", "after"),
        ("receive.record", "before"),
        ("receive.record", "after"),
    ],
)
def test_a_core_killed_around_the_commit_and_the_message_sent_again_make_one_document(
    template, step, phase
):
    """The sender hears 451 each time and sends the same again: there is one document, whatever was durable."""
    with MailGateway(template) as gateway:
        raw = wire_bytes(gateway.mail(size=1000))
        gateway.core.stop()
        gateway.core = CoreProcess(
            gateway.folder, [sys.executable, str(KILLER), str(gateway.config), step, phase]
        )
        with (
            smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client,
            pytest.raises(smtplib.SMTPDataError) as error,
        ):
            client.sendmail("ap@mailer.example", ["mailer@intake.localhost"], raw)
        assert error.value.smtp_code == 451
        assert gateway.core.process.wait(30) == -signal.SIGKILL
        gateway.core.stop()
        gateway.start_core()
        durable = gateway.received()
        assert len(durable) == ((step, phase) == ("receive.record", "after"))
        with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
            client.ehlo()
            client.mail("ap@mailer.example")
            client.rcpt("mailer@intake.localhost")
            code, said = client.data(raw)
        assert code == 250
        assert said.startswith(b"2.0.0 Already stored as" if durable else b"2.0.0 Stored as")
        assert gateway.received() == [(hashlib.sha256(raw).hexdigest(), len(raw))]
        (document,) = gateway.admin.call("document.list", client="mailer")
        assert said.decode().endswith(document["id"])
        assert len(gateway.stored()) == 1


def test_the_id_in_the_answer_is_the_one_that_the_clients_receipt_carries(gateway):
    gateway.admin.call("client.change", slug="acme", emails=["ap@mailer.example"])
    raw = wire_bytes(gateway.mail())
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
        client.ehlo()
        client.mail("ap@mailer.example")
        client.rcpt("acme@intake.localhost")
        said = client.data(raw)[1].decode()
    document = said.rpartition(" ")[2]
    door = Door(gateway.folder / "run" / "sftp.sock", "acme", gateway.folder / "demo" / "acme")
    try:
        day = datetime.now(UTC).strftime("%Y%m%d")
        receipt = json.loads(door.read(f"/receipts/{day}-{document}.json"))["receipt"]
    finally:
        door.close()
    assert receipt["document"] == document
    assert receipt["channel"] == "smtp"
    assert receipt["sha256"] == hashlib.sha256(raw).hexdigest()
