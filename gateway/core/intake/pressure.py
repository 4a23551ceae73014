"""Pressure: on a disk that is nearly full, interrupted uploads make room, the largest holder's first.

Promises: while less than `FACTOR` times `store.minimum_free` is left, the oldest partial document of
whichever client keeps most in them goes, then the next, until there is that much again or none is left; the
ledger says of each that it had to (`why` = `no_room`). So no client can shut intake for others with what it
never finished. A document that was acknowledged is never touched, nor an upload that is in someone's hands,
nor one that may be renamed any moment (`RENAMING`).

Leaves out: uploads under way, which stop at the floor by themselves (`gateway.process.free_space`), and
quotas.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, and_, func, not_, select

from gateway.core.core import log
from gateway.core.intake import receive
from gateway.core.intake.intake import Intake
from gateway.core.intake.partial import TEMPORARY
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState
from vault.moments import stamp

FACTOR: Final = 2  # so that room is made before the floor stops anybody
RENAMING: Final = timedelta(minutes=2)
AT_ONCE: Final = 500  # partial documents looked at, of one client


async def relieve(intake: Intake) -> int:
    """Let partial documents go until there is room; returns how many went."""
    core = intake.core
    enough = FACTOR * core.config.store.minimum_free
    left = await asyncio.to_thread(core.store.blobs.free_bytes)
    gone = 0
    while left < enough:
        row = await core.read(lambda connection: _next(intake, connection))
        if row is None:
            break
        if intake.taken(row.id):
            continue  # taken since it was looked for: there may be another
        await _let_go(intake, row)
        gone += 1
        # A file that a process is still closing gives its room back a moment later: it counts at once.
        left = max(left + row.size, await asyncio.to_thread(core.store.blobs.free_bytes))
    return gone


def _next(intake: Intake, connection: Connection) -> Any:
    """The row of the oldest partial document that may go, of the client that keeps most in them; or None."""
    core = intake.core
    fresh = and_(
        documents.c.reason == TEMPORARY, documents.c.state_since > stamp(core.now() - RENAMING)
    )
    holders = connection.execute(
        select(documents.c.client_id)
        .where(documents.c.state == DocumentState.PARTIAL)
        .group_by(documents.c.client_id)
        .order_by(func.sum(documents.c.size).desc())
    ).scalars()
    for client_id in holders:
        rows = connection.execute(
            select(documents.c.id, documents.c.client_id, documents.c.size)
            .where(
                documents.c.state == DocumentState.PARTIAL,
                documents.c.client_id == client_id,
                not_(fresh),
            )
            .order_by(documents.c.state_since, documents.c.id)
            .limit(AT_ONCE)
        )
        for row in rows:
            if not intake.taken(row.id):
                return row
    return None


async def _let_go(intake: Intake, row: Any) -> None:
    core = intake.core
    intake.take(row.id, "in use")  # nobody continues or renames it meanwhile
    now = core.now()
    try:
        await core.write(lambda tx: receive.expire(core, tx, row.id, now, why="no_room"))
        await asyncio.to_thread(core.store.blobs.discard, row.id)
    finally:
        intake.give_back(row.id)
    log.warning(
        "partial upload ended: the disk is nearly full",
        document=row.id,
        client=row.client_id,
        size=row.size,
    )
