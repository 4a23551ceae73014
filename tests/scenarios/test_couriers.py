"""Couriers that are away, die or share the work: what becomes of what is to be delivered meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.config import KeyringCopy, LedgerPlace
from gateway.core.outbound.transfers import TransferQueue
from gateway.courier.transfers import beside
from tests.support.house import House
from vault.catalogue.schema import checkpoint_places, errands


@pytest.fixture
async def carried(tmp_path):
    """A house whose keyrings and ledger go to folders."""
    for name in ("house", "copies", "ledger"):
        (tmp_path / name).mkdir(mode=0o700)
    copy = KeyringCopy(name="other", directory=str(tmp_path / "copies"))
    place = LedgerPlace(name="auditor", directory=str(tmp_path / "ledger"), every_seconds=5)
    made = House(tmp_path / "house", **{"keyring.copies": [copy], "ledger.places": [place]})
    await made.settle()
    await made.act("ledger.checkpoint")
    yield made
    await made.end()


def keyrings(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.keyring")}


def waiting_rows(house: House) -> list:
    return house.core.store.catalogue.read(
        lambda c: c.execute(select(errands).where(errands.c.delivered_at.is_(None))).all()
    )


# ── none is there ────────────────────────────────────────────────────────────────────────────────


async def test_what_no_courier_came_for_is_not_put_off_and_is_there_with_the_first_that_comes(
    carried, tmp_path
):
    carried.wings.outbound.transfers = TransferQueue(patience=0.02)
    for _ in range(14):
        await carried.deliver()
        carried.clock.advance(seconds=1)
    rows = waiting_rows(carried)
    assert len(rows) == 3  # the house's and two clients'
    assert {row.attempts for row in rows} == {0}
    assert "is `strongroom courier` running?" in rows[0].failure
    (published,) = carried.core.store.catalogue.read(
        lambda c: c.execute(select(checkpoint_places)).all()
    )
    assert (published.attempts, published.next_attempt_at) == (0, None)
    assert "expected a courier" in published.failure
    status = await carried.act("status")
    assert "expected a courier" in status["copies_behind"][0]["failure"]
    assert "expected a courier" in status["ledger"]["places"][0]["failure"]
    # Now one comes; the clock has not moved since.
    carried.wings.outbound.transfers = TransferQueue(patience=5)
    await beside(carried.wings.outbound.transfers, carried.config, carried.deliver())
    assert waiting_rows(carried) == []
    assert keyrings(tmp_path / "copies") == keyrings(tmp_path / "house" / "vault" / "keyrings")
    assert (tmp_path / "ledger" / "checkpoint").is_file()
    status = await carried.act("status")
    assert status["copies_behind"] == []
    assert status["ledger"]["places"][0]["failure"] == ""


async def test_a_place_that_failed_is_left_alone_no_shorter_because_a_courier_was_away(
    carried, tmp_path
):
    (tmp_path / "copies").rmdir()
    queue = carried.wings.outbound.transfers
    await beside(queue, carried.config, carried.deliver())
    before = waiting_rows(carried)
    assert {row.attempts for row in before} == {1}
    carried.wings.outbound.transfers = TransferQueue(patience=0.02)
    await carried.deliver()
    assert waiting_rows(carried) == before  # not due yet
    carried.clock.advance(seconds=1)
    await carried.deliver()
    assert {row.attempts for row in waiting_rows(carried)} == {1}
    carried.wings.outbound.transfers = queue
    await beside(queue, carried.config, carried.deliver())
    assert {row.attempts for row in waiting_rows(carried)} == {2}
