"""What the core holds while it runs: the open store, the rules, the clock, and who is waiting for work.

`Core` is the one argument that the journey's steps share. It decides nothing. Time is read through
`now()` once per operation; `clock` refuses what goes by a date under one that jumped.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from sqlalchemy import Connection

from gateway.config import Config
from gateway.core.clock import StoreClock
from gateway.core.login.password_queue import PasswordQueue
from retention_rules.model import RuleBook
from vault.catalogue.store import Transaction
from vault.store import Store

if TYPE_CHECKING:
    from gateway.core.login.host_keys import HostKeys
    from gateway.core.login.throttle_store import LoginRecords

T = TypeVar("T")

ACTOR_CORE: Final = "core"

log = structlog.get_logger("core")


def utc_now() -> datetime:
    """The system's clock, aware UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """A moment as the catalogue stores it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class Core:
    """The core's open parts."""

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
        self.live: dict[str, set[Callable[[], None]]] = {}  # account id → how to end its sessions
        self.checkpointed = -1  # ledger size at the last checkpoint job

    @functools.cached_property
    def logins(self) -> LoginRecords:
        """Penalties and counts of logins, with what was remembered of them."""
        from gateway.core.login.throttle_store import LoginRecords

        records = LoginRecords(self.config.login)
        self.store.catalogue.read(records.load)
        return records

    @functools.cached_property
    def passwords(self) -> PasswordQueue:
        """Where passwords are checked."""
        return PasswordQueue()

    @functools.cached_property
    def host_keys(self) -> HostKeys:
        """The SSH host keys of the store's house."""
        from gateway.core.login.host_keys import HostKeys

        return HostKeys(self)

    def close(self) -> None:
        self.passwords.close()
        self.store.close()

    def now(self) -> datetime:
        """The time of an operation: read it once and pass it on."""
        return self._clock()

    def received_time(self, now: datetime) -> datetime:
        """When a document counts as received: never earlier than it was, whatever the clock says.

        Periods that run from receipt begin there: a clock that fell back must not end one early.
        """
        return max(now, self.clock.steady())

    def end_sessions(self, account_id: str) -> None:
        """End the live SFTP sessions of an account: its rights have changed."""
        for hang_up in tuple(self.live.get(account_id, ())):
            hang_up()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run a work on the writing thread; durable on return."""
        return await asyncio.wrap_future(self.store.catalogue.submit(work))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a reading work on a thread of the pool."""
        return await asyncio.to_thread(self.store.catalogue.read, work)

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
