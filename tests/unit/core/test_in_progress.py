"""Of one kind and key, one piece of work is in progress at a time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.in_progress import InProgress
from gateway.errors import Refusal


def test_a_second_one_is_refused_in_plain_words_and_takes_nothing_away():
    running = InProgress()
    with running.claim("backup to", "disk"):
        with pytest.raises(Refusal) as refused, running.claim("backup to", "disk"):
            pass
        assert refused.value.code == "locked"
        assert refused.value.message == "backup to disk is already running"
        assert running.has("backup to", "disk")
    assert not running.has("backup to", "disk")


def test_one_of_a_kind_that_is_several_things_is_refused_with_what_runs():
    running = InProgress()
    with running.claim("backup to", "disk", "verification of the backup at"):
        for words in ("", "verification of the backup at"):
            with pytest.raises(Refusal) as refused, running.claim("backup to", "disk", words):
                pass
            assert refused.value.message == "verification of the backup at disk is already running"
    with running.claim("backup to", "disk"):
        with pytest.raises(Refusal) as refused:
            running.begin("backup to", "disk", "verification of the backup at")
        assert refused.value.message == "backup to disk is already running"


def test_another_kind_and_another_key_are_not_in_the_way():
    running = InProgress()
    with (
        running.claim("backup to", "disk"),
        running.claim("backup to", "tape"),
        running.claim("publication to", "disk"),
    ):
        assert not running.has("publication to", "tape")


def test_a_claim_ends_with_the_work_however_it_ends():
    running = InProgress()
    with pytest.raises(ValueError, match="broken"), running.claim("rotation", "1"):
        raise ValueError("broken")
    with running.claim("rotation", "1"):
        pass


async def test_a_turn_waits_for_the_one_before_and_they_go_one_by_one():
    running = InProgress()
    inside = 0
    seen: list[int] = []

    async def one() -> None:
        nonlocal inside
        async with running.turn("delivery to", "disk"):
            inside += 1
            seen.append(inside)
            await asyncio.sleep(0)
            inside -= 1

    with running.claim("delivery to", "disk"):
        waiting = [asyncio.create_task(one()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert seen == []
    await asyncio.gather(*waiting)
    assert seen == [1, 1, 1]
    assert not running.has("delivery to", "disk")


async def test_a_turn_that_is_given_up_leaves_the_one_before_alone():
    running = InProgress()
    with running.claim("delivery to", "disk"):

        async def wait() -> None:
            async with running.turn("delivery to", "disk"):
                raise AssertionError("it was not its turn")

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert running.has("delivery to", "disk")
