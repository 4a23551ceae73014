"""A store: catalogue, keyrings, sealed files and ledger as one thing that is made, locked and opened.

`Store.create` makes one and refuses to touch what is there; `Store.open` refuses a missing one, a second
opener and a wrong root key, each with one sentence. Nothing here decides anything about documents.

Layout below the store's folder (all 0700/0600):
    lock                 held (flock) by the one process that has the store open
    catalogue.sqlite3    vault/catalogue
    catalogue.at-rest    its seal while nobody has the store open (vault/storage/at_rest.py)
    changed-at-rest      what was found changed then, until someone acknowledges it
    keyrings/            one sealed file per client, and `house`
    blobs/               sealed documents (vault/storage/blobs.py)
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Row, insert, select

from vault.catalogue import diagnosis, ledger_keys, queries
from vault.catalogue.schema import clients, settings
from vault.catalogue.states import ClientState
from vault.catalogue.store import Catalogue, Transaction
from vault.crypto.wrapping import derive_key
from vault.errors import (
    IntegrityError,
    KeyUnavailable,
    StoreExists,
    StoreLocked,
    StoreMissing,
    VaultError,
    WrongRootKey,
)
from vault.ids import new_id
from vault.keys import copies
from vault.keys.custody import Custody
from vault.keys.keyring import KeyringStore
from vault.keys.open_keyrings import HOUSE
from vault.keys.root import RootKey
from vault.keys.secret_names import SECRET_ACCOUNTS, SECRET_LEDGER, SECRET_NEXT_LEDGER
from vault.ledger.note import verifier_key
from vault.storage import at_rest
from vault.storage.blobs import LocalBlobStore
from vault.storage.durable import make_directory, remove_durably, write_durably

FORMAT_VERSION: Final = "1"
_SETTINGS: Final = frozenset({"format", "store_id", "root_key_id", "origin"})
_LOCK: Final = "lock"
_CATALOGUE: Final = "catalogue.sqlite3"
_SEAL: Final = "catalogue.at-rest"
_CHANGED: Final = "changed-at-rest"
_KEYRINGS: Final = "keyrings"
_BLOBS: Final = "blobs"


def missing(path: Path) -> str:
    """What to say where there is no catalogue: what is there, what is missing, what to do."""
    found = (("blobs/objects", "*/*"), ("keyrings", "*.keyring"))
    rest = [folder for folder, files in found if any((path / folder).glob(files))]
    if not rest:
        return f"{path}: expected a store, found none; `strongroom init` makes one"
    return (
        f"{path / _CATALOGUE}: expected the catalogue of the store, found none beside {' and '.join(rest)}:"
        " do not make a new store here. Put the catalogue's file back where it was moved, or restore a"
        " backup into another folder with `strongroom backup restore`, with these keyrings"
    )


class Store:
    """An open store. Attributes: `catalogue`, `custody`, `blobs`, `origin`, `vkeys` (oldest first)."""

    def __init__(
        self,
        path: Path,
        lock: int,
        root: RootKey,
        copies: Sequence[str] = (),
        next_root: RootKey | None = None,
    ) -> None:
        self.path = path
        self._lock = lock
        # While the root key is being replaced, keyrings are under either of the two.
        roots = {each.id: each for each in (root, next_root) if each is not None}
        keyrings = _keyrings(path, root, roots.values())
        # Before SQLite gets to write to the file.
        self._seal_key = _seal_key(keyrings)
        self._look_at_rest()
        self.catalogue = Catalogue.open(path / _CATALOGUE)
        try:
            facts = self.catalogue.read(
                lambda connection: {
                    row.key: row.value for row in connection.execute(select(settings))
                }
            )
            if lacking := _SETTINGS - set(facts):
                raise diagnosis.lacks(self.catalogue.path, "setting", lacking)
            if facts["format"] != FORMAT_VERSION:
                raise VaultError(
                    f"{path}: expected a store of format {FORMAT_VERSION}, found {facts['format']}:"
                    " install the software that wrote it"
                )
            present = roots.get(facts["root_key_id"])
            if present is None:
                raise WrongRootKey(self._other_root(facts["root_key_id"], root))
            self.next_root = next((each for each in roots.values() if each is not present), None)
            self.origin: str = facts["origin"]
            self.blobs = _blobs(path)
            keyrings.use_root(present)
            self.custody = Custody(keyrings, copies, self._document)
            self._expect_house()
            self.refresh_ledger_keys()
        except BaseException:
            self.catalogue.close()
            raise

    def _expect_house(self) -> None:
        """The house's keyring opens; else what to do is said with what is wrong."""
        try:
            self.custody.keyring(HOUSE)
        except (IntegrityError, KeyUnavailable) as error:
            good = self.catalogue.read(lambda c: copies.good_copies(c, HOUSE))
            places = ", ".join(f"{place} (epoch {epoch})" for place, epoch in good)
            mend = (
                f"{error}; without it nothing here opens. Fetch house.keyring from a registered copy (read"
                f" back last at: {places or 'no place, none is registered'}) and run"
                " `strongroom keys restore house house.keyring`"
            )
            if isinstance(error, IntegrityError):
                raise IntegrityError(mend, kind=error.kind) from error
            raise KeyUnavailable(mend) from error

    def _other_root(self, stated: str, root: RootKey) -> str:
        """What to say of a catalogue that is not under the root key at hand."""
        if self._seal_key is None:
            return (
                f"{self.path}: expected root key {stated}, found {root.id}: put the right one where"
                " `store.root_key` says"
            )
        return (
            f"{self.path / _CATALOGUE}: expected the catalogue of the keyrings beside it, under root key"
            f" {root.id}, found one under root key {stated}: another store's, or an older one. Put this"
            " store's own back, or restore a backup into another folder with `strongroom backup restore`"
        )

    def _look_at_rest(self) -> None:
        """Whether the catalogue is as it was closed; a finding stays until someone acknowledges it."""
        if self._seal_key is None:
            return
        found = at_rest.changes(self.path / _CATALOGUE, self.path / _SEAL, self._seal_key)
        if found is not None:
            write_durably(self.path / _CHANGED, f"{found}\n".encode())
        at_rest.unseal(self.path / _SEAL)

    @property
    def changed_at_rest(self) -> str | None:
        """What was found changed although nobody had the store open, until it is acknowledged."""
        try:
            return (self.path / _CHANGED).read_text("utf-8", "replace").strip()
        except FileNotFoundError:
            return None

    def acknowledge_change(self) -> bool:
        """Someone has seen it, and answers for going on; whether there was anything."""
        return remove_durably(self.path / _CHANGED)

    def refresh_ledger_keys(self) -> None:
        """Take note of which keys have signed the ledger: after opening, and after a hand-over."""
        known = self.catalogue.read(ledger_keys.load)
        house = self.custody.keyring(HOUSE)
        first = Ed25519PrivateKey.from_private_bytes(house.secrets[SECRET_LEDGER])
        vkeys = [key.vkey for key in known]
        if not vkeys:
            vkeys = [verifier_key(self.origin, first.public_key())]
        self.vkeys: tuple[str, ...] = tuple(vkeys)

    @property
    def vkey(self) -> str:
        """The verifier key of the ledger's present signing key."""
        return self.vkeys[-1]

    @property
    def ledger_key(self) -> Ed25519PrivateKey:
        """The ledger's present signing key.

        During a change of keys both lie in the house's keyring; the ledger says which one counts.

        Raises:
            KeyUnavailable: the keyring holds neither.
        """
        house = self.custody.keyring(HOUSE)
        for name in (SECRET_LEDGER, SECRET_NEXT_LEDGER):
            if name in house.secrets:
                key = Ed25519PrivateKey.from_private_bytes(house.secrets[name])
                if verifier_key(self.origin, key.public_key()) == self.vkey:
                    return key
        raise KeyUnavailable(
            f"{self.path}: expected the signing key {self.vkey} in the house's keyring, found none"
        )

    def _document(self, document_id: str) -> Row[Any] | None:
        """A document's row as it is committed now."""
        return self.catalogue.read(lambda connection: queries.document(connection, document_id))

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
        lock = locked(path)
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
    def open(
        cls,
        path: Path,
        root: RootKey,
        copies: Sequence[str] = (),
        next_root: RootKey | None = None,
    ) -> Store:
        """Open the store at `path`.

        Args:
            copies: names of the registered copies of keyrings.
            next_root: the root key that is to replace `root`, or has done so already.

        Raises:
            StoreMissing, StoreLocked, WrongRootKey: what each says.
        """
        if not (path / _CATALOGUE).is_file():
            raise StoreMissing(missing(path))
        return cls.resume(path, locked(path), root, copies, next_root)

    @classmethod
    def resume(
        cls,
        path: Path,
        lock: int,
        root: RootKey,
        copies: Sequence[str] = (),
        next_root: RootKey | None = None,
    ) -> Store:
        """`open` for whoever has taken the lock (`locked`), which is the store's from here on."""
        try:
            return cls(path, lock, root, copies, next_root)
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
            states = {
                row.id: row.state
                for row in tx.connection.execute(select(clients.c.id, clients.c.state))
            }
            living = [owner for owner, state in states.items() if state != ClientState.CLOSED]
            done: list[str] = []
            if self.changed_at_rest is not None:
                # Perhaps an older catalogue was put back: what it does not know may be all there is.
                done.append(
                    "keyrings: nothing was dropped, because the catalogue changed while it was closed"
                )
            else:
                for owner in living:
                    done += self._reconcile(tx, owner, now)
            # A client is closed in one transaction and its keyring ended after it: finish that.
            for owner in set(self.custody.owners()):
                if states.get(owner) == "closed":
                    self.custody.end(tx.connection, owner, now)
                    done.append(f"keyring of client {owner}: ended, as the client is closed")
            self.custody.complete_copies(tx.connection, living, now)
            return done

        return self.catalogue.write(work)

    def _reconcile(self, tx: Transaction, owner: str, now: datetime) -> list[str]:
        """Drop what a crash left in one keyring; one that does not open stops no other client."""
        try:
            return [
                f"keyring of client {owner}: dropped group {group_id} that has no row"
                for group_id in self.custody.reconcile(tx.connection, owner, now)
            ]
        except (KeyUnavailable, IntegrityError, WrongRootKey) as error:
            return [
                f"keyring of client {owner}: it does not open, and its documents can't be read: {error}"
            ]

    def close(self) -> None:
        """Close the catalogue, seal it as it lies, and let go of the lock."""
        try:
            self.catalogue.close()
            # A journal that is left (a reader was still at it) holds what the file does not.
            journal = self.path / f"{_CATALOGUE}-wal"
            folded = not journal.exists() or journal.stat().st_size == 0
            if self._seal_key is not None and folded and not self.catalogue.failed:
                at_rest.seal(self.path / _CATALOGUE, self.path / _SEAL, self._seal_key)
        finally:
            os.close(self._lock)


def _keyrings(path: Path, root: RootKey, roots: Iterable[RootKey]) -> KeyringStore:
    try:
        return KeyringStore(path / _KEYRINGS, root, roots)
    except StoreMissing as error:
        raise StoreMissing(
            f"{error}: the keys of all documents. Put the folder back where it was moved, or bring each"
            " keyring back from a registered copy: `strongroom keys restore house house.keyring`, then those"
            " that `strongroom check` names"
        ) from error


def _blobs(path: Path) -> LocalBlobStore:
    try:
        return LocalBlobStore(path / _BLOBS)
    except StoreMissing as error:
        raise StoreMissing(
            f"{error}: the sealed files of all documents. Put the folder back where it was moved (is its disk"
            " mounted?), or restore a backup into another folder with `strongroom backup restore`"
        ) from error


def _seal_key(keyrings: KeyringStore) -> bytes | None:
    """The key of the seal at rest; None: the house's keyring does not open, which opening will say."""
    try:
        house = keyrings.load(HOUSE)
    except VaultError:
        return None
    return derive_key(house.secrets[SECRET_ACCOUNTS], "catalogue/at-rest")


def locked(path: Path) -> int:
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
