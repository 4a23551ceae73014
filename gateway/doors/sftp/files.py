"""Open files of the door: an upload that seals and hashes as bytes arrive, a download that opens as asked.

An upload is written once, in order. Clients send writes ahead of the answers, sometimes out of order: what
comes early waits in a bounded window. A write into what is sealed already is refused, because one chunk
index is sealed once; only an upload that was resumed and then starts at its first byte begins anew, under
a new key. Nothing is committed but by `close`: a connection that ends leaves a partial upload.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Final

from gateway.doors.sftp.protocol import MAX_READ
from gateway.errors import GatewayError, Refusal
from gateway.wire.channel import Channel
from gateway.wire.messages import Abandon, BeginUpload, Commit, Readable, Writable
from vault.errors import StorageFull, VaultError
from vault.sealed import SealedReader, SealedWriter, document_context

WINDOW: Final = 8 * 1024 * 1024  # bytes that may wait for the bytes before them


class Upload:
    """A document being received."""

    def __init__(self, core: Channel, path: str, *, resume: bool, limit: int) -> None:
        self._core = core
        self._path = path
        self._limit = limit
        self._early: dict[int, bytes] = {}
        self._early_size = 0
        self._failed: GatewayError | VaultError | None = None
        self._descriptor = -1
        self._begin(resume=resume)

    def _begin(self, *, resume: bool) -> None:
        reply, descriptors = self._core.call(BeginUpload(self._path, resume))
        assert isinstance(reply, Writable)
        self._document_id = reply.document_id
        self._descriptor = descriptors[0]
        self._hash = hashlib.sha256()
        self._resumed = reply.resumed_size
        context = document_context(reply.document_id)
        try:
            if reply.resumed_size:
                self._writer = SealedWriter.resume(
                    self._descriptor, reply.key, context, on_existing=self._hash.update
                )
            else:
                self._writer = SealedWriter(self._descriptor, reply.key, context)
        except VaultError:
            self.abandon(keep=False)
            raise
        if self._writer.plain_written != reply.resumed_size:
            self.abandon(keep=False)
            raise Refusal("failed", "The interrupted upload is not what it was; send it anew.")
        self._position = reply.resumed_size

    @property
    def size(self) -> int:
        """Plaintext bytes received in order so far."""
        return self._position

    def write(self, offset: int, data: memoryview) -> None:
        """Take bytes at an offset.

        Raises:
            Refusal: out of order beyond the window, into what is sealed, too large, or no room.
        """
        if self._failed is not None:
            raise self._failed
        if offset + len(data) > self._limit:
            self._fail(Refusal("invalid", f"A file here may have at most {self._limit} bytes."))
        if self._resumed and offset == 0 and self._position == self._resumed and not self._early:
            # The client starts over: nothing sealed under the old key is written again.
            self.abandon(keep=False)
            self._begin(resume=False)
        if offset < self._position:
            self._fail(
                Refusal("unsupported", "What was received is sealed and can't be written again.")
            )
        if offset > self._position:
            if self._early_size + len(data) > WINDOW or offset in self._early:
                self._fail(
                    Refusal(
                        "unsupported", "Files are received from beginning to end, not in pieces."
                    )
                )
            self._early[offset] = bytes(data)
            self._early_size += len(data)
            return
        self._take(data)
        while self._early and (waiting := self._early.pop(self._position, None)) is not None:
            self._early_size -= len(waiting)
            self._take(memoryview(waiting))

    def _take(self, data: memoryview) -> None:
        try:
            self._writer.write(data)
        except StorageFull as error:
            self._fail(
                Refusal(
                    "full", "The gateway has no room left for this file. Nothing of it was kept."
                ),
                error,
            )
        except VaultError as error:
            self._fail(error, error)
        self._hash.update(data)
        self._position += len(data)

    def _fail(self, failure: GatewayError | VaultError, cause: Exception | None = None) -> None:
        """Nothing of this upload will be kept; every later call says so too."""
        self._failed = failure
        self.abandon(keep=False)
        raise failure from cause

    def close(self) -> None:
        """Commit: on return the document is durable (raises Refusal, VaultError)."""
        if self._failed is not None:
            raise self._failed
        if self._early:
            self._fail(Refusal("failed", "A part of this file is missing; send it again."))
        try:
            size = self._writer.finish()
        except StorageFull as error:
            self._fail(
                Refusal(
                    "full", "The gateway has no room left for this file. Nothing of it was kept."
                ),
                error,
            )
        except VaultError as error:
            self._fail(error, error)
        try:
            self._core.call(Commit(self._document_id, size, self._hash.digest()))
        finally:
            self._release()

    def abandon(self, *, keep: bool) -> None:
        """Give the upload up; `keep` leaves whole chunks for a resume."""
        if self._descriptor < 0:
            return
        if keep:
            try:
                self._writer.flush()
            except VaultError:
                keep = False
        with contextlib.suppress(GatewayError):
            self._core.call(Abandon(self._document_id, keep))
        self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Download:
    """A file being read: a sealed document, or plain bytes the core made."""

    def __init__(self, reply: Readable, descriptor: int) -> None:
        self._descriptor = descriptor
        self._reader: SealedReader | None = None
        self.size = reply.size
        if reply.key is not None and reply.document_id is not None:
            try:
                self._reader = SealedReader(
                    descriptor, reply.key, document_context(reply.document_id)
                )
            except VaultError:
                os.close(descriptor)
                raise
            self.size = self._reader.size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from an offset; empty at the end (raises VaultError if they do not authenticate)."""
        length = min(length, MAX_READ, max(0, self.size - offset))
        if length == 0:
            return b""
        if self._reader is not None:
            return self._reader.read_at(offset, length)
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        os.close(self._descriptor)
