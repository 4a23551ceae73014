"""Sealed blobs: C2SP chunked-encryption v1 with AES-256-GCM and SHA-512, streamed and seekable.

Promises: `SealedReader` yields exactly the bytes that `SealedWriter` was given, or raises
IntegrityError; it never yields a byte it has not authenticated, and it knows the true size from
the moment it is open. A file cut, extended, reordered, mixed with another, or read with another
key or context does not pass. Memory does not depend on the size of the document.

Leaves out: durability (`vault.storage.blobs` syncs and publishes), where keys come from, and
concurrency: a writer or reader belongs to one thread, a file has one writer.

Rules:
1. The format is https://c2sp.org/chunked-encryption (FORMAT.md, section 2):
   salt (24) || commitment (32) || chunks. Each chunk holds 16384 bytes of plaintext and a tag,
   the last one always fewer, so a file that ends on a chunk boundary is an unfinished file.
2. One chunk index is sealed once per key. Two plaintexts under one nonce break AES-GCM. Hence a
   chunk is sealed only when it is full or final, the writer counts up before it seals, and after
   `finish` or any failure it seals nothing more. A file whose last chunk is torn cannot be
   resumed: that index has been sealed and part of it may have reached the disk.
3. All positions are explicit (pread, pwrite): descriptors come from other processes and share
   their file offset with them.
4. Decryption goes into a buffer of the reader's own; only after the tag is checked is anything
   copied out.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from vault.crypto.buffers import untouched
from vault.crypto.chunk_window import BATCH, Window, read_header
from vault.crypto.chunked import (
    CHUNK,
    HEADER,
    KEY,
    MAX_CHUNKS,
    SALT,
    SEALED_CHUNK,
    TAG,
    ChunkCipher,
    derive,
    derive_checked,
    document_context,
    open_bytes,
    plain_size,
    seal_bytes,
    sealed_size,
    whole_chunks,
)
from vault.errors import IntegrityError, VaultError
from vault.storage.durable import write_all

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# The format's own names belong to this module's interface as well.
__all__ = [
    "CHUNK",
    "HEADER",
    "KEY",
    "TAG",
    "SealedReader",
    "SealedWriter",
    "document_context",
    "open_bytes",
    "plain_size",
    "seal_bytes",
    "sealed_size",
    "whole_chunks",
]

Bytes: TypeAlias = bytes | bytearray | memoryview

DIRECT: Final = 4  # whole chunks that a reader's buffer must take to be decrypted straight into it


class SealedWriter:
    """Seals a stream into a file, chunk by chunk.

    Misuse (a file that is not empty, a write after `finish`) raises RuntimeError. After a failed
    write every later call raises that failure again. Nothing here syncs: a blob is durable when
    the blob store has published it.
    """

    def __init__(self, fd: int, key: bytes, context: bytes) -> None:
        """Write the header into the empty file `fd`, which stays the caller's to close.

        Raises:
            StorageFull, StorageFailed: it can't be written.
            RuntimeError: the file is not empty, or the key is not 32 bytes.
        """
        if os.fstat(fd).st_size:
            raise RuntimeError("sealed writer: expected an empty file, found bytes in it")
        salt = secrets.token_bytes(SALT)
        cipher, commitment = derive(key, salt, context)
        self._prepare(fd, cipher, chunks=0)
        write_all(fd, [salt + commitment], 0, "sealed file")

    @classmethod
    def resume(
        cls,
        fd: int,
        key: bytes,
        context: bytes,
        on_existing: Callable[[memoryview], None] | None = None,
    ) -> SealedWriter:
        """Continue an interrupted file that ends exactly on a chunk boundary.

        Every chunk already there is decrypted and verified first; `on_existing` is given the
        plaintext in order, so that the caller can hash it. The view is valid during the call only.

        Raises:
            IntegrityError: `header`, `commitment` or `chunk` for damage; `length` if the file is finished
                or torn, and then only a new key may start it again from the first byte.
        """
        length = os.fstat(fd).st_size
        chunks = whole_chunks(length)
        if chunks is None:
            raise IntegrityError(
                f"interrupted sealed file: expected whole chunks only, found {length} bytes",
                kind="header" if length < HEADER else "length",
            )
        cipher = derive_checked(key, read_header(fd), context)
        window = Window(fd, cipher, chunks * CHUNK)
        for first in range(0, chunks, BATCH):
            view = window.load(first, min(BATCH, chunks - first))
            if on_existing is not None:
                on_existing(view)
        writer = cls.__new__(cls)
        writer._prepare(fd, cipher, chunks)
        return writer

    def _prepare(self, fd: int, cipher: ChunkCipher, chunks: int) -> None:
        self._fd = fd
        self._cipher = cipher
        self._next = chunks
        self._offset = HEADER + chunks * SEALED_CHUNK
        self._plain = untouched(CHUNK)
        self._held = 0
        self._out = untouched(BATCH * SEALED_CHUNK)
        self._filled = 0
        self._accepted = chunks * CHUNK
        self._finished = False
        self._failure: BaseException | None = None

    @property
    def plain_written(self) -> int:
        """Bytes of plaintext accepted so far, those of a resumed file included."""
        return self._accepted

    @property
    def resumable_size(self) -> int:
        """Bytes of plaintext in whole chunks handed to the operating system; see `flush`."""
        return (self._offset - HEADER) // SEALED_CHUNK * CHUNK

    def write(self, data: Bytes) -> None:
        """Accept `data`, in pieces of any size. Whole chunks are sealed and written in batches.

        Raises:
            StorageFull, StorageFailed: it can't be written.
            VaultError: it would be more than 4 PiB.
            RuntimeError: after `finish`.
        """
        self._require_usable()
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            if self._held:
                taken = min(CHUNK - self._held, size)
                self._plain[self._held : self._held + taken] = rest[:taken]
                self._held += taken
                rest = rest[taken:]
                if self._held == CHUNK:
                    self._seal(self._plain)
                    self._held = 0
            while len(rest) >= CHUNK:
                self._seal(rest[:CHUNK])
                rest = rest[CHUNK:]
            if len(rest):
                self._plain[: len(rest)] = rest
                self._held = len(rest)
        except BaseException as error:
            self._failure = error
            raise
        self._accepted += size

    def flush(self) -> None:
        """Write every whole chunk; at most 16383 bytes of plaintext then wait in memory.

        What waits is not sealed: a resumed writer gets those bytes again and seals them once.
        """
        self._require_usable()
        try:
            self._drain()
        except BaseException as error:
            self._failure = error
            raise

    def finish(self) -> int:
        """Seal and write the final short chunk; return the plaintext size in bytes.

        The writer is then spent.

        Raises:
            StorageFull, StorageFailed, VaultError, RuntimeError: as `write`.
        """
        self._require_usable()
        try:
            self._seal(self._plain[: self._held])
            self._drain()
        except BaseException as error:
            self._failure = error
            raise
        self._finished = True
        return self._accepted

    def _require_usable(self) -> None:
        if self._finished:
            raise RuntimeError("sealed writer: expected no call after finish, found one")
        if isinstance(self._failure, VaultError):
            raise self._failure
        if self._failure is not None:
            raise RuntimeError(
                "sealed writer: expected no call after an interrupted one, found one"
            ) from self._failure

    def _seal(self, plain: memoryview) -> None:
        index = self._next
        if index >= MAX_CHUNKS:
            raise VaultError(f"sealed file: expected at most {MAX_CHUNKS} chunks, found one more")
        # Counted before it is sealed: whatever happens now, this index is used up (rule 2).
        self._next = index + 1
        end = self._filled + len(plain) + TAG
        self._cipher.seal_into(index, plain, self._out[self._filled : end])
        self._filled = end
        if end == len(self._out):
            self._drain()

    def _drain(self) -> None:
        if self._filled:
            self._offset = write_all(
                self._fd, [self._out[: self._filled]], self._offset, "sealed file"
            )
            self._filled = 0


class SealedReader(io.RawIOBase):
    """A sealed file as a read-only, seekable binary file.

    Opening checks the length, the commitment and the final chunk, so `size` is authentic. Every
    read raises IntegrityError rather than give out a byte that does not verify; after that the
    reader may still be used for other parts. It keeps the chunks it read last (at most 256 KiB).
    """

    def __init__(self, fd: int, key: bytes, context: bytes, *, close_fd: bool = False) -> None:
        """Open the finished sealed file `fd`.

        Args:
            close_fd: hand the descriptor over once the reader exists; if this raises, it is still the
                caller's.

        Raises:
            IntegrityError: it was changed, or is bound to something else.
            StorageFailed: reading fails.
            RuntimeError: a key that is not 32 bytes.
        """
        super().__init__()
        self._close_fd = False
        self._fd = fd
        self._position = 0
        self.size: int = plain_size(os.fstat(fd).st_size)
        cipher = derive_checked(key, read_header(fd), context)
        self._chunks = self.size // CHUNK + 1
        self._window = Window(fd, cipher, self.size)
        self._window.load(self._chunks - 1, 1)
        self._close_fd = close_fd

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer, or none, only at the end.

        Decrypts no more than the chunks the range touches.

        Raises:
            IntegrityError, StorageFailed: it was changed, or can't be read.
            RuntimeError: negative arguments.
        """
        self._require_open()
        if offset < 0 or length < 0:
            raise RuntimeError("sealed reader: expected offset and length of zero or more")
        end = min(offset + length, self.size)
        pieces: list[bytes] = []
        while offset < end:
            view = self._view(offset, end)
            pieces.append(bytes(view))
            offset += len(view)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def verify(self) -> None:
        """Read and authenticate every chunk (raises IntegrityError, StorageFailed)."""
        self._require_open()
        for first in range(0, self._chunks, BATCH):
            self._window.load(first, min(BATCH, self._chunks - first))

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill `buffer` as far as the file goes; return the number of bytes (0 at the end).

        If it raises, what it had put into `buffer` is overwritten with zeros.
        """
        self._require_open()
        target = memoryview(buffer).cast("B")
        end = min(self._position + len(target), self.size)
        done = 0
        while self._position < end:
            first, within = divmod(self._position, CHUNK)
            whole = (end - self._position) // CHUNK
            if not within and whole >= DIRECT and not self._holds(self._position):
                # Whole chunks into a large buffer: straight there, without a copy in between.
                count = min(whole, BATCH)
                part = target[done : done + count * CHUNK]
                try:
                    self._window.open_into(first, count, part)
                except BaseException:
                    target[: done + len(part)] = bytes(done + len(part))
                    raise
                done += len(part)
                self._position += len(part)
                continue
            view = self._view(self._position, end)
            target[done : done + len(view)] = view
            done += len(view)
            self._position += len(view)
        return done

    def readall(self) -> bytes:
        """Everything from the position to the end."""
        data = self.read_at(self._position, max(self.size - self._position, 0))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; beyond the end is allowed and reads nothing there.

        Raises:
            OSError: EINVAL for a position before the start, as of a file: zipfile and others rely on it.
        """
        self._require_open()
        if whence == os.SEEK_SET:
            position = offset
        elif whence == os.SEEK_CUR:
            position = self._position + offset
        elif whence == os.SEEK_END:
            position = self.size + offset
        else:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def tell(self) -> int:
        """The position in bytes of plaintext."""
        self._require_open()
        return self._position

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def close(self) -> None:
        """Close the reader, and the descriptor if `close_fd` was given. May be called again."""
        if not self.closed and self._close_fd:
            self._close_fd = False
            os.close(self._fd)
        super().close()

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("sealed reader: expected an open reader, found a closed one")

    def _holds(self, offset: int) -> bool:
        return self._window.start <= offset < self._window.end

    def _view(self, offset: int, end: int) -> memoryview:
        """Authenticated bytes from `offset`, at least one and none beyond `end`."""
        window = self._window
        if not self._holds(offset):
            first, last = offset // CHUNK, (end - 1) // CHUNK
            window.load(first, min(last - first + 1, BATCH))
        return window.plain[offset - window.start : min(end, window.end) - window.start]
