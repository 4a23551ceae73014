"""Recording a verdict: what it does to the document, and when the document is tried again.

Promises: a verdict, the parts it found and the ledger entry are one transaction (`inspect.decide`). Attempts
are spaced by doubling delays; after `inspect.max_attempts` a person decides (REVIEW, unjudged).
Leaves out: who has the document in hand (`claims`), and what the verdict means (`judgement`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Row, bindparam, select, update

from gateway.core import backoff
from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.filing import retention as filing_retention
from gateway.core.inspection import scanner
from gateway.core.inspection.judgement import (
    Circumstances,
    Judgement,
    code_text,
)
from gateway.core.inspection.queue import (
    TIMED_OUT,
)
from gateway.core.intake import receive
from gateway.core.intake.upload import MAIL, Upload
from gateway.core.reasons import UNJUDGED
from gateway.errors import Refusal
from gateway.names import NAME_BYTES, safe_name
from gateway.wire.messages import Verdict
from vault.catalogue import queries
from vault.catalogue.lifecycle import Event, change_state, next_state
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState
from vault.catalogue.store import Transaction
from vault.moments import stamp

LONGEST_DELAY: Final = timedelta(hours=1)
MANDATORY: Final = frozenset({"yara"})
PERSISTENT_SCANS: Final = 16
FACTS_LIMIT: Final = 64
FACT_LIMIT: Final = 2000
_ROW: Final = select(documents).where(documents.c.id == bindparam("document"))
_POSTPONE: Final = (
    update(documents)
    .where(documents.c.id == bindparam("document"), documents.c.state == DocumentState.RECEIVED)
    .values(attempts=bindparam("tried"), next_attempt_at=bindparam("next"), reason=bindparam("why"))
)

Parts: TypeAlias = Mapping[str, tuple[Upload, int, bytes]]
"""Documents found inside another one, by id: the upload, its plaintext size and SHA-256."""


def decide(
    core: Core,
    tx: Transaction,
    document_id: str,
    parts: Parts,
    verdict: Verdict,
    judgement: Judgement,
    now: datetime,
) -> None:
    """COMMIT POINT of an inspection: parts, state, retention, ledger.

    Args:
        parts: what the inspector found inside the document and has sent.

    Raises:
        Refusal: the verdict names a part that was not sent.
    """
    event = judgement.event
    assert event is not None
    row = tx.connection.execute(_ROW, {"document": document_id}).one()
    state = next_state(DocumentState(row.state), event)
    for part in verdict.parts:
        if part not in parts:
            raise Refusal("denied", "verdict: expected parts of this document, found another")
    for upload, size, digest in parts.values():
        receive.record(core, tx, upload, size, digest, now)
    scans = [
        {
            "scanner": code_text(scan.scanner),
            "outcome": scan.outcome,
            "version": code_text(scan.version),
        }
        for scan in verdict.scans[:PERSISTENT_SCANS]
    ]
    key = core.store.custody.document_key(row)
    facts = {
        key[:FACT_LIMIT]: value[:FACT_LIMIT]
        for key, value in list(verdict.facts.items())[:FACTS_LIMIT]
        if key != NAME_BYTES
    }
    # As the row has it now: the one who sent it may have renamed it since it was claimed.
    metadata = core.store.custody.open_metadata(row)
    metadata = msgspec.structs.replace(
        metadata,
        facts={**metadata.facts, **facts},
        findings=_findings(verdict),
        reasons=verdict.classification.reasons,
        ignored=verdict.ignored,
    )
    more: dict[str, Any] = {}
    if row.channel in MAIL and verdict.suggested_name:
        name = safe_name(verdict.suggested_name)
        metadata = msgspec.structs.replace(metadata, name=name)
        more["name_index"] = core.store.custody.name_index(row.client_id, name)
    more |= {
        "sealed_metadata": core.store.custody.seal_metadata(key, row.id, metadata),
        "media_type": verdict.media_type[:128],
        "lane": 0,
        "scans": msgspec.json.encode(scans).decode(),
    }
    core.record(
        tx,
        "document.inspected",
        row.id,
        ACTOR_CORE,
        now,
        outcome=str(state),
        reason=judgement.reason,
        scanners=[f"{scan['scanner']}={scan['outcome']}" for scan in scans],
        parts=len(parts),
    )
    if event is Event.FILE:
        assert judgement.record_class is not None
        assert judgement.fiscal_year is not None
        filing_retention.file(
            core,
            tx,
            row,
            event,
            now,
            ACTOR_CORE,
            record_class=judgement.record_class,
            fiscal_year=judgement.fiscal_year,
            document_date=judgement.document_date,
            confidence=verdict.classification.confidence,
            confirmed=False,
            **more,
        )
        return
    retention = filing_retention.quarantine_columns(core, now) if event is Event.QUARANTINE else {}
    day = judgement.document_date
    change_state(
        tx.connection,
        [row.id],
        event,
        stamp(now),
        **more,
        **retention,
        reason=judgement.reason,
        record_class=judgement.record_class,
        document_date=day.isoformat() if day else None,
        confidence=verdict.classification.confidence,
        next_attempt_at=None,
    )


async def postpone(
    core: Core, row: Row[Any], reason: str, *, for_ever: bool, chance: float
) -> bool:
    """Try again later, or give up and ask a person; returns whether it gave up.

    Args:
        for_ever: do not give up, however often it was tried.
        chance: from 0 to 1, see `backoff.delay`.
    """
    now = core.now()
    attempts = row.attempts + 1
    delay = backoff.delay(
        attempts,
        first=timedelta(seconds=core.config.inspect.retry_seconds),
        longest=LONGEST_DELAY,
        chance=chance,
    )
    twice = reason == TIMED_OUT and row.reason == TIMED_OUT
    give_up = (twice or attempts >= core.config.inspect.max_attempts) and not for_ever

    def work(tx: Transaction) -> None:
        if not give_up:
            tx.connection.execute(
                _POSTPONE,
                {
                    "document": row.id,
                    "tried": attempts,
                    "next": stamp(now + delay),
                    "why": reason[:64],
                },
            )
            return
        changed = change_state(
            tx.connection,
            [row.id],
            Event.QUESTION,
            stamp(now),
            where_possible=True,  # somebody has judged it meanwhile
            attempts=attempts,
            next_attempt_at=None,
            lane=0,
            reason=f"{UNJUDGED}{reason}"[:64],
        )
        if changed:  # the ledger says what happened, and nothing else
            core.record(
                tx,
                "document.inspected",
                row.id,
                ACTOR_CORE,
                now,
                outcome=DocumentState.REVIEW,
                reason=f"{UNJUDGED}{reason}"[:64],
                attempts=attempts,
            )

    log.warning(
        "inspection postponed",
        document=row.id,
        reason=reason,
        attempt=attempts,
        gave_up=give_up,
    )
    await core.write(work)
    return give_up


async def circumstances(core: Core, row: Row[Any], sha256: bytes) -> Circumstances:
    """The facts that a verdict about a document is judged by, besides the verdict.

    Args:
        sha256: of the document as it was received.
    """
    client, seen = await core.read(
        lambda connection: (queries.client(connection, row.client_id), scanner.seen(connection))
    )
    received = datetime.fromisoformat(row.received_at)
    return Circumstances(
        size=row.size,
        sha256=sha256,
        received_on=filing_retention.local_day(received, client.jurisdiction),
        year_end=filing_retention.year_end(client.fiscal_year_end),
        known_classes=frozenset(core.rules.record_classes),
        scanners=MANDATORY,
        clamd=scanner.policy(core, seen),
    )


def _findings(verdict: Verdict) -> list[str]:
    """The scanners' findings in full; the row and the ledger have the first of them, shortened."""
    found = [
        f"{scan.scanner}: {scan.outcome} {scan.detail}".rstrip()
        for scan in verdict.scans
        if scan.outcome not in {"clean", "skipped"}
    ]
    return [*found, *([f"unreadable: {verdict.unreadable}"] if verdict.unreadable else [])]
