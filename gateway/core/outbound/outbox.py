"""The outbox: what is to be brought to a place, and is tried until it is there.

A *delivery* is something that one place is to have: a keyring's new file, an amendment, the newest
checkpoint. Each *kind* of delivery keeps its rows in the catalogue, in a table of its own, and says what is
due, how it is brought there, and how the outcome is written down (`Kind`). All else is the same for all of
them, and is here.

Promises:
- Of one kind, a place gets one delivery at a time, in order; no place waits for another one.
- What fails is tried again with growing delays (`gateway.core.backoff`) for as long as it takes. A place that
  fails is left alone, for that time, with whatever else waits for it.
- While no courier is there nothing is put off and no attempt is counted: the first one that comes finds it.
- What nobody foresaw is a failure like others; the log has its type, never its text.
- A failure is in its row from the first time on, so that `status` and `doctor` can show it; it is in the log
  at most hourly.

Leaves out: bringing bytes there (`transfers`), and what is delivered (each kind's module).

Rule: whether something was delivered is decided by its kind, which looks at the place. A crash in between
delivers it again; that must do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Table, func, select, update

from gateway.core import backoff
from gateway.core.core import log, raised_at
from gateway.core.outbound.outbound import Outbound
from gateway.core.outbound.transfers import NoCourier
from vault.catalogue.store import Transaction
from vault.errors import PlaceError, StorageFailed, VaultError
from vault.moments import stamp

LONGEST_DELAY: Final = timedelta(hours=1)
LOG_INTERVAL: Final = timedelta(hours=1)
DETAIL: Final = 500  # characters of a failure that are kept


@dataclass(frozen=True)
class Delivery:
    """Something that waits for a place. `attempts`: failures in a row so far; `row`: its kind's own."""

    place: str
    attempts: int
    row: Any


class Unforeseen(VaultError):
    """A delivery ended with an error that nobody foresaw: a fault of this program."""


class Kind(Protocol):
    """One kind of delivery: its rows, how one is brought to its place, and what is written down of it.

    `name` stands before a place in a sentence: "keyring copy to". `longest_delay` is between two attempts.
    """

    name: str
    longest_delay: timedelta

    @property
    def places(self) -> Collection[str]:
        """The places of the configuration: nothing is due for others."""

    def next(self, connection: Connection, place: str, now: datetime | None) -> Delivery | None:
        """The first delivery that is due for a place; `now` None: that waits for it, due or not."""

    async def deliver(self, delivery: Delivery) -> Any:
        """Bring it there; returns what was seen there, for `delivered`.

        Raises:
            PlaceError: the place failed, and will fail for others. VaultError: this one failed.
        """

    def delivered(self, tx: Transaction, delivery: Delivery, seen: Any, now: datetime) -> None:
        """Write down that it is there."""

    def failed(
        self, tx: Transaction, delivery: Delivery, error: VaultError, now: datetime, again: datetime
    ) -> None:
        """Write down that it is not, why, and when it is tried again."""

    def unclaimed(self, tx: Transaction, delivery: Delivery, error: NoCourier) -> None:
        """Write down that nobody came for it; it stays due, and no attempt is counted."""

    def hasten(self, tx: Transaction, place: str, now: datetime) -> None:
        """A place that had failed answers again: what was put off is due."""

    def complain(self, place: str, error: VaultError) -> None:
        """Log a failure; called at most hourly for a place and a class of error."""


async def due(outbound: Outbound, kinds: Sequence[Kind]) -> list[asyncio.Task[None]]:
    """Begin to deliver what is due wherever nothing is under way; what was begun goes on by itself.

    Returns:
        What was begun, one task a kind and place.
    """
    now = outbound.core.now()
    free = [
        (kind, place)
        for kind in kinds
        for place in kind.places
        if not outbound.in_progress.has(kind.name, place) and not _rests(outbound, kind, place, now)
    ]
    found = await outbound.core.read(
        lambda c: [(kind, place) for kind, place in free if kind.next(c, place, now) is not None]
    )
    begun = []
    for kind, place in found:
        task = asyncio.create_task(_deliver_due(outbound, kind, place))
        outbound.background.add(task)
        task.add_done_callback(outbound.background.discard)
        begun.append(task)
    return begun


