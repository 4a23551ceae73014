"""Runs of chunks of a sealed file, read and opened: what the reader and a resumed writer share.

Promises: nothing is held that was not authenticated.
Leaves out: which chunks are wanted (`sealed`), and the cipher (`chunked`).
"""

from __future__ import annotations

import os
from typing import Final, NoReturn

from vault.crypto.buffers import untouched
from vault.crypto.chunked import (
    CHUNK,
    HEADER,
    SEALED_CHUNK,
    TAG,
    ChunkCipher,
    open_run,
)
from vault.errors import IntegrityError
from vault.storage.durable import storage_error

BATCH: Final = 16
"""Chunks per system call: 256 KiB of plaintext, beyond which larger calls gain nothing."""


class Window:
    """A run of consecutive chunks of a file, decrypted and authenticated.

    `plain` holds the plaintext bytes `start` to `end` of the file; while nothing is held, both
    are zero.
    """

    def __init__(self, fd: int, cipher: ChunkCipher, size: int) -> None:
        """`size`: bytes of plaintext in the file, or in the whole chunks of an unfinished one."""
        self._fd = fd
        self._cipher = cipher
        self._size = size
        room = min(BATCH, size // CHUNK + 1)
        self._sealed = untouched(room * SEALED_CHUNK)
        self._plain = untouched(room * CHUNK)
        self.start = self.end = 0
        self.plain = self._plain[:0]

    def load(self, first: int, count: int) -> memoryview:
        """Read, decrypt and authenticate `count` (up to BATCH) chunks from number `first`."""
        start = first * CHUNK
        end = min(start + count * CHUNK, self._size)
        sealed = self._sealed[: end - start + count * TAG]
        plain = self._plain[: end - start]
        # Until all of it is verified nothing is held, whatever the buffer may contain.
        self.start = self.end = 0
        self.plain = self._plain[:0]
        _read_exactly(self._fd, sealed, HEADER + first * SEALED_CHUNK)
        open_run(self._cipher, first, sealed, plain)
        self.start, self.end, self.plain = start, end, plain
        return plain

    def open_into(self, first: int, count: int, target: memoryview) -> None:
        """Decrypt and authenticate `count` whole chunks (up to BATCH) from number `first` into `target`.

        If it raises, `target` may hold bytes that were not verified: the caller's to wipe.
        """
        sealed = self._sealed[: count * SEALED_CHUNK]
        _read_exactly(self._fd, sealed, HEADER + first * SEALED_CHUNK)
        open_run(self._cipher, first, sealed, target)


def read_header(fd: int) -> bytes:
    """The header of a sealed file (raises IntegrityError, StorageFailed)."""
    header = bytearray(HEADER)
    _read_exactly(fd, memoryview(header), 0)
    return bytes(header)


def _read_exactly(fd: int, target: memoryview, offset: int) -> None:
    while len(target):
        try:
            count = os.preadv(fd, [target], offset)
        except OSError as error:
            _fail_read(error)
        if count == 0:
            raise IntegrityError(
                f"sealed file: expected bytes at {offset}, found the end of the file",
                kind="truncated",
            )
        target = target[count:]
        offset += count


def _fail_read(error: OSError) -> NoReturn:
    raise storage_error(error, "read", "sealed file") from error
