"""Changing keys while the gateway serves: document groups, the root key, the ledger's signing key.

Promises: at every moment every document can be opened, and no old key is gone before the new one was seen to
work. Documents are re-wrapped, never re-encrypted. A rotation is a row (`rotations`); whatever kills the
core, the next start goes on, by the same code, because each step looks at what is still to be done.

Leaves out: what each kind does (`groups`, `root`, `ledger`), and when (`due` says what is over its age
limit; a job asks it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, update

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.keys import groups as key_groups
from gateway.core.keys import ledger, root
from gateway.core.keys.keys import Keys, Rotation
from gateway.errors import Refusal
from vault.catalogue import ledger_keys, settings
from vault.catalogue.schema import clients, groups, rotations
from vault.catalogue.states import ClientState, RotationState
from vault.catalogue.store import Transaction
from vault.errors import StorageFailed, VaultError
from vault.ids import new_id
from vault.moments import stamp

KINDS: Final = ("groups", "root", "ledger")
ROTATION: Final = "rotation"
_ROTATE: Final[dict[str, Callable[[Keys, Rotation], Awaitable[None]]]] = {
    "groups": key_groups.rotate,
    "root": root.rotate,
    "ledger": ledger.rotate,
}


async def start(core: Core, kind: str, actor: str, client_id: str | None = None) -> Rotation:
    """Begin a rotation; `run` does it. One of each kind at a time.

    Raises:
        Refusal: one of this kind is running, or there is no new root key to change to.
    """
    now = core.now()
    rotation_id = new_id(now)
    if kind == "root":
        await asyncio.to_thread(root.prepare_next, core)

    def work(tx: Transaction) -> None:
        running = tx.connection.execute(
            select(rotations.c.id).where(
                rotations.c.kind == kind, rotations.c.state == RotationState.RUNNING
            )
        ).scalar()
        if running is not None:
            raise Refusal("locked", f"rotation of {kind}: expected none running, found {running}")
        tx.connection.execute(
            insert(rotations),
            {
                "id": rotation_id,
                "kind": kind,
                "client_id": client_id,
                "cutoff": stamp(now),
                "state": RotationState.RUNNING,
                "started_by": actor,
                "started_at": stamp(now),
                "moved": 0,
            },
        )
        core.record(tx, "keys.rotation-started", rotation_id, actor, now, what=kind)

    await core.write(work)
    log.info("rotation started", rotation=rotation_id, what=kind)
    return Rotation(rotation_id, kind, client_id, stamp(now), RotationState.RUNNING, 0)


async def resume(keys: Keys) -> list[str]:
    """Finish every rotation that was begun; returns their ids."""

    def unfinished(connection: Connection) -> list[Rotation]:
        return [
            _rotation(row)
            for row in connection.execute(
                select(rotations)
                .where(rotations.c.state == RotationState.RUNNING)
                .order_by(rotations.c.id)
            )
        ]

    done = []
    for rotation in await keys.core.read(unfinished):
        if keys.in_progress.has(ROTATION, rotation.id):
            continue
        try:
            await run(keys, rotation)
        except StorageFailed:
            raise
        except (VaultError, Refusal) as error:  # it comes again, and stops no other
            log.error("rotation not finished", rotation=rotation.id, error=str(error))
        else:
            done.append(rotation.id)
    return done


async def run(keys: Keys, rotation: Rotation) -> int:
    """Do a rotation, from wherever it is; returns how many keys it has re-wrapped in all.

    Raises:
        Refusal: it is running already.
    """
    with keys.in_progress.claim(ROTATION, rotation.id):
        await _ROTATE[rotation.kind](keys, rotation)
        return await keys.core.write(lambda tx: _finish(keys.core, tx, rotation))


def _finish(core: Core, tx: Transaction, rotation: Rotation) -> int:
    now = core.now()
    moved = tx.connection.execute(
        select(rotations.c.moved).where(rotations.c.id == rotation.id)
    ).scalar_one()
    tx.connection.execute(
        update(rotations)
        .where(rotations.c.id == rotation.id)
        .values(state=RotationState.DONE, finished_at=stamp(now))
    )
    core.record(
        tx, "keys.rotated", rotation.id, ACTOR_CORE, now, what=rotation.kind, moved=int(moved)
    )
    log.info("rotation done", rotation=rotation.id, what=rotation.kind, moved=moved)
    return int(moved)


def _rotation(row: Any) -> Rotation:
    return Rotation(row.id, row.kind, row.client_id, row.cutoff, row.state, row.moved)


async def due(core: Core) -> list[str]:
    """What is over its age limit and not being rotated: kinds that `start` takes, root excepted.

    A new root key is the operator's to keep a copy of, so it is never made behind their back: `keys status`
    and `doctor` ask for it.
    """
    now = core.now()
    limits = core.config.keys
    found = await core.read(ages)
    over = []
    for kind, limit in (
        ("groups", limits.max_group_age_days),
        ("ledger", limits.max_ledger_age_days),
    ):
        oldest = found[kind]
        if limit and oldest and datetime.fromisoformat(oldest) < now - timedelta(days=limit):
            over.append(kind)
    return over


def ages(connection: Connection) -> dict[str, str | None]:
    """Since when each kind of key is in use: the oldest living group, the root key, the signing key."""
    created = settings.value(connection, "created_at") or ""
    return {
        "groups": connection.execute(
            select(func.min(groups.c.created_at))
            .join(clients, clients.c.id == groups.c.client_id)
            .where(groups.c.ended_at.is_(None), clients.c.state == ClientState.OPEN)
        ).scalar(),
        "root": root.root_since(connection) or created,
        "ledger": ledger_keys.newest_since(connection) or created,
    }
