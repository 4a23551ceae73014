"""Backups: what lies at a backup's place, how it is sealed, and what a manifest states.

Promises: a backup holds no key that opens anything by itself. Blobs are there as they are in the
store, sealed. The catalogue and each amendment are sealed streams under a fresh key of their own, which is
wrapped under the house keyring's secret `backup`; so a stolen place shows sizes, ids and times only. A
manifest is signed by the ledger's key and vouches for exactly one catalogue; nothing without one counts.

Leaves out: carrying (`vault.storage.places`), deciding what to copy
(`gateway.core.outbound.backup.run`), and putting things back (`vault.backup.restore`).

Rules:
1. Layout at a place (FORMAT.md, section 13):
   `strongroom-backup.json` (marker), `blobs/<aa>/<document id>`, `snapshots/<backup id>/catalogue`,
   `snapshots/<backup id>/manifest` (written last: the commit point of a backup), `amendments/<number>`.
2. **Amendments.** When a group of keys ends, the wrappings under it in every older snapshot become noise:
   meant for what was destroyed, not for what lives on. So the end of groups is followed by an amendment
   with the survivors' wrappings as they are when it is made, and the tombstones. `request_amendment` notes
   it in the transaction in which the groups end.
3. A sealed object's name and store are bound into its key's wrapping and its stream's context: objects
   can't be exchanged or renamed.
4. Parsing is strict, and no text of a manifest is looked at before it is authenticated.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, create_engine, insert, select
from sqlalchemy.pool import NullPool

from vault.catalogue.schema import (
    backup_amendments,
    backups,
)
from vault.crypto.sealed import SealedReader, SealedWriter
from vault.crypto.wrapping import WRAPPED_KEY, derive_key, new_key, unwrap_key, wrap_key
from vault.errors import IntegrityError, VaultError
from vault.ids import is_id
from vault.ledger.note import NoteError, sign_note, verify_note
from vault.storage.durable import write_all

T = TypeVar("T")

SECRET_BACKUP: Final = "backup"  # noqa: S105  the name of a secret, not one
FORMAT: Final = "strongroom-backup-v1"
MARKER: Final = "strongroom-backup.json"
BLOBS: Final = "blobs"
SNAPSHOTS: Final = "snapshots"
AMENDMENTS: Final = "amendments"
SETTING_RESTORED: Final = "restored_at_size"
"""The setting of a restored store: how many ledger entries the backup had."""
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
REMOVED: Final = "removed"
PAGE: Final = 1000
MAX_MANIFEST: Final = 1 << 20
MAX_LINE: Final = 4096
"""Bytes of the longest line of an amendment."""

_PURPOSE: Final = "backup-object"
_MANIFEST_KEY: Final = "backup/manifest"
_COPY: Final = 1 << 20
_NUMBER: Final = re.compile(r"[0-9]{12}")


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def blob_name(document_id: str) -> str:
    """The name of a document's sealed file at a place: as in the store."""
    shard = hashlib.sha256(document_id.encode("ascii")).hexdigest()[:2]
    return f"{BLOBS}/{shard}/{document_id}"


def catalogue_name(backup_id: str) -> str:
    """The sealed catalogue of a backup."""
    return f"{SNAPSHOTS}/{backup_id}/catalogue"


def manifest_name(backup_id: str) -> str:
    """The manifest of a backup."""
    return f"{SNAPSHOTS}/{backup_id}/manifest"


def amendment_name(number: int) -> str:
    """An amendment by its number, which counts through the store's life."""
    return f"{AMENDMENTS}/{number:012d}"


def amendment_number(name: str) -> int | None:
    """The number in an amendment's name; None if it is no such name."""
    folder, _, number = name.partition("/")
    return int(number) if folder == AMENDMENTS and _NUMBER.fullmatch(number) else None


def backups_in(names: Iterable[str]) -> list[str]:
    """Ids of the backups that have a manifest among `names`, oldest first."""
    found = []
    for name in names:
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == SNAPSHOTS and parts[2] == "manifest" and is_id(parts[1]):
            found.append(parts[1])
    return sorted(found)


def marker(store_id: str) -> bytes:
    """The marker that makes a place this store's backup, byte for byte."""
    return msgspec.json.encode({"format": FORMAT, "store": store_id}) + b"\n"


# ── sealed objects ───────────────────────────────────────────────────────────────────────────────


