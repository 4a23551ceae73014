"""What the core holds while it runs: the open store, the rules, the clock, and who is waiting for work.

`Core` is the one argument that the journey's steps share. It decides nothing. Time is read through
`now()` once per operation; `clock` refuses what goes by a date under one that jumped.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from sqlalchemy import Connection

from gateway.config import Config
from gateway.core.clock import StoreClock
from gateway.core.login.password_queue import GuessDesk
from gateway.errors import ConfigurationError, Refusal
from retention_rules.errors import RetentionError
from retention_rules.model import RuleBook
from retention_rules.parser import load_rulebook
from vault.catalogue.store import Transaction
from vault.keys.root import PKCS11, RootKey, create_root_key, load_root_key
from vault.storage.durable import sync_directory
from vault.store import Store

if TYPE_CHECKING:
    from gateway.core.login.host_keys import HostKeys
    from gateway.core.login.throttle_store import LoginRecords

T = TypeVar("T")

ACTOR_CORE: Final = "core"

log = structlog.get_logger("core")


def _sibling(root_key: str) -> str | None:
    """Where the file of the next root key lies while it replaces the one in a file; None: no file."""
    if not root_key or root_key.startswith(PKCS11):
        return None
    if Path(root_key).parent == Path(os.environ.get("CREDENTIALS_DIRECTORY", "/dev/null")):
        return None
    return f"{root_key}.next"


def _exists(root_key: str) -> bool:
    if root_key.startswith(PKCS11):
        from vault.keys import pkcs11

        return pkcs11.exists(root_key)
    return Path(root_key).exists()


def load_roots(config: Config) -> tuple[RootKey, RootKey | None]:
    """The root key, and the one that is to replace it, or has done so already (raises VaultError)."""
    root = load_root_key(config.root_key)
    following = config.next_root_key or _sibling(config.root_key)
    return root, load_root_key(following) if following and _exists(following) else None


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
        self.errand_work = asyncio.Event()
        self.executing: set[str] = set()  # batches in execution now
        self.rotating: set[str] = set()  # rotations in hand now
        self.background: set[asyncio.Future[Any]] = set()  # begun for someone who may go away
        self.live: dict[str, set[Callable[[], None]]] = {}  # account id → how to end its sessions
        # Whoever ends key groups, or needs them to stand still, holds it: destruction, rotation, backup.
        self.keys_lock = asyncio.Lock()
        self.followed_up = False  # all batches were looked at once since the start
        self.certifying = asyncio.Lock()  # one follow-up certificate at a time
        self.checkpointed = -1  # ledger size at the last checkpoint job

    @classmethod
    def open(cls, config: Config, clock: Callable[[], datetime] = utc_now) -> Core:
        """Open everything the configuration names.

        Raises:
            ConfigurationError: the rule packs can't be used. VaultError: store or root key can't.
        """
        try:
            rules = load_rulebook(
                config.retention.packs,
                config.resolve(config.retention.directory) if config.retention.directory else None,
            )
        except RetentionError as error:
            raise ConfigurationError(str(error)) from error
        if unknown := sorted(set(config.access.restricted) - set(rules.record_classes)):
            raise ConfigurationError(
                f"{config.source}: key access.restricted: expected classes that the rules know,"
                f" found {', '.join(unknown)}"
            )
        root, new = load_roots(config)
        copies = [copy.name for copy in config.keyring.copies]
        core = cls(config, Store.open(config.store_path, root, copies, new), rules, clock)
        if new is not None and core.store.custody.keyrings.root.id == new.id:
            # A crash came between the change of the root key and the change of its file.
            core.adopt_next_root()
        return core

    def prepare_next_root(self) -> None:
        """Have the root key ready that is to replace the present one.

        Raises:
            Refusal: none is configured, and the present one is not a file beside which one can be made.
            VaultError: it can't be made or loaded.
        """
        if self.store.next_root is not None:
            return
        present = self.config.root_key
        if self.config.next_root_key:
            following: str = self.config.next_root_key
        else:
            sibling = _sibling(present)
            if sibling is None:
                raise Refusal(
                    "invalid",
                    "root key: expected store.next_root_key in the configuration, found none;"
                    " only a root key in a file can be replaced without",
                )
            following = sibling
        if not _exists(following):
            create_root_key(following)
        new = load_root_key(following)
        if new.id == self.store.custody.keyrings.root.id:
            raise Refusal(
                "invalid", "root key: expected another one to change to, found the present one"
            )
        self.store.next_root = new

    def adopt_next_root(self) -> None:
        """Put the file of the new root key in the place of the old one, once everything is under it."""
        self.store.next_root = None
        sibling = _sibling(self.config.root_key)
        if self.config.next_root_key or sibling is None or not Path(sibling).exists():
            log.warning(
                "root key changed: set store.root_key to the value of store.next_root_key",
                root=self.store.custody.keyrings.root.id,
            )
            return
        path = Path(self.config.root_key)
        # The old key stays until someone removes it: copies of keyrings that have not followed yet open with
        # it alone, and nobody has a copy of the new one so far.
        former = path.with_name(f"{path.name}.old")
        former.unlink(missing_ok=True)
        os.link(path, former)  # the name itself is never missing, whenever a crash comes
        Path(sibling).replace(path)
        sync_directory(path.parent)
        log.warning(
            "root key changed", former=str(former), root=self.store.custody.keyrings.root.id
        )

    @functools.cached_property
    def logins(self) -> LoginRecords:
        """Penalties and counts of logins, with what was remembered of them."""
        from gateway.core.login.throttle_store import LoginRecords

        records = LoginRecords(self.config.login)
        self.store.catalogue.read(records.load)
        return records

    @functools.cached_property
    def guesses(self) -> GuessDesk:
        """Where passwords are checked."""
        return GuessDesk()

    @functools.cached_property
    def host_keys(self) -> HostKeys:
        """The SSH host keys of the store's house."""
        from gateway.core.login.host_keys import HostKeys

        return HostKeys(self)

    def close(self) -> None:
        self.guesses.close()
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
