"""A share of the store is read each day, all of it in turn, and what is wrong is recorded and said."""

from __future__ import annotations

import asyncio
import os

from sqlalchemy import select

from gateway.core.inspection import claims, fixity
from gateway.core.inspection.claims import InspectionQueue
from vault.catalogue.schema import fixity_runs
from vault.crypto.chunked import document_context
from vault.crypto.sealed import SealedReader


class Reader:
    """An inspector's part in this process: takes what is to be read, reads it, reports."""

    def __init__(self, queue: InspectionQueue) -> None:
        self.queue = queue
        self.seen: list[str] = []

    async def work(self) -> None:
        import hashlib

        from gateway.wire.messages import Verdict

        while True:
            found = await self.queue.claim()
            if found is None:
                continue
            work, descriptor, claimed, wanted = (
                found.work,
                found.descriptor,
                found.claimed,
                found.fixity,
            )
            assert work.mode == "fixity"
            try:
                with SealedReader(
                    descriptor, work.key, document_context(work.document_id), close_fd=True
                ) as reader:
                    data = reader.readall()
            except Exception:
                await self.queue.lost(claimed, wanted, seen=True)
                continue
            self.seen.append(work.document_id)
            verdict = Verdict(
                document_id=work.document_id, size=len(data), sha256=hashlib.sha256(data).digest()
            )
            await self.queue.verdict(claimed, verdict, wanted)


async def day(house, reader: Reader) -> fixity.Reading | None:
    """One tick of the job, with an inspector at work."""
    task = asyncio.create_task(reader.work())
    try:
        return await fixity.daily(house.core, house.queue)
    finally:
        task.cancel()


async def next_day(house) -> None:
    house.core.close()
    house.clock.advance(days=1, minutes=1)
    house.open()


async def test_each_day_reads_its_share_and_goes_on_where_the_last_stopped_until_all_was_read(
    house,
):
    ids = sorted([await house.filed(f"{n}.xml", b"%d" % n) for n in range(10)])
    house.config = _share(house.config, 0.3)
    seen: list[str] = []
    for _ in range(5):
        await next_day(house)
        reader = Reader(house.queue)
        reading = await day(house, reader)
        assert (reading.documents, reading.findings) == (3, [])
        # Within the same day nothing more is read.
        assert await day(house, reader) is None
        seen += sorted(reader.seen) if len(set(reader.seen)) == 3 else reader.seen
    assert set(seen) == set(ids)
    assert len(seen) == 15
    runs = house.core.store.catalogue.read(lambda c: c.execute(select(fixity_runs)).all())
    assert [row.documents_read for row in runs] == [3] * 5
    status = await house.act("status")
    assert status["fixity"]["documents"] == 3
    entries = (await house.act("ledger.export"))["entries"]
    assert sum('"store.fixity"' in entry for entry in entries) == 5


def _share(config, share: float):
    import msgspec

    changed = msgspec.structs.replace(config.fixity, share_per_day=share)
    return msgspec.structs.replace(config, fixity=changed)


async def test_a_changed_byte_is_found_on_its_day_and_shown(house):
    document = await house.filed("a.xml", b"a" * 1000)
    (path,) = (house.folder / "vault/blobs/objects").rglob(document)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    house.config = _share(house.config, 1.0)
    await next_day(house)
    reading = await day(house, Reader(house.queue))
    assert [document in finding.subject for finding in reading.findings] == [True]
    shown = (await house.act("status"))["fixity"]
    assert document in shown["findings"][0]["subject"]


async def test_without_an_inspector_nothing_counts_as_read_and_the_place_is_kept(
    house, monkeypatch
):
    monkeypatch.setattr(claims, "CLAIM_WAIT", 0.01)
    await house.filed("a.xml")
    await house.filed("b.xml")
    house.config = _share(house.config, 1.0)
    await next_day(house)
    async with asyncio.timeout(60):  # a check has to end, too
        reading, check = await asyncio.gather(
            fixity.daily(house.core, house.queue),
            fixity.read_everything(house.core, house.queue),
        )
    for each in (reading, check):
        assert (each.documents, each.upto, each.interrupted) == (0, "", True)
        assert "found none running" in each.findings[0].problem
    # Not a day later, but as soon as someone is there.
    monkeypatch.setattr(claims, "CLAIM_WAIT", 5.0)
    reading = await day(house, Reader(house.queue))
    assert (reading.documents, reading.findings) == (2, [])


async def test_a_share_of_nothing_reads_nothing(house):
    await house.filed("a.xml")
    house.config = _share(house.config, 0.0)
    await next_day(house)
    assert await fixity.daily(house.core, house.queue) is None


async def test_a_document_that_ends_every_reader_is_a_finding_and_holds_nothing_up(house):
    ids = sorted([await house.filed(f"{n}.xml", b"%d" % n) for n in range(4)])
    house.config = _share(house.config, 1.0)

    class Dying(Reader):
        async def work(self) -> None:
            while True:
                found = await self.queue.claim()
                if found is None:
                    continue
                work, descriptor, claimed, wanted = (
                    found.work,
                    found.descriptor,
                    found.claimed,
                    found.fixity,
                )
                os.close(descriptor)
                if work.document_id == ids[1]:
                    await self.queue.lost(claimed, wanted, seen=True)
                    continue
                self.seen.append(work.document_id)
                wanted.result.set_result(True)
                self.queue.put_back(work.document_id)

    await next_day(house)
    reader = Dying(house.queue)
    reading = await day(house, reader)
    assert (reading.documents, reading.upto) == (3, ids[-1])
    assert [ids[1] in finding.subject for finding in reading.findings] == [True]
