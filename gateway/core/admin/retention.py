"""Retention as people ask about it: why, until when, what would fall due, which rules.

Leaves out: computing it (`core.filing.retention`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from gateway.core.admin.context import ALL, Context, client_row, document_row
from gateway.core.admin.documents import describe
from gateway.core.admin.register import READERS, Nothing, OfDocument, act
from gateway.core.filing import retention as filing_retention
from gateway.errors import Refusal
from retention_rules.decision import explain as explain_decision
from vault.catalogue import holds as live_holds
from vault.catalogue import queries
from vault.catalogue.schema import documents
from vault.catalogue.states import DISPOSABLE, DocumentState
from vault.moments import stamp


class Preview(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `retention.preview`: a date (or time), a client."""

    at: str
    client: str = ""


@act("retention.explain", READERS)
async def explain(context: Context, arguments: OfDocument) -> dict[str, Any]:
    """Which rule, why, from which trigger, until when."""

    def look(connection: Connection) -> dict[str, Any]:
        row = document_row(connection, arguments.document)
        answer: dict[str, Any] = {"document": row.id, "state": row.state}
        if row.state == DocumentState.QUARANTINED:
            return answer | {
                "rule": row.rule,
                "eligible_at": row.eligible_at,
                "lines": [
                    f"It is in quarantine; by the house's rule it may go from {row.eligible_at}."
                ],
            }
        if row.state in {DocumentState.FILED, DocumentState.ARCHIVED}:
            decision = filing_retention.evaluate(context.core, connection, row)
        else:
            stored = filing_retention.stored_decision(row)
            if stored is None:
                return answer | {
                    "rule": None,
                    "eligible_at": None,
                    "lines": [f"No rule was applied: the document is {row.state}, not filed."],
                }
            decision = stored
        return answer | {
            "rule": decision.governing,
            "status": decision.status,
            "eligible_at": stamp(decision.eligible_at) if decision.eligible_at else None,
            "blocked_by": list(decision.blocked_by),
            "warnings": list(decision.warnings),
            "lines": explain_decision(decision),
            "decision": msgspec.to_builtins(decision),
        }

    return await context.core.read(look)


@act("retention.preview", READERS)
async def preview(context: Context, arguments: Preview) -> list[dict[str, Any]]:
    """What would fall due by a moment, holds shown."""
    try:
        if len(arguments.at) == 10:
            moment = datetime.combine(date.fromisoformat(arguments.at), time.max, UTC)
        else:
            moment = datetime.fromisoformat(arguments.at)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError as error:
        raise Refusal(
            "invalid", f"--at: expected a date or time (ISO 8601), found {arguments.at!r}"
        ) from error

    def look(connection: Connection) -> tuple[str, list[dict[str, Any]]]:
        names, subject = queries.slugs(connection), ALL
        query = (
            select(documents)
            .where(documents.c.state.in_(DISPOSABLE), documents.c.eligible_at <= stamp(moment))
            .order_by(documents.c.eligible_at, documents.c.id)
        )
        if arguments.client:
            subject = client_row(connection, arguments.client).id
            query = query.where(documents.c.client_id == subject)
        return subject, [
            describe(context, row, names)
            | {"holds": list(live_holds.on_document(connection, row.client_id, row.id))}
            for row in connection.execute(query)
        ]

    subject, found = await context.core.read(look)
    await context.note_reading("retention.preview", subject, count=len(found), until=stamp(moment))
    return found


@act("retention.rules", READERS)
async def rules(context: Context, arguments: Nothing) -> list[dict[str, Any]]:
    """The rules in force, with their citations and how sure they are."""
    del arguments
    return [
        {
            "rule": rule.ref,
            "title_zh": rule.title_zh,
            "title_en": rule.title_en,
            "jurisdiction": rule.jurisdiction,
            "kind": rule.kind,
            "period": rule.period,
            "trigger": rule.trigger,
            "record_classes": list(rule.record_classes),
            "citation": rule.basis.citation,
            "verified_on": rule.verified_on.isoformat(),
            "confidence": rule.confidence,
            "effective_from": rule.effective_from.isoformat(),
        }
        for rule in context.core.rules.rules
    ]
