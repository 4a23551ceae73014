"""Verdicts on their way into the catalogue: those that arrive together are recorded together.

Promises: at most one batch of verdicts stands in the catalogue's queue, however many workers there are: an
acknowledgement has at most `MOST` of them before it. Who arrives while one is recorded goes with the next.
Each succeeds or fails on its own (the catalogue gives every work its savepoint), and is durable on return.
Leaves out: what a verdict does (`verdicts`).

Nothing waits for others to come: a commit is a twentieth of what a verdict costs (docs/performance.md), and a
worker that waits inspects nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from vault.catalogue.store import Work

MOST: Final = 8

Write = Callable[[Work[Any]], Awaitable[Any]]


class Recording:
    """The queue's one road to the catalogue for verdicts."""

    def __init__(self, write: Write) -> None:
        """`write`: submits a work to the catalogue; returns when it is durable."""
        self._write = write
        self._waiting: list[tuple[Work[None], asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def record(self, work: Work[None]) -> None:
        """Record a verdict; durable on return (raises what the work raises, and StorageFailed)."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        batch: list[tuple[Work[None], asyncio.Future[None]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                # Submitted in one go: the writing thread takes what waits into one transaction.
                results = await asyncio.gather(
                    *(self._write(work) for work, _ in batch), return_exceptions=True
                )
                for (_, done), result in zip(batch, results, strict=True):
                    if done.done():
                        continue  # whoever waited was cancelled
                    if isinstance(result, BaseException):
                        done.set_exception(result)
                    else:
                        done.set_result(None)
        finally:
            # The end of the core may come in between: nobody waits for ever.
            for _, done in (*batch, *self._waiting):
                done.cancel()
            self._waiting = []
            self._task = None