class ObjectWriter:
    """Seals an object of a backup into an empty file: the sealed stream, then its wrapped key."""

    def __init__(self, fd: int, secret: bytes, store_id: str, name: str) -> None:
        """`fd` stays the caller's; `secret` is the house's secret `backup` (raises as SealedWriter)."""
        self._fd = fd
        key = new_key()
        self._wrapped = wrap_key(
            secret, key, purpose=_PURPOSE, subject=f"{store_id}/{name}", group=SECRET_BACKUP
        )
        self._writer = SealedWriter(fd, key, _context(store_id, name))

    def write(self, data: bytes) -> None:
        """Append plain bytes (raises StorageFull, StorageFailed)."""
        self._writer.write(data)

    def finish(self) -> int:
        """Write what is left; returns the object's size in bytes."""
        self._writer.finish()
        return write_all(self._fd, [self._wrapped], os.fstat(self._fd).st_size, "backup object")


def open_object(fd: int, secret: bytes, store_id: str, name: str) -> SealedReader:
    """Open an object of a backup that lies in the file `fd`, which is cut to its sealed stream.

    Raises:
        IntegrityError: it was changed, cut, renamed, or sealed by another store.
    """
    size = os.fstat(fd).st_size
    if size <= WRAPPED_KEY:
        raise IntegrityError(
            f"backup object {name}: expected more than {WRAPPED_KEY} bytes, found {size}",
            kind="length",
        )
    wrapped = os.pread(fd, WRAPPED_KEY, size - WRAPPED_KEY)
    key = unwrap_key(
        secret, wrapped, purpose=_PURPOSE, subject=f"{store_id}/{name}", group=SECRET_BACKUP
    )
    os.ftruncate(fd, size - WRAPPED_KEY)
    return SealedReader(fd, key, _context(store_id, name))


def seal_file(path: Path, fd: int, secret: bytes, store_id: str, name: str) -> tuple[int, bytes]:
    """Seal the file at `path` as an object into the empty file `fd`; returns its size and SHA-256."""
    writer = ObjectWriter(fd, secret, store_id, name)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_COPY):
            writer.write(piece)
    size = writer.finish()
    return size, digest_of(fd)


def digest_of(fd: int) -> bytes:
    """SHA-256 of a whole file, by positions of our own."""
    digest = hashlib.sha256()
    offset = 0
    while piece := os.pread(fd, _COPY, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.digest()


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes at hand, in hex."""
    return hashlib.sha256(data).hexdigest()


def _context(store_id: str, name: str) -> bytes:
    return f"strongroom/v1/backup/{store_id}/{name}".encode("ascii")


# ── manifests ────────────────────────────────────────────────────────────────────────────────────


class Late(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A document of the snapshot whose sealed file was copied after it: id, size, SHA-256 in hex."""

    document_id: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a backup. Sizes in bytes, digests SHA-256 in hex of sealed bytes, times ISO 8601.

    `checkpoint` is a signed note over exactly the `ledger_size` entries of the catalogue; `vkey` the key
    that signed it and the manifest; `tag` an HMAC by the secret `backup` over everything else, which vouches
    for the `vkey` when the ledger's key has been changed since.
    """

    backup: str
    catalogue_sha256: str
    catalogue_size: int
    checkpoint: str
    created_at: str
    documents: int
    late: tuple[Late, ...]
    ledger_size: int
    store: str
    target: str
    vkey: str
    tag: str = ""


_encode_manifest = msgspec.json.Encoder(order="sorted").encode
_decode_manifest = msgspec.json.Decoder(Manifest).decode


def sign_manifest(manifest: Manifest, secret: bytes, origin: str, key: Ed25519PrivateKey) -> bytes:
    """The manifest as a signed note (C2SP signed-note) under the ledger's key."""
    tagged = msgspec.structs.replace(manifest, tag=_tag(manifest, secret))
    text = f"{FORMAT}\n{_encode_manifest(tagged).decode()}\n"
    return sign_note(text, origin, key).encode()


def read_manifest(data: bytes, secret: bytes, vkey: str, store_id: str, backup_id: str) -> Manifest:
    """Verify a manifest and return it.

    1. The note is signed by `vkey`, the ledger's key of today, or by the key that the manifest states.
    2. The tag by the house's secret fits: only a holder of the keyring can have made it.
    3. It is canonical, and of this store and backup.

    Raises:
        IntegrityError: one of these does not hold.
    """
    subject = f"manifest of backup {backup_id}"
    try:
        note = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{subject}: expected UTF-8, found other bytes", kind="format") from (
            error
        )
    try:
        text = verify_note(note, vkey)
    except NoteError as known:
        # Perhaps the key was changed since: then the manifest names its own, and the tag vouches for it.
        manifest = _parse_manifest(note.rpartition("\n\n")[0] + "\n", subject)
        try:
            text = verify_note(note, manifest.vkey)
        except NoteError:
            raise IntegrityError(f"{subject}: {known}", kind="format") from known
    manifest = _parse_manifest(text, subject)
    if not hmac.compare_digest(manifest.tag, _tag(manifest, secret)):
        raise IntegrityError(
            f"{subject}: expected the tag of this store's keyring, found another", kind="commitment"
        )
    if manifest.store != store_id or manifest.backup != backup_id:
        raise IntegrityError(
            f"{subject}: expected it to be of store {store_id}, found {manifest.store},"
            f" backup {manifest.backup}",
            kind="header",
        )
    return manifest


