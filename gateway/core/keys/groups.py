"""Key groups that end, whoever ends them: backups are told, and keys leave the keyring.

Promises: no key goes before what lives under it was moved and seen to open. Nothing is destroyed by a
rotation, so its old keys wait until every backup knows the new wrappings; destruction does not wait.

    rotate.move  a group takes nothing more; its documents move, page by page, each verified
    rotate.end   the group's end is recorded; its key leaves the keyring (new epoch), the copies follow

Leaves out: which documents are to go (`disposal`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.key_groups import Frozen
from gateway.core.keys.keys import Keys, Rotation, note_moved
from gateway.core.steps import step
from vault.backup import format as backup_format
from vault.catalogue.schema import backup_amendments, clients, groups
from vault.catalogue.states import ClientState
from vault.catalogue.store import Transaction
from vault.errors import StorageFailed, VaultError

ENTRY_GROUPS: Final = 500  # group ids in one ledger entry: an entry stays far below 64 KiB
AMENDMENT_PATIENCE: Final = 5.0  # seconds to wait for reachable backups before keys are dropped


def end_groups(core: Core, tx: Transaction, ids: Sequence[str], now: datetime) -> None:
    """Record that groups have ended, and ask for the backups to be told; keys go with `drop_keys`."""
    core.store.custody.end_groups(tx.connection, ids, now)
    notify_backups(core, tx, ids, now)


def notify_backups(core: Core, tx: Transaction, ids: Sequence[str], now: datetime) -> None:
    """Have every backup told that groups end (none: that a client's keyring does)."""
    targets = [target.name for target in core.config.backup.targets]
    backup_format.request_amendment(tx.connection, targets, ids, now)


async def await_amendments(keys: Keys) -> bool:
    """Give reachable backups a moment to learn the survivors' new wrappings before the old keys go.

    Returns:
        Whether every backup of the configuration knows.
    """
    core = keys.core
    deadline = asyncio.get_running_loop().time() + AMENDMENT_PATIENCE
    while await core.read(lambda connection: _untold(core, connection, tried=False)):
        if asyncio.get_running_loop().time() >= deadline:
            break
        await asyncio.sleep(0.1)
    return not await core.read(lambda connection: _untold(core, connection, tried=True))


def _untold(core: Core, connection: Connection, *, tried: bool) -> bool:
    """Whether a backup has yet to be told something; `tried`: also one that could not be reached."""
    targets = [target.name for target in core.config.backup.targets]
    query = select(backup_amendments.c.id).where(
        backup_amendments.c.delivered_at.is_(None), backup_amendments.c.target.in_(targets)
    )
    if not tried:
        query = query.where(backup_amendments.c.attempts == 0)
    return connection.execute(query.limit(1)).scalar() is not None


async def finish_group_end(keys: Keys, frozen: Frozen, ids: Sequence[str], now: datetime) -> None:
    """Groups that nothing lives in any more: their end is recorded, and their keys go with `drop_ended`."""
    with step("rotate.end"):
        await keys.core.write(lambda tx: end_groups(keys.core, tx, ids, now))
        await drop_ended(keys, frozen, now)


async def drop_ended(keys: Keys, frozen: Frozen, now: datetime) -> int:
    """Drop the keys of groups that have ended, once every backup knows what became of their survivors.

    Nothing was destroyed with these groups, so their keys may wait: dropped before a backup knows, they would
    take from it the documents that live. Destruction does not wait.

    Returns:
        How many keys are still waiting.
    """
    del frozen  # held by the caller
    core = keys.core
    custody = core.store.custody
    pending: dict[str, list[str]] = {}
    for client_id, group_id in await core.read(custody.groups_to_drop):
        pending.setdefault(client_id, []).append(group_id)
    waiting = sum(len(ids) for ids in pending.values())
    if not pending:
        return 0
    if not await await_amendments(keys):
        log.warning("keys of ended groups wait for backups to be told", groups=waiting)
        return waiting
    for client_id, ids in pending.items():

        def drop(tx: Transaction, owner: str = client_id, which: Sequence[str] = ids) -> None:
            custody.drop_keys(tx.connection, owner, which, now)
            for start in range(0, len(which), ENTRY_GROUPS):
                part = list(which[start : start + ENTRY_GROUPS])
                core.record(tx, "groups.ended", owner, ACTOR_CORE, now, groups=part)

        try:
            await core.write(drop)
        except StorageFailed:
            raise
        except VaultError as error:  # one keyring that does not open stops no other
            log.error("keys of ended groups not dropped", client=client_id, error=str(error))
        else:
            waiting -= len(ids)
    return waiting


async def rotate(keys: Keys, rotation: Rotation) -> None:
    """Every group made before the cutoff gives way to a new one."""

    core = keys.core

    def owners(connection: Connection) -> list[str]:
        where = [clients.c.state == ClientState.OPEN]
        if rotation.client_id is not None:
            where.append(clients.c.id == rotation.client_id)
        return list(connection.execute(select(clients.c.id).where(*where)).scalars())

    for client_id in await core.read(owners):
        # Client by client, so that a destruction waits for one of them at most.
        async with keys.freeze.hold() as frozen:
            await _rotate_client(keys, frozen, rotation, client_id)


async def _rotate_client(keys: Keys, frozen: Frozen, rotation: Rotation, client_id: str) -> None:
    core = keys.core
    custody = core.store.custody
    now = core.now()
    ids = await core.read(
        lambda connection: list(
            connection.execute(
                select(groups.c.id).where(
                    groups.c.client_id == client_id,
                    groups.c.ended_at.is_(None),
                    groups.c.created_at < rotation.cutoff,
                )
            ).scalars()
        )
    )
    if not ids:
        return
    for group_id in ids:
        with step("rotate.move"):
            await core.write(
                lambda tx, which=group_id: custody.close_group(tx.connection, which, now)  # type: ignore[misc]
            )

            def move(tx: Transaction, which: str = group_id) -> int:
                moved = custody.move_survivors(tx.connection, which, now)
                note_moved(tx, rotation, moved)
                return moved

            while await core.write(move):
                pass
    await finish_group_end(keys, frozen, ids, now)
