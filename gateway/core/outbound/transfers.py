"""Transfers: the core's one way to places elsewhere, through a courier that holds no key.

The core has no network. What is to be put, fetched, listed or removed at a place is queued here as one
`Transfer` each. A courier claims it, does it with a descriptor that travels beside the message, and reports.
Bytes never pass through messages: what is put is read from the descriptor, what is fetched (and a listing) is
written into it. Everything transferred is sealed, or signed and meant to be read, or a finished message for
the relay or a webhook (`gateway.core.notices`).

Promises: every transfer ends: done, missing or failed. It fails too when the courier that had it is gone,
when none comes within `PATIENCE`, or when nothing has moved for `STALLED` seconds (a dead mount); the
connection of a courier that hangs is dropped. One that never reached its courier waits on, before all others;
nobody who is gone is given any. A long backup keeps nothing else waiting: of its sealed files at most `BULK`
are under way, and a courier has more workers than that. What follows at a place goes to the worker that has
it open, if that one is free: one delivery, one connection.

Leaves out trying again: whoever asked knows whether it is worth it (`gateway.core.outbound.outbox`).

Rule: the courier marks how far it is by the position of the descriptor it was given, which both ends see
(they share one open file); so a long transfer needs no message of its own to be known to move.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.core.waiting import wait_for_work
from gateway.errors import Disconnected
from gateway.wire.messages import Transfer, TransferReport, TransferVerb
from vault.errors import PlaceError, PlaceMissing, VaultError

PATIENCE: Final = 60.0  # seconds a transfer waits for a courier
STALLED: Final = 300.0  # seconds without progress after which it has failed; a slow disk's sync
LOOK: Final = 5.0  # seconds between two looks at how far a transfer is
CLAIM_WAIT: Final = 20.0  # seconds a courier waits for a transfer
BULK: Final = 4  # transfers of many, each perhaps long, that are under way at once


class NoCourier(PlaceError):
    """Nobody claimed a transfer. That says nothing of the place, and is no failure of it."""


class Refused(VaultError):
    """A message was refused for good; it is not tried again."""


class Deferred(VaultError):
    """A message could not be taken now; the place takes others."""


@dataclass
class _Item:
    transfer: Transfer
    descriptor: int | None  # our own duplicate
    bulk: bool
    outcome: asyncio.Future[TransferReport]
    worker: Worker | None = None  # that has it

    def mark(self) -> tuple[int, int]:
        """How far it has come: position and size of its file."""
        if self.descriptor is None:
            return 0, 0
        position = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        return position, os.fstat(self.descriptor).st_size


@dataclass(eq=False)
class Worker:
    """One that does transfers, each to its end: a connection of a courier. Made by `TransferQueue.worker`."""

    queue: TransferQueue
    drop: Callable[[], None]
    gone: Callable[[], bool]
    open: set[str] = field(
        default_factory=set
    )  # the targets it has used since it last found nothing

    async def claim(self, wait: float = CLAIM_WAIT) -> tuple[Transfer, int | None] | None:
        """The next transfer with its descriptor, which is the caller's to close; None after `wait` seconds.

        Raises:
            Disconnected: the worker is gone.
        """

        async def find() -> _Item | None:
            if self.gone():
                raise Disconnected("courier: expected one that waits for a transfer, found it gone")
            return self.queue.take(self)

        with self.queue.idle(self):
            item = await wait_for_work(self.queue.work, find, wait)
        if item is None:
            self.open.clear()
            return None
        self.open.add(item.transfer.target)
        item.worker = self
        return item.transfer, None if item.descriptor is None else os.dup(item.descriptor)

    def effort(self, target: str) -> tuple[bool, int]:
        """What it would take to begin there; the least has the place open, and no others."""
        return target not in self.open, len(self.open)


class TransferQueue:
    """The queue between whoever needs something elsewhere and the couriers. Belongs to one event loop."""

    def __init__(self, patience: float = PATIENCE, stalled: float = STALLED) -> None:
        """`patience`: seconds a transfer waits to be claimed; `stalled`: and, claimed, without progress."""
        self._patience = patience
        self._stalled = stalled
        self._next = 1
        self._waiting: dict[int, _Item] = {}
        self._claimed: dict[int, _Item] = {}
        self._idle: dict[Worker, None] = {}  # in the order in which they came
        self.work = asyncio.Event()

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
            PlaceMissing: there is nothing of that name. Refused, Deferred: a message was. NoCourier: none
            came. PlaceError: it failed, or the
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
        self.work.set()
        try:
            report = await self._outcome(item, number)
        finally:
            self._waiting.pop(number, None)
            self._claimed.pop(number, None)
            self.work.set()  # one of bulk may have waited for this one
            if duplicate is not None:
                os.close(duplicate)
        if report.outcome == "missing":
            raise PlaceMissing(f"{_subject(target)}: expected {name}, found nothing of that name")
        if report.outcome == "refused":
            raise Refused(report.detail[:300])
        if report.outcome == "deferred":
            raise Deferred(report.detail[:300])
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
            if number in self._waiting:
                if claimed or self._claimed:  # it came back; or couriers are there, and busy
                    claimed, deadline = False, now + self._patience
            elif not claimed or mark != seen:
                claimed, seen, deadline = True, mark, now + self._stalled
            if now < deadline:
                continue
            if not claimed:
                raise NoCourier(
                    f"{_subject(item.transfer.target)}: expected a courier within {self._patience:g} s, found"
                    " none; is `strongroom courier` running?"
                )
            if item.worker is not None:
                item.worker.drop()
            return TransferReport(
                number,
                "failed",
                detail=f"expected progress within {self._stalled:g} s, found none",
            )

    def worker(
        self, drop: Callable[[], None] = lambda: None, gone: Callable[[], bool] = lambda: False
    ) -> Worker:
        """Somebody who is to do transfers.

        Args:
            drop: called if nothing moves any more: the worker hangs.
            gone: whether it is there no more, asked before it is given something.
        """
        return Worker(self, drop, gone)

    @contextlib.contextmanager
    def idle(self, worker: Worker) -> Iterator[None]:
        """A worker waits for as long as the block runs."""
        self._idle[worker] = None
        try:
            yield
        finally:
            del self._idle[worker]
            self.work.set()  # another one may be the best for what waits now

    def take(self, worker: Worker) -> _Item | None:
        """What has waited longest, bulk last, of all that no other idle worker is better for."""
        full = sum(item.bulk for item in self._claimed.values()) >= BULK
        idle = [each for each in self._idle if not each.gone()]
        for item in sorted(self._waiting.values(), key=lambda each: each.bulk):
            if full and item.bulk:
                break
            target = item.transfer.target
            if min(idle, key=lambda each: each.effort(target), default=worker) is worker:
                number = item.transfer.transfer_id
                self._claimed[number] = self._waiting.pop(number)
                return item
        return None

    def report(self, report: TransferReport) -> None:
        """Take a courier's report; one that nobody waits for any more is dropped."""
        item = self._claimed.pop(report.transfer_id, None)
        if item is None:
            return
        if item.worker is not None and report.outcome == "failed":
            item.worker.open.discard(item.transfer.target)  # it lets go of a place that failed
        if not item.outcome.done():
            item.outcome.set_result(report)

    def lost(self, transfer_id: int, *, seen: bool = True) -> None:
        """The courier that had claimed it is gone; `seen`: it may have begun."""
        if not seen and (item := self._claimed.pop(transfer_id, None)) is not None:
            item.worker = None
            self._waiting = {transfer_id: item, **self._waiting}
            self.work.set()
            return
        self.report(
            TransferReport(
                transfer_id, "failed", detail="expected a report, found the courier gone"
            )
        )


def _subject(target: str) -> str:
    """A target in words: `target disk` for one of backups; others by the name of their section."""
    kind, _, name = target.rpartition(":")
    return name if kind else f"target {target}"
