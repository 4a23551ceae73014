"""A store: catalogue, keyrings, sealed files and ledger as one thing that is made, locked and opened.

`Store.create` makes one and refuses to touch what is there; `Store.open` refuses a missing one, a second
opener and a wrong root key, each with one sentence. Nothing here decides anything about documents.

Layout below the store's folder (all 0700/0600):
    lock                 held (flock) by the one process that has the store open
    catalogue.sqlite3    vault/catalogue
    keyrings/            one sealed file per client, and `house`
    blobs/               sealed documents (vault/blobs.py)
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select

from vault.blobs import LocalBlobStore
from vault.catalogue.schema import clients, settings
from vault.catalogue.store import Catalogue, Transaction
from vault.custody import HOUSE, Custody
from vault.durable import make_directory
from vault.errors import StoreExists, StoreLocked, StoreMissing, VaultError, WrongRootKey
from vault.ids import new_id
from vault.keyring import KeyringStore
from vault.note import verifier_key
from vault.root import RootKey

FORMAT_VERSION: Final = "1"
SECRET_LEDGER: Final = "ledger-signing-key"  # noqa: S105  the name of a secret, not one
SECRET_ACCOUNTS: Final = "accounts"  # noqa: S105  the name of a secret, not one
SECRET_INDEX: Final = "index"  # noqa: S105  the name of a secret, not one
SECRET_PROFILE: Final = "profile"  # noqa: S105  the name of a secret, not one
_LOCK: Final = "lock"
_CATALOGUE: Final = "catalogue.sqlite3"
_KEYRINGS: Final = "keyrings"
_BLOBS: Final = "blobs"


class Store:
    """An open store. Attributes: `catalogue`, `custody`, `blobs`, `origin`, `vkey`, `ledger_key`."""

    def __init__(self, path: Path, lock: int, root: RootKey, copies: Sequence[str] = ()) -> None:
        self.path = path
        self._lock = lock
        self.catalogue = Catalogue.open(path / _CATALOGUE)
        try:
            facts = self.catalogue.read(
                lambda connection: {
                    row.key: row.value for row in connection.execute(select(settings))
                }
            )
            if facts.get("format") != FORMAT_VERSION:
                raise VaultError(
                    f"{path}: expected a store of format {FORMAT_VERSION},"
                    f" found {facts.get('format', 'none')}"
                )
            if facts["root_key_id"] != root.id:
                raise WrongRootKey(
                    f"{path}: expected root key {facts['root_key_id']}, found {root.id}"
                )
            self.origin: str = facts["origin"]
            self.blobs = LocalBlobStore(path / _BLOBS)
            self.custody = Custody(KeyringStore(path / _KEYRINGS, root), copies)
            house = self.custody.keyring(HOUSE)
            self.ledger_key = Ed25519PrivateKey.from_private_bytes(house.secrets[SECRET_LEDGER])
            self.vkey = verifier_key(self.origin, self.ledger_key.public_key())
        except BaseException:
            self.catalogue.close()
            raise

    @classmethod
    def create(
        cls, path: Path, root: RootKey, now: datetime, house_secrets: dict[str, bytes]
    ) -> Store:
        """Make an empty store at `path` and open it.

        Args:
            house_secrets: what else the house's keyring is to hold (host keys, say), by name.

        Raises:
            StoreExists: there is something at `path`.
        """
        if path.exists() and any(path.iterdir()):
            raise StoreExists(f"{path}: expected no store, found one")
        make_directory(path)
        lock = _acquire(path)
        try:
            make_directory(path / _KEYRINGS)
            LocalBlobStore.create(path / _BLOBS)
            store_id = new_id(now)
            origin = f"strongroom.invalid/{store_id.lower()}"
            KeyringStore(path / _KEYRINGS, root).create(
                HOUSE,
                {
                    **house_secrets,
                    SECRET_LEDGER: Ed25519PrivateKey.generate().private_bytes_raw(),
                    SECRET_ACCOUNTS: secrets.token_bytes(32),
                },
            )
            catalogue = Catalogue.create(path / _CATALOGUE)
            try:
                catalogue.write(
                    lambda tx: (
                        tx.connection.execute(
                            insert(settings),
                            [
                                {"key": "format", "value": FORMAT_VERSION},
                                {"key": "store_id", "value": store_id},
                                {"key": "root_key_id", "value": root.id},
                                {"key": "origin", "value": origin},
                                {"key": "created_at", "value": now.isoformat()},
                            ],
                        ),
                        tx.ledger.append(
                            tx.connection,
                            kind="store.created",
                            subject=store_id,
                            actor="console",
                            at=now,
                        ),
                    )
                )
            finally:
                catalogue.close()
            return cls(path, lock, root)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def open(cls, path: Path, root: RootKey, copies: Sequence[str] = ()) -> Store:
        """Open the store at `path`.

        Args:
            copies: names of the registered copies of keyrings.

        Raises:
            StoreMissing, StoreLocked, WrongRootKey: what each says.
        """
        if not (path / _CATALOGUE).is_file():
            raise StoreMissing(f"{path}: expected a store, found none; `strongroom init` makes one")
        lock = _acquire(path)
        try:
            return cls(path, lock, root, copies)
        except BaseException:
            os.close(lock)
            raise

    def recover(self, now: datetime) -> list[str]:
        """Put right what a crash between two durable writes can leave in keyrings and their copies.

        Keys without a row are dropped; a copy registered since is noted as missing everything.

        Returns:
            One line for each thing put right.
        """

        def work(tx: Transaction) -> list[str]:
            owners = list(
                tx.connection.execute(
                    select(clients.c.id).where(clients.c.state == "open")
                ).scalars()
            )
            done = [
                f"keyring of client {owner}: dropped group {group_id} that has no row"
                for owner in owners
                for group_id in self.custody.reconcile(tx.connection, owner, now)
            ]
            # A client is closed in one transaction and its keyring ended after it: finish that.
            closed = set(
                tx.connection.execute(
                    select(clients.c.id).where(clients.c.state == "closed")
                ).scalars()
            )
            for owner in closed.intersection(self.custody.owners()):
                self.custody.end(tx.connection, owner, now)
                done.append(f"keyring of client {owner}: ended, as the client is closed")
            self.custody.complete_copies(tx.connection, owners, now)
            return done

        return self.catalogue.write(work)

    def close(self) -> None:
        """Close the catalogue and let go of the lock."""
        self.catalogue.close()
        os.close(self._lock)


def _acquire(path: Path) -> int:
    """Take the store's lock; the descriptor holds it until it is closed."""
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreLocked(
            f"{path}: expected to be the only one with this store open, found another process"
        ) from error
    return lock
