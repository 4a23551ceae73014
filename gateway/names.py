"""Names from outside: one rule for every name that came from a sender, an archive or a mail.

Promises: `safe_name` gives one harmless path segment that `gateway.core.tree.check_name` accepts, whatever it
is given, in time that grows with the name's length only.

Leaves out: names that a client types over SFTP (`check_name` refuses those with a sentence).

>>> safe_name("C:\\\\invoices\\\\March.pdf")
'March.pdf'
"""

from __future__ import annotations

import unicodedata
from typing import Final

NAME_LIMIT: Final = 255  # bytes in UTF-8: what file systems and SFTP clients take
_CONSIDERED: Final = 4096  # characters at each end that are looked at
_SUFFIX: Final = 16
# Cf holds the bidi overrides that make "fdp.exe" read as "exe.pdf".
_DROPPED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def safe_name(name: str, fallback: str = "unnamed") -> str:
    """One harmless path segment out of a name from outside.

    Args:
        name: any text, of any length.
        fallback: what stands for a name of which nothing is left.

    Returns:
        The last segment, NFC, without control, format, private or unassigned characters; at most `NAME_LIMIT`
        bytes in UTF-8, beginning and suffix kept. Never empty, "." or "..".
    """
    if len(name) > 2 * _CONSIDERED:
        name = name[:_CONSIDERED] + name[-_CONSIDERED:]
    segment = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    kept = "".join(
        character
        for character in unicodedata.normalize("NFC", segment)
        if unicodedata.category(character) not in _DROPPED
    ).strip()
    if len(kept.encode()) > NAME_LIMIT:
        stem, dot, suffix = kept.rpartition(".")
        tail = f"{dot}{suffix}" if dot and stem and len(suffix) < _SUFFIX else ""
        room = NAME_LIMIT - len(tail.encode())
        kept = kept[: len(kept) - len(tail)].encode()[:room].decode(errors="ignore").rstrip() + tail
    return kept if kept not in {"", ".", ".."} else fallback
