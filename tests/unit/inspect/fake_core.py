"""The core's end of the inspectors' socket, as far as inspectors can tell it from the real one.

Enforces the protocol: requests are decoded as the `inspect` union, a verdict ends the claim, a part
is committed only after its sealed bytes authenticate to the size and digest it was committed with.
"""

from __future__ import annotations

import hashlib
import os
import queue
import secrets
import socket
import threading

import msgspec

from gateway.wire.channel import HEADER, REQUEST_DECODERS
from gateway.wire.messages import (
    Abandon,
    BeginPart,
    Claim,
    Commit,
    Done,
    NoWork,
    Refused,
    Verdict,
    Work,
    Writable,
)
from vault.crypto.sealed import SealedReader, SealedWriter, document_context


def seal(document_id, data):
    """A sealed memory file of `data`: (descriptor, key)."""
    key = secrets.token_bytes(32)
    descriptor = os.memfd_create("sealed")
    writer = SealedWriter(descriptor, key, document_context(document_id))
    writer.write(data)
    writer.finish()
    return descriptor, key


class FakeCore:
    """Serves `Work` for what `offer` puts in; collects verdicts and parts."""

    def __init__(self, path):
        self.path = path
        self.work = queue.Queue()
        self.verdicts = queue.Queue()
        self.lost = queue.Queue()  # documents whose connection broke before a verdict
        self.parts = {}
        self.abandoned = []
        self.answer_parts = True
        self.refuse_parts = False
        self.keep_parts = True
        self.errors = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._closed = False
        self._threads = []
        threading.Thread(target=self._accept, daemon=True).start()

    def offer(
        self,
        document_id,
        data,
        *,
        name="name",
        channel="sftp",
        depth=0,
        attempt=1,
        clamd="",
        mode="inspect",
        damage=None,
        passwords=(),
    ):
        descriptor, key = seal(document_id, data)
        if damage is not None:
            byte = os.pread(descriptor, 1, damage)
            os.pwrite(descriptor, bytes([byte[0] ^ 1]), damage)
        work = Work(mode, document_id, key, len(data), name, channel, depth, attempt, clamd)
        work = msgspec.structs.replace(work, passwords=list(passwords))
        self.work.put((work, descriptor))

    def close(self):
        self._closed = True
        self._listener.close()

    def _accept(self):
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        current = None
        begun = {}
        try:
            while True:
                request = self._receive(connection)
                if request is None:
                    break
                descriptors = []
                if isinstance(request, Claim):
                    assert current is None, "one document per connection"
                    try:
                        reply, descriptor = self.work.get(timeout=0.3)
                        current, descriptors = reply, [descriptor]
                    except queue.Empty:
                        reply = NoWork()
                elif isinstance(request, BeginPart):
                    assert current is not None
                    if not self.answer_parts:
                        connection.recv(1)  # until the other end is gone
                        break
                    if self.refuse_parts:
                        reply = Refused("full", "no room")
                    else:
                        part_id, key = secrets.token_hex(8), secrets.token_bytes(32)
                        descriptors = [os.memfd_create("part")]
                        begun[part_id] = (request.name, key, os.dup(descriptors[0]))
                        reply = Writable(part_id, key)
                elif isinstance(request, Commit):
                    name, key, descriptor = begun.pop(request.document_id)
                    context = document_context(request.document_id)
                    with SealedReader(descriptor, key, context, close_fd=True) as reader:
                        content = reader.read()
                    assert len(content) == request.size
                    assert hashlib.sha256(content).digest() == request.sha256
                    self.parts[request.document_id] = (name, content if self.keep_parts else b"")
                    reply = Done()
                elif isinstance(request, Abandon):
                    self.abandoned.append(begun.pop(request.document_id)[0])
                    reply = Done()
                elif isinstance(request, Verdict):
                    assert request.document_id == current.document_id
                    assert not begun, "a part was neither committed nor abandoned"
                    self.verdicts.put(request)
                    current = None
                    reply = Done()
                body = msgspec.msgpack.encode(reply)
                socket.send_fds(
                    connection, [HEADER.pack(len(body), len(descriptors)) + body], descriptors
                )
                for descriptor in descriptors:
                    os.close(descriptor)
        except (OSError, AssertionError, KeyError) as error:
            self.errors.append(error)
        finally:
            connection.close()
            if current is not None:
                self.lost.put(current.document_id)

    @staticmethod
    def _receive(connection):
        head = b""
        while len(head) < HEADER.size:
            data = connection.recv(HEADER.size - len(head))
            if not data:
                return None
            head += data
        length, _ = HEADER.unpack(head)
        body = b""
        while len(body) < length:
            body += connection.recv(length - len(body))
        return REQUEST_DECODERS["inspect"].decode(body)
