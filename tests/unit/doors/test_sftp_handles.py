"""A handle that was never given, or was closed, is refused by every request that takes one."""

from __future__ import annotations

import struct

import pytest

from gateway.doors.sftp import protocol as p
from gateway.doors.sftp.session import SftpSession


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


NO_ATTRIBUTES = struct.pack(">I", 0)
SIZE_ZERO = struct.pack(">IQ", 1, 0)
TIMES = struct.pack(">III", 8, 1, 1)
NONE = text(b"7")
REQUESTS = {
    "close": (p.CLOSE, NONE),
    "read": (p.READ, NONE + struct.pack(">QI", 0, 10)),
    "write": (p.WRITE, NONE + struct.pack(">Q", 0) + text(b"x")),
    "fstat": (p.FSTAT, NONE),
    "fsetstat": (p.FSETSTAT, NONE + NO_ATTRIBUTES),
    "fsetstat-times": (p.FSETSTAT, NONE + TIMES),
    "fsetstat-size": (p.FSETSTAT, NONE + SIZE_ZERO),
    "readdir": (p.READDIR, NONE),
    "fsync": (p.EXTENDED, text(b"fsync@openssh.com") + NONE),
    "fstatvfs": (p.EXTENDED, text(b"fstatvfs@openssh.com") + NONE),
}


@pytest.mark.parametrize("name", list(REQUESTS))
def test_an_unknown_handle_is_refused_with_a_sentence(name: str) -> None:
    session = SftpSession(None, 10**9)  # nothing of it gets as far as the core
    session.answer(memoryview(bytes([p.INIT]) + struct.pack(">I", 3)))
    kind, body = REQUESTS[name]
    reply = bytes(session.answer(memoryview(bytes([kind]) + struct.pack(">I", 1) + body)))
    assert struct.unpack(">BII", reply[4:13]) == (p.STATUS, 1, p.FAILURE)
    assert b"There is no such handle." in reply
