"""The login wing: penalties and counts, where passwords are checked, host keys, and whose sessions live.

Promises: what was remembered of earlier logins is loaded before anyone calls; an account's live sessions end
when its rights change. Leaves out: one connection's login (`login`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from gateway.core.core import Core
from gateway.core.login.host_keys import HostKeys
from gateway.core.login.passwords import PasswordQueue
from gateway.core.login.throttle_store import LoginRecords


class Logins:
    """What the wing holds while the core runs."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.live: dict[str, set[Callable[[], None]]] = {}  # account id → how to end its sessions

    def load(self) -> None:
        """Read what is remembered and the host keys, before anyone calls (blocks)."""
        _ = (self.records, self.host_keys)

    def close(self) -> None:
        """End the threads that check passwords."""
        if "passwords" in self.__dict__:
            self.passwords.close()

    @functools.cached_property
    def records(self) -> LoginRecords:
        """Penalties and counts of logins, with what was remembered of them."""
        records = LoginRecords(self.core.config.login)
        self.core.store.catalogue.read(records.load)
        return records

    @functools.cached_property
    def passwords(self) -> PasswordQueue:
        """Where passwords are checked."""
        return PasswordQueue()

    @functools.cached_property
    def host_keys(self) -> HostKeys:
        """The SSH host keys of the store's house."""
        return HostKeys(self.core)

    def enter(self, account_id: str, hang_up: Callable[[], None]) -> None:
        """Count a session among the live ones of its account."""
        self.live.setdefault(account_id, set()).add(hang_up)

    def leave(self, account_id: str, hang_up: Callable[[], None]) -> None:
        """Take it off again; harmless for one that is not there."""
        live = self.live.get(account_id)
        if live is not None:
            live.discard(hang_up)
            if not live:
                del self.live[account_id]

    def end_sessions(self, account_id: str) -> None:
        """End the live sessions of an account, over SFTP and for mail: its rights have changed."""
        for hang_up in tuple(self.live.get(account_id, ())):
            hang_up()
