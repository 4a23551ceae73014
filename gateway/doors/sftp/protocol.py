"""SFTP version 3 on bytes (draft-ietf-secsh-filexfer-02, as OpenSSH speaks it): no I/O.

Promises: `Reader` takes fields out of a packet strictly; the `pack_*` functions make replies. Numbers are
big-endian, strings are length-prefixed bytes; names are UTF-8. Programs that send their system's encoding
instead are understood (`gateway.names.decode_name`): the same bytes always give the same name.
Leaves out: what is answered to a request (`session`).
"""

from __future__ import annotations

import stat
import struct
import time
from collections.abc import Iterable
from typing import Final

from gateway.errors import GatewayError
from gateway.names import decode_name, safe_name
from gateway.wire.messages import PATH_BYTES, Entry, Room
from vault.crypto.buffers import untouched

VERSION: Final = 3
MAX_PACKET: Final = 256 * 1024 + 1024  # what OpenSSH's server takes
MAX_READ: Final = 255 * 1024
MAX_WRITE: Final = 255 * 1024

INIT, VERSION_REPLY = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = 3, 4, 5, 6, 7, 8, 9, 10
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT = 11, 12, 13, 14, 15, 16, 17
RENAME, READLINK, SYMLINK = 18, 19, 20
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
EXTENDED, EXTENDED_REPLY = 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = 0, 1, 2, 3, 4, 5
OP_UNSUPPORTED: Final = 8

FLAG_READ, FLAG_WRITE, FLAG_APPEND, FLAG_CREATE, FLAG_TRUNCATE, FLAG_EXCLUSIVE = 1, 2, 4, 8, 16, 32

ATTR_SIZE, ATTR_UIDGID, ATTR_PERMISSIONS, ATTR_TIMES = 1, 2, 4, 8
ATTR_EXTENDED: Final = 0x80000000

EXTENSIONS: Final = (
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
)
BLOCK: Final = 4096  # in which statvfs counts
NAME_MAX: Final = 255
NO_SETUID: Final = 2  # f_flag of statvfs: SSH_FXE_STATVFS_ST_NOSUID


def _decoded(name: bytes) -> str:
    text = decode_name(name)
    # A longer encoding must not make a name too long that was not.
    return text if text.encode() == name else safe_name(text)


class PacketError(GatewayError):
    """A packet that is not what its type says."""


