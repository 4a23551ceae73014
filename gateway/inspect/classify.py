"""What a document is taken for: pure, from what was read, by the data of `titles`.

Promises: the same reading gives the same classification; "sure" (confidence of `SURE` and more)
needs a structure with number and date, or a title and at least one label, with no other class near.
Not sure is a low confidence and goes to a person, never a guess. Reasons name features only.

Rules:
- The title line weighs most: a title counts in the first lines, on a line that holds little else (`titles`).
- Two classes closer than `_NEAR` make both unsure. A phrase of `not` makes a class unsure.
- The date is the document's own (`dating`). One that is weak, or that others compete with, makes the class
  unsure: the fiscal year would be. A message has none: its Date header is the sender's word.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.inspect.dates import parse_date
from gateway.inspect.dating import document_date
from gateway.inspect.read import Reading
from gateway.inspect.titles import Class, classes, fold, title_in, title_lines
from gateway.wire.messages import Classification

SURE: Final = 0.8
_STRUCTURE: Final = 0.96
_TITLE: Final = 0.6
_FIELD: Final = (0.0, 0.2, 0.26, 0.31, 0.34)  # what labels add to a title
_FIELD_ONLY: Final = 0.12  # what each adds without one
_FIELD_ONLY_LIMIT: Final = 0.6
_UNSURE: Final = 0.6
_NEAR: Final = 0.1
FACT_LENGTH: Final = 500


@dataclass(slots=True)
class _Score:
    kind: Class
    confidence: float = 0.0
    reasons: list[str] = field(default_factory=list)


def preload() -> None:
    """Read the data now: a worker in its jail may not be able to."""
    classes()


def classify(reading: Reading, media_type: str) -> tuple[Classification, dict[str, str]]:
    """Classify a document.

    Args:
        reading: what was read of it.
        media_type: what it is by its content; "message/rfc822" is correspondence by its form.

    Returns:
        The classification, and facts (personal: invoice_number, total, …), each bounded.
    """
    if media_type == "message/rfc822":
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
