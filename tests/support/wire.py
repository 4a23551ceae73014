"""A door and an inspector that speak the wire protocol themselves: real messages, descriptors, seals.

They stand in for paramiko and the jail where a test is about the core. Everything the core checks
(login signatures, sealed bytes, digests, verdicts) is done for real.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from gateway.core.login import ssh_keys
from gateway.core.login.accounts import login_statement
from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan.yara import RuleSet
from gateway.inspect.worker import WireParts
from gateway.wire.channel import Channel
from gateway.wire.messages import (
    Abandon,
    AdminCall,
    AuthenticateKey,
    BeginUpload,
    Challenge,
    Claim,
    Commit,
    Greet,
    Greeting,
    OpenRead,
    SignExchange,
    Work,
)
from gateway.wire.signed_act import NAMESPACE, act_statement
from vault.crypto import sshsig
from vault.crypto.sealed import SealedReader, SealedWriter, document_context


def private_key(path: Path):
    return load_ssh_private_key(path.read_bytes(), password=None)


def transcript(greeting: Greeting, cookie: bytes = b"") -> bytes:
    """What is hashed of a key exchange of a door that was greeted so (RFC 8731, section 3)."""
    host_key = next(key.blob for key in greeting.host_keys if key.algorithm == "ssh-ed25519")
    init = b"\x14" + (cookie or greeting.cookie) + bytes(45)
    parts = [b"SSH-2.0-x", b"SSH-2.0-y", b"\x14" + os.urandom(61), init, host_key]
    parts += [os.urandom(32) for _ in range(3)]
    return b"".join(ssh_keys.string(part) for part in parts)


class Door:
    """One logged-in connection of the sftp door."""

    def __init__(self, socket_path: Path, user: str, key_path: Path) -> None:
        self.channel = Channel.connect(socket_path, timeout=60)
        greeting, _ = self.channel.call(Greet("127.0.0.1"))
        exchange = transcript(greeting)
        session_id = hashlib.sha256(exchange).digest()
        self.channel.call(SignExchange(exchange, "ssh-ed25519"))
        key = private_key(key_path)
        line = sshsig.public_line(key)
        blob = base64.b64decode(line.split()[1])
        statement = login_statement(session_id, user, "ssh-ed25519", blob)
        signature = ssh_keys.string(b"ssh-ed25519") + ssh_keys.string(key.sign(statement))
        result, _ = self.channel.call(AuthenticateKey(user, "ssh-ed25519", blob, signature))
        assert result.outcome == "granted", result

    def begin(self, path: str, *, resume: bool = False):
        reply, descriptors = self.channel.call(BeginUpload(path, resume))
        return reply, descriptors[0]

    def upload(self, path: str, data: bytes) -> str:
        """Send a document; returns its id once the core has acknowledged it."""
        reply, descriptor = self.begin(path)
        try:
            writer = SealedWriter(descriptor, reply.key, document_context(reply.document_id))
            writer.write(data)
            size = writer.finish()
            self.channel.call(Commit(reply.document_id, size, hashlib.sha256(data).digest()))
        finally:
            os.close(descriptor)
        return reply.document_id

    def abandon(self, document_id: str, *, keep: bool) -> None:
        self.channel.call(Abandon(document_id, keep))

    def read(self, path: str) -> bytes:
        reply, descriptors = self.channel.call(OpenRead(path))
        if reply.key is None:
            try:
                return os.pread(descriptors[0], reply.size, 0)
            finally:
                os.close(descriptors[0])
        context = document_context(reply.document_id)
        with SealedReader(descriptors[0], reply.key, context, close_fd=True) as reader:
            return reader.readall()

    def close(self) -> None:
        self.channel.close()


_RULES: list[RuleSet] = []


def inspect_one(socket_path: Path) -> Work | None:
    """Claim one document, really inspect it (without the jail), deliver the verdict."""
    if not _RULES:
        _RULES.append(RuleSet.load(None))
    channel = Channel.connect(socket_path, timeout=60)
    try:
        work, descriptors = channel.call(Claim())
        if not isinstance(work, Work):
            return None
        with SealedReader(
            descriptors[0], work.key, document_context(work.document_id), close_fd=True
        ) as reader:
            document = Document(
                work.document_id,
                reader,
                reader.size,
                work.name,
                work.channel,
                work.depth,
            )
            if work.mode == "fixity":
                verdict = inspection.measure(document)
            else:
                verdict = inspection.inspect(
                    document, Limits(), WireParts(channel), rules=_RULES[0], clamd=None
                )
        channel.call(verdict)
        return work
    finally:
        channel.close()


class Admin:
    """The command line's side of the admin socket."""

    def __init__(self, socket_path: Path, demo: Path) -> None:
        self._path = socket_path
        self._demo = demo

    def call(self, act: str, *, by: str = "", **arguments):
        """Perform an act; `by` signs it with that account's demo key."""
        channel = Channel.connect(self._path, timeout=120)
        try:
            if not by:
                return channel.call(AdminCall(act, arguments))[0].data
            nonce = channel.call(Challenge())[0].nonce
            statement = act_statement(act, arguments, by, nonce)
            signature = sshsig.sign(private_key(self._demo / by), statement, NAMESPACE)
            return channel.call(AdminCall(act, arguments, by, statement, signature))[0].data
        finally:
            channel.close()

    def approve(self, batch: str, officer: str, decision: str = "approve"):
        """Sign a batch's statement with the officer's own key."""
        text = self.call("disposal.statement", id=batch, account=officer, decision=decision)
        signature = sshsig.sign(
            private_key(self._demo / officer), text["statement"].encode(), text["namespace"]
        )
        return self.call(
            "disposal.decide", id=batch, account=officer, decision=decision, signature=signature
        )


def until(condition, seconds: float = 30.0, every: float = 0.05):
    """Wait for a condition to give something true; returns it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"expected it within {seconds} s: {condition}")
        time.sleep(every)
    return value
