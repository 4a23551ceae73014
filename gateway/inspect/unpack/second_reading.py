"""A second parser's opinion of a message: what another program would take out of it.

Promises: if another MIME parser (mailparse, in Rust) finds a file that we did not find, or does not find one
that we did, the message is ambiguous: whoever reads it may get something that nobody here has scanned (the
class of CVE-2024-28054). Leaves out: names, and the parts themselves.

Rules: files are compared by their bytes. Not compared are texts (whether one is the message's own or
attached, and its charset, is a matter of taste); attached messages are compared by number, because readers
differ in the line ends they give them. What makes the other parser give up is ambiguous, too.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Final

from gateway.inspect.parts import Unpacked

CODE: Final = "mail.second_reading"
_ATTACHED: Final = "message/rfc822"


def is_compared(media_type: str) -> bool:
    """Whether a part of this type is compared by its bytes."""
    return not media_type.startswith(("text", "message/", "multipart/"))


def digest(content: bytes) -> bytes:
    """What files are compared by: line ends at the very end belong to the boundary, or not."""
    return hashlib.sha256(content.rstrip(b"\r\n")).digest()


def compare(raw: bytes, ours: Iterable[tuple[str, bytes]], unpacked: Unpacked) -> None:
    """Note where another parser reads a message differently.

    Args:
        ours: (media type, digest) of every leaf that we found.
    """
    import fast_mail_parser

    try:
        found = fast_mail_parser.parse_email(raw).attachments
        theirs = [(each.mimetype.lower(), digest(each.content)) for each in found]
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # noqa: BLE001  a panic in Rust is no Exception
        unpacked.trouble("ambiguous", f"{CODE}_failed")
        return
    mine = list(ours)
    files = Counter(each for kind, each in mine if is_compared(kind))
    others = Counter(each for kind, each in theirs if is_compared(kind))
    # One that the other calls by another type is one that both have found.
    known, seen = Counter(each for _, each in mine), {each for _, each in theirs}
    if others - known or any(each not in seen for each in files):
        unpacked.trouble("ambiguous", CODE)
    messages = sum(kind == _ATTACHED for kind, _ in mine)
    if sum(kind == _ATTACHED for kind, _ in theirs) > messages:
        unpacked.trouble("ambiguous", CODE)
