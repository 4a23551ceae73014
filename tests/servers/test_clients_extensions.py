"""SFTP extensions over the wire: what VERSION advertises is what is implemented, and the limits are true."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import paramiko
import pytest

from gateway.doors.sftp import protocol as p

STATUS_UNSUPPORTED = p.OP_UNSUPPORTED

# Known from other servers and clients; none is implemented here, each for a reason (docs/clients.md).
OTHERS = (
    b"hardlink@openssh.com",
    b"copy-data",
    b"expand-path@openssh.com",
    b"home-directory",
    b"users-groups-by-id@openssh.com",
    b"check-file",
    b"check-file-name",
    b"md5-hash",
    b"space-available",
    b"vendor-id",
    b"filename-charset",
    b"nothing@example.com",
    b"",
    b"posix-rename@openssh.com\0",
)


class Wire:
    """One SFTP channel, packet by packet."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._channel = transport.open_session()
        self._channel.settimeout(30)
        self._channel.invoke_subsystem("sftp")
        self._request = 0
        kind, body = self.exchange(p.INIT, struct.pack(">I", 3), counted=False)
        assert kind == p.VERSION_REPLY
        self.version = body

    def exchange(self, kind: int, body: bytes, *, counted: bool = True) -> tuple[int, bytes]:
        """Send a packet; returns the reply's type and body, without the number of the request."""
        if counted:
            self._request += 1
            body = struct.pack(">I", self._request) + body
        self._channel.sendall(p.packet(kind, body))
        (length,) = struct.unpack(">I", self._read(4))
        reply = self._read(length)
        if counted:
            assert struct.unpack_from(">I", reply, 1) == (self._request,)
            return reply[0], reply[5:]
        return reply[0], reply[1:]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._channel.recv(size - len(data))
            assert part, "the session ended"
            data += part
        return data

    def extensions(self) -> dict[bytes, bytes]:
        """What the VERSION packet advertises."""
        fields = p.Reader(self.version)
        assert fields.u32() == 3
        found = {}
        left = len(self.version) - 4
        while left:
            name, value = fields.string(), fields.string()
            found[name] = value
            left -= 8 + len(name) + len(value)
        return found

    def extended(self, name: bytes, body: bytes = b"") -> tuple[int, bytes]:
        return self.exchange(p.EXTENDED, p.string(name) + body)

    def open(self, path: bytes, flags: int) -> bytes:
        kind, body = self.exchange(p.OPEN, p.string(path) + struct.pack(">II", flags, 0))
        assert kind == p.HANDLE, body
        return p.Reader(body).string()

    def status(self, kind: int, body: bytes) -> tuple[int, str]:
        assert kind == p.STATUS
        fields = p.Reader(body)
        return fields.u32(), fields.path()


WRITE_NEW = p.FLAG_WRITE | p.FLAG_CREATE | p.FLAG_TRUNCATE


@pytest.fixture(scope="module")
def gateway(shared_gateway):
    return shared_gateway


@pytest.fixture
def wire(gateway) -> Iterator[Wire]:
    with gateway.paramiko() as client:
        yield Wire(client.get_channel().get_transport())


def asked_rightly(wire: Wire) -> dict[bytes, bytes]:
    """For each extension that is implemented the arguments of a request that succeeds."""
    for path in (b"/inbox/one.part", b"/inbox/two"):
        handle = wire.open(path, WRITE_NEW)
        wire.exchange(p.WRITE, p.string(handle) + struct.pack(">Q", 0) + p.string(b"bytes"))
        assert wire.status(*wire.exchange(p.CLOSE, p.string(handle)))[0] == p.OK
    handle = wire.open(b"/inbox/three", WRITE_NEW)
    return {
        b"posix-rename@openssh.com": p.string(b"/inbox/one.part") + p.string(b"/inbox/one"),
        b"statvfs@openssh.com": p.string(b"/inbox"),
        b"fstatvfs@openssh.com": p.string(handle),
        b"fsync@openssh.com": p.string(handle),
        b"lsetstat@openssh.com": p.string(b"/inbox/two") + struct.pack(">III", 8, 1, 1),
        b"limits@openssh.com": b"",
    }


