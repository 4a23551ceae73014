"""Laws every decision obeys, whatever the rules and the facts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from retention_rules.decision import Decision, Facts, decide, explain, is_due
from retention_rules.model import Basis, Pack, RecordClass, Rule, RuleBook
from retention_rules.periods import (
    Period,
    add_period,
    fiscal_year_end,
    fiscal_year_of,
    period_until,
)

ZONES = ["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Kiritimati", "Pacific/Niue"]
TRIGGERS = ["fiscal_year_end", "calendar_year_end", "received", "document_date", "event:sold"]
DAYS = st.dates(date(1950, 1, 1), date(2100, 12, 31))
YEAR_ENDS = st.sampled_from([(12, 31), (2, 28), (2, 29), (6, 30), (1, 1), (4, 30)])


@st.composite
def rules(draw: st.DrawFn, kinds: tuple[str, ...] = ("minimum", "maximum", "permanent")) -> Rule:
    kind: Any = draw(st.sampled_from(kinds))
    permanent = kind == "permanent"
    years, days = draw(st.integers(0, 60)), draw(st.integers(0, 40))
    return Rule(
        id=draw(st.from_regex(r"[a-z]{4,8}", fullmatch=True)),
        version=1,
        title_en="Rule",
        title_zh="规则",
        jurisdiction="xx",
        record_classes=("paper",),
        kind=kind,
        trigger=None if permanent else draw(st.sampled_from(TRIGGERS)),
        period=None if permanent else f"P{years}Y{days}D",
        time_zone=draw(st.sampled_from(ZONES)),
        suspend_if=draw(st.sampled_from([(), ("unsettled_debt",), ("open_matter",)])),
        on_expiry="destroy",
        approval_roles=("officer",),
        minimum_claim_level="L1",
        basis=Basis("Act"),
        effective_from=date(1900, 1, 1),
        verified_on=date(2026, 1, 1),
        confidence="high",
    )


@st.composite
def all_facts(draw: st.DrawFn) -> Facts:
    return Facts(
        document_id="D",
        jurisdiction="xx",
        record_class="paper",
        fiscal_year=draw(st.none() | st.integers(1950, 2100)),
        fiscal_year_end=draw(YEAR_ENDS),
        received_on=draw(DAYS),
        document_date=draw(st.none() | DAYS),
        events=draw(st.dictionaries(st.just("sold"), DAYS)),
        confidence=draw(st.floats(0, 1)),
        confirmed=draw(st.booleans()),
        suspensions=draw(st.frozensets(st.sampled_from(["unsettled_debt", "open_matter"]))),
        parent_eligible_at=draw(st.none() | st.datetimes(timezones=st.just(UTC))),
        parent_status=draw(st.sampled_from([None, None, "scheduled", "blocked", "permanent"])),
    )


def book(members: list[Rule]) -> RuleBook:
    classes = {"paper": RecordClass("paper", "Paper", "纸")}
    return RuleBook((Pack("t", 1, "T", "T", (), tuple(members)),), classes)


def due_from(decision: Decision) -> datetime:
    """The first instant at which it is due; never = the end of time."""
    far = datetime.max.replace(tzinfo=UTC)
    if decision.eligible_at is None or not is_due(decision, far):
        return far
    return decision.eligible_at.astimezone(UTC)


MINIMUMS = rules(kinds=("minimum", "permanent"))


@given(all_facts(), st.lists(rules(), max_size=4), MINIMUMS, rules())
def test_adding_a_rule_to_a_document_under_a_minimum_never_makes_it_due_earlier(
    facts: Facts, others: list[Rule], minimum: Rule, added: Rule
) -> None:
    before = decide(facts, book([*others, minimum]))
    after = decide(facts, book([*others, minimum, added]))
    assert due_from(after) >= due_from(before)


@given(all_facts(), st.lists(rules(), max_size=4), st.text(min_size=1, max_size=5))
def test_a_held_document_is_never_due(facts: Facts, members: list[Rule], hold: str) -> None:
    held = decide(Facts(**{**_as_dict(facts), "holds": (hold,)}), book(members))
    assert not is_due(held, datetime.max.replace(tzinfo=UTC))
    assert f"hold:{hold}" in held.blocked_by


@given(
    all_facts(), st.lists(rules(), max_size=4), st.sampled_from(["unsettled_debt", "open_matter"])
)
def test_adding_a_suspension_never_makes_a_document_due_earlier(
    facts: Facts, members: list[Rule], name: str
) -> None:
    more = Facts(**{**_as_dict(facts), "suspensions": facts.suspensions | {name}})
    assert due_from(decide(more, book(members))) >= due_from(decide(facts, book(members)))


@given(all_facts(), st.lists(rules(), min_size=1, max_size=5), st.randoms())
def test_the_order_of_rules_changes_neither_date_nor_status(
    facts: Facts, members: list[Rule], random: Any
) -> None:
    shuffled = list(members)
    random.shuffle(shuffled)
    one, two = decide(facts, book(members)), decide(facts, book(shuffled))
    assert (one.status, one.eligible_at) == (two.status, two.eligible_at)
    assert one.blocked_by == two.blocked_by


@given(all_facts(), st.lists(rules(), max_size=5))
def test_due_means_scheduled_unblocked_and_past_every_minimum(
    facts: Facts, members: list[Rule]
) -> None:
    decision = decide(facts, book(members))
    moment = due_from(decision)
    if decision.status != "scheduled":
        assert moment == datetime.max.replace(tzinfo=UTC)
        return
    assert decision.blocked_by == ()
    for item in decision.applied:
        if item.kind != "maximum":
            assert item.until is not None
            assert moment >= item.until.astimezone(UTC)
    if moment > datetime(1900, 1, 1, tzinfo=UTC):
        assert not is_due(decision, moment - timedelta(microseconds=1))
    assert is_due(decision, moment)


@given(all_facts(), st.lists(rules(), max_size=5))
def test_a_document_is_never_restricted_and_overdue_at_the_same_moment(
    facts: Facts, members: list[Rule]
) -> None:
    decision = decide(facts, book(members))
    if decision.restricted_from and decision.overdue_from:
        assert decision.restricted_from < decision.overdue_from
    assert explain(decision)[0] == f"Document D: {decision.status}"


def _as_dict(facts: Facts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in facts.__struct_fields__}


# --- the calendar ------------------------------------------------------------------------------------

PERIODS = st.builds(Period, months=st.integers(0, 1200), days=st.integers(0, 4000))


@given(DAYS, DAYS, PERIODS)
def test_a_later_start_never_ends_earlier(one: date, two: date, period: Period) -> None:
    early, late = sorted((one, two))
    assert add_period(early, period) <= add_period(late, period)
    assert period_until(early, period) <= period_until(late, period)


@given(DAYS, PERIODS, PERIODS)
def test_a_longer_period_never_ends_earlier(day: date, one: Period, two: Period) -> None:
    longer = Period(months=max(one.months, two.months), days=max(one.days, two.days))
    assert add_period(day, longer) >= add_period(day, one)
    assert period_until(day, longer) >= period_until(day, one)


@given(DAYS, st.integers(0, 100))
def test_a_year_is_never_a_day_short(day: date, years: int) -> None:
    """The last day of the period is the day before the anniversary, or the last of February."""
    end = add_period(day, f"P{years}Y")
    assert end.year == day.year + years
    assert (end.month, end.day) == ((3, 1) if end.day != day.day else (day.month, day.day))


@given(DAYS, YEAR_ENDS)
@settings(max_examples=300)
def test_every_day_lies_in_exactly_one_fiscal_year(day: date, year_end: tuple[int, int]) -> None:
    label = fiscal_year_of(day, year_end)
    assert fiscal_year_end(label - 1, year_end) < day <= fiscal_year_end(label, year_end)
