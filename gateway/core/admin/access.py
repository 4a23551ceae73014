"""Access to documents of restricted classes: who asks, and what an officer decides.

Leaves out: what is restricted, and for how long an approval holds (`core.filing.restricted`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, select

from gateway.core.admin.context import ALL, Context
from gateway.core.admin.register import OFFICER, READERS, ById, act
from gateway.core.admin.second_officer import may_be_one_hand, signed
from gateway.core.filing import restricted
from vault.catalogue import queries
from vault.catalogue.schema import access_requests, accounts, documents
from vault.catalogue.states import AccessState
from vault.catalogue.store import Transaction
from vault.errors import IntegrityError, KeyUnavailable
from vault.moments import stamp

LISTED: int = 1000


class ListRequests(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `access.list`; `decided`: also what is decided, the newest thousand."""

    decided: bool = False


class Approve(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `access.approve`. `hours` 0: as configured; `folder`: all that lies beside it."""

    id: str
    hours: Annotated[int, Meta(ge=0, le=24 * 366)] = 0
    folder: bool = False


class Deny(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `access.deny`; the reason is a line for the one who asked."""

    id: str
    reason: Annotated[
        str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e]+\Z")
    ]


@act("access.list", READERS)
async def list_all(context: Context, arguments: ListRequests) -> list[dict[str, Any]]:
    """Requests that wait, the oldest first; or all, approvals that are over included."""
    core = context.core

    def look(connection: Connection) -> list[dict[str, Any]]:
        query = (
            select(access_requests, accounts.c.name.label("account"))
            .join(accounts, accounts.c.id == access_requests.c.account_id)
            .order_by(access_requests.c.id.desc())
            .limit(LISTED)
        )
        if not arguments.decided:
            query = query.where(access_requests.c.state == AccessState.WAITING)
        names = queries.slugs(connection)
        found = []
        for row in reversed(connection.execute(query).all()):
            document = connection.execute(
                select(documents).where(documents.c.id == row.document_id)
            ).one()
            try:
                name = core.store.custody.open_metadata(document).name
            except (KeyUnavailable, IntegrityError):
                name = ""
            over = row.state == AccessState.APPROVED and row.until <= stamp(context.now)
            found.append(
                {
                    "id": row.id,
                    "account": row.account,
                    "client": names.get(row.client_id, ""),
                    "document": row.document_id,
                    "name": name,
                    "record_class": row.record_class,
                    "fiscal_year": row.fiscal_year,
                    "state": "expired" if over else row.state,
                    "scope": row.scope,
                    "requested_at": row.requested_at,
                    "decided_at": row.decided_at,
                    "decided_by": row.decided_by,
                    "until": row.until,
                    "reason": restricted.reason_of(core, row),
                }
            )
        return found

    found = await core.read(look)
    if found:
        await context.note_reading("access.list", ALL, count=len(found))
    return found


@act("access.approve", OFFICER)
async def approve(context: Context, arguments: Approve) -> dict[str, Any]:
    """Let the account open it, for a time."""
    core = context.core
    hours = arguments.hours or core.config.access.hours
    scope = restricted.FOLDER if arguments.folder else restricted.DOCUMENT
    request_id = arguments.id.upper()
    asked = Approve(request_id, hours, arguments.folder)

    def permit(tx: Transaction, row: Row[Any]) -> bool:
        """Whether this officer's signature is enough; one who may also hold the account needs a second."""
        if not may_be_one_hand(tx.connection, row.account_id, context.actor):
            return True
        return signed(context, tx, "access.approve", asked, request_id) is not None

    until = await core.write(
        lambda tx: restricted.approve(
            core, tx, request_id, context.actor, hours, scope, context.now, permit
        )
    )
    return {
        "id": request_id,
        "state": AccessState.WAITING if until is None else AccessState.APPROVED,
        "scope": scope,
        "until": None if until is None else stamp(until),
        "waiting": until is None,
    }


@act("access.deny", OFFICER)
async def deny(context: Context, arguments: Deny) -> dict[str, Any]:
    """Deny a request."""
    core = context.core
    request_id = arguments.id.upper()

    def work(tx: Transaction) -> None:
        restricted.deny(core, tx, request_id, context.actor, arguments.reason, context.now)

    await core.write(work)
    return {"id": request_id, "state": AccessState.DENIED}


@act("access.revoke", OFFICER)
async def revoke(context: Context, arguments: ById) -> dict[str, Any]:
    """Take an approval back, and end the account's live sessions with what they hold open."""
    core = context.core
    request_id = arguments.id.upper()
    account_id = await core.write(
        lambda tx: restricted.revoke(core, tx, request_id, context.actor, context.now)
    )
    context.wings.logins.end_sessions(account_id)
    return {"id": request_id, "state": AccessState.REVOKED}
