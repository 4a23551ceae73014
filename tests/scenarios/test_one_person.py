"""One person alone, with every act there is: nothing destroyed, released or opened that takes two.

The acts of one person are tried all, again and again, with days between them, until nothing new happens: what
a person can reach by any sequence of acts is then reached, as no act takes another's effect back for good.
"""

from __future__ import annotations

import base64
import itertools
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from gateway.core.admin.acts import ACTS
from gateway.core.login import recovery
from gateway.core.views.base import split
from gateway.errors import GatewayError
from gateway.wire.messages import Classification, Scan
from vault.catalogue.schema import documents, holds
from vault.catalogue.states import DocumentState
from vault.crypto import sshsig
from vault.errors import VaultError
from vault.keys.root import FileRootKey

OFFICERS = ("officer1", "officer2", "officer3")
STAFF = (*OFFICERS, "accountant", "auditor")
PUPPETS = ("puppet", "reader", "boss")
CLASSES = ("invoice", "payroll", "demonstration-note")


class World:
    """A small house: a document that may go, one held, one quarantined, one unjudged, one restricted."""

    def __init__(self, house, mine):
        self.house = house
        self.mine = mine
        self.batches: set[str] = set()
        self.lines = {}
        self.keys = {}

    async def settle(self):
        house = self.house
        await house.filed("note.txt", record_class="demonstration-note")
        self.held = await house.filed("held.txt", b"held", record_class="demonstration-note")
        self.hold = (await house.act("hold.place", document=self.held, reason="audit"))["id"]
        self.quarantined = await house.upload("/inbox/bad.pdf", b"bad")
        await house.judge(scans=[Scan("yara", "found", "eicar")])
        self.unjudged = await house.upload("/inbox/odd.pdf", b"odd")
        await house.judge(scans=[Scan("yara", "clean"), Scan("pdf", "suspect", "pdf.javascript")])
        self.payslip = await house.upload("/inbox/slip.pdf", b"slip")
        await house.judge(classification=Classification("payroll", 0.95, "2025-03-31", []))
        (batch,) = await house.act("disposal.propose")
        self.batches.add(batch["id"])

    def key(self, purpose: str) -> Ed25519PrivateKey:
        return self.keys.setdefault(purpose, Ed25519PrivateKey.generate())

    def acts(self, me: str):
        """Every act that changes something, with every argument that matters here."""
        # Nobody bars himself.
        yield from (("account.disable", {"name": name}) for name in STAFF if name not in self.mine)
        # Now no two officers are left. The root key is not his: he proves one of his own.
        line = sshsig.public_line(self.key("for puppet"))
        at = self.house.clock()
        words = recovery.statement(name="puppet", key=line, officer=me, at=at)
        proof = recovery.prove(FileRootKey(bytes(32)), words, "puppet")
        for name, given in (("puppet", proof), ("officer2", proof), ("puppet", b"")):
            yield (
                "account.recover",
                {
                    "name": name,
                    "key": line,
                    "at": at.isoformat(),
                    "proof": base64.b64encode(given).decode(),
                },
            )
        yield from (("account.enable", {"name": name}) for name in STAFF)
        yield from (("account.change", {"name": name, "expires": ""}) for name in STAFF)
        for name in STAFF:
            line = sshsig.public_line(self.key(f"for {name}"))
            yield "account.key", {"name": name, "add": line}
            yield "account.password", {"name": name, "password": "a password of mine"}
            yield "account.totp", {"name": name}
            yield "account.vouch", {"name": name}
            yield "account.rename", {"name": name, "to": f"former-{name}"}
            yield "account.rename", {"name": f"former-{name}", "to": name}
        for name, role in (("puppet", "officer"), ("reader", "accountant"), ("boss", "admin")):
            line = sshsig.public_line(self.key(f"for {name}"))
            yield "account.add", {"name": name, "role": role, "keys": [line]}
            yield "account.vouch", {"name": name}
            yield "account.grant", {"name": name, "client": "acme"}
        yield "account.review-recovery", {}
        yield "account.grant", {"name": me or "accountant", "client": "acme"}
        yield "hold.release", {"hold": self.hold}
        for document in (self.quarantined, self.unjudged, self.payslip, self.held):
            for record_class in CLASSES:
                there = {"document": document, "record_class": record_class, "fiscal_year": 2025}
                yield "document.release", there
                yield "document.reclassify", there
            yield "document.reject", {"document": document}
            yield "document.export", {"document": document}
        yield "disposal.propose", {}
        yield "client.close", {"slug": "acme"}
        for batch in list(self.batches):
            yield "disposal.execute", {"id": batch}
        yield "clock.confirm", {"statement": "the clock is right"}

    async def _try(self, awaitable):
        try:
            return await awaitable
        except (GatewayError, VaultError):
            return None

    async def round(self, hands: list[str]):
        """All acts, by each of the hands (accounts whose keys this person has, "" for the console)."""
        house = self.house
        for me in hands:
            for act, arguments in self.acts(me):
                assert act in ACTS
                answer = await self._try(house.act(act, by=me, **arguments))
                if act == "document.export" and answer is not None:
                    assert arguments["document"] == self.held, f"{me} exported {arguments}"
                if act == "disposal.propose" and answer:
                    self.batches |= {each["id"] for each in answer}
            for request in await house.act("access.list"):
                await self._try(house.act("access.approve", by=me, id=request["id"]))
            for batch, name in itertools.product(list(self.batches), (*OFFICERS, "puppet")):
                await self._try(house.approve(batch, name))
        for name in ("accountant", "reader"):
            for path in (
                "/clients/acme/2025/payroll/slip.pdf",
                "/clients/acme/2025/invoice/slip.pdf",
            ):
                await self._try(self._opened(name, path))

    async def _opened(self, name, path):
        view = await self.house.view(name)
        opened = await view.open_read(split(path))
        os.close(opened.descriptor)
        if opened.reply.document_id == self.payslip:
            raise AssertionError(f"{name} opened the payslip at {path}")

    async def reached(self):
        """What this person has got so far: accounts, keys, rights, the state of everything."""
        accounts = await self.house.act("account.list")
        found = await self.house.act("document.list")
        return [
            *(
                (a["name"], a["state"], tuple(sorted(a["keys"])), tuple(a["clients"]))
                for a in accounts
            ),
            *((d["id"], d["state"], d["record_class"]) for d in found),
        ]

    async def unharmed(self):
        def look(connection):
            rows = {row.id: row for row in connection.execute(select(documents))}
            hold = connection.execute(select(holds).where(holds.c.id == self.hold)).one()
            return rows, hold

        rows, hold = await self.house.core.read(look)
        assert hold.released_at is None
        assert not [row.id for row in rows.values() if row.state == DocumentState.DESTROYED]
        assert rows[self.quarantined].state == DocumentState.QUARANTINED
        assert rows[self.unjudged].state in {DocumentState.REVIEW, DocumentState.QUARANTINED}
        if rows[self.unjudged].state == DocumentState.REVIEW:
            assert rows[self.unjudged].reason.startswith("unjudged:")
        assert rows[self.payslip].record_class == "payroll"


