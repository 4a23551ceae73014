"""The keyrings of a store as they are open in memory: loaded once, saved with every change, ended.

Promises: nobody sees a keyring that was replaced or ended; every change asks the registered copies to follow,
in the same transaction. A keyring that did not open is remembered with the reason. Leaves out: what the keys
in them wrap (`custody`), and the files (`keyring`).

Rule: keyrings change on the catalogue's writing thread only (inside a work), so that no two changes can race
and every change sees the one before it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, select, update

from vault.catalogue.schema import groups
from vault.crypto.wrapping import KEY
from vault.errors import IntegrityError, KeyUnavailable, VaultError
from vault.keys import copies
from vault.keys.keyring import Keyring, KeyringStore
from vault.moments import stamp

HOUSE: Final = "house"
"""Who owns the keyring of the installation itself."""


class OpenKeyrings:
    """The keyrings of a store, open in memory."""

    def __init__(self, keyrings: KeyringStore, targets: Sequence[str] = ()) -> None:
        """`targets`: names of the registered copies, which must follow every change."""
        self._store = keyrings
        self._targets = tuple(targets)
        self._open: dict[str, Keyring] = {}
        self.broken: dict[str, str] = {}  # owners whose keyring did not open last, and why
        # Readers load keyrings on threads of their own: none may put back one that was replaced or ended.
        self._lock = threading.RLock()

    def keyring(self, owner: str) -> Keyring:
        """The keyring of a client (by id) or of the house.

        Raises:
            KeyUnavailable: it has ended or never was. WrongRootKey: it is under another root key.
        """
        keyring = self._open.get(owner)
        if keyring is None:
            with self._lock:
                keyring = self._open.get(owner)
                if keyring is None:
                    try:
                        keyring = self._open[owner] = self._store.load(owner)
                    except (IntegrityError, KeyUnavailable) as error:
                        error.owner, self.broken[owner] = owner, str(error)
                        raise
                    self.broken.pop(owner, None)
        return keyring

    def create(
        self, connection: Connection, owner: str, secrets: dict[str, bytes], now: datetime
    ) -> Keyring:
        """Make and save a keyring for a new client."""
        with self._lock:
            keyring = self._open[owner] = self._store.create(owner, secrets)
        copies.request(connection, self._targets, owner, now)
        return keyring

    def save(self, connection: Connection, owner: str, now: datetime) -> int:
        """Write a changed keyring under a new epoch key, durable on return; its copies must follow.

        Returns:
            The new epoch. On failure the keyring in memory is what is on disk again.
        """
        with self._lock:
            keyring = self.keyring(owner)
            try:
                self._store.save(keyring)
            except BaseException:
                self._open.pop(owner, None)
                raise
        copies.request(connection, self._targets, owner, now)
        return keyring.epoch

    def ensure_secret(self, connection: Connection, owner: str, name: str, now: datetime) -> bytes:
        """The secret `name` of a keyring, made (32 bytes) and saved if it is not there yet."""
        return self.ensure(connection, owner, name, lambda: secrets.token_bytes(KEY), now)

    def ensure(
        self,
        connection: Connection,
        owner: str,
        name: str,
        make: Callable[[], bytes],
        now: datetime,
    ) -> bytes:
        """The secret `name` of a keyring, made by `make` and saved if it is not there yet."""
        keyring = self.keyring(owner)
        if name not in keyring.secrets:
            keyring.secrets[name] = make()
            self.save(connection, owner, now)
        return keyring.secrets[name]

    def restore(self, connection: Connection, owner: str, content: bytes, now: datetime) -> Keyring:
        """Put a registered copy in the place of a keyring that does not open, or lacks a living group.

        Its copies must follow.

        Raises:
            RuntimeError: the keyring is whole. VaultError: it can't be told, or the copy does not open or is
                too old; nothing was changed.
        """
        living = list(
            connection.execute(
                select(groups.c.id).where(
                    groups.c.client_id == owner, groups.c.dropped_at.is_(None)
                )
            ).scalars()
        )
        with self._lock:
            try:
                present = set(self._store.load(owner).groups)
            except (IntegrityError, KeyUnavailable):
                pass  # damaged or gone; a disk or token that does not answer, or another root key, is neither
            else:
                if present.issuperset(living):
                    raise RuntimeError(f"keyring {owner}: expected one that does not open")
            try:
                there = self._store.epoch_of(owner)
            except VaultError:
                there = 0  # its head is damaged, too
            above = max(there, copies.newest_epoch(connection, owner))
            keyring = self._open[owner] = self._store.restore(
                owner, content, living=living, above=above
            )
            self.broken.pop(owner, None)
        copies.request(connection, self._targets, owner, now)
        return keyring

    def owners(self) -> list[str]:
        """Whose keyrings are on disk, the house's included."""
        return self._store.owners()

    def stored(self, owner: str) -> Keyring:
        """The keyring as it is on disk now, for whoever verifies (raises as `keyring`)."""
        return self._store.load(owner)

    @property
    def keyrings(self) -> KeyringStore:
        """The keyring files, for whoever replaces the root key."""
        return self._store

    def epochs_left(self, owner: str) -> tuple[int, ...] | None:
        """See `KeyringStore.epochs_left`."""
        return self._store.epochs_left(owner)

    def end(self, connection: Connection, owner: str, now: datetime) -> None:
        """Destroy a keyring for good: everything of its owner is noise from here on."""
        with self._lock:
            self._store.destroy(owner)
            self._open.pop(owner, None)
        connection.execute(
            update(groups)
            .where(groups.c.client_id == owner, groups.c.dropped_at.is_(None))
            .values(ended_at=func.coalesce(groups.c.ended_at, stamp(now)), dropped_at=stamp(now))
        )
        copies.request(connection, self._targets, owner, now)

    def complete_copies(self, connection: Connection, owners: Sequence[str], now: datetime) -> None:
        """Give a newly registered copy what it never had."""
        copies.request_missing(connection, self._targets, [HOUSE, *owners], now)

    def sealed_file(self, owner: str) -> bytes:
        """The sealed keyring file as it stands, for its registered copies."""
        return self._store.path(owner).read_bytes()
