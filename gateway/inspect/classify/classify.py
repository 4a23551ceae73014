"""What a document is taken for: pure, from what was read, by the data of `titles`.

Promises: the same reading gives the same classification; "sure" (confidence of `SURE` and more)
needs a structure with number and date, or a title and at least one label, with no other class near.
Not sure is a low confidence and goes to a person, never a guess. Reasons name features only.

Rules:
- The title line weighs most: a title counts in the first lines, on a line that holds little else (`titles`).
- Two classes closer than `_NEAR` make both unsure. A phrase of `not` makes a class unsure.
- The date is the document's own (`dating`). One that is weak, or that others compete with, makes the class
  unsure: the fiscal year would be. A message has none: its Date header is the sender's word.
- The most sensitive thing anywhere in a document decides: a restricted class on any of its pages, sheets or
  slides, or numbers of several people, make it that class, unsure, so that it is restricted from then on.
- What a structure states is compared with the page that carries it: people read the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.inspect.classify import letters, numbers
from gateway.inspect.classify.dates import parse_date, values_in
from gateway.inspect.classify.dating import document_date
from gateway.inspect.classify.text import Reading
from gateway.inspect.classify.titles import TITLE_LINES, Class, classes, fold, title_in, title_lines
from gateway.wire.messages import INVOICE_BY_LINK, Classification

SURE: Final = 0.8
_STRUCTURE: Final = 0.96
_TITLE: Final = 0.6
_FIELD: Final = (0.0, 0.2, 0.26, 0.31, 0.34)  # what labels add to a title
_FIELD_ONLY: Final = 0.12  # what each adds without one
_FIELD_ONLY_LIMIT: Final = 0.6
_UNSURE: Final = 0.6
_NEAR: Final = 0.1
_HEADING_LINES: Final = 3  # the name of a sheet, the firm, the title
_LONG_NUMBER: Final = 6
_PEOPLE: Final = 3  # different people's numbers that make a list
# What holds cards of many people by its nature, where it is surely that.
_WITH_CARDS: Final = frozenset({"bank-statement"})
_SUM: Final = re.compile(r"\d{1,3}(?:[.,' ]?\d{3}){0,4}[.,]\d\d(?!\d)")
_AMOUNT: Final = re.compile(r"\d[.,]\d")
_PERIOD: Final = re.compile(r"[\d年月份度第季\s:.()/-]+")
FACT_LENGTH: Final = 500
_MESSAGES: Final = frozenset(
    {"message/rfc822", "application/ms-tnef", "application/vnd.ms-outlook"}
)


@dataclass(slots=True)
class _Score:
    kind: Class
    confidence: float = 0.0
    reasons: list[str] = field(default_factory=list)


def preload() -> None:
    """Read the data now: a worker in its sandbox may not be able to."""
    classes()


def classify(reading: Reading, media_type: str) -> tuple[Classification, dict[str, str]]:
    """Classify a document.

    Args:
        reading: what was read of it.
        media_type: what it is by its content; a message is correspondence by its form.

    Returns:
        The classification, and facts (personal: invoice_number, total, …), each bounded.
    """
    sections = reading.sections or [reading.text]
    facts: dict[str, str] = {}
    if media_type in _MESSAGES:
        taken = Classification("correspondence", 0.95, None, ["container:message"])
        if not reading.parts and letters.offers_invoice_by_link(reading.text):
            taken = _doubted(taken, INVOICE_BY_LINK)
    elif reading.structure is not None:
        taken, facts = _by_structure(reading, sections)
    else:
        taken = _by_words(reading.text)
    if not reading.whole:
        taken = _doubted(taken, "read:in part")
    return _most_sensitive(taken, sections), facts


def _doubted(taken: Classification, reason: str) -> Classification:
    """The same class, not sure any more."""
    confidence = min(taken.confidence, _UNSURE)
    return Classification(
        taken.record_class, confidence, taken.document_date, [*taken.reasons[:11], reason]
    )


# ── by structure ─────────────────────────────────────────────────────────────────────────────────


def _by_structure(reading: Reading, sections: list[str]) -> tuple[Classification, dict[str, str]]:
    found = reading.structure
    if found is None:
        raise RuntimeError("classification: expected a structure, found none")
    facts = {key: value[:FACT_LENGTH] for key, value in found.fields.items() if key != "date"}
    reasons = [f"root:{found.label}"]
    reasons += [f"field:{key.replace('_', ' ')}" for key in found.fields]
    issued = parse_date(found.fields.get("date", ""))
    named = found.record_class != "invoice" or "invoice_number" in found.fields
    sure = issued is not None and named
    day = issued.isoformat() if issued else None
    taken = Classification(found.record_class, _STRUCTURE if sure else 0.7, day, reasons)
    if reading.pages:
        for reason in _against(taken, found.fields, reading.text, sections):
            taken = _doubted(taken, reason)
        taken = _dated_late(taken, _by_words(reading.text))
    return taken, facts


def _dated_late(taken: Classification, words: Classification) -> Classification:
    """The same, by the later of two dates that a page and its structure state for one document.

    Number and class agree: it is that document, and nobody can tell whose date is the slip. By the later one
    it is never destroyed too early.
    """
    if words.record_class != taken.record_class or words.confidence < SURE:
        return taken
    if not taken.document_date or words.document_date in {None, taken.document_date}:
        return taken
    assert words.document_date is not None
    later = max(words.document_date, taken.document_date)
    reasons = [*taken.reasons[:11], "page:another date"]
    return Classification(taken.record_class, taken.confidence, later, reasons)


def _against(
    taken: Classification, stated: dict[str, str], text: str, sections: list[str]
) -> Iterator[str]:
    """What on the page contradicts the structure that it carries."""
    number = stated.get("invoice_number", "")
    if not _stands_on(number, sections) and not _has_sum(taken, stated, text):
        yield "page:another number"
    words = _by_words(text)
    titled = bool(words.reasons) and words.reasons[0].startswith("title:")
    if titled and words.record_class != taken.record_class:
        yield f"page:{words.record_class}"


def _has_sum(taken: Classification, stated: dict[str, str], text: str) -> bool:
    """Whether a page states date and total of an invoice: some print its number in another form."""
    total = re.sub(r"\D", "", stated.get("total", ""))
    sums = {re.sub(r"\D", "", match[0]) for match in _SUM.finditer(text)}
    days = {
        value.day.isoformat() for line in text.split("\n") for value in values_in(line) if value.day
    }
    return bool(total) and total in sums and taken.document_date in days


def _stands_on(number: str, sections: list[str]) -> bool:
    """Whether a number stands on a page as a word, or, if it is long, however it is spaced."""
    word = re.compile(rf"(?<!\w){re.escape(number)}(?!\w)", re.IGNORECASE)
    spaced = "".join(number.split()).casefold()
    return any(
        word.search(text)
        or (len(spaced) >= _LONG_NUMBER and spaced in "".join(text.split()).casefold())
        for text in sections
    )


# ── what is sensitive ────────────────────────────────────────────────────────────────────────────


def _most_sensitive(taken: Classification, sections: list[str]) -> Classification:
    """The class of the most sensitive thing in a document, unsure where that is not all there is."""
    restricted = [kind for kind in classes() if kind.restricted]
    if any(kind.key == taken.record_class and taken.confidence >= SURE for kind in restricted):
        return taken
    for kind in restricted:
        for section in sections:
            reasons = _signs(kind, section)
            if reasons:
                day, _sure, _reason = document_date(kind.dates, section, kind.is_title)
                return _instead(taken, kind.key, reasons, day.isoformat() if day else None)
    text = "\n".join(sections)
    # Two parties may state who they are on a paper between them.
    several = _PEOPLE if taken.confidence >= SURE else _PEOPLE - 1
    if numbers.identities(text) >= several:
        return _instead(taken, "identity-document", ["numbers:identity"])
    by_nature = taken.record_class in _WITH_CARDS and taken.confidence >= SURE
    if not by_nature and numbers.cards(text) >= several:
        return _instead(taken, "payroll", ["numbers:bank card"])
    return taken


def _instead(
    taken: Classification, key: str, reasons: list[str], day: str | None = None
) -> Classification:
    if taken.record_class == key:
        return taken
    also = [f"near:{taken.record_class}"] if taken.record_class else []
    return Classification(key, _UNSURE, day or taken.document_date, [*reasons, *also][:12])


def _signs(kind: Class, section: str) -> list[str]:
    """The features by which a section is of a restricted class; empty if it is not."""
    folded = fold(section)
    names = [field.name for field in kind.fields if field.stands_in(folded)]
    # A line with an amount is a row of an account, and no title.
    lines = [line for line in folded.split("\n") if line and not _AMOUNT.search(line)]
    title = _sign_of(kind, lines, len(names))
    if title:
        return [title, *(f"field:{name}" for name in names)]
    if len(names) > 2 and any(pair <= set(names) for pair in kind.together):
        return [f"field:{name}" for name in names]
    return []


def _sign_of(kind: Class, lines: list[str], fields: int) -> str:
    """The title of a restricted class, as a reason; further down it needs more labels beside it."""
    title = title_in(kind, lines[:TITLE_LINES]) if fields else ""
    if not title and fields > 1:
        title = title_in(kind, lines)
    top = _bare(lines[:_HEADING_LINES])
    if not title:
        alone = {line.replace(" ", "") for line in top}
        title = next((t.text for t in kind.titles if t.folded.replace(" ", "") in alone), "")
    if title:
        return f"title:{title}"
    signed = fields > 0 and _any_of(kind.signs, _bare(lines[:TITLE_LINES]))
    headed = fields > 1 and _any_of(kind.headings, top)
    return f"sign:{kind.key}" if signed or headed else ""


def _bare(lines: list[str]) -> list[str]:
    """Lines without the period on them, and without those that are a label and its value."""
    return [_PERIOD.sub(" ", line).strip() for line in lines if ":" not in line]


def _any_of(patterns: tuple[re.Pattern[str], ...], lines: list[str]) -> bool:
    return any(pattern.search(line) for pattern in patterns for line in lines)


# ── by words ─────────────────────────────────────────────────────────────────────────────────────


def _by_words(text: str) -> Classification:
    lines = title_lines(text)
    folded = fold(text)
    scores = [_score(kind, lines, folded, text) for kind in classes()]
    scores.sort(key=lambda item: item.confidence, reverse=True)
    best, second = scores[0], scores[1]
    if best.confidence <= 0:
        return Classification()
    confidence = best.confidence
    if best.confidence - second.confidence < _NEAR:
        confidence = min(confidence, _UNSURE)
        best.reasons.append(f"near:{second.kind.key}")
    day, sure, reason = document_date(best.kind.dates, text, best.kind.is_title)
    if day is not None and not sure:
        confidence = min(confidence, _UNSURE)
    reasons = [*best.reasons[:11], reason] if reason else best.reasons[:12]
    return Classification(
        best.kind.key, round(confidence, 2), day.isoformat() if day else None, reasons
    )


def _score(kind: Class, lines: list[str], folded: str, text: str) -> _Score:
    score = _Score(kind)
    title = title_in(kind, lines)
    fields = [field.name for field in kind.fields if field.stands_in(folded)]
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
