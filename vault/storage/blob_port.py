"""The port for sealed blobs: what a store of them does, and what it promises.

Promises: a blob is spooled while it is written, then published once, whole and durable, under its id; nothing
published is ever replaced, but by `replace`, which is for one that is damaged or lost. A removed blob is
durably gone from here. Until it is settled, a published blob is spooled too: so recovery after a crash finds
every blob whose record may be missing by listing the spool, and never has to list the store. Nothing
published is opened for writing again; whether a descriptor given out before its publication is still held,
`is_being_written` tells, where the file system can.

Leaves out: what is in a blob (it is sealed before it comes here), which blobs should exist (the catalogue
knows), and other copies. The one that is used is `vault.storage.blobs.LocalBlobStore`; tests have one in
memory, and one contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol


class BlobStore(Protocol):
    """A store of sealed blobs.

    Durability: when `publish` or `remove` returns, it survives a power cut; `begin` and `discard`
    promise nothing beyond the running machine. Concurrency: one process, one call at a time per
    blob. Idempotence: `remove` and `discard` may be repeated. Descriptors returned are the
    caller's to close, and are real ones: they can be passed to other processes, read with pread
    and written with pwrite.

    Errors: VaultError for a malformed id; StorageFull and StorageFailed from the medium;
    StoreMissing when the store itself has gone, so that this never passes for a removed blob.
    """

    def begin(self, blob_id: str) -> int:
        """A read-write descriptor of a new, empty, spooled file.

        Raises:
            StoreExists: the id is spooled or published already.
        """
        ...

    def reopen(self, blob_id: str) -> int:
        """A read-write descriptor of a spooled file (raises BlobMissing).

        Of one that is published as well, a read-only one: what is published is never written again.
        """
        ...

    def is_spool_open(self, blob_id: str) -> bool:
        """Whether anyone has a spooled file open for writing (raises BlobMissing).

        Where the medium can't tell, it is always False.
        """
        ...

    def secure(self, blob_id: str, fd: int) -> None:
        """Make what is in the spooled file `fd`, and its name, survive a crash; it stays spooled.

        Raises:
            BlobMissing: it is not spooled.
            RuntimeError: `fd` is another file.
        """
        ...

    def publish(self, blob_id: str, fd: int) -> int:
        """Make the spooled file `fd` durable under its id; return its size in bytes.

        It stays listed as spooled until `settle`.

        Raises:
            BlobMissing: it is not spooled.
            StoreExists: the id is published already.
            RuntimeError: `fd` is another file.
        """
        ...

    def settle(self, blob_id: str) -> bool:
        """Forget that a published blob was spooled: its record is durable. False if it was not.

        Raises:
            BlobMissing: it is not published; then the spooled name is all there is of it.
        """
        ...

    def open(self, blob_id: str) -> int:
        """A read-only descriptor of a published blob (raises BlobMissing)."""
        ...

    def is_being_written(self, blob_id: str) -> bool:
        """Whether anyone, in any process, could still write into a published blob (raises BlobMissing).

        Once False it stays so. Where the medium can't tell (`tells_writers`), it is always False.
        """
        ...

    def size(self, blob_id: str) -> int:
        """The size of a published blob in bytes, sealed (raises BlobMissing)."""
        ...

    def replace(self, blob_id: str, fd: int) -> None:
        """Put the bytes of the file `fd`, seen to be whole, in the place of a damaged or missing blob.

        Durable, all or nothing; the damaged one is kept aside until `forget_damaged`.
        """
        ...

    def forget_damaged(self, blob_id: str) -> bool:
        """Drop what `replace` kept aside; False if there was nothing."""
        ...

    def discard(self, blob_id: str) -> bool:
        """Drop a spooled file; False if there was none."""
        ...

    def remove(self, blob_id: str) -> bool:
        """Remove a published blob durably; False if there was none."""
        ...

    def remove_all(self, blob_ids: Iterable[str]) -> None:
        """Remove many blobs and spooled files durably, whether they are there or not."""
        ...

    def is_spooled(self, blob_id: str) -> bool:
        """Whether a spooled file has this id."""
        ...

    def exists(self, blob_id: str) -> bool:
        """Whether the blob is published."""
        ...

    def spooled(self) -> Iterator[str]:
        """Yield the ids of spooled files, in no order."""
        ...

    def stored(self) -> Iterator[str]:
        """Yield the ids of published blobs, in no order, without holding them all in memory."""
        ...

    def free_bytes(self) -> int:
        """How many more bytes can be stored."""
        ...
