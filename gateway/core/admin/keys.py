"""Keys: what there is and how old, and changing them.

Leaves out: how each is changed (`core.keys`), and copies of keyrings (`copies`).
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, func, select

from gateway.core.admin.context import Context, client_row
from gateway.core.admin.register import ADMIN, READERS, Nothing, act
from gateway.core.core import Core
from gateway.core.keys import rotation as rotate
from gateway.core.login import host_keys
from gateway.core.outbound import keyring_copies
from gateway.errors import Refusal
from vault.catalogue.schema import clients, groups, rotations
from vault.catalogue.states import ClientState


class Rotate(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `keys.rotate`; `client` narrows a rotation of groups to one client.

    `at_once`: new host keys are used now, announced or not.
    """

    what: Literal["groups", "root", "ledger", "host"]
    client: str = ""
    at_once: bool = False


@act("keys.status", READERS)
async def status(context: Context, arguments: Nothing) -> dict[str, Any]:
    """Keys with their ages and limits, keyrings with their epochs, rotations, copies that are behind."""
    del arguments
    core = context.core
    limits = {
        "groups": core.config.keys.max_group_age_days,
        "root": core.config.keys.max_root_age_days,
        "ledger": core.config.keys.max_ledger_age_days,
    }

    def look(connection: Connection) -> dict[str, Any]:
        ages = rotate.ages(connection)
        return {
            "root_key": core.store.custody.keyrings.root.id,
            "ledger_key": core.store.vkey,
            "ages": [
                _age(kind, ages[kind], limits[kind], context.now)
                for kind in ("root", "ledger", "groups")
            ],
            "keyrings": [
                _keyring(core, connection, row)
                for row in connection.execute(
                    select(clients)
                    .where(clients.c.state == ClientState.OPEN)
                    .order_by(clients.c.slug)
                )
            ],
            "rotations": [
                {
                    "id": row.id,
                    "what": row.kind,
                    "state": row.state,
                    "started_at": row.started_at,
                    "finished_at": row.finished_at,
                    "rewrapped": row.moved,
                }
                for row in connection.execute(
                    select(rotations).order_by(rotations.c.id.desc()).limit(10)
                )
            ],
        }

    data = await core.read(look)
    data["host"] = await host_keys.status(context.wings.logins.host_keys)
    data["copies"] = [copy.name for copy in core.config.keyring.copies]
    data["copies_behind"] = await asyncio.to_thread(keyring_copies.overdue, core)
    return data


def _age(kind: str, since: str | None, limit: int, now: datetime) -> dict[str, Any]:
    days = (now - datetime.fromisoformat(since)) // timedelta(days=1) if since else None
    return {
        "what": kind,
        "since": since,
        "days": days,
        "limit_days": limit or None,
        "over": bool(limit and days is not None and days >= limit),
    }


def _keyring(core: Core, connection: Connection, row: Row[Any]) -> dict[str, Any]:
    keyring = core.store.custody.keyring(row.id)
    oldest = connection.execute(
        select(func.min(groups.c.created_at)).where(
            groups.c.client_id == row.id, groups.c.ended_at.is_(None)
        )
    ).scalar()
    return {
        "client": row.slug,
        "epoch": keyring.epoch,
        "groups": len(keyring.groups),
        "oldest_group": oldest,
    }


@act("keys.rotate", ADMIN)
async def rotate_keys(context: Context, arguments: Rotate) -> dict[str, Any]:
    """Change keys; returns when it is done. Interrupted, it goes on by itself."""
    core = context.core
    client_id = None
    if arguments.at_once and arguments.what != "host":
        raise Refusal(
            "invalid", f"rotation of {arguments.what}: expected --at-once for host keys only"
        )
    if arguments.client:
        if arguments.what != "groups":
            raise Refusal("invalid", f"rotation of {arguments.what}: expected no client, found one")
        row = await core.read(lambda connection: client_row(connection, arguments.client))
        client_id = row.id
    if arguments.what == "host":
        return await _rotate_host(context, at_once=arguments.at_once)
    rotation = await rotate.start(core, arguments.what, context.actor, client_id)
    work = asyncio.ensure_future(rotate.run(context.wings.keys, rotation))
    # The person who asked may go away: what was begun is done all the same.
    context.wings.keys.background.add(work)
    work.add_done_callback(context.wings.keys.background.discard)
    moved = await asyncio.shield(work)
    return {
        "id": rotation.id,
        "what": rotation.kind,
        "rewrapped": moved,
        "root_key": core.store.custody.keyrings.root.id,
        "ledger_key": core.store.vkey,
    }


async def _rotate_host(context: Context, *, at_once: bool) -> dict[str, Any]:
    """Announce new host keys; or put those that are announced to use, made first where there are none."""
    core = context.core
    under_way = (await host_keys.status(context.wings.logins.host_keys))["change_at"] is not None
    if not (at_once and under_way):
        await host_keys.announce(context.wings.logins.host_keys, context.actor)
    if at_once or core.config.keys.host_announce_days == 0:
        await host_keys.change(context.wings.logins.host_keys, context.actor)
    return {"what": "host", **await host_keys.status(context.wings.logins.host_keys)}


@act("keys.host", READERS)
async def host(context: Context, arguments: Nothing) -> dict[str, Any]:
    """The host keys: what clients see, what they will see, and from when."""
    del arguments
    return await host_keys.status(context.wings.logins.host_keys)
