"""What blocks, what restricts, what wins: decisions over small rule books made for the purpose."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from retention_rules.decision import Facts, decide, explain, is_due
from retention_rules.errors import FactsError
from retention_rules.model import Basis, Pack, RecordClass, Rule, RuleBook

FAR = datetime(2999, 1, 1, tzinfo=UTC)


def rule(rule_id: str, **changes: Any) -> Rule:
    """A ten-year minimum on class `paper`, unless told otherwise."""
    base: dict[str, Any] = {
        "id": rule_id,
        "version": 1,
        "title_en": f"Rule {rule_id}",
        "title_zh": "规则",
        "jurisdiction": "xx",
        "record_classes": ("paper",),
        "kind": "minimum",
        "trigger": "fiscal_year_end",
        "period": "P10Y",
        "time_zone": "UTC",
        "on_expiry": "destroy",
        "approval_roles": ("officer",),
        "minimum_claim_level": "L1",
        "basis": Basis("Act 1"),
        "effective_from": date(2000, 1, 1),
        "verified_on": date(2026, 1, 1),
        "confidence": "high",
    }
    return Rule(**{**base, **changes})


def book(*rules: Rule) -> RuleBook:
    classes = {key: RecordClass(key, key, key) for key in ("paper", "other")}
    return RuleBook((Pack("test", 1, "Test", "测试", (), rules),), classes)


def facts(**changes: Any) -> Facts:
    base: dict[str, Any] = {
        "document_id": "D1",
        "jurisdiction": "xx",
        "record_class": "paper",
        "fiscal_year": 2025,
        "fiscal_year_end": (12, 31),
        "received_on": date(2026, 1, 20),
        "confirmed": True,
    }
    return Facts(**{**base, **changes})


TEN = datetime(2036, 1, 1, tzinfo=UTC)


# --- what blocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "blocked_by"),
    [
        ({"holds": ("H1",)}, ("hold:H1",)),
        ({"holds": ("H1", "H2")}, ("hold:H1", "hold:H2")),
        ({"suspensions": frozenset({"unsettled_debt"})}, ("suspended: unsettled_debt",)),
        ({"fiscal_year": None}, ("trigger unknown: fiscal_year_end",)),
        ({"confirmed": False, "confidence": 0.42}, ("confidence 0.42 < 0.80",)),
        ({"confirmed": False, "confidence": 0.79999}, ("confidence 0.79 < 0.80",)),
        ({"confirmed": False}, ("confidence 0.00 < 0.80",)),
        ({"parent_status": "blocked"}, ("parent: blocked",)),
        ({"parent_status": "no_rule"}, ("parent: no_rule",)),
        ({"parent_status": "scheduled"}, ("parent: no date",)),
    ],
)
def test_each_blocking_fact_alone_makes_a_document_not_due_and_is_named(
    changes: dict[str, Any], blocked_by: tuple[str, ...]
) -> None:
    subject = book(rule("a", suspend_if=("unsettled_debt",)))
    assert is_due(decide(facts(), subject), FAR)
    decision = decide(facts(**changes), subject)
    assert decision.status == "blocked"
    assert decision.blocked_by == blocked_by
    assert not is_due(decision, FAR)
    assert f"Blocked by {blocked_by[0]}" in explain(decision)


def test_a_hold_or_suspension_leaves_the_date_visible_but_a_guess_has_no_date() -> None:
    subject = book(rule("a", suspend_if=("open_matter",)))
    assert decide(facts(holds=("H",)), subject).eligible_at == TEN
    suspended = decide(facts(suspensions=frozenset({"open_matter"})), subject)
    assert suspended.eligible_at == TEN
    assert decide(facts(confirmed=False, confidence=0.5), subject).eligible_at is None


def test_confidence_at_the_threshold_is_enough_and_a_person_outweighs_it() -> None:
    subject = book(rule("a"))
    assert decide(facts(confirmed=False, confidence=0.8), subject).status == "scheduled"
    assert decide(facts(confirmed=True, confidence=0.0), subject).status == "scheduled"


def test_a_suspension_no_applying_rule_names_warns_and_does_not_block() -> None:
    decision = decide(facts(suspensions=frozenset({"open_assessment"})), book(rule("a")))
    assert decision.status == "scheduled"
    assert any("open_assessment" in text for text in decision.warnings)


@pytest.mark.parametrize(
    "changes",
    [{"record_class": None}, {"record_class": "other"}, {"jurisdiction": "yy"}],
)
def test_a_document_no_rule_covers_is_never_due(changes: dict[str, Any]) -> None:
    decision = decide(facts(**changes), book(rule("a")))
    assert decision.status == "no_rule"
    assert decision.eligible_at is None
    assert decision.governing is None
    assert decision.on_expiry == "review"
    assert not is_due(decision, FAR)


def test_one_unknown_trigger_blocks_although_a_longer_rule_is_known() -> None:
    """The period that cannot be computed might be the longest of all."""
    subject = book(rule("long", period="P30Y"), rule("b", trigger="event:sold", period="P1D"))
    decision = decide(facts(), subject)
    assert decision.status == "blocked"
    assert decision.eligible_at is None
    assert decision.governing == "b@1"
    assert decision.blocked_by == ("trigger unknown: event:sold",)


# --- impossible facts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fiscal_year_end": (2, 30)}, "document D1: fiscal year end: expected"),
        ({"fiscal_year": 25}, "fiscal_year: expected 1900 to 2200, found 25"),
        ({"received_on": date(1, 1, 1)}, "received_on: expected a date from 1900 to 2200"),
        ({"document_date": date(9999, 1, 1)}, "document_date: expected a date from 1900"),
        ({"events": {"sold": date(9999, 12, 31)}}, "sold: expected a date from 1900"),
        ({"confidence": 1.01}, "confidence: expected 0 to 1, found 1.01"),
        ({"confidence": -0.1}, "confidence: expected 0 to 1"),
        ({"confidence": float("nan")}, "confidence: expected 0 to 1, found nan"),
        ({"record_class": "papers"}, "expected a class of the rule book, found 'papers'"),
        ({"suspensions": frozenset({"unsettled-debt"})}, "found 'unsettled-debt'"),
        ({"parent_eligible_at": datetime(2030, 1, 1)}, "expected a time with an offset"),  # noqa: DTZ001  the fault under test
    ],
)
def test_an_impossible_fact_is_an_error_and_never_an_answer(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(FactsError) as caught:
        decide(facts(**changes), book(rule("a")))
    assert message in str(caught.value)


def test_asking_whether_something_is_due_at_a_wall_clock_time_is_misuse() -> None:
    with pytest.raises(RuntimeError, match="offset"):
        is_due(decide(facts(), book(rule("a"))), datetime(2036, 1, 1))  # noqa: DTZ001  the fault under test


# --- which rule wins -----------------------------------------------------------------------------


def test_the_longest_minimum_governs_and_lends_its_procedure() -> None:
    subject = book(
        rule("short", period="P2Y", approval_roles=("archivist",)),
        rule("long", period="P30Y", approval_roles=("officer", "officer"), on_expiry="transfer"),
        rule("middle", period="P10Y"),
    )
    decision = decide(facts(), subject)
    assert decision.governing == "long@1"
    assert decision.eligible_at == datetime(2056, 1, 1, tzinfo=UTC)
    assert decision.approval_roles == ("officer", "officer")
    assert decision.on_expiry == "transfer"
    assert [item.rule for item in decision.applied] == ["short@1", "long@1", "middle@1"]


def test_longest_means_latest_instant_and_not_longest_period() -> None:
    subject = book(
        rule("a", period="P10Y", trigger="document_date"), rule("b", period="P2Y", trigger="filing")
    )
    known = facts(document_date=date(2020, 1, 1), events={"filing": date(2029, 1, 1)})
    decision = decide(known, subject)
    assert decision.governing == "b@1"
    assert decision.eligible_at == datetime(2031, 1, 2, tzinfo=UTC)


def test_the_same_midnight_in_two_zones_is_two_instants_and_the_later_wins() -> None:
    subject = book(
        rule("east", time_zone="Asia/Shanghai"), rule("west", time_zone="America/New_York")
    )
    decision = decide(facts(), subject)
    assert decision.governing == "west@1"
    assert decision.eligible_at == datetime(2036, 1, 1, 5, tzinfo=UTC)


def test_of_equally_long_rules_the_first_by_reference_governs_in_any_pack_order() -> None:
    first, second = rule("a"), rule("b")
    assert decide(facts(), book(first, second)).governing == "a@1"
    assert decide(facts(), book(second, first)).governing == "a@1"


def test_permanent_beats_every_period_and_an_unknown_trigger() -> None:
    subject = book(
        rule("p", kind="permanent", trigger=None, period=None),
        rule("unknown", trigger="event:sold"),
        rule("long", period="P100Y"),
    )
    decision = decide(facts(), subject)
    assert decision.status == "permanent"
    assert decision.governing == "p@1"
    assert decision.eligible_at is None
    assert not is_due(decision, FAR)


@pytest.mark.parametrize(
    ("trigger", "changes", "until"),
    [
        ("calendar_year_end", {"document_date": date(2025, 5, 5)}, "2036-01-01"),
        ("document_date", {"document_date": date(2025, 5, 5)}, "2035-05-06"),
        ("received", {}, "2036-01-21"),
        ("filing", {"events": {"filing": date(2026, 4, 15)}}, "2036-04-16"),
        ("deadline", {"events": {"deadline": date(2026, 6, 30)}}, "2036-07-01"),
        ("event:sold", {"events": {"sold": date(2030, 2, 28)}}, "2040-03-01"),
    ],
)
def test_each_trigger_reads_its_own_fact(trigger: str, changes: dict[str, Any], until: str) -> None:
    subject = book(rule("a", trigger=trigger))
    decision = decide(facts(fiscal_year=None, **changes), subject)
    assert decision.eligible_at == datetime.fromisoformat(until).replace(tzinfo=UTC)
    if changes:
        missing = decide(facts(fiscal_year=2025), subject)
        assert missing.blocked_by == (f"trigger unknown: {trigger}",)


def test_a_rule_for_certain_entities_or_attributes_reaches_only_those() -> None:
    subject = book(
        rule("a"),
        rule("bank", entity_types=("bank",), period="P20Y"),
        rule("labour", requires=("x", "y"), period="P30Y"),
    )
    assert decide(facts(), subject).governing == "a@1"
    assert decide(facts(entity_type="bank"), subject).governing == "bank@1"
    assert decide(facts(attributes=frozenset({"x"})), subject).governing == "a@1"
    assert decide(facts(attributes=frozenset({"x", "y", "z"})), subject).governing == "labour@1"


@pytest.mark.parametrize(
    ("as_of", "governing"),
    [
        (date(2023, 12, 31), None),
        (date(2024, 1, 1), "a@1"),
        (date(2025, 12, 31), "a@1"),
        (date(2026, 1, 1), "a@2"),
        (None, "a@2"),
    ],
)
def test_a_rule_version_binds_from_its_first_day_to_the_day_before_its_last(
    as_of: date | None, governing: str | None
) -> None:
    """Without a date of its own, a document is bound by what was in force when it was received."""
    subject = book(
        rule("a", effective_from=date(2024, 1, 1), effective_to=date(2026, 1, 1)),
        rule("a", version=2, period="P8Y", effective_from=date(2026, 1, 1)),
    )
    assert decide(facts(as_of=as_of), subject).governing == governing


# --- parts -----------------------------------------------------------------------------------------


def test_a_part_takes_its_parents_later_date_and_keeps_its_own_if_that_is_later() -> None:
    subject = book(rule("a"))
    later = datetime(2056, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai"))
    part = decide(facts(parent_eligible_at=later, parent_status="scheduled"), subject)
    assert part.eligible_at == later
    assert any("part of another document" in text for text in part.reasons)
    assert not is_due(part, later.astimezone(UTC) - timedelta(seconds=1))
    assert is_due(part, later)

    earlier = datetime(2030, 1, 1, tzinfo=UTC)
    own = decide(facts(parent_eligible_at=earlier, parent_status="scheduled"), subject)
    assert own.eligible_at == TEN


def test_a_parent_date_that_is_the_same_instant_in_another_zone_changes_nothing() -> None:
    same = TEN.astimezone(timezone(timedelta(hours=8)))
    decision = decide(facts(parent_eligible_at=same), book(rule("a")))
    assert decision.eligible_at == TEN
    assert not any("part of" in text for text in decision.reasons)


def test_a_part_of_a_permanent_document_is_permanent() -> None:
    decision = decide(facts(parent_status="permanent"), book(rule("a")))
    assert decision.status == "permanent"
    assert decision.eligible_at is None
    assert not is_due(decision, FAR)


def test_a_part_of_a_held_document_waits_with_it() -> None:
    later = datetime(2040, 1, 1, tzinfo=UTC)
    decision = decide(facts(parent_status="blocked", parent_eligible_at=later), book(rule("a")))
    assert decision.eligible_at == later
    assert decision.blocked_by == ("parent: blocked",)
    assert not is_due(decision, FAR)


# --- maximums --------------------------------------------------------------------------------------

FIVE = datetime(2031, 1, 1, tzinfo=UTC)
MAXIMUM = rule("max", kind="maximum", period="P5Y")


def test_a_maximum_that_passes_while_a_minimum_runs_restricts_and_is_overdue_after_it() -> None:
    decision = decide(facts(), book(rule("min"), MAXIMUM))
    assert decision.governing == "min@1"
    assert decision.eligible_at == TEN
    assert decision.restricted_from == FIVE
    assert decision.overdue_from == TEN


def test_a_maximum_after_the_minimum_leaves_a_window_and_then_is_overdue() -> None:
    decision = decide(facts(), book(rule("min", period="P2Y"), MAXIMUM))
    assert decision.eligible_at == datetime(2028, 1, 1, tzinfo=UTC)
    assert decision.restricted_from is None
    assert decision.overdue_from == FIVE


def test_a_hold_turns_overdue_into_restricted() -> None:
    decision = decide(facts(holds=("H",)), book(rule("min", period="P2Y"), MAXIMUM))
    assert decision.overdue_from is None
    assert decision.restricted_from == FIVE


def test_a_permanent_record_whose_maximum_passes_is_restricted_and_never_overdue() -> None:
    forever = rule("p", kind="permanent", trigger=None, period=None)
    decision = decide(facts(), book(forever, MAXIMUM))
    assert decision.status == "permanent"
    assert decision.restricted_from == FIVE
    assert decision.overdue_from is None


def test_where_only_a_maximum_applies_destruction_may_be_proposed_when_it_has_passed() -> None:
    decision = decide(facts(), book(MAXIMUM, rule("max2", kind="maximum", period="P7Y")))
    assert decision.governing == "max@1"
    assert decision.eligible_at == FIVE
    assert decision.overdue_from == FIVE
    assert decision.restricted_from is None


def test_an_unknown_maximum_blocks_only_where_no_minimum_applies() -> None:
    unknown = rule("max", kind="maximum", trigger="event:last_use", period="P2Y")
    alone = decide(facts(), book(unknown))
    assert alone.blocked_by == ("trigger unknown: event:last_use",)
    assert not is_due(alone, FAR)
    beside = decide(facts(), book(rule("min"), unknown))
    assert beside.status == "scheduled"
    assert any("maximum cannot be computed" in text for text in beside.warnings)


def test_a_guessed_class_gives_no_restriction_date_either() -> None:
    decision = decide(facts(confirmed=False, confidence=0.1), book(rule("min"), MAXIMUM))
    assert (decision.eligible_at, decision.restricted_from, decision.overdue_from) == (None,) * 3


# --- the rest ----------------------------------------------------------------------------------------


def test_a_record_copy_reminds_that_the_client_decides() -> None:
    decision = decide(facts(custody_role="record_copy"), book(rule("a")))
    assert any(text.startswith("record copy") for text in decision.warnings)
    assert decide(facts(), book(rule("a"))).warnings == ()


def test_the_decision_carries_the_facts_it_was_made_from() -> None:
    known = facts(events={"sold": date(2030, 1, 1)}, suspensions=frozenset({"legal_hold"}))
    decision = decide(known, book(rule("a")))
    assert decision.inputs == known
    again = msgspec.json.decode(msgspec.json.encode(decision.inputs), type=Facts)
    assert decide(again, book(rule("a"))) == decision


def test_a_zero_period_is_explained_as_no_time_at_all() -> None:
    decision = decide(facts(), book(rule("a", trigger="received", period="P0D")))
    assert decision.eligible_at == datetime(2026, 1, 20, tzinfo=UTC)
    assert "asks for no time after 2026-01-20 (received)" in decision.reasons[0]
