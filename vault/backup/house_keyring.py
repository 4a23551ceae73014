"""Bringing back the house's keyring: without it no store opens, so this works on one that nobody has open.

Promises: a house keyring that opens is never replaced. A copy takes the place of one that does not only if
it opens under the root key, is not older than any copy that was ever read back, and holds the key that signed
the newest checkpoint of the ledger that lies there. The broken file is kept aside until the store was opened
with the restored one. Nothing else of the store is changed but a ledger entry, `keyring.restored`.

Leaves out: clients' keyrings (`vault.keys.custody`), which the core brings back while it serves.

Steps: (1) the lock: no core runs; (2) the present one does not open; (3) the copy is good; (4) the broken one
gets a second name; (5) COMMIT POINT: the copy, under a fresh epoch, is in its place and read back; (6) the
store opens with it; (7) entry and copies; (8) the broken one goes. A crash before 5 leaves the broken one,
after it the restored one, with the broken one beside it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select
from sqlalchemy.exc import DatabaseError

from vault.backup import format as backup_format
from vault.catalogue import diagnosis, ledger
from vault.catalogue.ledger_keys import verify_by_any
from vault.catalogue.schema import settings
from vault.catalogue.store import Transaction
from vault.errors import IntegrityError, KeyUnavailable, StoreExists, StoreMissing, VaultError
from vault.keys import copies
from vault.keys.keyring import Keyring, KeyringStore
from vault.keys.open_keyrings import HOUSE
from vault.keys.root import RootKey
from vault.keys.secret_names import SECRET_LEDGER, SECRET_NEXT_LEDGER
from vault.ledger.note import NoteError, verifier_key
from vault.storage.durable import make_directory, remove_durably, storage_error, write_durably
from vault.store import Store, locked

BROKEN: Final = "house.keyring.broken"
_CATALOGUE: Final = "catalogue.sqlite3"


def restore(
    path: Path,
    root: RootKey,
    content: bytes,
    now: datetime,
    actor: str,
    targets: Sequence[str] = (),
    next_root: RootKey | None = None,
) -> Keyring:
    """Put a copy in the place of a house keyring that does not open.

    Args:
        path: the store's folder.
        content: the copy, as a registered place holds it.
        actor: who does it, for the ledger.
        targets: names of the registered copies, which follow.

    Raises:
        StoreLocked: a core runs. StoreExists: the keyring opens. WrongRootKey, IntegrityError,
        KeyUnavailable: the copy is not good enough; nothing was changed.
    """
    catalogue = path / _CATALOGUE
    if not catalogue.is_file():
        raise StoreMissing(f"{catalogue}: expected the catalogue of the store, found none")
    diagnosis.expect_file(catalogue)
    lock = locked(path)
    try:
        folder = path / "keyrings"
        if not folder.is_dir():
            make_directory(folder)
        roots = [each for each in (next_root,) if each is not None]
        keyrings = KeyringStore(folder, root, roots)
        there = _expect_broken(keyrings)
        try:
            with backup_format.snapshot_connection(catalogue) as connection:
                newest = _expect_ours(connection, keyrings.opened(HOUSE, content))
        except (sqlite3.DatabaseError, DatabaseError) as error:
            raise diagnosis.unreadable(catalogue, error) from error
        aside = _keep_aside(keyrings.path(HOUSE), folder / BROKEN)
        keyring = keyrings.restore(HOUSE, content, living=(), above=max(there, newest))
    except BaseException:
        os.close(lock)
        raise
    store = Store.resume(path, lock, root, targets, next_root)
    try:
        store.catalogue.write(lambda tx: _record(tx, actor, keyring, targets, now))
    finally:
        store.close()
    if aside:
        remove_durably(folder / BROKEN)
    return keyring


def _record(
    tx: Transaction, actor: str, keyring: Keyring, targets: Sequence[str], now: datetime
) -> None:
    tx.ledger.append(
        tx.connection,
        kind="keyring.restored",
        subject=HOUSE,
        actor=actor,
        at=now,
        facts={"epoch": keyring.epoch},
    )
    copies.request(tx.connection, targets, HOUSE, now)


def _expect_broken(keyrings: KeyringStore) -> int:
    """The epoch of the present keyring, which does not open; 0 if that can't be told."""
    try:
        keyrings.load(HOUSE)
    except (IntegrityError, KeyUnavailable):
        pass
    else:
        raise StoreExists(
            f"keyring {HOUSE}: expected one that does not open, found it whole; nothing was changed"
        )
    try:
        return keyrings.epoch_of(HOUSE)
    except VaultError:
        return 0


def _expect_ours(connection: Connection, copy: Keyring) -> int:
    """The newest epoch that was ever read back, which the copy has, with the ledger's key."""
    newest = copies.newest_epoch(connection, HOUSE)
    if copy.epoch < newest:
        raise KeyUnavailable(
            f"copy of keyring {HOUSE}: expected epoch {newest} or later, found {copy.epoch}; take a newer"
            " copy"
        )
    origin = connection.execute(select(settings.c.value).where(settings.c.key == "origin")).scalar()
    note = ledger.latest_checkpoint(connection)
    keys = [
        verifier_key(
            str(origin), Ed25519PrivateKey.from_private_bytes(copy.secrets[name]).public_key()
        )
        for name in (SECRET_LEDGER, SECRET_NEXT_LEDGER)
        if name in copy.secrets
    ]
    if note is not None:
        try:
            verify_by_any(note, keys)
        except NoteError as error:
            raise KeyUnavailable(
                f"copy of keyring {HOUSE}: expected the key that signed this store's newest checkpoint, found"
                " another: it is another store's, or too old; take a newer copy"
            ) from error
    return newest


def _keep_aside(broken: Path, aside: Path) -> bool:
    """Give the broken file a second name; whether there is one."""
    try:
        content = broken.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, "read", broken) from error
    write_durably(aside, content)
    return True
