"""Restoring a store from a backup: on another machine, with the root key and a copy of the keyrings.

Promises: the store that comes out holds every document of the backup that lives, byte for byte, and
nothing that has been destroyed since: the amendments' tombstones are replayed before anything can be served.
What it can't bring back it names. That the store is a restored one is an entry of its ledger, for ever.

Leaves out: configuration and root key (`gateway`), reading the documents (`strongroom check
--read-data`), and certificates made after the backup: the clients have them.

Rules:
1. Nothing is believed that the keyring does not vouch for: manifest, catalogue, amendments.
2. A wrapping that opens is never replaced. One whose group has ended is, by the amendments in their order.
3. A document becomes DESTROYED only by a tombstone. One whose key is in no keyring is reported: it was
   destroyed and the amendment is missing, or the copy of the keyrings is too old.
4. Everything can be run again until it is finished: catalogue and amendments are taken anew each time,
   sealed files that are there whole are kept. COMMIT POINT of the store: the catalogue gets its name.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vault.backup import amendments, replay, restore_blobs
from vault.backup import format as backup
from vault.backup.replay import Replay
from vault.catalogue.store import Catalogue
from vault.errors import (
    IntegrityError,
    KeyUnavailable,
    PlaceMissing,
    StoreExists,
)
from vault.keys.keyring import KeyringStore
from vault.keys.open_keyrings import HOUSE
from vault.keys.root import RootKey
from vault.keys.secret_names import SECRET_LEDGER
from vault.ledger.note import verifier_key
from vault.storage.blobs import LocalBlobStore
from vault.storage.durable import (
    make_directory,
    remove_durably,
    storage_error,
    sync_directory,
    write_all,
    write_durably,
)
from vault.storage.places import Place
from vault.store import Store

MARKER: Final = "restoring.json"
LISTED: Final = 1000  # problems that are listed; more are counted
_CATALOGUE: Final = "catalogue.sqlite3"
_UNFINISHED: Final = "catalogue.sqlite3.restoring"
_AT_REST: Final = ("catalogue.at-rest", "changed-at-rest")  # as `vault.store` names them
_MARKER_LIMIT: Final = 4096
_KEYRING: Final = ".keyring"


@dataclass
class Report:
    """What a restore did. `problems`: what is not as it was, each with what it is about; `found` of them."""

    backup: str = ""
    made_at: str = ""
    ledger_size: int = 0
    documents: int = 0
    blobs: int = 0
    amendments: int = 0
    destroyed: int = 0
    found: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, subject: str, problem: str) -> None:
        """Note a problem."""
        self.found += 1
        if len(self.problems) < LISTED:
            self.problems.append((subject, problem))

    def fetched(self, document_id: str, problem: str) -> None:
        """Count a document, with what is wrong with its sealed file; "": nothing."""
        self.documents += 1
        self.blobs += not problem
        if problem:
            self.add(f"document {document_id}", problem)


class _Unfinished(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The marker in a folder while a restore into it is not finished."""

    backup: str
    store: str