class Reader:
    """Takes fields from a packet."""

    def __init__(self, data: memoryview | bytes) -> None:
        self._data = memoryview(data)
        self._position = 0

    def _take(self, size: int) -> memoryview:
        end = self._position + size
        if end > len(self._data):
            raise PacketError(
                f"packet: expected {size} more bytes, found {len(self._data) - self._position}"
            )
        part = self._data[self._position : end]
        self._position = end
        return part

    def u32(self) -> int:
        return int(struct.unpack(">I", self._take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack(">Q", self._take(8))[0])

    def raw(self) -> memoryview:
        """A string, not copied."""
        return self._take(self.u32())

    def string(self) -> bytes:
        return bytes(self.raw())

    def path(self) -> str:
        """A path as text."""
        return self.path_as_sent()[0]

    def path_as_sent(self) -> tuple[str, bytes]:
        """A path as text, and its bytes where they are not that text in UTF-8 (else none)."""
        raw = self.string()
        if len(raw) > PATH_BYTES:
            return raw.decode("latin-1"), b""  # the core refuses it for its length
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        if text and text.isascii():
            return text, b""
        text = "/".join(_decoded(name) for name in raw.split(b"/"))
        return text, b"" if text.encode() == raw else raw

    def size_attribute(self) -> int | None:
        """The size in an attribute block, if it sets one; everything else in it is passed over."""
        flags = self.u32()
        size = self.u64() if flags & ATTR_SIZE else None
        if flags & ATTR_UIDGID:
            self._take(8)
        if flags & ATTR_PERMISSIONS:
            self._take(4)
        if flags & ATTR_TIMES:
            self._take(8)
        if flags & ATTR_EXTENDED:
            for _ in range(min(self.u32(), 64)):
                self.raw()
                self.raw()
        return size


def string(data: bytes) -> bytes:
    """A length-prefixed string."""
    return struct.pack(">I", len(data)) + data


def packet(kind: int, body: bytes) -> bytes:
    """A whole packet with its length."""
    return struct.pack(">IB", len(body) + 1, kind) + body


def pack_version() -> bytes:
    """The server's VERSION packet, with what is implemented and no more."""
    body = struct.pack(">I", VERSION)
    return packet(VERSION_REPLY, body + b"".join(string(n) + string(v) for n, v in EXTENSIONS))


def pack_status(request: int, code: int, message: str) -> bytes:
    """A STATUS reply with its sentence."""
    text = message.encode("utf-8", "replace")
    return packet(STATUS, struct.pack(">II", request, code) + string(text) + string(b"en"))


def pack_handle(request: int, handle: bytes) -> bytes:
    return packet(HANDLE, struct.pack(">I", request) + string(handle))


def pack_data(request: int, data: bytes) -> bytes:
    header = struct.pack(">IBII", len(data) + 9, DATA, request, len(data))
    return header + data


def attributes(entry: Entry) -> bytes:
    """An attribute block: size, owner (none), mode, times."""
    flags = ATTR_SIZE | ATTR_UIDGID | ATTR_PERMISSIONS | ATTR_TIMES
    modified = max(0, min(entry.modified, 0xFFFFFFFF))
    return struct.pack(
        ">IQIIIII", flags, entry.size, 0, 0, entry.mode & 0xFFFFFFFF, modified, modified
    )


def pack_attributes(request: int, entry: Entry) -> bytes:
    return packet(ATTRS, struct.pack(">I", request) + attributes(entry))


def long_name(entry: Entry) -> str:
    """A line as `ls -l` prints it, which clients show as it is."""
    when = time.strftime("%b %d %Y", time.gmtime(max(0, entry.modified)))
    return (
        f"{stat.filemode(entry.mode)}    1 0        0        {entry.size:>12} {when} {entry.name}"
    )


def pack_names(request: int, entries: Iterable[Entry]) -> bytes:
    listed = list(entries)
    body = [struct.pack(">II", request, len(listed))]
    for entry in listed:
        name = entry.name.encode()
        shown = long_name(entry).encode()
        body += [string(name), string(shown), attributes(entry)]
    return packet(NAME, b"".join(body))


def pack_path(request: int, path: str) -> bytes:
    """The NAME reply of REALPATH: one name, no attributes."""
    name = string(path.encode())
    return packet(NAME, struct.pack(">II", request, 1) + name + name + struct.pack(">I", 0))


def pack_limits(request: int, handles: int) -> bytes:
    """The reply to limits@openssh.com."""
    body = struct.pack(">IQQQQ", request, MAX_PACKET, MAX_READ, MAX_WRITE, handles)
    return packet(EXTENDED_REPLY, body)


def pack_room(request: int, room: Room) -> bytes:
    """The reply to statvfs@openssh.com (OpenSSH PROTOCOL, section 4.6), in blocks of `BLOCK` bytes."""
    free = room.free // BLOCK
    body = struct.pack(
        ">I11Q",
        request, BLOCK, BLOCK, room.total // BLOCK, free, free,
        room.files, room.files_free, room.files_free, 0, NO_SETUID, NAME_MAX,
    )  # fmt: skip
    return packet(EXTENDED_REPLY, body)


class Assembler:
    """Cuts whole packets out of received bytes, without copying them again."""

    def __init__(self, capacity: int = 2 * (MAX_PACKET + 4)) -> None:
        """`capacity`: bytes it can hold, at least one packet of `MAX_PACKET` and its length."""
        self._buffer = untouched(capacity)
        self._start = self._end = 0

    @property
    def held(self) -> int:
        """Bytes that were fed and not yet taken."""
        return self._end - self._start

    def feed(self, data: memoryview | bytes) -> None:
        """Add bytes. Packets taken before are no longer valid.

        Raises:
            RuntimeError: there is no room for them.
        """
        if self._end + len(data) > len(self._buffer):
            held = self.held
            self._buffer[:held] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, held
        end = self._end + len(data)
        if end > len(self._buffer):
            raise RuntimeError(f"packets: expected at most {len(self._buffer)} bytes, found {end}")
        self._buffer[self._end : end] = data
        self._end = end

    def next(self) -> memoryview | None:
        """The next packet (type and body) that is whole, valid until more is fed; None: not yet.

        Raises:
            PacketError: it is empty or longer than `MAX_PACKET`.
        """
        held = self._end - self._start
        if held < 4:
            return None
        (length,) = struct.unpack_from(">I", self._buffer, self._start)
        if not 1 <= length <= MAX_PACKET:
            raise PacketError(f"packet: expected 1 to {MAX_PACKET} bytes, found {length}")
        if held - 4 < length:
            return None
        begin = self._start + 4
        self._start = begin + length
        packet = self._buffer[begin : self._start]
        if self._start == self._end:
            self._start = self._end = 0
        return packet
