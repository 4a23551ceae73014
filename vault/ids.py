"""Identifiers: 26 characters, time-ordered, unguessable, meaningless.

Promises: an identifier has the form of a ULID: 48 bits of milliseconds since 1970 and 80 random bits, in
Crockford's base 32. It sorts by creation, so that an index on it stays compact, and carries nothing of what
it names. It is the name of a document's sealed file and part of its encryption context.

Rules: within a millisecond, too, a later identifier is the greater one (the ULID specification's
monotonicity), because of two documents of one name the newer is the one with the greater identifier. One
process makes them: the core. A clock that is set back makes smaller ones.
"""

from __future__ import annotations

import re
import secrets
import threading
from datetime import UTC, datetime
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH: Final = 26
_PATTERN: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_RANDOM_BITS: Final = 80
_STEP_BITS: Final = 56  # what the next one of a millisecond may be ahead: still nobody's guess


class _Sequence:
    """The identifiers of one process, the greatest so far remembered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest = 0

    def next(self, milliseconds: int) -> int:
        with self._lock:
            if milliseconds == self._newest >> _RANDOM_BITS:
                self._newest += 1 + secrets.randbits(_STEP_BITS)
            else:
                self._newest = (milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
            return self._newest


_sequence: Final = _Sequence()


def new_id(now: datetime) -> str:
    """A new identifier.

    Args:
        now: the operation's time, aware.
    """
    return _text(_sequence.next(int(now.timestamp() * 1000)))


def oldest_at(moment: datetime) -> str:
    """The least identifier that could be made at `moment`: a bound for what came since."""
    return _text(max(0, int(moment.timestamp() * 1000)) << _RANDOM_BITS)


def _text(value: int) -> str:
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
