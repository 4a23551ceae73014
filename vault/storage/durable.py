"""The one way bytes become durable in this tree.

Promises: when a function here returns, what it did survives a power cut, as far as the
file system and the device keep their word about `fsync`. When it raises, the old content is
still in place, with one exception that is named at `write_durably`.

Leaves out: locking (the vault has one writing process) and the store's own blobs (a sealed
blob is written by `vault.crypto.sealed` and made durable by `publish`).

Rules:
1. Order: write, fsync the file, rename or link it, fsync the directory. Always all four.
2. A failed fsync is final: `StorageFailed`, never `StorageFull`, so that nobody waits for space
   and tries again. The kernel may have dropped the pages and would report success.
3. The mode is given to `open`, never set afterwards: there is no moment at which a key file is
   readable to others.
4. Temporary files are called `.<name>.<16 hex digits>.tmp` and lie beside their target. A crash
   can leave one behind, and it holds what was to be written; `clear_leftovers` removes them, and
   whoever must be able to say that a key is gone calls it. `StreamedFile` always takes the same digits
   (zeros), so that the next one for that name replaces what a crash left, without a listing.
5. Every `OSError` leaves here as `StorageFull`, `StorageFailed`, `StoreMissing` (a directory that
   should be there is not) or `StoreExists`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path
from typing import Final

from vault.errors import StorageFailed, StorageFull, StoreExists, StoreMissing, VaultError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TEMPORARY: Final = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.tmp", re.DOTALL)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def storage_error(error: OSError, action: str, subject: object) -> VaultError:
    """Translate `error`, met while doing `action` ("write", "unlink", …) to `subject` (a path).

    Not for fsync: see `sync_descriptor`.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    message = f"{subject}: expected to {action}, found {reason}"
    if error.errno in _FULL:
        return StorageFull(message)
    if error.errno == errno.ENOENT:
        return StoreMissing(message)
    return StorageFailed(message)


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put `data` at `path`, replacing what is there, all or nothing.

    A reader sees the old bytes or the new ones. If it raises, the old ones are still there; only
    when the very last step (the directory's fsync) fails may a power cut decide which of the two
    remain.

    Raises:
        StorageFull, StorageFailed: it can't be written.
        StoreMissing: there is no such directory.
    """
    temporary = _write_temporary(path, data, mode)
    try:
        temporary.replace(path)  # The commit point, durable once the directory is synced.
    except OSError as error:
        _drop(temporary)
        raise storage_error(error, "rename onto", path) from error
    sync_directory(path.parent)


def create_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path`, which must not exist; never replaces anything.

    Raises:
        StoreExists: something is there; it stays untouched.
        StorageFull, StorageFailed, StoreMissing: it can't be written, or there is no such directory.
    """
    temporary = _write_temporary(path, data, mode)
    try:
        # link(2), not rename(2): it fails when the name is taken, and the name never shows
        # half-written content.
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError as error:
        raise StoreExists(f"{path}: expected nothing there, found an existing file") from error
    except OSError as error:
        raise storage_error(error, "link", path) from error
    finally:
        _drop(temporary)
    sync_directory(path.parent)


class StreamedFile:
    """A file that is replaced whole by pieces whose number is not known before.

    `write` as often as needed, then `commit`; `discard` afterwards in any case (it does nothing after a
    commit). Until `commit` the old content stays; one writer per path.
    """

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        """Open the temporary file (raises StorageFull, StorageFailed; StoreMissing: no such directory)."""
        self._path = path
        self._temporary = streamed_temporary(path)
        self._size = 0
        try:
            self._temporary.unlink(missing_ok=True)  # what a crash left
            self._fd: int | None = os.open(self._temporary, _CREATE, mode)
        except OSError as error:
            raise storage_error(error, "create", self._temporary) from error

    def write(self, piece: bytes) -> None:
        """Append `piece` (raises StorageFull, StorageFailed)."""
        if self._fd is None:
            raise RuntimeError(f"{self._path}: written to after commit or discard")
        self._size = write_all(self._fd, [piece], self._size, str(self._temporary))

    def commit(self) -> None:
        """Make what was written the content of the path, durably (errors as `write_durably`)."""
        if self._fd is None:
            raise RuntimeError(f"{self._path}: committed after commit or discard")
        sync_descriptor(self._fd)
        os.close(self._fd)
        self._fd = None
        try:
            self._temporary.replace(self._path)  # The commit point, as in `write_durably`.
        except OSError as error:
            _drop(self._temporary)
            raise storage_error(error, "rename onto", self._path) from error
        sync_directory(self._path.parent)

    def discard(self) -> None:
        """Drop what was not committed."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            _drop(self._temporary)


def streamed_temporary(path: Path) -> Path:
    """The temporary name that `StreamedFile` uses for `path`."""
    return path.with_name(f".{path.name}.{'0' * 16}.tmp")


def sync_descriptor(fd: int) -> None:
    """fsync `fd`.

    Raises:
        StorageFailed: whatever the reason: a failed fsync is final.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        raise StorageFailed(
            f"descriptor {fd}: expected fsync to succeed, found {error.strerror}"
        ) from error


def sync_directory(path: Path | str) -> None:
    """fsync the directory `path`, so that the names in it are durable.

    Raises:
        StoreMissing: there is no such directory.
        StorageFailed: any other reason.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, "open the directory", Path(path)) from error
    try:
        os.fsync(fd)
    except OSError as error:
        raise StorageFailed(
            f"{path}: expected the directory's fsync to succeed, found {error.strerror}"
        ) from error
    finally:
        os.close(fd)


def remove_durably(path: Path) -> bool:
    """Unlink the file `path` and sync its directory. False if it was absent already.

    The directory is synced in that case too: an earlier attempt may have unlinked the name and
    died before its own sync, and the caller is about to certify that it is gone.

    Raises:
        StorageFailed: it can't be removed, or `path` is a directory.
        StoreMissing: the directory it would lie in is not there.
    """
    try:
        path.unlink()
        removed = True
    except FileNotFoundError:
        removed = False
    except OSError as error:
        raise storage_error(error, "unlink", path) from error
    sync_directory(path.parent)
    return removed


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make sure the directory `path` exists and that its name is durable; the parent must exist.

    An existing directory keeps its mode. The parent is synced even then, because whoever made
    the directory may have died before syncing it.

    Raises:
        StorageFull, StorageFailed: it can't be made, or something else has that name.
        StoreMissing: the parent is not there.
    """
    try:
        path.mkdir(mode)
    except FileExistsError as error:
        if not path.is_dir():
            raise StorageFailed(f"{path}: expected a directory, found another file") from error
    except OSError as error:
        raise storage_error(error, "make the directory", path) from error
    sync_directory(path.parent)


def clear_leftovers(directory: Path, name: str | None = None) -> int:
    """Remove the temporary files that crashed writes left in `directory`; return how many.

    With `name`, only those that were to become `directory/name`. Only for the one process that
    writes there: it would pull another writer's file away.

    Raises:
        StoreMissing, StorageFailed: there is no such directory, or it can't be read.
    """
    removed = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                match = _TEMPORARY.fullmatch(entry.name)
                if match is None or (name is not None and match["name"] != name):
                    continue
                Path(entry.path).unlink(missing_ok=True)
                removed += 1
    except OSError as error:
        raise storage_error(error, "clear leftovers", directory) from error
    if removed:
        sync_directory(directory)
    return removed


def write_all(fd: int, pieces: list[bytes | memoryview], offset: int, subject: str) -> int:
    """Write `pieces` one after the other at `offset` of `fd`; return the offset behind them.

    Goes on after a short write. Positions are explicit, because a descriptor that was passed
    between processes shares its file offset with them.

    Raises:
        StorageFull, StorageFailed: it can't be written; how much was, is undefined.
    """
    rest = list(pieces)
    while rest:
        try:
            written = os.pwritev(fd, rest, offset)
        except OSError as error:
            raise storage_error(error, "write", subject) from error
        if written == 0 and any(len(piece) for piece in rest):
            raise StorageFailed(f"{subject}: expected to write, found that nothing was taken")
        offset += written
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if rest and written:
            rest[0] = memoryview(rest[0])[written:]
    return offset


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    """Steps one and two: the bytes under a temporary name beside `path`, synced."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        fd = os.open(temporary, _CREATE, mode)
    except OSError as error:
        raise storage_error(error, "create", temporary) from error
    try:
        write_all(fd, [data], 0, str(temporary))
        sync_descriptor(fd)
    except BaseException:
        _drop(temporary)
        raise
    finally:
        os.close(fd)
    return temporary


def _drop(temporary: Path) -> None:
    """Best effort: what stays behind is found by `clear_leftovers`."""
    with contextlib.suppress(OSError):
        temporary.unlink()
