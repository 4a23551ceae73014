"""Which messages of a mailbox are new, whatever numbers its server gives and wherever its section points."""

from __future__ import annotations

import hashlib
import os

import msgspec
import pytest
from sqlalchemy import select

from gateway.config.sections import MailboxSection
from gateway.core.inspection.proving import Proving
from gateway.core.intake import fetched
from gateway.core.sessions.mailbox import MailboxSession
from gateway.doors.header import Header
from gateway.errors import Refusal
from gateway.wire.messages import BeginFetched, CommitMail, WhichAreNew
from tests.support.house import ask
from tests.support.mail_domain import letter
from vault.catalogue.schema import ledger_entries, mailbox_messages
from vault.crypto.sealed import SealedWriter, document_context

OWNER, STRANGER = "owner@acme.example", "x@stranger.example"


class Mailbox:
    """A mailbox of the client acme, as its door hands it in."""

    def __init__(self, house, **section):
        self.house = house
        self.point(**section)
        proving = Proving(house.wings.intake, house.queue)
        self.session = MailboxSession(house.wings.intake, proving)

    def point(self, **section):
        values = {"host": "imap.example:993", "user": "invoices", "password": "p"}
        made = MailboxSection(name="invoices", client="acme", **(values | section))
        config = self.house.core.config
        self.house.core.config = msgspec.structs.replace(config, mailbox=[made])

    async def new(self, *uids, validity=1):
        answer, _ = await ask(self.session, WhichAreNew("invoices", validity, list(uids)))
        return answer.new, answer.stored

    async def fetch(self, uid, data, *, sender=OWNER, validity=1):
        """Hand one in; (its document, whether it was there)."""
        request = BeginFetched("invoices", validity, uid, sender, [])
        begun, descriptor = await ask(self.session, request)
        writer = SealedWriter(descriptor, begun.key, document_context(begun.document_id))
        writer.write(data)
        size = writer.finish()
        os.close(descriptor)
        header = Header()
        header.feed(data)
        stored, _ = await ask(
            self.session,
            CommitMail(begun.document_id, size, hashlib.sha256(data).digest(), header.content()),
        )
        return stored.document_id, stored.again


@pytest.mark.parametrize(
    "section", [{"folder": "Archive"}, {"user": "other"}, {"host": "imap.elsewhere.example:993"}]
)
async def test_another_folder_with_the_same_numbers_is_another_mailbox(house, section):
    """UIDVALIDITY is 1 at many providers: its messages would be marked as stored, and never fetched."""
    mailbox = Mailbox(house)
    first, _ = await mailbox.fetch(1, letter(OWNER))
    assert await mailbox.new(1, 2) == ([2], [1])
    mailbox.point(**section)
    assert await mailbox.new(1, 2) == ([1, 2], [])
    assert await mailbox.fetch(1, letter(OWNER)) == (first, True)  # it was moved there
    second, again = await mailbox.fetch(2, letter(OWNER, subject="another"))
    assert not again
    assert second != first
    mailbox.point()
    assert await mailbox.new(1, 2) == ([2], [1])


async def test_what_nobody_takes_is_written_once_and_looked_at_again_when_a_client_changes(house):
    mailbox = Mailbox(house)

    async def offer():
        with pytest.raises(Refusal) as refusal:
            await mailbox.fetch(1, letter(STRANGER), sender=STRANGER)
        assert refusal.value.code == "denied"

    def rows():
        return house.core.store.catalogue.read(
            lambda c: (
                c.execute(select(mailbox_messages)).all(),
                len(c.execute(select(ledger_entries.c.entry)).all()),
            )
        )

    await offer()
    assert await mailbox.new(1) == ([], [])
    before = rows()
    house.wings.intake.declined.clear()  # as after a start
    house.clock.advance(hours=1)
    assert await mailbox.new(1) == ([1], [])
    await offer()
    assert rows() == before
    await house.act("client.change", slug="acme", emails=[OWNER, STRANGER])
    assert await mailbox.new(1) == ([1], [])
    document, _ = await mailbox.fetch(1, letter(STRANGER), sender=STRANGER)
    assert await mailbox.new(1) == ([], [1])
    assert document


async def test_what_is_remembered_of_declined_messages_is_of_the_mailbox_as_it_is_now(house):
    mailbox = Mailbox(house)
    for validity in (1, 2, 3):
        for uid in (1, 2):
            with pytest.raises(Refusal):
                await mailbox.fetch(uid, letter(STRANGER), sender=STRANGER, validity=validity)
    (known,) = house.wings.intake.declined.values()
    assert (known[0], known[2]) == (3, {1, 2})
    assert list(house.wings.intake.declined) == [fetched.key_of(house.core.config.mailbox[0])]
