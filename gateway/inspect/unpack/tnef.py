"""Takes a winmail.dat apart: the stream in which Outlook sends a message and its attachments (TNEF).

Promises: one pass, memory in proportion to the stream; every attachment becomes a document or is said not to
have been taken out. A stream that is damaged, contradicts itself or ends early is closed, with what could be
taken out before. Leaves out: the message's own text and properties; the mail around it states them too.

Rules: lengths and checksums are checked as they stand; nothing is looked for beyond them. An attached
message is a stream of its own and becomes one; its depth counts. Names are data.

Sources: [MS-OXTNEF] 2.1 (structure), 2.1.3.3 (identifiers), 2.1.3.4 (MAPI properties); [MS-OXPROPS].
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from gateway.inspect import parts
from gateway.inspect.document import Document, Limits, PartSink
from gateway.inspect.formats.code_pages import codec
from gateway.inspect.parts import Budget, Unpacked
from gateway.names import safe_name

SIGNATURE: Final = b"\x78\x9f\x3e\x22"
_HEADER: Final = struct.Struct("<BII")  # level, identifier, length; a checksum of two bytes follows
_LEVELS: Final = frozenset({1, 2})
_CODE_PAGE: Final = 0x00069007
_BEGIN: Final = 0x00069002  # attAttachRendData: a new attachment
_TITLE: Final = 0x00018010
_DATA: Final = 0x0006800F
_PROPERTIES: Final = 0x00069005
_MAX_PROPERTIES: Final = 10_000
_MAX_ATTRIBUTES: Final = 200_000

_LONG_NAME: Final = 0x3707
_SHORT_NAME: Final = 0x3704
_DISPLAY_NAME: Final = 0x3001
_CONTENT: Final = 0x3701  # PR_ATTACH_DATA_BIN and, as an object, PR_ATTACH_DATA_OBJ
_METHOD: Final = 0x3705
_BY_REFERENCE: Final = frozenset({2, 3, 4, 7})  # a path or an address instead of content
_FIXED: Final = {
    **dict.fromkeys((0x0002, 0x0003, 0x0004, 0x000A, 0x000B), 4),
    **dict.fromkeys((0x0005, 0x0006, 0x0007, 0x0014, 0x0040), 8),
    0x0001: 0,
    0x0048: 16,
}
_TEXT: Final = 0x001E
_WIDE_TEXT: Final = 0x001F
_OBJECT: Final = 0x000D
_VARIABLE: Final = frozenset({_TEXT, _WIDE_TEXT, _OBJECT, 0x0102})
_SEVERAL: Final = 0x1000
_NAMED: Final = 0x8000
_INTERFACE: Final = 16  # bytes of an interface's identifier before an object
_MESSAGE: Final = bytes.fromhex("0703020000000000c000000000000046")  # IID_IMessage


class _Damaged(Exception):
    """The stream can't be followed any further."""


@dataclass(slots=True)
class _Attachment:
    title: str = ""
    names: dict[int, str] = field(default_factory=dict)
    data: bytes | None = None
    held: bytes | None = None  # what the properties hold, where there is no attribute for it
    is_message: bool = False
    method: int = 1

    def name(self, index: int) -> str:
        named = self.names.get(_LONG_NAME) or self.title or self.names.get(_SHORT_NAME)
        name = named or self.names.get(_DISPLAY_NAME) or f"attachment-{index + 1}"
        if self.is_message and not name.lower().endswith(".dat"):
            name += ".dat"
        return safe_name(name, f"attachment-{index + 1}")


@dataclass(slots=True)
class _Stream:
    """What was read so far."""

    attachments: list[_Attachment] = field(default_factory=list)
    coding: str = "cp1252"
    codes: list[str] = field(default_factory=list)

    def note(self, code: str) -> None:
        if code not in self.codes:
            self.codes.append(code)


def unpack(document: Document, limits: Limits, sink: PartSink) -> Unpacked:
    """Take a stream apart: attachments become parts."""
    unpacked = Unpacked()
    if document.size > limits.max_whole_bytes:
        unpacked.trouble("over_limit", "tnef.too_large")
        return unpacked
    stream = _Stream()
    try:
        _read(document.whole(limits), stream)
    except (_Damaged, struct.error):
        stream.note("tnef.damaged")
    for code in stream.codes:
        unpacked.trouble("malformed", code)
    if stream.attachments and document.depth >= limits.max_depth:
        unpacked.trouble("over_limit", "tnef.too_deep")
        return unpacked
    budget = Budget(limits)
    for index, attachment in enumerate(stream.attachments):
        content = attachment.held if attachment.data is None else attachment.data
        if content is None:
            by_reference = attachment.method in _BY_REFERENCE
            unpacked.trouble(
                "malformed", "tnef.attached_by_reference" if by_reference else "tnef.no_content"
            )
            continue
        if not parts.take_out(unpacked, sink, budget, attachment.name(index), content, "tnef"):
            break
    return unpacked


