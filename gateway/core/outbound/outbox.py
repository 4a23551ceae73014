"""The outbox: what is to be brought to a place, and is tried until it is there.

A *delivery* is something that one place is to have: a keyring's new file, an amendment, the newest
checkpoint. Each *kind* of delivery keeps its rows in the catalogue, in a table of its own, and says what is
due, how it is brought there, and how the outcome is written down (`Kind`). All else is the same for all of
them, and is here.

Promises:
- Of one kind, a place gets one delivery at a time, in order; no place waits for another one.
- What fails is tried again with growing delays (`gateway.core.backoff`) for as long as it takes. A place that
  fails is left alone, for that time, with whatever else waits for it.
- A failure is in its row from the first time on, so that `status` and `doctor` can show it; it is in the log
  at most hourly.

Leaves out: bringing bytes there (`transfers`), and what is delivered (each kind's module).

Rule: whether something was delivered is decided by its kind, which looks at the place. A crash in between
delivers it again; that must do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Row, Table, func, select, update

from gateway.core import backoff
from gateway.core.core import log, stamp
from gateway.core.outbound.outbound import Outbound
from vault.catalogue.store import Transaction
from vault.errors import PlaceError, StorageFailed, VaultError

LONGEST_DELAY: Final = timedelta(hours=1)
LOG_INTERVAL: Final = timedelta(hours=1)
DETAIL: Final = 500  # characters of a failure that are kept


@dataclass(frozen=True)
class Delivery:
    """Something that waits for a place. `attempts`: failures in a row so far; `row`: its kind's own."""

    place: str
    attempts: int
    row: Any


class Kind(Protocol):
    """One kind of delivery: its rows, how one is brought to its place, and what is written down of it.

    `name` stands before a place in a sentence: "keyring copy to". `longest_delay` is between two attempts.
    """

    name: str
    longest_delay: timedelta

    def due(self, connection: Connection, now: datetime) -> Iterable[str]:
        """The places that something is due for; a place without a section in the configuration never is."""

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

    def complain(self, place: str, error: VaultError) -> None:
        """Log a failure; called at most hourly for a place and a class of error."""


async def due(outbound: Outbound, kinds: Sequence[Kind]) -> list[asyncio.Task[None]]:
    """Begin to deliver what is due wherever nothing is under way; what was begun goes on by itself.

    Returns:
        What was begun, one task a kind and place.
    """
    now = outbound.core.now()
    found = await outbound.core.read(
        lambda c: [(kind, place) for kind in kinds for place in kind.due(c, now)]
    )
    begun = []
    for kind, place in found:
        if not outbound.in_progress.has(kind.name, place):
            task = asyncio.create_task(_deliver_due(outbound, kind, place))
            outbound.background.add(task)
            task.add_done_callback(outbound.background.discard)
            begun.append(task)
    return begun


async def _deliver_due(outbound: Outbound, kind: Kind, place: str) -> None:
    try:
        await deliver(outbound, kind, place)
    except VaultError as error:
        log.error("delivery not recorded", delivery=kind.name, place=place, error=str(error))


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
    except VaultError as error:
        now = core.now()
        again = now + backoff.delay(
            delivery.attempts + 1, longest=kind.longest_delay, chance=outbound.chance()
        )
        failure = error  # the name that `except` binds ends with it
        await core.write(lambda tx: kind.failed(tx, delivery, failure, now, again))
        last = outbound.complained.get((kind.name, delivery.place), {}).get(type(error))
        if last is None or now - last >= LOG_INTERVAL:
            outbound.complained.setdefault((kind.name, delivery.place), {})[type(error)] = now
            kind.complain(delivery.place, error)
        return error
    now = core.now()
    await core.write(lambda tx: kind.delivered(tx, delivery, seen, now))
    outbound.complained.pop((kind.name, delivery.place), None)
    return None


@dataclass(frozen=True)
class Waiting:
    """What a place lacks: how much, since when, and why the last attempt failed ("": none did)."""

    count: int
    since: str
    failure: str


class Rows:
    """Deliveries as rows of a table of their own, with the columns that several kinds have.

    These are id, target, created_at, attempts, next_attempt_at, delivered_at and failure.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def due(self, connection: Connection, places: Sequence[str], now: datetime) -> list[str]:
        """Those of `places` that something is due for."""
        c = self._table.c
        return list(
            connection.execute(
                select(c.target)
                .distinct()
                .where(
                    c.delivered_at.is_(None),
                    c.next_attempt_at <= stamp(now),
                    c.target.in_(places),
                )
            ).scalars()
        )

    def next(self, connection: Connection, place: str, now: datetime | None) -> Delivery | None:
        """As `Kind.next`."""
        c = self._table.c
        query = select(self._table).where(c.delivered_at.is_(None), c.target == place)
        if now is not None:
            query = query.where(c.next_attempt_at <= stamp(now))
        row = connection.execute(query.order_by(c.next_attempt_at, c.id).limit(1)).one_or_none()
        return None if row is None else Delivery(place, row.attempts, row)

    def delivered(self, connection: Connection, row: Row[Any], now: datetime) -> None:
        """One is there. A place that answers again is not kept waiting with what else it lacks."""
        c = self._table.c
        connection.execute(
            update(self._table)
            .where(c.id == row.id, c.delivered_at.is_(None))
            .values(delivered_at=stamp(now), failure="")
        )
        connection.execute(
            update(self._table)
            .where(c.target == row.target, c.delivered_at.is_(None), c.attempts > 0)
            .values(next_attempt_at=stamp(now))
        )

    def failed(
        self, connection: Connection, row: Row[Any], error: VaultError, again: datetime
    ) -> None:
        """One is not there, and is put off; if the place failed, so is whatever else waits for it."""
        c = self._table.c
        waits = (c.target == row.target, c.delivered_at.is_(None))
        connection.execute(
            update(self._table).where(*waits, c.id == row.id).values(failure=str(error)[:DETAIL])
        )
        others = c.attempts <= row.attempts if isinstance(error, PlaceError) else c.id == row.id
        connection.execute(
            update(self._table)
            .where(*waits, others)
            .values(attempts=row.attempts + 1, next_attempt_at=stamp(again))
        )

    def waiting(self, connection: Connection) -> dict[str, Waiting]:
        """What each place lacks."""
        c = self._table.c
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
