"""Receipts: what a client can hold in its hands about a document it sent, as text and as JSON.

Both are signed with the gateway's ledger key (`vault.certificate.receipt`), so that they can be verified
offline (`strongroom receipt verify`). A receipt is made from the catalogue each time it is read, and so
states the document's present state; two readings of an unchanged document give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal, cast

import msgspec
from sqlalchemy import Row

from gateway.core import reasons
from gateway.core.core import Core
from gateway.core.filing import retention as filing_retention
from gateway.core.reasons import UNJUDGED
from vault.catalogue.states import STORED, DocumentState
from vault.certificate import receipt
from vault.certificate.receipt import (
    MAX_PARTS,
    Inside,
    Kept,
    Outcome,
    Receipt,
    Same,
    Title,
    Verdict,
)
from vault.keys.custody import DocumentMetadata

Kind = Literal["txt", "json"]
KINDS: Final[tuple[Kind, ...]] = ("txt", "json")

_NAME: Final = re.compile(r"(\d{8})-([0-9A-Z]{26})\.(txt|json)")
_VERDICTS: Final[dict[DocumentState, Verdict]] = {
    DocumentState.RECEIVED: "pending",
    DocumentState.REVIEW: "review",
    DocumentState.QUARANTINED: "refused",
    DocumentState.FILED: "accepted",
    DocumentState.ARCHIVED: "accepted",
}

_OUTCOMES: Final[dict[DocumentState, Outcome]] = {
    DocumentState.RECEIVED: "pending",
    DocumentState.REVIEW: "review",
    DocumentState.QUARANTINED: "quarantined",
    DocumentState.FILED: "filed",
    DocumentState.ARCHIVED: "filed",
}
_PART_NAME: Final = 120  # characters


def file_name(row: Row[Any], kind: Kind) -> str:
    """The name of a document's receipt: day of receipt and id."""
    return f"{row.received_at[:10].replace('-', '')}-{row.id}.{kind}"


def document_of(name: str) -> tuple[str, Kind] | None:
    """The document id in a receipt's name, and which of its receipts it is; None: no such name."""
    match = _NAME.fullmatch(name)
    return (match[2], cast("Kind", match[3])) if match else None


def facts(
    core: Core,
    row: Row[Any],
    metadata: DocumentMetadata,
    client: str,
    same: Same | None,
    parts: Sequence[Row[Any]] = (),
) -> Receipt:
    """The facts of a receipt.

    Args:
        client: its slug.
        same: the document whose bytes it repeats.
        parts: the rows of what was found inside it.
    """
    inside = [
        *(_part(core, each) for each in parts[:MAX_PARTS]),
        *(
            Inside(name=name[:_PART_NAME], outcome="ignored", rule=rule)
            for rule, _, name in (each.partition(": ") for each in metadata.ignored)
        ),
    ]
    more = len(parts) + len(metadata.ignored) - MAX_PARTS
    state = DocumentState(row.state)
    judged = state in {DocumentState.REVIEW, DocumentState.QUARANTINED}
    why, what = reasons.sentences(row.reason if judged else "", metadata.findings)
    filed = state in {DocumentState.FILED, DocumentState.ARCHIVED}
    known = core.rules.record_classes.get(row.record_class or "") if filed else None
    return Receipt(
        client=client,
        document=row.id,
        name=metadata.name,
        size=row.size,
        sha256=metadata.sha256.hex(),
        received_at=row.received_at,
        channel=row.channel,
        part_of=row.parent_id,
        same_bytes_as=same,
        state=str(state),
        state_since=row.state_since,
        verdict=_VERDICTS.get(state, "pending"),
        reason_code=row.reason.removeprefix(UNJUDGED).partition(":")[0] if judged else "",
        reason=why,
        what_to_do=what,
        record_class=row.record_class if filed else None,
        record_class_title=Title(zh=known.title_zh, en=known.title_en) if known else None,
        fiscal_year=row.fiscal_year if filed else None,
        kept=_kept(row) if filed else "undecided",
        kept_until=row.eligible_at if filed else None,
        parts=inside[:MAX_PARTS] or msgspec.UNSET,
        parts_more=more if more > 0 else msgspec.UNSET,
    )


def _part(core: Core, row: Row[Any]) -> Inside:
    state = DocumentState(row.state)
    name = ""
    if state in STORED:
        name = core.store.custody.open_metadata(row).name[:_PART_NAME]
    return Inside(name=name, outcome=_OUTCOMES.get(state, "destroyed"), document=row.id)


def _kept(row: Row[Any]) -> Kept:
    decision = filing_retention.stored_decision(row)
    if decision is not None and decision.status == "permanent":
        return "permanently"
    return "until" if row.eligible_at else "undecided"


def render(core: Core, stated: Receipt, kind: Kind) -> bytes:
    """A receipt's file."""
    make = receipt.json_file if kind == "json" else receipt.text_file
    return make(stated, core.store.origin, core.store.ledger_key)


def size(core: Core, stated: Receipt, kind: Kind) -> int:
    """The size of a receipt's file in bytes."""
    measure = receipt.json_size if kind == "json" else receipt.text_size
    return measure(stated, core.store.origin)
