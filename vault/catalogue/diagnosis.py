"""What a file is that should be a catalogue, told in our words and not in those of the database.

Promises: a file that is empty, cut, of another program, of newer software, or without a part of the schema is
told as that, with what to do. Looking changes nothing. Leaves out what is in the rows (`vault.check.store`),
and whether the file is as it was closed (`vault.storage.at_rest`).

A database file states its own length: page size at byte 16, pages at byte 28, which counts if the numbers at
bytes 24 and 92 agree (SQLite, "Database File Format", 1.3). With a journal beside it the length may lag.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Final

from vault.errors import IntegrityError

_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100
_LARGEST_PAGE: Final = 65536


def damaged(path: Path, what: str) -> IntegrityError:
    """The error for a file that is no whole catalogue: what is there, and what to do."""
    return IntegrityError(
        f"{path}: expected a catalogue that is whole, found {what}. Keep the file and the keyrings as they"
        " are, and restore the newest backup into another folder with `strongroom backup restore`",
        kind="format",
    )


def expect_file(path: Path) -> None:
    """Refuse a file that can be no catalogue, or was cut (raises IntegrityError)."""
    size, head = _head(path)
    if size == 0:
        raise damaged(path, "an empty file")
    if not head.startswith(_MAGIC[: len(head)]):
        raise damaged(path, f"a file of {size} bytes that is none")
    stated = _stated(head)
    if len(head) < _HEADER or stated is None:
        raise (
            damaged(path, f"the first {size} bytes of one")
            if size < _HEADER
            else damaged(path, f"a file of {size} bytes whose beginning is damaged")
        )
    if size < stated and not _has_journal(path):
        raise damaged(path, f"{size} of its {stated} bytes: its end was cut off")


def unreadable(path: Path, error: BaseException) -> IntegrityError:
    """The error where the database could not read the file at all."""
    size, head = _head(path)
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_CANTOPEN:
        return damaged(path, "one that can't be opened: see that its owner may read and write it")
    stated = _stated(head)
    if stated is not None and size < stated:
        return damaged(path, f"{size} of its {stated} bytes: its end was cut off")
    return damaged(path, f"{size} bytes with parts that can't be read")


def lacks(path: Path, what: str, names: Collection[str]) -> IntegrityError:
    """The error for a catalogue that lacks some of its tables or settings."""
    first = min(names)
    more = f" and {len(names) - 1} others" if len(names) > 1 else ""
    return damaged(path, f"it without its {what} {first}{more}")


def _head(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        return path.stat().st_size, file.read(_HEADER)


def _stated(head: bytes) -> int | None:
    """The length that the header states, in bytes; None: it states none."""
    if len(head) < _HEADER:
        return None
    (page,) = struct.unpack_from(">H", head, 16)
    changes, pages = struct.unpack_from(">II", head, 24)
    (counted,) = struct.unpack_from(">I", head, 92)
    page = _LARGEST_PAGE if page == 1 else page
    if page < 512 or page & (page - 1):
        return None
    return page * pages if changes == counted else 0


def _has_journal(path: Path) -> bool:
    journal = path.with_name(f"{path.name}-wal")
    return journal.exists() and journal.stat().st_size > 0
