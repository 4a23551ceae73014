"""What a document is taken for: pure, from what was read, by data in `titles.toml`.

Promises: the same reading gives the same classification; "sure" (confidence of `SURE` and more)
needs a structure with number and date, or a title and at least one label, with no other class near.
Not sure is a low confidence and goes to a person, never a guess. Reasons name features only.

Rules:
- The title line weighs most: a title counts in the first lines, on a line that holds little else.
- Of two titles on one line the longer wins (银行存款余额调节表 is no 余额表, 对账单 no 回单).
- Two classes closer than `_NEAR` make both unsure. A phrase of `not` makes a class unsure.
- The date is the document's own: after one of its labels, never the first date in sight. A date
  that can be read in two ways is none. A message has none: its Date header is the sender's word.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from importlib import resources
from typing import Final

from gateway.inspect.read import Reading
from gateway.wire.messages import Classification

SURE: Final = 0.8
_STRUCTURE: Final = 0.96
_TITLE: Final = 0.6
_FIELD: Final = (0.0, 0.2, 0.26, 0.31, 0.34)  # what labels add to a title
_FIELD_ONLY: Final = 0.12  # what each adds without one
_FIELD_ONLY_LIMIT: Final = 0.6
_UNSURE: Final = 0.6
_NEAR: Final = 0.1
_TITLE_LINES: Final = 15
_TITLE_ROOM: Final = 26  # characters beside the title on its line
_LABEL_WINDOW: Final = 60
FACT_LENGTH: Final = 500
_MESSAGES: Final = frozenset({"message/rfc822", "application/ms-tnef"})
# A space between two ideographs that stand alone.
_SPACED_OUT: Final = re.compile(
    r"(?<=(?<!\S)[\u4e00-\u9fff]) (?=[\u4e00-\u9fff](?!\S))|"
    r"(?<=(?<!\S)[\u4e00-\u9fff]) (?=[\u4e00-\u9fff]:)"
)


@dataclass(frozen=True, slots=True)
class _Title:
    """A title, ready to be looked for. `longer` are titles of other classes that contain it."""

    text: str
    folded: str
    pattern: re.Pattern[str]
    longer: tuple[_Title, ...] = ()


@dataclass(frozen=True, slots=True)
class _Class:
    key: str
    titles: tuple[_Title, ...]
    fields: tuple[tuple[str, re.Pattern[str]], ...]
    needs: tuple[re.Pattern[str], ...]
    excluded: tuple[str, ...]
    dates: tuple[re.Pattern[str], ...]
    period: bool
    exact: bool


@dataclass(slots=True)
class _Score:
    kind: _Class
    confidence: float = 0.0
    reasons: list[str] = field(default_factory=list)


@cache
def _classes() -> tuple[_Class, ...]:
    text = (resources.files("gateway.inspect") / "titles.toml").read_text("utf-8")
    items = tomllib.loads(text)["class"]
    everything = [
        (item["key"], _title(title, exact=item.get("exact", False)))
        for item in items
        for title in item["titles"]
    ]
    return tuple(
        _Class(
            key=item["key"],
            titles=tuple(
                _Title(
                    title.text,
                    title.folded,
                    title.pattern,
                    tuple(
                        rival
                        for rival_key, rival in everything
                        if rival_key != item["key"]
                        and title.folded in rival.folded
                        and title.folded != rival.folded
                    ),
                )
                for key, title in sorted(everything, key=lambda pair: -len(pair[1].folded))
                if key == item["key"]
            ),
            fields=tuple(
                (label.split("|", 1)[0].rstrip(":"), _label(label, exact=item.get("exact", False)))
                for label in item.get("fields", ())
            ),
            needs=tuple(re.compile(pattern) for pattern in item.get("needs", ())),
            excluded=tuple(_fold(phrase) for phrase in item.get("not", ())),
            dates=tuple(_date_label(label) for label in item.get("dates", ())),
            period=item.get("period", False),
            exact=item.get("exact", False),
        )
        for item in items
    )


def _title(text: str, *, exact: bool) -> _Title:
    folded = _fold(text)
    word = re.escape(folded)
    if exact:
        pattern = rf"^{word}$"
    elif _ideographic(folded):
        # Not 发票号码: there the word is the beginning of a label or of a sentence.
        pattern = rf"{word}(?![\u4e00-\u9fff])"
    else:
        # Western titles stand at the beginning or the end of their line, as whole words.
        pattern = rf"^{word}\b(?! (?:to|for|address|the|of)\b)|\b{word}[:.]?$"
    return _Title(text, folded, re.compile(pattern))


def _label(label: str, *, exact: bool) -> re.Pattern[str]:
    choices = []
    for spelling in label.split("|"):
        word = _fold(spelling)
        if exact:
            choices.append(rf"(?:^|\n){re.escape(word)} ?\S")
        elif _ideographic(word):
            choices.append(re.escape(word))
        else:
            choices.append(rf"(?<!\w){re.escape(word)}(?!\w)")
    return re.compile("|".join(choices))


def _date_label(label: str) -> re.Pattern[str]:
    word = re.escape(label)
    return re.compile(word if _ideographic(label) else rf"(?<!\w){word}(?!\w)", re.IGNORECASE)


def preload() -> None:
    """Read the data now: a worker in its jail may not be able to."""
    _classes()


def classify(reading: Reading, media_type: str) -> tuple[Classification, dict[str, str]]:
    """Classify a document.

    Args:
        reading: what was read of it.
        media_type: what it is by its content; a message is correspondence by its form.

    Returns:
        The classification, and facts (personal: invoice_number, total, …), each bounded.
    """
    if media_type in _MESSAGES:
        return Classification("correspondence", 0.95, None, ["container:message"]), {}
    if reading.structure is not None:
        return _by_structure(reading)
    return _by_words(reading.text), {}


def _by_structure(reading: Reading) -> tuple[Classification, dict[str, str]]:
    found = reading.structure
    if found is None:
        raise RuntimeError("classification: expected a structure, found none")
    facts = {key: value[:FACT_LENGTH] for key, value in found.fields.items() if key != "date"}
    reasons = [f"root:{found.label}"]
    reasons += [f"field:{key.replace('_', ' ')}" for key in found.fields]
    issued = parse_date(found.fields.get("date", ""))
    sure = issued is not None and "invoice_number" in found.fields
    day = issued.isoformat() if issued else None
    return Classification("invoice", _STRUCTURE if sure else 0.7, day, reasons), facts


# ── by words ─────────────────────────────────────────────────────────────────────────────────────


def _by_words(text: str) -> Classification:
    lines = _title_lines(text)
    folded = _fold(text)
    scores = [_score(kind, lines, folded, text) for kind in _classes()]
    scores.sort(key=lambda item: item.confidence, reverse=True)
    best, second = scores[0], scores[1]
    if best.confidence <= 0:
        return Classification()
    confidence = best.confidence
    if best.confidence - second.confidence < _NEAR:
        confidence = min(confidence, _UNSURE)
        best.reasons.append(f"near:{second.kind.key}")
    day = _document_date(best.kind, text)
    return Classification(
        best.kind.key, round(confidence, 2), day.isoformat() if day else None, best.reasons[:12]
    )


def _score(kind: _Class, lines: list[str], folded: str, text: str) -> _Score:
    score = _Score(kind)
    title = _title_in(kind, lines)
    fields = [name for name, pattern in kind.fields if pattern.search(folded)]
    if title:
        score.confidence = _TITLE + _FIELD[min(len(fields), len(_FIELD) - 1)]
        score.reasons.append(f"title:{title}")
    elif fields and not kind.exact:
        score.confidence = min(_FIELD_ONLY * len(fields), _FIELD_ONLY_LIMIT)
    score.reasons += [f"field:{name}" for name in fields]
    if title and kind.needs and not any(pattern.search(text) for pattern in kind.needs):
        score.confidence = min(score.confidence, _UNSURE)
    if any(phrase in folded for phrase in kind.excluded):
        score.confidence = min(score.confidence, _UNSURE)
    return score


def _title_in(kind: _Class, lines: list[str]) -> str:
    """The title of a class on a title line, unless a longer title of another class covers it."""
    for line in lines:
        for title in kind.titles:
            if _stands(title, line) and not any(_stands(rival, line) for rival in title.longer):
                return title.text
    return ""


def _stands(title: _Title, line: str) -> bool:
    return len(line) <= len(title.folded) + _TITLE_ROOM and bool(title.pattern.search(line))


def _title_lines(text: str) -> list[str]:
    lines = (_fold(line) for line in text[:20_000].split("\n"))
    return [line for line in lines if line][:_TITLE_LINES]


def _fold(text: str) -> str:
    """Lower case, single spaces, and no spaces inside spaced-out words (发 票 is 发票)."""
    text = text.casefold().replace("（", "(").replace("）", ")").replace("：", ":")
    text = re.sub(r"[^\S\n]+", " ", text)
    text = _SPACED_OUT.sub("", text)
    return re.sub(r" ?([()/]) ?", r"\1", text).strip()


def _ideographic(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


# ── dates ────────────────────────────────────────────────────────────────────────────────────────

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
_DATES: Final = (
    re.compile(
        r"(?<!\d)(?P<y>(?:19|20)\d\d)\s*[-/.年]\s*(?P<m>\d{1,2})\s*[-/.月]\s*(?P<d>\d{1,2})(?!\d)"
    ),
    re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>(?:19|20)\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<a>\d{1,2})[/-](?P<b>\d{1,2})[/-](?P<y>(?:19|20)\d\d)(?!\d)"),
    re.compile(
        rf"(?<!\d)(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.)?[ -](?:of )?(?P<w>{_WORD})\.?,?[ -](?P<y>(?:19|20)\d\d)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?P<w>{_WORD})\.?\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s(?P<y>(?:19|20)\d\d)",
        re.IGNORECASE,
    ),
)
_MONTH_ONLY: Final = re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)\s*年\s*(?P<m>\d{1,2})\s*月(?!\s*\d)")
_YEAR_ONLY: Final = re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)\s*年度")


def parse_date(text: str) -> date | None:
    """The first date in a text, or None; also None for what can be read in two ways (03/04/2026)."""
    found = _find_dates(text)
    return found[0][1] if found else None


def _find_dates(text: str) -> list[tuple[int, date]]:
    found: dict[int, date] = {}
    for pattern in _DATES:
        for match in pattern.finditer(text):
            day = _make_date(match.groupdict())
            if day is not None:
                found.setdefault(match.start(), day)
    return sorted(found.items())


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


def _document_date(kind: _Class, text: str) -> date | None:
    """The date after the best of the class's labels; the last one named for a period."""
    head = text[:20_000]
    for label in kind.dates:
        for match in label.finditer(head):
            window = head[match.end() : match.end() + _LABEL_WINDOW]
            dates = [day for _offset, day in _find_dates(window)]
            if dates:
                return dates[-1] if kind.period else dates[0]
            month = _MONTH_ONLY.search(window) if kind.period else None
            if month:
                return _month_end(int(month["y"]), int(month["m"]))
    return _stated_period(kind, head)


def _stated_period(kind: _Class, head: str) -> date | None:
    """A period in the title lines: 2026年01月31日, 2026年1月, 2025年度."""
    if not kind.period:
        return None
    top = "\n".join(head.split("\n")[:_TITLE_LINES])
    dates = [day for _offset, day in _find_dates(top)]
    if len(set(dates)) == 1:
        return dates[0]
    months = {(int(m["y"]), int(m["m"])) for m in _MONTH_ONLY.finditer(top)}
    if len(months) == 1 and not dates:
        return _month_end(*months.pop())
    years = {int(m["y"]) for m in _YEAR_ONLY.finditer(top)}
    if len(years) == 1 and not dates and not months and kind.key == "annual-report":
        return date(years.pop(), 12, 31)  # 会计法 art. 11: the accounting year is the calendar year
    return None


def _month_end(year: int, month: int) -> date | None:
    try:
        following = date(year + month // 12, month % 12 + 1, 1)
    except ValueError:
        return None
    return following - timedelta(days=1) if 1 <= month <= 12 else None