def _parse_manifest(text: str, subject: str) -> Manifest:
    head, _, line = text.partition("\n")
    try:
        manifest = _decode_manifest(line.removesuffix("\n").encode())
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise IntegrityError(
            f"{subject}: expected its JSON, found other text", kind="format"
        ) from (error)
    if head != FORMAT or f"{_encode_manifest(manifest).decode()}\n" != line:
        raise IntegrityError(
            f"{subject}: expected {FORMAT} in its canonical form, found another", kind="format"
        )
    return manifest


def _tag(manifest: Manifest, secret: bytes) -> str:
    body = _encode_manifest(msgspec.structs.replace(manifest, tag=""))
    return hmac.new(derive_key(secret, _MANIFEST_KEY), body, hashlib.sha256).hexdigest()


# ── snapshots ────────────────────────────────────────────────────────────────────────────────────


def take_snapshot(catalogue: Path, target: Path) -> None:
    """Copy the catalogue as one read transaction sees it into the new file `target` (0600).

    SQLite's online backup: writers go on meanwhile. The copy is plain and keeps no journal; whoever takes
    it removes it. Not synced: it lives until it is sealed.

    Raises:
        VaultError: SQLite can't read or write.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        source = sqlite3.connect(f"{catalogue.absolute().as_uri()}?mode=ro", uri=True)
        try:
            copy = sqlite3.connect(target, isolation_level=None)
            try:
                copy.execute("PRAGMA synchronous=OFF")
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
            finally:
                copy.close()
        finally:
            source.close()
    except sqlite3.Error as error:
        raise VaultError(f"{target}: expected a copy of the catalogue, found {error}") from error


def open_catalogue(fd: int, plain: Path, manifest: Manifest, secret: bytes, name: str) -> None:
    """Open the sealed catalogue in the file `fd` into the new file `plain` (0600, not synced).

    Raises:
        IntegrityError: it is not the one the manifest vouches for, or does not open.
    """
    size = os.fstat(fd).st_size
    if size != manifest.catalogue_size or digest_of(fd).hex() != manifest.catalogue_sha256:
        raise IntegrityError(
            f"{name}: expected the {manifest.catalogue_size} bytes of its manifest,"
            f" found {size} others",
            kind="commitment",
        )
    out = os.open(plain, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        offset = 0
        with open_object(fd, secret, manifest.store, name) as reader:
            while piece := reader.read(_COPY):
                offset = write_all(out, [piece], offset, str(plain))
    finally:
        os.close(out)


@contextmanager
def snapshot_connection(path: Path) -> Iterator[Connection]:
    """A read-only connection to a plain snapshot."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


# ── amendments ── (what is in them: vault/backup/amendments.py)


def request_amendment(
    connection: Connection, targets: Sequence[str], group_ids: Iterable[str], now: datetime
) -> int:
    """Note that groups end, so that every backup hears of their survivors; in the same transaction.

    Args:
        targets: names of the backup targets of the configuration.
        group_ids: the groups; may be none (a client was closed).

    Returns:
        How many targets must be told: those with a backup, or with one under way.
    """
    told = connection.execute(
        select(backups.c.target)
        .distinct()
        .where(backups.c.target.in_(list(targets)), backups.c.state.in_((RUNNING, DONE)))
    ).scalars()
    stamp = now.isoformat(timespec="microseconds")
    rows = [
        {
            "target": target,
            "created_at": stamp,
            "groups": msgspec.json.encode(sorted(set(group_ids))).decode(),
            "attempts": 0,
            "next_attempt_at": stamp,
            "failure": "",
        }
        for target in told
    ]
    if rows:
        connection.execute(insert(backup_amendments), rows)
    return len(rows)
