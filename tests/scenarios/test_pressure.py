"""On a disk that is nearly full, interrupted uploads make room: the largest holder's oldest first."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from gateway.core.intake import partial, pressure, temporary
from gateway.core.intake.pressure import FACTOR, RENAMING
from vault.catalogue import ledger
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState
from vault.crypto.sealed import CHUNK


@pytest.fixture
def disk(house, monkeypatch):
    """Free space that the test says, plus what interrupted uploads gave back."""

    class Disk:
        left = 2**40

        def free(self):
            return self.left

    disk = Disk()
    disk.least = FACTOR * house.config.store.minimum_free
    monkeypatch.setattr(house.core.store.blobs, "free_bytes", disk.free)
    return disk


async def interrupt(house, path, chunks, by="acme"):
    upload, _ = await house.begun(path, bytes(chunks * CHUNK + 1), by=by)
    assert await partial.park(house.core, upload)
    house.clock.advance(minutes=10)
    return upload.document_id


async def states(house):
    rows = await house.core.read(
        lambda c: c.execute(select(documents.c.id, documents.c.state)).all()
    )
    return {row.id: row.state for row in rows}


async def test_nothing_goes_while_there_is_room(house, disk):
    part = await interrupt(house, "/inbox/a", 2)
    disk.left = disk.least
    assert await pressure.relieve(house.wings.intake) == 0
    assert (await states(house))[part] == DocumentState.PARTIAL


async def test_the_largest_holders_oldest_go_until_there_is_room_and_no_further(house, disk):
    small = await interrupt(house, "/inbox/first", 1, by="other")
    mine = [await interrupt(house, f"/inbox/{n}", 4) for n in range(3)]
    whole = await house.upload("/inbox/whole", b"x" * 900_000)
    disk.left = disk.least - 5 * CHUNK
    assert await pressure.relieve(house.wings.intake) == 2
    found = await states(house)
    assert [found[each] for each in mine] == [
        DocumentState.EXPIRED,
        DocumentState.EXPIRED,
        DocumentState.PARTIAL,
    ]
    assert (found[small], found[whole]) == (DocumentState.PARTIAL, DocumentState.RECEIVED)
    # With the whole disk full all of them go, and nothing that was acknowledged.
    disk.left = 0
    assert await pressure.relieve(house.wings.intake) == 2
    found = await states(house)
    assert found[whole] == DocumentState.RECEIVED
    assert DocumentState.PARTIAL not in found.values()
    assert await pressure.relieve(house.wings.intake) == 0


async def test_the_ledger_says_why_one_had_to_go(house, disk):
    part = await interrupt(house, "/inbox/a", 2)
    disk.left = 0
    assert await pressure.relieve(house.wings.intake) == 1
    entries = house.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
    last = json.loads(entries[-1])
    assert (last["kind"], last["subject"], last["facts"]["why"]) == (
        "document.expired",
        part,
        "no_room",
    )
    assert not house.spooled()


async def test_what_is_in_someones_hands_or_about_to_be_renamed_stays(house, disk):
    held = await interrupt(house, "/inbox/held", 3)
    house.wings.intake.take(held, "")
    upload, writer = await house.begun("/inbox/x.part", b"x" * 1000)
    size = writer.finish()
    await temporary.keep(house.wings.intake, upload, size, bytes(32))
    disk.left = 0
    assert await pressure.relieve(house.wings.intake) == 0
    house.wings.intake.give_back(held)
    house.clock.now += RENAMING
    assert await pressure.relieve(house.wings.intake) == 2