def test_what_is_advertised_is_implemented_and_nothing_else_is(wire):
    """Each advertised extension does what it is asked; what is not advertised is "unsupported"."""
    advertised = wire.extensions()
    rightly = asked_rightly(wire)
    assert set(advertised) == set(rightly)
    for name, body in rightly.items():
        kind, reply = wire.extended(name, body)
        if kind == p.STATUS:
            code, sentence = wire.status(kind, reply)
            assert code == p.OK, (name, sentence)
        else:
            assert kind == p.EXTENDED_REPLY, name
    for name in OTHERS:
        code, sentence = wire.status(*wire.extended(name, p.string(b"/inbox") * 4))
        assert code == STATUS_UNSUPPORTED, name
        assert sentence == "This gateway does not know this request."


def test_an_extension_asked_wrongly_is_refused_and_the_session_goes_on(wire):
    """Cut short, for a path or handle that is not there, for a handle of another kind."""
    for name in wire.extensions():
        if name == b"limits@openssh.com":
            continue
        for body in (b"", b"\0\0\0\5ab", b"\xff" * 8):
            code, sentence = wire.status(*wire.extended(name, body))
            assert code in {p.BAD_MESSAGE, p.FAILURE}, (name, body)
            assert sentence
    for name, body, expected in [
        (b"posix-rename@openssh.com", p.string(b"/inbox/none") + p.string(b"/inbox/x"), 2),
        (b"statvfs@openssh.com", p.string(b"/none"), 2),
        (b"lsetstat@openssh.com", p.string(b"/none") + bytes(4), 2),
        (b"fsync@openssh.com", p.string(b"77"), p.FAILURE),
        (b"fstatvfs@openssh.com", p.string(b"77"), p.FAILURE),
    ]:
        code, sentence = wire.status(*wire.extended(name, body))
        assert (code, bool(sentence)) == (expected, True), name
    kind, body = wire.exchange(p.OPENDIR, p.string(b"/inbox"))
    assert kind == p.HANDLE
    code, _ = wire.status(*wire.extended(b"fsync@openssh.com", body))
    assert code == p.FAILURE


def test_the_limits_that_are_told_are_those_that_hold(wire):
    """One write and one read as long as allowed, as many handles as allowed, and not one more."""
    kind, body = wire.extended(b"limits@openssh.com")
    assert kind == p.EXTENDED_REPLY
    packet, read, write, handles = struct.unpack(">QQQQ", body)
    handle = wire.open(b"/inbox/limits.bin", WRITE_NEW)
    head = p.string(handle) + struct.pack(">Q", 0)
    assert len(head) + 4 + write + 5 <= packet
    assert wire.status(*wire.exchange(p.WRITE, head + p.string(b"x" * write)))[0] == p.OK
    assert wire.status(*wire.exchange(p.CLOSE, p.string(handle)))[0] == p.OK
    assert read <= packet
    opened = []
    for _ in range(handles):
        kind, body = wire.exchange(p.OPENDIR, p.string(b"/inbox"))
        assert kind == p.HANDLE
        opened.append(body)
    code, sentence = wire.status(*wire.exchange(p.OPENDIR, p.string(b"/inbox")))
    assert code == p.FAILURE
    assert str(handles) in sentence
    for body in opened:
        assert wire.status(*wire.exchange(p.CLOSE, body))[0] == p.OK


def test_a_read_as_long_as_allowed_is_answered_whole(gateway, wire):
    kind, body = wire.extended(b"limits@openssh.com")
    _, longest, _, _ = struct.unpack(">QQQQ", body)
    with gateway.paramiko() as client, client.open("/inbox/longest.bin", "wb") as remote:
        remote.write(b"y" * (longest + 10))
    gateway.file_received()
    with gateway.paramiko("accountant") as client:
        other = Wire(client.get_channel().get_transport())
        handle = other.open(b"/clients/acme/2025/invoice/longest.bin", p.FLAG_READ)
        for asked in (longest, longest + 10):  # beyond it, a short read is what the protocol allows
            kind, body = other.exchange(p.READ, p.string(handle) + struct.pack(">QI", 0, asked))
            assert (kind, len(p.Reader(body).raw())) == (p.DATA, longest)
