"""The SFTP packet loop of one channel: requests in, replies out, the core decides.

Promises: every request is
answered once, with the sentence that explains a refusal. What is not implemented is answered "unsupported"
and is not advertised; `check-file`, which stock paramiko advertises and loops on, is not here. On the end
of the connection open uploads are given up, keeping whole chunks for a resume: only CLOSE commits.
Leaves out: carrying packets (`ssh.channels`): it is given whole ones and gives back replies.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

import structlog

from gateway.doors.sftp import protocol as p
from gateway.doors.sftp.files import Ahead, Download, Upload
from gateway.errors import Refusal
from gateway.wire.channel import Channel
from gateway.wire.messages import (
    Attributes,
    Done,
    Entry,
    List,
    MakeFolder,
    OpenRead,
    Page,
    Readable,
    Remove,
    Rename,
    Room,
    Space,
    Stat,
    Writable,
)
from vault.errors import VaultError

MAX_HANDLES: Final = 64
AHEAD_SECONDS: Final = 5.0  # that what was seen of a name counts when it is opened
NAMES_AT_ONCE: Final = 100
FAILED: Final = "This can't be done at the moment. Please try again later."

_CHANGES: Final = frozenset({p.REMOVE, p.RMDIR, p.MKDIR, p.RENAME, p.EXTENDED})

STATUS_OF: Final[dict[str, int]] = {
    "not_found": p.NO_SUCH_FILE,
    "denied": p.PERMISSION_DENIED,
    "locked": p.PERMISSION_DENIED,
    "unsupported": p.OP_UNSUPPORTED,
}

T = TypeVar("T", Upload, Download, "Folder")

log = structlog.get_logger("sftp")


def normal(path: str) -> str:
    """A path from the root, `.` and `..` resolved."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def _being_sent(upload: Upload) -> Entry:
    return Entry("", False, upload.size, 0, 0o100600)


class Folder:
    """An open folder: pages of the core, handed out a hundred names at a time."""

    def __init__(self, core: Channel, path: str) -> None:
        self._core = core
        self._path = path
        self._entries: list[Entry] = []
        self._cursor: str | None = ""
        self._fill()

    def _fill(self) -> None:
        assert self._cursor is not None
        page, _ = self._core.call(List(self._path, self._cursor))
        assert isinstance(page, Page)
        self._entries.extend(page.entries)
        self._cursor = page.cursor or None

    def names(self) -> list[Entry]:
        """The next names; none at the end."""
        while not self._entries and self._cursor is not None:
            self._fill()
        taken, self._entries = self._entries[:NAMES_AT_ONCE], self._entries[NAMES_AT_ONCE:]
        return taken

    def close(self) -> str:
        """Close it; there is nothing to release or to tell the client."""
        return ""


