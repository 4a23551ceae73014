"""Transfers: the core's one way to places elsewhere, through a courier that holds no key.

The core has no network. What is to be put, fetched, listed or removed at a place is queued here as one
`Transfer` each. A courier claims it, does it with a descriptor that travels beside the message, and reports.
Bytes never pass through messages: what is put is read from the descriptor, what is fetched (and a listing) is
written into it. Everything transferred is sealed, or signed and meant to be read.

Promises: every transfer ends: done, missing or failed. It fails too when the courier that had it is gone,
when none comes within `PATIENCE`, or when nothing has moved for `STALLED` seconds (a dead mount); the
connection of a courier that hangs is dropped. A long backup keeps nothing else waiting: of its sealed files
at most `BULK` are under way, and a courier has more workers than that.

Leaves out trying again: whoever asked knows whether it is worth it (`gateway.core.outbound.outbox`).

Rule: the courier marks how far it is by the position of the descriptor it was given, which both ends see
(they share one open file); so a long transfer needs no message of its own to be known to move.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.core.waiting import wait_for_work
from gateway.wire.messages import Transfer, TransferReport, TransferVerb
from vault.errors import PlaceError, PlaceMissing

PATIENCE: Final = 60.0  # seconds a transfer waits for a courier
STALLED: Final = 300.0  # seconds without progress after which it has failed; a slow disk's sync
LOOK: Final = 5.0  # seconds between two looks at how far a transfer is
CLAIM_WAIT: Final = 20.0  # seconds a courier waits for a transfer
BULK: Final = 4  # transfers of many, each perhaps long, that are under way at once


class NoCourier(PlaceError):
    """Nobody claimed a transfer. That says nothing of the place, and is no failure of it."""


@dataclass
class _Item:
    transfer: Transfer
    descriptor: int | None  # our own duplicate
    bulk: bool
    outcome: asyncio.Future[TransferReport]
    drop: Callable[[], None] | None = None  # ends the connection of the courier that has it

    def mark(self) -> tuple[int, int]:
        """How far it has come: position and size of its file."""
        if self.descriptor is None:
            return 0, 0
        position = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        return position, os.fstat(self.descriptor).st_size


class TransferQueue:
    """The queue between whoever needs something elsewhere and the couriers. Belongs to one event loop."""

    def __init__(self, patience: float = PATIENCE, stalled: float = STALLED) -> None:
        """`patience`: seconds a transfer waits to be claimed; `stalled`: and, claimed, without progress."""
        self._patience = patience
        self._stalled = stalled
        self._next = 1
        self._waiting: dict[int, _Item] = {}
        self._claimed: dict[int, _Item] = {}
        self._work = asyncio.Event()

    async def transfer(
        self,
        target: str,
        verb: TransferVerb,
        name: str,
        descriptor: int | None = None,
        *,
        bulk: bool = False,
    ) -> TransferReport:
        """Have something transferred; returns the report of a transfer that was done.

        Args:
            target: the `target` of a section of the configuration that names a place.
            verb, name, descriptor: as `Transfer` says; the descriptor stays the caller's.
            bulk: it is one of many, and nobody waits for this one.

        Raises:
            PlaceMissing: there is nothing of that name. NoCourier: none came. PlaceError: it failed, or the
                courier that came got no further.
        """
        number, self._next = self._next, self._next + 1
        duplicate = None if descriptor is None else os.dup(descriptor)
        item = _Item(
            Transfer(number, target, verb, name),
            duplicate,
            bulk,
            asyncio.get_running_loop().create_future(),
        )
        self._waiting[number] = item
        self._work.set()
        try:
            report = await self._outcome(item, number)
        finally:
            self._waiting.pop(number, None)
            self._claimed.pop(number, None)
            self._work.set()  # one of bulk may have waited for this one
            if duplicate is not None:
                os.close(duplicate)
        if report.outcome == "missing":
            raise PlaceMissing(f"{_subject(target)}: expected {name}, found nothing of that name")
        if report.outcome != "done":
            raise PlaceError(f"{_subject(target)}: {report.detail[:300] or 'the transfer failed'}")
        return report

    async def _outcome(self, item: _Item, number: int) -> TransferReport:
        loop = asyncio.get_running_loop()
        seen = item.mark()
        # Unclaimed, it waits for a courier; claimed, it may take as long as it moves.
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
            elif not claimed and self._claimed:
                deadline = now + self._patience  # couriers are there, and busy
            if now < deadline:
                continue
            if not claimed:
                raise NoCourier(
                    f"{_subject(item.transfer.target)}: expected a courier within {self._patience:g} s, found"
                    " none; is `strongroom courier` running?"
                )
            if item.drop is not None:
                item.drop()
            return TransferReport(
                number,
                "failed",
                detail=f"expected progress within {self._stalled:g} s, found none",
            )

    async def claim(
        self, wait: float = CLAIM_WAIT, drop: Callable[[], None] | None = None
    ) -> tuple[Transfer, int | None] | None:
        """The next transfer with its descriptor, which is the caller's to close; None after `wait` seconds.

        `drop` is called if nothing moves any more: the claimant hangs.
        """

        async def find() -> _Item | None:
            return self._take()

        item = await wait_for_work(self._work, find, wait)
        if item is None:
            return None
        item.drop = drop
        return item.transfer, None if item.descriptor is None else os.dup(item.descriptor)

    def _take(self) -> _Item | None:
        """The transfer that has waited longest, those of bulk last."""
        full = sum(item.bulk for item in self._claimed.values()) >= BULK
        may = [item for item in self._waiting.values() if not (full and item.bulk)]
        if not may:
            return None
        item = min(may, key=lambda each: each.bulk)  # the first of the smallest: the oldest
        number = item.transfer.transfer_id
        self._claimed[number] = self._waiting.pop(number)
        return item

    def report(self, report: TransferReport) -> None:
        """Take a courier's report; one that nobody waits for any more is dropped."""
        item = self._claimed.pop(report.transfer_id, None)
        if item is not None and not item.outcome.done():
            item.outcome.set_result(report)

    def lost(self, transfer_id: int) -> None:
        """The courier that had claimed it is gone."""
        self.report(
            TransferReport(
                transfer_id, "failed", detail="expected a report, found the courier gone"
            )
        )


def _subject(target: str) -> str:
    """A target in words: `target disk` for one of backups; others by the name of their section."""
    kind, _, name = target.rpartition(":")
    return name if kind else f"target {target}"
