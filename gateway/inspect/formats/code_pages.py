"""Code pages of Windows by number, as Outlook states them.

Promises: a codec for every number; what nobody knows is Windows-1252. Leaves out: what nobody states, which
is guessed (`gateway.names.decode_name`).
"""

from __future__ import annotations

import codecs
import contextlib
from typing import Final

_OTHERS: Final = {65001: "utf-8", 54936: "gb18030", 936: "gbk", 28591: "latin-1", 20936: "gbk"}
_UNKNOWN: Final = "cp1252"


def codec(page: int) -> str:
    """The codec's name of a code page."""
    for name in (f"cp{page}", _OTHERS.get(page, _UNKNOWN)):
        with contextlib.suppress(LookupError):
            return codecs.lookup(name).name
    return _UNKNOWN
