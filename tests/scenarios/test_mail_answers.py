"""Who may not send to a client is not told whether there is one."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import event

from gateway.core.intake import recipients
from gateway.core.intake.acquaintances import Acquaintance
from gateway.wire.messages import BeginMail, MailRecipient

STRANGER = "mallory@elsewhere.example"


@pytest.fixture
def slept(monkeypatch):
    """How long each refusal waited."""
    naps = []

    async def sleep(seconds):
        naps.append(seconds)

    monkeypatch.setattr(recipients.asyncio, "sleep", sleep)
    return naps


async def ask(house, monkeypatch, recipient, sender=STRANGER):
    """The answer as it goes over the wire, and what was asked and opened for it."""
    asked = []
    opened = []
    former = recipients.open_profile

    def note(_connection, _cursor, statement, *_more):
        asked.append(statement)

    def look(core, row):
        opened.append(row.slug)
        return former(core, row)

    readers = house.core.store.catalogue._readers
    event.listen(readers, "before_cursor_execute", note)
    monkeypatch.setattr(recipients, "open_profile", look)
    try:
        request = MailRecipient("192.0.2.1", sender, recipient, 1000)
        answer, _ = await recipients.check_recipient(house.wings.intake, request)
    finally:
        monkeypatch.setattr(recipients, "open_profile", former)
        event.remove(readers, "before_cursor_execute", note)
    return msgspec.msgpack.encode(answer), asked, len(opened)


async def test_known_closed_and_unknown_clients_answer_a_stranger_alike(house, monkeypatch, slept):
    """The same bytes, after the same questions, and not before the same time."""

    await house.act("client.add", slug="gone", name="Gone")
    await house.act("client.close", slug="gone")
    found = [
        await ask(house, monkeypatch, f"{slug}@intake.localhost")
        for slug in ("acme", "other", "gone", "nobody", "acme+2025")
    ]
    assert b"550" not in found[0][0]  # msgpack: the code is a number
    assert b"No client of that name takes documents from your address" in found[0][0]
    assert all(each == found[0] for each in found)
    assert found[0][2] == 1
    assert len(slept) == 5
    assert all(0 < nap <= recipients.REFUSED_AFTER for nap in slept)


async def test_who_may_send_is_answered_at_once(house, monkeypatch, slept):
    answer, _, _ = await ask(house, monkeypatch, "acme@intake.localhost", "owner@acme.example")
    assert b"Recipient accepted" in answer
    assert slept == []
    # Another client's sender is a stranger here.
    answer, _, _ = await ask(house, monkeypatch, "other@intake.localhost", "owner@acme.example")
    assert b"No client of that name" in answer
    # The profile that is opened for a name nobody has lets nobody in.
    answer, _, _ = await ask(house, monkeypatch, "nobody@intake.localhost", "owner@acme.example")
    assert b"No client of that name" in answer


async def test_without_any_client_a_stranger_hears_the_same(tmp_path):
    from tests.support.house import House

    house = House(tmp_path)
    try:
        request = MailRecipient("192.0.2.1", STRANGER, "acme@intake.localhost", 0)
        answer, _ = await recipients.check_recipient(house.wings.intake, request)
        assert (answer.code, answer.text) == (550, recipients.NOT_TAKEN)
    finally:
        house.close()


async def test_who_was_accepted_is_accepted_again_without_a_question(house, monkeypatch, slept):
    for slug in ("acme", "acme+2026"):
        await ask(house, monkeypatch, f"{slug}@intake.localhost", "owner@acme.example")
    answer, asked, opened = await ask(
        house, monkeypatch, "acme@intake.localhost", "owner@acme.example"
    )
    assert b"Recipient accepted" in answer
    assert (asked, opened, slept) == ([], 0, [])


async def test_an_acquaintance_changes_nothing_for_a_stranger(house, monkeypatch, slept):
    before = await ask(house, monkeypatch, "acme@intake.localhost")
    await ask(house, monkeypatch, "acme@intake.localhost", "owner@acme.example")
    assert await ask(house, monkeypatch, "acme@intake.localhost") == before
    assert await ask(house, monkeypatch, "nobody@intake.localhost") == before
    assert len(slept) == 3


@pytest.mark.parametrize("change", ["closed", "senders", "quota"])
async def test_a_change_of_the_client_counts_at_once(house, monkeypatch, slept, change):
    recipient, sender = "acme@intake.localhost", "owner@acme.example"
    answer, _, _ = await ask(house, monkeypatch, recipient, sender)
    assert b"Recipient accepted" in answer
    if change == "closed":
        await house.act("client.close", slug="acme")
    elif change == "senders":
        await house.act("client.change", slug="acme", emails=["new@acme.example"])
    else:
        await house.act("client.change", slug="acme", quota_bytes=10)
    answer, _, _ = await ask(house, monkeypatch, recipient, sender)
    expected = recipients.NO_ROOM if change == "quota" else recipients.NOT_TAKEN
    assert expected.encode() in answer


async def test_a_change_between_recipient_and_message_counts_too(house, monkeypatch):
    """The room of a message is what the quota is when it begins."""
    recipient, sender = "acme@intake.localhost", "owner@acme.example"
    await ask(house, monkeypatch, recipient, sender)
    client = house.core.store.catalogue.read(
        lambda c: c.execute(recipients._NAMED, {"slug": "acme"}).one().id
    )
    await house.act("client.change", slug="acme", quota_bytes=500)
    upload = await recipients.begin(
        house.wings.intake,
        Acquaintance(client, unlimited=False),
        BeginMail("192.0.2.1", sender, [recipient]),
    )
    assert upload.room == 500
    upload.close()
