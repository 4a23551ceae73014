"""Eligibility: whether each document may be destroyed now, decided anew, and its register entry.

Leaves out: who proposes (`proposal`), and who executes (`execution`). Both ask here, the second time
inside the transaction in which nothing can change any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row

from gateway.core.core import Core
from gateway.core.filing import retention as filing_retention
from retention_rules.decision import is_due
from retention_rules.facts import Decision
from vault.catalogue import holds as live_holds
from vault.catalogue import queries
from vault.catalogue.ledger import commitment
from vault.catalogue.states import DISPOSABLE, DocumentState
from vault.certificate.model import RegisterEntry, Text
from vault.errors import KeyUnavailable

QUARANTINED_CLASS: Final = "quarantined"  # stands in registers where no record class is known

Finding = tuple[str | None, RegisterEntry | None]
"""What `examine` says of a document: (why it may not go, its register entry)."""


class Examination:
    """The answers of `examine` for many documents, valid while nothing that they rest on has changed.

    Ten thousand documents take it many seconds. So they are looked at before the transaction, on a reader;
    inside it, where nothing can change any more, only those are examined again of which the row, the client
    or the holds are others than they were.
    """

    def __init__(self, core: Core, now: datetime) -> None:
        self._core = core
        self._now = now
        self._seen: dict[str, tuple[Row[Any], Finding]] = {}
        self._clients: dict[str, queries.Client] = {}

    def look(self, connection: Connection, rows: Iterable[Row[Any]]) -> None:
        """Examine documents of one client (a read of one moment)."""
        for row in rows:
            if row.client_id not in self._clients:
                self._clients[row.client_id] = queries.client(connection, row.client_id)
            self._seen[row.id] = row, examine(self._core, connection, row, self._now)

    def again(
        self, connection: Connection, rows: Sequence[Row[Any]]
    ) -> Iterator[tuple[Row[Any], str | None, RegisterEntry | None]]:
        """The same inside a transaction, row by row: (row, why not, register entry)."""
        client_ids = {row.client_id for row in rows}
        same = {
            each
            for each in client_ids
            if self._clients.get(each) == queries.client(connection, each)
        }
        held = {
            hold.document_id or hold.client_id for hold in live_holds.live(connection, client_ids)
        }
        for row in rows:
            seen = self._seen.get(row.id)
            free = row.id not in held and row.client_id not in held
            if seen is not None and seen[0] == row and row.client_id in same and free:
                yield row, *seen[1]
            else:
                yield row, *examine(self._core, connection, row, self._now)


def examine(core: Core, connection: Connection, row: Row[Any], now: datetime) -> Finding:
    """Whether a document may be destroyed now, decided anew: (why not, its register entry)."""
    if DocumentState(row.state) not in DISPOSABLE:
        return f"its state is {row.state}", None
    live = live_holds.on_document(connection, row.client_id, row.id)
    if live:
        return f"a hold is on it ({', '.join(live)})", None
    try:
        metadata = core.store.custody.open_metadata(row)
    except KeyUnavailable:
        return "its key is gone already", None
    common = {
        "document_id": row.id,
        "fiscal_year": row.fiscal_year,
        "size": row.size,
        "commitment": commitment(metadata.salt, metadata.sha256),
    }
    client = queries.client(connection, row.client_id)
    received_on = filing_retention.local_day(
        datetime.fromisoformat(row.received_at), client.jurisdiction
    )
    if row.state == DocumentState.QUARANTINED:
        due = datetime.fromisoformat(row.eligible_at) if row.eligible_at else None
        if due is None or due > now:
            return "its quarantine has not ended", None
        days = core.config.retention.quarantine_days
        return None, RegisterEntry(
            **common,
            record_class=QUARANTINED_CLASS,
            title=Text(en="Quarantined document", zh="隔离文件"),
            received_on=received_on,
            rule=filing_retention.QUARANTINE_RULE,
            legal_basis="The house's own rule for documents that were refused",
            trigger="quarantined",
            trigger_on=datetime.fromisoformat(row.state_since).date(),
            period=f"P{days}D",
            retained_until=due,
            eligible_at=due,
        )
    decision = filing_retention.evaluate(core, connection, row)
    if not is_due(decision, now):
        return "; ".join(decision.blocked_by) or "; ".join(
            decision.reasons
        ) or "it is not due", None
    return None, _entry(core, row, decision, received_on, common)


def _entry(
    core: Core, row: Row[Any], decision: Decision, received_on: date, common: dict[str, Any]
) -> RegisterEntry:
    """The register entry of a document that the rules let go."""
    governing = next(rule for rule in decision.applied if rule.rule == decision.governing)
    known = core.rules.record_classes[row.record_class]
    assert governing.trigger is not None
    assert governing.trigger_on is not None
    assert governing.until is not None
    assert decision.eligible_at is not None
    return RegisterEntry(
        **common,
        record_class=row.record_class,
        title=Text(en=known.title_en, zh=known.title_zh),
        received_on=received_on,
        rule=governing.rule,
        legal_basis=governing.citation,
        trigger=governing.trigger,
        trigger_on=governing.trigger_on,
        period=governing.period or "P0D",
        retained_until=governing.until,
        eligible_at=decision.eligible_at,
    )
