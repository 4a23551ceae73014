"""A backlog of one client does not hold up another's document, nor one sender's that of the next."""

from __future__ import annotations

import asyncio
import os

import pytest
from sqlalchemy import select

from gateway.core.inspection import claims, queue
from gateway.core.intake import recipients
from gateway.core.intake.acquaintances import Acquaintance
from gateway.wire.messages import BeginMail, Classification, Scan, Verdict
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState


async def taken(house):
    handed = await house.queue._next()
    work, descriptor = handed.work, handed.descriptor
    claimed, fixity = handed.claimed, handed.fixity
    os.close(descriptor)
    return work, claimed, fixity


async def row_of(house, document):
    return await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document)).one()
    )


def verdict(work, claimed) -> Verdict:
    return Verdict(
        work.document_id,
        work.size,
        claimed.metadata.sha256,
        scans=[Scan("yara", "clean")],
        classification=Classification("invoice", 0.95, "2025-03-01"),
    )


async def test_a_document_behind_anothers_backlog_is_second(house):
    backlog = [await house.upload(f"/inbox/{number}.xml", b"x") for number in range(20)]
    late = await house.upload("/inbox/late.xml", b"late", by="other")
    first, _, _ = await taken(house)
    second, _, _ = await taken(house)
    assert first.document_id == backlog[0]
    assert second.document_id == late


async def test_mail_of_one_sender_does_not_wait_for_that_of_another(house):
    client = (await house.act("client.show", slug="acme"))["id"]

    async def sent(sender, count):
        found = []
        for number in range(count):
            begun = await recipients.begin(
                house.wings.intake,
                Acquaintance(client, unlimited=False),
                BeginMail("p", sender, ["a@b"]),
            )
            found.append(await house.finish(begun, f"{sender}{number}".encode()))
        return found

    many = await sent("many@acme.example", 10)
    house.clock.advance(seconds=1)
    one = await sent("one@acme.example", 1)
    order = [(await taken(house))[0].document_id for _ in range(3)]
    assert order == [many[0], one[0], many[1]]


async def test_what_ran_out_of_time_is_tried_once_more_alone_with_all_the_time_and_then_asks_a_person(
    house, monkeypatch
):
    monkeypatch.setattr(claims, "SLOW", -1.0)
    document = await house.upload("/inbox/bomb.xml", b"x")
    work, claimed, _ = await taken(house)
    assert not work.thorough
    await house.queue.lost(claimed, None, seen=True)
    row = await row_of(house, document)
    assert (row.state, row.reason) == (DocumentState.RECEIVED, queue.TIMED_OUT)
    ordinary = await house.upload("/inbox/later.xml", b"y")
    house.clock.advance(minutes=1)
    assert (await taken(house))[0].document_id == ordinary
    work, claimed, _ = await taken(house)
    assert (work.document_id, work.thorough) == (document, True)
    await house.queue.lost(claimed, None, seen=True)
    row = await row_of(house, document)
    assert (row.state, row.reason) == (DocumentState.REVIEW, "unjudged:inspection-timed-out")
    assert row.lane == 0


async def test_a_sender_is_not_kept_in_the_catalogue_once_a_document_is_judged(house):
    document = await house.upload("/inbox/a.xml", b"x")
    assert (await row_of(house, document)).lane > 0
    work, claimed, _ = await taken(house)
    await house.queue.verdict(claimed, verdict(work, claimed), None)
    row = await row_of(house, document)
    assert (row.state, row.lane) == (DocumentState.FILED, 0)


async def test_reading_for_fixity_gets_a_worker_while_a_backlog_drains(house, monkeypatch):
    kept = await house.filed("kept.xml")
    for number in range(5):
        await house.upload(f"/inbox/{number}.xml", b"x")
    monkeypatch.setattr(claims, "FIXITY_PATIENCE", 0.05)
    reading = asyncio.create_task(house.queue.fixity(await row_of(house, kept)))
    await asyncio.sleep(0)
    assert (await taken(house))[0].mode == "inspect"
    await asyncio.sleep(0.1)
    work, claimed, fixity = await taken(house)
    assert (work.mode, work.document_id) == ("fixity", kept)
    another = asyncio.create_task(house.queue.fixity(await row_of(house, kept)))
    await asyncio.sleep(0.1)
    assert (await taken(house))[0].mode == "inspect"  # one worker for it, no more
    await house.queue.verdict(claimed, verdict(work, claimed), fixity)
    assert await reading
    another.cancel()


@pytest.mark.parametrize("pools", [1, 2])
async def test_five_hundred_documents_are_each_handed_out_once_by_several_pools(house, pools):
    """As many as a test has time for; docs/performance.md tells of 5,000."""

    ids = {
        await house.upload(f"/inbox/{number}.xml", b"%d" % number, by=by)
        for number in range(125)
        for by in ("acme", "acme", "acme", "other")
    }
    seen: list[str] = []

    async def worker():
        while True:
            found = await house.queue._next()
            if found is None:
                states = await house.core.read(
                    lambda c: c.execute(
                        select(documents.c.id).where(documents.c.state == DocumentState.RECEIVED)
                    ).all()
                )
                if not states:
                    return
                await asyncio.sleep(0.01)
                continue
            work, descriptor = found.work, found.descriptor
            claimed, fixity = found.claimed, found.fixity
            os.close(descriptor)
            seen.append(work.document_id)
            await asyncio.sleep(0)
            await house.queue.verdict(claimed, verdict(work, claimed), fixity)

    await asyncio.gather(*(worker() for _ in range(2 * pools)))
    assert len(seen) == len(ids)
    assert set(seen) == ids
