"""Holds: placing one stops destruction at once; releasing one takes an officer.

Leaves out: what a hold stops (`core.disposal.eligibility`, and the rules).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from gateway.core.admin.context import ALL, Context, client_row, document_row
from gateway.core.admin.register import OFFICER, READERS, act
from gateway.core.admin.second_officer import signed
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import batches, holds
from vault.catalogue.states import GONE, BatchState
from vault.catalogue.store import Transaction
from vault.crypto.wrapping import open_record, seal_record
from vault.errors import KeyUnavailable
from vault.ids import new_id
from vault.keys.secret_names import SECRET_PROFILE
from vault.moments import stamp

PURPOSE_HOLD: Final = "hold-reason"


class Place(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `hold.place`: a document, or a whole client; and why."""

    reason: str
    document: str = ""
    client: str = ""


class Release(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `hold.release`."""

    hold: str


class ListHolds(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `hold.list`."""

    released: bool = False


@act("hold.place", READERS)
async def place(context: Context, arguments: Place) -> dict[str, Any]:
    """Place a hold. One on a document whose destruction has begun is refused: it comes too late."""
    if bool(arguments.document) == bool(arguments.client):
        raise Refusal("invalid", "hold: expected a document or a client, and one of them only")
    if not arguments.reason.strip():
        raise Refusal("invalid", "hold: expected a reason, found none")
    core = context.core
    hold_id = new_id(context.now)

    def work(tx: Transaction) -> None:
        if arguments.document:
            row = document_row(tx.connection, arguments.document)
            client_id, document_id = row.client_id, row.id
            if row.state in GONE:
                raise Refusal(
                    "invalid", f"document {row.id}: expected it stored, found it {row.state}"
                )
            batch = (
                row.batch_id
                and tx.connection.execute(
                    select(batches.c.state).where(batches.c.id == row.batch_id)
                ).scalar()
            )
            if batch == BatchState.EXECUTING:
                raise Refusal("locked", f"document {row.id}: its destruction has begun")
        else:
            client_id, document_id = client_row(tx.connection, arguments.client).id, None
        key = core.store.custody.keyring(client_id).secrets[SECRET_PROFILE]
        tx.connection.execute(
            insert(holds),
            {
                "id": hold_id,
                "client_id": client_id,
                "document_id": document_id,
                "placed_by": context.actor,
                "placed_at": stamp(context.now),
                "reason": seal_record(
                    key, arguments.reason.encode(), purpose=PURPOSE_HOLD, subject=hold_id
                ),
            },
        )
        core.record(
            tx,
            "hold.placed",
            hold_id,
            context.actor,
            context.now,
            client=client_id,
            document=document_id,
        )

    await core.write(work)
    return {"id": hold_id}


@act("hold.release", OFFICER)
async def release(context: Context, arguments: Release) -> dict[str, Any]:
    """Release a hold: two officers sign for it."""
    core = context.core
    hold_id = arguments.hold.upper()

    def work(tx: Transaction) -> bool:
        live = select(holds.c.id).where(holds.c.id == hold_id, holds.c.released_at.is_(None))
        if tx.connection.execute(live).scalar() is None:
            raise Refusal("not_found", f"hold {arguments.hold}: expected a live one, found none")
        first = signed(context, tx, "hold.release", Release(hold_id), hold_id)
        if first is None:
            return False
        changed = tx.connection.execute(
            update(holds)
            .where(holds.c.id == hold_id, holds.c.released_at.is_(None))
            .values(released_at=stamp(context.now), released_by=context.actor)
        )
        if changed.rowcount != 1:
            raise Refusal("not_found", f"hold {arguments.hold}: expected a live one, found none")
        core.record(tx, "hold.released", hold_id, context.actor, context.now, also=first)
        return True

    if await core.write(work):
        return {"id": hold_id, "released_at": stamp(context.now), "waiting": False}
    return {"id": hold_id, "released_at": None, "waiting": True}


@act("hold.list", READERS)
async def list_all(context: Context, arguments: ListHolds) -> list[dict[str, Any]]:
    """Live holds (or all)."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        names = queries.slugs(connection)
        query = select(holds).order_by(holds.c.id)
        if not arguments.released:
            query = query.where(holds.c.released_at.is_(None))
        found = []
        for row in connection.execute(query):
            try:
                key = context.core.store.custody.keyring(row.client_id).secrets[SECRET_PROFILE]
                reason = open_record(key, row.reason, purpose=PURPOSE_HOLD, subject=row.id).decode()
            except KeyUnavailable:
                reason = ""
            found.append(
                {
                    "id": row.id,
                    "client": names.get(row.client_id, ""),
                    "document": row.document_id,
                    "reason": reason,
                    "placed_at": row.placed_at,
                    "placed_by": row.placed_by,
                    "released_at": row.released_at,
                }
            )
        return found

    found = await context.core.read(look)
    if found:
        await context.note_reading("hold.list", ALL, count=len(found))
    return found
