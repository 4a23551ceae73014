"""Places: where sealed things are kept outside the store (registered copies of keyrings, backups).

Promises: one port, `Place`, that a folder, a host reached by SFTP and an S3 bucket all keep (one
contract suite runs against each), and the folder itself. A name at a place holds what was last put there,
whole, or what it held before; never a part.

Leaves out: what is put there (always sealed already), the network (`gateway.courier.places.open`),
retrying, and locks: there is one writer per name.

Rules:
1. A name is one to eight parts of `0-9 A-Z a-z . _ -` joined by `/`, each of at most 200 characters. A part
   does not begin with a dot, so that `.` and `..` are no parts, and temporary files, which do, no names.
2. Every failure leaves here as `PlaceError` (it may be tried again) or `PlaceMissing` (the place answered:
   no such name).
3. A place is never made: a folder that is not there may be a disk that is not mounted.
4. What a crashed `put` left behind is replaced by the next one of the same name, and removed by `remove`:
   the leftover of a keyring is a copy of keys, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from vault.errors import PlaceError, PlaceMissing, VaultError
from vault.storage.durable import StreamedFile, make_directory, remove_durably, streamed_temporary

PIECE: Final = 1024 * 1024  # the largest piece `get` yields, bytes
MAX_PARTS: Final = 8  # the longest: tile/<level>/x…/x…/x…/<number>.p/<width>
MAX_PART: Final = 200  # leaves room for a temporary name's extra letters within NAME_MAX (255)
_PART: Final = re.compile(rf"[0-9A-Za-z_-][0-9A-Za-z._-]{{0,{MAX_PART - 1}}}")


class Place(Protocol):
    """Named sealed objects somewhere else. Used by one thread at a time; not safe for several.

    All methods raise PlaceError when the place can't be reached, refuses or is full (nothing is changed, or,
    for `put` and `remove`, all of it; trying again is safe), and RuntimeError for a name that is none.
    """

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """Keep the joined `pieces` under `name`, replacing what is there, all or nothing.

        On return it is durable as far as the place can promise: each adapter says how far. If `pieces`
        raises, the old content stays and the exception passes through.
        """

    def get(self, name: str) -> Iterator[bytes]:
        """The content in pieces of at most `PIECE` bytes (none for an empty object).

        Raises:
            PlaceMissing: there is no such name; raised when the first piece is asked for.
        """

    def names(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Names below the folder `prefix` ("" for all; `a/b` and `a/b/` are the same) with sizes in bytes.

        In no order, without temporary files. A folder that is not there has no names.
        """

    def remove(self, name: str) -> bool:
        """Take `name` away, durably as in `put`. False if it was not there (then, too, durably)."""

    def close(self) -> None:
        """Let go of connections. May be called twice; nothing else afterwards."""


def check_name(name: str) -> str:
    """`name` itself if it is one (rule 1).

    Raises:
        RuntimeError: names are made by the program.
    """
    parts = name.split("/")
    if len(parts) > MAX_PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise RuntimeError(
            f"name {name!r} at a place: expected at most {MAX_PARTS} parts of 0-9 A-Z a-z . _ -"
        )
    return name


def check_prefix(prefix: str) -> str:
    """`prefix` without its trailing slash; "" or a name (raises RuntimeError)."""
    return check_name(prefix.removesuffix("/")) if prefix else ""


def is_name(text: str) -> bool:
    """Whether `text`, found at a place, is a name: others' files and leftovers are not."""
    parts = text.split("/")
    return len(parts) <= MAX_PARTS and all(_PART.fullmatch(part) for part in parts)


class DirectoryPlace:
    """A folder: on another disk, or a mounted share.

    Durable on return: file and directory entries are fsynced, so it holds across a power cut as far as that
    file system keeps its word (network file systems vary). Folders below it are made as needed, mode 0700,
    files 0600; what is `public` (the ledger), 0755 and 0644, less the process's umask.
    """

    def __init__(self, path: Path, *, public: bool = False) -> None:
        self._path = path
        self._mode, self._folder_mode = (0o644, 0o755) if public else (0o600, 0o700)

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """See `Place.put`."""
        path = self._path / check_name(name)
        self._expect_folder()
        with _translated():
            folder = self._path
            for part in name.split("/")[:-1]:
                folder /= part
                make_directory(folder, self._folder_mode)
            file = StreamedFile(path, self._mode)
        try:
            for piece in pieces:
                with _translated():
                    file.write(piece)
            with _translated():
                file.commit()
        finally:
            file.discard()

    def get(self, name: str) -> Iterator[bytes]:
        """See `Place.get`."""
        path = self._path / check_name(name)
        self._expect_folder()
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    yield piece
        except (FileNotFoundError, NotADirectoryError) as error:
            raise PlaceMissing(f"{path}: expected a file, found none") from error
        except OSError as error:
            raise _place_error(path, "read", error) from error

    def names(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """See `Place.names`."""
        below = check_prefix(prefix)
        self._expect_folder()
        waiting = [below]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self._path / folder) as entries:
                    for entry in entries:
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        if not is_name(name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(name)
                        elif entry.is_file(follow_symlinks=False):
                            yield name, entry.stat(follow_symlinks=False).st_size
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise _place_error(self._path / folder, "list", error) from error

    def remove(self, name: str) -> bool:
        """See `Place.remove`."""
        path = self._path / check_name(name)
        self._expect_folder()
        if not path.parent.is_dir():
            return False
        with _translated():
            remove_durably(streamed_temporary(path))
            return remove_durably(path)

    def close(self) -> None:
        """See `Place.close`: nothing is held."""

    def _expect_folder(self) -> None:
        if not self._path.is_dir():
            raise PlaceError(f"{self._path}: expected a folder (is it mounted?), found none")


@contextmanager
def _translated() -> Iterator[None]:
    """Raise as PlaceError what `vault.storage.durable` raises: a whole operation may be tried again."""
    try:
        yield
    except VaultError as error:
        raise PlaceError(str(error)) from error


def _place_error(path: Path, action: str, error: OSError) -> PlaceError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return PlaceError(f"{path}: expected to {action}, found {reason}")
