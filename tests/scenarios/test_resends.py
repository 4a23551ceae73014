"""A message whose answer got lost is sent again, and is one document; nothing else is taken for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os

import pytest
from sqlalchemy import select, update

from gateway.core.inspection.proving import Proving
from gateway.core.intake import resends
from gateway.core.sessions.smtp import SmtpSession
from gateway.doors.header import Header
from gateway.errors import Refusal
from gateway.wire.messages import BeginMail, CommitMail, MailRecipient
from tests.support.house import ask
from vault.catalogue.schema import documents, ledger_entries, messages
from vault.catalogue.states import PROVEN, Proof
from vault.crypto.sealed import SealedWriter, document_context

OWNER, ACME = "owner@acme.example", "acme@intake.localhost"
MAIL = (
    b"Received: from a by b; Sat, 28 Nov 2026 08:00:00 +0000\r\n"
    b"From: owner@acme.example\r\nMessage-ID: <one@acme.example>\r\n\r\nAn invoice.\r\n"
)


class Peer:
    """A mail server's connection, as the door passes it on to the core."""

    def __init__(self, house):
        proving = Proving(house.wings.intake, house.queue)
        self.session = SmtpSession(house.wings.intake, proving, house.wings.logins)

    async def begin(self, data, sender=OWNER, recipients=(ACME,)):
        """Everything up to the commit, which is returned."""
        for recipient in recipients:
            answer, _ = await ask(self.session, MailRecipient("192.0.2.1", sender, recipient))
            assert answer.code == 250, answer
        begun, descriptor = await ask(
            self.session, BeginMail("192.0.2.1", sender, list(recipients))
        )
        writer = SealedWriter(descriptor, begun.key, document_context(begun.document_id))
        writer.write(data)
        size = writer.finish()
        os.close(descriptor)
        header = Header()
        header.feed(data)
        content = header.content()
        return CommitMail(
            begun.document_id, size, hashlib.sha256(data).digest(), content, header.message_id
        )

    async def send(self, data, **envelope):
        stored, _ = await ask(self.session, await self.begin(data, **envelope))
        return stored.document_id, stored.again


def rows(house):
    return house.core.store.catalogue.read(
        lambda c: list(c.execute(select(documents.c.id).order_by(documents.c.id)).scalars())
    )


def noted(house, document):
    return house.core.store.catalogue.read(
        lambda c: c.execute(select(messages).where(messages.c.document_id == document)).one()
    )


async def test_the_same_message_again_is_the_first_one_and_leaves_nothing(house):
    first, again = await Peer(house).send(MAIL)
    assert not again
    assert await Peer(house).send(MAIL) == (first, True)
    # Another hop's trace is no difference.
    moved = MAIL.replace(b"from a by b", b"from c by d")
    assert await Peer(house).send(b"Return-Path: <x@y.example>\r\n" + moved) == (first, True)
    assert rows(house) == [first]
    peer = Peer(house)
    commit = await peer.begin(MAIL)
    await ask(peer.session, commit)
    blobs = house.core.store.blobs
    assert list(blobs.stored()) == [first]
    assert not blobs.is_spooled(commit.document_id)
    entries = [
        entry["subject"]
        for entry in house.core.store.catalogue.read(
            lambda c: [
                json.loads(each) for each in c.execute(select(ledger_entries.c.entry)).scalars()
            ]
        )
        if entry["kind"] == "document.sent-again"
    ]
    assert entries == [first, first, first]


async def test_a_message_without_an_id_is_known_by_its_bytes(house):
    data = b"From: owner@acme.example\r\n\r\nscan\r\n"
    first, _ = await Peer(house).send(data)
    assert await Peer(house).send(data) == (first, True)


