"""Mail fetched from a real dovecot: each message once, marked only when it is durable, whoever is killed when."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.servers.gateway_process import Gateway, Installation, installation, running
from tests.support.dovecot import MISSING, PASSWORD, USER, Dovecot, dovecot
from tests.support.mail_domain import letter

pytestmark = pytest.mark.skipif(MISSING, reason="needs dovecot-imapd")

OWNER = "owner@acme.example"
SECTION = """
[[mailbox]]
name = "invoices"
host = "localhost:{port}"
user = "{user}"
password = "mailbox.password"
authorities = "{authorities}"
client = "acme"
poll_seconds = 0.3
{more}
"""


@pytest.fixture
def server() -> Iterator[Dovecot]:
    with dovecot() as running_server:
        yield running_server


def made_for(server: Dovecot, more: str = "", **changes: str) -> object:
    """An installation that fetches from the server."""
    values = {"port": str(server.port), "user": USER, "authorities": str(server.certificate)}
    section = SECTION.format(**(values | changes), more=more)
    return installation(lambda text: text + section)


def with_password(made: Installation, password: str = PASSWORD) -> Installation:
    path = made.folder / "mailbox.password"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(password + "\n")
    return made


def allow(made: Installation) -> None:
    """Let the client know the sender; what came before is looked at again."""
    made.admin.call("client.change", slug="acme", emails=[OWNER])


def mails(count: int, start: int = 0) -> list[bytes]:
    return [
        letter(OWNER, subject=f"Invoice {number}").replace(b"<1@", b"<%d@" % number)
        for number in range(start, start + count)
    ]


def stored(made: Installation) -> list[str]:
    documents = made.admin.call("document.list", client="acme")
    return sorted(each["sha256"] for each in documents if each["channel"] == "imap")


def digests(messages: list[bytes]) -> list[str]:
    return sorted(hashlib.sha256(message).hexdigest() for message in messages)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def settle(made: Installation, messages: list[bytes]) -> None:
    until(lambda: stored(made) == digests(messages))


def told(made: Installation) -> dict[str, object]:
    (state,) = made.admin.call("status")["mailboxes"]
    return state


def test_each_message_is_stored_once_byte_for_byte_and_then_marked_as_seen(server: Dovecot) -> None:
    messages = mails(5)
    server.deliver(*messages)
    with made_for(server) as made, running(with_password(made), "core", "mailbox", "inspect"):
        allow(made)
        settle(made, messages)
        until(lambda: all("Seen" in each for each in server.flags()))
        server.deliver(*(more := mails(2, 5)))  # told of by IDLE
        settle(made, messages + more)
        made.wait_for(lambda found: all(each["state"] == "FILED" for each in found))
        assert told(made)["fault"] == ""
        assert "invoices" in made.cli("status").stdout


def test_a_large_message_comes_in_pieces_and_whole(server: Dovecot) -> None:
    body = random.Random(7).randbytes(3 * 1024 * 1024).hex()
    large = letter(
        OWNER, body="\r\n".join(body[at : at + 76] for at in range(0, len(body), 76)) + "\r\n"
    )
    server.deliver(large)
    with made_for(server) as made, running(with_password(made), "core", "mailbox"):
        allow(made)
        settle(made, [large])


@pytest.mark.parametrize("without", [(), ("MOVE",), ("MOVE", "UIDPLUS"), ("IDLE", "MOVE")])
def test_stored_messages_are_moved_with_whatever_the_server_can(without: tuple[str, ...]) -> None:
    with dovecot(without) as server:
        messages = mails(3)
        server.deliver(*messages)
        more = 'done = "move"\ndone_folder = "Done"'
        with made_for(server, more) as made, running(with_password(made), "core", "mailbox"):
            allow(made)
            settle(made, messages)
            until(lambda: len(server.flags("Done")) >= 3)
            if "UIDPLUS" not in without:
                until(lambda: server.flags() == [])
            time.sleep(1.0)  # several looks later
            assert stored(made) == digests(messages)
            assert len(server.flags("Done")) == 3


def test_messages_that_got_other_numbers_are_not_stored_again(server: Dovecot) -> None:
    messages = mails(3)
    server.deliver(*messages)
    with made_for(server, 'done = "keep"') as made, running(with_password(made), "core", "mailbox"):
        allow(made)
        settle(made, messages)
        server.renumber()
        server.deliver(*(more := mails(1, 3)))
        settle(made, messages + more)


def test_strangers_and_mail_for_nobody_stay_in_the_mailbox_and_are_counted(server: Dovecot) -> None:
    known, stranger = mails(1)[0], letter("stranger@evil.example")
    server.deliver(stranger, known)
    with made_for(server) as made, running(with_password(made), "core", "mailbox"):
        allow(made)
        settle(made, [known])
        until(lambda: told(made)["not_taken"] == 1)
        assert sum("Seen" in each for each in server.flags()) == 1


def test_addresses_decide_whose_a_message_is(server: Dovecot) -> None:
    ours = letter(OWNER).replace(b"To: acme@intake.localhost", b"To: rechnung@firm.example")
    nobody = letter(OWNER, subject="b").replace(
        b"To: acme@intake.localhost", b"To: else@firm.example"
    )
    server.deliver(nobody, ours)
    section = SECTION.replace('client = "acme"\n', "")
    values = {"port": str(server.port), "user": USER, "authorities": str(server.certificate)}
    more = '[mailbox.addresses]\n"Rechnung@firm.example" = "acme"'
    with (
        installation(lambda text: text + section.format(**values, more=more)) as made,
        running(with_password(made), "core", "mailbox"),
    ):
        allow(made)
        settle(made, [ours])
        until(lambda: told(made)["not_taken"] == 1)


def test_what_is_wrong_with_a_mailbox_is_told_and_mended_without_a_loss(server: Dovecot) -> None:
    messages = mails(2)
    server.deliver(*messages)
    with (
        made_for(server) as made,
        running(with_password(made, "wrong"), "core", "mailbox") as gateway,
    ):
        allow(made)
        until(lambda: bool(told(made)["fault"]))
        assert PASSWORD not in gateway.stderr("mailbox") + str(told(made))
        assert "invoices" in made.cli("doctor").stdout
        gateway.stop("mailbox")
        with_password(made)
        gateway.start("mailbox")
        settle(made, messages)
        until(lambda: told(made)["fault"] == "")


def test_a_server_with_a_foreign_certificate_gets_no_password(server: Dovecot) -> None:
    server.deliver(*mails(1))
    with (
        dovecot() as other,
        made_for(server, authorities=str(other.certificate)) as made,
        running(with_password(made), "core", "mailbox"),
    ):
        allow(made)
        until(lambda: "certificate" in str(told(made)["fault"]).lower())
        assert stored(made) == []


def test_kills_anywhere_lose_nothing_and_double_nothing(server: Dovecot) -> None:
    chance = random.Random(11)
    messages: list[bytes] = []
    more = 'done = "move"\ndone_folder = "Done"'
    with made_for(server, more) as made, running(with_password(made), "core", "mailbox") as gateway:
        allow(made)
        for round_ in range(8):
            fresh = mails(6, 6 * round_)
            messages += fresh
            server.deliver(*fresh)
            time.sleep(chance.uniform(0.0, 0.6))
            victim = chance.choice(["mailbox", "core", "server"])
            if victim == "server":
                server.restart()
            else:
                gateway.kill(victim)
                gateway.start(victim)
        settle_after(gateway, made, messages)
        until(lambda: server.flags() == [], 60)
        assert made.cli("check").returncode == 0


def settle_after(gateway: Gateway, made: Installation, messages: list[bytes]) -> None:
    del gateway
    until(lambda: len(stored(made)) >= len(messages), 60)
    assert stored(made) == digests(messages)


class HostileServer:
    """An IMAP server that lets one in, and then says what it is told to, to every FETCH."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            connection.sendall(b"* OK ready\r\n")
            for line in lines:
                tag, verb = line.split()[:2]
                verb = line.split()[2] if verb == b"UID" else verb
                said = {
                    b"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n",
                    b"SELECT": b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n",
                    b"SEARCH": b"* SEARCH 1\r\n",
                    b"FETCH": self._answer,
                }.get(verb.upper(), b"")
                connection.sendall(said + tag + b" OK done\r\n")


