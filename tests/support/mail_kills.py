"""Processes of a gateway killed at random while mail comes in, is taken apart and is answered.

    with receiving(seed=5) as kills:      # all real: door, core, jail, resolver, courier; a DNS and a relay
        kills.run(rounds=6, messages=40)
        print(kills.settle())             # a `Tally`; AssertionError says what never came to rest

    with fetching(seed=5) as kills:       # the same for a mailbox of dovecot

Promises: the seed fixes what is sent and who is killed how long after what; the machine's own pace is left to it.
Senders behave as mail servers do (RFC 5321, section 4.5.4): they send a message again until its data are answered
with 250, and some hang up before they have heard it. A `Tally` counts and judges nothing: whoever asked compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import re
import shutil
import signal
import smtplib
import socket
import sqlite3
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

from tests.servers.gateway_process import Gateway, Installation, installation, running
from tests.support.dns_server import dns_server
from tests.support.dovecot import PASSWORD, USER, Dovecot, dovecot
from tests.support.mail_domain import MailDomain, letter
from tests.support.mail_sink import MailSink

ROLES = ("core", "inspect", "resolver", "courier", "smtp")
WORKER = "worker"  # one process of the inspectors' pool
FIRMS = {"acme": "acme.example", "borden": "borden.example"}
SENDERS = 4
NOTE = b"Strongroom demonstration note\n\nDate: 2026-11-20\nThis note may be discarded.\n"
QUIET = 90.0  # seconds within which all has to come to rest
# No document may end in review only because its inspector was killed often.
PATIENT = 'max_attempts = 100\nretry_seconds = 0.5\nclamd = "off"\n'
LONG_AGO = "2000-01-01T00:00:00.000000+00:00"


@dataclass
class Letter:
    """One message as it is sent, and what is attached to it."""

    client: str
    sender: str
    message_id: str
    raw: bytes
    attached: list[tuple[str, str]]  # name, sha256; what is in an archive, too
    sent: int = 0  # how often its last byte was sent
    acknowledged: int = 0

    @property
    def notes(self) -> int:
        """What a receipt speaks of: an archive is what its members came in."""
        return sum(not name.endswith(".zip") for name, _ in self.attached)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()


@dataclass
class Tally:
    """What a run came to; everything from `lost` on has to be empty."""

    rounds: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    sent: int = 0
    acknowledged: int = 0
    attachments: int = 0
    receipts: int = 0
    receipts_again: int = 0  # further copies under the same Message-ID (ADR 0022)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)  # nobody sent it
    unanswered: list[str] = field(default_factory=list)
    answered_twice: list[str] = field(default_factory=list)  # under different ids
    check: str = ""

    @property
    def faults(self) -> list[str]:
        names = ("lost", "doubled", "unjudged", "strange", "unanswered", "answered_twice")
        found = [f"{name}: {each}" for name in names for each in getattr(self, name)]
        if self.receipts_again > self.killed["courier"]:  # nothing else is a reason for one
            found.append(f"{self.receipts_again} receipts came again")
        return found + ([self.check] if self.check else [])

    def __str__(self) -> str:
        return (
            f"rounds {self.rounds}, killed {dict(self.killed)}\n"
            f"messages {self.messages}, sent {self.sent} times, acknowledged {self.acknowledged} times, "
            f"attachments {self.attachments}\n"
            f"lost {len(self.lost)}, doubled {len(self.doubled)}, not judged {len(self.unjudged)}, "
            f"strange {len(self.strange)}\n"
            f"receipts {self.receipts}, again under the same id {self.receipts_again}, "
            f"missing {len(self.unanswered)}, twice {len(self.answered_twice)}\n"
            f"check: {self.check or 'clean'}"
        )


class SlowSink(MailSink):
    """A relay that takes its time between having a mail and saying so: a courier may be killed there."""

    chance = random.Random(3)

    async def handle_DATA(  # noqa: N802  aiosmtpd's name
        self, server, session, envelope
    ):
        answer = await super().handle_DATA(server, session, envelope)
        await asyncio.sleep(self.chance.uniform(0.0, 0.15))
        return answer


class Victims:
    """A gateway whose processes are killed, and started again as a supervisor would."""

    def __init__(
        self,
        gateway: Gateway,
        chance: random.Random,
        tally: Tally,
        at_rest: Callable[[], None] = lambda: None,
    ) -> None:
        """`at_rest` is called whenever a core was killed and none has the catalogue open."""
        self.gateway = gateway
        self._at_rest = at_rest
        self._chance = chance
        self._tally = tally
        self._deck: list[str] = []

    def round(self, roles: tuple[str, ...]) -> None:
        """Let it run for a moment, kill one process or several at once, and start them.

        The first one comes from a shuffled deck, so that nobody is spared for long.
        """
        if not set(self._deck) & set(roles):
            self._deck = self._chance.sample(roles, len(roles))
        time.sleep(self._chance.uniform(0.05, 1.2))
        first, more = self._deck.pop(), self._chance.choice([0, 0, 0, 1, 2])
        chosen = list(dict.fromkeys([first, *self._chance.choices(roles, k=more)]))
        for role in chosen:
            if role == WORKER:
                self._tally.killed[role] += self._kill_worker()
            else:
                self.gateway.processes[role].kill()
                self._tally.killed[role] += 1
        for role in chosen:
            if role != WORKER:
                self.gateway.kill(role)
        if "core" in chosen:
            self._at_rest()
        self._chance.shuffle(chosen)
        for role in chosen:
            if role != WORKER:
                self.gateway.start(role)
        self.mend()
        self._tally.rounds += 1

    def mend(self) -> None:
        """Start what ended because another was killed."""
        for role, process in list(self.gateway.processes.items()):
            if process.poll() is not None:
                self.gateway.start(role)

    def _kill_worker(self) -> int:
        pool = self.gateway.processes["inspect"].pid
        try:
            children = Path(f"/proc/{pid_task(pool)}/children").read_text("ascii").split()
        except OSError:
            return 0
        if not children:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(self._chance.choice(children)), signal.SIGKILL)
        return 1


def pid_task(pid: int) -> str:
    """Where the kernel lists the children of a process's first thread."""
    return f"{pid}/task/{pid}"


