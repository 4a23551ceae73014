"""The desk where passwords are checked: few at a time, the likely ones first.

An argon2id costs tens of milliseconds of processor time and 64 MiB. Promises: guesses never occupy more
than half of the processors, nor the threads that read the catalogue; who waits is bounded, per source and
in all. The order:

1. accounts that nobody failed at from that source, those known there first, then sources with little waiting;
2. those that were mistyped a few times;
3. those that are being guessed at, the newest first: the owner, who comes once, does not stand in the queue
   that a guesser made of many.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

WORKERS: Final = max(1, (os.cpu_count() or 2) // 2)
GUESSED_AT: Final = 5  # failures after which an account counts as guessed at
MAX_WAITING: Final = 256
MAX_WAITING_PER_SOURCE: Final = 32

_Lane: TypeAlias = tuple[str, str]  # source and account


class GuessDesk:
    """Checks in order of likelihood. It belongs to one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="guess")
        self._queue: list[
            tuple[tuple[int, bool, int, int], _Lane, Callable[[], bool], asyncio.Future[bool]]
        ] = []
        self._numbers = itertools.count()
        self._waiting: Counter[str] = Counter()
        self._lanes: Counter[_Lane] = Counter()
        self._busy = 0

    async def check(
        self,
        work: Callable[[], bool],
        *,
        source: str,
        account: str,
        trusted: bool,
        failures: int,
    ) -> bool | None:
        """Run a check when its turn comes; None: too many wait, and it was not run.

        Args:
            failures: of that source at that account; what waits is counted to them.
        """
        lane = (source, account)
        waiting = self._waiting[source]
        if len(self._queue) >= MAX_WAITING or (waiting >= MAX_WAITING_PER_SOURCE and not trusted):
            return None
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        number = next(self._numbers)
        failures += self._lanes[lane]
        if failures < GUESSED_AT:
            turn = (min(failures, 1), not trusted, waiting, number)
        else:
            turn = (2, False, 0, -number)
        self._waiting[source] += 1
        self._lanes[lane] += 1
        heapq.heappush(self._queue, (turn, lane, work, done))
        self._advance()
        return await done

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _advance(self) -> None:
        while self._queue and self._busy < WORKERS:
            _, lane, work, done = heapq.heappop(self._queue)
            _less(self._waiting, lane[0])
            _less(self._lanes, lane)
            if done.done():
                continue  # whoever asked is gone
            self._busy += 1
            running = asyncio.wrap_future(self._threads.submit(work))
            running.add_done_callback(lambda ended, done=done: self._deliver(ended, done))  # type: ignore[misc]

    def _deliver(self, ended: asyncio.Future[bool], done: asyncio.Future[bool]) -> None:
        self._busy -= 1
        if not done.done():
            if ended.cancelled():
                done.cancel()
            elif (error := ended.exception()) is not None:
                done.set_exception(error)
            else:
                done.set_result(ended.result())
        self._advance()


def _less(counter: Counter[Any], key: Any) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]  # or names would stay for ever
