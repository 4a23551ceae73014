"""Takes a message that Outlook saved (.msg) apart: attachments, and attached messages as .msg of their own.

Promises: every attachment becomes a document or is said not to have been taken out; an attached message is
copied, property by property, into a file as Outlook would save it, and its depth counts. What the message
says is returned for classification only.
Leaves out: recipients, and text that is there as RTF alone; what acts in the file is looked for by
`scan.office`.

Rules: no path inside the file is built from a name that stands in it: members are found by number. What two
programs could read differently (two contents) is said.

Sources: [MS-OXMSG] 2.1 to 2.4 (storages, properties); [MS-OXPROPS] for the identifiers.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from gateway.inspect import parts
from gateway.inspect.document import MIB, Document, Limits, PartSink, Unreadable, error_code
from gateway.inspect.formats import compound_writer
from gateway.inspect.formats.code_pages import codec
from gateway.inspect.formats.compound_writer import Storage
from gateway.inspect.parts import Budget, Unpacked
from gateway.inspect.unpack.mail import FACT_LENGTH, markup_text
from gateway.names import safe_name

if TYPE_CHECKING:
    from olefile import OleFileIO

MEDIA_TYPE: Final = "application/vnd.ms-outlook"
PROPERTIES: Final = "__properties_version1.0"
_NAMED: Final = "__nameid_version1.0"
_ATTACHMENT: Final = re.compile(r"__attach_version1\.0_#[0-9A-F]{8}", re.IGNORECASE)
_TOP: Final = (
    32  # bytes before the properties of a message, of one that is attached, of an attachment
)
_ATTACHED: Final = 24
_OF_ATTACHMENT: Final = 8
_ENTRY: Final = 16
_WIDE: Final = 0x001F
_NARROW: Final = 0x001E
_BINARY: Final = 0x0102
_OBJECT: Final = 0x000D
_CONTENT: Final = 0x3701
_METHOD: Final = 0x3705
_LONG_NAME: Final = 0x3707
_SHORT_NAME: Final = 0x3704
_DISPLAY_NAME: Final = 0x3001
_CODE_PAGE: Final = (0x3FFD, 0x3FDE)  # of the message, of its text on the internet
_SUBJECT: Final = 0x0037
_FROM: Final = (0x5D01, 0x0C1F, 0x0C1A)  # address, address as it was, name
_MESSAGE_ID: Final = 0x1035
_BODY: Final = 0x1000
_HTML: Final = 0x1013
_BY_REFERENCE: Final = frozenset({2, 3, 4, 7})
_MESSAGE: Final = 5
_MAX_ENTRIES: Final = 20_000
_MAX_TEXT: Final = 4 * MIB


def is_message(document: Document, limits: Limits) -> bool:
    """Whether a compound file is a message, by what stands in its root."""
    import olefile

    if document.size > limits.max_whole_bytes:
        return False
    try:
        with olefile.OleFileIO(document.stream()) as ole:
            return bool(ole.exists(PROPERTIES)) and not ole.exists("WordDocument")
    except Exception:  # noqa: BLE001  the library raises anything; what does not open is said elsewhere
        return False


def unpack(document: Document, limits: Limits, sink: PartSink) -> Unpacked:
    """Take a saved message apart."""
    import olefile

    unpacked = Unpacked()
    try:
        with olefile.OleFileIO(io.BytesIO(document.whole(limits))) as ole:
            root = _load(ole, ole.root, limits)
    except Unreadable as error:
        unpacked.trouble(error.reason, f"outlook.{error.reason}")
        return unpacked
    except Exception as error:  # noqa: BLE001  the library raises anything on hostile input
        unpacked.result.fail(error_code("outlook", error))
        unpacked.result.unreadable = "malformed"
        return unpacked
    message = _Properties(root, _TOP)
    _read_words(message, unpacked, limits)
    attachments = [
        each for name, each in sorted(root.storages.items()) if _ATTACHMENT.fullmatch(name)
    ]
    if attachments and document.depth >= limits.max_depth:
        unpacked.trouble("over_limit", "outlook.too_deep")
        return unpacked
    budget = Budget(limits)
    for index, each in enumerate(attachments):
        properties = _Properties(each, _OF_ATTACHMENT, message.coding)
        try:
            name, content = _attachment(properties, root, index)
        except Unreadable as error:
            unpacked.trouble(error.reason, error.message)
            continue
        if not parts.take_out(unpacked, sink, budget, name, content, "outlook"):
            break
    return unpacked


def _attachment(properties: _Properties, root: Storage, index: int) -> tuple[str, bytes]:
    """An attachment's name and bytes (raises Unreadable with a code as its message)."""
    name = ""
    for identifier in (_LONG_NAME, _SHORT_NAME, _DISPLAY_NAME):
        name = name or properties.text(identifier)
    fallback = f"attachment-{index + 1}"
    held = properties.storage.storages.get(_stream_name(_CONTENT, _OBJECT))
    content = properties.storage.streams.get(_stream_name(_CONTENT, _BINARY))
    if held is not None and content is not None:
        raise Unreadable("ambiguous", "outlook.two_contents")
    if held is not None and PROPERTIES in held.streams:
        name = safe_name(name.replace("/", "-"), fallback)
        if not name.lower().endswith(".msg"):
            name = safe_name(f"{name}.msg", fallback)
        return name, compound_writer.write(_as_file(held, root))
    if held is not None:
        # A drawing or a sheet that its program keeps in the message: a compound file, too.
        return safe_name(name, fallback), compound_writer.write(held)
    if content is None:
        method = properties.number(_METHOD)
        by_reference = method in _BY_REFERENCE
        raise Unreadable(
            "malformed", f"outlook.{'attached_by_reference' if by_reference else 'no_content'}"
        )
    return safe_name(name, fallback), content


