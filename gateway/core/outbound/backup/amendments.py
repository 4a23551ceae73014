"""Telling backups of groups that have ended: amendments, delivered as soon as a target can be reached.

Promises: what `vault.backup.format.request_amendment` noted is delivered in order for as long as it takes,
with growing delays, and stays visible in `strongroom status` until it is. Its content is the catalogue's when
it is delivered, sealed while it is read. Leaves out what an amendment says (`vault.backup.amendments`).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Row, select, update

from gateway.core.core import Core, log, stamp
from gateway.core.outbound.backup.target import expect_marker, scratch, secret_of, store_id
from gateway.core.outbound.outbound import Outbound
from vault.backup import amendments
from vault.backup import format as backup_format
from vault.catalogue.schema import backup_amendments
from vault.catalogue.store import Transaction
from vault.errors import PlaceError, StorageFailed, VaultError

LONGEST_DELAY: Final = timedelta(hours=1)


async def deliver(outbound: Outbound, target: str = "") -> int:
    """Bring the backups what they must be told; returns how many amendments were delivered.

    Args:
        target: only of this one, due or not, and a failure is raised (PlaceError); "": of each, what is
            due, and a failure is recorded and comes again with growing delays.
    """
    core = outbound.core
    names = [target] if target else [each.name for each in core.config.backup.targets]
    if not target and (not names or outbound.amending.locked()):
        return 0
    done = 0
    async with outbound.amending:
        query = select(backup_amendments).where(
            backup_amendments.c.delivered_at.is_(None), backup_amendments.c.target.in_(names)
        )
        if not target:
            query = query.where(backup_amendments.c.next_attempt_at <= stamp(core.now()))
        for row in await core.read(
            lambda c: c.execute(query.order_by(backup_amendments.c.id).limit(100)).all()
        ):
            try:
                await _deliver_one(outbound, row)
            except StorageFailed:
                raise
            except VaultError as error:
                await core.write(lambda tx, r=row, e=str(error): _not_delivered(core, tx, r, e))  # type: ignore[misc]
                if target:
                    raise
                names.remove(row.target)
                if not names:
                    break
            else:
                done += 1
    return done


async def _deliver_one(outbound: Outbound, row: Row[Any]) -> None:
    core = outbound.core
    secret = await secret_of(core)
    name = backup_format.amendment_name(row.id)
    if not await expect_marker(outbound, row.target):
        raise PlaceError(f"target {row.target}: expected its marker, found none (is it mounted?)")
    with scratch(core) as file:
        await asyncio.to_thread(_seal_amendment, core, row, file.fileno(), secret, name)
        await outbound.transfers.transfer(row.target, "put", name, file.fileno())
    now = core.now()
    await core.write(
        lambda tx: tx.connection.execute(
            update(backup_amendments)
            .where(backup_amendments.c.id == row.id)
            .values(delivered_at=stamp(now), failure="")
        )
    )


def _seal_amendment(core: Core, row: Row[Any], fd: int, secret: bytes, name: str) -> None:
    writer = backup_format.ObjectWriter(fd, secret, store_id(core), name)
    for piece in amendments.lines(
        core.store.catalogue.read,
        number=row.id,
        store_id=store_id(core),
        target=row.target,
        groups=msgspec.json.decode(row.groups, type=list[str]),
        now=core.now(),
    ):
        writer.write(piece)
    writer.finish()


def _not_delivered(core: Core, tx: Transaction, row: Row[Any], reason: str) -> None:
    delay = min(timedelta(seconds=1) * 2 ** min(row.attempts, 20), LONGEST_DELAY)
    tx.connection.execute(
        update(backup_amendments)
        .where(backup_amendments.c.id == row.id)
        .values(
            attempts=row.attempts + 1,
            next_attempt_at=stamp(core.now() + delay),
            failure=reason[:200],
        )
    )
    if row.attempts % 10 == 0:
        log.error("backup not told of ended groups", target=row.target, reason=reason[:200])
