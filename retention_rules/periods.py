"""Calendar arithmetic for retention: years, periods, and the instant at which a day begins.

Promises: pure, monotonic (a later start or a longer period never gives an earlier end), and never
shorter than the law's period: where a day does not exist, the next day that does is taken.
Leaves out: the clock. Nothing here knows what day it is.
Rules: RULES.md, sections 3 to 5. A year end is a pair (month, day); 29 February means the last
day of February, whatever the year.
"""

from __future__ import annotations

import re
from calendar import isleap, monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from retention_rules.errors import PeriodError

# Longer than any law asks for; what is to be kept longer is `permanent`.
MAX_YEARS: Final = 200
# Fiscal years and dates outside this range are typing errors, not records.
FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 2200

_PERIOD: Final = re.compile(
    r"P(?:(?P<years>0|[1-9][0-9]{0,4})Y)?(?:(?P<months>0|[1-9][0-9]{0,4})M)?"
    r"(?:(?P<weeks>0|[1-9][0-9]{0,4})W)?(?:(?P<days>0|[1-9][0-9]{0,4})D)?",
    re.ASCII,
)


class Period(msgspec.Struct, frozen=True):
    """A calendar period: whole months (years are 12), then whole days (weeks are 7)."""

    months: int
    days: int

    @property
    def is_zero(self) -> bool:
        """Whether the period is empty."""
        return self.months == 0 and self.days == 0


def parse_period(text: str) -> Period:
    """Read an ISO 8601 duration of whole years, months, weeks and days, such as `P30Y` or `P0D`.

    Raises:
        PeriodError: anything else: times, fractions, signs, leading zeros, over 200 years.
    """
    match = _PERIOD.fullmatch(text)
    if match is None or text == "P":
        raise PeriodError(
            f"period: expected an ISO 8601 duration of whole years, months, weeks or days, "
            f"found {text!r}"
        )
    part = {name: int(value or 0) for name, value in match.groupdict().items()}
    period = Period(
        months=12 * part["years"] + part["months"], days=7 * part["weeks"] + part["days"]
    )
    if period.months > 12 * MAX_YEARS or period.days > 366 * MAX_YEARS:
        raise PeriodError(f"period: expected at most {MAX_YEARS} years, found {text!r}")
    return period


def add_period(start: date, period: Period | str) -> date:
    """The first day on which `period`, beginning with the day `start`, has run completely.

    One year from 2024-02-29 has run on 2025-03-01; one month from 31 January on 1 March.

    Raises:
        PeriodError: a malformed period or a result beyond the calendar.
    """
    if isinstance(period, str):
        period = parse_period(period)
    year, month0 = divmod(start.year * 12 + start.month - 1 + period.months, 12)
    try:
        if start.day > monthrange(year, month0 + 1)[1]:
            # The day is missing in that month: its last day is the last one covered.
            year, month0 = divmod(year * 12 + month0 + 1, 12)
            moved = date(year, month0 + 1, 1)
        else:
            moved = date(year, month0 + 1, start.day)
        return moved + timedelta(days=period.days)
    except (ValueError, OverflowError) as error:
        raise PeriodError(
            f"period: expected an end before the year 10000, found a start in {start.year} "
            f"and {period.months} months"
        ) from error


def period_until(trigger_on: date, period: Period | str) -> date:
    """The first day after a period whose clock starts on the day after `trigger_on`.

    A zero period has nothing to run and ends on the trigger day itself (RULES.md, section 4).
    """
    if isinstance(period, str):
        period = parse_period(period)
    if period.is_zero:
        return trigger_on
    return add_period(trigger_on + timedelta(days=1), period)


def check_year_end(year_end: tuple[int, int]) -> None:
    """Refuse a (month, day) that no year has (raises PeriodError)."""
    month, day = year_end
    # 2024 is a leap year: 29 February is a year end people have.
    if not 1 <= month <= 12 or not 1 <= day <= monthrange(2024, month)[1]:
        raise PeriodError(
            f"fiscal year end: expected a month and a day of it, found {month:02d}-{day:02d}"
        )


def fiscal_year_end(label: int, year_end: tuple[int, int]) -> date:
    """The last day of the fiscal year `label` (the calendar year in which it ends).

    Raises:
        PeriodError: an impossible year end or a label outside 1900 to 2200.
    """
    check_year_end(year_end)
    if not FIRST_YEAR <= label <= LAST_YEAR:
        raise PeriodError(f"fiscal year: expected {FIRST_YEAR} to {LAST_YEAR}, found {label}")
    month, day = year_end
    if (month, day) == (2, 29) and not isleap(label):
        day = 28
    return date(label, month, day)


def fiscal_year_of(day: date, year_end: tuple[int, int]) -> int:
    """The label of the fiscal year in which `day` lies (raises PeriodError as `fiscal_year_end`)."""
    return day.year if day <= fiscal_year_end(day.year, year_end) else day.year + 1


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone `name` (raises PeriodError if the system does not know it)."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise PeriodError(f"time zone: expected an IANA name, found {name!r}") from error


def start_of_day(day: date, time_zone: str) -> datetime:
    """The first instant of `day` in `time_zone`, aware in that zone.

    Where the clocks skip midnight, that is the first wall-clock time the day has; where midnight
    happens twice, the first.

    Raises:
        PeriodError: an unknown zone.
    """
    local = zone(time_zone)
    midnight = datetime(day.year, day.month, day.day, tzinfo=local)
    # Through UTC and back: a midnight that does not exist becomes the moment after the gap.
    return midnight.astimezone(UTC).astimezone(local)
