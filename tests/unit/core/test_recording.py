"""Verdicts that arrive together are recorded together, and each stands for itself."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.inspection.recording import MOST, Recording
from vault.errors import StorageFailed


class Catalogue:
    """Commits when told to; a work that raises fails alone. `groups`: what was submitted between two commits."""

    def __init__(self):
        self.groups = []
        self._waiting = []

    async def write(self, work):
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        return await done

    async def commit(self):
        await asyncio.sleep(0.01)  # until whoever has something has submitted it
        group, self._waiting = self._waiting, []
        if group:
            self.groups.append(len(group))
        for work, done in group:
            if done.cancelled():
                continue
            try:
                done.set_result(work(None))
            except Exception as error:
                done.set_exception(error)
        await asyncio.sleep(0.01)


@pytest.fixture
async def catalogue():
    return Catalogue()


async def test_verdicts_that_come_while_one_is_recorded_go_together_with_the_next(catalogue):
    recording, seen = Recording(catalogue.write), []
    tasks = [asyncio.create_task(recording.record(lambda _tx: seen.append(0)))]
    await asyncio.sleep(0.01)
    tasks += [
        asyncio.create_task(recording.record(lambda _tx, n=n: seen.append(n)))
        for n in range(1, MOST + 3)
    ]
    while not all(task.done() for task in tasks):
        await catalogue.commit()
    assert catalogue.groups == [1, MOST, 2]
    assert seen == list(range(MOST + 3))


async def test_nobody_waits_for_others_to_come(catalogue):
    recording = Recording(catalogue.write)
    for _ in range(3):
        task = asyncio.create_task(recording.record(lambda _tx: None))
        await catalogue.commit()
        await task
    assert catalogue.groups == [1, 1, 1]


async def test_a_verdict_that_fails_takes_no_other_with_it(catalogue):
    def fails(_tx):
        raise StorageFailed("of its own")

    recording, seen = Recording(catalogue.write), []
    first = asyncio.create_task(recording.record(lambda _tx: None))
    await asyncio.sleep(0.01)
    bad = asyncio.create_task(recording.record(fails))
    good = asyncio.create_task(recording.record(lambda _tx: seen.append("good")))
    await catalogue.commit()
    await catalogue.commit()
    await first
    await good
    with pytest.raises(StorageFailed, match="of its own"):
        await bad
    assert seen == ["good"]


async def test_a_connection_that_ends_meanwhile_holds_nobody_up(catalogue):
    recording, seen = Recording(catalogue.write), []
    gone = asyncio.create_task(recording.record(lambda _tx: seen.append("gone")))
    await asyncio.sleep(0.01)
    stays = asyncio.create_task(recording.record(lambda _tx: seen.append("stays")))
    gone.cancel()
    await catalogue.commit()
    await catalogue.commit()
    await stays
    assert gone.cancelled()
    assert seen == ["gone", "stays"]  # what was submitted is recorded all the same


async def test_the_end_of_the_core_leaves_nobody_waiting(catalogue):
    recording = Recording(catalogue.write)
    waiting = [asyncio.create_task(recording.record(lambda _tx: None))]
    await asyncio.sleep(0.01)
    waiting.append(asyncio.create_task(recording.record(lambda _tx: None)))
    await asyncio.sleep(0.01)
    recording._task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in results)
    again = asyncio.create_task(recording.record(lambda _tx: None))
    await catalogue.commit()
    await again
