"""SHA-256 of a stream, computed in a thread beside the one that moves the bytes.

Promises: the digest of exactly the bytes given, in order. Short streams are hashed where they are; from
`THRESHOLD` bytes on a thread does it, so that hashing and sealing share the time and not the processor.
At most `DEPTH` pieces wait: memory does not depend on the stream.

Leaves out: other algorithms. SHA-256 is what the ledger commits to and what people compare.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from typing import Final, TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview

PIECE: Final = 256 * 1024
"""Bytes handed over at a time: fewer, and waking the thread costs more than the hashing."""
THRESHOLD: Final = 1024 * 1024
"""Bytes from which on a thread is worth its start."""
DEPTH: Final = 8
"""Pieces that may wait for the thread."""


class StreamDigest:
    """A running SHA-256. Not for several threads; `close` ends what a stream given up has begun."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._held: list[bytes] = []
        self._waiting = 0
        self._queue: queue.Queue[list[bytes] | None] = queue.Queue(DEPTH)
        self._thread: threading.Thread | None = None

    def update(self, data: Bytes) -> None:
        """Add bytes; what could change is copied, so the caller may reuse its buffer."""
        self._size += len(data)
        if self._thread is None:
            self._hash.update(data)
            if self._size >= THRESHOLD:
                self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
                self._thread.start()
            return
        self._held.append(bytes(data))
        self._waiting += len(data)
        if self._waiting >= PIECE:
            self._queue.put(self._held)
            self._held = []
            self._waiting = 0

    def digest(self) -> bytes:
        """The 32-byte digest of everything given so far; more may follow."""
        self.close()
        for piece in self._held:
            self._hash.update(piece)
        self._held = []
        self._waiting = 0
        return self._hash.digest()

    def close(self) -> None:
        """Wait for the thread to finish what it has, and end it."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (pieces := self._queue.get()) is not None:
            for piece in pieces:
                self._hash.update(piece)
