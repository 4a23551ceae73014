"""What becomes of an inspected document: facts in, decision and reason out. No I/O, no clock.

Rules, in this order:
1. A sealed file that can't be read waits; bytes that are not the ones received are quarantined: someone
   changed them.
2. Whatever a scanner found is quarantined.
3. A scanner of bytes (patterns, antivirus) that should have judged and did not: the document waits. It is
   never passed. Where waiting can't help (over a limit), a person decides.
4. What could not be looked into (a parser gave up, a password, a limit), or is suspect without being
   harmful, goes to review UNJUDGED: it is listed, but nobody opens it before two officers release it.
5. Not surely classified or without the date its retention needs: review; an accountant may open it. So does a
   message that offers an invoice behind a link: somebody has to fetch it before the link ends.
6. Otherwise it is filed.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final, Literal

from msgspec import Struct

from gateway.core.filing.review import EARLIEST_YEAR
from gateway.core.reasons import LOCKED, UNJUDGED
from gateway.wire.messages import INVOICE_BY_LINK, Classification, Scan, Verdict
from retention_rules.periods import fiscal_year_of
from vault.catalogue.lifecycle import Event

SURE: Final = 0.8
# Dated by their receipt: a sender can write any date, and nothing else dates them.
DATED_BY_RECEIPT: Final = frozenset({"correspondence", "demonstration-note", "system-file"})
CLAMD: Final = "clamd"
FIXITY: Final = "fixity"
BY_LINK: Final = "invoice-by-link-only"
REASON_LIMIT: Final = 64
_NOT_A_CODE: Final = re.compile(r"[^A-Za-z0-9._:,/-]")
READER: Final = (
    "reader"  # reads for classification only: its failure leaves a document unclassified
)


class Judgement(Struct, frozen=True):
    """What to do. `event` None: wait and try again. `retry_for_ever`: the cause is outside the document."""

    event: Event | None
    reason: str
    record_class: str | None = None
    fiscal_year: int | None = None
    document_date: date | None = None
    retry_for_ever: bool = False


class Circumstances(Struct, frozen=True):
    """What the core knows besides the verdict. `scanners`: those that must have judged the document."""

    size: int
    sha256: bytes
    received_on: date
    year_end: tuple[int, int]
    known_classes: frozenset[str]
    scanners: frozenset[str]
    clamd: Literal["required", "optional", "off"]


def judge(verdict: Verdict, around: Circumstances) -> Judgement:
    """Decide on a verdict by the rules above."""
    if any(scan.scanner == FIXITY and scan.outcome == "error" for scan in verdict.scans):
        return Judgement(None, "waiting:fixity")
    if verdict.size != around.size or verdict.sha256 != around.sha256:
        return Judgement(Event.QUARANTINE, "integrity:not-the-bytes-received")
    for scan in verdict.scans:
        if scan.outcome == "found":
            return Judgement(Event.QUARANTINE, _code("found", scan))
    missing = _missing(verdict.scans, around)
    if missing is not None:
        return missing
    if verdict.unreadable == "encrypted" and verdict.lock:
        return Judgement(Event.QUESTION, f"{UNJUDGED}{LOCKED}:{verdict.lock}")
    if verdict.unreadable:
        return Judgement(Event.QUESTION, UNJUDGED + code_text(verdict.unreadable))
    for scan in verdict.scans:
        if scan.outcome == "suspect":
            return Judgement(Event.QUESTION, UNJUDGED + _code("suspect", scan))
    return _classified(verdict.classification, around)


def _code(what: str, scan: Scan) -> str:
    """A reason code. It goes into the ledger: whatever an inspector says, no text of a document may."""
    code = f"{what}:{scan.scanner}" + (f":{scan.detail}" if scan.detail else "")
    return code_text(code)


def code_text(text: str) -> str:
    """A text of an inspector as a short code, so that nothing it has read goes any further."""
    return _NOT_A_CODE.sub("_", text)[:REASON_LIMIT]


def _missing(scans: list[Scan], around: Circumstances) -> Judgement | None:
    """Rule 3: every scanner wanted must have judged the whole document."""
    said = {scan.scanner: scan for scan in scans}
    for name in sorted(around.scanners):
        if name not in said:
            return Judgement(None, f"waiting:{name}:silent")
    for scan in scans:
        unsaid = scan.outcome in {"unavailable", "error"}
        if scan.outcome == "limit":
            return Judgement(Event.QUESTION, UNJUDGED + _code("limit", scan))
        if scan.scanner == CLAMD:
            # An antivirus that answered nonsense is waited for; one that is away, where it is wanted.
            if scan.outcome == "error" or (unsaid and around.clamd == "required"):
                return Judgement(None, f"waiting:clamd:{scan.outcome}", retry_for_ever=True)
        elif unsaid and scan.scanner in around.scanners:
            return Judgement(None, _code("waiting", scan))
        elif unsaid and scan.scanner != READER:
            return Judgement(Event.QUESTION, UNJUDGED + _code("error", scan))
    if around.clamd == "required" and CLAMD not in said:
        return Judgement(None, "waiting:clamd:silent", retry_for_ever=True)
    return None


def _classified(classification: Classification, around: Circumstances) -> Judgement:
    """Rules 5 and 6."""
    record_class = classification.record_class
    day = _day(classification.document_date)
    if record_class is None:
        return Judgement(Event.QUESTION, "unclassified", document_date=day)
    if record_class not in around.known_classes:
        return Judgement(Event.QUESTION, "class-without-rule", document_date=day)
    if INVOICE_BY_LINK in classification.reasons:
        return Judgement(Event.QUESTION, BY_LINK, record_class)
    if classification.confidence < SURE:
        return Judgement(Event.QUESTION, "low-confidence", record_class, document_date=day)
    if record_class in DATED_BY_RECEIPT:
        day = around.received_on
    if day is None:
        return Judgement(Event.QUESTION, "no-date", record_class)
    if not EARLIEST_YEAR <= day.year <= around.received_on.year + 1:
        return Judgement(Event.QUESTION, "implausible-date", record_class)
    return Judgement(Event.FILE, "", record_class, fiscal_year_of(day, around.year_end), day)


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
