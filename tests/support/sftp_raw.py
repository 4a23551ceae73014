"""SFTP packets by hand, over paramiko's channel: what a person is told stands in the status message."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import paramiko

from gateway.doors.sftp import protocol as p


@dataclass(frozen=True)
class Reply:
    """A reply: its type, and of a STATUS the code and the sentence; of others the body."""

    kind: int
    code: int = -1
    text: str = ""
    body: bytes = b""


class RawSftp:
    """One SFTP session: a request, its reply, nothing in between."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._request = 0
        channel.settimeout(30)
        channel.sendall(struct.pack(">IBI", 5, p.INIT, p.VERSION))
        self._receive()

    def _receive(self) -> bytes:
        (size,) = struct.unpack(">I", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._channel.recv(size - len(data))
            if not more:
                raise EOFError("the session ended")
            data += more
        return data

    def ask(self, kind: int, *fields: bytes | str | int) -> Reply:
        """Send one request; strings are length-prefixed, numbers are 32 bits, `raw` bytes as given."""
        self._request += 1
        body = struct.pack(">I", self._request)
        for field in fields:
            match field:
                case int():
                    body += struct.pack(">I", field)
                case str():
                    body += p.string(field.encode())
                case _:
                    body += field
        self._channel.sendall(p.packet(kind, body))
        packet = self._receive()
        fields_in = p.Reader(packet[1:])
        assert fields_in.u32() == self._request
        if packet[0] == p.STATUS:
            return Reply(p.STATUS, fields_in.u32(), fields_in.path())
        return Reply(packet[0], body=packet[5:])

    # ── what people do ──

    def open(self, path: str, flags: int = p.FLAG_READ, size: int | None = None) -> Reply:
        announced = struct.pack(">I", 0) if size is None else struct.pack(">IQ", p.ATTR_SIZE, size)
        return self.ask(p.OPEN, path, flags, announced)

    def create(self, path: str, size: int | None = None) -> Reply:
        return self.open(path, p.FLAG_WRITE | p.FLAG_CREATE | p.FLAG_TRUNCATE, size)

    def write(self, opened: Reply, offset: int, data: bytes) -> Reply:
        return self.ask(p.WRITE, self.handle(opened), struct.pack(">Q", offset), p.string(data))

    def close(self, opened: Reply) -> Reply:
        return self.ask(p.CLOSE, self.handle(opened))

    def handle(self, opened: Reply) -> bytes:
        assert opened.kind == p.HANDLE, opened
        return opened.body

    def put(self, path: str, data: bytes) -> Reply:
        """Send a whole file; returns the reply to CLOSE."""
        opened = self.create(path)
        written = self.write(opened, 0, data)
        assert written.code == p.OK, written
        return self.close(opened)

    def names(self, path: str) -> list[str]:
        opened = self.ask(p.OPENDIR, path)
        found: list[str] = []
        while (reply := self.ask(p.READDIR, self.handle(opened))).kind == p.NAME:
            fields = p.Reader(reply.body)
            for _ in range(fields.u32()):
                found.append(fields.path())
                fields.path()
                fields.size_attribute()
        self.close(opened)
        return found

    def statvfs(self, path: str) -> dict[str, int]:
        reply = self.ask(p.EXTENDED, "statvfs@openssh.com", path)
        assert reply.kind == p.EXTENDED_REPLY, reply
        names = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail")
        return dict(zip(names, struct.unpack(">8Q", reply.body[:64]), strict=True))


@contextlib.contextmanager
def raw_sftp(port: int, user: str, key: paramiko.PKey) -> Iterator[RawSftp]:
    """A session of an account with a key."""
    transport = paramiko.Transport(("127.0.0.1", port))
    try:
        transport.connect(username=user, pkey=key)
        channel = transport.open_session()
        channel.invoke_subsystem("sftp")
        yield RawSftp(channel)
    finally:
        transport.close()


__all__ = ["RawSftp", "Reply", "raw_sftp"]
