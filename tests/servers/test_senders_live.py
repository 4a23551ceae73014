"""What mail has to show, with everything real: swaks, the door, the core, jailed inspectors, the resolver, a DNS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.gateway_process import Gateway, Installation, installation, running
from tests.support.dns_server import SILENT, DnsServer, dns_server
from tests.support.mail_domain import MailDomain, letter

OWNER = "owner@acme.example"
ROLES = ("core", "inspect", "resolver", "smtp")


class Firm:
    """An installation whose client acme takes signed mail only, and the domain that signs it."""

    def __init__(self, made: Installation, network: DnsServer) -> None:
        self.made = made
        self.network = network
        self.domain = MailDomain("acme.example")
        self.serial = 0
        for name, texts in self.domain.records.items():
            network.text(name, *texts)

    def message(self, *, signed: bool = True) -> bytes:
        self.serial += 1
        plain = letter(f"The Owner <{OWNER}>", subject=f"Invoice {self.serial}")
        return self.domain.signed(plain) if signed else plain

    def swaks(self, message: bytes) -> subprocess.CompletedProcess[str]:
        path = self.made.folder / f"message-{self.serial}"
        path.write_bytes(message.replace(b"\r\n", b"\n"))
        return subprocess.run(
            ["swaks", "--server", f"127.0.0.1:{self.made.smtp_port}", "--from", OWNER,
             "--to", "acme@intake.localhost", "--data", f"@{path}", "--timeout", "60"],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

    def states(self) -> list[tuple[str, str]]:
        documents = self.made.admin.call("document.list", client="acme")
        return [(each["state"], each["reason"]) for each in documents]

    def settled(self, *states: str) -> list[tuple[str, str]]:
        """The documents' states, once they are these."""
        self.made.wait_for(lambda found: sorted(each["state"] for each in found) == sorted(states))
        return self.states()


@pytest.fixture
def firm() -> Iterator[Firm]:
    with dns_server() as network:
        section = f'\n[resolver]\naddresses = ["{network.address}"]\ntimeout = 1.0\n'
        with installation(lambda text: text + section) as made:
            yield Firm(made, network)


def take(firm: Firm, *emails: str, unproven: str = "quarantine") -> None:
    firm.made.admin.call("client.change", slug="acme", emails=list(emails), unproven=unproven)


def test_signed_mail_is_filed_and_unsigned_mail_is_put_aside_unopened(firm: Firm) -> None:
    with running(firm.made, *ROLES) as gateway:
        take(firm, f"{OWNER}=dkim")
        good, bad = firm.swaks(firm.message()), firm.swaks(firm.message(signed=False))
        assert (good.returncode, bad.returncode) == (0, 0), good.stdout + bad.stdout
        found = firm.settled("FILED", "QUARANTINED")
        assert ("QUARANTINED", "sender:unproven") in found
        assert "owner" not in gateway.stderr("core") + gateway.stderr("resolver")


def test_who_is_to_be_refused_is_told_so_and_nothing_is_kept(firm: Firm) -> None:
    with running(firm.made, *ROLES):
        take(firm, f"{OWNER}=dkim", unproven="refuse")
        refused = firm.swaks(firm.message(signed=False))
        assert refused.returncode != 0
        assert "550 5.7.26" in refused.stdout
        assert firm.states() == []
        taken = firm.swaks(firm.message())
        assert taken.returncode == 0, taken.stdout
        firm.settled("FILED")


def test_a_dns_that_is_silent_and_a_resolver_that_is_killed_lose_nothing(firm: Firm) -> None:
    name = "s1._domainkey.acme.example"
    firm.network.moods[name] = SILENT
    with running(firm.made, *ROLES) as gateway:
        take(firm, f"{OWNER}=dkim")
        assert firm.swaks(firm.message()).returncode == 0
        firm.made.wait_for(lambda _: (name, "TXT") in firm.network.asked)
        assert firm.states() == [("RECEIVED", "sender:waiting")]
        gateway.kill("resolver")
        assert firm.swaks(firm.message()).returncode == 0
        said = firm.made.cli("status").stdout
        assert "2 not judged yet" in said
        gateway.kill("core")
        firm.network.moods.clear()
        gateway.start("core")
        gateway.start("resolver")
        # Sooner than the next try falls due: as if that time had passed.
        _hasten(gateway)
        firm.settled("FILED", "FILED")


def _hasten(gateway: Gateway) -> None:
    """Make all that waits due now; the delays have tests of their own under a clock that is set."""
    import sqlite3

    path = Path(gateway.made.folder) / "vault" / "catalogue.sqlite3"
    with sqlite3.connect(path, timeout=30) as connection:
        connection.execute(
            "UPDATE messages SET due_at = '2000-01-01T00:00:00.000000+00:00' WHERE due_at IS NOT NULL"
        )


def test_doctor_names_what_is_open_and_what_nobody_can_judge(firm: Firm) -> None:
    with running(firm.made, "core"):
        take(firm, OWNER, "@partner.example=dkim")
        said = firm.made.cli("doctor").stdout
        assert "anybody can hand in documents by mail in the name of acme" in said
        listed = firm.made.cli("client", "senders").stdout
        assert "@partner.example" in listed
    firm.made.configure(lambda text: text.replace(f'["{firm.network.address}"]', "[]"))
    with running(firm.made, "core"):
        take(firm, f"{OWNER}=dkim")
        said = firm.made.cli("doctor").stdout
        assert "resolver.addresses names nobody" in said
        assert "anybody can hand in" not in said
