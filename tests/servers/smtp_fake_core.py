"""The core's end of the mail door's socket, as far as the door can tell it from the real one.

Enforces the protocol: requests are decoded as the `smtp` union; a message may be begun only for recipients
accepted on the same connection, for one client; a commit is answered Done only if the sealed file
authenticates and has exactly the size and digest announced. What was not committed when its connection
ends is recorded as dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import threading
import time

import msgspec

from gateway.wire.channel import HEADER, REQUEST_DECODERS
from gateway.wire.messages import (
    Abandon,
    BeginMail,
    CommitMail,
    Done,
    MailRecipient,
    MailStored,
    RecipientAnswer,
    Refused,
    Writable,
)
from vault.crypto.sealed import SealedReader, document_context
from vault.errors import VaultError

CLIENTS = {"yunhe": "client-1", "lantern": "client-2"}
ALLOWED_SENDERS = {"ap@yunhe.example", "库房@yunhe.example"}


class Stored:
    """A committed message: its envelope and a reader over the sealed bytes."""

    def __init__(self, envelope, descriptor, key, document_id, size):
        self.sender, self.recipients, self.peer, self.helo = envelope
        self.descriptor, self.key, self.document_id, self.size = descriptor, key, document_id, size

    @property
    def content(self):
        with SealedReader(self.descriptor, self.key, document_context(self.document_id)) as reader:
            return reader.read()


class FakeCore:
    """Serves a socket; `stored`, `dropped` and `begun` say what became of messages."""

    def __init__(self, path, folder):
        self.path = path
        self.folder = folder
        self.stored = []
        self.begun = []
        self.dropped = []
        self.abandoned = []
        self.refuse_begin = None  # a Refused to answer BeginMail with
        self.refuse_commit = None
        self.stored_as = None  # a MailStored to answer CommitMail with
        self.commit_delay = 0.0
        self.floor = 0  # free space that must stay on the disk
        self.descriptor_limit = None  # hand out descriptors that can hold this much
        self.errors = []
        self._connections = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def kill(self):
        """Go away as a killed process does: listener and every connection at once."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def wait_for(self, what, timeout=10.0):
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline, "the core never saw what was waited for"
            time.sleep(0.01)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        accepted, open_documents = {}, {}
        try:
            while (body := _read(connection)) is not None:
                request = REQUEST_DECODERS["smtp"].decode(body)
                self._answer(connection, request, accepted, open_documents)
        except OSError:
            pass
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.dropped.extend(open_documents)
            for _, descriptor, _ in open_documents.values():
                os.close(descriptor)
            connection.close()
            self._connections.discard(connection)

    def _answer(self, connection, request, accepted, open_documents):
        match request:
            case MailRecipient():
                slug = request.recipient.partition("@")[0].partition("+")[0]
                if slug not in CLIENTS or request.sender not in ALLOWED_SENDERS:
                    reply = RecipientAnswer(550, "5.7.1 No client of that name takes documents")
                else:
                    accepted[request.sender, request.recipient] = CLIENTS[slug]
                    reply = RecipientAnswer(250, "2.1.5 Recipient accepted", CLIENTS[slug])
                _send(connection, reply)
            case BeginMail():
                owners = {accepted.get((request.sender, to)) for to in request.recipients}
                if self.refuse_begin is not None:
                    _send(connection, self.refuse_begin)
                elif len(owners) != 1 or None in owners:
                    _send(connection, Refused("denied", "recipients not accepted here"))
                else:
                    document_id, key = secrets.token_hex(16), secrets.token_bytes(32)
                    path = self.folder / document_id
                    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                    envelope = (request.sender, request.recipients, request.peer, request.helo)
                    open_documents[document_id] = (envelope, descriptor, key)
                    self.begun.append(document_id)
                    handed = descriptor
                    if self.descriptor_limit is not None:
                        handed = os.open("/dev/full", os.O_RDWR)
                    _send(connection, Writable(document_id, key, floor=self.floor), handed)
            case CommitMail():
                envelope, descriptor, key = open_documents.pop(request.document_id)
                time.sleep(self.commit_delay)
                if self.refuse_commit is not None:
                    _send(connection, self.refuse_commit)
                    return
                digest = hashlib.sha256()
                try:
                    context = document_context(request.document_id)
                    with SealedReader(descriptor, key, context) as reader:
                        size = reader.size
                        while chunk := reader.read(1 << 20):
                            digest.update(chunk)
                except VaultError as error:
                    self.errors.append(error)
                    _send(connection, Refused("failed", "not whole"))
                    return
                if size != request.size or digest.digest() != request.sha256:
                    self.errors.append(AssertionError("announced size or digest differ"))
                    _send(connection, Refused("failed", "not what was announced"))
                    return
                stored = Stored(envelope, descriptor, key, request.document_id, size)
                self.stored.append(stored)
                stored.message_id, stored.content_digest = request.message_id, request.content
                _send(connection, self.stored_as or MailStored(request.document_id))
            case Abandon():
                _, descriptor, _ = open_documents.pop(request.document_id)
                os.close(descriptor)
                self.abandoned.append(request.document_id)
                _send(connection, Done())


def _read(connection):
    header = _exactly(connection, HEADER.size)
    if header is None:
        return None
    length, _ = HEADER.unpack(header)
    return _exactly(connection, length)


def _exactly(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return data


def _send(connection, message, descriptor=None):
    body = msgspec.msgpack.encode(message)
    frame = HEADER.pack(len(body), descriptor is not None) + body
    if descriptor is None:
        connection.sendall(frame)
    else:
        socket.send_fds(connection, [frame], [descriptor])
