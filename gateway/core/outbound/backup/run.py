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
(`vault.backup.restore`), the catalogue's snapshot (`gateway.core.outbound.backup.snapshot`).
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.config import BackupTarget
from gateway.core.clock import TOLERANCE
from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.outbound import marker, outbox
from gateway.core.outbound.backup import places, snapshot
from gateway.core.outbound.backup.amendments import Amendments
from gateway.core.outbound.backup.copying import copy_missing, reconcile
from gateway.core.outbound.backup.target import (
    BACKUP,
    listing,
    reason_of,
    secret_of,
    target_of,
)
from gateway.core.outbound.files import put_bytes
from gateway.core.outbound.outbound import Outbound
from gateway.core.steps import step
from gateway.errors import Refusal
from vault.backup import format as backup_format
from vault.catalogue.schema import backup_amendments, backup_blobs, backups
from vault.catalogue.store import Transaction
from vault.errors import PlaceError, StorageFailed, VaultError
from vault.ids import new_id
from vault.moments import stamp

RETRY: Final = timedelta(hours=1)  # after a scheduled run has failed


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
        await reconcile(outbound, name)
        copied += await copy_missing(outbound, name)
    # 3. The catalogue, after the rows of what was copied, so that it knows them.
    with step("backup.snapshot"):
        manifest, more = await snapshot.put(outbound, name, backup_id, secret, now, copied.missing)
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


# ── by the clock ─────────────────────────────────────────────────────────────────────────────────


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
