"""Passwords: hashed, checked, and checked by few workers, so that attempts never take the processors.

An argon2id costs tens of milliseconds of processor time and 64 MiB. Promises: checks occupy at most half of
the processors, and none of the threads that read the catalogue; who waits is bounded, per source and in all.
Accounts that nobody failed at from that source go first, in the order of coming; then the others, the newest
first: the owner, who comes once, does not stand in the queue that a guesser made of many.
"""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import argon2

_hasher: Final = argon2.PasswordHasher()  # argon2id, RFC 9106's second recommended option
WORKERS: Final = max(1, (os.cpu_count() or 2) // 2)
MAX_WAITING: Final = 256
MAX_WAITING_PER_SOURCE: Final = 32  # does not count for trusted accounts

_Waiting: TypeAlias = tuple[str, Callable[[], bool], asyncio.Future[bool]]


@functools.cache
def _decoy() -> str:
    """A hash that no password has: checked where there is none, at the same cost."""
    return _hasher.hash(secrets.token_hex(32))


def check_password(stored: str | None, password: str) -> bool:
    """Whether `password` is the account's; costs the same where there is none."""
    try:
        return _hasher.verify(stored or _decoy(), password) and stored is not None
    except argon2.exceptions.Argon2Error:
        return False
    except argon2.exceptions.InvalidHashError:
        return False


def hash_password(password: str) -> str:
    """A password's argon2id hash in PHC form."""
    return _hasher.hash(password)


class PasswordQueue:
    """Runs checks in their turn. It belongs to one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="password")
        self._first: deque[_Waiting] = deque()
        self._others: list[_Waiting] = []
        self._waiting: Counter[str] = Counter()
        self._busy = 0

    async def check(
        self, work: Callable[[], bool], *, source: str, trusted: bool, failures: int
    ) -> bool | None:
        """Run a check when its turn comes; None: too many wait, and it was not run.

        Args:
            trusted, failures: of the account at that source.
        """
        if len(self._first) + len(self._others) >= MAX_WAITING:
            return None
        if not trusted and self._waiting[source] >= MAX_WAITING_PER_SOURCE:
            return None
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[source] += 1
        (self._others if failures else self._first).append((source, work, done))
        self._advance()
        return await done

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _advance(self) -> None:
        while self._busy < WORKERS and (self._first or self._others):
            source, work, done = self._first.popleft() if self._first else self._others.pop()
            self._waiting -= Counter((source,))  # drops what is not positive
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
