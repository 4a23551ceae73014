"""The virtual tree people see over SFTP: paths are resolved here, names are data, nothing is a file path.

Promises: what lies outside a role's view does not exist for it, and is refused in the same words as what is
nowhere. Leaves out: the view of each role (`gateway.core.views`). This module holds what the views share:
splitting paths, entries, paging, and the names under which documents appear.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Row

from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.core.login.accounts import Account
from gateway.errors import Refusal
from gateway.names import NAME_LIMIT
from gateway.wire.messages import Entry, Page, Readable, Room
from vault.keys.custody import DocumentMetadata

FOLDER_MODE: Final = stat.S_IFDIR | 0o750
FILE_MODE: Final = stat.S_IFREG | 0o440
DROP_MODE: Final = stat.S_IFDIR | 0o770
PATH_LIMIT: Final = 4096
DEPTH_LIMIT: Final = 32
PAGE: Final = 500
TAG: Final = 6  # characters of a document's id that tell apart documents of one name

# Bidirectional controls (Unicode Standard Annex 9): they make "gpj.exe" look like "exe.jpg".
_REVERSES: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

NO_FACTS: Final[Mapping[str, str]] = MappingProxyType({})

NOT_FOUND: Final = "No such file or folder."
READ_ONLY: Final = "This folder is read-only."
IS_FOLDER: Final = "This is a folder."
IS_FILE: Final = "This is a file, not a folder."


@dataclass(frozen=True)
class Opened:
    """What `open_read` gives: the reply and the descriptor that travels with it (the caller closes it)."""

    reply: Readable
    descriptor: int


def split(path: str) -> tuple[str, ...]:
    """A path as its names, `.` and `..` resolved, never above the root.

    Raises:
        Refusal("invalid"): it is too long or deep, or holds a control character.
    """
    if len(path.encode("utf-8", "surrogateescape")) > PATH_LIMIT:
        raise Refusal("invalid", f"This path is longer than {PATH_LIMIT} bytes.")
    names: list[str] = []
    for name in path.split("/"):
        if name in {"", "."}:
            continue
        if name == "..":
            if names:
                names.pop()
            continue
        check_name(name)
        names.append(name)
    if len(names) > DEPTH_LIMIT:
        raise Refusal("invalid", f"This path is deeper than {DEPTH_LIMIT} folders.")
    return tuple(names)


def check_name(name: str) -> None:
    """Refuse names that a client can't show, or that a person would read as another name."""
    if len(name.encode("utf-8", "surrogateescape")) > NAME_LIMIT:
        raise Refusal("invalid", f"A name here may have at most {NAME_LIMIT} bytes.")
    if _CONTROL.search(name):
        raise Refusal("invalid", "A name here may not hold control characters.")
    if _SURROGATE.search(name):
        raise Refusal("invalid", "A name here must be valid UTF-8.")
    if _REVERSES.search(name):
        raise Refusal(
            "invalid", "A name here may not hold characters that reverse the text around them."
        )


def folder(name: str, modified: datetime | None = None, mode: int = FOLDER_MODE) -> Entry:
    """An entry for a folder."""
    return Entry(name, True, 0, int(modified.timestamp()) if modified else 0, mode)


def plain_file(name: str, size: int, modified: str) -> Entry:
    """An entry for a file; `modified` is a time of the catalogue."""
    return Entry(name, False, size, int(datetime.fromisoformat(modified).timestamp()), FILE_MODE)


def tagged(name: str, document_id: str) -> str:
    """The name of a document that is not the first of its name in its folder."""
    stem, dot, suffix = name.rpartition(".")
    mark = f"~{document_id[-TAG:].lower()}"
    return f"{stem}{mark}.{suffix}" if dot and stem else f"{name}{mark}"


def untag(name: str) -> tuple[str, str] | None:
    """Undo `tagged`: (name, the end of the id), or None if `name` has no tag."""
    stem, dot, suffix = name.rpartition(".")
    body, rest = (stem, f".{suffix}") if dot and stem else (name, "")
    original, mark, tag = body.rpartition("~")
    if not mark or len(tag) != TAG or not original:
        if rest:  # the tag may end a name whose dot belongs to the stem
            original, mark, tag = name.rpartition("~")
            if mark and len(tag) == TAG and original:
                return original, tag.upper()
        return None
    return original + rest, tag.upper()