class SftpSession:
    """One SFTP session on one channel."""

    def __init__(self, core: Channel, max_size: int) -> None:
        """`max_size`: bytes a document may have."""
        self._core = core
        self._max_size = max_size
        self._handles: dict[bytes, Upload | Download | Folder] = {}
        self._next_handle = 0
        self._greeted = False
        self._ahead: Ahead | None = None

    def end(self) -> None:
        """The connection has ended: open uploads are given up, keeping whole chunks."""
        for handle in self._handles.values():
            if isinstance(handle, Upload):
                handle.abandon(keep=True)
            else:
                handle.close()
        self._handles.clear()
        if self._ahead is not None:
            os.close(self._ahead.descriptor)
            self._ahead = None

    def answer(self, packet: memoryview) -> bytes:
        """The reply to one packet (type and body), whole with its length.

        Raises:
            PacketError: it is no SFTP, or not at its place; the session is over.
            Disconnected: the core went away; so is the session.
        """
        kind = packet[0]
        fields = p.Reader(packet[1:])
        if not self._greeted:
            if kind != p.INIT:
                raise p.PacketError(f"packet: expected INIT first, found type {kind}")
            fields.u32()
            self._greeted = True
            return p.pack_version()
        request = fields.u32()
        try:
            return self._answer(kind, request, fields)
        except Refusal as refusal:
            code = STATUS_OF.get(refusal.code, p.FAILURE)
            return p.pack_status(request, code, refusal.message)
        except VaultError as error:
            log.error("request failed", type=kind, error=type(error).__name__)
            return p.pack_status(request, p.FAILURE, FAILED)
        except p.PacketError as error:
            return p.pack_status(request, p.BAD_MESSAGE, str(error))

    def _answer(self, kind: int, request: int, fields: p.Reader) -> bytes:
        done = p.pack_status(request, p.OK, "")
        if kind in _CHANGES:
            self._forget_name()
        match kind:
            case p.WRITE:
                upload = self._open(fields.string(), Upload)
                offset = fields.u64()
                upload.write(offset, fields.raw())
                return done
            case p.READ:
                handle = fields.string()
                if isinstance(self._handles.get(handle), Upload):
                    raise Refusal("denied", "What is being sent can't be read back.")
                download = self._open(handle, Download)
                offset, length = fields.u64(), fields.u32()
                data = download.read(offset, length)
                if not data:
                    return p.pack_status(request, p.EOF, "")
                return p.pack_data(request, data)
            case p.OPEN:
                (path, raw), flags = fields.path_as_sent(), fields.u32()
                size = fields.size_attribute()
                return p.pack_handle(
                    request, self._add(lambda: self._open_file(path, raw, flags, size))
                )
            case p.CLOSE:
                handle = fields.string()
                opened = self._handles.pop(handle, None)
                if opened is None:
                    raise Refusal("invalid", "There is no such handle.")
                said = opened.close()
                return p.pack_status(request, p.OK, said) if said else done
            case p.LSTAT | p.STAT:
                return p.pack_attributes(request, self._stat(fields.path()))
            case p.FSTAT:
                opened = self._handles.get(fields.string())
                if not isinstance(opened, Upload | Download):
                    raise Refusal("invalid", "There is no such handle.")
                entry = Entry("", False, opened.size, 0, 0o100440)
                return p.pack_attributes(
                    request, _being_sent(opened) if isinstance(opened, Upload) else entry
                )
            case p.SETSTAT:
                self._set_attributes(fields)
                return done
            case p.FSETSTAT:
                opened = self._handles.get(fields.string())
                if not isinstance(opened, Upload | Download):
                    raise Refusal("invalid", "There is no such handle.")
                size = fields.size_attribute()
                if size is not None and not (isinstance(opened, Upload) and opened.truncate(size)):
                    raise Refusal("denied", "What was received can't be truncated.")
                return done
            case p.OPENDIR:
                path = fields.path()
                return p.pack_handle(request, self._add(lambda: Folder(self._core, path)))
            case p.READDIR:
                names = self._open(fields.string(), Folder).names()
                if not names:
                    return p.pack_status(request, p.EOF, "")
                return p.pack_names(request, names)
            case p.REMOVE:
                self._core.call(Remove(fields.path()))
                return done
            case p.RMDIR:
                self._core.call(Remove(fields.path(), folder=True))
                return done
            case p.MKDIR:
                self._core.call(MakeFolder(fields.path()))
                return done
            case p.REALPATH:
                return p.pack_path(request, normal(fields.path()))
            case p.RENAME:
                return self._rename(request, fields)
            case p.READLINK | p.SYMLINK:
                raise Refusal("unsupported", "There are no links here.")
            case p.EXTENDED:
                return self._extended(request, fields, done)
        raise Refusal("unsupported", "This gateway does not know this request.")

    def _extended(self, request: int, fields: p.Reader, done: bytes) -> bytes:
        match fields.string():
            case b"posix-rename@openssh.com":
                return self._rename(request, fields)
            case b"limits@openssh.com":
                return p.pack_limits(request, MAX_HANDLES)
            case b"lsetstat@openssh.com":
                self._set_attributes(fields)
                return done
            case b"fsync@openssh.com":
                return p.pack_status(request, p.OK, self._open(fields.string(), Upload).sync())
            case b"statvfs@openssh.com":
                self._stat(fields.path())
                return self._room(request)
            case b"fstatvfs@openssh.com":
                if fields.string() not in self._handles:
                    raise Refusal("invalid", "There is no such handle.")
                return self._room(request)
        raise Refusal("unsupported", "This gateway does not know this request.")

    def _rename(self, request: int, fields: p.Reader) -> bytes:
        reply, _ = self._core.call(Rename(fields.path(), *fields.path_as_sent()))
        return p.pack_status(request, p.OK, reply.said if isinstance(reply, Done) else "")

    def _set_attributes(self, fields: p.Reader) -> None:
        """Ignore times and modes: they are the gateway's, and clients set them out of habit."""
        self._stat(fields.path())
        if fields.size_attribute() is not None:
            raise Refusal("denied", "What was received can't be truncated.")

    def _room(self, request: int) -> bytes:
        room, _ = self._core.call(Space())
        assert isinstance(room, Room)
        return p.pack_room(request, room)

    def _stat(self, path: str) -> Entry:
        # What this session is sending is there for its client, though the core knows no such name yet.
        wanted = normal(path)
        for opened in self._handles.values():
            if isinstance(opened, Upload) and normal(opened.path) == wanted:
                return _being_sent(opened)
        former = self._ahead
        reply, descriptors = self._core.call(
            Stat(path, "" if former is None else former.begun.document_id)
        )
        if isinstance(reply, Writable):
            if not descriptors:
                assert former is not None
                descriptors = [former.descriptor]
            elif former is not None:
                os.close(former.descriptor)
            self._ahead = Ahead(path, reply, descriptors[0], time.monotonic())
            raise Refusal("not_found", "No such file or folder.")
        assert isinstance(reply, Attributes)
        if former is not None and normal(former.path) == wanted:
            self._forget_name()  # somebody else has sent it
        return reply.entry

    def _forget_name(self) -> None:
        """What was seen of the name of the one begun ahead may be so no more; it waits for another name."""
        if self._ahead is not None:
            self._ahead = replace(self._ahead, path="")

    def _begun_ahead(self, path: str, raw: bytes, size: int | None) -> Ahead | None:
        """What the core has begun for this path already, now the caller's."""
        ahead = self._ahead
        if (
            ahead is None
            or ahead.path != path
            or raw
            or size is not None
            or time.monotonic() - ahead.since > AHEAD_SECONDS
        ):
            self._forget_name()
            return None
        self._ahead = None
        return ahead

    def _add(self, make: Callable[[], Upload | Download | Folder]) -> bytes:
        if len(self._handles) >= MAX_HANDLES:
            raise Refusal("busy", f"At most {MAX_HANDLES} files and folders can be open.")
        opened = make()
        handle = b"%d" % self._next_handle
        self._next_handle += 1
        self._handles[handle] = opened
        return handle

    def _open(self, handle: bytes, kind: type[T]) -> T:
        opened = self._handles.get(handle)
        if not isinstance(opened, kind):
            raise Refusal("invalid", "There is no such handle.")
        return opened

    def _open_file(self, path: str, raw: bytes, flags: int, size: int | None) -> Upload | Download:
        # READ besides WRITE is what many libraries open a new file with; only a READ from it is refused.
        if flags & p.FLAG_WRITE:
            if flags & p.FLAG_EXCLUSIVE:
                try:
                    self._stat(path)
                except Refusal as refusal:
                    if refusal.code != "not_found":
                        raise
                else:
                    raise Refusal("exists", "There is a file of this name.")
            if size is not None and size > self._max_size:
                raise Refusal("invalid", f"A file here may have at most {self._max_size} bytes.")
            resume = not flags & (p.FLAG_TRUNCATE | p.FLAG_EXCLUSIVE)
            append = bool(flags & p.FLAG_APPEND)
            return Upload(
                self._core,
                path,
                raw,
                resume=resume,
                append=append,
                limit=self._max_size,
                size=size,
                ahead=self._begun_ahead(path, raw, size),
            )
        reply, descriptors = self._core.call(OpenRead(path))
        assert isinstance(reply, Readable)
        return Download(reply, descriptors[0])
