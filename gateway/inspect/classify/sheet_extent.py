"""How large the sheets of a workbook are, before a library lays them out as tables.

Promises: the rectangle from the first to the last cell that holds something is known for every sheet, by one
pass over the cells' positions and nothing else. Leaves out: what the cells say.

Rules: repeats count (ODF says "a million times this row" in a few bytes). A sheet that can't be followed
counts as too large: nothing of it is read for clues, and its active content is examined elsewhere.

Sources: ECMA-376 part 1, 18.3.1.4 (cells); [MS-XLSB] 2.1.4 (records) and 2.4.155 BrtRowHdr; [MS-XLS] 2.5.13
(cell); ODF 1.3 part 3, 9.1 (repeated rows and columns).
"""

from __future__ import annotations

import itertools
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.inspect.document import MIB, Document, Limits, Unreadable
from gateway.inspect.formats import office_records
from gateway.inspect.scan import xml

if TYPE_CHECKING:
    from lxml.etree import _Element

    from gateway.inspect.formats.zip_layout import Archive

MOST_CELLS: Final = 4_000_000  # of a table; about 32 bytes each, twice, in the library
_MAX_STREAM: Final = 128 * MIB
_CELL_NAME: Final = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_XLSB_ROW: Final = 0
_XLSB_CELLS: Final = frozenset(range(1, 12))
_XLS_CELLS: Final = frozenset(
    {0x0201, 0x0203, 0x0204, 0x0205, 0x0006, 0x0206, 0x0406, 0x027E, 0x00FD, 0x00D6}
)
_XLS_ROWS_OF_CELLS: Final = frozenset({0x00BD, 0x00BE})  # first and last column
_XLS_BEGIN: Final = 0x0809


@dataclass(slots=True)
class _Rectangle:
    """From the first to the last cell."""

    top: int = 1 << 31
    left: int = 1 << 31
    bottom: int = -1
    right: int = -1

    def take(self, row: int, first: int, last: int) -> None:
        self.top, self.bottom = min(self.top, row), max(self.bottom, row)
        self.left, self.right = min(self.left, first), max(self.right, last)

    def modest(self) -> bool:
        rows, columns = self.bottom - self.top + 1, self.right - self.left + 1
        return self.bottom < 0 or rows * columns <= MOST_CELLS


def is_modest(document: Document, limits: Limits, opened: Archive | None) -> bool:
    """Whether every sheet can be laid out as a table of reasonable size."""
    if opened is None:
        return all(sheet.modest() for sheet in _compound(document, limits))
    return all(_is_modest_part(opened, member) for member in opened.members)


def _is_modest_part(opened: Archive, member: zipfile.ZipInfo) -> bool:
    """Whether a part is no sheet, or a modest one: relationships may make any part one."""
    name = member.filename.lower()
    if name.endswith((".rels", ".vml")):
        return True
    chunks = opened.chunks(member)
    try:
        first = next(chunks, b"")
        chunks = itertools.chain([first], chunks)
        if name == "content.xml":
            return _open_document(xml.stream(chunks, *_ODF))
        if xml.looks_like_xml(first):
            return _sheet(xml.stream(chunks, *_OOXML)).modest()
        if first.startswith(office_records.XLSB_BEGIN):
            return member.file_size <= _MAX_STREAM and _binary(b"".join(chunks)).modest()
        return True
    except (Unreadable, struct.error):
        return False


_OOXML: Final = (("c",), "row")
_ODF: Final = ((), "table-row")


def _sheet(items: Iterable[_Element]) -> _Rectangle:
    found = _Rectangle()
    row, column = 0, -1
    for item in items:
        if str(item.tag).endswith("}row"):
            row, column = row + 1, -1
            continue
        place = _CELL_NAME.fullmatch(item.get("r") or "")
        if place:
            row, column = int(place[2]) - 1, _column(place[1])
        else:
            column += 1
        if len(item):
            found.take(row, column, column)
    return found


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _open_document(rows: Iterable[_Element]) -> bool:
    """All sheets of one file together: rows and columns up to the last that holds something."""
    count = height = width = 0
    for row in rows:
        count += _repeats(row, "number-rows-repeated")
        columns = 0
        for cell in row:
            columns += _repeats(cell, "number-columns-repeated")
            if len(cell) or any(str(key).endswith("}value-type") for key in cell.attrib):
                height, width = count, max(width, columns)
    return height * width <= MOST_CELLS


def _repeats(item: _Element, name: str) -> int:
    for key, value in item.attrib.items():
        if str(key).endswith("}" + name):
            text = str(value).strip()
            return int(text) if text.isdecimal() and len(text) < 10 else 1
    return 1


def _binary(data: bytes) -> _Rectangle:
    """A sheet of a binary workbook."""
    found = _Rectangle()
    row = 0
    for kind, payload in office_records.xlsb_records(data):
        if kind == _XLSB_ROW and len(payload) >= 4:
            (row,) = struct.unpack_from("<I", payload)
        elif kind in _XLSB_CELLS and len(payload) >= 4:
            (column,) = struct.unpack_from("<I", payload)
            found.take(row, column, column)
    return found


def _compound(document: Document, limits: Limits) -> Iterator[_Rectangle]:
    """The sheets of a binary workbook of 1997: each begins with a record of its own."""
    import io

    import olefile

    with olefile.OleFileIO(io.BytesIO(document.whole(limits))) as ole:
        for name in ("Workbook", "Book"):
            if not ole.exists(name):
                continue
            data: bytes = ole.openstream(name).read()
            found = _Rectangle()
            at = 0
            while at + 4 <= len(data):
                kind, length = struct.unpack_from("<HH", data, at)
                at += 4
                if kind == _XLS_BEGIN:
                    yield found
                    found = _Rectangle()
                elif length >= 4 and (kind in _XLS_CELLS or kind in _XLS_ROWS_OF_CELLS):
                    row, column = struct.unpack_from("<HH", data, at)
                    last = column
                    if kind in _XLS_ROWS_OF_CELLS and length >= 6:
                        (last,) = struct.unpack_from("<H", data, at + length - 2)
                    found.take(row, column, last)
                at += length
            yield found
