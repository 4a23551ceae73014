"""Documents: listing, showing, and what officers and accountants decide about them.

Leaves out: what a decision does (`core.filing.review`).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, select

from gateway.core.admin.context import ALL, Context, client_row, document_row
from gateway.core.admin.register import ADMIN, OFFICER, READERS, OfDocument, act
from gateway.core.admin.second_officer import TwoOfficers
from gateway.core.filing import restricted, review
from gateway.core.inspection import fixity
from gateway.core.outbound.backup import documents as backup_documents
from gateway.core.reasons import UNJUDGED
from gateway.core.views.base import Opened
from gateway.errors import Refusal
from gateway.wire.messages import AdminAnswer, Readable
from vault.catalogue import queries
from vault.catalogue.schema import documents, messages
from vault.catalogue.states import READABLE, STORED, DocumentState
from vault.catalogue.store import Transaction
from vault.errors import IntegrityError, KeyUnavailable

Limit = Annotated[int, Meta(ge=1, le=10_000)]


class ListSome(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `document.list`: filters, and where to go on (`after` an id)."""

    client: str = ""
    state: str = ""
    record_class: str = ""
    fiscal_year: int = 0
    after: str = ""
    limit: Limit = 1000


class Restore(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `document.restore`: documents, and the backup target ("" for the only one)."""

    documents: Annotated[list[str], Meta(min_length=1, max_length=1000)]
    target: str = ""


class Release(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `document.release`; the class is optional where the inspector proposed one."""

    document: str
    record_class: str = ""
    fiscal_year: int = 0


class Reclassify(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `document.reclassify`."""

    document: str
    record_class: str
    fiscal_year: int


def describe(context: Context, row: Row[Any], names: dict[str, str]) -> dict[str, Any]:
    """A document as every listing shows it. Field names stay, once shipped."""
    name = sha256 = ""
    more: dict[str, Any] = {}
    try:
        metadata = context.core.store.custody.open_metadata(row)
        name, sha256 = metadata.name, metadata.sha256.hex()
    except (KeyUnavailable, IntegrityError) as error:
        # One that does not open hides no other; of a destroyed one there is nothing to open.
        if row.state in STORED:
            more = {"problem": f"{error}; `strongroom check` says what to do"}
    return more | {
        "id": row.id,
        "client": names.get(row.client_id, ""),
        "name": name,
        "state": row.state,
        "reason": row.reason,
        "record_class": row.record_class,
        "fiscal_year": row.fiscal_year,
        "received_at": row.received_at,
        "size": row.size,
        "sha256": sha256,
        "eligible_at": row.eligible_at,
        "rule": row.rule,
        "channel": row.channel,
        "parent": row.parent_id,
        "media_type": row.media_type,
        "confidence": row.confidence,
        "batch": row.batch_id,
    }


@act("document.list", READERS)
async def list_some(context: Context, arguments: ListSome) -> list[dict[str, Any]]:
    """Documents in order of arrival."""

    def look(connection: Connection) -> tuple[str, list[dict[str, Any]]]:
        query = select(documents).where(documents.c.id > arguments.after)
        subject = ALL
        if arguments.client:
            subject = client_row(connection, arguments.client).id
            query = query.where(documents.c.client_id == subject)
        if arguments.state:
            if arguments.state.upper() not in set(DocumentState):
                raise Refusal(
                    "invalid",
                    f"state: expected one of {', '.join(DocumentState)}, found {arguments.state!r}",
                )
            query = query.where(documents.c.state == arguments.state.upper())
        else:
            query = query.where(documents.c.state != DocumentState.EXPIRED)
        if arguments.record_class:
            query = query.where(documents.c.record_class == arguments.record_class)
        if arguments.fiscal_year:
            query = query.where(documents.c.fiscal_year == arguments.fiscal_year)
        names = queries.slugs(connection)
        if arguments.client:
            # First their ids, which an index has: whole rows would all be sorted.
            ids = query.with_only_columns(documents.c.id).order_by(documents.c.id)
            query = select(documents).where(documents.c.id.in_(ids.limit(arguments.limit)))
        rows = connection.execute(query.order_by(documents.c.id).limit(arguments.limit)).all()
        return subject, [describe(context, row, names) for row in rows]

    subject, found = await context.core.read(look)
    asked = {
        "state": arguments.state.upper(),
        "record_class": arguments.record_class,
        "fiscal_year": arguments.fiscal_year,
    }
    filters = {name: value for name, value in asked.items() if value}
    await context.note_reading("document.list", subject, count=len(found), **filters)
    return found


@act("document.show", READERS)
async def show(context: Context, arguments: OfDocument) -> dict[str, Any]:
    """Everything known about one document, facts read from it included."""

    def look(connection: Connection) -> dict[str, Any]:
        row = document_row(connection, arguments.document)
        shown = describe(context, row, queries.slugs(connection))
        message = connection.execute(
            select(messages.c.same_id_as, messages.c.proof).where(messages.c.document_id == row.id)
        ).one_or_none()
        shown |= {
            "state_since": row.state_since,
            "confirmed": row.confirmed,
            "document_date": row.document_date,
            "attempts": row.attempts,
            "next_attempt_at": row.next_attempt_at,
            "scans": msgspec.json.decode(row.scans) if row.scans else [],
            "group": row.group_id,
            "same_as": row.same_as,
            "same_message_id_as": None if message is None else message.same_id_as,
            "proof": None if message is None else message.proof,
            "destroyed_at": row.destroyed_at,
            "parts": list(
                connection.execute(
                    select(documents.c.id)
                    .where(documents.c.parent_id == row.id)
                    .order_by(documents.c.id)
                ).scalars()
            ),
        }
        try:
            metadata = context.core.store.custody.open_metadata(row)
        except (KeyUnavailable, IntegrityError):
            return shown
        return shown | {
            "path": metadata.path,
            "sender": metadata.sender,
            "facts": metadata.facts,
            "findings": metadata.findings,
            "reasons": metadata.reasons,
            "ignored": metadata.ignored,
        }

    shown = await context.core.read(look)
    await context.note_reading("document.show", shown["id"])
    return shown


@act("document.release", OFFICER)
async def release(context: Context, arguments: Release) -> dict[str, Any]:
    """Release a quarantined document, or one that could not be judged."""
    row = await context.core.read(lambda c: document_row(c, arguments.document))
    permit = TwoOfficers(
        context, "document.release", msgspec.structs.replace(arguments, document=row.id)
    )
    state = await review.release(
        context.core,
        row.id,
        context.actor,
        arguments.record_class or None,
        arguments.fiscal_year or None,
        permit,
    )
    if context.queue is not None:
        context.queue.wake()  # a message that was put aside unopened is inspected now
    return {"id": row.id, "state": state, "waiting": permit.waiting}


@act("document.reject", OFFICER)
async def reject(context: Context, arguments: OfDocument) -> dict[str, Any]:
    """Reject a document in review."""
    row = await context.core.read(lambda c: document_row(c, arguments.document))
    return {"id": row.id, "state": await review.reject(context.core, row.id, context.actor)}


@act("document.reclassify", ("accountant", "officer"))
async def reclassify(context: Context, arguments: Reclassify) -> dict[str, Any]:
    """Classify a document in review, or change a class."""
    row = await context.core.read(lambda c: document_row(c, arguments.document))
    account = context.account
    assert account is not None  # the console may not do this
    if account.role == "accountant" and row.client_id not in account.clients:
        raise Refusal("not_found", f"document {arguments.document}: expected one, found none")
    permit = TwoOfficers(
        context, "document.reclassify", msgspec.structs.replace(arguments, document=row.id)
    )
    state = await review.reclassify(
        context.core,
        row.id,
        arguments.record_class,
        arguments.fiscal_year,
        context.actor,
        permit=permit if account.role == "officer" else None,
    )
    return {
        "id": row.id,
        "state": state,
        "record_class": row.record_class if permit.waiting else arguments.record_class,
        "waiting": permit.waiting,
    }


@act("document.restore", (*ADMIN, "officer"))
async def restore(context: Context, arguments: Restore) -> AdminAnswer:
    """Bring sealed files that are missing or damaged back from a backup; exit code 1 if one is not."""

    def look(connection: Connection) -> list[str]:
        return [document_row(connection, each).id for each in arguments.documents]

    done = await backup_documents.restore(
        context.wings.outbound,
        fixity.reader_of(context.core, context.queue),
        await context.core.read(look),
        arguments.target,
        context.actor,
    )
    if context.queue is not None:
        context.queue.wake()  # one that did not open may be inspected now
    refused = any(each.outcome != backup_documents.RESTORED for each in done)
    return AdminAnswer({"documents": msgspec.to_builtins(done)}, 1 if refused else 0)


@act("document.export", ("accountant", "officer"))
async def export(context: Context, arguments: OfDocument) -> Opened:
    """Open a document for export: the caller gets its sealed file and its key, the ledger an entry."""
    core = context.core
    account = context.account
    assert account is not None  # the console may not do this

    def work(tx: Transaction) -> tuple[Row[Any], restricted.Answer | None]:
        row = document_row(tx.connection, arguments.document)
        if row.client_id not in account.clients or row.state not in READABLE:
            raise Refusal("not_found", f"document {arguments.document}: expected one, found none")
        if row.reason.startswith(UNJUDGED):
            raise Refusal("denied", f"document {row.id}: expected it checked, found it unjudged")
        facts = {}
        if restricted.restricted_by(core, tx.connection, row) is not None:
            answer = restricted.ask(core, tx, account.id, row, context.now)
            if answer.approval is None:
                return row, answer
            facts["access"] = answer.approval
        core.record(tx, "document.exported", row.id, context.actor, context.now, **facts)
        return row, None

    row, refused = await core.write(work)
    if refused is not None:
        raise Refusal("denied", f"document {row.id}: {refused.sentence}")
    descriptor = await asyncio.to_thread(core.store.blobs.open, row.id)
    key = core.store.custody.document_key(row)
    return Opened(Readable(size=row.size, key=key, document_id=row.id), descriptor)
