"""A blob store in memory, held to the same contract as the real one.

Descriptors are real (memfd), so they can be passed, read and written like those of files; each
call opens the file anew, so offsets are not shared.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vault.errors import BlobMissing, StoreExists, VaultError
from vault.storage.blobs import ID
from vault.storage.leases import has_writer


class MemoryBlobStore:
    """A `BlobStore` whose blobs are gone with the process."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        self._capacity = capacity
        self._spool: dict[str, int] = {}
        self._objects: dict[str, int] = {}
        self._damaged: dict[str, int] = {}

    def begin(self, blob_id: str) -> int:
        self._check(blob_id)
        if blob_id in self._spool or blob_id in self._objects:
            raise StoreExists(f"blob {blob_id}: expected a new id, found it in use")
        self._spool[blob_id] = os.memfd_create(blob_id, os.MFD_CLOEXEC)
        return self._again(self._spool[blob_id], os.O_RDWR)

    def reopen(self, blob_id: str) -> int:
        published = blob_id in self._objects
        return self._again(
            self._find(self._spool, blob_id), os.O_RDONLY if published else os.O_RDWR
        )

    def secure(self, blob_id: str, fd: int) -> None:
        if not os.path.sameopenfile(self._find(self._spool, blob_id), fd):
            raise RuntimeError(f"blob {blob_id}: expected the spooled file's descriptor")

    def publish(self, blob_id: str, fd: int) -> int:
        self.secure(blob_id, fd)
        held = self._spool[blob_id]
        if blob_id in self._objects:
            raise StoreExists(f"blob {blob_id}: expected a new id, found it published")
        # From here on the store itself holds nothing that could write.
        self._spool[blob_id] = self._again(held, os.O_RDONLY)
        self._objects[blob_id] = self._again(held, os.O_RDONLY)
        os.close(held)
        return os.fstat(fd).st_size

    def settle(self, blob_id: str) -> bool:
        self._find(self._objects, blob_id)
        return self.discard(blob_id)

    def open(self, blob_id: str) -> int:
        return self._again(self._find(self._objects, blob_id), os.O_RDONLY)

    def is_spool_open(self, blob_id: str) -> bool:
        self._find(self._spool, blob_id)
        return False  # the store's own descriptor is one, too: it can't tell

    def is_being_written(self, blob_id: str) -> bool:
        fd = self.open(blob_id)
        try:
            return has_writer(fd)
        finally:
            os.close(fd)

    def size(self, blob_id: str) -> int:
        return os.fstat(self._find(self._objects, blob_id)).st_size

    def replace(self, blob_id: str, fd: int) -> None:
        self._check(blob_id)
        made = os.memfd_create(blob_id, os.MFD_CLOEXEC)
        os.pwrite(made, os.pread(fd, os.fstat(fd).st_size, 0), 0)
        self.forget_damaged(blob_id)
        if blob_id in self._objects:
            self._damaged[blob_id] = self._objects.pop(blob_id)
        self._objects[blob_id] = self._again(made, os.O_RDONLY)
        os.close(made)

    def forget_damaged(self, blob_id: str) -> bool:
        return self._drop(self._damaged, blob_id)

    def discard(self, blob_id: str) -> bool:
        return self._drop(self._spool, blob_id)

    def remove(self, blob_id: str) -> bool:
        self.forget_damaged(blob_id)
        return self._drop(self._objects, blob_id)

    def remove_all(self, blob_ids: Iterable[str]) -> None:
        for blob_id in blob_ids:
            self.remove(blob_id)
            self.discard(blob_id)

    def is_spooled(self, blob_id: str) -> bool:
        self._check(blob_id)
        return blob_id in self._spool

    def exists(self, blob_id: str) -> bool:
        self._check(blob_id)
        return blob_id in self._objects

    def spooled(self) -> Iterator[str]:
        return iter(list(self._spool))

    def stored(self) -> Iterator[str]:
        return iter(list(self._objects))

    def free_bytes(self) -> int:
        held = [*self._spool.values(), *self._objects.values()]
        return self._capacity - sum(os.fstat(fd).st_size for fd in held)

    def close(self) -> None:
        for fd in [*self._spool.values(), *self._objects.values(), *self._damaged.values()]:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _drop(self, where: dict[str, int], blob_id: str) -> bool:
        self._check(blob_id)
        fd = where.pop(blob_id, None)
        if fd is not None:
            os.close(fd)
        return fd is not None

    def _find(self, where: dict[str, int], blob_id: str) -> int:
        self._check(blob_id)
        if blob_id not in where:
            raise BlobMissing(f"blob {blob_id}: expected a blob, found none")
        return where[blob_id]

    @staticmethod
    def _again(fd: int, flags: int) -> int:
        return os.open(Path(f"/proc/self/fd/{fd}"), flags | os.O_CLOEXEC)

    @staticmethod
    def _check(blob_id: str) -> None:
        if not ID.fullmatch(blob_id):
            raise VaultError("blob id: expected 26 letters and digits, found another form")
