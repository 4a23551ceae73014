"""Takes 7z, rar, tar and compressed files apart: every file in them becomes a document of its own.

Promises: no name is a path, no link is followed; folders are passed over, and links and devices are said. The
limits on number, bytes, ratio and depth hold over one archive; whatever was taken out before it ended badly
stays, and is said to be not all.
Leaves out: zip (`formats.zip_layout`), reading (`formats.archive_stream`).

Rules: an archive's directory may lie about sizes, so that bytes are counted as they come. Members of solid
archives can only be read in order, and are.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gateway.inspect.document import MIB, Document, Limits, PartSink, Unreadable, error_code
from gateway.inspect.formats import litter, rar_headers
from gateway.inspect.formats.archive_stream import (
    RAR,
    SEVEN_ZIP,
    ZIP,
    ArchiveStream,
    Member,
)
from gateway.inspect.formats.seven_zip import SevenZipStream
from gateway.inspect.parts import Budget, Unpacked
from gateway.names import decode_name, safe_name

_MAX_ENTRIES: Final = 100_000  # folders and links count here, and files in the budget as well
_RATIO: Final = (
    400  # as for zip; what honest archives reach with the best compression is a quarter of it
)
_RATIO_FREE: Final = 16 * MIB
_SUFFIX: Final = re.compile(r"\.(?:gz|bz2|xz)\Z", re.IGNORECASE)


def unpack(
    document: Document,
    media_type: str,
    limits: Limits,
    sink: PartSink,
    passwords: Sequence[str] = (),
) -> Unpacked:
    """Take an archive apart.

    Args:
        media_type: what it is by its magic (`archive_stream.OPENED`).
        passwords: for the encrypted members of a zip, or one that opens a 7z.
    """
    unpacked = Unpacked()
    budget = Budget(limits)
    ratio = _Ratio(document.size)
    if media_type == RAR:
        headers = rar_headers.look(document)
        if headers.volume:
            unpacked.trouble("malformed", "archive.several_volumes")
        if headers.damaged:
            unpacked.trouble("malformed", "archive.malformed")
            return unpacked
        if headers.encrypted:
            unpacked.trouble("encrypted", "archive.no_password_helps")
            return unpacked
    try:
        with opened(document, media_type, passwords) as stream:
            for count, member in enumerate(stream):
                if count >= _MAX_ENTRIES:
                    raise Unreadable("over_limit", "archive: expected fewer entries, found more")
                if document.depth >= limits.max_depth:
                    unpacked.trouble("over_limit", "archive.too_deep")
                    return unpacked
                try:
                    _take(member, stream, media_type, document, unpacked, sink, budget, ratio)
                except Unreadable as error:
                    if media_type != ZIP or error.reason != "encrypted":
                        raise
                    # Another password than the others'; what follows may have none.
                    unpacked.trouble("encrypted", _locked(media_type))
    except Unreadable as error:
        unpacked.trouble(
            error.reason,
            _locked(media_type) if error.reason == "encrypted" else f"archive.{error.reason}",
        )
    except Exception as error:  # noqa: BLE001  what was committed before must be reported
        unpacked.result.fail(error_code("archive", error))
    if not unpacked.parts and not unpacked.ignored and not unpacked.result.unreadable:
        unpacked.trouble("malformed", "archive.empty")
    return unpacked


def opened(
    document: Document, media_type: str, passwords: Sequence[str]
) -> ArchiveStream | SevenZipStream:
    """An archive as a stream of members (raises Unreadable).

    Args:
        passwords: for a 7z one that is known to open it; for a zip several may be needed.
    """
    if media_type == SEVEN_ZIP and passwords:
        return SevenZipStream(document, passwords[0])
    return ArchiveStream(document, media_type, passwords)


def _take(
    member: Member,
    stream: ArchiveStream | SevenZipStream,
    media_type: str,
    document: Document,
    unpacked: Unpacked,
    sink: PartSink,
    budget: Budget,
    ratio: _Ratio,
) -> None:
    if member.kind == "folder":
        if member.size:  # a file to programs that go by its name
            unpacked.result.mark("archive.special_file")
        return
    name, raw = _name(member, document)
    if member.kind != "file":
        unpacked.result.mark(
            f"archive.{'special_file' if member.kind == 'special' else member.kind}"
        )
        return
    if member.encrypted and not stream.unlocks:
        unpacked.trouble("encrypted", _locked(media_type))
        return
    if _escapes(member.name):
        unpacked.result.mark("archive.escaping_name")
    budget.open()
    content: Iterable[bytes] = budget.count(ratio.count(stream.chunks()))
    most = litter.most(name)
    if most >= 0:
        head, rest = _at_most(content, most)
        if rest is None and litter.is_litter(name, head):
            unpacked.ignore(name, "system-file")
            return
        content = itertools.chain([head], rest or ())
    unpacked.parts.append(sink.add(name, content, raw))


def _locked(media_type: str) -> str:
    return "archive.encrypted" if media_type in {ZIP, SEVEN_ZIP} else "archive.no_password_helps"


def _name(member: Member, document: Document) -> tuple[str, bytes]:
    """A member's name as its maker wrote it, and its bytes where they are not that name in UTF-8."""
    if member.raw:
        return safe_name(_SUFFIX.sub("", document.name), "part"), b""
    name = decode_name(member.name, "dos")
    return safe_name(name, "part"), b"" if name.encode() == member.name else member.name


def _escapes(raw: bytes) -> bool:
    name = raw.replace(b"\\", b"/")
    return name.startswith(b"/") or b".." in name.split(b"/") or name[1:3] == b":/"


def _at_most(content: Iterable[bytes], most: int) -> tuple[bytes, Iterator[bytes] | None]:
    """What comes first, and the rest; None for the rest if all was at most so many bytes."""
    pieces = iter(content)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) > most:
            return head, pieces
    return head, None


class _Ratio:
    """How far an archive may expand: a bomb is told by it long before the limit on bytes."""

    def __init__(self, size: int) -> None:
        self._room = max(_RATIO_FREE, _RATIO * size)

    def count(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._room -= len(chunk)
            if self._room < 0:
                raise Unreadable("over_limit", f"archive: expected a ratio below {_RATIO}")
            yield chunk
