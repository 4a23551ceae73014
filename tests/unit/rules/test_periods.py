"""Calendar arithmetic: never a day short, whatever the calendar does."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from retention_rules.errors import PeriodError
from retention_rules.periods import (
    Period,
    add_period,
    fiscal_year_end,
    fiscal_year_of,
    parse_period,
    period_until,
    start_of_day,
)


@pytest.mark.parametrize(
    ("start", "period", "end"),
    [
        ("2026-01-01", "P30Y", "2056-01-01"),
        ("2026-01-01", "P0D", "2026-01-01"),
        ("2024-02-29", "P1Y", "2025-03-01"),  # 28 February would be a day short
        ("2024-02-29", "P4Y", "2028-02-29"),
        ("2096-02-29", "P4Y", "2100-03-01"),  # 2100 is not a leap year
        ("2000-02-29", "P100Y", "2100-03-01"),
        ("2025-01-31", "P1M", "2025-03-01"),
        ("2025-12-31", "P2M", "2026-03-01"),
        ("2025-03-31", "P1M", "2025-05-01"),
        ("2025-11-30", "P3M", "2026-03-01"),
        ("2025-12-31", "P1Y", "2026-12-31"),
        ("2024-02-28", "P2D", "2024-03-01"),
        ("2025-01-01", "P1Y6M2W3D", "2026-07-18"),
    ],
)
def test_a_period_ends_on_the_first_day_after_it_has_run(start: str, period: str, end: str) -> None:
    assert add_period(date.fromisoformat(start), period).isoformat() == end


def test_the_clock_starts_the_day_after_the_trigger_unless_there_is_nothing_to_run() -> None:
    assert period_until(date(2025, 12, 31), "P30Y") == date(2056, 1, 1)
    assert period_until(date(2025, 12, 31), "P1D") == date(2026, 1, 2)
    assert period_until(date(2025, 12, 31), "P0D") == date(2025, 12, 31)
    assert period_until(date(2025, 12, 31), "P0Y0M") == date(2025, 12, 31)
    assert period_until(date(2024, 2, 28), "P1Y") == date(2025, 3, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "30Y",
        "P-1Y",
        "P1.5Y",
        "P1Y ",
        " P1Y",
        "PT1H",
        "P1DT1H",
        "P01Y",
        "P1D1Y",
        "p1y",
        "P1Y\n",
        "P１Y",
        "P1Y1Y",
        "P201Y",
        "P2401M",
        "P73201D",
        "P99999Y",
        "P999999Y",
    ],
)
def test_anything_but_a_plain_bounded_duration_is_refused(text: str) -> None:
    with pytest.raises(PeriodError, match="expected"):
        parse_period(text)


def test_the_longest_period_accepted_is_two_hundred_years() -> None:
    assert parse_period("P200Y") == Period(months=2400, days=0)
    assert parse_period("P73200D").days == 73200


def test_a_period_beyond_the_calendar_is_an_error_of_this_package() -> None:
    with pytest.raises(PeriodError, match="before the year 10000"):
        add_period(date(9990, 1, 1), "P30Y")
    with pytest.raises(PeriodError, match="before the year 10000"):
        add_period(date(9999, 12, 31), "P1D")


@pytest.mark.parametrize(
    ("day", "year_end", "label"),
    [
        ("2025-12-31", (12, 31), 2025),
        ("2026-01-01", (12, 31), 2026),
        ("2025-03-31", (3, 31), 2025),
        ("2025-04-01", (3, 31), 2026),
        ("2024-02-29", (2, 29), 2024),
        ("2024-03-01", (2, 29), 2025),
        ("2025-02-28", (2, 29), 2025),
        ("2025-03-01", (2, 29), 2026),
        ("2024-02-29", (2, 28), 2025),  # the 28th means the 28th, in leap years too
        ("2100-02-28", (2, 29), 2100),
        ("2100-03-01", (2, 29), 2101),
    ],
)
def test_a_fiscal_year_is_named_after_the_year_in_which_it_ends(
    day: str, year_end: tuple[int, int], label: int
) -> None:
    assert fiscal_year_of(date.fromisoformat(day), year_end) == label


def test_a_year_end_of_29_february_is_the_last_day_of_february() -> None:
    assert fiscal_year_end(2024, (2, 29)) == date(2024, 2, 29)
    assert fiscal_year_end(2025, (2, 29)) == date(2025, 2, 28)
    assert fiscal_year_end(2100, (2, 29)) == date(2100, 2, 28)


@pytest.mark.parametrize("year_end", [(0, 1), (13, 1), (2, 30), (4, 31), (12, 0), (12, 32)])
def test_a_year_end_that_no_year_has_is_refused(year_end: tuple[int, int]) -> None:
    with pytest.raises(PeriodError, match="fiscal year end"):
        fiscal_year_end(2025, year_end)


@pytest.mark.parametrize("label", [1899, 2201, 0, -1, 20250])
def test_a_fiscal_year_that_is_a_typing_error_is_refused(label: int) -> None:
    with pytest.raises(PeriodError, match="expected 1900 to 2200"):
        fiscal_year_end(label, (12, 31))


@pytest.mark.parametrize(
    ("day", "zone", "instant"),
    [
        ("2056-01-01", "Asia/Shanghai", "2055-12-31T16:00:00+00:00"),
        ("1988-07-01", "Asia/Shanghai", "1988-06-30T15:00:00+00:00"),  # China had summer time then
        ("2026-01-01", "America/New_York", "2026-01-01T05:00:00+00:00"),
        # Midnight of that day did not exist in Sao Paulo: the day began at 01:00.
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00:00+00:00"),
        # Midnight came twice in Havana that day; the day began with the first.
        ("2026-11-01", "America/Havana", "2026-11-01T04:00:00+00:00"),
    ],
)
def test_a_day_begins_at_its_first_instant_in_the_zone(day: str, zone: str, instant: str) -> None:
    start = start_of_day(date.fromisoformat(day), zone)
    assert start.astimezone(UTC) == datetime.fromisoformat(instant)
    assert start.date().isoformat() == day


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "Asia", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(PeriodError, match="IANA"):
        start_of_day(date(2026, 1, 1), zone)
