"""Replaying a target's amendments on a backup's catalogue, as a restore would, to see what would come back.

Promises: the amendments are those that lie at the target, fetched whole and read to their end before any of
them counts; they are applied by the restore's own code (`vault.backup.replay`) to the plain snapshot of a
proof, and then every wrapped key of a living document is tried with the keyrings as they are on disk. Each
document that would not open is named. The snapshot is changed by it and good for nothing else afterwards.

Leaves out: the keyrings' copies, the sealed files, and that the key groups stand still (the proof holds
them).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Self

from gateway.core.core import Core
from gateway.core.outbound.backup.target import store_id
from gateway.core.outbound.files import fetch, scratch
from gateway.core.outbound.outbound import Outbound
from vault.backup import amendments
from vault.backup import format as backup_format
from vault.backup.replay import Replay
from vault.catalogue.store import Catalogue
from vault.errors import IntegrityError, PlaceMissing
from vault.storage.durable import write_all

_PIECE: Final = 1 << 20


class Amendments:
    """The amendments of a target that were fetched: sealed, one behind the other in a file without a name.

    One descriptor for all of them: there may be more than a process may have files open.
    """

    def __init__(self, outbound: Outbound, target: str, secret: bytes) -> None:
        self._outbound = outbound
        self._target = target
        self._secret = secret
        self._file = scratch(outbound.core)
        self._end = 0
        self._places: dict[int, tuple[int, int]] = {}  # number → offset, size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    @property
    def numbers(self) -> list[int]:
        """Those that were fetched and are whole, in their order."""
        return sorted(self._places)

    async def add(self, numbers: Iterable[int], problem: Callable[[str, str], None]) -> None:
        """Fetch some; one that is missing or not what was written is a problem (raises PlaceError)."""
        for number in numbers:
            try:
                with await fetch(
                    self._outbound, self._target, backup_format.amendment_name(number)
                ) as file:
                    offset = self._end
                    self._append(file.fileno())
                self._places[number] = (offset, self._end - offset)
                with self.opened(number) as lines:
                    for _line in lines:
                        pass
            except (IntegrityError, PlaceMissing) as error:
                self._places.pop(number, None)
                problem(f"amendment {number}", str(error))

    @contextlib.contextmanager
    def opened(self, number: int) -> Iterator[Iterator[amendments.Line]]:
        """The lines of one, its head first (raises IntegrityError)."""
        offset, size = self._places[number]
        name = backup_format.amendment_name(number)
        with scratch(self._outbound.core) as file:
            self._copy(self._file.fileno(), offset, size, file.fileno(), 0)
            with backup_format.open_object(
                file.fileno(), self._secret, store_id(self._outbound.core), name
            ) as reader:
                yield amendments.read(reader, number, store_id(self._outbound.core))

    def _append(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self._copy(fd, 0, size, self._file.fileno(), self._end)
        self._end += size

    @staticmethod
    def _copy(source: int, start: int, size: int, target: int, at: int) -> None:
        done = 0
        while done < size:
            piece = os.pread(source, min(_PIECE, size - done), start + done)
            if not piece:
                raise IntegrityError(
                    f"amendment: expected {size} bytes, found {done}", kind="truncated"
                )
            write_all(target, [piece], at + done, "amendments")
            done += len(piece)


def replay(
    core: Core,
    plain: Path,
    manifest: backup_format.Manifest,
    told: Amendments,
    problem: Callable[[str, str], None],
) -> None:
    """Apply what the target was told to the plain snapshot at `plain`, and try every key in it.

    Args:
        problem: told what would not come back: its subject, and why.

    Raises:
        VaultError: the snapshot can't be written, or a keyring does not open.
    """
    catalogue = Catalogue.open(plain)
    try:
        replayed = Replay(
            catalogue, core.store.custody.keyrings, manifest.target, problem, core.now()
        )
        replayed.apply_all(manifest, told.numbers, told.opened)
        replayed.examine()
    finally:
        catalogue.close()
