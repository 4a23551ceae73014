"""Grants: which clients' documents an account may see.

A grant taken back ends the account's live sessions.
Leaves out: requests to open one restricted document (`access`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import delete
from sqlalchemy.dialects.sqlite import insert as insert_or

from gateway.core.admin.context import Context, account_row, client_row
from gateway.core.admin.register import ADMIN, act
from gateway.errors import Refusal
from vault.catalogue.schema import grants
from vault.catalogue.store import Transaction
from vault.moments import stamp


class Grant(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `account.grant` and `account.revoke`."""

    name: str
    client: str


@act("account.grant", ADMIN)
async def grant(context: Context, arguments: Grant) -> dict[str, Any]:
    """Let an accountant (or archivist) see a client's documents."""

    def work(tx: Transaction) -> None:
        account = account_row(tx.connection, arguments.name)
        client = client_row(tx.connection, arguments.client)
        if account.role not in {"accountant", "archivist", "officer"}:
            raise Refusal(
                "invalid",
                f"account {account.name}: expected an accountant, archivist or officer,"
                f" found {account.role}",
            )
        tx.connection.execute(
            insert_or(grants).on_conflict_do_nothing(),
            {
                "account_id": account.id,
                "client_id": client.id,
                "granted_at": stamp(context.now),
            },
        )
        context.core.record(
            tx, "access.granted", account.id, context.actor, context.now, client=client.id
        )

    await context.core.write(work)
    return {"name": arguments.name, "client": arguments.client, "granted": True}


@act("account.revoke", ADMIN)
async def revoke(context: Context, arguments: Grant) -> dict[str, Any]:
    """Take a grant back; the account's sessions end, so that no open file outlives its right."""

    def work(tx: Transaction) -> str:
        account = account_row(tx.connection, arguments.name)
        client = client_row(tx.connection, arguments.client)
        tx.connection.execute(
            delete(grants).where(grants.c.account_id == account.id, grants.c.client_id == client.id)
        )
        context.core.record(
            tx, "access.revoked", account.id, context.actor, context.now, client=client.id
        )
        return str(account.id)

    context.wings.logins.end_sessions(await context.core.write(work))
    return {"name": arguments.name, "client": arguments.client, "granted": False}
