"""7z archives with a password, which libarchive can't decrypt: the one kind that is read here.

Promises: AES-256 over LZMA, LZMA2 or bytes as they are, with or without encrypted names, is opened and read
as streams, in order; every file is held against its checksum, so that a wrong password is told from a right
one. Counts, lengths and the cost of a password have bounds, and what is beyond them is `Unreadable`.
Leaves out: a 7z without a password (`archive_stream`), and methods that nobody chooses for documents (BCJ for
executables, PPMd, BZip2): "malformed", as if they were not there.

Rules: parsing is strict: a number, a count or a place that does not fit ends it. Nothing is allocated by a
number that stands in the file before it was compared with a bound.

One module, although it is long: the header says how the bytes are packed, and both are one format.

Source: 7zFormat.txt and Methods.txt of the LZMA SDK (public domain).
"""

from __future__ import annotations

import hashlib
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway.inspect.document import KIB, MIB, Document, Unreadable, read_exactly
from gateway.inspect.formats.archive_stream import Member

MAGIC: Final = b"7z\xbc\xaf\x27\x1c"
_START: Final = struct.Struct("<6sBBIQQI")
_MAX_HEADER: Final = 8 * MIB
_MAX_FILES: Final = 100_000
_MAX_FOLDERS: Final = 10_000
_MAX_CODERS: Final = 4
_MAX_CYCLES: Final = 21  # powers of two; 7-Zip writes 19
_PIECE: Final = 64 * KIB
_BLOCK: Final = 16
_COPY: Final = b"\x00"
_LZMA2: Final = b"\x21"
_LZMA: Final = b"\x03\x01\x01"
_AES: Final = b"\x06\xf1\x07\x01"


@dataclass(slots=True)
class _Coder:
    method: bytes
    properties: bytes


@dataclass(slots=True)
class _Folder:
    """A chain of methods over one packed stream; `coders` in the order in which they are undone."""

    coders: list[_Coder]
    sizes: list[int]  # bytes that each gives, in the same order
    packed: tuple[int, int] = (0, 0)  # where it lies, and how long it is
    crc: int | None = None
    files: list[tuple[int, int | None]] = field(default_factory=list)  # size and checksum of each

    @property
    def encrypted(self) -> bool:
        return any(coder.method == _AES for coder in self.coders)


@dataclass(slots=True)
class Entry:
    """A file of the archive. `name` in UTF-8; `folder` None for an empty one."""

    name: bytes
    is_folder: bool
    folder: int | None = None
    size: int = 0


def _bad(what: str) -> Unreadable:
    return Unreadable("malformed", f"7z: expected {what}, found something else")


