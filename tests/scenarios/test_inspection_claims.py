"""One document, one worker; one connection, one document."""

from __future__ import annotations

import asyncio
import hashlib
import os

import msgspec
import pytest
from sqlalchemy import select

from gateway.core.inspection import claims
from gateway.core.intake import receive
from gateway.core.sessions.inspector import InspectSession
from gateway.errors import WireError
from gateway.wire.channel import REQUEST_DECODERS
from gateway.wire.messages import Claim, Classification, Scan, Verdict, Work
from vault.catalogue import ledger
from vault.catalogue.schema import documents
from vault.crypto.sealed import SealedWriter, document_context

NOTE = b"a note"


async def claimed(session: InspectSession) -> Work:
    work, descriptor = await session.handle(Claim())
    assert isinstance(work, Work)
    os.close(descriptor)
    return work


def clean(work: Work, digest: bytes, **more) -> Verdict:
    return Verdict(
        work.document_id,
        work.size,
        digest,
        scans=[Scan("yara", "clean")],
        classification=Classification("demo-note", 0.95, "2025-01-01"),
        **more,
    )


async def digest_of(house, document: str) -> bytes:
    row = await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document)).one()
    )
    return house.core.store.custody.open_metadata(row).sha256


async def test_a_connection_that_gave_its_verdict_gets_no_other_document(house):
    mine = await house.upload("/inbox/mine.txt", NOTE)
    await house.upload("/inbox/others.txt", b"others", by="other")
    session = InspectSession(house.wings.intake, house.queue)
    work = await claimed(session)
    assert work.document_id == mine
    await session.handle(clean(work, await digest_of(house, mine)))
    with pytest.raises(WireError, match="one document a connection"):
        await session.handle(Claim())
    await session.close()


async def test_a_document_judged_between_the_look_and_the_claim_is_not_handed_out_again(
    house, monkeypatch
):
    """The look reads an older snapshot than the set of busy ones: held still between the two."""

    document = await house.upload("/inbox/mine.txt", NOTE)
    first, second = (InspectSession(house.wings.intake, house.queue) for _ in range(2))
    work = await claimed(first)
    looked, go_on = asyncio.Event(), asyncio.Event()
    read = house.core.read

    async def slow(look):
        busy, house.queue._busy = house.queue._busy, {}
        try:
            found = await read(look)  # as if the snapshot were from before the claim
        finally:
            house.queue._busy = busy
        if not looked.is_set():
            looked.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(house.core, "read", slow)
    monkeypatch.setattr(claims, "CLAIM_WAIT", 0.3)
    claim = asyncio.create_task(second.handle(Claim()))
    await looked.wait()
    monkeypatch.setattr(house.core, "read", read)
    await first.handle(clean(work, await digest_of(house, document)))
    go_on.set()
    reply, descriptor = await claim
    assert descriptor is None
    assert not isinstance(reply, Work)
    await first.close()
    await second.close()


async def test_giving_up_on_a_document_that_was_judged_meanwhile_leaves_no_entry(house):
    document = await house.upload("/inbox/mine.txt", NOTE)
    row = await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document)).one()
    )
    session = InspectSession(house.wings.intake, house.queue)
    work = await claimed(session)
    await session.handle(clean(work, await digest_of(house, document)))
    size = await house.core.read(ledger.size_of)
    last = house.core.config.inspect.max_attempts - 1
    stale = type("Row", (), {"id": row.id, "attempts": last})()
    await house.queue._postpone(stale, "inspection-failed", for_ever=False)
    assert await house.core.read(ledger.size_of) == size
    await session.close()


