"""Dates and periods as documents write them: pure, from a line of text to a day.

Promises: what can be read in two ways (03/04/2026) is no day; a period's day is its last, never its first;
the time taken grows with the line. Leaves out: which of the dates of a document is its own (`dating`).

Rules:
- A period is stated by its two ends (A 至/to/bis/— B, each perhaps shortened: 1 - 31 December 2024), or as a
  month, a quarter or a year. One whose end lies before its beginning is none.
- A year is a calendar year (会计法 art. 11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar janvier",
            "feb february februar février",
            "mar march märz mars",
            "apr april avril",
            "may mai",
            "jun june juni juin",
            "jul july juli juillet",
            "aug august août",
            "sep sept september septembre",
            "oct october oktober octobre okt",
            "nov november novembre",
            "dec december dezember décembre dez",
        ),
        start=1,
    )
    for name in names.split()
}
_WORD: Final = "|".join(sorted(_MONTHS, key=len, reverse=True))
_Y: Final = r"(?P<y>(?:19|20)\d\d)"
_I: Final = re.IGNORECASE
_DATES: Final = (
    re.compile(
        rf"(?<!\d){_Y}\s{{0,3}}[-/.年]\s{{0,3}}(?P<m>\d{{1,2}})\s{{0,3}}[-/.月]\s{{0,3}}(?P<d>\d{{1,2}})(?!\d)(?:\s{{0,3}}日)?"
    ),
    re.compile(rf"(?<!\d){_Y}(?P<m>\d\d)(?P<d>\d\d)(?!\d)"),
    re.compile(rf"(?<!\d)(?P<d>\d{{1,2}})\.\s?(?P<m>\d{{1,2}})\.\s?{_Y}(?!\d)"),
    re.compile(rf"(?<!\d)(?P<a>\d{{1,2}})[/-](?P<b>\d{{1,2}})[/-]{_Y}(?!\d)"),
    re.compile(
        rf"(?<!\d)(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.)?[ -](?:of )?(?P<w>{_WORD})\.?,?[ -]{_Y}(?!\d)",
        _I,
    ),
    re.compile(rf"\b(?P<w>{_WORD})\.?\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s{_Y}(?!\d)", _I),
)
# A month, a quarter or a year that stands for its last day.
_SPANS: Final = (
    re.compile(
        rf"(?<!\d){_Y}\s{{0,3}}年\s{{0,3}}第?\s{{0,3}}(?P<m>\d{{1,2}})\s{{0,3}}[月期](?!\s?\d)份?"
    ),
    re.compile(rf"(?<!\d){_Y}[-/.](?P<m>0[1-9]|1[0-2])(?!\d|[-/.]\d{{1,2}}(?!\d))"),
    re.compile(rf"(?<!\d){_Y}(?P<m>0[1-9]|1[0-2])(?!\d)"),
    re.compile(rf"(?<!\d)(?P<m>0?[1-9]|1[0-2])[/.]{_Y}(?!\d)"),
    re.compile(rf"\b(?P<w>{_WORD})\.?,?\s{_Y}(?!\d)", _I),
    re.compile(rf"(?<!\d){_Y}\s{{0,3}}年?\s{{0,3}}第?(?P<q>[1-4一二三四])\s?季度?"),
    re.compile(
        rf"\bQ(?P<q>[1-4])[ /-]{_Y}(?!\d)|(?<!\d)(?P<y2>(?:19|20)\d\d)[ /-]?Q(?P<q2>[1-4])\b", _I
    ),
    re.compile(rf"(?<!\d){_Y}\s{{0,3}}年度?(?!\s{{0,3}}[\d第])"),
)
_TIME: Final = re.compile(
    r"[T ]{1,2}\d{1,2}[:时]\d{2}(?:[:分]\d{2}(?:\.\d{1,6})?秒?)?(?:Z|[+-]\d\d:?\d\d)?(?: ?[AP]M\b)?",
    _I,
)
_TO: Final = re.compile(
    r"[\s,;|]{0,4}(?:至|到|止|[-\u2010-\u2015\u2212~\u301c]{1,4}|/|\.{2,3}|→"
    r"|(?:up to(?: and including)?|to|until|till|through|thru|bis|au|and|und)\b)"
    r"[:\s]{0,4}(?:zum |the )?",
    _I,
)
# The beginning of a period, cut short: 1 (December), 01.12., December 1, December, 2024年10(月).
_SHORT_START: Final = re.compile(
    rf"(?:\d{{1,2}}[/.]\d{{1,2}}\.?|\d{{1,2}}(?:\.|st|nd|rd|th)?(?:\s?\d{{1,2}}\.|\s(?:{_WORD})\.?)?"
    rf"|(?:{_WORD})\b\.?(?:\s\d{{1,2}}(?:st|nd|rd|th)?)?)(?=\D)",
    _I,
)
_MONTH_TO_MONTH: Final = re.compile(
    rf"{_Y}\s{{0,3}}年\s{{0,3}}(?P<from>\d{{1,2}})\s{{0,3}}月?\s{{0,3}}[至到~\u2010-\u2015-]{{1,2}}\s{{0,3}}(?P<m>\d{{1,2}})\s{{0,3}}月(?!\s?\d)份?"
)
_WORD_DAYS: Final = re.compile(
    rf"(?P<w>{_WORD})\.?\s\d{{1,2}}(?:st|nd|rd|th)?\s?[-\u2010-\u2015]\s?(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s{_Y}(?!\d)",
    _I,
)
# The end of a period, cut short: 12月31日, 31日, 12-31.
_SHORT_END: Final = re.compile(
    r"(?:(?P<m>\d{1,2})\s{0,3}[月./-]\s{0,3}(?P<d>\d{1,2})(?![\d]|[-/.]\d)日?|(?P<d2>\d{1,2})\s{0,3}日)"
)
_BEGINS: Final = re.compile(rf"(?<![\d.,-])\d|\b(?=(?:{_WORD}|Q[1-4])\b)", _I)


@dataclass(frozen=True, slots=True)
class Value:
    """A day as stated from `start` to `stop` in a line.

    `day` is None where it can be read in two ways. `period`: it is the last day of a stated period. `span`:
    "day", "month" or "year", how exactly it is stated.
    """

    day: date | None
    start: int
    stop: int
    period: bool = False
    span: str = "day"


def parse_date(text: str) -> date | None:
    """The first date in a text, or None; also None for what can be read in two ways (03/04/2026)."""
    found = [
        (match.start(), day)
        for pattern in _DATES
        for match in pattern.finditer(text)
        if (day := _make_date(match.groupdict())) is not None
    ]
    return min(found)[1] if found else None


def value_at(line: str, at: int) -> Value | None:
    """The date or period that begins just there in a line."""
    for pattern in (_MONTH_TO_MONTH, _WORD_DAYS):
        match = pattern.match(line, at)
        if match and (day := _end_of(match)):
            return Value(day, at, match.end(), period=True)
    first = _day_at(line, at) or _span_at(line, at)
    if first is None:
        short = _SHORT_START.match(line, at)
        end = _after_to(line, short.end()) if short else None
        return Value(end.day, at, end.stop, period=True) if end else None
    to = _TO.match(line, first.stop)
    if to is None:
        return first
    second = (
        _day_at(line, to.end()) or _span_at(line, to.end()) or _short_end(line, to.end(), first)
    )
    if second is None:
        return first
    if first.day and second.day and second.day < first.day:
        return Value(None, at, second.stop, period=True)
    return Value(second.day, at, second.stop, period=True)


def open_ended(line: str, value: Value) -> bool:
    """Whether a date is the beginning of a period whose end stands on the next line."""
    to = _TO.match(line, value.stop)
    return to is not None and not line[to.end() :].strip()


def values_in(line: str) -> Iterator[Value]:
    """All dates and periods of a line, from left to right."""
    stop = 0
    for begin in _BEGINS.finditer(line):
        if begin.start() >= stop and (value := value_at(line, begin.start())):
            stop = value.stop
            yield value


def _day_at(line: str, at: int) -> Value | None:
    for pattern in _DATES:
        match = pattern.match(line, at)
        if match:
            time = _TIME.match(line, match.end())
            return Value(_make_date(match.groupdict()), at, time.end() if time else match.end())
    return None


def _span_at(line: str, at: int) -> Value | None:
    for pattern in _SPANS:
        match = pattern.match(line, at)
        if match and (day := _end_of(match)):
            parts = match.groupdict()
            exact = any(parts.get(key) for key in ("m", "w", "q", "q2"))
            return Value(day, at, match.end(), period=True, span="month" if exact else "year")
    return None


def _after_to(line: str, at: int) -> Value | None:
    to = _TO.match(line, at)
    return (_day_at(line, to.end()) or _span_at(line, to.end())) if to else None


def _short_end(line: str, at: int, first: Value) -> Value | None:
    match = _SHORT_END.match(line, at)
    if match is None or first.day is None:
        return None
    month = int(match["m"]) if match["m"] else first.day.month
    try:
        day = date(first.day.year, month, int(match["d"] or match["d2"]))
    except ValueError:
        return None
    return Value(day, at, match.end()) if day >= first.day else None


def _end_of(match: re.Match[str]) -> date | None:
    """The last day of the month, quarter or year of a match, or its day."""
    parts = match.groupdict()
    year = int(parts.get("y") or parts.get("y2") or 0)
    if parts.get("d"):
        return _make_date(parts)
    if quarter := parts.get("q") or parts.get("q2"):
        month = 3 * ("一二三四".find(quarter) + 1 or int(quarter))
    elif parts.get("w"):
        month = _MONTHS[str(parts["w"]).casefold()]
    else:
        month = int(parts.get("m") or 12)
    return _month_end(year, month)


def _make_date(parts: dict[str, str | None]) -> date | None:
    year = int(parts["y"] or 0)
    if parts.get("a") is not None:
        first, other = int(parts["a"] or 0), int(parts["b"] or 0)
        if first <= 12 and other <= 12 and first != other:
            return None
        day, month = (first, other) if other <= 12 else (other, first)
    else:
        day = int(parts.get("d") or 0)
        word = parts.get("w")
        month = _MONTHS[word.casefold()] if word else int(parts.get("m") or 0)
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _month_end(year: int, month: int) -> date | None:
    if not 1 <= month <= 12:
        return None
    return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
