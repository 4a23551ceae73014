"""What goes into a decision and what comes out of it, as immutable values.

Promises: plain data that msgspec encodes and decodes, so that a decision can be stored with the
facts it was made from and explained years later. Field names stay, once shipped.
Leaves out: every rule (`decision`). Dates are calendar dates; instants are aware datetimes.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

import msgspec

from retention_rules.model import ClaimLevel, Kind, OnExpiry, Stub

Status = Literal["scheduled", "permanent", "blocked", "no_rule"]
CustodyRole = Literal["record_copy", "working_copy"]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one document. None and absence mean unknown, never "does not apply".

    `fiscal_year` is the calendar year in which the fiscal year ends, `fiscal_year_end` a
    (month, day); `confidence` is that of the classification, 0 to 1, and `confirmed` says that a
    person made or confirmed it; `events` holds recorded dates by name, those of the triggers
    `filing` and `deadline` too; `attributes` are properties a person recorded (`Rule.requires`);
    `as_of` selects rule versions (default: `received_on`); `parent_eligible_at` and
    `parent_status` are those of the decision for the document this one is a part of.
    """

    document_id: str
    jurisdiction: str
    record_class: str | None
    fiscal_year: int | None
    fiscal_year_end: tuple[int, int]
    received_on: date
    document_date: date | None = None
    events: dict[str, date] = {}
    confidence: float = 0.0
    confirmed: bool = False
    holds: tuple[str, ...] = ()
    suspensions: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    entity_type: str = ""
    custody_role: CustodyRole = "working_copy"
    parent_eligible_at: datetime | None = None
    parent_status: Status | None = None
    as_of: date | None = None


class AppliedRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that applies, and what it came to.

    `trigger_on` is None if the trigger is unknown (or the rule permanent), and then `until`, the
    instant at which the period has run, is None too. `outcome` is one sentence.
    """

    rule: str
    title_en: str
    title_zh: str
    kind: Kind
    trigger: str | None
    trigger_on: date | None
    period: str | None
    until: datetime | None
    outcome: str
    citation: str
    confidence: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules say about one document, with everything needed to see why.

    `eligible_at`: earliest instant destruction may be proposed, holds and suspensions disregarded;
    None if there is none. `restricted_from`: a maximum has passed while something forbids
    destruction: storage only. `overdue_from`: a maximum has passed and nothing forbids it.
    `blocked_by` empty and `eligible_at` set together make a document eligible, see `is_due`.
    The fields from `on_expiry` on are those of the governing rule (empty without one).
    """

    document_id: str
    status: Status
    eligible_at: datetime | None
    restricted_from: datetime | None
    overdue_from: datetime | None
    governing: str | None
    applied: tuple[AppliedRule, ...]
    reasons: tuple[str, ...]
    blocked_by: tuple[str, ...]
    warnings: tuple[str, ...]
    inputs: Facts
    on_expiry: OnExpiry = "review"
    approval_roles: tuple[str, ...] = ()
    appraisal_roles: tuple[str, ...] = ()
    witness_roles: tuple[str, ...] = ()
    minimum_claim_level: ClaimLevel | None = None
    original_format_required: bool = False
    stub: Stub | None = None
    basis: str = ""