@pytest.mark.parametrize(
    "more",
    [
        {"media_type": "text/plain\nX-Evil: 1"},
        {"media_type": "a" * 4000 + "/b"},
        {"suggested_name": "x" * 5000},
        {"facts": {"subject": "x" * 100_000}},
        {"facts": {str(number): "x" for number in range(1000)}},
        {"unreadable": "Another client's words"},
        {"size": -1},
        {"sha256": b"x" * 33},
    ],
)
def test_what_a_verdict_may_say_is_bounded(more):
    fields = msgspec.to_builtins(Verdict("01", 1, b""), builtin_types=(bytes,))
    decoder = REQUEST_DECODERS["inspect"]
    assert isinstance(decoder.decode(msgspec.msgpack.encode(fields)), Verdict)
    with pytest.raises(msgspec.ValidationError):
        decoder.decode(msgspec.msgpack.encode(fields | more))


async def test_a_document_whose_worker_went_away_is_not_handed_out_before_it_is_put_off(
    house, monkeypatch
):
    document = await house.upload("/inbox/mine.txt", NOTE)
    session = InspectSession(house.wings.intake, house.queue)
    await claimed(session)
    entered, go_on = asyncio.Event(), asyncio.Event()
    postpone = house.queue._postpone

    async def slow(*arguments, **more):
        entered.set()
        await go_on.wait()
        await postpone(*arguments, **more)

    monkeypatch.setattr(house.queue, "_postpone", slow)
    monkeypatch.setattr(claims, "CLAIM_WAIT", 0.3)
    ending = asyncio.create_task(session.close())
    await entered.wait()
    other = InspectSession(house.wings.intake, house.queue)
    reply, _ = await other.handle(Claim())
    assert not isinstance(reply, Work)
    go_on.set()
    await ending
    row = await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document)).one()
    )
    assert row.attempts == 1
    await other.close()


async def test_a_reading_for_fixity_waits_for_a_document_that_is_being_inspected(
    house, monkeypatch
):
    document = await house.upload("/inbox/mine.txt", NOTE)
    row = await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document)).one()
    )
    monkeypatch.setattr(claims, "CLAIM_WAIT", 0.3)
    first, second = (InspectSession(house.wings.intake, house.queue) for _ in range(2))
    work = await claimed(first)
    reading = asyncio.create_task(house.queue.fixity(row))
    await asyncio.sleep(0)
    reply, _ = await second.handle(Claim())
    assert not isinstance(reply, Work)
    await first.handle(clean(work, await digest_of(house, document)))
    work = await claimed(second)
    assert (work.document_id, work.mode) == (document, "fixity")
    await second.handle(clean(work, await digest_of(house, document)))
    assert await reading
    await first.close()
    await second.close()


async def test_a_core_that_stops_during_a_verdict_deletes_no_part_that_was_recorded(house):
    await house.upload("/inbox/mail.eml", b"whole")
    handed = await house.queue._next()
    work, descriptor = handed.work, handed.descriptor
    claimed, fixity = handed.claimed, handed.fixity
    os.close(descriptor)
    session = InspectSession(house.wings.intake, house.queue)
    session._claimed, session._fixity = claimed, fixity
    part = await house.queue.begin_part(claimed, "note.txt")
    writer = SealedWriter(part.descriptor, part.key, document_context(part.document_id))
    writer.write(b"part")
    digest = hashlib.sha256(b"part").digest()
    await receive.stage(house.core, part, writer.finish(), digest)
    claimed.parts[part.document_id] = (part, 4, digest)
    verdict = Verdict(
        work.document_id, 5, hashlib.sha256(b"whole").digest(), parts=[part.document_id],
        scans=[Scan("yara", "clean")],
        classification=Classification("invoice", 0.99, "2025-01-01"),
    )  # fmt: skip
    task = asyncio.create_task(session.handle(verdict))
    while not house.core.store.catalogue.read(
        lambda c: c.execute(
            select(documents.c.id).where(documents.c.id == part.document_id)
        ).scalar()
    ):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await session.close()
    house.restart()
    assert (await house.act("check", read_data=True))["findings"] == []
    assert house.core.store.blobs.exists(part.document_id)