@pytest.mark.parametrize("mine", [[], ["officer1"], ["accountant"], ["auditor"]], ids=str)
async def test_no_sequence_of_acts_of_one_person_ends_in_what_takes_two(house, mine):
    world = World(house, mine)
    await world.settle()
    # This person signs with the keys it has, and for everybody else with keys of its own making, which count
    # for nothing until it gets them enrolled.
    house.keys = {name: world.key(f"for {name}") for name in (*STAFF, *PUPPETS)} | {
        name: house.keys[name] for name in mine if name
    }
    known, quiet = -1, 0
    for _ in range(9):
        await world.round(["", *mine, *STAFF, *PUPPETS])
        await world.unharmed()
        quiet = quiet + 1 if known == (known := await world.reached()) else 0
        if quiet == 2:  # longer than the longest waiting period
            break
        house.clock.advance(hours=90)
        house.restart()
    else:
        raise AssertionError("expected nothing new after some rounds")


async def test_two_officers_release_and_one_twice_does_not(house):
    document = await house.filed("held.txt", record_class="demonstration-note")
    hold = (await house.act("hold.place", document=document, reason="audit"))["id"]
    first = await house.act("hold.release", by="officer1", hold=hold)
    assert (first["waiting"], first["released_at"]) == (True, None)
    again = await house.refused(house.act("hold.release", by="officer1", hold=hold))
    assert again.code == "exists"
    (waits,) = (await house.act("status"))["second_signatures"]
    assert (waits["act"], waits["subject"], waits["signed_by"]) == (
        "hold.release",
        hold,
        "officer1",
    )
    done = await house.act("hold.release", by="officer2", hold=hold)
    assert done["released_at"]
    assert (await house.act("status"))["second_signatures"] == []


async def test_a_first_signature_counts_for_a_week_and_while_its_officer_is_active(house):
    document = await house.filed("held.txt", record_class="demonstration-note")
    hold = (await house.act("hold.place", document=document, reason="audit"))["id"]
    await house.act("hold.release", by="officer1", hold=hold)
    house.clock.advance(days=8)
    house.restart()
    assert (await house.act("hold.release", by="officer2", hold=hold))["waiting"]
    await house.act("account.disable", name="officer2")
    assert (await house.act("hold.release", by="officer1", hold=hold))["waiting"]
    assert (await house.act("hold.release", by="officer3", hold=hold))["released_at"]


async def test_an_account_made_at_the_console_takes_two_officers_until_one_answers_for_it(house):
    line = sshsig.public_line(Ed25519PrivateKey.generate())
    await house.act("account.add", name="late", role="accountant", keys=[line])
    await house.act("account.grant", name="late", client="acme")
    await house.upload("/inbox/slip.pdf", b"slip")
    await house.judge(classification=Classification("payroll", 0.95, "2025-03-31", []))
    path = split("/clients/acme/2025/payroll/slip.pdf")

    async def asked():
        view = await house.view("late")
        assert (await house.refused(view.open_read(path))).code == "denied"
        (request,) = await house.act("access.list")
        return request["id"]

    request = await asked()
    assert (await house.act("access.approve", by="officer1", id=request))["waiting"]
    done = await house.act("access.approve", by="officer2", id=request)
    assert done["state"] == "approved"
    await house.act("access.revoke", by="officer1", id=request)
    await house.act("account.vouch", by="officer2", name="late")
    request = await asked()
    assert (await house.act("access.approve", by="officer2", id=request))["waiting"]
    assert (await house.act("access.approve", by="officer1", id=request))["state"] == "approved"
