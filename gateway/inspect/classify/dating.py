"""Which of the dates in a document is its own: pure, by the labels in `titles.toml`.

A year too early is destruction a year too early. So a date counts only where a label and a value belong
together, and what speaks against it goes to a person.

Promises: the day, whether it is sure, and a reason that names the label and never the value.

Rules:
- A value belongs to a label that it follows on the same line or in the next cell, or under which it stands:
  in the label's column, or, where columns are not to be seen, as the n-th date under the n-th label of dates.
- A label with another word before it (next, due, printed; 下期, 还款, 打印) is another label.
- A stated period goes before a single date, and its end is the date. One day behind the label of a period may
  be its beginning: it is weak. Without a label a period counts in the title, or alone on a line near it.
- The labels "Date", "Datum" and 日期 alone are weak, except where the form of a class has no other.
- Different values behind labels of one meaning compete: the latest stands, and is not sure.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import takewhile
from typing import Final, Literal

from gateway.inspect.classify.dates import Value, open_ended, value_at, values_in

_HEAD: Final = 20_000  # characters in which a document states its date
_LINE: Final = 1000
_TITLE_LINES: Final = 15
_ROWS: Final = 60  # of a table under a label
_STACK: Final = 12  # lines of a block of labels, or of the block of values under it
_ROW: Final = 300  # characters of a row of labels or values
_LOOKS: Final = 400  # labels looked at in one document, whatever it repeats
_I: Final = re.IGNORECASE
# Between a label and its value: what a form prints there, a comma of a CSV (of a sentence: no), a small word.
_GAP: Final = re.compile(
    r"(?:\s?\([^()]{0,30}\))?(?:(?:\s?\.){3,40}|(?:[\s:|=\[(\"'>_-]|[,;](?!\s)){0,40})\s{0,3}"
    r"(?:(?:自|从|由|起|止|(?:from|vom|von|am|du|of|for|the|on|is)\b)[\s:]{0,3}){0,2}"
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6},?\s)?",
    _I,
)
_BETWEEN: Final = re.compile(r"[\s,;|()\[\]\"']{0,8}")
# Words before a label that make it the label of another date.
_ANOTHER: Final = re.compile(
    r"(?:[上下][一次期个]{0,2}|还款|到期|打印|下载|导出|付款|交货|送货|发货|预计|计划|申请|原|有效|出生)$"
    r"|\b(?:next|previous|prior|last|due|original|former|print|printed|download|delivery|nächste[rsn]?|letzte[rsn]?|"
    r"prochaine?|fällig|expected)[ -]$",
    _I,
)
_WORD_BEFORE: Final = re.compile(r"[\u4e00-\u9fff]$|[^\W\d_\u4e00-\u9fff][ -]?$")
_LONGER: Final = re.compile(r"(?![自从由起止为是])[\u4e00-\u9fff]")  # 账期 in 对账期间
_DATE_WORD: Final = r"(?:date|datum|period|zeitraum)\b"
_DATE_LABEL: Final = re.compile(
    r"[\u4e00-\u9fff]{0,6}(?:日期|时间|时期|期间|所属期|账期|账单日|还款日|到期日|交易日|起息日)"
    rf"|(?:(?!\w{{0,20}}{_DATE_WORD})[^\W\d_]{{1,20}}[ -])?[^\W\d_]{{0,20}}{_DATE_WORD}(?: of [a-z]{{1,20}})?"
    r"|\b(?:due|printed|fällig|échéance)\b",
    _I,
)
_NO_LABELS: Final = re.compile(r"\d|[.。,;](?:\s|$)")  # a value, or a sentence
_NOT_OF_TITLE: Final = re.compile(
    r"(?:\b(?:nr|no|num|number|nummer)|№|#|号|第)[\s.:]{0,3}$|:\s{0,3}$"
    r"|\b(?:printed|created|downloaded|issued|due|gedruckt|erstellt|édité|imprimé)(?: on| am| le)?\s$",
    _I,
)
_ISSUER: Final = "单位"  # who made a report, or in what its sums are
_BARE: Final = re.compile(r"[\s:;,.()\[\]|'\"-]{0,20}")

Dated = tuple[date | None, bool, str]


@dataclass(frozen=True, slots=True)
class Label:
    """A label, ready to be looked for. `plain`: a word of its own only (日期, not 交易日期)."""

    text: str
    pattern: re.Pattern[str]
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a class's date.

    Args:
        own: groups of labels, best first; labels of one group mean the same.
        ends: labels of the last day of a period.
        periods: labels of a period.
        weak: labels that say little.
        title: what the title may state: a "day", a "year", or only a period ("").
    """

    own: tuple[tuple[Label, ...], ...] = ()
    ends: tuple[Label, ...] = ()
    periods: tuple[Label, ...] = ()
    weak: tuple[Label, ...] = ()
    title: Literal["day", "year", "both", ""] = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """A value with the label it belongs to; not `firm`: it may be another's."""

    value: Value
    label: str
    firm: bool = True