async def _deliver_due(outbound: Outbound, kind: Kind, place: str) -> None:
    try:
        await deliver(outbound, kind, place)
    except VaultError as error:  # the store is full, say; it is tried again at the next look
        if _is_time_to_complain(outbound, kind, place, error, outbound.core.now()):
            log.error("delivery not recorded", kind=kind.name, place=place, error=str(error))
    except Exception as error:  # noqa: BLE001  it has no row that could say so
        now = outbound.core.now()
        failures = outbound.resting.get((kind.name, place), (0, now))[0] + 1
        pause = backoff.delay(failures, longest=kind.longest_delay, chance=outbound.chance())
        outbound.resting[kind.name, place] = failures, now + pause
        _complain_unforeseen(outbound, kind, place, error, now)
    else:
        outbound.resting.pop((kind.name, place), None)


def _rests(outbound: Outbound, kind: Kind, place: str, now: datetime) -> bool:
    _, until = outbound.resting.get((kind.name, place), (0, now))
    return now < until


def _complain_unforeseen(
    outbound: Outbound, kind: Kind, place: str, error: Exception, now: datetime
) -> None:
    if _is_time_to_complain(outbound, kind, place, error, now):
        log.error(
            "unforeseen failure",
            kind=kind.name,
            place=place,
            error=type(error).__name__,
            at=raised_at(error),
        )


async def deliver(outbound: Outbound, kind: Kind, place: str, *, at_once: bool = False) -> int:
    """Deliver to one place what is due, up to the first failure; returns how many were delivered.

    Args:
        at_once: whatever waits for it, due or not; and a failure is raised, too.

    Raises:
        PlaceError, VaultError: one failed (`at_once` only). StorageFailed: the store itself failed.
    """
    core = outbound.core
    done = 0
    async with outbound.in_progress.turn(kind.name, place):
        while True:
            now = None if at_once else core.now()
            delivery = await core.read(lambda c, at=now: kind.next(c, place, at))  # type: ignore[misc]
            if delivery is None:
                return done
            error = await attempt(outbound, kind, delivery)
            if error is None:
                done += 1
            elif at_once:
                raise error
            elif isinstance(error, PlaceError):
                return done


async def attempt(outbound: Outbound, kind: Kind, delivery: Delivery) -> VaultError | None:
    """Try one delivery and write down how it went; returns what went wrong, if anything.

    Raises:
        StorageFailed: the store itself failed.
    """
    core = outbound.core
    try:
        seen = await kind.deliver(delivery)
    except StorageFailed:
        raise
    except (VaultError, OSError) as error:
        failure = _as_failure(delivery, error)
    except Exception as error:  # noqa: BLE001  nobody foresaw it; it backs off like others
        _complain_unforeseen(outbound, kind, delivery.place, error, core.now())
        failure = Unforeseen(
            f"{delivery.place}: expected no {type(error).__name__}, found one; the core's log has it"
        )
    else:
        await _record_delivered(outbound, kind, delivery, seen)
        return None
    now = core.now()
    if isinstance(failure, NoCourier):
        nobody = failure
        await core.write(lambda tx: kind.unclaimed(tx, delivery, nobody), background=True)
    else:
        again = now + backoff.delay(
            delivery.attempts + 1, longest=kind.longest_delay, chance=outbound.chance()
        )
        await core.write(lambda tx: kind.failed(tx, delivery, failure, now, again), background=True)
    if not isinstance(failure, Unforeseen) and _is_time_to_complain(
        outbound, kind, delivery.place, failure, now
    ):
        kind.complain(delivery.place, failure)
    return failure


async def _record_delivered(outbound: Outbound, kind: Kind, delivery: Delivery, seen: Any) -> None:
    now = outbound.core.now()
    of_place = outbound.complained.get((kind.name, delivery.place), {})

    def record(tx: Transaction) -> None:
        kind.delivered(tx, delivery, seen, now)
        if PlaceError in of_place:
            kind.hasten(tx, delivery.place, now)

    await outbound.core.write(record, background=True)
    for ended in (PlaceError, NoCourier):
        of_place.pop(ended, None)


def _as_failure(delivery: Delivery, error: VaultError | OSError) -> VaultError:
    """An error as one of the vault: what fails on this machine on the way fails for all of the place."""
    if isinstance(error, VaultError):
        return error
    return PlaceError(f"{delivery.place}: expected room on the way, found {error.strerror}")


