"""Writes a compound file: what an attached Outlook message needs to be a document of its own.

Promises: streams and storages as given, in the form that version 4 of the format prescribes; memory in
proportion to what is written. Leaves out: version 3, and files beyond the 109 sectors of allocation table
that the header names, which hold 440 MB.

Source: [MS-CFB] 2.1 (sectors), 2.2 (header), 2.4 (mini stream), 2.6 (directory).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_SECTOR: Final = 4096
_MINI: Final = 64
_CUTOFF: Final = 4096
_NUMBERS: Final = _SECTOR // 4
_FREE: Final = 0xFFFFFFFF
_END: Final = 0xFFFFFFFE
_TABLE: Final = 0xFFFFFFFD
_NONE: Final = 0xFFFFFFFF
_IN_HEADER: Final = 109
_STORAGE: Final = 1
_STREAM: Final = 2
_ROOT: Final = 5
_BLACK: Final = 1
_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_NAME_UNITS: Final = 31  # UTF-16 units of a name, its end left out


@dataclass(slots=True)
class Storage:
    """A folder. `streams` and `storages` by name; a name is in one of them only."""

    streams: dict[str, bytes] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    clsid: bytes = bytes(16)


@dataclass(slots=True)
class _Entry:
    name: str
    kind: int
    clsid: bytes = bytes(16)
    left: int = _NONE
    right: int = _NONE
    child: int = _NONE
    start: int = _END
    size: int = 0
    data: bytes = b""

    def pack(self) -> bytes:
        name = self.name.encode("utf-16-le", "surrogatepass")[: 2 * _NAME_UNITS]
        return struct.pack(
            "<64sHBBIII16sIQQIQ",
            name,
            len(name) + 2,
            self.kind,
            _BLACK,
            self.left,
            self.right,
            self.child,
            self.clsid,
            0,
            0,
            0,
            self.start,
            self.size,
        )


def write(root: Storage) -> bytes:
    """The bytes of a compound file (raises ValueError where it would be too large)."""
    entries = [_Entry("Root Entry", _ROOT, root.clsid)]
    _add(root, entries, 0)
    sectors: list[bytes] = []
    table: list[int] = []
    mini = bytearray()
    mini_table: list[int] = []
    for entry in entries[1:]:
        if entry.kind != _STREAM or not entry.data:
            continue
        if len(entry.data) < _CUTOFF:
            entry.start = len(mini_table)
            count = -(-len(entry.data) // _MINI)
            mini_table += _chain(entry.start, count)
            mini += entry.data.ljust(count * _MINI, b"\0")
        else:
            entry.start = _append(entry.data, sectors, table)
    entries[0].size = len(mini)
    if mini:
        entries[0].start = _append(bytes(mini), sectors, table)
    first_mini = _END
    if mini_table:
        numbers = struct.pack(f"<{len(mini_table)}I", *mini_table)
        first_mini = _append(numbers, sectors, table, b"\xff")
    directory = b"".join(entry.pack() for entry in entries)
    blank = _Entry("", 0).pack()
    directory += blank * (-len(directory) % _SECTOR // len(blank))
    first_directory = _append(directory, sectors, table)
    # The allocation table names its own sectors as well.
    own = 1
    while len(table) + own > own * _NUMBERS:
        own += 1
    if own > _IN_HEADER:
        raise ValueError("compound file: expected less than 440 MB, found more")
    places = range(len(table), len(table) + own)
    table += [_TABLE] * own
    table += [_FREE] * (own * _NUMBERS - len(table))
    allocation = struct.pack(f"<{len(table)}I", *table)
    header = _MAGIC + struct.pack(
        "<16xHHHHH6xIIIIIIIII",
        0x003E,
        4,
        0xFFFE,
        12,  # sectors of 2**12 bytes
        6,  # mini sectors of 2**6
        len(directory) // _SECTOR,
        own,
        first_directory,
        0,
        _CUTOFF,
        first_mini,
        -(-4 * len(mini_table) // _SECTOR),
        _END,
        0,
    )
    named = [*places, *[_FREE] * (_IN_HEADER - own)]
    header += struct.pack(f"<{_IN_HEADER}I", *named)
    return b"".join([header.ljust(_SECTOR, b"\0"), *sectors, allocation])


def _add(storage: Storage, entries: list[_Entry], parent: int) -> None:
    """Add a storage's members behind the others, as a balanced tree in the order of the format."""
    found: list[tuple[tuple[int, str], int]] = []
    for name, data in storage.streams.items():
        found.append((_key(name), len(entries)))
        entries.append(_Entry(name, _STREAM, size=len(data), data=data))
    inner: list[tuple[Storage, int]] = []
    for name, each in storage.storages.items():
        found.append((_key(name), len(entries)))
        inner.append((each, len(entries)))
        entries.append(_Entry(name, _STORAGE, each.clsid))
    entries[parent].child = _tree([index for _, index in sorted(found)], entries)
    for each, index in inner:
        _add(each, entries, index)


def _key(name: str) -> tuple[int, str]:
    return len(name.encode("utf-16-le", "surrogatepass")), name.upper()


def _tree(order: list[int], entries: list[_Entry]) -> int:
    if not order:
        return _NONE
    middle = len(order) // 2
    entry = entries[order[middle]]
    entry.left = _tree(order[:middle], entries)
    entry.right = _tree(order[middle + 1 :], entries)
    return order[middle]


def _chain(start: int, count: int) -> Iterator[int]:
    yield from range(start + 1, start + count)
    yield _END


def _append(data: bytes, sectors: list[bytes], table: list[int], filling: bytes = b"\0") -> int:
    """Put data into sectors of its own; the first of them."""
    start = len(table)
    count = -(-len(data) // _SECTOR)
    sectors.append(data.ljust(count * _SECTOR, filling))
    table += _chain(start, count)
    return start
