"""What a certificate tells people is what it says, no more."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import msgspec
import pytest
from msgspec import UNSET

from tests.unit.vault.test_certificate_sample import (
    COPIES,
    PROPOSED,
    enrolment,
    make_body,
    register,
    sanitisation,
)
from vault.certificate.model import LEVELS, Body, Copy, Text, make_claim
from vault.certificate.pdf.words import (
    day,
    enrolled,
    headline,
    kept,
    period,
    summary,
    under_order_79,
    word,
    zone_name,
    zone_of,
)

ENTRY = register(1)[0]
LIVE = COPIES[2]


@pytest.mark.parametrize(
    ("counted_from", "destroyed", "en", "zh"),
    [
        # Counted from 31 December 2025: the period begins on 1 January 2026.
        (date(2025, 12, 31), date(2056, 1, 1), "30 yr", "30年"),
        (date(2025, 12, 31), date(2055, 12, 31), "29 yr 11 mo", "29年11个月"),
        (date(2025, 12, 31), date(2056, 2, 1), "30 yr 1 mo", "30年1个月"),
        (date(2025, 12, 31), date(2056, 1, 31), "30 yr", "30年"),
        (date(2025, 12, 31), date(2026, 2, 1), "1 mo", "1个月"),
        (date(2025, 12, 31), date(2026, 1, 31), "30 d", "30天"),
        (date(2025, 12, 31), date(2026, 1, 1), "0 d", "0天"),
        (date(2025, 12, 31), date(2025, 12, 31), "0 d", "0天"),
        (date(2024, 2, 28), date(2025, 2, 28), "11 mo", "11个月"),
        (date(2024, 2, 28), date(2025, 3, 1), "1 yr", "1年"),
        (date(2026, 1, 30), date(2026, 2, 28), "28 d", "28天"),
    ],
)
def test_the_period_kept_runs_from_the_day_after_and_is_rounded_down(
    counted_from: date, destroyed: date, en: str, zh: str
) -> None:
    entry = msgspec.structs.replace(ENTRY, trigger_on=counted_from)
    assert kept(entry, destroyed) == Text(en=en, zh=zh)


@pytest.mark.parametrize(
    ("code", "en", "zh"),
    [
        ("P30Y", "30 years", "30年"),
        ("P1Y", "1 year", "1年"),
        ("P1Y6M", "1 year 6 months", "1年6个月"),
        ("P90D", "90 days", "90天"),
        ("P2W", "2 weeks", "2周"),
        ("permanent", "permanent", "permanent"),
        ("P", "P", "P"),
        ("", "", ""),
    ],
)
def test_periods_are_told_in_words_and_other_forms_as_they_stand(
    code: str, en: str, zh: str
) -> None:
    assert period(code) == Text(en=en, zh=zh)


def test_a_code_without_words_stands_for_itself() -> None:
    assert word("event:something_new") == Text(en="event:something_new", zh="event:something_new")
    assert word("officer") == Text(en="officer", zh="主管")
    assert day(date(2056, 1, 1)) == Text(en="1 January 2056", zh="2056年1月1日")


def body(*copies: Copy, level: str = "L1") -> Body:
    found = next(each for each in LEVELS if each == level)
    return make_body(copies=copies, claim=make_claim(found))


def test_the_headline_says_where_a_copy_of_a_key_remains_and_until_when() -> None:
    later = msgspec.structs.replace(LIVE, expires=date(2056, 9, 30))
    undated = msgspec.structs.replace(LIVE, expires=None)
    assert "in 1 place until 28 April 2056" in headline(body(LIVE)).en
    assert "1 处密钥副本留存至2056年4月28日" in headline(body(LIVE)).zh
    assert "in 2 places until 30 September 2056" in headline(body(later, LIVE)).en
    for copies in ((undated,), (LIVE, undated)):
        told = headline(body(*copies))
        assert "not all of which could be reached yet" in told.en
        assert "2056" not in told.en + told.zh
    keyless = Copy(place="b", kind="backup", state="keyless", expires=None)
    assert "a copy of a key" not in headline(body(keyless)).en


def test_no_headline_promises_more_than_its_level() -> None:
    lowest = headline(body(level="L0"))
    assert "not established" in lowest.en
    assert "未经查证" in lowest.zh
    for level in ("L0", "L1"):
        assert "no known copy" not in headline(body(LIVE, level=level)).en
    for level in ("L0", "L1", "L2"):
        assert "sanitised" not in headline(body(level=level)).en
    stated = make_body(copies=(), sanitisations=(sanitisation(),))
    assert "stated to be sanitised" in headline(stated).en
    for level in LEVELS:
        for text in (headline(body(level=level)), summary(body(level=level))):
            for banned in ("irrecoverab", "permanent", "forever", "不可恢复", "永久", "彻底"):
                assert banned not in text.en.lower() + text.zh


def test_the_summary_gives_days_in_the_zone_the_print_names() -> None:
    """At 18:00 UTC it is already the next day in Shanghai."""
    found = make_body()
    assert zone_name(zone_of(found)) == "UTC+08:00"
    late = datetime(2056, 2, 1, 18, 0, tzinfo=UTC)
    outcomes = tuple(msgspec.structs.replace(each, destroyed_at=late) for each in found.outcomes)
    told = summary(msgspec.structs.replace(found, outcomes=outcomes))
    assert told.en.startswith("On 2 February 2056,")
    assert told.zh.startswith("2056年2月2日，")


def test_the_zone_is_the_offset_of_the_day_of_issue_and_utc_where_none_is_known() -> None:
    assert zone_of(make_body(register=(), outcomes=())) == UTC
    west = timezone(-timedelta(hours=5))
    entry = msgspec.structs.replace(ENTRY, retained_until=PROPOSED.astimezone(west))
    assert zone_name(zone_of(make_body(register=(entry,)))) == "UTC-05:00"


def test_the_summary_names_several_days_several_years_and_what_was_left_out() -> None:
    found = make_body(4)
    entries = tuple(
        msgspec.structs.replace(entry, fiscal_year=2020 + number)
        for number, entry in enumerate(found.register)
    )
    outcomes = (
        found.outcomes[0],
        msgspec.structs.replace(
            found.outcomes[1], destroyed_at=PROPOSED + timedelta(days=1, hours=5)
        ),
        *(
            msgspec.structs.replace(
                each, result="withdrawn", destroyed_at=None, ledger_index=None, reason="a hold"
            )
            for each in found.outcomes[2:]
        ),
    )
    told = summary(make_body(register=entries, outcomes=outcomes))
    assert told.en.startswith("From 1 February 2056 to 2 February 2056, 2 documents")
    assert "from the fiscal years 2020 to 2021" in told.en
    assert "2 more had been approved and were not destroyed" in told.en
    assert "另有 2 份已批准但未销毁" in told.zh


def test_where_nothing_was_destroyed_the_summary_says_so() -> None:
    found = make_body(1)
    outcome = msgspec.structs.replace(
        found.outcomes[0], result="withdrawn", destroyed_at=None, ledger_index=None, reason="hold"
    )
    told = summary(msgspec.structs.replace(found, outcomes=(outcome,)))
    assert told.en.startswith("No document of the client acme was destroyed")
    assert "approved it" not in told.en


def test_order_79_is_known_by_its_rule_or_its_citation() -> None:
    assert under_order_79(make_body())
    house = msgspec.structs.replace(ENTRY, rule="house@1", legal_basis="House rule")
    assert not under_order_79(make_body(register=(house,)))
    cited = msgspec.structs.replace(house, legal_basis=ENTRY.legal_basis)
    assert under_order_79(make_body(register=(house, cited)))


@pytest.mark.parametrize(
    ("by", "en", "zh"),
    [
        ((), "enrolled 2054-12-28, in the founding days", "2054-12-28 系统初建时登记"),
        (("officer-li",), "enrolled 2054-12-28 by its owner", "2054-12-28 由本人登记"),
        (
            ("officer-xu", "officer-sun"),
            "enrolled 2054-12-28 by officer-xu and officer-sun",
            "2054-12-28 由 officer-xu 与 officer-sun 登记",
        ),
        (
            ("officer-xu",),
            "enrolled 2054-12-28, answered for by officer-xu",
            "2054-12-28 登记，由 officer-xu 负责",
        ),
    ],
)
def test_who_enrolled_a_key_and_when_is_told_in_a_line(
    by: tuple[str, ...], en: str, zh: str
) -> None:
    told = enrolled("officer-li", enrolment("officer-li", *by), UTC)
    assert (told.en, told.zh) == (en, zh)


def test_a_key_of_the_consoles_is_called_so_and_one_from_before_is_not_stated() -> None:
    given = enrolment("officer-li", enrolled_by="console")
    assert enrolled("admin", given, UTC).en == "enrolled 2054-12-28 by the console"
    assert enrolled("admin", given, UTC).zh == "2054-12-28 由控制台登记"
    assert enrolled("admin", UNSET, UTC) == Text(
        en="how it was enrolled is not stated", zh="登记情况未载明"
    )


def test_the_day_of_an_enrolment_is_the_day_in_the_zone_of_the_print() -> None:
    late = enrolment("officer-li", added_at=datetime(2054, 12, 27, 16, 0, tzinfo=UTC))
    assert "2054-12-28" in enrolled("officer-li", late, timezone(timedelta(hours=8))).en
    assert "2054-12-27" in enrolled("officer-li", late, UTC).en
