"""Changing keys while the gateway serves: document groups, the root key, the ledger's signing key.

Promises: at every moment every document can be opened, and no old key is gone before the new one was seen to
work. Documents are re-wrapped, never re-encrypted. A rotation is a row (`rotations`); whatever kills the
core, the next start goes on, by the same code, because each step looks at what is still to be done:

    rotate.move       a group takes nothing more; its documents move, page by page, each verified
    rotate.end        the group's end is recorded; its key leaves the keyring (new epoch), the copies follow
    rotate.keyring    a keyring is saved under the new root key and read back
    rotate.root       COMMIT POINT: every keyring is seen under the new root key; the old one opens none
    rotate.announce   the new signing key is in the house's keyring
    rotate.hand-over  COMMIT POINT: the entry signed by the old key, a checkpoint signed by both
    rotate.retire     the old signing key leaves the house's keyring

Leaves out: when (`due` says what is over its age limit; a job asks it), and the operator's own copy of
the root key. Who ends groups holds `core.keys_lock`: destruction and rotation never work on groups at the
same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, insert, select, update

from gateway.core.core import ACTOR_CORE, Core, log, stamp
from gateway.core.steps import step
from gateway.errors import Refusal
from vault.backup import format as backup_format
from vault.catalogue import ledger_keys, settings
from vault.catalogue.ledger_keys import LedgerKey
from vault.catalogue.schema import (
    backup_amendments,
    clients,
    groups,
    rotations,
)
from vault.catalogue.states import ClientState, RotationState
from vault.catalogue.store import Transaction
from vault.errors import IntegrityError, StorageFailed, VaultError
from vault.ids import new_id
from vault.keys.custody import HOUSE
from vault.ledger.note import verifier_key
from vault.store import SECRET_LEDGER, SECRET_NEXT_LEDGER

KINDS: Final = ("groups", "root", "ledger")
ROOT_SINCE: Final = "root_key_since"
ROOT_ROTATION: Final = "root_key_rotation"
LEDGER_ROTATION: Final = "ledger_key_rotation"
ENTRY_GROUPS: Final = 500  # group ids in one ledger entry: an entry stays far below 64 KiB
AMENDMENT_PATIENCE: Final = 5.0  # seconds to wait for reachable backups before keys are dropped


@dataclass(frozen=True)
class Rotation:
    """One rotation: what is to be renewed, and how far it has come."""

    id: str
    kind: str
    client_id: str | None
    cutoff: str
    state: str
    moved: int


# ── groups that end, whoever ends them ───────────────────────────────────────────────────────────


def end_groups(core: Core, tx: Transaction, ids: Sequence[str], now: datetime) -> None:
    """Record that groups have ended, and ask for the backups to be told; keys go with `drop_keys`."""
    core.store.custody.end_groups(tx.connection, ids, now)
    tell_backups(core, tx, ids, now)


def tell_backups(core: Core, tx: Transaction, ids: Sequence[str], now: datetime) -> None:
    """Have every backup told that groups end (none: that a client's keyring does)."""
    targets = [target.name for target in core.config.backup.targets]
    backup_format.request_amendment(tx.connection, targets, ids, now)


async def await_amendments(core: Core) -> bool:
    """Give reachable backups a moment to learn the survivors' new wrappings before the old keys go.

    Returns:
        Whether every backup of the configuration knows.
    """
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


async def finish_group_end(core: Core, ids: Sequence[str], now: datetime) -> None:
    """Groups that nothing lives in any more: their end is recorded, and their keys go with `drop_ended`."""
    with step("rotate.end"):
        await core.write(lambda tx: end_groups(core, tx, ids, now))
        await drop_ended(core, now)


async def drop_ended(core: Core, now: datetime) -> int:
    """Drop the keys of groups that have ended, once every backup knows what became of their survivors.

    Nothing was destroyed with these groups, so their keys may wait: dropped before a backup knows, they would
    take from it the documents that live. Destruction does not wait. Hold `core.keys_lock`.

    Returns:
        How many keys are still waiting.
    """
    custody = core.store.custody
    pending: dict[str, list[str]] = {}
    for client_id, group_id in await core.read(custody.groups_to_drop):
        pending.setdefault(client_id, []).append(group_id)
    waiting = sum(len(ids) for ids in pending.values())
    if not pending:
        return 0
    if not await await_amendments(core):
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


# ── starting, resuming, falling due ──────────────────────────────────────────────────────────────


async def start(core: Core, kind: str, actor: str, client_id: str | None = None) -> Rotation:
    """Begin a rotation; `run` does it. One of each kind at a time.

    Raises:
        Refusal: one of this kind is running, or there is no new root key to change to.
    """
    now = core.now()
    rotation_id = new_id(now)
    if kind == "root":
        await asyncio.to_thread(core.prepare_next_root)

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


async def resume(core: Core) -> list[str]:
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
    for rotation in await core.read(unfinished):
        if rotation.id in core.rotating:
            continue
        try:
            await run(core, rotation)
        except StorageFailed:
            raise
        except (VaultError, Refusal) as error:  # it comes again, and stops no other
            log.error("rotation not finished", rotation=rotation.id, error=str(error))
        else:
            done.append(rotation.id)
    return done


async def run(core: Core, rotation: Rotation) -> int:
    """Do a rotation, from wherever it is; returns how many keys it has re-wrapped in all."""
    if rotation.id in core.rotating:
        raise Refusal("locked", f"rotation {rotation.id}: expected nobody at it, found it in hand")
    core.rotating.add(rotation.id)
    try:
        if rotation.kind == "groups":
            await _groups(core, rotation)
        elif rotation.kind == "root":
            await _root(core, rotation)
        else:
            await _ledger(core, rotation)
        return await core.write(lambda tx: _finish(core, tx, rotation))
    finally:
        core.rotating.discard(rotation.id)


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
        "root": root_since(connection) or created,
        "ledger": ledger_keys.newest_since(connection) or created,
    }


