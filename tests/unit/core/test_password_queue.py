"""Passwords are checked few at a time, the likely ones first, and who waits is bounded."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.core.login.passwords import (
    MAX_WAITING,
    MAX_WAITING_PER_SOURCE,
    WORKERS,
    PasswordQueue,
)


@pytest.fixture
async def held():
    """A queue whose workers are all busy until the event is set."""
    queue, free = PasswordQueue(), threading.Event()
    busy = [
        asyncio.create_task(queue.check(free.wait, source="busy", trusted=True, failures=0))
        for _ in range(WORKERS)
    ]
    await asyncio.sleep(0)
    yield queue, free
    free.set()
    await asyncio.gather(*busy)
    queue.close()


def waiting(queue, done, name, *, source="a", trusted=False, failures=0):
    def work():
        done.append(name)
        return name == "right"

    return asyncio.create_task(queue.check(work, source=source, trusted=trusted, failures=failures))


@pytest.mark.skipif(WORKERS > 1, reason="the order of several workers is not told")
async def test_who_was_not_failed_at_goes_first_and_the_newest_of_the_guessed_at_next(held):
    queue, free = held
    done: list[str] = []
    tasks = [
        waiting(queue, done, "guessed at", failures=3),
        waiting(queue, done, "guessed at more", failures=9, source="b"),
        waiting(queue, done, "newcomer"),
        waiting(queue, done, "trusted", trusted=True),
        waiting(queue, done, "right", trusted=True, failures=9),
    ]
    await asyncio.sleep(0)
    free.set()
    assert await asyncio.gather(*tasks) == [False, False, False, False, True]
    assert done == ["newcomer", "trusted", "right", "guessed at more", "guessed at"]


async def test_no_source_and_no_number_of_them_fills_the_queue_without_end(held):
    queue, free = held
    done: list[str] = []
    one = [waiting(queue, done, "x", failures=1) for _ in range(MAX_WAITING_PER_SOURCE + 5)]
    many = [
        waiting(queue, done, "x", source=f"s{n}") for n in range(MAX_WAITING - len(one) + 5 + 7)
    ]
    await asyncio.sleep(0)
    assert await waiting(queue, done, "x", source="trusted", trusted=True) is None
    free.set()
    assert (await asyncio.gather(*one)).count(None) == 5
    assert (await asyncio.gather(*many)).count(None) == 7
    assert len(done) == MAX_WAITING
    assert await waiting(queue, done, "right", failures=1)


async def test_a_check_that_fails_tells_whoever_asked_and_the_next_goes_on(held):
    queue, free = held

    def broken():
        raise OSError("expected memory, found none")

    first = asyncio.create_task(queue.check(broken, source="a", trusted=False, failures=0))
    gone = waiting(queue, [], "x")
    await asyncio.sleep(0)
    gone.cancel()
    second = waiting(queue, [], "right")
    free.set()
    with pytest.raises(OSError, match="memory"):
        await first
    assert await second
