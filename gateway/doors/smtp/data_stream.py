"""The DATA stream of RFC 5321, read in arbitrary pieces: where a message ends.

Promises: only `CR LF . CR LF` ends a message (section 4.1.1.4), and what comes out is what the sender
had before dot-stuffing (section 4.5.2), byte for byte, however the network cut it. Memory does not depend
on the message: at most four bytes wait between two calls.

Leaves out: I/O, sizes, sealing.

Rules:
1. A bare CR or LF never ends a line for us, and is kept as it is. RFC 5321, section 2.3.8, forbids senders
   to write them; scanners and scripts do so all the same, and nothing is passed on here that another server
   could read in another way.
2. SMTP smuggling is made of a dot that stands alone between line ends of which one is not CR LF: servers
   disagree on whether the message ends there (CVE-2023-51764 of Postfix, 51765 of Sendmail, 51766 of Exim,
   CVE-2024-27305 of aiosmtpd). Here it never does; and as no honest mailer sends it, `lookalike` says that it
   was there, so that the door can refuse such a message.
"""

from __future__ import annotations

from typing import Final

END: Final = b"\r\n.\r\n"
_STUFFED: Final = b"\r\n."
_LOOKALIKES: Final = (b"\n.\n", b"\n.\r", b"\r.\r", b"\r.\n")
# Longest first: what may be the beginning of END has to wait for the bytes after it.
_BEGINNINGS: Final = tuple(END[:length] for length in range(len(END) - 1, 0, -1))
_FEW: Final = (
    64  # dots that are looked at one by one: a mail with an attachment has them in its head only
)
_ASSUMED: Final = b"\r\n"  # the line end of the DATA command: a first line may be the dot


class DataStream:
    """Takes the bytes after the reply 354, gives back the message and what follows it."""

    def __init__(self) -> None:
        self._held = _ASSUMED
        self._skip = len(_ASSUMED)
        self._context = b""  # the last two raw bytes given out, for look-alikes across a cut
        self._ended = False
        self.lookalike = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take the next bytes of the connection, in pieces of any size.

        Returns:
            The next bytes of the message, and None while it goes on; at its end the bytes that
            follow it on the connection (the next commands of a client that pipelines).

        Raises:
            RuntimeError: called again after the end.
        """
        if self._ended:
            raise RuntimeError("message: there are bytes after its end")
        data = self._held + data
        end = data.find(END)
        if end >= 0:
            # The line end before the dot belongs to the message's last line.
            body, rest = data[: end + 2], data[end + len(END) :]
            self._ended = True
        else:
            held = next((start for start in _BEGINNINGS if data.endswith(start)), b"")
            body, rest = data[: len(data) - len(held)], None
            self._held = held
        return self._unstuff(body), rest

    def _unstuff(self, body: bytes) -> bytes:
        """Take the sender's extra dots away. No pattern spans two bodies: what is held starts with CR."""
        # Attachments in base64 have no dot: a glance spares them the searches.
        if b"." in body or b"." in self._context:
            seen = self._context + body
            self.lookalike = self.lookalike or _has_lookalike(seen)
            text = body.replace(_STUFFED, _ASSUMED)
        else:
            text = body
        if body:
            self._context = (self._context + body[-2:])[-2:]
        if self._skip:
            skipped = min(self._skip, len(text))
            self._skip -= skipped
            text = text[skipped:]
        return text


def _has_lookalike(seen: bytes) -> bool:
    """Whether a dot stands alone between line ends of which one is not CR LF.

    Four searches through 200 kB take longer than sealing them, so that few dots are looked at where they are.
    """
    if seen.count(b".") > _FEW:
        return any(pattern in seen for pattern in _LOOKALIKES)
    at = seen.find(b".")
    while at >= 0:
        if seen[max(0, at - 1) : at + 2] in _LOOKALIKES:
            return True
        at = seen.find(b".", at + 1)
    return False
