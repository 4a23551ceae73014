"""The store of sealed blobs in a directory of a local file system: `BlobStore` as files.

Promises: those of `vault.storage.blob_port`.
Leaves out: the free blocks of a disk, which may keep a removed blob's ciphertext for a while: that is why the
keys are ended too.

Rules:
1. An id is 26 letters and digits, checked on every call, so that no path can be made of it.
2. Layout: `spool/<id>` until settled; `objects/<aa>/<id>` when published, where aa are the first two
   hex digits of SHA-256 of the id. All 256 directories are made with the store, so that publishing
   costs two syncs (the file, its directory) and never waits for a new directory to be durable.
3. Files are 0600, directories 0700, links are not followed.
4. Beside the spooled names lie `<id>.restoring`, a blob that is being put back, and `<id>.damaged`, the one
   it replaces, until it was read back. Neither is a blob; both go with the blob, at the latest.
5. One process calls this (others are handed descriptors). A settled blob has one name, so that removing
   it leaves none; before that it has two, and `discard` drops the spooled one.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from vault.errors import BlobMissing, StoreExists, StoreMissing, VaultError
from vault.storage.durable import (
    make_directory,
    remove_durably,
    storage_error,
    sync_descriptor,
    sync_directory,
    write_all,
)
from vault.storage.leases import NOT_THERE, has_writer, tells_writers

ID: Final = re.compile(r"[0-9A-Za-z]{26}")
_SHARDS: Final = 256
_PIECE: Final = 1 << 20
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalBlobStore:
    """A `BlobStore` in a directory of a local file system."""

    def __init__(self, root: Path) -> None:
        """Open the existing store in `root` (raises StoreMissing if there is none)."""
        self._spool = root / "spool"
        self._objects = root / "objects"
        # As text, for what is done for every document: joining paths took a tenth of a commit.
        self._spool_prefix = f"{self._spool}/"
        self._objects_prefix = f"{self._objects}/"
        self._tells: bool | None = None  # whether a refused lease means a writer; None: not asked
        for directory in (self._spool, self._objects):
            if not directory.is_dir():
                raise StoreMissing(f"blob store {directory}: expected a directory, found none")

    @classmethod
    def create(cls, root: Path) -> LocalBlobStore:
        """Make an empty store in `root`, whose parent must exist, and open it.

        Raises:
            StoreExists: one is there.
            StorageFull, StorageFailed, StoreMissing: it can't be written, or there is no such directory.
        """
        if (root / "objects").exists():
            raise StoreExists(f"blob store {root}: expected nothing there, found a store")
        make_directory(root)
        make_directory(root / "spool")
        objects = root / "objects"
        make_directory(objects)
        for shard in range(_SHARDS):
            # Synced once, together, below.
            (objects / f"{shard:02x}").mkdir(mode=0o700)
        sync_directory(objects)
        return cls(root)

    def begin(self, blob_id: str) -> int:
        """A read-write descriptor of a new spooled file; see `BlobStore`."""
        shard, source = self._shard(blob_id), self._spool_prefix + blob_id
        if os.path.lexists(f"{shard}/{blob_id}"):
            raise StoreExists(f"blob {blob_id}: expected a new id, found it published")
        try:
            return os.open(source, _NEW, 0o600)
        except FileExistsError as error:
            raise StoreExists(f"blob {blob_id}: expected a new id, found it spooled") from error
        except OSError as error:
            raise storage_error(error, "create", Path(source)) from error

    def reopen(self, blob_id: str) -> int:
        """A descriptor of a spooled file; see `BlobStore`."""
        flags = _READ if os.path.lexists(self._object(blob_id)) else _AGAIN
        return _open(self._spooled(blob_id), flags, blob_id)

    def secure(self, blob_id: str, fd: int) -> None:
        """Make a spooled file survive a crash; see `BlobStore`."""
        self._expect(blob_id, fd)
        sync_descriptor(fd)
        sync_directory(self._spool)

    def publish(self, blob_id: str, fd: int) -> int:
        """Make the spooled file durable under its id; see `BlobStore`."""
        self._expect(blob_id, fd)
        shard, source = self._shard(blob_id), self._spool_prefix + blob_id
        target = f"{shard}/{blob_id}"
        # 1. The bytes. 2. The name, which link(2) never gives to half of them, nor takes from another.
        sync_descriptor(fd)
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError as error:
            raise StoreExists(f"blob {blob_id}: expected a new id, found it published") from error
        except OSError as error:
            raise storage_error(error, "link", Path(target)) from error
        sync_directory(shard)
        return os.fstat(fd).st_size

    def _expect(self, blob_id: str, fd: int) -> None:
        """See that the spooled name is the one of the file that `fd` is open on.

        Raises:
            BlobMissing: there is no such name. RuntimeError: it is another file's.
        """
        _check_id(blob_id)
        try:
            named = os.lstat(self._spool_prefix + blob_id)
        except FileNotFoundError as error:
            raise BlobMissing(f"blob {blob_id}: expected it spooled, found none") from error
        status = os.fstat(fd)
        if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
            raise RuntimeError(f"blob {blob_id}: expected the spooled file's descriptor")

    def settle(self, blob_id: str) -> bool:
        """Forget that a published blob was spooled; see `BlobStore`."""
        if self._look(blob_id) is None:
            raise BlobMissing(f"blob {blob_id}: expected a published blob, found none")
        return self.discard(blob_id)

    def open(self, blob_id: str) -> int:
        """A read-only descriptor of a published blob; see `BlobStore`."""
        return _open(self._object(blob_id), _READ, blob_id)

    def is_being_written(self, blob_id: str) -> bool:
        """Whether anyone could still write into a published blob; see `BlobStore`."""
        return self._has_writer(self._object(blob_id), blob_id)

    def is_spool_open(self, blob_id: str) -> bool:
        """Whether anyone has a spooled file open for writing; see `BlobStore`."""
        return self._has_writer(self._spooled(blob_id), blob_id)

    def _has_writer(self, path: Path, blob_id: str) -> bool:
        fd = _open(path, _READ, blob_id)
        try:
            return has_writer(fd) and self._tells_writers()
        except OSError as error:
            if error.errno in NOT_THERE:
                return False
            raise storage_error(error, "take a lease on", path) from error
        finally:
            os.close(fd)

    def _tells_writers(self) -> bool:
        if self._tells is None:
            try:
                self._tells = tells_writers(self._spool)
            except OSError:
                return True  # no room for a file now, say: asked again next time
        return self._tells

    def path(self, blob_id: str) -> Path:
        """Where a file of this id lies, in its folder or another."""
        return next(self._objects.glob(f"*/{blob_id}"), self._object(blob_id))

    def size(self, blob_id: str) -> int:
        """The sealed size of a published blob; see `BlobStore`."""
        status = self._look(blob_id)
        if status is None:
            raise BlobMissing(f"blob {blob_id}: expected a published blob, found none")
        return status.st_size

    def replace(self, blob_id: str, fd: int) -> None:
        """Put a whole blob in the place of a damaged or missing one; see `BlobStore`."""
        target, (fresh, aside) = self._object(blob_id), self._beside(blob_id)
        try:
            # 1. The bytes, durable under a name that is no blob's.
            fresh.unlink(missing_ok=True)
            out = os.open(fresh, _NEW, 0o600)
            try:
                offset = 0
                while piece := os.pread(fd, _PIECE, offset):
                    offset = write_all(out, [piece], offset, f"blob {blob_id}")
                sync_descriptor(out)
            finally:
                os.close(out)
            # 2. A second name for what is there, so that nothing is lost with the first.
            if self._look(blob_id) is not None:
                aside.unlink(missing_ok=True)
                os.link(target, aside, follow_symlinks=False)
                sync_directory(self._spool)
            # 3. COMMIT POINT: the name. Before it the damaged one is stored, after it the whole one.
            fresh.replace(target)
        except OSError as error:
            raise storage_error(error, "put back", target) from error
        sync_directory(target.parent)

    def forget_damaged(self, blob_id: str) -> bool:
        """Drop what `replace` kept aside; see `BlobStore`."""
        return remove_durably(self._beside(blob_id)[1])

    def discard(self, blob_id: str) -> bool:
        """Drop a spooled file; see `BlobStore`."""
        _check_id(blob_id)
        path = self._spool_prefix + blob_id
        try:
            os.unlink(path)  # noqa: PTH108  a Path would cost as much as the call
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(error, "unlink", Path(path)) from error
        return True

    def remove(self, blob_id: str) -> bool:
        """Remove a published blob durably; see `BlobStore`."""
        path = self._object(blob_id)
        try:
            for left in self._beside(blob_id):
                left.unlink(missing_ok=True)
            return remove_durably(path)
        except StoreMissing:
            # Not even its shard directory is there: never published, unless the store is gone.
            self._require_store()
            return False

    def remove_all(self, blob_ids: Iterable[str]) -> None:
        """Remove blobs and spooled files durably; see `BlobStore`."""
        touched: set[Path] = set()
        for blob_id in blob_ids:
            mine = (self._object(blob_id), self._spooled(blob_id), *self._beside(blob_id))
            for path in mine:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise storage_error(error, "unlink", path) from error
                touched.add(path.parent)
        self._require_store()
        for directory in sorted(touched):
            # Synced even where nothing was found: an earlier attempt may have died before its sync.
            if directory.is_dir():
                sync_directory(directory)

    def is_spooled(self, blob_id: str) -> bool:
        """Whether a spooled file has this id; see `BlobStore`."""
        return os.path.lexists(self._spooled(blob_id))

    def exists(self, blob_id: str) -> bool:
        """Whether the blob is published; see `BlobStore`."""
        return self._look(blob_id) is not None

    def spooled(self) -> Iterator[str]:
        """Yield the ids of spooled files."""
        return (name for name in _names(self._spool) if ID.fullmatch(name))

    def stored(self) -> Iterator[str]:
        """Yield the ids of published blobs, one shard directory at a time."""
        for shard in range(_SHARDS):
            for name in _names(self._objects / f"{shard:02x}"):
                if ID.fullmatch(name):
                    yield name

    def free_bytes(self) -> int:
        """The bytes that the file system still gives to this process."""
        try:
            status = os.statvfs(self._objects)
        except OSError as error:
            raise storage_error(error, "ask for free space", self._objects) from error
        return status.f_bavail * status.f_frsize

    def _spooled(self, blob_id: str) -> Path:
        _check_id(blob_id)
        return self._spool / blob_id

    def _object(self, blob_id: str) -> Path:
        return Path(self._shard(blob_id), blob_id)

    def _shard(self, blob_id: str) -> str:
        """The directory that a published blob lies in."""
        _check_id(blob_id)
        digest = hashlib.sha256(blob_id.encode("ascii")).hexdigest()
        return self._objects_prefix + digest[:2]

    def _beside(self, blob_id: str) -> tuple[Path, Path]:
        """The paths of a blob that is being put back, and of the damaged one that it replaces."""
        path = self._spooled(blob_id)
        return path.with_name(f"{blob_id}.restoring"), path.with_name(f"{blob_id}.damaged")

    def _look(self, blob_id: str) -> os.stat_result | None:
        """The status of the published blob, or None if the store is there and it is not."""
        path = f"{self._shard(blob_id)}/{blob_id}"
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            self._require_store()
            return None
        except OSError as error:
            raise storage_error(error, "look at", Path(path)) from error
        return status if stat.S_ISREG(status.st_mode) else None

    def _require_store(self) -> None:
        """Refuse to go on where the store's folder is gone: its blobs must not look removed."""
        if not self._objects.is_dir():
            raise StoreMissing(f"blob store {self._objects}: expected a directory, found none")


def _check_id(blob_id: str) -> None:
    if not ID.fullmatch(blob_id):
        raise VaultError("blob id: expected 26 letters and digits, found another form")


def _open(path: Path, flags: int, blob_id: str) -> int:
    try:
        return os.open(path, flags)
    except FileNotFoundError as error:
        raise BlobMissing(f"blob {blob_id}: expected a file, found none") from error
    except OSError as error:
        raise storage_error(error, "open", path) from error


def _names(directory: Path) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                yield entry.name
    except NotADirectoryError:
        return
    except OSError as error:
        raise storage_error(error, "list", directory) from error
