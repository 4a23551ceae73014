"""Decisions of people about documents: classify, release, reject.

Promises: each act is one transaction with its ledger entry. An accountant may classify what waits in
review; what could not be judged, or was quarantined, only two officers release. A changed class changes the
retention; one that would end earlier is refused here: shortening takes an approval that a person signs as
an officer. So does taking a document out of a restricted class, or moving it within one: where it would lie
next, more people might open it.
Leaves out: two officers' signatures (`admin.second_officer`), and opening a document (`restricted`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Row, select, update

from gateway.core.core import Core
from gateway.core.filing import restricted as access
from gateway.core.filing import retention as filing_retention
from gateway.core.reasons import SENDER_UNPROVEN, UNJUDGED
from gateway.errors import Refusal
from retention_rules.facts import Decision
from retention_rules.periods import fiscal_year_of
from vault.catalogue import queries
from vault.catalogue.lifecycle import Event, IllegalTransition, change_state
from vault.catalogue.schema import documents, messages
from vault.catalogue.states import DocumentState, Proof
from vault.catalogue.store import Transaction
from vault.moments import stamp

EARLIEST_YEAR: Final = 1980
"""No document of an earlier fiscal year is filed: such a year is a slip."""


def parse_fiscal_year(text: str) -> int:
    """Read a fiscal year as people write it in a path (raises Refusal)."""
    if not re.fullmatch(r"\d{4}", text):
        raise Refusal("not_found", "No such file or folder.")
    return int(text)


def _row(tx: Transaction, document_id: str) -> Row[Any]:
    row = queries.document(tx.connection, document_id)
    if row is None:
        raise Refusal("not_found", f"document {document_id}: expected one, found none")
    return row


def _check(core: Core, record_class: str, fiscal_year: int, now: datetime) -> None:
    if record_class not in core.rules.record_classes:
        known = ", ".join(sorted(core.rules.record_classes))
        raise Refusal("invalid", f"record class: expected one of {known}; found {record_class!r}")
    if not EARLIEST_YEAR <= fiscal_year <= now.year + 1:
        raise Refusal(
            "invalid",
            f"fiscal year: expected {EARLIEST_YEAR} to {now.year + 1}, found {fiscal_year}",
        )


def _day(row: Row[Any]) -> date | None:
    return date.fromisoformat(row.document_date) if row.document_date else None


def _ends_earlier(before: Decision, after: Decision) -> bool:
    """Whether a document would fall due earlier than before."""
    if after.status == "permanent":
        return False
    if before.status == "permanent" or before.eligible_at is None:
        return True  # what never went, or not yet, now has a date
    return after.eligible_at is None or after.eligible_at < before.eligible_at


def _stays_restricted(
    core: Core,
    tx: Transaction,
    row: Row[Any],
    record_class: str,
    fiscal_year: int,
    actor: str,
    now: datetime,
) -> None:
    """Refuse an accountant an act that would lift a document's restriction (raises Refusal)."""
    if row.record_class not in core.config.access.restricted:
        return
    if row.state == DocumentState.REVIEW:
        # The class is the inspector's proposal; an account that was allowed to see it may correct it.
        if row.record_class == record_class or access.approval(tx.connection, actor, row, now):
            return
        raise Refusal(
            "denied",
            f"This was taken for {row.record_class}, a restricted class. Open it, which asks an officer for"
            " access; with that you can classify it.",
        )
    if (row.record_class, row.fiscal_year) != (record_class, fiscal_year):
        raise Refusal(
            "denied",
            f"This is a document of a restricted class, {row.record_class}; an officer has to move it:"
            f" strongroom document reclassify {row.id} --class {record_class} --year {fiscal_year}.",
        )


def _file(
    core: Core,
    tx: Transaction,
    row: Row[Any],
    event: Event,
    record_class: str,
    fiscal_year: int,
    actor: str,
    now: datetime,
) -> None:
    """File a document as a person has classified it (raises Refusal: not from its state)."""
    try:
        filing_retention.file(
            core,
            tx,
            row,
            event,
            now,
            actor,
            record_class=record_class,
            fiscal_year=fiscal_year,
            document_date=_day(row),
            confidence=row.confidence,
            confirmed=True,
        )
    except IllegalTransition as error:
        raise Refusal("invalid", f"document {row.id}: {error}") from error


