"""What every room of the core is given: configuration, store, rules, clock, and the four verbs.

Promises: `read`, `glance`, `write` and `record` are the only ways to the catalogue and the ledger. Time is
read through `now()` once per operation; `clock` refuses what goes by a date under one that jumped. It decides
nothing.
Leaves out: whatever a wing has under way; that is the wing's own (`gateway.core.wings`).

    await core.write(lambda tx: core.record(tx, "client.closed", client, actor, now))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection

from gateway.config import Config
from gateway.core.clock import StoreClock
from retention_rules.model import RuleBook
from vault.catalogue.store import Transaction
from vault.store import Store

T = TypeVar("T")

ACTOR_CORE: Final = "core"

log = structlog.get_logger("core")


def utc_now() -> datetime:
    """The system's clock, aware UTC."""
    return datetime.now(UTC)


def raised_at(error: BaseException) -> str:
    """Where in the code an error came from, for one whose text could hold a secret."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}" if frame else "?"


class Core:
    """The open store and what belongs to it."""

    def __init__(
        self, config: Config, store: Store, rules: RuleBook, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.config = config
        self.store = store
        self.rules = rules
        self._clock = clock
        self.clock = StoreClock(
            store.catalogue, clock, timedelta(days=config.clock.longest_absence_days)
        )

    def close(self) -> None:
        self.store.close()

    def now(self) -> datetime:
        """The time of an operation: read it once and pass it on."""
        return self._clock()

    def received_time(self, now: datetime) -> datetime:
        """When a document counts as received: never earlier than it was, whatever the clock says.

        Periods that run from receipt begin there: a clock that fell back must not end one early.
        """
        return max(now, self.clock.steady())

    async def write(self, work: Callable[[Transaction], T], *, background: bool = False) -> T:
        """Run a work on the writing thread; durable on return.

        Args:
            background: nobody waits for it: others go first.
        """
        return await asyncio.wrap_future(self.store.catalogue.submit(work, background=background))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a reading work on a thread of the pool."""
        return await asyncio.to_thread(self.store.catalogue.read, work)

    def glance(self, work: Callable[[Connection], T]) -> T:
        """Run a work that reads a few indexed rows, here and now: microseconds on the loop."""
        return self.store.catalogue.glance(work)

    def record(
        self,
        tx: Transaction,
        kind: str,
        subject: str,
        actor: str,
        now: datetime,
        **facts: Any,
    ) -> int:
        """Append a ledger entry inside a transaction; returns its index."""
        return tx.ledger.append(
            tx.connection, kind=kind, subject=subject, actor=actor, at=now, facts=facts
        )
