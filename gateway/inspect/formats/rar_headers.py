"""What the headers of a RAR say of it as a whole: that it is one of several volumes, or has encrypted files.

Promises: a walk over headers, bounded in number, that reads no data. libarchive reads a first volume as if it
were all, knows no sign of encryption in RAR 5, and ends its process over some damaged headers: what is
damaged by its own checksums is not handed on. Leaves out: everything else (`archive_stream`).

Source: RAR 5.0 archive format (rarlab.com/technote.htm); technote.txt of RAR 4 for its main header.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from gateway.inspect.document import Document, read_exactly

_RAR4: Final = b"Rar!\x1a\x07\x00"
_RAR5: Final = b"Rar!\x1a\x07\x01\x00"
_MAX_HEADERS: Final = 50_000
_MAX_HEADER: Final = 2 << 20  # a header's size has three bytes of a variable length at most
_MAIN: Final = 1
_FILE: Final = 2
_ENCRYPTION: Final = 4
_END: Final = 5
_HAS_EXTRA: Final = 1
_HAS_DATA: Final = 2
_VOLUME: Final = 1
_RECORD_ENCRYPTION: Final = 1


@dataclass(slots=True)
class RarHeaders:
    """`volume`: it is one of several files. `encrypted`: files, or names, need a password. `damaged`: a
    checksum or a length is not right, so that nothing else should read it."""

    volume: bool = False
    encrypted: bool = False
    damaged: bool = False


def look(document: Document) -> RarHeaders:
    """Walk over the headers, to where they end or are damaged."""
    found = RarHeaders()
    head = document.head(64)
    if head.startswith(_RAR4):
        if len(head) >= 14:
            (flags,) = struct.unpack_from("<H", head, 10)
            found.volume, found.encrypted = bool(flags & 0x0001), bool(flags & 0x0080)
    elif head.startswith(_RAR5):
        at = len(_RAR5)
        for _count in range(_MAX_HEADERS):
            following = _header(document, at, found)
            if following is None:
                break
            at = following
    return found


def _header(document: Document, at: int, found: RarHeaders) -> int | None:
    """Read the header at a place; where the next one is, None at the end."""
    document.source.seek(at)
    head = read_exactly(document.source, 16)
    try:
        size, begin = _number(head, 4)
        document.source.seek(at + begin)
        body = read_exactly(document.source, min(size, _MAX_HEADER))
        if not size or len(body) < size or zlib.crc32(head[4:begin] + body) != _crc(head):
            found.damaged = True
            return None
        kind, position = _number(body, 0)
        flags, position = _number(body, position)
        extra = data = 0
        if flags & _HAS_EXTRA:
            extra, position = _number(body, position)
        if flags & _HAS_DATA:
            data, position = _number(body, position)
        if kind == _MAIN:
            archive_flags, _ = _number(body, position)
            found.volume = bool(archive_flags & _VOLUME)
        elif kind == _ENCRYPTION:
            found.encrypted = True
            return None  # what follows is encrypted, too
        elif kind == _FILE and _has_record(body[len(body) - extra :], _RECORD_ENCRYPTION):
            found.encrypted = True
        elif kind == _END:
            return None
    except IndexError:
        found.damaged = True
        return None
    following = at + begin + size + data
    return following if following < document.size else None


def _crc(head: bytes) -> int:
    value: int = struct.unpack_from("<I", head)[0]
    return value


def _has_record(extra: bytes, wanted: int) -> bool:
    position = 0
    while position < len(extra):
        size, begin = _number(extra, position)
        kind, _ = _number(extra, begin)
        if kind == wanted:
            return True
        position = begin + max(1, size)
    return False


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends (raises IndexError)."""
    value = 0
    for index in range(10):
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, at + index + 1
    raise IndexError
