"""The header of a message, looked at while the message streams past: its Message-ID, and what it says.

Promises: memory is bounded (`MOST` bytes of header are held until it ends, then none). A message's content is
its SHA-256 without the fields that hops add (`TRACE`): two copies that took different ways have the same one,
and two messages that differ in anything else have not. What is stored stays as it came.

Leaves out: meaning; whether two messages are one is the core's to say (`gateway.core.intake.resends`).

Rules:
1. The header ends at the first empty line (RFC 5322, section 2.1). One without an end within `MOST` bytes, or
   with a line that is no field, is not read at all: all its bytes are content, and there is no Message-ID.
2. A field goes on in lines that begin with a space or a tab (section 2.2.3), and is left out with them.
3. Of several Message-IDs none is believed: only one may be there (section 3.6).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from gateway.doors.line_ends import has_bare_line_end
from gateway.wire.messages import MESSAGE_ID

MOST: Final = 256 * 1024
TRACE: Final = frozenset(
    {
        b"received",
        b"return-path",
        b"received-spf",
        b"authentication-results",
        b"arc-seal",
        b"arc-message-signature",
        b"arc-authentication-results",
        b"dkim-signature",
        b"delivered-to",
        b"x-original-to",
        b"x-received",
    }
)
"""Fields that are added on the way (RFC 5321, section 4.4; RFC 6376, 7208, 8601, 8617), in lower case."""

_END: Final = b"\r\n\r\n"
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")  # section 3.6.8; a space before the colon: 4.5
_MESSAGE_ID: Final = b"message-id"


class Header:
    """Takes a message in pieces of any size, from its first byte to its last."""

    def __init__(self) -> None:
        self.message_id = ""
        self._held = bytearray(
            b"\r\n"
        )  # as if a line had ended: an empty first line ends the header
        self._reading = True
        self._content = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the message."""
        if not self._reading:
            self._content.update(data)
            return
        searched = max(0, len(self._held) - len(_END) + 1)
        self._held += data
        end = self._held.find(_END, searched)
        if 0 <= end <= MOST:
            self._read(end + 2)
        elif len(self._held) > MOST:
            self._leave_unread()

    def content(self) -> bytes:
        """SHA-256 of what the message says, once all of it was taken."""
        if self._reading:
            # There is a header only: it ends where the message does.
            self._read(len(self._held))
        return self._content.digest()

    def _read(self, end: int) -> None:
        """Read the header, which ends at `end` of what is held; the rest is body."""
        fields = _fields(bytes(self._held[2:end]))
        if fields is None:
            self._leave_unread()
            return
        found = [value for name, value in fields if name == _MESSAGE_ID]
        if len(found) == 1:
            # The value with its colon: unfolded, as far as an id goes.
            text = b"".join(found[0].partition(b":")[2].split())
            self.message_id = text.decode("utf-8", "replace")[:MESSAGE_ID]
        for name, field in fields:
            if name not in TRACE:
                self._content.update(field)
        self._content.update(memoryview(self._held)[end:].tobytes())
        self._end()

    def _leave_unread(self) -> None:
        self._content.update(bytes(self._held[2:]))
        self._end()

    def _end(self) -> None:
        self._reading = False
        self._held = bytearray()


def _fields(header: bytes) -> list[tuple[bytes, bytes]] | None:
    """The fields of a header as (name in lower case, its lines); None: it has a line that is none.

    A bare CR or LF could hide a field in another one's line, so that it went with it.
    """
    if has_bare_line_end(header) or (header and not header.endswith(b"\r\n")):
        return None
    fields: list[tuple[bytes, bytearray]] = []
    for line in header.split(b"\r\n"):
        if line[:1] in {b" ", b"\t"} and fields:
            fields[-1][1].extend(line + b"\r\n")
            continue
        if not line:
            continue  # what follows the last line end
        match = _FIELD.match(line)
        if match is None:
            return None
        fields.append((match[1].lower(), bytearray(line + b"\r\n")))
    return [(name, bytes(lines)) for name, lines in fields]
