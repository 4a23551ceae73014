"""Numbers of people in a text: resident identities, passports, bank cards. Pure; gives counts, never numbers.

Promises: a number counts by its own check digit, or by the label above it; time linear in the text. Leaves
out: what follows from it (`classify`).

Sources: GB 11643-1999 (resident identity number, check by ISO 7064 MOD 11-2); ISO/IEC 7812-1 annex B (Luhn);
ICAO 9303 part 4 (machine-readable zone of a passport).
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

_RESIDENT: Final = re.compile(
    r"(?<![0-9A-Za-z])[1-8]\d{5}[ -]?(?:19|20)\d{6}[ -]?\d{3}[0-9Xx](?![0-9A-Za-z])"
)
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS: Final = "10X98765432"
# 14 to 19 digits, alone or in groups of four.
_CARD: Final = re.compile(
    r"(?<![\w.-])[3-6](?:\d{13,18}|\d{3}(?:[ -]\d{4}){2,3}(?:[ -]\d{1,3})?)(?![\w-]|\.\d)"
)
_CARDS_SHARE: Final = 0.6  # of what looks like a card: one number in ten passes the check by chance
_ZONE: Final = re.compile(r"(?<![A-Z0-9<])P[A-Z<][A-Z]{3}[A-Z<]{30,39}(?![A-Z0-9<])")
_LABEL: Final = re.compile(
    r"身份证|证件号|通行证号|(?:identity|id) card|national id|ausweis-?n"
    r"|(?P<passport>护照|passport\b|passeport)",
    re.IGNORECASE,
)
_LABELLED: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Z](?=[A-Z0-9]{6,9}(?![A-Za-z0-9]))[A-Z]{0,2}[0-9][A-Z0-9]{5,8}"
)
_DIGITS: Final = re.compile(r"(?<![\w.,-])[0-9]{9}(?![\w.,-])")  # passports of some states
_APART: Final = 6  # lines between a label or number and the next: a cell each, in some documents


def identities(text: str) -> int:
    """How many different people's identity numbers or passports stand in a text."""
    numbers = {re.sub(r"[ -]", "", match[0]).upper() for match in _RESIDENT.finditer(text)}
    found = {number for number in numbers if _is_resident(number)}
    found.update(match[0] for match in _ZONE.finditer(text))
    left, passports = 0, False
    for line in text.split("\n"):
        label = _LABEL.search(line)
        if label:
            left, passports = _APART + 1, bool(label["passport"])
        if left <= 0:
            continue
        left -= 1
        listed = _LABELLED.findall(line) + (_DIGITS.findall(line) if passports else [])
        if listed:
            left = _APART
            found.update(listed)
    return len(found)


def cards(text: str) -> int:
    """How many different bank cards stand in a text; 0 where most of such numbers are something else."""
    seen = {re.sub(r"[ -]", "", match[0]) for match in _CARD.finditer(text)}
    seen = {number for number in seen if not _is_resident(number)}
    valid = sum(_luhn(number) for number in seen)
    return valid if valid >= _CARDS_SHARE * len(seen) else 0


def _is_resident(number: str) -> bool:
    if len(number) != 18 or not number[:17].isdecimal():
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number[:17], _WEIGHTS, strict=True))
    if _CHECKS[total % 11] != number[17].upper():
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return 1900 <= born.year <= 2100


def _luhn(number: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