LITERAL = b"* 1 FETCH (UID 1 BODY[HEADER]<0> {%d}\r\n"
HOSTILE = {
    "a literal of two gigabytes": LITERAL % 2_000_000_000 + b"x" * 1_000_000,
    "a line without an end": b"* 1 FETCH (" + b"x" * 2_000_000,
    "brackets within brackets": b"* 1 FETCH " + b"(" * 100_000 + b"\r\n",
    "another message": b'* 1 FETCH (UID 99 BODY[HEADER]<0> "From: a@b")\r\n',
    "no number": b"* x FETCH (UID one)\r\n",
    "nothing": b"",
    "bytes that are no text": b"* 1 FETCH (UID 1 \xff\xfe\x00)\r\n",
}


def test_hostile_servers_cost_their_own_mailboxes_only(server: Dovecot) -> None:
    messages = mails(1)
    server.deliver(*messages)
    hostile = [HostileServer(answer) for answer in HOSTILE.values()]
    sections = "".join(
        SECTION.replace('"invoices"', f'"hostile-{number}"').format(
            port=each.port, user="u", authorities="", more='tls = "none"\ntimeout = 2.0'
        )
        for number, each in enumerate(hostile)
    )
    try:
        with (
            made_for(server, sections) as made,
            running(with_password(made), "core", "mailbox") as gateway,
        ):
            allow(made)
            settle(made, messages)
            for number, name in enumerate(HOSTILE):
                until(lambda number=number: _state(made, f"hostile-{number}")["heard"] is not None)
                assert _state(made, f"hostile-{number}")["not_taken"] == 0, name
            assert gateway.processes["mailbox"].poll() is None
            server.deliver(*(more := mails(1, 1)))
            settle(made, messages + more)
    finally:
        for each in hostile:
            each.close()


def _state(made: Installation, name: str) -> dict[str, object]:
    return next(each for each in made.admin.call("status")["mailboxes"] if each["name"] == name)