def memory_file(data: bytes) -> Opened:
    """Plain bytes that are no document, as a sealed memory file to hand over."""
    descriptor = os.memfd_create("strongroom", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return Opened(Readable(size=len(data)), descriptor)


def page(entries: Iterable[Entry], cursor: str = "") -> Page:
    """A page of entries."""
    return Page(list(entries), cursor)


async def explained(view: View, path: tuple[str, ...], refusal: Refusal, why: str) -> Refusal:
    """The refusal to answer with: `why` if the path exists (as a folder, say), else `refusal`."""
    if refusal.code != "not_found":
        return refusal
    try:
        await view.stat(path)
    except Refusal:
        return refusal
    return Refusal("failed", why)


class View(ABC):
    """What one role sees and may do. Paths arrive split; refusals are sentences for people."""

    def __init__(self, intake: Intake, account: Account) -> None:
        self.core = intake.core
        self.intake = intake
        self.account = account

    @abstractmethod
    async def stat(self, path: tuple[str, ...]) -> Entry:
        """The entry of a path (raises Refusal)."""

    def glimpse(self, path: tuple[str, ...]) -> Entry | None:
        """`stat` where the answer is at hand; None: it has to be waited for (raises Refusal)."""
        del path
        return None

    @abstractmethod
    async def entries(self, path: tuple[str, ...], cursor: str) -> Page:
        """A page of a folder (raises Refusal)."""

    async def open_read(self, path: tuple[str, ...]) -> Opened:
        """Open a file for reading, recorded in the ledger if it is a document (raises Refusal)."""
        raise Refusal("not_found" if len(path) < 2 else "denied", NOT_FOUND)

    async def begin_upload(
        self, path: tuple[str, ...], *, resume: bool, size: int | None = None
    ) -> tuple[Upload, int]:
        """Begin a document; returns it and the plaintext size it resumes from (raises Refusal).

        Args:
            size: plaintext bytes it will have, where the client says so.
        """
        del path, resume, size
        raise Refusal("denied", READ_ONLY)

    def begin_now(
        self, path: tuple[str, ...], *, resume: bool, size: int | None = None
    ) -> Upload | None:
        """`begin_upload` of what continues nothing; None: it has to be waited for (raises Refusal)."""
        del path, resume, size
        return None

    def glimpse_or_place(self, path: tuple[str, ...]) -> Entry | dict[str, Any] | None:
        """`glimpse`, or, where there is nothing, the fields of a new document's `Upload` (raises Refusal)."""
        return self.glimpse(path)

    async def make_folder(self, path: tuple[str, ...]) -> None:
        """Make a folder (raises Refusal)."""
        del path
        raise Refusal("denied", READ_ONLY)

    async def rename(
        self, old: tuple[str, ...], new: tuple[str, ...], facts: Mapping[str, str] = NO_FACTS
    ) -> str:
        """Move a file; returns a sentence for the person who did it, or "" (raises Refusal).

        Args:
            facts: what is kept of the new path besides its text.
        """
        del old, new, facts
        raise Refusal("denied", READ_ONLY)

    async def remove(self, path: tuple[str, ...], *, is_folder: bool) -> None:
        """Remove a file or folder (raises Refusal)."""
        del path, is_folder
        raise Refusal("denied", READ_ONLY)

    async def room(self) -> Room:
        """What `df` shows: the store's disk, less what is never filled."""

        def look() -> Room:
            status = os.statvfs(self.core.store.path)
            left = self.core.store.blobs.free_bytes() - self.core.config.store.minimum_free
            return Room(
                total=status.f_blocks * status.f_frsize,
                free=max(0, left),
                files=status.f_files,
                files_free=status.f_favail,
            )

        return await asyncio.to_thread(look)

    def metadata(self, row: Row[Any]) -> DocumentMetadata:
        """The personal metadata of a document row."""
        return self.core.store.custody.open_metadata(row)
