"""How large the streams of a PDF become, counted before anything decodes them.

Promises: the sum is known, or known to be too large, in memory that does not depend on it: each filter is fed
in bounded steps and its output thrown away. Leaves out: pictures, which nothing here decodes.

Rules: what an honest file never does (one compressing filter behind another that is not counted exactly)
counts as too large. Damaged data counts as far as it goes: other readers can't decode the rest either.

Sources: ISO 32000-1 section 7.4 (filters).
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from gateway.inspect.document import KIB, MIB

if TYPE_CHECKING:
    import pikepdf

ROOM: Final = 48 * MIB
RATIO: Final = 60  # of a whole file; honest drawings reach ten
_CALL: Final = re.compile(rb"/([^\s/<>()\[\]{}%]{1,127})\s{1,20}Do\b")
_CALL_COST: Final = 4096  # bytes of drawing that could be gone through while a form is set up
_MAX_CALLS: Final = 40
_ENDLESS: Final = 1 << 60
_STEP: Final = 256 * KIB
_MAX_OBJECTS: Final = 200_000
_FLATE: Final = frozenset({"/FlateDecode", "/Fl"})
_LZW: Final = frozenset({"/LZWDecode", "/LZW"})
_RUN_LENGTH: Final = frozenset({"/RunLengthDecode", "/RL"})
_ASCII_85: Final = frozenset({"/ASCII85Decode", "/A85"})
_ASCII_HEX: Final = frozenset({"/ASCIIHexDecode", "/AHx"})
_RUN_LENGTH_RATIO: Final = 64
_LZW_CLEAR: Final = 256
_LZW_END: Final = 257


def is_modest(pdf: pikepdf.Pdf, size: int) -> bool:
    """Whether all streams together stay within what a file of this size (bytes) may become."""
    import pikepdf

    room = max(ROOM, RATIO * size)
    for index, item in enumerate(pdf.objects):
        if index >= _MAX_OBJECTS:
            return True  # said by the examination of objects
        if isinstance(item, pikepdf.Stream) and str(item.get("/Subtype")) != "/Image":
            room -= expanded(item, room)
            if room < 0:
                return False
    return True


def is_drawn_soon(pages: list[pikepdf.Page], size: int) -> bool:
    """Whether drawing the pages ends soon: drawings may call drawings, ten times each and ten deep."""
    import pikepdf

    room = max(ROOM, RATIO * size)
    known: dict[Any, int] = {}
    for page in pages:
        contents = page.obj.get("/Contents")
        pieces = list(contents) if isinstance(contents, pikepdf.Array) else [contents]
        for piece in pieces:
            if isinstance(piece, pikepdf.Stream):
                room -= _drawn(piece, page.resources, known, 0)
        if room < 0:
            return False
    return True


def _drawn(stream: Any, resources: Any, known: dict[Any, int], depth: int) -> int:
    """Bytes read to draw a form and all that it calls; a loop is counted once."""
    import pikepdf

    if depth > _MAX_CALLS:
        return 0  # readers go no deeper
    if stream.objgen in known:
        return known[stream.objgen]
    known[stream.objgen] = 0
    try:
        data = stream.read_bytes()
    except pikepdf.PdfError:
        return 0
    own = stream.get("/Resources", resources)
    forms: Any = own.get("/XObject") if isinstance(own, pikepdf.Dictionary) else None
    total = _CALL_COST + len(data)
    calls = Counter(_CALL.findall(data))
    for name, times in calls.items() if isinstance(forms, pikepdf.Dictionary) else ():
        form = forms.get("/" + name.decode("latin-1"))
        if isinstance(form, pikepdf.Stream) and str(form.get("/Subtype")) != "/Image":
            total = min(_ENDLESS, total + times * _drawn(form, own, known, depth + 1))
    known[stream.objgen] = total
    return total


def expanded(stream: Any, room: int) -> int:
    """The decoded size of a stream in bytes; more than `room` where it is larger or can't be counted."""
    import pikepdf

    filters = stream.get("/Filter")
    names = list(filters) if isinstance(filters, pikepdf.Array) else [filters]
    kinds = [str(name) for name in names if name is not None]
    data = bytes(stream.read_raw_bytes())
    chunks: Iterator[bytes] = iter([data])
    last = len(kinds) - 1
    for index, kind in enumerate(kinds):
        if kind in _FLATE:
            chunks = _inflate(chunks)
        elif kind in _ASCII_85 or kind in _ASCII_HEX:
            data = _plain(kind, _bounded(chunks, room))
            chunks = iter([data])
        elif kind in _LZW or kind in _RUN_LENGTH:
            if index != last:
                return room + 1
            data = _bounded(chunks, room)
            return _lzw_size(data, room) if kind in _LZW else len(data) * _RUN_LENGTH_RATIO
        else:
            break  # the encoding of a picture
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > room:
            return room + 1
    return total


def _bounded(chunks: Iterator[bytes], room: int) -> bytes:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        if len(held) > room:
            break
    return bytes(held)


def _inflate(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj()
    for chunk in chunks:
        rest = chunk
        while rest and not decoder.eof:
            try:
                out = decoder.decompress(rest, _STEP)
            except zlib.error:
                return
            rest = decoder.unconsumed_tail
            if out:
                yield out
        if decoder.eof:
            return
    # What the decoder still holds back comes out in steps, too.
    while not decoder.eof:
        try:
            out = decoder.decompress(b"", _STEP)
        except zlib.error:
            return
        if not out:
            return
        yield out


def _plain(kind: str, data: bytes) -> bytes:
    try:
        if kind in _ASCII_HEX:
            digits = b"".join(data.split(b">", 1)[0].split())
            return binascii.unhexlify(digits + b"0" * (len(digits) % 2))
        return base64.a85decode(data.split(b"~>", 1)[0].removeprefix(b"<~"))
    except (ValueError, binascii.Error):
        return data


def _lzw_size(data: bytes, room: int) -> int:
    """The length of what LZW gives, from the lengths of its table's entries alone."""
    lengths = [1] * 258
    total = width_bits = held = previous = 0
    width = 9
    for byte in data:
        held = held << 8 | byte
        width_bits += 8
        if width_bits < width:
            continue
        width_bits -= width
        code = held >> width_bits
        held &= (1 << width_bits) - 1
        if code == _LZW_CLEAR:
            del lengths[258:]
            width, previous = 9, 0
            continue
        if code == _LZW_END or code > len(lengths):
            break
        length = lengths[code] if code < len(lengths) else previous + 1
        if previous and len(lengths) < 4096:
            lengths.append(previous + 1)
        total += length
        previous = length
        if total > room:
            break
        # One early, as nearly all writers do; a step late only makes the rest look damaged.
        width = max(9, min(12, (len(lengths) + 1).bit_length()))
    return total