def root_since(connection: Connection) -> str | None:
    """When the root key was last changed; None: never."""
    return settings.value(connection, ROOT_SINCE)


# ── document groups ──────────────────────────────────────────────────────────────────────────────


async def _groups(core: Core, rotation: Rotation) -> None:
    """Every group made before the cutoff gives way to a new one."""

    def owners(connection: Connection) -> list[str]:
        where = [clients.c.state == ClientState.OPEN]
        if rotation.client_id is not None:
            where.append(clients.c.id == rotation.client_id)
        return list(connection.execute(select(clients.c.id).where(*where)).scalars())

    for client_id in await core.read(owners):
        # Client by client, so that a destruction waits for one of them at most.
        async with core.keys_lock:
            await _groups_of(core, rotation, client_id)


async def _groups_of(core: Core, rotation: Rotation, client_id: str) -> None:
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
                tx.connection.execute(
                    update(rotations)
                    .where(rotations.c.id == rotation.id)
                    .values(moved=rotations.c.moved + moved)
                )
                return moved

            while await core.write(move):
                pass
    await finish_group_end(core, ids, now)


# ── the root key ─────────────────────────────────────────────────────────────────────────────────


async def _root(core: Core, rotation: Rotation) -> None:
    """Every keyring is saved under the next root key; only then the old one is let go."""
    store = core.store
    if await core.read(lambda connection: settings.value(connection, ROOT_ROTATION)) == rotation.id:
        return  # A crash came after the commit point; the opening has put the new key in its place.
    if store.next_root is None:
        await asyncio.to_thread(core.prepare_next_root)
    new = store.next_root
    assert new is not None
    old_id = store.custody.keyrings.root.id
    keyrings = store.custody.keyrings
    keyrings.use_root(new)
    async with core.keys_lock:
        for owner in await asyncio.to_thread(keyrings.owners):
            if await asyncio.to_thread(keyrings.root_of, owner) == new.id:
                continue
            with step("rotate.keyring"):
                await core.write(
                    lambda tx, who=owner: _save_under(core, tx, rotation, who, core.now())  # type: ignore[misc]
                )

        def commit(tx: Transaction) -> None:
            # COMMIT POINT: from here on the store opens with the new root key only.
            for owner in keyrings.owners():
                if keyrings.root_of(owner) != new.id:
                    raise IntegrityError(
                        f"keyring {owner}: expected it under root key {new.id}, found another",
                        kind="header",
                    )
            now = core.now()
            facts = {"root_key_id": new.id, ROOT_SINCE: stamp(now), ROOT_ROTATION: rotation.id}
            for key, value in facts.items():
                settings.put(tx.connection, key, value)
            core.record(
                tx, "root-key.changed", rotation.id, ACTOR_CORE, now, old=old_id, new=new.id
            )

        with step("rotate.root"):
            await core.write(commit)
        keyrings.drop_root(old_id)
        store.next_root = None
        await asyncio.to_thread(core.adopt_next_root)