def label(text: str, *, plain: bool = False) -> Label:
    """A label as it stands in a document, whatever the case and spacing."""
    words = re.escape(text)
    if re.search(r"[\u4e00-\u9fff]", text):
        return Label(text, re.compile(" ?".join(re.escape(c) for c in text)), plain)
    return Label(text, re.compile(rf"(?<!\w){words}(?!\w)", _I), plain)


class _Page:
    """The lines in which a document states its date, and how much may still be looked at."""

    def __init__(self, text: str) -> None:
        self.lines = [line[:_LINE] for line in text[:_HEAD].split("\n") if line.strip()]
        self._looks = _LOOKS
        self._values: dict[int, list[Value]] = {}
        self._single: bool | None = None

    def look(self) -> bool:
        """Whether one more label may be looked at."""
        self._looks -= 1
        return self._looks >= 0

    def values(self, index: int) -> list[Value]:
        """The dates of a line, from left to right."""
        if index not in self._values:
            self._values[index] = list(values_in(self.lines[index]))
        return self._values[index]

    def single(self) -> bool:
        """Whether there is only one date in it: then nothing else could be meant."""
        if self._single is None:
            every = (self.values(index) for index in range(len(self.lines)))
            self._single = len({value.day for values in every for value in values}) == 1
        return self._single


def document_date(labels: Labels, text: str, is_title: Callable[[str], bool]) -> Dated:
    """The date of a document.

    Args:
        is_title: whether a line is a title line of its class.

    Returns:
        The day (of a period: the last), whether it is sure, and the reason ("" when there is no day).
    """
    page = _Page(text)
    weak: list[_Found] = []
    firm: list[_Found] = []
    # 1. Stated periods, and labels that name an end.
    if labels.periods:
        named = [*_behind(labels.periods, page), *_in_titles(labels, page, is_title)]
        firm = [each for each in named if each.value.period]
        weak = [each for each in named if not each.value.period]
        firm += _behind(labels.ends, page)
    # 2. Else single dates, by the best label.
    for group in labels.own:
        if firm:
            break
        found = _behind(group, page)
        firm = [each for each in found if labels.periods or not each.value.period]
        weak += [each for each in found if each not in firm]
    if firm:
        return _agreed(firm)
    # 3. What says little is never sure.
    weak += _behind(labels.weak, page)
    if not weak:
        return None, False, ""
    day, _sure, reason = _agreed(weak)
    return day, False, reason.replace("date:", "date:weak:", 1)


def _agreed(found: list[_Found]) -> Dated:
    found = [each for each in found if each.firm] or found
    days = {each.value.day for each in found if each.value.day}
    latest = max(days)
    if len(days) > 1:
        return latest, False, "date:competing"
    firm = found[0].firm
    return latest, firm, f"date:{found[0].label}" if firm else f"date:apart:{found[0].label}"


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def _behind(labels: tuple[Label, ...], page: _Page) -> list[_Found]:
    """Every readable value of these labels."""
    found = []
    for each in labels:
        for index, line in enumerate(page.lines):
            for match in each.pattern.finditer(line):
                anothers = _is_anothers(each, line[: match.start()], line[match.end() :])
                if anothers or not page.look():
                    continue
                values = list(_same_line(page.lines, index, match.end()))
                firm = True
                if not values:
                    values, firm = _below(page, index, match)
                found += [_Found(value, each.text, firm) for value in values if value.day]
    return found


def _is_anothers(each: Label, before: str, behind: str) -> bool:
    before = before[-24:]
    if _LONGER.match(behind):
        return True
    return bool(_ANOTHER.search(before)) or (each.plain and bool(_WORD_BEFORE.search(before)))


def _same_line(lines: list[str], index: int, at: int) -> Iterator[Value]:
    """The value just behind a label, and what follows it without a word between."""
    line = lines[index]
    gap = _GAP.match(line, at)
    value = value_at(line, gap.end() if gap else at)
    if value is None:
        return
    if not value.period and open_ended(line, value) and index + 1 < len(lines):
        end = _only(lines[index + 1])
        if end is not None and not end.period:
            yield Value(end.day, value.start, value.stop, period=True)
            return
    yield value
    between = _BETWEEN.match(line, value.stop)
    other = value_at(line, between.end()) if between else None
    if other is not None and other.span == "day":
        yield Value(other.day, other.start, other.stop, value.period)


