"""Snapshots of the catalogue: the plain one that exists for a moment, and the sealed one of a backup.

Promises: nothing plain is left in the store's folder, whatever happens. A plain snapshot exists only while it
is sealed or read, while the key groups stand still (no destruction looks for keys meanwhile); it has a name
that begins with the catalogue's, and is removed durably, at the latest at the next start (`sweep`). A sealed
snapshot is at its target whole, and its manifest names the documents that came in while it was taken.

Leaves out the manifest's signature, which makes a backup of it (`run`), and proving one (`proof`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from gateway.core.core import Core, log
from gateway.core.key_groups import Frozen
from gateway.core.outbound.backup.copying import Copied, copy, copy_missing, lacking
from gateway.core.outbound.backup.target import store_id
from gateway.core.outbound.files import scratch
from gateway.core.outbound.outbound import Outbound
from vault.backup import format as backup_format
from vault.catalogue.ledger import Ledger
from vault.catalogue.schema import backup_blobs, documents
from vault.catalogue.states import STORED
from vault.errors import PlaceError
from vault.ledger.note import Checkpoint, sign_note
from vault.moments import stamp
from vault.storage.durable import remove_durably

PLAIN: Final = "catalogue.sqlite3."  # a plain snapshot's name begins so
LATE_LIMIT: Final = 1000  # documents a manifest may name; more, and the catalogue is taken again
ROUNDS: Final = 10


# ── the plain one ────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def plain_snapshot(core: Core, frozen: Frozen, tag: str) -> Iterator[Path]:
    """The path for a plain snapshot, durably removed afterwards; no destruction looks meanwhile."""
    del frozen  # held by the caller
    path = core.store.path / f"{PLAIN}{tag}"
    try:
        yield path
    finally:
        _remove_plain(path)


def _remove_plain(path: Path) -> None:
    for suffix in ("-journal", "-wal", "-shm", ""):
        remove_durably(path.with_name(path.name + suffix))


def sweep(core: Core) -> int:
    """At start: remove plain snapshots that a crash left behind; returns how many files."""
    left = [
        path
        for path in core.store.path.iterdir()
        if path.name.startswith((f"{PLAIN}backup-", f"{PLAIN}proof-"))
    ]
    for path in left:
        remove_durably(path)
    if left:
        log.warning("plain snapshots removed", files=len(left))
    return len(left)


# ── the sealed one ───────────────────────────────────────────────────────────────────────────────


class Taken(msgspec.Struct):
    """A snapshot, sealed: what its ledger and documents are, and which documents the target lacks."""

    ledger_size: int
    root: bytes
    documents: int
    late: list[str]
    size: int
    sha256: bytes


async def put(
    outbound: Outbound, target: str, backup_id: str, secret: bytes, now: datetime, skip: set[str]
) -> tuple[backup_format.Manifest, Copied]:
    """Seal the catalogue, put it, and copy what came in meanwhile; returns the manifest to sign."""
    core = outbound.core
    name = backup_format.catalogue_name(backup_id)
    more = Copied(missing=set(skip))
    for _ in range(ROUNDS):
        more += await copy_missing(outbound, target)
        with scratch(core) as sealed:
            async with outbound.freeze.hold() as frozen:
                with plain_snapshot(core, frozen, f"backup-{backup_id}") as plain:
                    taken = await asyncio.to_thread(
                        _take, core, plain, target, sealed.fileno(), secret, name
                    )
            late = [each for each in taken.late if each not in more.missing]
            if len(late) > LATE_LIMIT:
                continue  # documents come in faster than a manifest can name them: take it again
            more += await copy(outbound, target, late)
            report = await outbound.transfers.transfer(target, "put", name, sealed.fileno())
        if (report.size, report.sha256) != (taken.size, taken.sha256):
            raise PlaceError(f"{name}: expected {taken.size} bytes put whole, found others")
        checkpoint = Checkpoint(core.store.origin, taken.ledger_size, taken.root).encode()
        manifest = backup_format.Manifest(
            backup=backup_id,
            catalogue_sha256=taken.sha256.hex(),
            catalogue_size=taken.size,
            checkpoint=sign_note(checkpoint, core.store.origin, core.store.ledger_key),
            created_at=stamp(now),
            documents=taken.documents,
            late=await core.read(functools.partial(_late, target=target, ids=late)),
            ledger_size=taken.ledger_size,
            store=store_id(core),
            target=target,
            vkey=core.store.vkey,
        )
        return manifest, more
    raise PlaceError(
        f"target {target}: expected to keep up with the documents that come in, found it slower"
    )


def _take(core: Core, plain: Path, target: str, fd: int, secret: bytes, name: str) -> Taken:
    backup_format.take_snapshot(core.store.catalogue.path, plain)
    with backup_format.snapshot_connection(plain) as connection:
        tree = Ledger.load(connection).mark()
        stored = documents.c.state.in_(STORED)
        count = connection.execute(select(func.count()).select_from(documents).where(stored))
        late = [row[0] for row in connection.execute(lacking(target, "").limit(LATE_LIMIT * 2))]
        total = count.scalar_one()
    size, digest = backup_format.seal_file(plain, fd, secret, store_id(core), name)
    return Taken(tree.size, tree.root(), total, late, size, digest)


def _late(
    connection: Connection, *, target: str, ids: Sequence[str]
) -> tuple[backup_format.Late, ...]:
    rows = connection.execute(
        select(backup_blobs)
        .where(backup_blobs.c.target == target, backup_blobs.c.document_id.in_(list(ids)))
        .order_by(backup_blobs.c.document_id)
    )
    return tuple(
        backup_format.Late(row.document_id, row.size, bytes(row.sha256).hex()) for row in rows
    )
