"""Open files of the door: an upload that seals and hashes as bytes arrive, a download that opens as asked.

Promises: an upload is written once, in order. Clients send writes ahead of the answers, sometimes out of
order: what comes early waits in a bounded window. A write into what is sealed already is refused, because
one chunk index is sealed once; only an upload that was resumed and then starts at its first byte begins
anew, under a new key. One that continues a finished file of a temporary name seals that file's bytes anew
first. A whole document takes no more bytes: opened without truncation it can only be sent again, all of it.
Nothing is committed but by `close`: a connection that ends leaves a partial upload.
Leaves out: names and folders, which are the core's.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Final, NoReturn

from gateway.doors.sftp.protocol import MAX_READ
from gateway.errors import GatewayError, Refusal
from gateway.process.free_space import Floor
from gateway.wire.channel import Channel
from gateway.wire.messages import (
    Abandon,
    BeginUpload,
    Commit,
    Done,
    Keep,
    Kept,
    Predecessor,
    Readable,
    Writable,
)
from vault.crypto.digest import StreamDigest
from vault.crypto.sealed import SealedReader, SealedWriter, document_context
from vault.errors import StorageFull, VaultError

WINDOW: Final = 8 * 1024 * 1024  # bytes that may wait for the bytes before them
COPY: Final = 256 * 1024  # bytes sealed anew at a time
FULL: Final = "The gateway has no room left for this file. Nothing of it was kept."
WHOLE: Final = "This file was received whole; nothing can be added to it or changed in it."
WAITS: Final = "Kept under a temporary name; it is handed in when it is renamed."


@dataclass(frozen=True)
class Ahead:
    """A document that the core began when it was asked about a path where there was nothing."""

    path: str
    begun: Writable
    descriptor: int
    since: float  # time.monotonic()


class Upload:
    """A document being received."""

    def __init__(
        self,
        core: Channel,
        path: str,
        path_bytes: bytes = b"",
        *,
        resume: bool,
        append: bool,
        limit: int,
        size: int | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        """`resume`: go on with what is there; `append`: offsets count for nothing, bytes are added.

        `path_bytes`: the path as sent, where that was not UTF-8. `limit`: bytes the door takes; the core may
        allow fewer. `size`: bytes the client announced. `ahead`: what the core has begun for it already.
        """
        self._core = core
        self.path = path
        self._path_bytes = path_bytes
        self._most = limit
        self._announced = size
        self._append = append
        self._shift: int | None = None  # from the offsets of one who appends to ours
        self._truncated = False
        self._early: dict[int, bytes] = {}
        self._early_size = 0
        self._failed: GatewayError | VaultError | None = None
        self._descriptor = -1
        if ahead is not None:
            self._start(ahead.begun, ahead.descriptor)
        else:
            self._begin(resume=resume)

    def _begin(self, *, resume: bool) -> None:
        reply, descriptors = self._core.call(
            BeginUpload(self.path, resume, self._announced, self._path_bytes)
        )
        assert isinstance(reply, Writable)
        self._start(reply, descriptors[0])

    def _start(self, reply: Writable, descriptor: int) -> None:
        self._document_id = reply.document_id
        self._descriptor = descriptor
        self._hash = StreamDigest()
        self._resumed = reply.resumed_size
        self._position = reply.resumed_size
        self._replaces = reply.replaces
        self._floor = Floor(self._descriptor, reply.floor)
        self._limit = self._most
        self._too_large = f"A file here may have at most {self._most} bytes."
        if reply.room is not None and reply.room < self._most:
            self._limit, self._too_large = reply.room, reply.too_large
        if self._append and self._replaces is not None:
            self.abandon(keep=False)
            raise Refusal("denied", WHOLE)
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
        if reply.continues is not None:
            self._copy(reply.continues)

    def _copy(self, size: int) -> None:
        """Copy the file that this upload continues, sealed under our own key."""
        try:
            former, descriptors = self._core.call(Predecessor(self._document_id))
            assert isinstance(former, Readable)
            download = Download(former, descriptors[0])
            try:
                while data := download.read(self._position, COPY):
                    self._floor.take(len(data))
                    self._writer.write(data)
                    self._hash.update(data)
                    self._position += len(data)
            finally:
                download.close()
        except StorageFull as error:
            self.abandon(keep=False)
            raise Refusal("full", "The gateway has no room left to continue this file.") from error
        except (GatewayError, VaultError):
            self.abandon(keep=False)
            raise
        if self._position != size:
            self.abandon(keep=False)
            raise Refusal("failed", "The upload to be continued is not what it was; send it anew.")
        self._resumed = size

    @property
    def size(self) -> int:
        """The file's size as a client that writes into it would see it, in bytes."""
        if self._replaces is not None and not self._truncated:
            return max(self._position, self._replaces)
        return self._position

    def truncate(self, size: int) -> bool:
        """Whether the file may end at `size`: at its present end, or at the end of the received bytes."""
        if size == self._position:
            self._truncated = True
        return size == self.size

    def write(self, offset: int, data: memoryview) -> None:
        """Take bytes at an offset.

        Raises:
            Refusal: out of order beyond the window, into what is sealed, too large, or no room.
        """
        if self._failed is not None:
            raise self._failed
        if self._append:
            if self._shift is None:
                self._shift = self._position - offset
            offset += self._shift
            if offset < 0:
                self._fail(Refusal("invalid", "These bytes come out of order."))
        if self._replaces is not None and self._position == 0 and offset > 0:
            self._fail(Refusal("denied", WHOLE))
        if offset + len(data) > self._limit:
            self._fail(Refusal("invalid", self._too_large))
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
            self._floor.take(len(data))
            self._writer.write(data)
        except StorageFull as error:
            self._fail(Refusal("full", FULL), error)
        except VaultError as error:
            self._fail(error, error)
        self._hash.update(data)
        self._position += len(data)

    def _fail(self, failure: GatewayError | VaultError, cause: Exception | None = None) -> NoReturn:
        """Give the upload up: nothing of it is kept, and every later call fails alike."""
        self._failed = failure
        self.abandon(keep=False)
        raise failure from cause

    def sync(self) -> str:
        """Put what was received on disk, as far as whole chunks go; returns what can be said of it.

        Raises:
            Refusal, VaultError: it failed, and with it the upload: a failed sync is final.
        """
        if self._failed is not None:
            raise self._failed
        try:
            self._writer.flush()
            reply, _ = self._core.call(Keep(self._document_id))
        except StorageFull as error:
            self._fail(Refusal("full", FULL), error)
        except (Refusal, VaultError) as error:
            self._fail(error, error)
        assert isinstance(reply, Kept)
        left = self._position + self._early_size - reply.size
        if not left:
            return ""
        return f"{reply.size} bytes are on disk; {left} wait for more or for the end of the file."

    def close(self) -> str:
        """Commit: on return the document is durable; returns what else is to be said.

        Raises:
            Refusal, VaultError: nothing was committed.
        """
        if self._failed is not None:
            raise self._failed
        if self._replaces is not None and not self._truncated:
            if self._position == 0:
                self.abandon(keep=False)  # opened and closed: nothing was changed
                return ""
            if self._position < self._replaces:
                self._fail(Refusal("denied", "A part of a file can't be replaced; send all of it."))
        if self._early:
            self._fail(Refusal("failed", "A part of this file is missing; send it again."))
        try:
            size = self._writer.finish()
        except StorageFull as error:
            self._fail(Refusal("full", FULL), error)
        except VaultError as error:
            self._fail(error, error)
        try:
            reply, _ = self._core.call(Commit(self._document_id, size, self._hash.digest()))
        finally:
            self._release()
        return WAITS if isinstance(reply, Kept) else reply.said if isinstance(reply, Done) else ""

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
        self._hash.close()
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

    def close(self) -> str:
        """Close it; there is nothing to tell the client."""
        os.close(self._descriptor)
        return ""