def _only(text: str) -> Value | None:
    """The value of a cell or line that holds nothing else."""
    begin = _BARE.match(text)
    value = value_at(text, begin.end() if begin else 0)
    return value if value and _BARE.fullmatch(text, value.stop) else None


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def _below(page: _Page, index: int, match: re.Match[str]) -> tuple[list[Value], bool]:
    """The values under a label that has none on its line, and whether they are surely its own."""
    line = page.lines[index]
    cells = _cells(line)
    column = _column(line, cells, match)
    if column is not None and len(cells) > 1:
        values = list(_in_column(page.lines[index + 1 : index + 1 + _ROWS], column, len(cells)))
        if values:
            return values, True
    if len(line) > _ROW or _NO_LABELS.search(line):
        return [], False
    # Where columns are not to be seen: the n-th date under the n-th label of dates.
    labels = list(_DATE_LABEL.finditer(line)) or [match]
    place = next((i for i, each in enumerate(labels) if each.end() >= match.end()), 0)
    above = _labels_above(page.lines, index)
    rows = range(index + 1, min(index + 1 + _ROWS, len(page.lines)))
    if above or not rows or not page.values(rows[0]):
        under = page.lines[index + 1 : index + 1 + 2 * _STACK]
        return _in_block(page, under, above + len(labels), above + place)
    first = page.values(rows[0])
    # A word before a date says whose it is (Printed 3 January); beside one label alone, anything does.
    apart = any(_WORD_BEFORE.search(page.lines[rows[0]][: value.start]) for value in first)
    beside = len(labels) > 1 or len(line) > len(match[0]) + 4
    if len(first) == len(labels) and (_only(page.lines[rows[0]]) or (beside and not apart)):
        alike = takewhile(lambda values: len(values) == len(labels), map(page.values, rows))
        return [values[place] for values in alike] if beside else [first[place]], True
    return first, False


def _labels_above(lines: list[str], index: int) -> int:
    """How many labels of dates stand right above a line, without a value."""
    count = 0
    for row in reversed(lines[max(0, index - _STACK) : index]):
        if len(row) > _ROW or _NO_LABELS.search(row):
            break
        count += len(_DATE_LABEL.findall(row))
    return count


def _in_column(rows: list[str], column: int, width: int) -> Iterator[Value]:
    for row in rows:
        cells = _cells(row)
        aligned = len(cells) == width or ("\t" in row and column < len(cells))
        value = _only(cells[column]) if aligned else None
        if value is None:
            return
        yield value


def _in_block(page: _Page, under: list[str], labels: int, place: int) -> tuple[list[Value], bool]:
    """The value of a label in a block of labels, in the block of values under it."""
    first = next((i for i, row in enumerate(under[:_STACK]) if _NO_LABELS.search(row)), None)
    if first is None:
        return [], False
    labels += sum(len(_DATE_LABEL.findall(row)) for row in under[:first])
    values = []
    for row in under[first : first + _STACK]:
        value = _only(row)
        if value:
            values.append(value)
    if len(values) != labels:
        return values, False
    return [values[place]], page.single()


def _cells(line: str) -> list[str]:
    if "\t" in line:
        return line.split("\t")
    if "|" in line:
        return line.split("|")
    for delimiter in (";", ","):
        if line.count(delimiter) > 1 or (delimiter in line and f"{delimiter} " not in line):
            try:
                return next(csv.reader([line], delimiter=delimiter))
            except (csv.Error, StopIteration):
                return [line]
    return re.split(r" {2,}", line.strip())


def _column(line: str, cells: list[str], match: re.Match[str]) -> int | None:
    """The cell that holds a label and nothing behind it."""
    at = line[: match.start()].count(match[0])  # which of the line's cells with this word it is
    for column, cell in enumerate(cells):
        count = cell.count(match[0])
        if count > at:
            rest = cell[cell.find(match[0]) + len(match[0]) :]
            alone = not re.sub(r"\([^()]{0,30}\)", "", rest).strip(" :\"'")
            return column if alone else None
        at -= count
    return None


# ── titles ───────────────────────────────────────────────────────────────────────────────────────


def _in_titles(labels: Labels, page: _Page, is_title: Callable[[str], bool]) -> Iterator[_Found]:
    """Periods in a title, beside who made the report, or alone on a line: 2026年1月工资表."""
    for index, line in enumerate(page.lines[:_TITLE_LINES]):
        # Digits alone may be any number.
        bare = None if line.strip().isdigit() else _only(line)
        values = [bare] if bare else []
        if not bare and (_ISSUER in line or is_title(line)):
            # The number of a statement (Nr. 12/2024), and what another label says, are left out.
            values = [v for v in page.values(index) if not _NOT_OF_TITLE.search(line[: v.start])]
        for value in values:
            if value.day is None:
                continue
            if value.span == "year" and labels.title not in {"year", "both"}:
                continue
            day = labels.title in {"day", "both"}
            yield _Found(replace(value, period=True) if day else value, "title")
