"""Carriage: the core's way to a backup's place, through a courier that holds no key.

The core has no network. What is to be put, fetched, listed or removed at a place of a backup or of the
ledger is queued here as one `Carry` each; a courier claims it, does it with a descriptor that travels beside
the message, and reports. Bytes never pass through messages: what is put is read from the descriptor, what is
fetched (and a listing) is written into it. Everything carried is sealed, or signed and meant to be read.

Promises: every carry ends: done, missing, failed, or, when the courier that had it is gone, none comes within
`PATIENCE`, or nothing has moved for `STALLED` seconds (a dead mount), failed too; the connection of a courier
that hangs is dropped. Leaves out retrying: whoever asked knows whether it is worth it.

Rule: the courier marks how far it is by the position of the descriptor it was given, which both ends see
(they share one open file); so a long carry needs no message of its own to be known to move.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.wire.messages import Carry, CarryReport, CarryVerb
from vault.errors import PlaceError, PlaceMissing

PATIENCE: Final = 60.0  # seconds a carry waits for a courier
STALLED: Final = (
    300.0  # seconds without progress after which a claimed carry has failed; a slow disk's sync
)
LOOK: Final = 5.0  # seconds between two looks at how far a carry is
CLAIM_WAIT: Final = 20.0  # seconds a courier waits for a carry


@dataclass
class _Item:
    carry: Carry
    descriptor: int | None  # our own duplicate
    outcome: asyncio.Future[CarryReport]
    drop: Callable[[], None] | None = None  # ends the connection of the courier that has it

    def mark(self) -> tuple[int, int]:
        """How far it has come: position and size of its file."""
        if self.descriptor is None:
            return 0, 0
        position = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        return position, os.fstat(self.descriptor).st_size


class Carriage:
    """The queue between whoever needs something carried and the couriers. Belongs to one event loop."""

    def __init__(self, patience: float = PATIENCE, stalled: float = STALLED) -> None:
        """`patience`: seconds a carry waits to be claimed; `stalled`: and, claimed, without progress."""
        self._patience = patience
        self._stalled = stalled
        self._next = 1
        self._waiting: dict[int, _Item] = {}
        self._claimed: dict[int, _Item] = {}
        self._work = asyncio.Event()

    async def carry(
        self, target: str, verb: CarryVerb, name: str, descriptor: int | None = None
    ) -> CarryReport:
        """Have something carried; returns the report of a carry that was done.

        Args:
            target: a backup target of the configuration, or the `target` of a place of the ledger.
            verb, name, descriptor: as `Carry` says; the descriptor stays the caller's.

        Raises:
            PlaceMissing: there is nothing of that name. PlaceError: it failed, no courier came, or the one
                that came got no further.
        """
        number, self._next = self._next, self._next + 1
        duplicate = None if descriptor is None else os.dup(descriptor)
        item = _Item(
            Carry(number, target, verb, name), duplicate, asyncio.get_running_loop().create_future()
        )
        self._waiting[number] = item
        self._work.set()
        try:
            report = await self._outcome(item, number)
        finally:
            self._waiting.pop(number, None)
            self._claimed.pop(number, None)
            if duplicate is not None:
                os.close(duplicate)
        if report.outcome == "missing":
            raise PlaceMissing(f"target {target}: expected {name}, found nothing of that name")
        if report.outcome != "done":
            raise PlaceError(f"target {target}: {report.detail[:300] or 'the carry failed'}")
        return report

    async def _outcome(self, item: _Item, number: int) -> CarryReport:
        loop = asyncio.get_running_loop()
        seen = item.mark()
        # Unclaimed, it waits for a courier; in his hands it may take as long as it moves.
        claimed, deadline = False, loop.time() + self._patience
        while True:
            try:
                async with asyncio.timeout(min(self._patience, self._stalled, LOOK)):
                    return await asyncio.shield(item.outcome)
            except TimeoutError:
                now = loop.time()
            mark = item.mark()
            if number not in self._waiting and (not claimed or mark != seen):
                claimed, seen, deadline = True, mark, now + self._stalled
            if now < deadline:
                continue
            if not claimed:
                return CarryReport(
                    number,
                    "failed",
                    detail=f"expected a courier within {self._patience:g} s, found none;"
                    " is `strongroom courier` running?",
                )
            if item.drop is not None:
                item.drop()
            return CarryReport(
                number,
                "failed",
                detail=f"expected progress within {self._stalled:g} s, found none",
            )

    async def claim(
        self, wait: float = CLAIM_WAIT, drop: Callable[[], None] | None = None
    ) -> tuple[Carry, int | None] | None:
        """The next carry with its descriptor, which is the caller's to close; None after `wait` seconds.

        `drop` is called if nothing moves any more: the claimant hangs.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while not self._waiting:
            self._work.clear()
            left = deadline - loop.time()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(min(left, 1.0)):
                    await self._work.wait()
            except TimeoutError:
                continue
        number = next(iter(self._waiting))
        item = self._claimed[number] = self._waiting.pop(number)
        item.drop = drop
        return item.carry, None if item.descriptor is None else os.dup(item.descriptor)

    def report(self, report: CarryReport) -> None:
        """Take a courier's report; one that nobody waits for any more is dropped."""
        item = self._claimed.pop(report.carry_id, None)
        if item is not None and not item.outcome.done():
            item.outcome.set_result(report)

    def lost(self, carry_id: int) -> None:
        """The courier that had claimed it is gone."""
        self.report(
            CarryReport(carry_id, "failed", detail="expected a report, found the courier gone")
        )
