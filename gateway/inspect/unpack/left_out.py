"""What programs write into mail for programs, no document: invitations, visiting cards, resource forks.

Promises: the content decides, not the type alone: what is something else, carries a file of its own or is
larger than such a thing ever is stays a part. Pure.

Leaves out: pictures and signatures (`mail` knows where they stand), and what a part's name may be.

Sources: RFC 5545 and 5546 (iCalendar, iTIP), RFC 6350 (vCard), RFC 1740 (AppleDouble).
"""

from __future__ import annotations

import re
from typing import Final

from gateway.inspect.document import KIB

CALENDARS: Final = frozenset({"text/calendar", "application/ics"})
"""Types of a calendar entry; its file's own suffix is one that runs, because opening it imports it."""
CALENDAR_SUFFIX: Final = re.compile(r"\.(?:ics|vcs)\Z", re.IGNORECASE)

_CARDS: Final = frozenset({"text/vcard", "text/x-vcard", "text/directory"})
_FORK: Final = "application/applefile"
KINDS: Final = CALENDARS | _CARDS | {_FORK}
"""The types that `rule_of` says anything of."""
_LARGEST: Final = 256 * KIB  # bytes of a calendar entry or a card, a portrait included
_EDGE: Final = 20  # bytes at either end that hold the first and the last line's words
_FOLD: Final = re.compile(rb"\r?\n[ \t]")
# A calendar entry that asks or answers (RFC 5546), and one with files of its own (RFC 5545, section 3.8.1.1).
_METHOD: Final = re.compile(rb"^METHOD:[A-Z-]{1,20}\r?$", re.MULTILINE | re.IGNORECASE)
_CARRIES: Final = re.compile(rb"^(?:ATTACH|IMAGE)[;:]", re.MULTILINE | re.IGNORECASE)
# AppleDouble's header: magic, version, filler, the number of entries; of each its kind, place and length.
_MAGIC: Final = b"\0\5\x16\7"
_HEADER: Final = 4 + 4 + 16 + 2
_ENTRY: Final = 12
_DATA_FORK: Final = 1


def rule_of(kind: str, content: bytes) -> str:
    """The rule by which a part of this type with this content is no document; "" if none says so."""
    if kind == _FORK:
        return "resource-fork" if _is_fork(content) else ""
    if kind not in CALENDARS | _CARDS or len(content) > _LARGEST or b"\0" in content:
        return ""
    text = _FOLD.sub(b"", content.strip())
    begins, ends = text[:_EDGE].upper(), text[-_EDGE:].upper()
    if kind in _CARDS:
        card = begins.startswith(b"BEGIN:VCARD") and ends.endswith(b"END:VCARD")
        return "visiting-card" if card else ""
    invitation = (
        begins.startswith(b"BEGIN:VCALENDAR")
        and ends.endswith(b"END:VCALENDAR")
        and _METHOD.search(text)
        and not _CARRIES.search(text)
    )
    return "invitation" if invitation else ""


def _is_fork(content: bytes) -> bool:
    """Whether this belongs to a file that was sent beside it, and does not hold the file's own bytes."""
    if not content.startswith(_MAGIC) or len(content) < _HEADER:
        return False
    count = int.from_bytes(content[_HEADER - 2 : _HEADER])
    table = content[_HEADER : _HEADER + _ENTRY * count]
    kinds = [int.from_bytes(table[at : at + 4]) for at in range(0, len(table), _ENTRY)]
    return len(table) == _ENTRY * count and _DATA_FORK not in kinds
