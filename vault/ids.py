"""Identifiers: 26 characters, time-ordered, unguessable, meaningless.

A ULID-shaped identifier: 48 bits of milliseconds since 1970 and 80 random bits, in Crockford's base 32.
It sorts by creation, so that an index on it stays compact, and carries nothing of what it names. It is
the name of a document's sealed file and part of its encryption context.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH: Final = 26
_PATTERN: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_RANDOM_BITS: Final = 80


def new_id(now: datetime) -> str:
    """A new identifier.

    Args:
        now: the operation's time, aware.
    """
    value = (int(now.timestamp() * 1000) << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    digits = []
    for _ in range(LENGTH):
        digits.append(ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))


def made_at(identifier: str) -> datetime:
    """When an identifier was made, to the millisecond (raises ValueError: it is none)."""
    if not is_id(identifier):
        raise ValueError(f"identifier: expected {LENGTH} characters of its alphabet, found others")
    milliseconds = 0
    for digit in identifier[: LENGTH - _RANDOM_BITS // 5]:
        milliseconds = milliseconds << 5 | ALPHABET.index(digit)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def is_id(text: str) -> bool:
    """Whether `text` has the form of an identifier."""
    return _PATTERN.fullmatch(text) is not None
