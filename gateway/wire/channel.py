"""Messages over unix stream sockets, each with its length before it and descriptors beside it.

Promises: one request, one reply, in order. Both ends check a frame's length against what the socket's
messages may take (`MAX_FRAME`, `REQUEST_LIMITS`) before they allocate. The core waits for the rest of a
frame no longer than `FRAME_SECONDS`, so a role's process that was taken over can't fill the core's memory
with beginnings.
Leaves out: what a message means (`messages`). Nothing is tried again: a connection that failed is closed,
and whatever was not answered has not happened as far as its asker may know.

Rules:
    - A frame is `length u32 | descriptors u8 | msgpack` (big-endian). Descriptors are attached to its
      first byte.
    - The core takes no descriptors from anyone: it receives without asking for them, and the kernel drops
      them.
    - `Channel` blocks (the sftp door, inspectors, the command line); `AsyncChannel` is its twin on an
      event loop (the mail door). The core's end is `gateway.core.server`.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.errors import Disconnected, Refusal, WireError
from gateway.wire.messages import REQUESTS, Message, Refused, Reply, Role

HEADER: Final = struct.Struct(">IB")
MAX_FRAME: Final = 8 * 1024 * 1024  # a page of a listing or a certificate, with room to spare
# Requests of roles that handle bytes of unknown senders are small: paths, digests, the facts of a verdict.
REQUEST_LIMITS: Final[dict[Role, int]] = {
    "sftp": 128 * 1024,
    "smtp": 256 * 1024,
    "inspect": 1024 * 1024,
    "courier": MAX_FRAME,
    "resolver": 256 * 1024,
    "mailbox": 256 * 1024,
    "admin": MAX_FRAME,
}
FRAME_SECONDS: Final = 30.0
MAX_DESCRIPTORS: Final = 1  # every reply that carries one carries exactly one
RECEIVE: Final = 256 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decode_reply = msgspec.msgpack.Decoder(Reply).decode
REQUEST_DECODERS: Final[dict[Role, msgspec.msgpack.Decoder[Any]]] = {
    role: msgspec.msgpack.Decoder(union) for role, union in REQUESTS.items()
}


def as_frame(message: Message, descriptors: int) -> bytes:
    """A message as it is sent, with so many descriptors (raises WireError)."""
    body = _encode(message)
    if len(body) > MAX_FRAME:
        raise WireError(
            f"{type(message).__name__}: expected at most {MAX_FRAME} bytes, found {len(body)}"
        )
    return HEADER.pack(len(body), descriptors) + body


def _take_descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """Unpack SCM_RIGHTS messages into descriptors."""
    taken = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            taken.frombytes(data[: len(data) - len(data) % taken.itemsize])
    return list(taken)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


class Assembler:
    """Cuts frames from received bytes and pairs each with its descriptors. No I/O."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._descriptors: list[int] = []

    @property
    def begun(self) -> bool:
        """Whether a frame has begun and is not whole."""
        return bool(self._buffer)

    def feed(self, data: bytes, descriptors: Sequence[int]) -> None:
        self._buffer += data
        self._descriptors.extend(descriptors)
        if len(self._descriptors) > MAX_DESCRIPTORS * 2:
            self.close()
            raise WireError("frame: expected at most one descriptor, found more")

    def next(self) -> tuple[bytes, list[int]] | None:
        if len(self._buffer) < HEADER.size:
            return None
        length, count = HEADER.unpack_from(self._buffer)
        if length > self._limit or count > MAX_DESCRIPTORS:
            raise WireError(f"frame: expected at most {self._limit} bytes, found {length}")
        if len(self._buffer) < HEADER.size + length:
            return None
        body = bytes(memoryview(self._buffer)[HEADER.size : HEADER.size + length])
        del self._buffer[: HEADER.size + length]
        if len(self._descriptors) < count:
            raise WireError(f"frame: expected {count} descriptors, found {len(self._descriptors)}")
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return body, taken

    def close(self) -> None:
        _close_all(self._descriptors)
        self._descriptors = []


def _reply(body: bytes) -> Any:
    try:
        return _decode_reply(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"reply: expected a message of the protocol, found {error}") from error


def unwrap(reply: Any) -> Any:
    """Turn a `Refused` reply into a raised `Refusal`; return anything else."""
    if isinstance(reply, Refused):
        raise Refusal(reply.code, reply.message)
    return reply


