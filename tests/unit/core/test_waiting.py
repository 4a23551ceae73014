"""Waiting for work: what is there at once, what is told of, and what falls due by the clock."""

from __future__ import annotations

import asyncio
import time

from gateway.core import waiting
from gateway.core.waiting import wait_for_work


def finding(found: list[str]):
    async def find() -> str | None:
        return found.pop() if found else None

    return find


async def test_what_is_there_is_found_without_waiting():
    assert await wait_for_work(asyncio.Event(), finding(["a"]), 0) == "a"


async def test_nothing_in_the_time_given_is_none():
    began = time.monotonic()
    assert await wait_for_work(asyncio.Event(), finding([]), 0.05) is None
    assert time.monotonic() - began < waiting.LOOK


async def test_what_is_told_of_is_found_at_once():
    event, found = asyncio.Event(), []
    task = asyncio.create_task(wait_for_work(event, finding(found), 60))
    await asyncio.sleep(0.01)
    began = time.monotonic()
    found.append("b")
    event.set()
    assert await task == "b"
    assert time.monotonic() - began < waiting.LOOK / 2


async def test_what_falls_due_by_itself_is_found_at_the_next_look(monkeypatch):
    monkeypatch.setattr(waiting, "LOOK", 0.02)
    found: list[str] = []
    task = asyncio.create_task(wait_for_work(asyncio.Event(), finding(found), 60))
    await asyncio.sleep(0.01)
    found.append("c")
    async with asyncio.timeout(5):
        assert await task == "c"


async def test_what_comes_during_a_look_that_finds_nothing_is_not_missed():
    event, found = asyncio.Event(), []
    looks = 0

    async def find() -> str | None:
        nonlocal looks
        looks += 1
        if looks == 1:
            await asyncio.sleep(0)  # it comes while this looks elsewhere
            found.append("d")
            event.set()
            return None
        return found.pop() if found else None

    began = time.monotonic()
    assert await wait_for_work(event, find, 60) == "d"
    assert time.monotonic() - began < waiting.LOOK / 2