@pytest.mark.parametrize(
    ("old", "new", "envelope"),
    [
        (b"invoice.", b"invoice!", {}),
        (b"From: owner", b"From: other", {}),
        (b"one@acme", b"two@acme", {}),
        (b"\r\n\r\n", b"\r\nSubject: urgent\r\n\r\n", {}),
        (b"", b"", {"sender": "second@acme.example"}),
        (b"", b"", {"recipients": ("acme+bank@intake.localhost",)}),
    ],
    ids=["body", "author", "id", "field", "sender", "recipient"],
)
async def test_whatever_else_differs_both_are_kept(house, old, new, envelope):
    await house.act("client.change", slug="acme", emails=["@acme.example"])
    first, _ = await Peer(house).send(MAIL)
    second, again = await Peer(house).send(MAIL.replace(old, new, 1), **envelope)
    assert not again
    assert rows(house) == [first, second]


async def test_one_who_knows_an_id_can_not_make_its_message_vanish(house):
    """A false message with the id of one that is to come is stored beside it, and both say so to people."""
    false, _ = await Peer(house).send(MAIL.replace(b"An invoice", b"Nothing at all"))
    true, again = await Peer(house).send(MAIL)
    assert not again
    assert rows(house) == [false, true]
    assert noted(house, true).same_id_as == false
    assert noted(house, false).same_id_as is None
    shown = await house.act("document.show", document=true)
    assert shown["same_message_id_as"] == false


async def test_two_copies_at_once_on_two_connections_are_one_document(house):
    peers = [Peer(house) for _ in range(4)]
    commits = [await peer.begin(MAIL) for peer in peers]
    answers = await asyncio.gather(
        *(ask(peer.session, commit) for peer, commit in zip(peers, commits, strict=True))
    )
    assert sorted(stored.again for stored, _ in answers) == [False, True, True, True]
    (stored,) = rows(house)
    assert {answer.document_id for answer, _ in answers} == {stored}


async def test_after_the_window_it_is_a_document_again(house):
    first, _ = await Peer(house).send(MAIL)
    house.clock.advance(hours=23, minutes=59)
    assert await Peer(house).send(MAIL) == (first, True)
    house.clock.advance(minutes=2)
    second, again = await Peer(house).send(MAIL)
    assert not again
    assert rows(house) == [first, second]


async def test_another_clients_message_stands_for_nobody_elses(house):
    await house.act("client.change", slug="other", emails=[OWNER])
    first, _ = await Peer(house).send(MAIL)
    second, again = await Peer(house).send(MAIL, recipients=("other@intake.localhost",))
    assert not again
    assert rows(house) == [first, second]


async def test_a_full_quota_does_not_refuse_what_is_stored_already(house):
    first, _ = await Peer(house).send(MAIL)
    waiting = Peer(house)
    commit = await waiting.begin(MAIL)
    await house.act("client.change", slug="acme", quota_files=1)
    stored, _ = await ask(waiting.session, commit)
    assert (stored.document_id, stored.again) == (first, True)
    waiting = Peer(house)
    with pytest.raises(AssertionError, match="452"):
        await waiting.begin(MAIL)


async def test_a_client_that_closed_meanwhile_takes_nothing_and_stands_for_nothing(house):
    waiting = Peer(house)
    commit = await waiting.begin(MAIL)
    await house.act("client.close", slug="acme")
    with pytest.raises(Refusal, match="closed"):
        await ask(waiting.session, commit)
    assert rows(house) == []


async def test_one_that_failed_its_proof_stands_for_none(house):
    first, _ = await Peer(house).send(MAIL)
    await house.core.write(
        lambda tx: tx.connection.execute(update(messages).values(proof="failed"))
    )
    second, again = await Peer(house).send(MAIL)
    assert not again
    assert rows(house) == [first, second]


@pytest.mark.parametrize("earlier", list(Proof))
@pytest.mark.parametrize("mail", list(Proof))
def test_what_proves_less_never_stands_for_what_proves_more(earlier, mail):
    expected = earlier != Proof.FAILED and not (mail in PROVEN and earlier not in PROVEN)
    assert resends.stands_for(earlier, mail) is expected


async def test_nothing_of_a_destroyed_message_is_recognised(house):
    first, _ = await Peer(house).send(MAIL)

    def destroy(tx):
        tx.connection.execute(
            update(messages).values(message_id_index=None, content_index=None, same_id_as=None)
        )

    await house.core.write(destroy)
    second, again = await Peer(house).send(MAIL)
    assert not again
    assert rows(house) == [first, second]