def _save_under(core: Core, tx: Transaction, rotation: Rotation, owner: str, now: datetime) -> None:
    custody = core.store.custody
    keyring = custody.keyring(owner)
    before = dict(keyring.groups)
    keyring.former_end()
    custody.save(tx.connection, owner, now)
    if custody.stored(owner).groups != before:
        raise IntegrityError(
            f"keyring {owner}: expected the same groups under the new root key, found others",
            kind="format",
        )
    tx.connection.execute(
        update(rotations).where(rotations.c.id == rotation.id).values(moved=rotations.c.moved + 1)
    )


# ── the ledger's signing key ─────────────────────────────────────────────────────────────────────


async def _ledger(core: Core, rotation: Rotation) -> None:
    """The old key names the new one in the ledger; then only the new one signs."""
    store = core.store
    custody = store.custody
    if (
        await core.read(lambda connection: settings.value(connection, LEDGER_ROTATION))
        == rotation.id
    ):
        await _retire(core)
        return

    # 1. The new key is durable, and its copies are asked for, before anyone relies on it.
    with step("rotate.announce"):
        await core.write(
            lambda tx: custody.ensure(
                tx.connection,
                HOUSE,
                SECRET_NEXT_LEDGER,
                lambda: Ed25519PrivateKey.generate().private_bytes_raw(),
                core.now(),
            )
        )
    secret = custody.keyring(HOUSE).secrets[SECRET_NEXT_LEDGER]
    new = Ed25519PrivateKey.from_private_bytes(secret)
    new_vkey = verifier_key(store.origin, new.public_key())

    # 2. COMMIT POINT: the hand-over, and a checkpoint over it that both keys sign.
    def hand_over(tx: Transaction) -> None:
        now = core.now()
        known = list(ledger_keys.load(tx.connection))
        old = store.ledger_key
        size = tx.ledger.size
        note = ledger_keys.handover_note(store.origin, size, new_vkey, old)
        core.record(
            tx, ledger_keys.CHANGED, store.origin.rpartition("/")[2], ACTOR_CORE, now,
            **{ledger_keys.HANDOVER_FIELD: note},
        )  # fmt: skip
        tx.ledger.sign_checkpoint(tx.connection, store.origin, old, now, successor=new)
        fresh = [LedgerKey(size, new_vkey, note)]
        if not known:
            fresh.insert(0, LedgerKey(0, store.vkey, ""))
        ledger_keys.store(tx.connection, fresh, now)
        settings.put(tx.connection, LEDGER_ROTATION, rotation.id)
        # At once: whoever signs next in this very transaction must sign with the new key.
        store.vkeys = (*store.vkeys, new_vkey)

    with step("rotate.hand-over"):
        try:
            await core.write(hand_over)
        finally:
            await asyncio.to_thread(store.refresh_ledger_keys)

    await _retire(core)


async def _retire(core: Core) -> None:
    """3. The old key goes. Checkpoints signed by it stay good for the sizes they cover."""
    custody = core.store.custody

    def work(tx: Transaction) -> None:
        keyring = custody.keyring(HOUSE)
        if SECRET_NEXT_LEDGER in keyring.secrets:
            keyring.secrets[SECRET_LEDGER] = keyring.secrets.pop(SECRET_NEXT_LEDGER)
            keyring.former_end()
            custody.save(tx.connection, HOUSE, core.now())

    with step("rotate.retire"):
        await core.write(work)