class _Cursor:
    """Reads the numbers of a header (raises Unreadable at its end)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        if length < 0 or self._at + length > len(self._data):
            raise _bad("a whole header")
        self._at += length
        return self._data[self._at - length : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        first = self.byte()
        mask, value = 0x80, 0
        for index in range(8):
            if not first & mask:
                return value | (first & (mask - 1)) << (8 * index)
            value |= self.byte() << (8 * index)
            mask >>= 1
        return value

    def count(self, most: int) -> int:
        value = self.number()
        if value > most:
            raise Unreadable("over_limit", f"7z: expected at most {most} of a kind, found more")
        return value

    def bits(self, count: int, *, all_set_first: bool) -> list[bool]:
        if all_set_first and self.byte():
            return [True] * count
        data = self.take((count + 7) // 8)
        return [bool(data[n // 8] & (0x80 >> n % 8)) for n in range(count)]

    def crcs(self, count: int) -> list[int | None]:
        known = self.bits(count, all_set_first=True)
        return [struct.unpack("<I", self.take(4))[0] if each else None for each in known]


class SevenZip:
    """An archive, opened with a password: its header was read and fits its checksum.

    Raises:
        Unreadable: "encrypted" where the password does not open it; "malformed", "over_limit" else.
    """

    def __init__(self, document: Document, password: str) -> None:
        self._document = document
        self._password = password
        self._keys: dict[bytes, bytes] = {}
        self.entries: list[Entry] = []
        self._folders: list[_Folder] = []
        document.source.seek(0)
        raw = read_exactly(document.source, _START.size)
        if len(raw) < _START.size or not raw.startswith(MAGIC):
            raise _bad("a start header")
        _, _, _, start_crc, offset, size, crc = _START.unpack(raw)
        if zlib.crc32(raw[12:]) != start_crc or _START.size + offset + size > document.size:
            raise _bad("a start header that fits the file")
        header = self._header(_START.size + offset, size, crc)
        for _ in range(_MAX_CODERS):
            cursor = _Cursor(header)
            kind = cursor.byte()
            if kind == 0x01:
                self._read_header(cursor)
                return
            if kind != 0x17:
                break
            folders = self._streams(cursor)
            if len(folders) != 1 or folders[0].sizes[-1] > _MAX_HEADER:
                raise _bad("one packed header")
            header = b"".join(self._decoded(folders[0]))
        raise _bad("a header")

    def is_locked(self, entry: Entry) -> bool:
        """Whether a file needs the password."""
        return entry.folder is not None and self._folders[entry.folder].encrypted

    def files(self) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """The files with their bytes, in order; what is not read is passed over."""
        at = {index: self._split(folder) for index, folder in enumerate(self._folders)}
        for entry in self.entries:
            if entry.is_folder:
                continue
            if entry.folder is None:
                yield entry, iter(())
                continue
            content = next(at[entry.folder], None)
            if content is None:
                raise _bad("as many files as are named")
            yield entry, content
            for _rest in content:  # a folder is one stream
                pass

    # ── the header ──

    def _header(self, at: int, size: int, crc: int) -> bytes:
        if size > _MAX_HEADER:
            raise Unreadable("over_limit", "7z: expected a smaller header")
        self._document.source.seek(at)
        header = read_exactly(self._document.source, size)
        if zlib.crc32(header) != crc:
            raise _bad("a header that fits its checksum")
        return header

    def _read_header(self, cursor: _Cursor) -> None:
        kind = cursor.byte()
        if kind == 0x02:  # archive properties
            while cursor.byte():
                cursor.take(cursor.number())
            kind = cursor.byte()
        if kind == 0x04:
            self._folders = self._streams(cursor)
            kind = cursor.byte()
        if kind == 0x05:
            self._read_files(cursor)
        elif kind != 0x00:
            raise _bad("files")

    def _streams(self, cursor: _Cursor) -> list[_Folder]:
        """Where the packed streams lie, how they are packed, and how they are cut into files."""
        packed: list[tuple[int, int]] = []
        folders: list[_Folder] = []
        kind = cursor.byte()
        if kind == 0x06:
            packed = self._packed(cursor)
            kind = cursor.byte()
        if kind == 0x07:
            folders = self._read_folders(cursor, packed)
            kind = cursor.byte()
        for folder in folders:
            folder.files = [(folder.sizes[-1], folder.crc)]
        if kind == 0x08:
            self._cut(cursor, folders)
            kind = cursor.byte()
        if kind != 0x00:
            raise _bad("an end of the streams")
        return folders

    def _packed(self, cursor: _Cursor) -> list[tuple[int, int]]:
        at = _START.size + cursor.number()
        count = cursor.count(_MAX_FOLDERS)
        packed: list[tuple[int, int]] = []
        while (kind := cursor.byte()) != 0x00:
            if kind == 0x09:
                for _ in range(count):
                    size = cursor.number()
                    if at + size > self._document.size:
                        raise _bad("packed streams inside the file")
                    packed.append((at, size))
                    at += size
            elif kind == 0x0A:
                cursor.crcs(count)
            else:
                raise _bad("sizes of packed streams")
        return packed

    def _read_folders(self, cursor: _Cursor, packed: list[tuple[int, int]]) -> list[_Folder]:
        if cursor.byte() != 0x0B:
            raise _bad("folders")
        count = cursor.count(_MAX_FOLDERS)
        if cursor.byte():
            raise _bad("folders in the header itself")
        shapes = [_shape(cursor) for _ in range(count)]
        if cursor.byte() != 0x0C:
            raise _bad("sizes")
        folders = []
        if len(packed) < count:
            raise _bad("a packed stream for each folder")
        for (coders, order), place in zip(shapes, packed, strict=False):
            sizes = [cursor.number() for _ in coders]
            folders.append(_Folder([coders[n] for n in order], [sizes[n] for n in order], place))
        kind = cursor.byte()
        if kind == 0x0A:
            for folder, crc in zip(folders, cursor.crcs(count), strict=True):
                folder.crc = crc
            kind = cursor.byte()
        if kind != 0x00:
            raise _bad("an end of the folders")
        return folders

    def _cut(self, cursor: _Cursor, folders: list[_Folder]) -> None:
        counts = [1] * len(folders)
        kind = cursor.byte()
        if kind == 0x0D:
            counts = [cursor.count(_MAX_FILES) for _ in folders]
            kind = cursor.byte()
        if sum(counts) > _MAX_FILES:
            raise Unreadable("over_limit", "7z: expected fewer files")
        sizes: list[list[int]] = []
        for folder, count in zip(folders, counts, strict=True):
            given = [cursor.number() for _ in range(count - 1)] if kind == 0x09 else []
            rest = folder.sizes[-1] - sum(given)
            if rest < 0 or (count > 1 and not given):
                raise _bad("sizes that fit the folder")
            sizes.append([*given, rest] if count else [])
        if kind == 0x09:
            kind = cursor.byte()
        known = [
            folder.crc if count == 1 else None
            for folder, count in zip(folders, counts, strict=True)
        ]
        missing = sum(count for crc, count in zip(known, counts, strict=True) if crc is None)
        crcs: list[int | None] = [None] * missing
        while kind != 0x00:
            if kind != 0x0A:
                raise _bad("checksums")
            crcs = cursor.crcs(missing)
            kind = cursor.byte()
        following = iter(crcs)
        for folder, each, crc in zip(folders, sizes, known, strict=True):
            folder.files = [(size, crc if crc is not None else next(following)) for size in each]

    def _read_files(self, cursor: _Cursor) -> None:
        count = cursor.count(_MAX_FILES)
        names: list[bytes] = [b""] * count
        without = [False] * count
        empty_files: list[bool] = []
        while (kind := cursor.byte()) != 0x00:
            part = _Cursor(cursor.take(cursor.number()))
            if kind == 0x0E:
                without = part.bits(count, all_set_first=False)
            elif kind == 0x0F:
                empty_files = part.bits(sum(without), all_set_first=False)
            elif kind == 0x11:
                names = _names(part, count)
        places = [
            (index, size) for index, folder in enumerate(self._folders) for size, _ in folder.files
        ]
        if len(places) != count - sum(without):
            raise _bad("as many files as streams")
        following = iter(places)
        empties = iter(empty_files or [False] * sum(without))
        for name, empty in zip(names, without, strict=True):
            if empty:
                self.entries.append(Entry(name, not next(empties)))
            else:
                index, size = next(following)
                self.entries.append(Entry(name, False, index, size))

    # ── the bytes ──

    def _split(self, folder: _Folder) -> Iterator[Iterator[bytes]]:
        """The files of a folder, each to be read to its end before the next."""
        source = self._decoded(folder, whole=False)
        held = b""

        def one(size: int, crc: int | None) -> Iterator[bytes]:
            nonlocal held
            left, seen = size, 0
            while left:
                if not held:
                    held = next(source, b"")
                    if not held:
                        raise self._wrong(folder)
                piece, held = held[:left], held[left:]
                left -= len(piece)
                seen = zlib.crc32(piece, seen)
                yield piece
            if crc is not None and seen != crc:
                raise self._wrong(folder)

        for size, crc in folder.files:
            yield one(size, crc)

    def _decoded(self, folder: _Folder, *, whole: bool = True) -> Iterator[bytes]:
        """A folder's bytes; `whole`: held against the folder's checksum."""
        stream = self._raw(*folder.packed)
        try:
            for coder, size in zip(folder.coders, folder.sizes, strict=True):
                stream = self._undone(coder, stream, size)
            seen = 0
            for piece in stream:
                seen = zlib.crc32(piece, seen)
                yield piece
        except (lzma.LZMAError, EOFError) as error:
            raise self._wrong(folder) from error
        if whole and folder.crc is not None and seen != folder.crc:
            raise self._wrong(folder)

    @staticmethod
    def _wrong(folder: _Folder) -> Unreadable:
        """What does not come out right: a wrong password, or damage; nobody can tell them apart."""
        return Unreadable(
            "encrypted" if folder.encrypted else "malformed",
            "7z: expected bytes that fit their checksum, found others",
        )

    def _raw(self, at: int, size: int) -> Iterator[bytes]:
        while size:
            self._document.source.seek(at)
            data = read_exactly(self._document.source, min(size, _PIECE))
            if not data:
                raise _bad("a whole packed stream")
            at += len(data)
            size -= len(data)
            yield data

    def _undone(self, coder: _Coder, stream: Iterator[bytes], size: int) -> Iterator[bytes]:
        if coder.method == _COPY:
            return _cut_at(stream, size)
        if coder.method == _AES:
            return _cut_at(self._decrypted(coder.properties, stream), size)
        if coder.method in {_LZMA, _LZMA2}:
            return _expanded(_lzma_filter(coder), stream, size)
        raise _bad("a method that is opened here")

    def _decrypted(self, properties: bytes, stream: Iterator[bytes]) -> Iterator[bytes]:
        cycles, salt, vector = _aes_properties(properties)
        name = bytes([cycles]) + salt
        if name not in self._keys:
            self._keys[name] = _key(self._password, salt, cycles)
        decryptor = Cipher(algorithms.AES256(self._keys[name]), modes.CBC(vector)).decryptor()
        held = b""
        for piece in stream:
            held += piece
            usable = len(held) - len(held) % _BLOCK
            yield decryptor.update(held[:usable])
            held = held[usable:]


def _shape(cursor: _Cursor) -> tuple[list[_Coder], list[int]]:
    """The methods of a folder, and the order in which they are undone: each has one stream in and one out."""
    coders = []
    for _ in range(cursor.count(_MAX_CODERS)):
        flags = cursor.byte()
        method = cursor.take(flags & 0x0F)
        if flags & 0xD0:
            raise _bad("methods with one stream in and one out")
        properties = cursor.take(cursor.count(1024)) if flags & 0x20 else b""
        coders.append(_Coder(method, properties))
    if not coders:
        raise _bad("a method")
    feeds = {}  # whose output goes into whom
    for _ in range(len(coders) - 1):
        into, out = cursor.number(), cursor.number()
        feeds[out] = into
    first = [n for n in range(len(coders)) if n not in feeds.values()]
    order = first[:1]
    while order and order[-1] in feeds and len(order) < len(coders):
        order.append(feeds[order[-1]])
    if sorted(order) != list(range(len(coders))):
        raise _bad("one chain of methods")
    return coders, order


def _names(part: _Cursor, count: int) -> list[bytes]:
    if part.byte():
        raise _bad("names in the header itself")
    names = []
    for _ in range(count):
        name = bytearray()
        while (unit := part.take(2)) != b"\0\0":
            name += unit
        names.append(name.decode("utf-16-le", "replace").encode())
    return names


def _aes_properties(properties: bytes) -> tuple[int, bytes, bytes]:
    """Cycles, salt and vector (7zAes.cpp)."""
    cursor = _Cursor(properties)
    first = cursor.byte()
    salt = vector = b""
    if first & 0xC0:
        second = cursor.byte()
        salt = cursor.take((first >> 7 & 1) + (second >> 4))
        vector = cursor.take((first >> 6 & 1) + (second & 0x0F))
    cycles = first & 0x3F
    if cycles > _MAX_CYCLES:
        raise Unreadable("over_limit", "7z: expected a password that is checked in less time")
    return cycles, salt, vector.ljust(_BLOCK, b"\0")[:_BLOCK]


def _key(password: str, salt: bytes, cycles: int) -> bytes:
    digest = hashlib.sha256()
    secret = salt + password.encode("utf-16-le")
    step = min(1 << cycles, 4096)
    for start in range(0, 1 << cycles, step):
        digest.update(
            b"".join(secret + number.to_bytes(8, "little") for number in range(start, start + step))
        )
    return digest.digest()


def _lzma_filter(coder: _Coder) -> dict[str, int]:
    data = coder.properties
    if coder.method == _LZMA2:
        if len(data) != 1 or data[0] > 40:
            raise _bad("a dictionary size")
        size = 0xFFFFFFFF if data[0] == 40 else (2 | data[0] & 1) << (data[0] // 2 + 11)
        return {"id": lzma.FILTER_LZMA2, "dict_size": size}
    if len(data) != 5 or data[0] >= 9 * 5 * 5:
        raise _bad("properties of LZMA")
    rest, lc = divmod(data[0], 9)
    pb, lp = divmod(rest, 5)
    (size,) = struct.unpack_from("<I", data, 1)
    return {
        "id": lzma.FILTER_LZMA1,
        "dict_size": max(size, 4096),
        "lc": lc,
        "lp": lp,
        "pb": pb,
    }


def _expanded(method: dict[str, int], stream: Iterator[bytes], size: int) -> Iterator[bytes]:
    if method["dict_size"] > 512 * MIB:
        raise Unreadable("over_limit", "7z: expected a smaller dictionary")
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[method])
    except (ValueError, lzma.LZMAError) as error:
        raise _bad("properties of LZMA") from error
    left = size
    while left:
        data = b""
        if decoder.needs_input:
            data = next(stream, b"")
        piece = decoder.decompress(data, min(left, _PIECE))
        if not piece and not data and (decoder.eof or decoder.needs_input):
            raise EOFError
        left -= len(piece)
        if piece:
            yield piece
        if decoder.eof and left:
            raise EOFError


def _cut_at(stream: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The first bytes of a stream: what is encrypted is filled up to whole blocks."""
    for piece in stream:
        kept = piece[:size]
        size -= len(kept)
        if kept:
            yield kept
        if not size:
            return
    raise EOFError


class SevenZipStream:
    """The same view of such an archive as `archive_stream.ArchiveStream` gives of others."""

    unlocks = True

    def __init__(self, document: Document, password: str) -> None:
        """Raises as `SevenZip`."""
        self._archive = SevenZip(document, password)
        self._content: Iterator[bytes] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held open."""

    def __iter__(self) -> Iterator[Member]:
        for entry, content in self._archive.files():
            self._content = content
            yield Member(entry.name, "file", entry.size, self._archive.is_locked(entry), raw=False)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the present entry (raises Unreadable)."""
        return self._content
