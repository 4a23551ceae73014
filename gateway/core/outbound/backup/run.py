"""Backups: what is copied when, and in which order, so that a crash anywhere leaves whole backups only.

A run at a target, each step safe to repeat:
    backup.begin      the place is ours (marker); what an interrupted run left there is removed
    backup.copy       sealed files of stored documents that the target lacks; then a listing: what is missing
                      is copied again, what is of no stored document is removed
    backup.snapshot   the catalogue as one read transaction sees it, sealed; documents that came in between
                      are copied and named in the manifest
    backup.manifest   COMMIT POINT of the backup: the signed manifest lies at the target
    backup.record     row and ledger entry
    backup.prune      what is older than the target keeps, never the last `keep_least` good ones, and nothing
                      while the clock is in doubt

Promises: the core carries no bytes and has no network: the queue of transfers hands sealed files to the
courier. A failure is recorded and comes again; nothing is ever reported made that was not.

Leaves out: formats (`vault.backup.format`), proving (`gateway.core.outbound.backup.proof`), restoring
(`vault.backup.restore`).

Rules: the plain snapshot exists only while it is sealed, inside the store, under a name that begins with the
catalogue's, and under the key groups standing still: no destruction looks for keys while it lies there.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.config import BackupTarget
from gateway.core.clock import TOLERANCE
from gateway.core.core import ACTOR_CORE, Core, log, stamp
from gateway.core.outbound import marker, outbox
from gateway.core.outbound.backup import places
from gateway.core.outbound.backup.amendments import Amendments
from gateway.core.outbound.backup.copying import Copied, copy, copy_missing, lacking, settle
from gateway.core.outbound.backup.target import (
    BACKUP,
    listing,
    plain_snapshot,
    reason_of,
    secret_of,
    store_id,
    target_of,
)
from gateway.core.outbound.files import put_bytes, scratch
from gateway.core.outbound.outbound import Outbound
from gateway.core.steps import step
from gateway.errors import Refusal
from vault.backup import format as backup_format
from vault.catalogue.ledger import Ledger
from vault.catalogue.schema import backup_amendments, backup_blobs, backups, documents
from vault.catalogue.states import STORED
from vault.catalogue.store import Transaction
from vault.errors import PlaceError, StorageFailed, VaultError
from vault.ids import new_id
from vault.ledger.note import Checkpoint, sign_note

AT_ONCE: Final = 4  # sealed files under way at the same time
PAGE: Final = 200
LATE_LIMIT: Final = 1000  # documents a manifest may name; more, and the catalogue is taken again
ROUNDS: Final = 10
RETRY: Final = timedelta(hours=1)  # after a scheduled run has failed
LONGEST_DELAY: Final = timedelta(hours=1)


# ── a run ────────────────────────────────────────────────────────────────────────────────────────


async def run(outbound: Outbound, name: str, actor: str, *, fresh: bool = False) -> dict[str, Any]:
    """Make a backup at a target.

    Args:
        name: the target's.
        fresh: the place is new or was emptied: forget what it held, and begin it.

    Returns:
        backup, target, documents (covered), blobs (copied by this run), bytes, missing (documents whose
        sealed file is not in the store).

    Raises:
        Refusal: it failed; recorded, and the reason is its message.
    """
    core = outbound.core
    target = target_of(core, name)
    core.store.catalogue.ledger.expect_whole()  # what is cut must not become the newest backup
    with outbound.in_progress.claim(BACKUP, target.name):
        now = core.now()
        backup_id = new_id(now)
        await core.write(lambda tx: _begin_row(tx, backup_id, target.name, now, fresh))
        try:
            return await _run(outbound, target, backup_id, actor, now, fresh=fresh)
        except StorageFailed:
            raise
        except (VaultError, ExceptionGroup) as error:
            reason = reason_of(error)
            await core.write(lambda tx: _failed(core, tx, backup_id, target.name, actor, reason))
            log.error("backup failed", target=target.name, reason=reason)
            raise Refusal("failed", f"backup {backup_id}: {reason}") from error


def _begin_row(tx: Transaction, backup_id: str, target: str, now: datetime, fresh: bool) -> None:
    if fresh:
        tx.connection.execute(delete(backup_blobs).where(backup_blobs.c.target == target))
        places.replace(tx.connection, target)
    tx.connection.execute(
        update(backups)
        .where(backups.c.target == target, backups.c.state == backup_format.RUNNING)
        .values(state=backup_format.FAILED, finished_at=stamp(now), failure="interrupted")
    )
    tx.connection.execute(
        insert(backups),
        {
            "id": backup_id,
            "target": target,
            "state": backup_format.RUNNING,
            "started_at": stamp(now),
            "ledger_size": 0,
            "documents": 0,
            "blobs": 0,
            "bytes": 0,
            "manifest_digest": "",
            "failure": "",
        },
    )


def _failed(
    core: Core, tx: Transaction, backup_id: str, target: str, actor: str, reason: str
) -> None:
    now = core.now()
    tx.connection.execute(
        update(backups)
        .where(backups.c.id == backup_id)
        .values(state=backup_format.FAILED, finished_at=stamp(now), failure=reason)
    )
    core.record(tx, "backup.failed", backup_id, actor, now, target=target)


async def _run(
    outbound: Outbound,
    target: BackupTarget,
    backup_id: str,
    actor: str,
    now: datetime,
    *,
    fresh: bool,
) -> dict[str, Any]:
    core, name = outbound.core, target.name
    # 1. The place is ours, and nothing half made lies there.
    with step("backup.begin"):
        await _claim_place(outbound, name, fresh=fresh)
        secret = await secret_of(core)
        await outbox.deliver(outbound, Amendments(outbound), name, at_once=True)
        await _remove_unfinished(outbound, name, backup_id)
    # 2. Sealed files: copied once, recorded once they are there, and looked for in a listing.
    with step("backup.copy"):
        copied = await copy_missing(outbound, name)
        await settle(outbound, name)
        copied += await copy_missing(outbound, name)
    # 3. The catalogue, after the rows of what was copied, so that it knows them.
    with step("backup.snapshot"):
        manifest, more = await _snapshot(outbound, name, backup_id, secret, now, copied.missing)
        copied += more
    # 4. COMMIT POINT: once its manifest is there it is a backup.
    data = await asyncio.to_thread(
        backup_format.sign_manifest, manifest, secret, core.store.origin, core.store.ledger_key
    )
    with step("backup.manifest"):
        await put_bytes(outbound, name, backup_format.manifest_name(backup_id), data)
    with step("backup.record"):
        await core.write(
            lambda tx: _made(core, tx, manifest, actor, copied.blobs, copied.size, data)
        )
    # 5. What is older than the target keeps.
    with step("backup.prune"):
        await _prune(outbound, target)
    log.info("backup made", target=name, backup=backup_id, documents=manifest.documents)
    return {
        "backup": backup_id,
        "target": name,
        "documents": manifest.documents,
        "blobs": copied.blobs,
        "bytes": copied.size,
        "missing": len(copied.missing),
    }


def _made(
    core: Core,
    tx: Transaction,
    manifest: backup_format.Manifest,
    actor: str,
    blobs: int,
    size: int,
    data: bytes,
) -> None:
    now = core.now()
    tx.connection.execute(
        update(backups)
        .where(backups.c.id == manifest.backup)
        .values(
            state=backup_format.DONE,
            finished_at=stamp(now),
            ledger_size=manifest.ledger_size,
            documents=manifest.documents,
            blobs=blobs,
            bytes=size,
            manifest_digest=backup_format.sha256_hex(data),
        )
    )
    core.record(
        tx,
        "backup.made",
        manifest.backup,
        actor,
        now,
        target=manifest.target,
        documents=manifest.documents,
        blobs=blobs,
    )


async def _claim_place(outbound: Outbound, target: str, *, fresh: bool) -> None:
    if await marker.look(outbound, target, marker.BACKUP):
        return
    core = outbound.core
    known = await core.read(
        lambda c: c.execute(
            select(backups.c.id)
            .where(backups.c.target == target, backups.c.state == backup_format.DONE)
            .limit(1)
        ).scalar()
    )
    if known is not None and not fresh:
        raise PlaceError(
            f"target {target}: expected its marker, found none (is it mounted?);"
            " for a new place in its stead run it with --fresh"
        )
    await marker.begin(outbound, target, marker.BACKUP)


async def _remove_unfinished(outbound: Outbound, target: str, present: str) -> None:
    """Remove the folders of our own runs that did not come to an end, or were let go."""
    there = await listing(outbound, target, backup_format.SNAPSHOTS)
    try:
        found = {name.split("/")[1] for name in there.names()} - {present}
    finally:
        there.close()
    ended = await outbound.core.read(
        lambda c: list(
            c.execute(
                select(backups.c.id).where(
                    backups.c.id.in_(found),
                    backups.c.state.in_((backup_format.FAILED, backup_format.REMOVED)),
                )
            ).scalars()
        )
    )
    for backup_id in ended:
        await _remove_snapshot(outbound, target, backup_id)


async def _remove_snapshot(outbound: Outbound, target: str, backup_id: str) -> None:
    # The manifest first: without it the rest is no backup.
    await outbound.transfers.transfer(target, "remove", backup_format.manifest_name(backup_id))
    await outbound.transfers.transfer(target, "remove", backup_format.catalogue_name(backup_id))


# ── the catalogue ────────────────────────────────────────────────────────────────────────────────


class Taken(msgspec.Struct):
    """A snapshot, sealed: what its ledger and documents are, and which documents the target lacks."""

    ledger_size: int
    root: bytes
    documents: int
    late: list[str]
    size: int
    sha256: bytes


async def _snapshot(
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
            raise PlaceError(f"{name}: expected {taken.size} bytes carried whole, found others")
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


async def _prune(outbound: Outbound, target: BackupTarget) -> None:
    """Let go of backups older than the target keeps, and of the amendments only they needed."""
    core = outbound.core
    now = core.now()
    if (reason := await asyncio.to_thread(core.clock.reason, now)) is not None:
        log.warning("no backup is let go of", target=target.name, reason=reason)
        return
    limit = stamp(now - timedelta(days=target.keep_days))
    made = await core.read(
        lambda c: c.execute(
            select(backups)
            .where(backups.c.target == target.name, backups.c.state == backup_format.DONE)
            .order_by(backups.c.id)
        ).all()
    )
    kept = list(made)
    # The last good ones stay whatever the dates say; one "from the future" is not counted among them.
    good = [row.id for row in made if row.started_at <= stamp(now + TOLERANCE)]
    spared = set(good[-target.keep_least :])
    for row in made:
        if row.started_at >= limit or row.id in spared:
            continue
        await core.write(lambda tx, which=row.id: _let_go(core, tx, which, target.name))  # type: ignore[misc]
        await _remove_snapshot(outbound, target.name, row.id)
        kept.remove(row)
    if not kept:
        return
    there = await listing(outbound, target.name, backup_format.AMENDMENTS)
    try:
        numbers = {backup_format.amendment_number(name) for name in there.names()} - {None}
    finally:
        there.close()
    # Made before the oldest backup began: it knows more than they say.
    for number in await core.read(
        lambda c: list(
            c.execute(
                select(backup_amendments.c.id).where(
                    backup_amendments.c.target == target.name,
                    backup_amendments.c.id.in_(numbers),
                    backup_amendments.c.delivered_at < min(row.started_at for row in kept),
                )
            ).scalars()
        )
    ):
        await outbound.transfers.transfer(
            target.name, "remove", backup_format.amendment_name(number)
        )


def _let_go(core: Core, tx: Transaction, backup_id: str, target: str) -> None:
    tx.connection.execute(
        update(backups).where(backups.c.id == backup_id).values(state=backup_format.REMOVED)
    )
    core.record(tx, "backup.removed", backup_id, ACTOR_CORE, core.now(), target=target)


# ── the clock ─────────────────────────────────────────────────────────────────────────────────


async def due(outbound: Outbound) -> None:
    """Run the backups that are due; for a job that never overlaps itself."""
    core = outbound.core
    for target in core.config.backup.targets:
        if not target.every_hours or outbound.in_progress.has(BACKUP, target.name):
            continue
        now = core.now()
        newest = await core.read(lambda c, name=target.name, at=now: _newest(c, name, at))  # type: ignore[misc]
        made, tried = newest
        if made is not None and now < made + timedelta(hours=target.every_hours):
            continue
        if tried is not None and now < tried + RETRY:
            continue
        try:
            await run(outbound, target.name, ACTOR_CORE)
        except Refusal:
            continue  # recorded and logged; it comes again


def _newest(
    connection: Connection, target: str, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """When the newest backup was begun, and when a run was last begun that failed since.

    What was begun in the future was begun under a wrong clock, and is not the newest.
    """
    found: list[datetime | None] = []
    for state in (backup_format.DONE, backup_format.FAILED):
        at = connection.execute(
            select(func.max(backups.c.started_at)).where(
                backups.c.target == target,
                backups.c.state == state,
                backups.c.started_at <= stamp(now + TOLERANCE),
            )
        ).scalar()
        found.append(None if at is None else datetime.fromisoformat(at))
    return found[0], found[1]