def _is_time_to_complain(
    outbound: Outbound, kind: Kind, place: str, error: Exception, now: datetime
) -> bool:
    """Whether this class of error was not in the log of late; it is now."""
    of_place = outbound.complained.setdefault((kind.name, place), {})
    of_class: type[Exception] = type(error)
    if isinstance(error, PlaceError) and not isinstance(error, NoCourier):
        of_class = PlaceError
    last = of_place.get(of_class)
    if last is not None and now - last < LOG_INTERVAL:
        return False
    of_place[of_class] = now
    return True


class OfTable:
    """A kind whose deliveries are the rows of a table of their own, with the columns that several kinds have.

    These are id, target, created_at, attempts, next_attempt_at, delivered_at and failure. A subclass gives
    `name`, `complaint` (an event of the log) and `deliver`; it is a `Kind` then.
    """

    name: str
    complaint: str
    longest_delay = LONGEST_DELAY

    def __init__(self, outbound: Outbound, table: Table, places: Collection[str]) -> None:
        self.outbound = outbound
        self.places = places
        self._table = table

    def next(self, connection: Connection, place: str, now: datetime | None) -> Delivery | None:
        """See `Kind.next`."""
        c = self._table.c
        query = select(self._table).where(c.delivered_at.is_(None), c.target == place)
        if now is not None:
            query = query.where(c.next_attempt_at <= stamp(now))
        row = connection.execute(query.order_by(c.next_attempt_at, c.id).limit(1)).one_or_none()
        return None if row is None else Delivery(place, row.attempts, row)

    def delivered(self, tx: Transaction, delivery: Delivery, _seen: Any, now: datetime) -> None:
        """See `Kind.delivered`. A row that a newer one has superseded meanwhile stays so."""
        c = self._table.c
        tx.connection.execute(
            update(self._table)
            .where(c.id == delivery.row.id, c.delivered_at.is_(None))
            .values(delivered_at=stamp(now), failure="")
        )

    def failed(
        self,
        tx: Transaction,
        delivery: Delivery,
        error: VaultError,
        _now: datetime,
        again: datetime,
    ) -> None:
        """See `Kind.failed`. If the place failed, whatever else waits for it is put off, too."""
        c, row = self._table.c, delivery.row
        waits = (c.target == row.target, c.delivered_at.is_(None))
        tx.connection.execute(
            update(self._table).where(*waits, c.id == row.id).values(failure=str(error)[:DETAIL])
        )
        put_off = c.attempts <= row.attempts if isinstance(error, PlaceError) else c.id == row.id
        tx.connection.execute(
            update(self._table)
            .where(*waits, put_off)
            .values(attempts=row.attempts + 1, next_attempt_at=stamp(again))
        )

    def unclaimed(self, tx: Transaction, delivery: Delivery, error: NoCourier) -> None:
        """See `Kind.unclaimed`."""
        c = self._table.c
        tx.connection.execute(
            update(self._table)
            .where(c.id == delivery.row.id, c.delivered_at.is_(None))
            .values(failure=str(error)[:DETAIL])
        )

    def hasten(self, tx: Transaction, place: str, now: datetime) -> None:
        """See `Kind.hasten`."""
        c = self._table.c
        tx.connection.execute(
            update(self._table)
            .where(c.target == place, c.delivered_at.is_(None))
            .values(next_attempt_at=stamp(now))
        )

    def complain(self, place: str, error: VaultError) -> None:
        """See `Kind.complain`."""
        log.error(self.complaint, place=place, detail=str(error))


@dataclass(frozen=True)
class Waiting:
    """What a place lacks: how much, since when, and why the last attempt failed ("": none did)."""

    count: int
    since: str
    failure: str


def waiting(connection: Connection, table: Table) -> dict[str, Waiting]:
    """What each place lacks of a kind with a table of its own (`OfTable`)."""
    c = table.c
    return {
        row.target: Waiting(row.waiting, row.since, row.failure)
        for row in connection.execute(
            select(
                c.target,
                func.count().label("waiting"),
                func.min(c.created_at).label("since"),
                func.max(c.failure).label("failure"),
            )
            .where(c.delivered_at.is_(None))
            .group_by(c.target)
            .order_by(c.target)
        )
    }
