"""What the rules mean for one document: facts in, decision and reasons out.

Promises: pure (no clock, no I/O), deterministic, and never early. The longest minimum wins; a
permanent rule beats all; an unknown trigger, a guessed class, a hold, a suspension or a parent
without a date makes a document not eligible, and the decision says which. Adding a hold, a
suspension, or a rule to the minimums that already bind a document never makes it due sooner.
Leaves out: what day it is (`is_due` is given the moment), and the procedure that follows.
Rules: RULES.md, sections 2, 3, 6, 7 and 8.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

import msgspec

from retention_rules.errors import FactsError, PeriodError
from retention_rules.facts import AppliedRule, Decision, Facts, Status
from retention_rules.model import (
    ANY_JURISDICTION,
    EVENT_PREFIX,
    SUSPENSIONS,
    Rule,
    RuleBook,
)
from retention_rules.periods import (
    FIRST_YEAR,
    LAST_YEAR,
    check_year_end,
    fiscal_year_end,
    period_until,
    start_of_day,
)

__all__ = [
    "CONFIDENCE_THRESHOLD",
    "AppliedRule",
    "Decision",
    "Facts",
    "decide",
    "explain",
    "is_due",
]

# Below this, a class nobody confirmed is a guess, and a guess has no date.
CONFIDENCE_THRESHOLD: Final = 0.8


class _Reading(msgspec.Struct, frozen=True):
    """A rule beside its evaluation, while a decision is being made."""

    rule: Rule
    applied: AppliedRule


def _instant(moment: datetime) -> datetime:
    """As UTC: Python compares two datetimes of one zone by wall clock, which is not time."""
    return moment.astimezone(UTC)


def _check(facts: Facts, book: RuleBook) -> None:
    """Refuse facts that cannot be true. Unknown is fine, impossible is not."""
    subject = f"document {facts.document_id}"
    try:
        check_year_end(facts.fiscal_year_end)
    except PeriodError as error:
        raise FactsError(f"{subject}: {error}") from error
    if facts.fiscal_year is not None and not FIRST_YEAR <= facts.fiscal_year <= LAST_YEAR:
        raise FactsError(
            f"{subject}: fiscal_year: expected {FIRST_YEAR} to {LAST_YEAR}, "
            f"found {facts.fiscal_year}"
        )
    named = {"received_on": facts.received_on, "document_date": facts.document_date, **facts.events}
    for name, day in named.items():
        if day is not None and not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise FactsError(
                f"{subject}: {name}: expected a date from {FIRST_YEAR} to {LAST_YEAR}, found {day}"
            )
    # Written so that NaN fails it.
    if not 0.0 <= facts.confidence <= 1.0:
        raise FactsError(f"{subject}: confidence: expected 0 to 1, found {facts.confidence}")
    if facts.record_class is not None and facts.record_class not in book.record_classes:
        raise FactsError(
            f"{subject}: record_class: expected a class of the rule book, "
            f"found {facts.record_class!r}"
        )
    for name in sorted(facts.suspensions):
        if name not in SUSPENSIONS:
            raise FactsError(
                f"{subject}: suspensions: expected one of {', '.join(SUSPENSIONS)}, found {name!r}"
            )
    if facts.parent_eligible_at is not None and facts.parent_eligible_at.utcoffset() is None:
        raise FactsError(
            f"{subject}: parent_eligible_at: expected a time with an offset, found none"
        )


def _applies(rule: Rule, facts: Facts) -> bool:
    """Section 2: scope, entity, attributes, and the version in force."""
    as_of = facts.as_of or facts.received_on
    return (
        rule.jurisdiction in {facts.jurisdiction, ANY_JURISDICTION}
        and facts.record_class in rule.record_classes
        and (not rule.entity_types or facts.entity_type in rule.entity_types)
        and facts.attributes.issuperset(rule.requires)
        and rule.effective_from <= as_of
        and (rule.effective_to is None or as_of < rule.effective_to)
    )


def _trigger_day(trigger: str, facts: Facts) -> date | None:
    """Section 3: the day of the trigger, or None if it is unknown."""
    if trigger == "fiscal_year_end":
        if facts.fiscal_year is None:
            return None
        return fiscal_year_end(facts.fiscal_year, facts.fiscal_year_end)
    if trigger == "calendar_year_end":
        return None if facts.document_date is None else date(facts.document_date.year, 12, 31)
    if trigger == "received":
        return facts.received_on
    if trigger == "document_date":
        return facts.document_date
    return facts.events.get(trigger.removeprefix(EVENT_PREFIX))


def _read(rule: Rule, facts: Facts) -> _Reading:
    trigger_on = until = None
    if rule.kind == "permanent":
        outcome = "kept for ever"
    else:
        if rule.trigger is None or rule.period is None:
            raise RuntimeError(f"rule {rule.ref}: expected a trigger and a period, found none")
        trigger_on = _trigger_day(rule.trigger, facts)
        if trigger_on is None:
            outcome = f"not computable: {rule.trigger} is unknown"
        else:
            until = start_of_day(period_until(trigger_on, rule.period), rule.time_zone)
            verb = "kept at least" if rule.kind == "minimum" else "kept at most"
            outcome = f"{verb} until {until.isoformat(timespec='minutes')}"
    applied = AppliedRule(
        rule=rule.ref,
        title_en=rule.title_en,
        title_zh=rule.title_zh,
        kind=rule.kind,
        trigger=rule.trigger,
        trigger_on=trigger_on,
        period=rule.period,
        until=until,
        outcome=outcome,
        citation=rule.basis.citation,
        confidence=rule.confidence,
    )
    return _Reading(rule, applied)


def _governing(readings: list[_Reading]) -> _Reading | None:
    """Section 6: permanent, else the longest minimum, else the earliest maximum; then by name."""
    readings = sorted(readings, key=lambda item: item.rule.ref)
    permanent = [item for item in readings if item.rule.kind == "permanent"]
    if permanent:
        return permanent[0]
    minimums = [item for item in readings if item.rule.kind == "minimum"]
    unknown = [item for item in minimums if item.applied.until is None]
    if unknown:
        # The period that cannot be computed may be the longest: nothing governs over it.
        return unknown[0]
    if minimums:
        # max() keeps the first of equals, and they are in order of their references.
        return max(minimums, key=lambda item: _sort_key(item.applied))
    if not readings:
        return None
    known = [item for item in readings if item.applied.until is not None]
    return min(known or readings, key=lambda item: _sort_key(item.applied))


def _sort_key(applied: AppliedRule) -> float:
    return 0.0 if applied.until is None else applied.until.timestamp()


def _warnings(readings: list[_Reading], facts: Facts) -> tuple[str, ...]:
    found: list[str] = []
    if any(item.rule.paper_warning for item in readings):
        found.append(
            "paper copy: electronic-only keeping may not suffice for this class; "
            "check that the paper original is kept"
        )
    if any(item.rule.original_format_required for item in readings):
        found.append(
            "original format: the signed original file is the record; "
            "a printed or converted copy counts only together with it"
        )
    found.extend(
        f"rule {item.rule.ref}: its publisher's confidence is {item.rule.confidence}; "
        "have it confirmed before destroying on it"
        for item in readings
        if item.rule.confidence != "high"
    )
    found.extend(
        f"rule {item.rule.ref}: {item.applied.trigger} is unknown, the maximum cannot be computed"
        for item in readings
        if item.rule.kind == "maximum" and item.applied.until is None
    )
    if facts.custody_role == "record_copy" and readings:
        found.append(
            "record copy: these records belong to the client, "
            "whose head decides on their destruction"
        )
    suspend = {name for item in readings for name in item.rule.suspend_if}
    found.extend(
        f"suspension {name}: recorded, but no rule that applies names it"
        for name in sorted(facts.suspensions - suspend)
    )
    return tuple(found)


def _blocks(readings: list[_Reading], facts: Facts, *, guessed: bool) -> tuple[str, ...]:
    """Section 8, in the order in which a person would have to clear them."""
    found: list[str] = []
    if guessed:
        # Cut, not rounded: 0.799 must not read as "0.80 < 0.80".
        shown = int(facts.confidence * 100) / 100
        found.append(f"confidence {shown:.2f} < {CONFIDENCE_THRESHOLD:.2f}")
    bounded = any(item.rule.kind != "maximum" for item in readings)
    unknown = {
        item.applied.trigger
        for item in readings
        if item.rule.kind != "permanent"
        and item.applied.until is None
        and not (item.rule.kind == "maximum" and bounded)
    }
    found.extend(f"trigger unknown: {name}" for name in sorted(filter(None, unknown)))
    if facts.parent_status is not None and facts.parent_status != "scheduled":
        found.append(f"parent: {facts.parent_status}")
    elif facts.parent_status == "scheduled" and facts.parent_eligible_at is None:
        found.append("parent: no date")
    found.extend(f"hold:{name}" for name in facts.holds)
    suspend = {name for item in readings for name in item.rule.suspend_if}
    found.extend(f"suspended: {name}" for name in sorted(facts.suspensions & suspend))
    return tuple(found)


def decide(facts: Facts, book: RuleBook) -> Decision:
    """Apply every rule of `book` that binds the document, and say what follows.

    Raises:
        FactsError: a fact is impossible; an unknown fact is not an error, it blocks.
    """
    _check(facts, book)

    # 1. The rules that apply, and what each comes to.
    readings = [_read(rule, facts) for rule in book.rules if _applies(rule, facts)]
    guessed = not facts.confirmed and facts.confidence < CONFIDENCE_THRESHOLD
    governing = _governing(readings)
    blocked_by = _blocks(readings, facts, guessed=guessed)
    permanent = governing is not None and governing.rule.kind == "permanent"

    # 2. The date, unless something makes every date a guess.
    eligible_at = governing.applied.until if governing is not None else None
    parent = facts.parent_eligible_at
    lengthened = False
    if eligible_at is not None and parent is not None and _instant(parent) > _instant(eligible_at):
        eligible_at, lengthened = parent.astimezone(eligible_at.tzinfo), True
    if guessed or (facts.parent_status is not None and parent is None):
        eligible_at = None

    # 3. Status. Permanent beats everything; then anything that blocks; then the date.
    status: Status
    if not readings:
        status = "no_rule"
    elif permanent or facts.parent_status == "permanent":
        status = "permanent"
    elif blocked_by or eligible_at is None:
        status = "blocked"
    else:
        status = "scheduled"

    # 4. Maximums: restricted while anything forbids destruction, overdue once nothing does.
    restricted_from, overdue_from = _limits(
        readings, eligible_at, forbidden=status != "scheduled", guessed=guessed
    )

    # 5. Why, in sentences.
    reasons = _reasons(facts, governing, status, lengthened=lengthened)
    rule = governing.rule if governing is not None else None
    return Decision(
        document_id=facts.document_id,
        status=status,
        eligible_at=eligible_at,
        restricted_from=restricted_from,
        overdue_from=overdue_from,
        governing=rule.ref if rule else None,
        applied=tuple(item.applied for item in readings),
        reasons=reasons,
        blocked_by=blocked_by,
        warnings=_warnings(readings, facts),
        inputs=facts,
        on_expiry=rule.on_expiry if rule else "review",
        approval_roles=rule.approval_roles if rule else (),
        appraisal_roles=rule.appraisal_roles if rule else (),
        witness_roles=rule.witness_roles if rule else (),
        minimum_claim_level=rule.minimum_claim_level if rule else None,
        original_format_required=any(item.rule.original_format_required for item in readings),
        stub=rule.stub if rule else None,
        basis=rule.basis.citation if rule else "",
    )


def _limits(
    readings: list[_Reading], eligible_at: datetime | None, *, forbidden: bool, guessed: bool
) -> tuple[datetime | None, datetime | None]:
    """(restricted_from, overdue_from) of the earliest maximum that can be computed."""
    passed = [
        item.applied.until
        for item in readings
        if item.rule.kind == "maximum" and item.applied.until is not None
    ]
    # A guessed class gives no date of any kind.
    if not passed or guessed:
        return None, None
    maximum = min(passed, key=_instant)
    if forbidden or eligible_at is None:
        return maximum, None
    if _instant(eligible_at) > _instant(maximum):
        return maximum, eligible_at
    return None, maximum


def _reasons(
    facts: Facts, governing: _Reading | None, status: Status, *, lengthened: bool
) -> tuple[str, ...]:
    if governing is None:
        if facts.record_class is None:
            return ("The document has no record class yet, so no rule applies to it.",)
        missing = f"No loaded rule covers {facts.record_class} in {facts.jurisdiction}"
        return (f"{missing}; a document without a rule is never destroyed.",)
    rule, applied = governing.rule, governing.applied
    if rule.kind == "permanent":
        found = [f"{rule.title_en}: kept for ever under {rule.ref}."]
    elif applied.trigger_on is None:
        found = [f"{rule.title_en}: {rule.ref} waits for {rule.trigger}, which is unknown."]
    else:
        found = [
            f"{rule.title_en}: {rule.ref} runs {rule.period} from the day after "
            f"{applied.trigger_on.isoformat()} ({rule.trigger}), midnight in {rule.time_zone}."
            if rule.period and applied.until and applied.until.date() != applied.trigger_on
            else f"{rule.title_en}: {rule.ref} asks for no time after "
            f"{applied.trigger_on.isoformat()} ({rule.trigger})."
        ]
    if lengthened:
        found.append("It is part of another document and takes that document's later date.")
    if status == "blocked":
        found.append("It is not eligible while anything listed as blocking stands.")
    return tuple(found)


def is_due(decision: Decision, now: datetime) -> bool:
    """Whether destruction may be proposed at `now` (aware).

    Raises:
        RuntimeError: `now` has no offset: a wall clock without a zone is not a moment.
    """
    if now.utcoffset() is None:
        raise RuntimeError("is_due: expected a time with an offset, found none")
    return (
        decision.status == "scheduled"
        and not decision.blocked_by
        and decision.eligible_at is not None
        and _instant(now) >= _instant(decision.eligible_at)
    )


def explain(decision: Decision) -> list[str]:
    """The decision as lines of text for a person: date, why, every rule, what blocks it."""
    lines = [f"Document {decision.document_id}: {decision.status}"]
    if decision.eligible_at is not None:
        lines.append(
            f"Destruction may be proposed from {decision.eligible_at.isoformat(timespec='minutes')}"
        )
    if decision.restricted_from is not None:
        lines.append(
            "Restricted to storage from "
            f"{decision.restricted_from.isoformat(timespec='minutes')} (a maximum has passed)"
        )
    if decision.overdue_from is not None:
        lines.append(
            f"Overdue for destruction from {decision.overdue_from.isoformat(timespec='minutes')}"
        )
    lines.extend(decision.reasons)
    for item in decision.applied:
        mark = " (governs)" if item.rule == decision.governing else ""
        lines.append(f"Rule {item.rule}{mark}: {item.title_en} / {item.title_zh}")
        if item.trigger is not None:
            day = item.trigger_on.isoformat() if item.trigger_on else "unknown"
            lines.append(f"  {item.kind}, {item.period} after {item.trigger} ({day})")
        lines.append(f"  {item.outcome}")
        lines.append(f"  basis: {item.citation} (confidence {item.confidence})")
    lines.extend(f"Blocked by {item}" for item in decision.blocked_by)
    lines.extend(f"Warning: {item}" for item in decision.warnings)
    return lines
