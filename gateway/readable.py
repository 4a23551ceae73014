"""Values as people read them: on a terminal, in a finding, in a list.

Promises: what an unknown sender chose (file names, subjects) can't steer a terminal: control and direction
characters are shown as escapes. Sizes are in decimal units, times to the minute and in UTC.
Leaves out: tables and colour (`gateway.cli.support.output`).

Usage:
    >>> moment("2026-11-28T02:30:00+00:00"), size(1_500_000), plain(None)
    ('2026-11-28 02:30Z', '1.5 MB', '-')
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from rich.filesize import decimal

FORMATTING: Final = "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
"""A range of characters that hide text or turn its direction around, for a regular expression."""
# C0, DEL and C1 steer terminals.
_CONTROL: Final = re.compile(f"[\x00-\x1f\x7f-\x9f{FORMATTING}\ud800-\udfff]")


def plain(value: object) -> str:
    """A value as text that is safe on a terminal; None and nothing are `-`."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case Mapping():
            return ", ".join(f"{plain(key)} {plain(item)}" for key, item in value.items()) or "-"
        case list() | tuple():
            return ", ".join(plain(item) for item in value) or "-"
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", str(value))


def size(value: object) -> str:
    """A number of bytes for people."""
    return decimal(value) if isinstance(value, int) else plain(value)


def moment(value: object) -> str:
    """An ISO 8601 time to the minute, in UTC."""
    try:
        when = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        return plain(value)
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%MZ}" if when.tzinfo else plain(value)
