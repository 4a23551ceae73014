"""Zip archives opened so that nothing in them can surprise: the one way this package opens a zip.

Promises: an archive whose members overlap, expand without measure, or are described differently by
its directory and by their own headers is refused before a byte is expanded; members are read as
streams, bounded by the size the directory states. Leaves out: writing to a file system; the names
are never paths.

Rules: the standard library before 3.11.8/3.12.2 accepts overlapping members (CVE-2024-0450, "better
zip bomb"), so overlap is checked here on every version. Encrypted members are reported, not tried.
Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header) and 4.3.12 (directory).
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast

from gateway.inspect.document import (
    MIB,
    READ_SIZE,
    Document,
    Limits,
    PartSink,
    Reason,
    Source,
    Unreadable,
    error_code,
    read_exactly,
)
from gateway.inspect.formats import litter
from gateway.inspect.parts import Budget, Unpacked
from gateway.names import decode_name, safe_name

_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_END_MAGIC: Final = b"PK\x05\x06"  # APPNOTE 4.3.16, the end of the directory
_END_SIZE: Final = 22
TAIL: Final = _END_SIZE + 0xFFFF  # with the longest comment
_FLAG_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000  # traditional, strong, masked headers
_FLAG_UTF8: Final = 0x800
_LEFT_LENGTH: Final = 500  # characters that name what is left in an archive
_EXTRA: Final = struct.Struct("<HH")
_UNICODE_PATH: Final = 0x7075
_METHODS: Final = frozenset(
    {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
)
# The standard library expands what it has read of these in one go, whatever size is stated: 64 bytes of bzip2
# become at most two blocks of 900 kB.
_UNBOUNDED: Final = frozenset({zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_STEP: Final = 64
_RATIO: Final = 400  # beyond what honest office files reach; deflate's own limit is 1032
_RATIO_FREE: Final = 16 * MIB  # below this size a ratio can do no harm

# What reading a damaged or crafted archive raises, in the standard library's own words.
FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    struct.error,
    ValueError,
    RuntimeError,
    OverflowError,
)


@dataclass(slots=True)
class Archive:
    """An opened, checked archive.

    `codes` are suspicions ("archive.symlink" …); `encrypted` and `unsupported` count members that
    can't be read.
    """

    zip: zipfile.ZipFile
    members: list[zipfile.ZipInfo] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    encrypted: int = 0
    unsupported: int = 0

    def names(self) -> set[str]:
        """The names of all members, folders too."""
        return set(self.zip.NameToInfo)

    def chunks(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """The bytes of a member, in pieces (raises Unreadable on damage)."""
        try:
            with cast("zipfile.ZipExtFile", self.zip.open(member)) as stream:
                step = READ_SIZE
                if member.compress_type in _UNBOUNDED:
                    step = stream.MIN_READ_SIZE = _STEP
                while data := stream.read(step):
                    yield data
        except FAULTS as error:
            raise Unreadable(
                "malformed", f"archive member: expected intact data, found {type(error).__name__}"
            ) from error

    def read(self, name: str, limit: int) -> bytes | None:
        """A member by name, whole; None if absent, not readable, or larger than `limit` bytes."""
        info = self.zip.NameToInfo.get(name)
        if info is None or info not in self.members or info.file_size > limit:
            return None
        return b"".join(self.chunks(info))


def ends_in_archive(tail: bytes) -> bool:
    """Whether a file ends as a zip does: programs that unpack look there first, whatever it begins with.

    Args:
        tail: the last bytes, at least `TAIL` of them where there are as many.
    """
    at = tail.rfind(_END_MAGIC, max(0, len(tail) - TAIL))
    comment = int.from_bytes(tail[at + _END_SIZE - 2 : at + _END_SIZE], "little")
    return at >= 0 and at + _END_SIZE + comment == len(tail)


def lies_behind(document: Document) -> bool:
    """Whether an archive stands behind a document of another format."""
    document.source.seek(max(0, document.size - TAIL))
    return ends_in_archive(read_exactly(document.source, min(document.size, TAIL)))


def open_zip(document: Document, limits: Limits, *, max_members: int) -> Archive:
    """Open and check a zip archive.

    Raises:
        Unreadable: damaged, contradictory, overlapping ("malformed", "ambiguous"), or larger than
            the limits when expanded ("over_limit").
    """
    source = document.source
    source.seek(0)
    try:
        opened = zipfile.ZipFile(document.stream())
    except (*FAULTS, OSError) as error:
        raise Unreadable(
            "malformed", f"archive: expected a zip directory, found {type(error).__name__}"
        ) from error
    archive = Archive(opened)
    members = opened.infolist()
    if len(members) > max_members:
        raise Unreadable(
            "over_limit", f"archive: expected at most {max_members} members, found {len(members)}"
        )
    _check_sizes(members, limits)
    _check_layout(source, members, archive)
    seen: set[str] = set()
    for member in members:
        _check_member(member, seen, archive)
    return archive


def _check_sizes(members: list[zipfile.ZipInfo], limits: Limits) -> None:
    total = sum(member.file_size for member in members)
    if total > limits.max_expand_bytes:
        raise Unreadable(
            "over_limit",
            f"archive: expected at most {limits.max_expand_bytes} bytes expanded, found {total}",
        )
    for member in members:
        if member.file_size > max(_RATIO_FREE, _RATIO * member.compress_size):
            raise Unreadable("over_limit", f"archive: expected a ratio below {_RATIO}, found more")


def _check_layout(source: Source, members: list[zipfile.ZipInfo], archive: Archive) -> None:
    """Members must lie one after the other, each with a local header that agrees."""
    end = 0
    for member in sorted(members, key=lambda item: item.header_offset):
        if member.header_offset < end:
            raise Unreadable("malformed", "archive: expected separate members, found overlap")
        if end == 0 and member.header_offset > 0:
            archive.codes.append("archive.leading_data")
        source.seek(member.header_offset)
        raw = read_exactly(source, _LOCAL.size)
        if len(raw) < _LOCAL.size or not raw.startswith(_LOCAL_MAGIC):
            raise Unreadable("malformed", "archive: expected a local header, found none")
        (_, _, flags, method, _, _, _, _, _, name_length, extra_length) = _LOCAL.unpack(raw)
        name = read_exactly(source, name_length)
        if method != member.compress_type or (flags ^ member.flag_bits) & 0x1:
            raise Unreadable("ambiguous", "archive: expected agreeing headers, found a difference")
        if name != _raw_name(member):
            raise Unreadable("ambiguous", "archive: expected agreeing names, found a difference")
        end = member.header_offset + _LOCAL.size + name_length + extra_length + member.compress_size


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    encoding = "utf-8" if member.flag_bits & _FLAG_UTF8 else "cp437"
    with contextlib.suppress(UnicodeEncodeError):
        return member.orig_filename.encode(encoding)
    return b""


def name_of(member: zipfile.ZipInfo) -> tuple[str, bytes]:
    """A member's name as its maker wrote it, and its bytes where they are not that name in UTF-8.

    Without the UTF-8 flag the format says code page 437, and programs write what their system has. Info-ZIP's
    Unicode path (extra field 0x7075, APPNOTE 4.6.9) counts if it belongs to the name that is there.
    """
    if member.flag_bits & _FLAG_UTF8:
        return member.filename, b""
    raw = _raw_name(member)
    extra = member.extra
    while len(extra) >= _EXTRA.size:
        kind, length = _EXTRA.unpack_from(extra)
        data, extra = extra[_EXTRA.size :][:length], extra[_EXTRA.size + length :]
        if kind == _UNICODE_PATH and data[:5] == b"\1" + zlib.crc32(raw).to_bytes(4, "little"):
            with contextlib.suppress(UnicodeDecodeError):
                return data[5:].decode(), raw
    name = decode_name(raw, "dos")
    return name, b"" if name.encode() == raw else raw


def _check_member(member: zipfile.ZipInfo, seen: set[str], archive: Archive) -> None:
    name = member.orig_filename.replace("\\", "/")
    if name in seen:
        _note(archive, "archive.duplicate_name")
    seen.add(name)
    if name.startswith("/") or ".." in name.split("/") or name[1:3] == ":/" or "\0" in name:
        _note(archive, "archive.escaping_name")
    mode = member.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        _note(archive, "archive.symlink" if stat.S_ISLNK(mode) else "archive.special_file")
    if member.is_dir():
        if member.file_size:  # a file to programs that go by its attributes
            _note(archive, "archive.special_file")
        return
    if member.flag_bits & _FLAG_ENCRYPTED or member.compress_type == 99:
        archive.encrypted += 1
    elif member.compress_type not in _METHODS:
        archive.unsupported += 1
    else:
        archive.members.append(member)


def _note(archive: Archive, code: str) -> None:
    if code not in archive.codes:
        archive.codes.append(code)


def worst(archive: Archive) -> Reason | None:
    """Why not every member could be read, or None."""
    if archive.encrypted:
        return "encrypted"
    return "malformed" if archive.unsupported else None


def unpack_zip(opened: Archive, document: Document, limits: Limits, sink: PartSink) -> Unpacked:
    """Take a plain archive apart. Damaged members are left out and said."""
    unpacked = Unpacked()
    for code in opened.codes:
        unpacked.result.mark(code)
    if opened.encrypted:
        unpacked.trouble("encrypted", "archive.encrypted")
    if opened.unsupported:
        unpacked.trouble("malformed", "archive.unsupported_method")
    if not opened.members:
        return unpacked
    if document.depth >= limits.max_depth:
        unpacked.trouble("over_limit", "archive.too_deep")
        return unpacked
    budget = Budget(limits)
    left: list[str] = []
    for member in opened.members:
        try:
            budget.open()
            name, raw = name_of(member)
            name = safe_name(name, "part")
            content: Iterable[bytes] = budget.count(opened.chunks(member))
            if member.file_size <= litter.most(name):
                content = [b"".join(content)]
                if litter.is_litter(name, content[0]):
                    left.append(name)
                    unpacked.ignore(name, "system-file")
                    continue
            unpacked.parts.append(sink.add(name, content, raw))
        except Unreadable as error:
            unpacked.trouble(error.reason, f"archive.member_{error.reason}")
            if error.reason == "over_limit":
                break
        except Exception as error:  # noqa: BLE001  what was committed before must be reported
            unpacked.result.fail(error_code("archive.member", error))
            break
    if left:
        unpacked.facts["left_in_archive"] = ", ".join(left)[:_LEFT_LENGTH]
    return unpacked