def restore(
    open_place: Callable[[], Place],
    into: Path,
    keyrings: Path,
    root: RootKey,
    now: datetime,
    backup_id: str = "",
) -> Report:
    """Build a store in `into`, which is absent, empty, or has an unfinished restore of the same backup.

    Args:
        open_place: opens the backup's place; called once for each thread.
        keyrings: a folder with `house.keyring` and the clients' (a registered copy).
        root: the root key they are under.
        backup_id: which backup; "": the newest.

    Returns:
        What was done. The marker `restoring.json` stays until `finish`, when the caller has made the
        store an installation.

    Raises:
        StoreExists: there is something else in `into`.
        KeyUnavailable, WrongRootKey: keyrings and root key don't fit.
        IntegrityError: manifest, catalogue or an amendment is not what was written.
        PlaceError: the place can't be read; run it again.
        StorageFull, StorageFailed: the store can't be written.
    """
    report = Report()
    unfinished = _look(into)
    with closing(open_place()) as place:
        # 1. Keys first: they decide what may be believed.
        make_directory(into)
        _copy_keyrings(keyrings, into / "keyrings")
        keys = KeyringStore(into / "keyrings", root)
        house = keys.load(HOUSE)
        secret = house.secrets.get(backup.SECRET_BACKUP)
        if secret is None:
            raise KeyUnavailable(
                f"keyring {HOUSE}: expected the secret {backup.SECRET_BACKUP}, found none:"
                " this copy is older than the first backup"
            )
        # 2. Which backup, and is it one.
        store_id = _store_of(place)
        known = backup.backups_in(name for name, _ in place.names(backup.SNAPSHOTS))
        wanted = backup_id.upper() or (
            unfinished.backup if unfinished else known[-1] if known else ""
        )
        if wanted not in known:
            raise PlaceMissing(
                f"backup {wanted or '(newest)'}: expected one with a manifest, found none"
            )
        if unfinished is not None and unfinished != _Unfinished(wanted, store_id):
            raise StoreExists(
                f"{into}: expected the unfinished restore of backup {wanted},"
                f" found that of {unfinished.backup}"
            )
        vkey = verifier_key(
            f"strongroom.invalid/{store_id.lower()}",
            Ed25519PrivateKey.from_private_bytes(house.secrets[SECRET_LEDGER]).public_key(),
        )
        note = b"".join(place.get(backup.manifest_name(wanted)))
        manifest = backup.read_manifest(note, secret, vkey, store_id, wanted)
        write_durably(into / MARKER, msgspec.json.encode(_Unfinished(wanted, store_id)))
        report.backup, report.made_at = wanted, manifest.created_at
        report.ledger_size = manifest.ledger_size
        # 3. The catalogue, under a name that no store opens.
        _fetch_catalogue(place, into, manifest, secret)
        catalogue = Catalogue.open(into / _UNFINISHED)
        try:
            # 4. What the amendments say, in their order.
            replayed = Replay(catalogue, keys, manifest.target, report.add, now)
            highest = _apply(place, into, manifest, secret, replayed, report)
            # 5. The store as the keyrings are now; nothing that was destroyed is left in it.
            replayed.reconcile(manifest, backup.sha256_hex(note), root.id, vkey, highest)
            report.destroyed = replayed.destroyed
            # 6. The sealed files of what lives.
            blobs = _blobs(into)
            restore_blobs.fetch(open_place, catalogue, blobs, manifest, report.fetched)
            replayed.record(manifest)
        finally:
            catalogue.close()
        replay.remove_unknown(into / "keyrings", keys, replayed.owners)
    # 7. COMMIT POINT of the store. What a run before this one left beside a catalogue of its own goes first:
    #    a journal would be applied to this one, and the seal at rest is not of this one.
    for name in ("-wal", "-shm", "-journal"):
        remove_durably(into / f"{_CATALOGUE}{name}")
    for name in _AT_REST:
        remove_durably(into / name)
    try:
        (into / _UNFINISHED).replace(into / _CATALOGUE)
    except OSError as error:
        raise storage_error(error, "rename onto", into / _CATALOGUE) from error
    sync_directory(into)
    # 8. As at any start: keys without a row go.
    store = Store.open(into, root)
    try:
        store.recover(now)
        store.catalogue.write(
            lambda tx: tx.ledger.sign_checkpoint(tx.connection, store.origin, store.ledger_key, now)
        )
    finally:
        store.close()
    return report


def is_unfinished(into: Path) -> bool:
    """Whether `into` holds a restore that was not finished."""
    return (into / MARKER).is_file()


def finish(into: Path) -> None:
    """The restored store is an installation now: forget how it came about (durably)."""
    remove_durably(into / MARKER)


# ── steps ────────────────────────────────────────────────────────────────────────────────────────


