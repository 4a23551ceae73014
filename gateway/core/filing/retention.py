"""Filing: retention is computed, the key moves into its cohort, the document becomes visible.

Promises: the answer of the rules is stored with its inputs (`documents.decision`), so that years later anyone
can see what was computed from what. `file` does that and moves the key, in one transaction.
Leaves out: the decision itself (`retention_rules.decision`); nothing here knows a period.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, Row, bindparam, literal_column, or_, select, update

from gateway.core.core import Core
from retention_rules.decision import decide
from retention_rules.facts import Decision, Facts
from vault.catalogue import holds as live_holds
from vault.catalogue import queries
from vault.catalogue.lifecycle import Event, change_state, next_state
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState
from vault.catalogue.store import Transaction
from vault.moments import stamp

LOCAL_ZONES: Final = {"cn": "Asia/Shanghai", "de": "Europe/Berlin", "uk": "Europe/London"}
QUARANTINE_RULE: Final = "house/quarantine@1"
_STORED: Final = select(documents.c.decision).where(documents.c.id == bindparam("document"))
# Equalities, spelt out: a list would be expanded anew for each document that is filed.
_FILED_PARTS: Final = select(documents).where(
    documents.c.parent_id == bindparam("parent"),
    or_(
        *(
            documents.c.state == literal_column(f"'{state}'")
            for state in (DocumentState.FILED, DocumentState.ARCHIVED)
        )
    ),
)
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Decision).decode


def local_day(moment: datetime, jurisdiction: str) -> date:
    """The calendar day of a moment where the client is."""
    return moment.astimezone(ZoneInfo(LOCAL_ZONES.get(jurisdiction, "UTC"))).date()


def year_end(text: str) -> tuple[int, int]:
    """`MM-DD` as (month, day)."""
    month, day = text.split("-")
    return int(month), int(day)


def facts_of(connection: Connection, row: Row[Any], **changes: Any) -> Facts:
    """The facts retention is decided by, for a document row, with `changes` to its columns."""
    values = {**row._mapping, **changes}
    client = queries.client(connection, row.client_id)
    parent: Decision | None = None
    if row.parent_id is not None:
        stored = connection.execute(_STORED, {"document": row.parent_id}).scalar()
        parent = _decode(stored) if stored else None
    received = datetime.fromisoformat(values["received_at"])
    day = values["document_date"]
    return Facts(
        document_id=row.id,
        jurisdiction=client.jurisdiction,
        record_class=values["record_class"],
        fiscal_year=values["fiscal_year"],
        fiscal_year_end=year_end(client.fiscal_year_end),
        received_on=local_day(received, client.jurisdiction),
        document_date=date.fromisoformat(day) if isinstance(day, str) else day,
        confidence=values["confidence"],
        confirmed=values["confirmed"],
        holds=live_holds.on_document(connection, row.client_id, row.id),
        entity_type=client.entity_type,
        custody_role=client.custody_role,
        parent_eligible_at=parent.eligible_at if parent else None,
        parent_status=parent.status if parent else None,
    )


def evaluate(core: Core, connection: Connection, row: Row[Any], **changes: Any) -> Decision:
    """What the rules say about a document now."""
    return decide(facts_of(connection, row, **changes), core.rules)


def columns_of(decision: Decision) -> dict[str, Any]:
    """The columns that remember a decision.

    `eligible_at` is set only where nothing but a hold stands in the way: a sweep looks at it alone.
    """
    blocked = [reason for reason in decision.blocked_by if not reason.startswith("hold:")]
    scheduled = decision.eligible_at is not None and not blocked and decision.status != "permanent"
    return {
        "rule": decision.governing,
        "eligible_at": stamp(decision.eligible_at) if scheduled and decision.eligible_at else None,
        "decision": _encode(decision).decode(),
        "restricted": decision.restricted_from is not None,
    }


def quarantine_columns(core: Core, now: datetime) -> dict[str, Any]:
    """The columns of a quarantined document: it has a period of its own, by the installation's rule."""
    due = now + timedelta(days=core.config.retention.quarantine_days)
    return {"rule": QUARANTINE_RULE, "eligible_at": stamp(due), "decision": None}


def stored_decision(row: Row[Any]) -> Decision | None:
    """The decision stored with a document row."""
    return _decode(row.decision) if row.decision else None


def file(
    core: Core,
    tx: Transaction,
    row: Row[Any],
    event: Event,
    now: datetime,
    actor: str,
    *,
    record_class: str,
    fiscal_year: int,
    document_date: date | None,
    confidence: float,
    confirmed: bool,
    **more: Any,
) -> Decision:
    """File (or re-file) a document inside a transaction: state, retention, cohort, ledger entry."""
    next_state(DocumentState(row.state), event)  # refused before any key is moved
    changes: dict[str, Any] = {
        "record_class": record_class,
        "fiscal_year": fiscal_year,
        "document_date": document_date.isoformat() if document_date else None,
        "confidence": confidence,
        "confirmed": confirmed,
    }
    decision = evaluate(core, tx.connection, row, **changes)
    custody = core.store.custody
    group = custody.cohort_group(tx.connection, row.client_id, fiscal_year, record_class, now)
    change_state(
        tx.connection,
        [row.id],
        event,
        stamp(now),
        **changes,
        **columns_of(decision),
        **custody.move(tx.connection, row, group, now),
        **more,
        reason="",
        next_attempt_at=None,
    )
    core.record(
        tx,
        "document.filed" if event is Event.FILE else f"document.{event}",
        row.id,
        actor,
        now,
        record_class=record_class,
        fiscal_year=fiscal_year,
        rule=decision.governing,
        eligible_at=stamp(decision.eligible_at) if decision.eligible_at else None,
        confirmed=confirmed,
    )
    refresh_parts(core, tx, row.id)
    return decision


def refresh_parts(core: Core, tx: Transaction, parent_id: str) -> None:
    """Recompute what depends on a container's retention: a part never goes before its whole."""
    rows = tx.connection.execute(_FILED_PARTS, {"parent": parent_id}).all()
    for row in rows:
        tx.connection.execute(
            update(documents)
            .where(documents.c.id == row.id)
            .values(columns_of(evaluate(core, tx.connection, row)))
        )
        refresh_parts(core, tx, row.id)