async def reclassify(
    core: Core,
    document_id: str,
    record_class: str,
    fiscal_year: int,
    actor: str,
    *,
    permit: Callable[[Transaction, Row[Any]], bool] | None = None,
) -> DocumentState:
    """Classify a document by a person's decision, or change its class.

    Args:
        permit: given where an officer decides: whether enough of them have signed for what opens a document
            that was closed; if not, it stays as it is.

    Raises:
        Refusal: unknown class, a document that can't be classified in its state, or a shorter retention
            without an officer.
    """
    now = core.now()
    _check(core, record_class, fiscal_year, now)
    as_officer = permit is not None
    restricted = core.config.access.restricted

    def work(tx: Transaction) -> DocumentState:
        row = _row(tx, document_id)
        if row.reason.startswith(UNJUDGED) and not as_officer:
            raise Refusal(
                "denied", "This document could not be checked; an officer can release it."
            )
        if row.batch_id is not None:
            raise Refusal(
                "locked", f"document {row.id}: expected none in a disposal batch, found it in one"
            )
        if not as_officer:
            _stays_restricted(core, tx, row, record_class, fiscal_year, actor, now)
        before = filing_retention.stored_decision(row)
        after = filing_retention.evaluate(
            core,
            tx.connection,
            row,
            record_class=record_class,
            fiscal_year=fiscal_year,
            confirmed=True,
        )
        if before is not None and not as_officer and _ends_earlier(before, after):
            raise Refusal(
                "denied",
                f"As {record_class} this document would be kept for a shorter time, which an officer has to"
                f" approve: strongroom document reclassify {row.id} --class {record_class}"
                f" --year {fiscal_year}.",
            )
        opens = row.reason.startswith(UNJUDGED) or (
            row.record_class in restricted and record_class not in restricted
        )
        if permit is not None and opens and not permit(tx, row):
            return DocumentState(row.state)
        _file(core, tx, row, Event.RECLASSIFY, record_class, fiscal_year, actor, now)
        return DocumentState(
            tx.connection.execute(
                select(documents.c.state).where(documents.c.id == document_id)
            ).scalar_one()
        )

    return await core.write(work)


async def release(
    core: Core,
    document_id: str,
    actor: str,
    record_class: str | None,
    fiscal_year: int | None,
    permit: Callable[[Transaction, Row[Any]], bool],
) -> DocumentState:
    """Officers release a quarantined document, or one that could not be judged.

    A message that was put aside unopened, because its sender proved nothing, is not filed: it is inspected.

    Args:
        record_class, fiscal_year: its class; without them those the inspector proposed.
        permit: whether enough officers have signed; if not, it stays as it is.
    """
    now = core.now()

    def work(tx: Transaction) -> DocumentState:
        row = _row(tx, document_id)
        if row.reason == SENDER_UNPROVEN and row.state == DocumentState.QUARANTINED:
            return _admit(core, tx, row, actor, now, permit)
        chosen = record_class or row.record_class
        year = fiscal_year or row.fiscal_year
        if year is None and _day(row) is not None:
            facts = filing_retention.facts_of(tx.connection, row)
            day = _day(row)
            assert day is not None
            year = fiscal_year_of(day, facts.fiscal_year_end)
        if chosen is None or year is None:
            raise Refusal(
                "invalid",
                f"document {row.id}: expected a record class and a fiscal year to release it into",
            )
        _check(core, chosen, year, now)
        event = Event.RELEASE if row.state == DocumentState.QUARANTINED else Event.RECLASSIFY
        if row.batch_id is not None:
            raise Refusal(
                "locked", f"document {row.id}: expected none in a disposal batch, found it in one"
            )
        if not permit(tx, row):
            return DocumentState(row.state)
        core.record(tx, "document.released", row.id, actor, now, reason=row.reason)
        _file(core, tx, row, event, chosen, year, actor, now)
        return DocumentState.FILED

    return await core.write(work)


def _admit(
    core: Core,
    tx: Transaction,
    row: Row[Any],
    actor: str,
    now: datetime,
    permit: Callable[[Transaction, Row[Any]], bool],
) -> DocumentState:
    """Take a message whose sender proved nothing: nobody has opened it yet, so it is inspected now."""
    if row.batch_id is not None:
        raise Refusal(
            "locked", f"document {row.id}: expected none in a disposal batch, found it in one"
        )
    if not permit(tx, row):
        return DocumentState(row.state)
    change_state(
        tx.connection,
        [row.id],
        Event.ADMIT,
        stamp(now),
        reason="",
        rule=None,
        eligible_at=None,
        next_attempt_at=stamp(now),
    )
    tx.connection.execute(
        update(messages).where(messages.c.document_id == row.id).values(proof=str(Proof.PERSON))
    )
    core.record(tx, "document.released", row.id, actor, now, reason=row.reason)
    return DocumentState.RECEIVED


async def reject(core: Core, document_id: str, actor: str) -> DocumentState:
    """An officer rejects a document in review: quarantine, and destruction after its own period."""
    now = core.now()

    def work(tx: Transaction) -> DocumentState:
        row = _row(tx, document_id)
        try:
            change_state(
                tx.connection,
                [row.id],
                Event.REJECT,
                stamp(now),
                **filing_retention.quarantine_columns(core, now),
                reason="rejected",
            )
        except IllegalTransition as error:
            raise Refusal("invalid", f"document {row.id}: {error}") from error
        core.record(tx, "document.rejected", row.id, actor, now)
        return DocumentState.QUARANTINED

    return await core.write(work)
