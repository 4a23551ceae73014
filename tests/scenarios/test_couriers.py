"""Couriers that are away, die or share the work: what becomes of what is to be delivered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.config import BackupTarget, Config, KeyringCopy, LedgerPlace
from gateway.core.outbound.transfers import NoCourier, TransferQueue
from gateway.core.server import CoreServer
from gateway.core.sessions.courier import CourierSession
from gateway.courier import main as courier_main
from gateway.courier import transfers as hands
from gateway.courier.transfers import beside
from gateway.errors import ConfigurationError
from gateway.process.listen import listen_unix
from gateway.wire.channel import as_frame
from gateway.wire.messages import ClaimTransfer, Transfer, TransferReport
from tests.support.house import House, replaced
from vault.catalogue.schema import checkpoint_places, errands
from vault.errors import PlaceError


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


@contextlib.asynccontextmanager
async def served(house: House) -> AsyncIterator[Path]:
    """The courier's socket of a core that serves it."""
    with tempfile.TemporaryDirectory(prefix="sr-", dir="/tmp") as folder:
        house.config = replaced(house.config, "sockets.directory", folder)
        path = house.config.socket("courier")
        listener = listen_unix(path)
        server = CoreServer(
            {"courier": listener},
            {"courier": lambda: CourierSession(house.wings.outbound)},
            own_sockets=True,
        )
        serving = asyncio.create_task(server.serve())
        try:
            yield path
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            listener.close()


@contextlib.asynccontextmanager
async def working(house: House) -> AsyncIterator[None]:
    """A courier with all its workers, until the core it serves is gone."""
    stop = threading.Event()
    try:
        async with served(house):
            thread = threading.Thread(target=hands.serve, args=(house.config, stop), daemon=True)
            thread.start()
            async with asyncio.timeout(10):
                while len(house.wings.outbound.transfers._idle) < hands.WORKERS:
                    await asyncio.sleep(0.01)
            yield
            stop.set()
    finally:
        stop.set()
    await asyncio.to_thread(thread.join, 10)


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


# ── one that has died ────────────────────────────────────────────────────────────────────────────


async def claims(path: Path, count: int) -> list[socket.socket]:
    """Connections that wait for a transfer."""
    connections = []
    for _ in range(count):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(path))
        connection.sendall(as_frame(ClaimTransfer(), 0))
        connections.append(connection)
    return connections


async def test_claims_of_a_courier_that_died_eat_no_delivery(carried, tmp_path):
    queue = carried.wings.outbound.transfers
    async with served(carried) as path:
        dead = await claims(path, hands.WORKERS)
        while len(queue._idle) < hands.WORKERS:
            await asyncio.sleep(0.01)
        for channel in dead:
            channel.close()
        async with asyncio.timeout(5):
            await beside(queue, carried.config, carried.deliver())
        assert waiting_rows(carried) == []
        rows = carried.core.store.catalogue.read(lambda c: c.execute(select(errands)).all())
        assert {row.attempts for row in rows} == {0}
        # They are waited for no longer, and leave their connections to the next courier.
        async with asyncio.timeout(3):
            while queue._idle:
                await asyncio.sleep(0.05)


async def test_a_transfer_that_never_reached_its_courier_is_the_next_one_s_before_all_others(
    carried,
):
    outbound = carried.wings.outbound
    first = asyncio.create_task(outbound.transfers.transfer("disk", "remove", "first"))
    second = asyncio.create_task(outbound.transfers.transfer("disk", "remove", "second"))
    await asyncio.sleep(0)
    died, lives = CourierSession(outbound), CourierSession(outbound)
    answer, _ = await died.handle(ClaimTransfer())
    assert isinstance(answer, Transfer)
    assert answer.name == "first"
    died.undelivered = True
    await died.close()
    answer, _ = await lives.handle(ClaimTransfer())
    assert answer.name == "first"
    answer, _ = await lives.handle(TransferReport(answer.transfer_id, "done"))
    assert (await first).outcome == "done"
    assert answer.name == "second"
    # One that it had may have begun: nobody else does it unasked.
    await lives.close()
    with pytest.raises(PlaceError, match="courier gone"):
        await second


