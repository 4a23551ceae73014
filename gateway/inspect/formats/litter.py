"""What operating systems and office programs leave beside documents: folder views, forks, lock files.

Promises: nobody is asked about them. Name and content both have to be those of such a file: what hides under
the name of one is inspected like anything else. Scanners see them as they see everything.

Leaves out: what becomes of them. In an archive they are left where they are and named in its facts; sent by
themselves they are system files, a class with a short time.

Sources: Apple's AppleSingle and AppleDouble formats (magic 0x00051607; RFC 1740); [MS-CFB] for Thumbs.db.
Owner files of Office hold a user's name, its length first; lock files of LibreOffice a line of commas.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final

RECORD_CLASS: Final = "system-file"
MOST: Final = 4 * 1024 * 1024
"""Bytes of the largest such file."""


def _thumbnails(data: bytes) -> bool:
    """A compound file that holds pictures and their list, and nothing else."""
    import olefile

    if not data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return False
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as opened:
            streams = ["/".join(path) for path in opened.listdir()]
    except Exception:  # noqa: BLE001  the parser raises anything on what is damaged
        return False
    return all(re.fullmatch(r"Catalog|\d{1,5}|\d{1,4}_[0-9a-f]{1,16}", name) for name in streams)


def _folder_settings(data: bytes) -> bool:
    text = data.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe").lstrip()
    # A path to another computer is followed when the folder is looked at.
    return text.startswith((b"[.ShellClassInfo]", b"[ViewState]")) and b"\\\\" not in text


def _owner(data: bytes) -> bool:
    return len(data) in {54, 55, 162, 165} and 0 < data[0] < 55


def _lock_line(data: bytes) -> bool:
    return data.count(b",") >= 3 and data.rstrip().endswith(b";") and data.isascii()


_KINDS: Final[tuple[tuple[re.Pattern[str], int, Callable[[bytes], bool]], ...]] = (
    (re.compile(r"\.DS_Store"), MOST, lambda data: data.startswith(b"\0\0\0\1Bud1")),
    (re.compile(r"\._.+"), MOST, lambda data: data.startswith(b"\0\5\x16\7")),
    (re.compile(r"(?:ehthumbs(?:_vista)?|thumbs)\.db", re.IGNORECASE), MOST, _thumbnails),
    (re.compile(r"desktop\.ini", re.IGNORECASE), 8192, _folder_settings),
    (re.compile(r"~\$.+"), 165, _owner),
    (re.compile(r"\.~lock\..+#"), 1024, _lock_line),
    (re.compile(r".+\.(?:lck|lock)", re.IGNORECASE), 0, lambda data: not data),
)


def most(name: str) -> int:
    """Bytes that a file of this name may have and still be litter; -1: no such name."""
    return max((size for pattern, size, _ in _KINDS if pattern.fullmatch(name)), default=-1)


def is_litter(name: str, data: bytes) -> bool:
    """Whether a file is one of these by its name and its whole content."""
    return any(
        pattern.fullmatch(name) and len(data) <= size and looks(data)
        for pattern, size, looks in _KINDS
    )
