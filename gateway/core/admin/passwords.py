"""Passwords that clients deposited for locked files, and trying one on a document.

Promises: no act shows a password. Leaves out: keeping and trying them (`core.inspection.locked`); passwords
of accounts (`factors`).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select

from gateway.core.admin.context import Context, client_row, document_row
from gateway.core.admin.register import ADMIN, OfClient, act
from gateway.core.inspection import locked
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import documents
from vault.catalogue.states import ClientState, DocumentState
from vault.catalogue.store import Transaction

KEEPERS: Final = (*ADMIN, "accountant", "officer")
_WAIT: Final = 120.0  # seconds for a document's second turn
_LOOK: Final = 0.1


class Add(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `password.add`; the label tells a client's passwords apart, and is sealed as they are."""

    slug: str
    password: str
    label: str = ""


class Remove(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `password.remove`: the client, and the id from `password.list`."""

    slug: str
    id: str


class Unlock(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `document.unlock`; without a password those deposited are tried."""

    document: str
    password: str = ""
    deposit: bool = False
    label: str = ""


def _client(context: Context, connection: Connection, slug: str) -> queries.Client:
    row = client_row(connection, slug)
    if not _sees(context, row.id):
        raise Refusal("not_found", f"client {slug}: expected one, found none")
    if row.state != ClientState.OPEN:
        raise Refusal("invalid", f"client {slug}: expected it open, found it {row.state}")
    return row


def _sees(context: Context, client_id: str) -> bool:
    account = context.account
    return account is None or account.role != "accountant" or client_id in account.clients


@act("password.add", KEEPERS)
async def add(context: Context, arguments: Add) -> dict[str, Any]:
    """Deposit a password for a client's locked files."""

    def work(tx: Transaction) -> str:
        client = _client(context, tx.connection, arguments.slug)
        return locked.add(
            context.core,
            tx,
            client.id,
            arguments.label,
            arguments.password,
            context.actor,
            context.now,
        )

    return {"id": await context.core.write(work), "client": arguments.slug}


@act("password.list", KEEPERS)
async def list_all(context: Context, arguments: OfClient) -> list[dict[str, Any]]:
    """A client's passwords: what each is called and what it opened, not what it is."""

    def look(connection: Connection) -> tuple[str, list[dict[str, Any]]]:
        client = _client(context, connection, arguments.slug)
        return client.id, locked.listed(context.core, connection, client.id)

    client_id, found = await context.core.read(look)
    await context.note_reading("password.list", client_id, count=len(found))
    return found


@act("password.remove", KEEPERS)
async def remove(context: Context, arguments: Remove) -> dict[str, Any]:
    """Forget a deposited password."""

    def work(tx: Transaction) -> None:
        client = _client(context, tx.connection, arguments.slug)
        locked.remove(context.core, tx, client.id, arguments.id, context.actor, context.now)

    await context.core.write(work)
    return {"id": arguments.id, "client": arguments.slug}


@act("document.unlock", KEEPERS)
async def unlock(context: Context, arguments: Unlock) -> dict[str, Any]:
    """Have a locked document in review tried again, with a password or with those deposited."""
    core, queue = context.core, context.queue
    if queue is None:
        raise Refusal("invalid", "core: expected it running, with its inspectors, found it at rest")
    row = await core.read(lambda c: document_row(c, arguments.document))
    if not _sees(context, row.client_id):
        raise Refusal("not_found", f"document {arguments.document}: expected one, found none")
    if arguments.password:
        locked.check_password(arguments.password)
    elif arguments.deposit:
        raise Refusal("invalid", "password: expected one to deposit, found none")

    def work(tx: Transaction) -> None:
        again = document_row(tx.connection, row.id)
        locked.try_again(core, tx, again, context.actor, context.now)
        if arguments.deposit:
            locked.add(
                core,
                tx,
                again.client_id,
                arguments.label,
                arguments.password,
                context.actor,
                context.now,
            )

    if arguments.password:
        queue.locked.give(row.id, arguments.password)  # before a worker can ask
    try:
        await core.write(work)
    except BaseException:
        if arguments.password:
            queue.locked.take_back(row.id)
        raise
    queue.wake()
    return await _judged(context, row.id)


async def _judged(context: Context, document_id: str) -> dict[str, Any]:
    """What became of a document, once it is judged; as it stands if that takes too long."""

    def look(connection: Connection) -> tuple[Row[Any], int]:
        row = document_row(connection, document_id)
        parts = connection.execute(
            select(func.count()).where(documents.c.parent_id == document_id)
        ).scalar_one()
        return row, parts

    loop = asyncio.get_running_loop()
    until = loop.time() + _WAIT
    while True:
        row, parts = await context.core.read(look)
        waiting = row.state == DocumentState.RECEIVED
        if not waiting or loop.time() > until:
            return {
                "id": row.id,
                "state": row.state,
                "reason": row.reason,
                "parts": parts,
                "unlocked": not waiting and row.reason not in locked.WAITING,
                "waiting": waiting,
            }
        await asyncio.sleep(_LOOK)
