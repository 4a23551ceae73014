"""What a rule is, as immutable values.

Promises: a `Rule` that came out of the parser is complete and consistent (a permanent rule has
neither trigger nor period, every other rule has both). Values are frozen; nothing here computes,
reads or checks.
Leaves out: how a pack is read (`parser`), how a date is computed (`periods`), what it means for a
document (`decision`). The meaning of every field is in RULES.md, section 1.
"""

from __future__ import annotations

from datetime import date
from typing import Final, Literal

import msgspec

Kind = Literal["minimum", "maximum", "permanent"]
OnExpiry = Literal["review", "destroy", "transfer", "return"]
ClaimLevel = Literal["L0", "L1", "L2", "L3"]
Confidence = Literal["high", "medium", "low"]
Suspension = Literal["legal_hold", "unsettled_debt", "open_matter", "open_assessment"]

KINDS: Final[tuple[Kind, ...]] = ("minimum", "maximum", "permanent")
EXPIRY_ACTIONS: Final[tuple[OnExpiry, ...]] = ("review", "destroy", "transfer", "return")
CLAIM_LEVELS: Final[tuple[ClaimLevel, ...]] = ("L0", "L1", "L2", "L3")
CONFIDENCES: Final[tuple[Confidence, ...]] = ("high", "medium", "low")
SUSPENSIONS: Final[tuple[Suspension, ...]] = (
    "legal_hold",
    "unsettled_debt",
    "open_matter",
    "open_assessment",
)

# Triggers without a parameter; `event:<name>` is the open family beside them.
SIMPLE_TRIGGERS: Final = (
    "fiscal_year_end",
    "calendar_year_end",
    "filing",
    "deadline",
    "received",
    "document_date",
)
EVENT_PREFIX: Final = "event:"
ANY_JURISDICTION: Final = "*"


class RecordClass(msgspec.Struct, frozen=True):
    """A class of records: `key` is its folder name at the edge, the titles are for people."""

    key: str
    title_en: str
    title_zh: str


class Basis(msgspec.Struct, frozen=True):
    """The legal basis: a citation people can look up, and where (an empty `url` = not given)."""

    citation: str
    url: str = ""


class Archive(msgspec.Struct, frozen=True, omit_defaults=True):
    """Handover to the archive: periods from the trigger, who consents to deferral, the checks."""

    after: str
    maximum_deferral: str
    consent_role: str
    checks: tuple[str, ...] = ()


class Stub(msgspec.Struct, frozen=True, omit_defaults=True):
    """What remains of a destroyed document: field names, and an ISO 8601 period or `permanent`."""

    keep: tuple[str, ...]
    period: str


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One immutable version of one retention rule (fields: RULES.md, section 1).

    Optional fields are omitted from the encoding when unset, so that a field added to the format
    later does not change the digest of the rules that do not use it.
    """

    id: str
    version: int
    title_en: str
    title_zh: str
    jurisdiction: str
    record_classes: tuple[str, ...]
    kind: Kind
    time_zone: str
    on_expiry: OnExpiry
    approval_roles: tuple[str, ...]
    minimum_claim_level: ClaimLevel
    basis: Basis
    effective_from: date
    verified_on: date
    confidence: Confidence
    trigger: str | None = None
    period: str | None = None
    fallback: Literal["block"] = "block"
    entity_types: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    suspend_if: tuple[Suspension, ...] = ()
    appraisal_roles: tuple[str, ...] = ()
    witness_roles: tuple[str, ...] = ()
    archive: Archive | None = None
    stub: Stub | None = None
    original_format_required: bool = False
    paper_warning: bool = False
    effective_to: date | None = None

    @property
    def ref(self) -> str:
        """`id@version`, under which this exact text of the rule is stored and certified."""
        return f"{self.id}@{self.version}"


class Pack(msgspec.Struct, frozen=True):
    """One pack file: its own record classes and its rules, in file order."""

    name: str
    version: int
    title_en: str
    title_zh: str
    record_classes: tuple[RecordClass, ...]
    rules: tuple[Rule, ...]


class RuleBook(msgspec.Struct, frozen=True):
    """The packs an installation uses, and every record class known under them (by key)."""

    packs: tuple[Pack, ...]
    record_classes: dict[str, RecordClass]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules of all packs, in pack order."""
        return tuple(rule for pack in self.packs for rule in pack.rules)

    def rule(self, ref: str) -> Rule | None:
        """The rule with the reference `id@version`, or None if no pack of this book has it."""
        return next((rule for rule in self.rules if rule.ref == ref), None)