def _as_file(held: Storage, root: Storage) -> Storage:
    """An attached message as the root of a file: its header is longer there, and names are its own."""
    made = Storage(dict(held.streams), dict(held.storages), root.clsid)
    properties = held.streams[PROPERTIES]
    made.streams[PROPERTIES] = (
        properties[:_ATTACHED] + bytes(_TOP - _ATTACHED) + properties[_ATTACHED:]
    )
    if _NAMED in root.storages:
        made.storages.setdefault(_NAMED, root.storages[_NAMED])
    return made


def _read_words(message: _Properties, unpacked: Unpacked, limits: Limits) -> None:
    subject = message.text(_SUBJECT)
    sender = next(filter(None, map(message.text, _FROM)), "")
    message_id = message.text(_MESSAGE_ID)
    for name, value in (("subject", subject), ("from", sender), ("message_id", message_id)):
        if value:
            unpacked.facts[name] = " ".join(value.split())[:FACT_LENGTH]
    html = message.storage.streams.get(_stream_name(_HTML, _BINARY), b"")[:_MAX_TEXT]
    text = message.text(_BODY) or markup_text(html.decode(message.coding, "replace"))
    unpacked.text = text[: limits.max_text]


class _Properties:
    """The properties of a message or an attachment."""

    def __init__(self, storage: Storage, header: int, coding: str = "") -> None:
        self.storage = storage
        self._fixed: dict[int, int] = {}
        data = storage.streams.get(PROPERTIES, b"")
        for at in range(
            header, min(len(data), header + _MAX_ENTRIES * _ENTRY) - _ENTRY + 1, _ENTRY
        ):
            kind, identifier, _flags, value = struct.unpack_from("<HHIi", data, at)
            if kind == 0x0003:
                self._fixed[identifier] = value
        pages = [self._fixed[each] for each in _CODE_PAGE if each in self._fixed]
        self.coding = coding or (codec(pages[0]) if pages else "cp1252")

    def number(self, identifier: int) -> int | None:
        return self._fixed.get(identifier)

    def text(self, identifier: int) -> str:
        """A text property; "" if there is none."""
        wide = self.storage.streams.get(_stream_name(identifier, _WIDE))
        if wide is not None:
            return wide[:_MAX_TEXT].decode("utf-16-le", "replace").split("\0", 1)[0]
        narrow = self.storage.streams.get(_stream_name(identifier, _NARROW), b"")
        return narrow[:_MAX_TEXT].decode(self.coding, "replace").split("\0", 1)[0]


def _stream_name(identifier: int, kind: int) -> str:
    return f"__substg1.0_{identifier:04X}{kind:04X}"


def _load(ole: OleFileIO, root: Any, limits: Limits) -> Storage:
    """Everything in the file, in memory: no more than it has bytes itself."""
    room = limits.max_whole_bytes
    found = Storage(clsid=bytes(16))
    waiting: list[tuple[Any, Storage]] = [(root, found)]
    for _count in range(_MAX_ENTRIES):
        if not waiting:
            return found
        node, storage = waiting.pop()
        for kid in _members(node):
            if kid.entry_type == 1:
                storage.storages[kid.name] = Storage()
                waiting.append((kid, storage.storages[kid.name]))
            elif kid.entry_type == 2:
                room -= kid.size
                if room < 0:
                    raise Unreadable("over_limit", "outlook: expected members as large as the file")
                # By its place: a name may hold what a path would be cut at.
                storage.streams[kid.name] = ole._open(kid.isectStart, kid.size).read()
    raise Unreadable("over_limit", "outlook: expected fewer members")


def _members(node: Any) -> Iterator[Any]:
    yield from node.kids[:_MAX_ENTRIES]
