"""The records of binary office files of 1997 to 2003: what they link to, call, and have embedded.

Promises: one pass over the records of a workbook or presentation and over the fields of a document, within a
budget that is said when it is spent. Leaves out: the compound file around them, VBA, encryption.

Rules: lengths are taken as they stand; a record that runs past the end is the last. Codes only.

Sources: [MS-XLS] 2.4.28 BoundSheet8, 2.4.140 HLink, 2.4.271 SupBook, 2.5.198.17 and 62 (calls of functions);
[MS-PPT] 2.3.1 record header and 2.10.34 ExOleObjStg; [MS-XLSB] 2.1.4 (records); [MS-DOC] 2.8.25 (field
characters).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from gateway.inspect.document import Examination
from gateway.inspect.formats import references

_MAX_RECORDS: Final = 500_000
_BIFF_BOUNDSHEET: Final = 0x85
_BIFF_SHEET_MACRO: Final = b"\x01"
_BIFF_SUPBOOK: Final = 0x01AE
_BIFF_SUPBOOK_INSIDE: Final = (b"\x01\x04", b"\x01\x3a", b"")  # this workbook, an add-in, cut off
_BIFF_FORMULAS: Final = frozenset({0x0006, 0x0206, 0x0406, 0x0221, 0x04BC, 0x0018})
# PtgFuncVar and PtgFunc with CALL, REGISTER.ID or RTD ([MS-XLS] 2.5.198.17, 2.5.198.62).
_BIFF_CALL: Final = re.compile(
    rb"(?:[\x22\x42\x62][\x01-\x1e]|[\x21\x41\x61])(?:\x96\x00|\x0b\x01|\x7b\x01)", re.DOTALL
)
_BIFF_HLINK: Final = 0x01B8
_BIFF_OUTSIDE: Final = re.compile(
    rb"(?:\\\x00){2}[^\x00]\x00|\\\\[A-Za-z0-9]|f\x00i\x00l\x00e\x00:\x00", re.IGNORECASE
)
XLSB_BEGIN: Final = b"\x81\x01\x00"  # BrtBeginSheet ([MS-XLSB] 2.4.42)
_XLSB_FORMULAS: Final = frozenset({8, 9, 10, 11, 426, 427, 39})  # cells, arrays, shared ones, names
_PPT_CONTAINER: Final = 0xF
_PPT_OLE_STORAGE: Final = 0x1011
_PPT_OLE_LINK: Final = 0x0FCE
# A field's code in a binary document, up to the next mark of a field; one or two bytes a character.
_FIELD: Final = re.compile(rb"\x13([^\x13-\x15]{3,1000})")
_WIDE_FIELD: Final = re.compile(rb"\x13\x00((?:(?![\x13-\x15]\x00)..){3,1000})", re.DOTALL)
# Newer functions are kept by name ([MS-XLSB] 2.2.2.2).
FUTURE_FUNCTION: Final = re.compile(
    b"(?:"
    + b"|".join(
        name.encode(coding)
        for name in ("_xlfn.WEBSERVICE", "_xlfn.FILTERXML", "_xlfn.IMAGE", "_xlfn._xlws.IMAGE")
        for coding in ("ascii", "utf-16-le")
    )
    + b")",
    re.IGNORECASE,
)


def check_workbook(data: bytes, result: Examination) -> None:
    """Excel 4 macro sheets, and what formulas and links of a workbook reach."""
    if FUTURE_FUNCTION.search(data):
        result.mark(references.FORMULA)
    for kind, payload in _biff_records(data):
        if kind == _BIFF_BOUNDSHEET and payload[5:6] == _BIFF_SHEET_MACRO:
            result.mark("office.excel4_macros")
        elif kind == _BIFF_SUPBOOK and payload[2:4] not in _BIFF_SUPBOOK_INSIDE:
            result.mark(references.LINK)  # another workbook, DDE or OLE
        elif kind in _BIFF_FORMULAS and _BIFF_CALL.search(payload):
            result.mark(references.FORMULA)
        elif kind == _BIFF_HLINK and _BIFF_OUTSIDE.search(payload):
            result.mark(references.LINK)


def _biff_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        kind, length = struct.unpack_from("<HH", data, offset)
        yield kind, data[offset + 4 : offset + 4 + length]
        offset += 4 + length


def check_binary_part(data: bytes, result: Examination) -> None:
    """A part of a binary workbook of 2007: what its formulas call."""
    if FUTURE_FUNCTION.search(data):
        result.mark(references.FORMULA)
    if data.startswith(XLSB_BEGIN):
        for kind, payload in xlsb_records(data):
            if kind in _XLSB_FORMULAS and _BIFF_CALL.search(payload):
                result.mark(references.FORMULA)


def xlsb_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The records of a part: a kind and a length in seven-bit bytes each, as far as they go."""
    at = 0
    while at < len(data):
        kind, at = _seven_bits(data, at, 2)
        length, at = _seven_bits(data, at, 4)
        yield kind, data[at : at + length]
        at += length


def _seven_bits(data: bytes, at: int, most: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + most]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    return value, at + most


def check_presentation(data: bytes, result: Examination) -> None:
    """Objects that a presentation holds or links to."""
    stack = [(0, len(data))]
    for _count in range(_MAX_RECORDS):
        if not stack:
            return
        offset, end = stack.pop()
        if offset + 8 > end:
            continue
        version, kind, length = struct.unpack_from("<HHI", data, offset)
        stack.append((offset + 8 + length, end))
        if version & 0xF == _PPT_CONTAINER:
            stack.append((offset + 8, min(offset + 8 + length, end)))
        if kind in {_PPT_OLE_STORAGE, _PPT_OLE_LINK}:
            result.mark("office.embedded_object")
    result.fail("office.too_many_records")


def check_word(data: bytes, result: Examination) -> None:
    """Fields stand in the text between marks."""
    for pattern, coding in ((_FIELD, "latin-1"), (_WIDE_FIELD, "utf-16-le")):
        for found in pattern.finditer(data):
            for code in references.field_codes(found[1].decode(coding, "replace")):
                result.mark(code)
