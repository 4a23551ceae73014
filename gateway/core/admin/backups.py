"""Acts on backups: make one, list them, prove one. Restoring needs no core and is not an act.

Leaves out: how each is done (`core.outbound.backup`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection, select

from gateway.core.admin import broken_keyrings
from gateway.core.admin.context import Context
from gateway.core.admin.register import ADMIN, OFFICER, READERS, ByName, Nothing, act
from gateway.core.outbound.backup import places, status
from gateway.core.outbound.backup import proof as backup_proof
from gateway.core.outbound.backup import run as backup_run
from gateway.wire.messages import AdminAnswer
from vault.catalogue import schema

LISTED = 200


class Run(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `backup.run`: the target's name ("" for the only one); `fresh`: it is a new place."""

    target: str = ""
    fresh: bool = False


class Verify(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `backup.verify`: target, backup ("" for the newest), per cent to read back."""

    target: str = ""
    backup: str = ""
    sample: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None


@act("backup.run", ADMIN)
async def run(context: Context, arguments: Run) -> AdminAnswer:
    """Make a backup now; exit code 1 if a sealed file is missing in the store, or a keyring does not open.

    A backup holds no keys: what it holds of a client whose keyring is broken opens for nobody.
    """
    core = context.core
    made = await backup_run.run(
        context.wings.outbound, arguments.target, context.actor, fresh=arguments.fresh
    )
    made["keyrings_broken"] = await core.read(
        lambda connection: broken_keyrings.look(core, connection)
    )
    return AdminAnswer(made, 1 if made["missing"] or made["keyrings_broken"] else 0)


@act("backup.verify", READERS)
async def verify(context: Context, arguments: Verify) -> AdminAnswer:
    """Prove that a backup can be restored; exit code 1 if anything is found."""
    proof = await backup_proof.verify(
        context.wings.outbound, arguments.target, context.actor, arguments.backup, arguments.sample
    )
    return AdminAnswer(msgspec.to_builtins(proof), 1 if proof.found else 0)


@act("backup.settle", OFFICER)
async def settle(context: Context, arguments: ByName) -> dict[str, Any]:
    """State that nothing is left at a place that was replaced or taken out of the configuration."""
    await places.settle(context.core, arguments.name, context.actor)
    return {"name": arguments.name}


@act("backup.list", READERS)
async def list_all(context: Context, arguments: Nothing) -> dict[str, Any]:
    """The targets, the places in use no more, and the newest runs, the newest last."""
    del arguments
    core = context.core
    table = schema.backups

    def look(connection: Connection) -> list[dict[str, Any]]:
        rows = connection.execute(
            select(
                table.c.id,
                table.c.target,
                table.c.state,
                table.c.started_at,
                table.c.finished_at,
                table.c.ledger_size,
                table.c.documents,
                table.c.blobs,
                table.c.bytes,
                table.c.verified_at,
                table.c.failure,
            )
            .order_by(table.c.id.desc())
            .limit(LISTED)
        ).all()
        return [dict(row._mapping) for row in reversed(rows)]

    state = status.status(core)
    return {
        "targets": state["targets"],
        "former": state["former"],
        "backups": await core.read(look),
    }