def _look(into: Path) -> _Unfinished | None:
    """The unfinished restore in `into`, if there is one (raises StoreExists for anything else)."""
    if not into.exists():
        return None
    try:
        with (into / MARKER).open("rb") as file:
            return msgspec.json.decode(file.read(_MARKER_LIMIT), type=_Unfinished)
    except FileNotFoundError:
        # Before its marker a restore has made nothing but the copied keyrings.
        if {entry.name for entry in into.iterdir()} - {"keyrings"}:
            raise StoreExists(
                f"{into}: expected nothing there, found a folder with files"
            ) from None
        return None
    except msgspec.MsgspecError as error:
        raise StoreExists(
            f"{into}: expected the marker of a restore, found another file"
        ) from error
    except OSError as error:
        raise storage_error(error, "read", into / MARKER) from error


def _copy_keyrings(source: Path, target: Path) -> None:
    try:
        files = sorted(path for path in source.iterdir() if path.name.endswith(_KEYRING))
    except OSError as error:
        raise KeyUnavailable(
            f"keyrings {source}: expected a folder, found {error.strerror}"
        ) from error
    if not any(path.name == HOUSE + _KEYRING for path in files):
        raise KeyUnavailable(f"keyrings {source}: expected {HOUSE}{_KEYRING} there, found none")
    make_directory(target)
    if target.resolve() == source.resolve():
        return
    for path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise storage_error(error, "read", path) from error
        write_durably(target / path.name, content)


def _store_of(place: Place) -> str:
    """The store whose backup lies at a place (raises IntegrityError, PlaceMissing)."""
    data = b"".join(place.get(backup.MARKER))
    try:
        store_id = str(msgspec.json.decode(data)["store"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        store_id = ""
    if backup.marker(store_id) != data:
        raise IntegrityError(
            f"{backup.MARKER}: expected the marker of a backup, found another file", kind="format"
        )
    return store_id


def _fetch(place: Place, into: Path, name: str) -> IO[bytes]:
    """Sealed bytes of a place in a file without a name."""
    file = tempfile.TemporaryFile(dir=into)  # noqa: SIM115  the caller closes it
    try:
        offset = 0
        for piece in place.get(name):
            offset = write_all(file.fileno(), [piece], offset, name)
    except BaseException:
        file.close()
        raise
    return file


def _fetch_catalogue(place: Place, into: Path, manifest: backup.Manifest, secret: bytes) -> None:
    plain = into / _UNFINISHED
    for suffix in ("-wal", "-shm", "-journal", ""):
        remove_durably(plain.with_name(plain.name + suffix))
    name = backup.catalogue_name(manifest.backup)
    with _fetch(place, into, name) as file:
        backup.open_catalogue(file.fileno(), plain, manifest, secret, name)


def _apply(
    place: Place,
    into: Path,
    manifest: backup.Manifest,
    secret: bytes,
    replayed: Replay,
    report: Report,
) -> int:
    """Apply the amendments; returns the highest number seen at the place."""
    numbers = sorted(
        number
        for name, _ in place.names(backup.AMENDMENTS)
        if (number := backup.amendment_number(name)) is not None
    )

    @contextmanager
    def opened(number: int) -> Iterator[Iterator[amendments.Line]]:
        name = backup.amendment_name(number)
        with (
            _fetch(place, into, name) as file,
            backup.open_object(file.fileno(), secret, manifest.store, name) as reader,
        ):
            yield amendments.read(reader, number, manifest.store)

    report.amendments += replayed.apply_all(manifest, numbers, opened)
    return numbers[-1] if numbers else 0


def _blobs(into: Path) -> LocalBlobStore:
    """The blob store; one that a crash left half made is made anew."""
    folder = into / "blobs"
    made = into / "blobs.making"
    if not folder.exists():
        shutil.rmtree(made, ignore_errors=True)
        LocalBlobStore.create(made)
        made.rename(folder)
        sync_directory(into)
    return LocalBlobStore(folder)
