"""The shipped packs, row by row: what the law says is what `decide` computes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from retention_rules.decision import Decision, Facts, decide, explain, is_due
from retention_rules.model import RuleBook
from retention_rules.parser import load_rulebook

BOOK: RuleBook = load_rulebook(["cn", "demo"])


def facts(record_class: str | None, **changes: Any) -> Facts:
    """A confirmed document of FY2025 of a Chinese client with the calendar year."""
    base: dict[str, Any] = {
        "document_id": "01JD00000000000000000000XX",
        "jurisdiction": "cn",
        "record_class": record_class,
        "fiscal_year": 2025,
        "fiscal_year_end": (12, 31),
        "received_on": date(2026, 1, 20),
        "confirmed": True,
    }
    return Facts(**{**base, **changes})


# (record class, item of the schedule, first day on which destruction may be proposed for FY2025)
SCHEDULE = [
    ("source-voucher", 1, "2056-01-01"),
    ("invoice", 1, "2056-01-01"),
    ("bank-receipt", 1, "2056-01-01"),
    ("payroll", 1, "2056-01-01"),
    ("bookkeeping-voucher", 2, "2056-01-01"),
    ("general-ledger", 3, "2056-01-01"),
    ("subsidiary-ledger", 4, "2056-01-01"),
    ("journal", 5, "2056-01-01"),
    ("auxiliary-ledger", 7, "2056-01-01"),
    ("periodic-report", 8, "2036-01-01"),
    ("annual-report", 9, None),
    ("bank-reconciliation", 10, "2036-01-01"),
    ("bank-statement", 11, "2036-01-01"),
    ("tax-return", 12, "2036-01-01"),
    ("transfer-register", 13, "2056-01-01"),
    ("custody-register", 14, None),
    ("destruction-register", 15, None),
    ("appraisal-opinion", 16, None),
]


@pytest.mark.parametrize(("record_class", "item", "eligible"), SCHEDULE)
def test_each_row_of_order_79_gives_its_date_and_cites_its_item(
    record_class: str, item: int, eligible: str | None
) -> None:
    decision = decide(facts(record_class), BOOK)
    assert decision.governing is not None
    assert decision.governing.startswith(f"cn-order79-{item:02d}-")
    assert "第79号" in decision.basis
    assert decision.basis.endswith(f"第{item}项")
    if eligible is None:
        assert decision.status == "permanent"
        assert decision.eligible_at is None
        assert any(text.startswith("paper copy") for text in decision.warnings)
        assert not is_due(decision, datetime(2999, 1, 1, tzinfo=UTC))
    else:
        assert decision.status == "scheduled"
        assert decision.eligible_at is not None
        assert decision.eligible_at.isoformat() == f"{eligible}T00:00:00+08:00"
        # Permanent classes alone ask about paper.
        assert not any(text.startswith("paper copy") for text in decision.warnings)


def test_every_item_of_the_schedule_is_covered_exactly_once() -> None:
    items = [rule.id.split("-")[2] for rule in BOOK.rules if rule.id.startswith("cn-order79-")]
    assert items == [f"{number:02d}" for number in range(1, 17)]


def test_a_voucher_is_not_due_one_microsecond_before_midnight_in_shanghai() -> None:
    decision = decide(facts("invoice"), BOOK)
    # Midnight of 2056-01-01 in Shanghai, written in UTC so that a wall-clock comparison fails.
    midnight = datetime(2055, 12, 31, 16, tzinfo=UTC)
    assert not is_due(decision, midnight - timedelta(microseconds=1))
    assert is_due(decision, midnight)


def test_a_stored_decision_read_back_is_due_at_the_same_instant() -> None:
    decision = decide(facts("invoice"), BOOK)
    again = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert again.eligible_at == decision.eligible_at
    assert again.inputs == decision.inputs
    assert is_due(again, datetime(2055, 12, 31, 16, tzinfo=UTC))
    assert not is_due(again, datetime(2055, 12, 31, 15, 59, 59, tzinfo=UTC))


@pytest.mark.parametrize(
    ("year_end", "fiscal_year", "eligible"),
    [
        ((12, 31), 2024, "2055-01-01"),
        ((6, 30), 2025, "2055-07-01"),
        ((3, 31), 2025, "2055-04-01"),
        ((2, 28), 2024, "2054-03-01"),  # the clock starts on 29 February, a day 2054 lacks
        ((2, 29), 2024, "2054-03-01"),
        ((2, 29), 2025, "2055-03-01"),
    ],
)
def test_a_fiscal_year_end_other_than_december_moves_the_clock(
    year_end: tuple[int, int], fiscal_year: int, eligible: str
) -> None:
    decision = decide(facts("invoice", fiscal_year=fiscal_year, fiscal_year_end=year_end), BOOK)
    assert decision.eligible_at is not None
    assert decision.eligible_at.date().isoformat() == eligible


def test_a_fixed_asset_card_waits_for_the_scrapping_of_the_asset() -> None:
    waiting = decide(facts("fixed-asset-card"), BOOK)
    assert waiting.status == "blocked"
    assert waiting.eligible_at is None
    assert waiting.blocked_by == ("trigger unknown: event:asset_scrapped",)
    assert waiting.governing == "cn-order79-06-fixed-asset-cards@1"

    scrapped = {"asset_scrapped": date(2040, 2, 29)}
    decision = decide(facts("fixed-asset-card", events=scrapped), BOOK)
    assert decision.eligible_at is not None
    assert decision.eligible_at.isoformat() == "2045-03-01T00:00:00+08:00"


def test_an_asset_scrapped_at_once_is_still_kept_ten_years_under_the_tax_rule() -> None:
    scrapped = {"asset_scrapped": date(2026, 1, 5)}
    decision = decide(facts("fixed-asset-card", events=scrapped), BOOK)
    assert decision.governing == "cn-tax-art29-books@1"
    assert decision.eligible_at is not None
    assert decision.eligible_at.date() == date(2036, 1, 1)


def test_the_shorter_wage_and_invoice_rules_apply_but_do_not_shorten_anything() -> None:
    payroll = decide(facts("payroll"), BOOK)
    invoice = decide(facts("invoice"), BOOK)
    assert "cn-wage-records@1" in [item.rule for item in payroll.applied]
    assert "cn-invoice-stubs@1" in [item.rule for item in invoice.applied]
    for decision in (payroll, invoice):
        assert decision.eligible_at is not None
        assert decision.eligible_at.year == 2056


def test_an_ordinary_contract_is_kept_ten_years_with_a_warning_about_the_reading() -> None:
    decision = decide(facts("contract"), BOOK)
    assert decision.eligible_at is not None
    assert decision.eligible_at.date() == date(2036, 1, 1)
    assert decision.on_expiry == "review"
    assert any("confidence is medium" in text for text in decision.warnings)


def test_a_labour_contract_waits_for_the_end_of_the_employment() -> None:
    labour = frozenset({"labour_contract"})
    waiting = decide(facts("contract", attributes=labour), BOOK)
    assert waiting.blocked_by == ("trigger unknown: event:employment_ended",)
    ended = {"employment_ended": date(2035, 6, 30)}
    decision = decide(facts("contract", attributes=labour, events=ended), BOOK)
    assert decision.eligible_at is not None
    assert decision.eligible_at.date() == date(2037, 7, 1)


def test_an_identity_document_has_no_rule_and_is_never_destroyed_by_one() -> None:
    decision = decide(facts("identity-document"), BOOK)
    assert decision.status == "no_rule"
    assert decision.applied == ()
    assert not is_due(decision, datetime(2999, 1, 1, tzinfo=UTC))
    assert "never destroyed" in decision.reasons[0]


def test_the_money_laundering_rule_is_off_unless_the_client_is_obliged() -> None:
    ended = {"relationship_ended": date(2030, 5, 1)}
    decision = decide(facts("identity-document", entity_type="aml_obliged", events=ended), BOOK)
    assert decision.governing == "cn-aml-records@1"
    assert decision.eligible_at is not None
    assert decision.eligible_at.date() == date(2040, 5, 2)


@pytest.mark.parametrize("record_class", sorted(BOOK.record_classes))
def test_no_rule_of_the_chinese_pack_reaches_a_client_elsewhere(record_class: str) -> None:
    decision = decide(facts(record_class, jurisdiction="sg"), BOOK)
    assert not [item.rule for item in decision.applied if not item.rule.startswith("demo-")]


@pytest.mark.parametrize(
    ("record_class", "eligible"),
    [
        ("demonstration-note", "2026-01-20T00:00:00+08:00"),
        ("demonstration-voucher", "2026-01-22T00:00:00+08:00"),
        ("demonstration-statement", "2026-01-28T00:00:00+08:00"),
    ],
)
def test_the_demonstration_periods_run_in_days_from_receipt(
    record_class: str, eligible: str
) -> None:
    decision = decide(facts(record_class, jurisdiction="anywhere", fiscal_year=None), BOOK)
    assert decision.eligible_at is not None
    assert decision.eligible_at.isoformat() == eligible
    assert "no law" in decision.basis


def test_a_demonstration_note_is_due_the_moment_it_is_filed() -> None:
    decision = decide(facts("demonstration-note"), BOOK)
    # The first second of the day of receipt in UTC, the earliest a UTC gateway can write that date.
    assert is_due(decision, datetime(2026, 1, 20, tzinfo=UTC))


def test_demonstration_rules_bind_no_real_record() -> None:
    demo = load_rulebook(["demo"])
    bound = {key for rule in demo.rules for key in rule.record_classes}
    assert bound == {
        "demonstration-note",
        "demonstration-voucher",
        "demonstration-statement",
    }
    assert not bound & set(load_rulebook(["cn"]).record_classes)


def test_every_rule_that_ends_asks_two_distinct_officers_and_a_claim_of_removal() -> None:
    for rule in BOOK.rules:
        assert rule.approval_roles == ("officer", "officer"), rule.ref
        assert rule.minimum_claim_level == "L1", rule.ref


def test_explain_names_rule_trigger_date_and_citation() -> None:
    lines = explain(decide(facts("invoice", holds=("H1",)), BOOK))
    assert lines == [
        "Document 01JD00000000000000000000XX: blocked",
        "Destruction may be proposed from 2056-01-01T00:00+08:00",
        (
            "Source vouchers: cn-order79-01-source-vouchers@1 runs P30Y from the day after "
            "2025-12-31 (fiscal_year_end), midnight in Asia/Shanghai."
        ),
        "It is not eligible while anything listed as blocking stands.",
        "Rule cn-order79-01-source-vouchers@1 (governs): Source vouchers / 原始凭证",
        "  minimum, P30Y after fiscal_year_end (2025-12-31)",
        "  kept at least until 2056-01-01T00:00+08:00",
        "  basis: 会计档案管理办法(财政部 国家档案局令第79号)附表1 第1项 (confidence high)",
        (
            "Rule cn-tax-art29-books@1: Books, vouchers, reports, returns and invoices: tax law / "
            "账簿、凭证、报表、纳税申报表、发票(税法)"
        ),
        "  minimum, P10Y after fiscal_year_end (2025-12-31)",
        "  kept at least until 2036-01-01T00:00+08:00",
        (
            "  basis: 税收征收管理法实施细则 第二十九条(账簿、记账凭证、报表、完税凭证、发票、"
            "出口凭证以及其他有关涉税资料,保存10年) (confidence high)"
        ),
        "Rule cn-invoice-stubs@1: Stubs of invoices issued / 已开具发票存根联",
        "  minimum, P5Y after fiscal_year_end (2025-12-31)",
        "  kept at least until 2031-01-01T00:00+08:00",
        "  basis: 发票管理办法 第二十八条(存根联保存5年) (confidence high)",
        "Blocked by hold:H1",
        (
            "Warning: original format: the signed original file is the record; "
            "a printed or converted copy counts only together with it"
        ),
    ]