class Channel:
    """A blocking connection to the core; safe to use from several threads, one call at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._assembler = Assembler()
        self._lock = threading.Lock()
        self._broken = False

    @classmethod
    def connect(cls, path: Path, timeout: float | None = None) -> Channel:
        """Connect to a socket of the core.

        Raises:
            Disconnected: nobody listens at `path`.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            raise Disconnected(
                f"{path}: expected the core listening, found {error.strerror}"
            ) from error
        return cls(connection)

    def fileno(self) -> int:
        return self._socket.fileno()

    def settimeout(self, timeout: float | None) -> None:
        """How long a call may wait, in seconds; None: as long as it takes."""
        self._socket.settimeout(timeout)

    def call(self, request: Message) -> tuple[Any, list[int]]:
        """Send a request and wait for its reply.

        Returns:
            The reply (never a `Refused`) and the descriptors that came with it, now the caller's.

        Raises:
            Refusal: the core refused. Disconnected, WireError: the connection is of no further use.
        """
        with self._lock:
            if self._broken:
                raise Disconnected("core: expected an open connection, found it closed")
            self._broken = True  # until the reply is whole: a half-read reply poisons the stream
            try:
                self._socket.sendall(as_frame(request, 0))
                body, descriptors = self._receive()
            except OSError as error:
                raise Disconnected(f"core: expected a reply, found {error}") from error
            self._broken = False
        reply = _reply(body)
        if isinstance(reply, Refused):
            _close_all(descriptors)
        return unwrap(reply), descriptors

    def _receive(self) -> tuple[bytes, list[int]]:
        while (frame := self._assembler.next()) is None:
            data, ancillary, _flags, _address = self._socket.recvmsg(
                RECEIVE, socket.CMSG_SPACE(4 * MAX_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
            )
            if not data:
                raise Disconnected("core: expected a reply, found the connection closed")
            self._assembler.feed(data, _take_descriptors(ancillary))
        return frame

    def close(self) -> None:
        self._broken = True
        self._assembler.close()
        self._socket.close()


class AsyncChannel:
    """The same on an event loop: the mail door's."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._assembler = Assembler()
        self._lock = asyncio.Lock()

    @classmethod
    async def connect(cls, path: Path) -> AsyncChannel:
        """Connect to a socket of the core (raises Disconnected)."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, str(path))
        except OSError as error:
            connection.close()
            raise Disconnected(
                f"{path}: expected the core listening, found {error.strerror}"
            ) from error
        return cls(connection)

    async def _reply(self) -> tuple[bytes, list[int]]:
        """The next frame's body and descriptors (raises Disconnected, WireError)."""
        loop = asyncio.get_running_loop()
        while (frame := self._assembler.next()) is None:
            try:
                data, descriptors = await self._receive_with_descriptors(loop)
            except OSError as error:
                raise Disconnected(f"peer: expected a message, found {error.strerror}") from error
            if not data:
                raise Disconnected("peer: expected a message, found the connection closed")
            self._assembler.feed(data, descriptors)
        return frame

    async def _receive_with_descriptors(
        self, loop: asyncio.AbstractEventLoop
    ) -> tuple[bytes, list[int]]:
        while True:
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(
                    RECEIVE, socket.CMSG_SPACE(4 * MAX_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                await until_ready(loop, self._socket.fileno(), reading=True)
                continue
            return data, _take_descriptors(ancillary)

    async def _send(self, message: Message) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._socket, as_frame(message, 0))
        except OSError as error:
            raise Disconnected(f"peer: expected to be read from, found {error.strerror}") from error

    async def call(self, request: Message) -> tuple[Any, list[int]]:
        """Like `Channel.call`."""
        async with self._lock:
            await self._send(request)
            body, descriptors = await self._reply()
        reply = _reply(body)
        if isinstance(reply, Refused):
            _close_all(descriptors)
        return unwrap(reply), descriptors

    def gone(self) -> bool:
        """Whether the core has ended the connection."""
        return peer_has_gone(self._socket)

    def close(self) -> None:
        self._assembler.close()
        self._socket.close()


def peer_credentials(connection: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the process at the other end, from the kernel (SO_PEERCRED)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("iII", raw)
    return pid, uid, gid


def peer_has_gone(connection: socket.socket) -> bool:
    """Whether the peer has ended a connection that does not block; nothing is taken of what it sent."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


async def until_ready(loop: asyncio.AbstractEventLoop, fileno: int, *, reading: bool) -> None:
    """Wait until a descriptor can be read from or written to."""
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    add, remove = (
        (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
    )
    add(fileno, wake)
    try:
        await future
    finally:
        remove(fileno)