async def test_a_transfer_that_came_back_waits_for_a_courier_as_long_as_any(carried):
    carried.wings.outbound.transfers = queue = TransferQueue(patience=0.1, stalled=60)
    transfer = asyncio.create_task(queue.transfer("disk", "remove", "a"))
    await asyncio.sleep(0)
    died = CourierSession(carried.wings.outbound)
    await died.handle(ClaimTransfer())
    await asyncio.sleep(0.25)  # seen claimed
    died.undelivered = True
    await died.close()
    async with asyncio.timeout(2):
        with pytest.raises(NoCourier):
            await transfer


# ── one that is wrongly configured ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("keyring.copies", KeyringCopy(name="wrong", directory="x", s3="s3://bucket")),
        ("backup.targets", BackupTarget(name="wrong", sftp="sftp://nowhere")),
        ("ledger.places", LedgerPlace(name="wrong")),
    ],
)
def test_a_courier_does_not_start_with_a_section_that_names_no_place(tmp_path, key, section):
    config = replaced(Config(base=tmp_path, source=tmp_path / "config.toml"), key, [section])
    with pytest.raises(ConfigurationError, match="wrong"):
        courier_main.run(config)


# ── several workers ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The places that were opened, in order, by name."""
    names: list[str] = []
    real = hands.open_place

    def counted(section: Any, resolve: Any) -> Any:
        names.append(section.name)
        return real(section, resolve)

    monkeypatch.setattr(hands, "open_place", counted)
    return names


async def test_deliveries_to_one_place_are_one_connection_though_all_workers_are_free(
    carried, opened
):
    async with working(carried):
        del opened[:]
        async with asyncio.timeout(20):
            await carried.deliver()
    assert waiting_rows(carried) == []
    # Three keyrings and a checkpoint, some twenty transfers.
    assert sorted(opened) == ["auditor", "other"]


async def test_the_command_line_opens_a_place_once_too(carried, opened):
    await beside(carried.wings.outbound.transfers, carried.config, carried.deliver())
    assert waiting_rows(carried) == []
    assert sorted(opened) == ["auditor", "other"]


async def test_a_worker_that_is_busy_at_a_place_keeps_nothing_else_for_it_waiting(carried):
    queue = carried.wings.outbound.transfers
    one, two = queue.worker(), queue.worker()
    first = asyncio.create_task(queue.transfer("disk", "remove", "1"))
    claimed = await one.claim()
    assert claimed is not None
    others = [asyncio.create_task(queue.transfer("disk", "remove", each)) for each in "23"]
    again = await two.claim()
    assert again is not None
    # Both have it open and are free; the one that waits longer takes what has waited longer.
    queue.report(TransferReport(claimed[0].transfer_id, "done"))
    third = await one.claim()
    assert third is not None
    assert [each[0].name for each in (claimed, again, third)] == ["1", "2", "3"]
    for each in (again, third):
        queue.report(TransferReport(each[0].transfer_id, "done"))
    await asyncio.gather(first, *others)


async def test_what_is_for_another_place_goes_to_a_worker_that_has_none_open(carried):
    queue = carried.wings.outbound.transfers
    done = asyncio.create_task(queue.transfer("disk", "remove", "1"))
    workers = [queue.worker() for _ in range(3)]
    claimed = await workers[0].claim()
    assert claimed is not None
    queue.report(TransferReport(claimed[0].transfer_id, "done"))
    await done
    waits = [asyncio.create_task(each.claim(5)) for each in workers]
    await asyncio.sleep(0)
    others = [asyncio.create_task(queue.transfer(to, "remove", to)) for to in ("tape", "disk")]
    tape, disk = await waits[1], await waits[0]
    assert tape is not None
    assert disk is not None
    assert (tape[0].target, disk[0].target) == ("tape", "disk")
    # A worker whose place failed has it open no more.
    queue.report(TransferReport(disk[0].transfer_id, "failed", detail="gone"))
    queue.report(TransferReport(tape[0].transfer_id, "done"))
    await asyncio.gather(*others, return_exceptions=True)
    assert [each.open for each in workers] == [set(), {"tape"}, set()]
    waits[2].cancel()
