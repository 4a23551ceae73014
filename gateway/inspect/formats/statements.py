"""Bank statements that state themselves in a structure: CAMT.053, MT940 and OFX.

Promises: recognised by root, first tags or header, never by a name; time linear in the text; of several
statements in one file the last day of all. Leaves out: transactions, balances, what banks add of their own.

Rules: the date is the last day of the stated period. Where it is not stated, or the closing balance is of
another day, or the file ends before a statement does, there is no date that is sure.

Sources: ISO 20022 camt.053 (BkToCstmrStmt: FrToDt, Bal/Tp/CdOrPrtry/Cd CLBD); SWIFT MT940 category 9 (fields
20, 25, 28C, 60a, 62a); OFX 1.0.2 and 2.2 (STMTRS, CCSTMTRS: BANKTRANLIST/DTEND).
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element

CAMT_SPACE: Final = "urn:iso:std:iso:20022:tech:xsd:camt.053."
_TAG: Final = re.compile(r":(\d\d[A-Z]?):(.{0,80})")
# What must stand there, in this order, in every MT940.
_OPENING: Final = frozenset({"60F", "60M"})
_BALANCE: Final = re.compile(r"[CD](\d\d)(\d\d)(\d\d)[A-Z]{3}[\d,.]{1,16}")
_MT940_HEAD: Final = 20  # lines before the first tag: an envelope or a bank's preamble
_OFX_TAG: Final = re.compile(r"<(/?[A-Z0-9.]{2,20})>([^<\r\n]{0,40})")
_OFX_KINDS: Final = frozenset({"STMTRS", "CCSTMTRS"})
_DAY: Final = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)")


class Stated:
    """What a file of statements states: the last day of each, and whether anything speaks against it."""

    def __init__(self) -> None:
        self.ends: list[date] = []
        self.conflict = False

    def end(self, stated: date | None, closing: date | None) -> None:
        """One statement: the end of its period, and the day of its closing balance."""
        day = stated or closing
        if day is None or (stated and closing and stated != closing):
            self.conflict = True
        self.ends += [each for each in (stated, closing) if each]

    def date(self) -> str:
        """The last day, YYYY-MM-DD, or "" where none is sure."""
        return max(self.ends).isoformat() if self.ends and not self.conflict else ""


def begins(text: str) -> bool:
    """Whether a text begins as a file of statements does; then it is read to its end."""
    return _begins_ofx(text.lstrip("\ufeff \r\n")) or _begins_mt940(text)


def read_camt(root: _Element) -> Stated:
    """The statements of a CAMT.053 by its root `Document`."""
    stated = Stated()
    for statement in root.iterfind("{*}BkToCstmrStmt/{*}Stmt"):
        closing = None
        for balance in statement.iterfind("{*}Bal"):
            if balance.findtext("{*}Tp/{*}CdOrPrtry/{*}Cd", "").strip() == "CLBD":
                closing = _day(
                    balance.findtext("{*}Dt/{*}Dt", "") or balance.findtext("{*}Dt/{*}DtTm", "")
                )
        stated.end(_day(statement.findtext("{*}FrToDt/{*}ToDtTm", "")), closing)
    return stated


def read_ofx_tree(root: _Element) -> Stated:
    """The statements of an OFX 2 by its root `OFX`."""
    stated = Stated()
    for kind in sorted(_OFX_KINDS):
        for statement in root.iter(f"{{*}}{kind}"):
            stated.end(_day(statement.findtext("{*}BANKTRANLIST/{*}DTEND", "")), None)
    return stated


def read_ofx(text: str) -> Stated | None:
    """The statements of an OFX 1 (SGML without end tags); None for anything else."""
    start = text.lstrip("\ufeff \r\n")
    if not _begins_ofx(start):
        return None
    stated, inside, end = Stated(), False, ""
    for match in _OFX_TAG.finditer(start):
        tag, value = match.groups()
        if tag in _OFX_KINDS:
            inside, end = True, ""
        elif tag == "DTEND" and inside:
            end = value.strip()
        elif tag.removeprefix("/") in _OFX_KINDS and inside:
            stated.end(_day(end), None)
            inside = False
    if inside:
        stated.end(_day(end), None)
    return stated


def _begins_ofx(text: str) -> bool:
    return text.startswith("OFXHEADER:")


def read_mt940(text: str) -> Stated | None:
    """The statements of an MT940; None for anything else."""
    if not _begins_mt940(text):
        return None
    stated = Stated()
    seen: set[str] = set()
    for name, value in _tags(text):
        if name == "20":
            # A message of several goes on in the next one (62M).
            stated.conflict |= bool(seen) and not seen & {"62F", "62M"}
            seen = set()
        seen.add(name)
        if name == "62F":
            complete = {"20", "25"} <= seen and seen & {"28", "28C"} and seen & _OPENING
            stated.end(_balance_day(value) if complete else None, None)
    stated.conflict |= "62F" not in seen  # the file was cut off, or goes on in another
    return stated


def _begins_mt940(text: str) -> bool:
    """Whether the first tag is :20: and :25: follows, as they do in no other message for customers."""
    names = []
    lines = text[:4000].lstrip("\ufeff").split("\n")
    for number, line in enumerate(lines):
        match = _TAG.match(line.strip().removeprefix("{4:"))
        if match:
            names.append(match[1])
        elif not names and number >= _MT940_HEAD:
            return False
    return names[:1] == ["20"] and "25" in names[1:3] and bool(_OPENING & set(names[2:6]))


def _tags(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        match = _TAG.match(line.strip())
        if match:
            yield match[1], match[2]


def _balance_day(value: str) -> date | None:
    match = _BALANCE.match(value)
    return _make(2000 + int(match[1]), int(match[2]), int(match[3])) if match else None


def _day(text: str | None) -> date | None:
    match = _DAY.match((text or "").strip())
    return _make(int(match[1]), int(match[2]), int(match[3])) if match else None


def _make(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