# ── attributes ───────────────────────────────────────────────────────────────────────────────────


def _read(data: bytes, stream: _Stream) -> None:
    if not data.startswith(SIGNATURE):
        raise _Damaged
    at = len(SIGNATURE) + 2  # and a key that says nothing here
    for _count in range(_MAX_ATTRIBUTES):
        if not data[at:].strip(b"\0\r\n") if len(data) - at < 64 else at >= len(data):
            return
        level, identifier, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if level not in _LEVELS or at + length + 2 > len(data):
            raise _Damaged
        value = data[at : at + length]
        (checksum,) = struct.unpack_from("<H", data, at + length)
        if sum(value) & 0xFFFF != checksum:
            stream.note("tnef.checksum")
        at += length + 2
        if level == 2:
            _take(identifier, value, stream)
        elif identifier == _CODE_PAGE and length >= 4:
            stream.coding = codec(struct.unpack_from("<I", value)[0])
    raise _Damaged


def _take(identifier: int, value: bytes, stream: _Stream) -> None:
    if identifier == _BEGIN:
        stream.attachments.append(_Attachment())
        return
    if not stream.attachments:
        stream.note("tnef.attribute_before_attachment")
        stream.attachments.append(_Attachment())
    attachment = stream.attachments[-1]
    if identifier == _TITLE:
        attachment.title = _decoded(value, stream.coding)
    elif identifier == _DATA:
        if attachment.data is not None:
            stream.note("tnef.two_contents")  # readers take the first, or the last
            stream.attachments.append(attachment := _Attachment(attachment.title))
        attachment.data = value
    elif identifier == _PROPERTIES:
        _take_properties(value, attachment, stream)


def _decoded(value: bytes, coding: str) -> str:
    return value.split(b"\0", 1)[0].decode(coding, "replace")


# ── properties ───────────────────────────────────────────────────────────────────────────────────


def _take_properties(value: bytes, attachment: _Attachment, stream: _Stream) -> None:
    (count,) = struct.unpack_from("<I", value)
    if count > _MAX_PROPERTIES:
        raise _Damaged
    at = 4
    for _index in range(count):
        kind, identifier = struct.unpack_from("<HH", value, at)
        at += 4
        if identifier >= _NAMED:
            at = _after_name(value, at)
        several, kind = kind & _SEVERAL, kind & ~_SEVERAL
        number = 1
        if several or kind in _VARIABLE:
            (number,) = struct.unpack_from("<I", value, at)
            at += 4
        if number > len(value):
            raise _Damaged
        for _each in range(number):
            held, at = _value(value, at, kind)
            if identifier < _NAMED and not several:
                _take_property(identifier, kind, held, attachment, stream)


def _after_name(value: bytes, at: int) -> int:
    """Past the name of a named property: a set, and a number or a text."""
    kind, length = struct.unpack_from("<II", value, at + 16)
    return at + 24 if kind == 0 else at + 24 + int(length) + -int(length) % 4


def _value(value: bytes, at: int, kind: int) -> tuple[bytes, int]:
    if kind in _VARIABLE:
        (length,) = struct.unpack_from("<I", value, at)
        at += 4
        after = at + length + -length % 4
    elif kind in _FIXED:
        length = _FIXED[kind]
        after = at + length
    else:
        raise _Damaged
    if at + length > len(value):
        raise _Damaged
    return value[at : at + length], after


def _take_property(
    identifier: int, kind: int, held: bytes, attachment: _Attachment, stream: _Stream
) -> None:
    if identifier in {_LONG_NAME, _SHORT_NAME, _DISPLAY_NAME}:
        if kind == _TEXT:
            attachment.names[identifier] = _decoded(held, stream.coding)
        elif kind == _WIDE_TEXT:
            attachment.names[identifier] = held.decode("utf-16-le", "replace").split("\0", 1)[0]
    elif identifier == _METHOD and len(held) == 4:
        (attachment.method,) = struct.unpack("<I", held)
    elif identifier == _CONTENT:
        if kind == _OBJECT:
            attachment.is_message = held.startswith(_MESSAGE)
            held = held[_INTERFACE:]
        if attachment.held is not None:
            stream.note("tnef.two_contents")
        attachment.held = held