class Receiving:
    """Senders, and the gateway they send to."""

    def __init__(self, made: Installation, gateway: Gateway, relay: MailSink, seed: int,
                 domains: dict[str, MailDomain]) -> None:  # fmt: skip
        self.made = made
        self.relay = relay
        self.tally = Tally()
        self.letters: list[Letter] = []
        self._chance = random.Random(seed)
        self._seed = seed
        self._domains = domains
        self._victims = Victims(gateway, self._chance, self.tally, self._make_due)

    def run(self, rounds: int, messages: int) -> None:
        """Kill so many times while so many messages are sent, and half as often while they are answered.

        Returns when each message was acknowledged.
        """
        self.letters = [self._letter(number) for number in range(messages)]
        hurry = threading.Event()  # the rounds are over
        threads = [
            threading.Thread(
                target=self._send_all,
                args=(self.letters[number::SENDERS], random.Random((self._seed, number).__hash__()),
                      rounds * 2.0 / max(1, messages // SENDERS), hurry),
                daemon=True,
            )
            for number in range(SENDERS)
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            self._victims.round((*ROLES, WORKER))
        hurry.set()
        deadline = time.monotonic() + QUIET
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        waiting = [each.message_id for each in self.letters if not each.acknowledged]
        assert not waiting, f"seed {self._seed}: never acknowledged: {waiting}"
        for _ in range(rounds // 2):
            self._victims.round(("core", "courier", "courier", "inspect"))

    def settle(self) -> Tally:
        """Wait until all is quiet, look at everything, and count."""
        deadline = time.monotonic() + QUIET
        before: object = None
        while not self._quiet() and time.monotonic() < deadline:  # the tally says what is missing
            self._victims.mend()
            now = (self._waiting(), len(self.relay.mails))
            if now == before:
                self._hasten()
            before = now
            time.sleep(1.0)
        self._count()
        return self.tally

    # ── sending ──

    def _letter(self, number: int) -> Letter:
        client = self._chance.choice(list(FIRMS))
        domain = FIRMS[client]
        sender = f"books{number % SENDERS}@{domain}"
        message = EmailMessage()
        message["From"], message["To"] = sender, f"{client}@intake.localhost"
        message["Subject"] = f"Notes {number}"
        message["Date"] = "Sat, 28 Nov 2026 08:00:00 +0000"
        message["Message-ID"] = f"<{self._seed}.{number}@{domain}>"
        message.set_content("See the attachments.\n")
        attached = []
        for at in range(self._chance.randint(1, 4)):
            name = f"note-{number}-{at}.txt"
            content = NOTE + f"Number {number} of {at}.\n".encode()
            content += b"." * self._chance.choice([0, 50, 40_000])
            attached.append((name, hashlib.sha256(content).hexdigest()))
            if self._chance.random() < 0.75:
                message.add_attachment(content, maintype="text", subtype="plain", filename=name)
                continue
            # A part of a part: the archive comes out of the message, and the note out of the archive.
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr(zipfile.ZipInfo(name), content)
            name = f"{name}.zip"
            content = packed.getvalue()
            message.add_attachment(content, maintype="application", subtype="zip", filename=name)
            attached.append((name, hashlib.sha256(content).hexdigest()))
        raw = b"\r\n".join(message.as_bytes().splitlines()) + b"\r\n"
        return Letter(
            client, sender, message["Message-ID"], self._domains[client].signed(raw), attached
        )

    def _send_all(
        self, letters: list[Letter], chance: random.Random, pace: float, hurry: threading.Event
    ) -> None:
        for each in letters:
            while not each.acknowledged:
                deaf = chance.random() < 0.15
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    self._send(each, deaf=deaf)
                if not each.acknowledged:
                    time.sleep(0.2)
            hurry.wait(chance.uniform(0.0, 2 * pace))

    def _send(self, letter: Letter, *, deaf: bool) -> None:
        """One attempt. `deaf`: hang up when the last byte is sent."""
        with smtplib.SMTP("127.0.0.1", self.made.smtp_port, "mx.sender.example", 30) as client:
            client.ehlo()
            if client.mail(letter.sender)[0] != 250:
                return
            if client.rcpt(f"{letter.client}@intake.localhost")[0] != 250:
                return
            if client.docmd("DATA")[0] != 354:
                return
            client.send(re.sub(rb"(?m)^\.", b"..", letter.raw) + b".\r\n")
            letter.sent += 1
            if deaf:
                assert client.sock is not None
                client.sock.shutdown(socket.SHUT_RDWR)
                client.close()
                return
            code, _ = client.getreply()
            letter.acknowledged += code == 250

    # ── looking ──

    def _hasten(self) -> None:
        """Go on at once where nothing moves but for delays, which have tests of their own."""
        gateway = self._victims.gateway
        gateway.kill("core")
        self._make_due()
        gateway.start("core")
        self._victims.mend()

    def _make_due(self) -> None:
        """Make all that waits for another try due; no core has the catalogue open."""
        path = self.made.folder / "vault" / "catalogue.sqlite3"
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as catalogue, catalogue:
            catalogue.execute(
                "UPDATE messages SET due_at = ? WHERE due_at IS NOT NULL", (LONG_AGO,)
            )
            catalogue.execute(
                "UPDATE notices SET next_attempt_at = ? WHERE delivered_at IS NULL", (LONG_AGO,)
            )

    def _waiting(self) -> list[str]:
        """The documents that are not judged yet."""
        return [str(each["id"]) for each in self._documents() if each["state"] == "RECEIVED"]

    def _documents(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        after = ""
        while page := self.made.admin.call("document.list", after=after):
            found += page
            after = page[-1]["id"]
        return found

    def _quiet(self) -> bool:
        if self._waiting():
            return False
        if any(each["state"] == "waiting" for each in self.made.admin.call("notice.list")):
            return False
        answered = {str(mail["In-Reply-To"]) for mail in list(self.relay.mails)}
        return answered >= {each.message_id for each in self.letters}

    def _count(self) -> None:
        tally, letters = self.tally, self.letters
        tally.messages = len(letters)
        tally.sent = sum(each.sent for each in letters)
        tally.acknowledged = sum(each.acknowledged for each in letters)
        tally.attachments = sum(len(each.attached) for each in letters)
        found = self._documents()
        roots = [each for each in found if each["parent"] is None]
        parts = [each for each in found if each["parent"] is not None]
        wanted = {(each.client, each.sha256): each.message_id for each in letters}
        _compare(tally, Counter((each["client"], each["sha256"]) for each in roots), wanted)
        of_root = {each["id"]: wanted.get((each["client"], each["sha256"])) for each in roots}
        for each in parts:  # in order of their ids: what a part came in stands before it
            of_root[each["id"]] = of_root.get(each["parent"])
        _compare(
            tally,
            Counter((of_root.get(each["parent"]), each["name"], each["sha256"]) for each in parts),
            {
                (each.message_id, name, sha256): f"{each.message_id} {name}"
                for each in letters
                for name, sha256 in each.attached
            },
        )
        tally.unjudged = [
            f"{each['id']} {each['state']} {each['reason']}"
            for each in found
            if each["state"] != "FILED"
        ]
        self._count_receipts()
        checked = self.made.cli("check", "--read-data")
        tally.check = "" if checked.returncode == 0 else checked.stdout + checked.stderr

    def _count_receipts(self) -> None:
        ids: dict[str, list[str]] = {}
        for mail in self.relay.mails:
            ids.setdefault(str(mail["In-Reply-To"]), []).append(str(mail["Message-ID"]))
        known = {each.message_id: each for each in self.letters}
        tally = self.tally
        tally.receipts = sum(len(set(each)) for each in ids.values())
        tally.receipts_again = sum(len(each) - len(set(each)) for each in ids.values())
        tally.unanswered = [each for each in known if each not in ids]
        tally.answered_twice = [each for each, copies in ids.items() if len(set(copies)) > 1]
        tally.strange += [f"receipt for {each}" for each in ids if each not in known]
        for mail in self.relay.mails:
            letter_ = known.get(str(mail["In-Reply-To"]))
            if letter_ is None or mail["To"] != letter_.sender:
                tally.strange.append(f"receipt to {mail['To']}")
            elif f" {letter_.notes} received, {letter_.notes} accepted" not in str(mail["Subject"]):
                tally.strange.append(f"receipt that says {mail['Subject']}")


def _compare(tally: Tally, found: Counter, wanted: dict) -> None:
    tally.lost += [name for key, name in wanted.items() if not found[key]]
    tally.doubled += [name for key, name in wanted.items() if found[key] > 1]
    tally.strange += [str(key) for key in found if key not in wanted]


@contextmanager
def receiving(seed: int) -> Iterator[Receiving]:
    """A gateway for two clients that take signed mail only."""
    domains = {client: MailDomain(domain) for client, domain in FIRMS.items()}
    home = Path(tempfile.mkdtemp(prefix="sr-k-", dir="/tmp"))
    with dns_server() as network, SlowSink(home) as relay:
        for domain in domains.values():
            for name, texts in domain.records.items():
                network.text(name, *texts)
        more = relay.toml(digest_minutes=0, max_per_minute=10_000, max_per_recipient=1_000)
        more += f'\n[resolver]\naddresses = ["{network.address}"]\ntimeout = 1.0\n'
        try:
            with (
                installation(lambda text: _patient(text) + more) as made,
                running(made, *ROLES) as gateway,
            ):
                made.admin.call("client.add", slug="borden", name="Borden", emails=[])
                for client, domain in FIRMS.items():
                    made.admin.call(
                        "client.change", slug=client, emails=[f"@{domain}=dkim"], language="en"
                    )
                yield Receiving(made, gateway, relay, seed, domains)
        finally:
            shutil.rmtree(home, ignore_errors=True)


def _patient(text: str) -> str:
    kept = [
        line
        for line in text.splitlines()
        if not line.startswith(("max_attempts", "retry_seconds", "clamd ="))
    ]
    text = "\n".join(kept) + "\n"
    if "[inspect]\n" in text:
        return text.replace("[inspect]\n", "[inspect]\n" + PATIENT)
    return text + "\n[inspect]\n" + PATIENT


# ── a mailbox ──

MAILBOX = """
[[mailbox]]
name = "invoices"
host = "localhost:{port}"
user = "{user}"
password = "mailbox.password"
authorities = "{authorities}"
client = "acme"
poll_seconds = 0.3
done = "move"
done_folder = "Done"
"""


class Fetching:
    """A mailbox that fills, and the gateway that fetches from it."""

    def __init__(self, made: Installation, gateway: Gateway, server: Dovecot, seed: int) -> None:
        self.made = made
        self.server = server
        self.tally = Tally()
        self._chance = random.Random(seed)
        self._victims = Victims(gateway, self._chance, self.tally)
        self._sent: list[bytes] = []

    def run(self, rounds: int, a_round: int = 6) -> None:
        for _ in range(rounds):
            fresh = [
                letter("owner@acme.example", subject=f"Invoice {number}")
                .replace(b"<1@", b"<%d@" % number)
                for number in range(len(self._sent), len(self._sent) + a_round)
            ]  # fmt: skip
            self._sent += fresh
            self.server.deliver(*fresh)
            if self._chance.random() < 0.25:
                self.server.restart()
                self.tally.killed["server"] += 1
            self._victims.round(("mailbox", "mailbox", "core", "core", "inspect"))

    def settle(self) -> Tally:
        wanted = {hashlib.sha256(each).hexdigest(): str(n) for n, each in enumerate(self._sent)}
        deadline = time.monotonic() + QUIET
        while time.monotonic() < deadline:
            self._victims.mend()
            if len(self._stored()) >= len(wanted) and self.server.flags() == []:
                break
            time.sleep(0.2)
        tally = self.tally
        tally.messages = tally.sent = len(wanted)
        _compare(tally, Counter(self._stored()), wanted)
        left, moved = self.server.flags(), self.server.flags("Done")
        tally.acknowledged = len(moved)
        if left or len(moved) < len(wanted):
            tally.strange.append(f"{len(left)} left in the mailbox, {len(moved)} moved")
        checked = self.made.cli("check", "--read-data")
        tally.check = "" if checked.returncode == 0 else checked.stdout + checked.stderr
        return tally

    def _stored(self) -> list[str]:
        found: list[str] = []
        after = ""
        while page := self.made.admin.call("document.list", after=after):
            found += [each["sha256"] for each in page if each["channel"] == "imap"]
            after = page[-1]["id"]
        return found


@contextmanager
def fetching(seed: int) -> Iterator[Fetching]:
    """A gateway that fetches from a dovecot and moves what it has."""
    with dovecot() as server:
        more = MAILBOX.format(port=server.port, user=USER, authorities=server.certificate)
        with installation(lambda text: text + more) as made:
            path = made.folder / "mailbox.password"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(PASSWORD + "\n")
            with running(made, "core", "inspect", "mailbox") as gateway:
                made.admin.call("client.change", slug="acme", emails=["owner@acme.example"])
                yield Fetching(made, gateway, server, seed)
