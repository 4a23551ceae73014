"""The door's SFTP packet loop as an sftp-server on a folder, for OpenSSH's own regress scripts.

`serve(path, root)` listens on a unix socket and answers each connection in a process of its own: the real
`SftpSession`, `Upload` and `Download`, above a core that keeps plain files, because the scripts compare files on
disk. That core holds its door to what the real one does: a document is begun, sealed under a key of its own and
committed once, with the size and digest of what the sealed bytes open to; a read hands out sealed bytes and their
key. It is a test program: nothing it writes leaves `root`, what it reads may lie anywhere.

`SERVER` is the text of the program that the scripts are given as their sftp-server: it joins its standard input and
output to that socket. (Starting Python for each of a hundred clients would take most of the time.)
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.doors.sftp import protocol as p
from gateway.doors.sftp.session import SftpSession
from gateway.errors import Disconnected, Refusal
from gateway.wire.messages import (
    Abandon,
    Attributes,
    BeginUpload,
    Commit,
    Done,
    Entry,
    Keep,
    Kept,
    List,
    MakeFolder,
    Message,
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
from vault.crypto.sealed import (
    CHUNK,
    KEY,
    SealedReader,
    SealedWriter,
    document_context,
    sealed_size,
    whole_chunks,
)

PAGE: Final = 50  # small, so that ordinary folders have several pages
SERVER: Final = """#!/bin/sh
exec {netcat} -N -U {socket}
"""


@dataclass
class _Begun:
    """A document that a session is sending."""

    target: Path
    descriptor: int
    key: bytes


class FolderCore:
    """A core on a folder, as a door's channel to it: `call` answers a message or raises Refusal."""

    def __init__(self, root: Path) -> None:
        """`root`: the folder below which files may be written."""
        self._root = root.resolve()
        self._begun: dict[str, _Begun] = {}
        self._count = 0

    def call(self, request: Message) -> tuple[Any, list[int]]:
        """Answer one message of a door."""
        try:
            return self._answer(request)
        except FileNotFoundError as error:
            raise Refusal("not_found", "No such file or folder.") from error
        except FileExistsError as error:
            raise Refusal("exists", "There is something of this name.") from error
        except PermissionError as error:
            raise Refusal("denied", "This may not be done.") from error
        except OSError as error:
            raise Refusal("failed", f"This could not be done: {error.strerror}.") from error

    def _answer(self, request: Message) -> tuple[Any, list[int]]:
        match request:
            case Stat(path):
                return Attributes(_entry(_absolute(path))), []
            case List(path, cursor):
                return self._list(_absolute(path), cursor), []
            case OpenRead(path):
                return self._open(_absolute(path))
            case BeginUpload():
                return self._begin(request)
            case Keep(document_id):
                size = os.fstat(self._begun[document_id].descriptor).st_size
                return Kept((whole_chunks(size) or 0) * CHUNK), []
            case Abandon(document_id):
                os.close(self._begun.pop(document_id).descriptor)
                return Done(), []
            case Commit():
                return self._commit(request), []
            case Rename(old, new, _):
                self._writable(old).rename(self._writable(new))
                return Done(), []
            case Remove(path, folder):
                target = self._writable(path)
                if folder:
                    target.rmdir()
                else:
                    target.unlink()
                return Done(), []
            case MakeFolder(path):
                self._writable(path).mkdir()
                return Done(), []
            case Space():
                found = os.statvfs(self._root)
                size = found.f_frsize
                return Room(
                    found.f_blocks * size, found.f_bavail * size, found.f_files, found.f_ffree
                ), []
        raise RuntimeError(f"core: expected a message of a door, found {type(request).__name__}")

    def _writable(self, path: str) -> Path:
        found = _absolute(path)
        if self._root not in (found.parent.resolve() / found.name).parents:
            raise Refusal("denied", "This folder is read-only.")
        return found

    def _list(self, folder: Path, cursor: str) -> Page:
        there = [".", "..", *(path.name for path in folder.iterdir())]
        names = sorted(name for name in there if name > cursor)
        entries = []
        for name in names[:PAGE]:
            try:
                entries.append(_entry(folder / name, name))
            except OSError:
                continue  # gone in between, or a link that leads nowhere
        return Page(entries, names[PAGE - 1] if len(names) > PAGE else "")

    def _new(self) -> tuple[str, bytes, int]:
        self._count += 1
        descriptor = os.memfd_create("document", os.MFD_CLOEXEC)
        return f"{self._count:026}", secrets.token_bytes(KEY), descriptor

    def _open(self, path: Path) -> tuple[Readable, list[int]]:
        if path.is_dir():
            raise Refusal("failed", "This is a folder.")
        document_id, key, descriptor = self._new()
        writer = SealedWriter(descriptor, key, document_context(document_id))
        with path.open("rb") as source:
            while data := source.read(256 * 1024):
                writer.write(data)
        size = writer.finish()
        readable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(descriptor)
        return Readable(size, key, document_id), [readable]

    def _begin(self, request: BeginUpload) -> tuple[Writable, list[int]]:
        target = self._writable(request.path)
        if target.is_dir():
            raise Refusal("exists", "There is a folder of this name.")
        if not target.parent.is_dir():
            raise Refusal("not_found", "No such file or folder.")
        document_id, key, descriptor = self._new()
        self._begun[document_id] = _Begun(target, descriptor, key)
        there = target.stat().st_size if request.resume and target.exists() else None
        return Writable(document_id, key, replaces=there), [os.dup(descriptor)]

    def _commit(self, request: Commit) -> Done:
        begun = self._begun.pop(request.document_id)
        try:
            if os.fstat(begun.descriptor).st_size != sealed_size(request.size):
                raise Refusal("failed", "This file was not whole; send it again.")
            reader = SealedReader(
                begun.descriptor, begun.key, document_context(request.document_id)
            )
            data = reader.read_at(0, request.size)
            if hashlib.sha256(data).digest() != request.sha256:
                raise Refusal("failed", "This file is not what its digest says.")
            begun.target.write_bytes(data)
        finally:
            os.close(begun.descriptor)
        return Done()


def _absolute(path: str) -> Path:
    return Path(os.path.normpath("/" + path.lstrip("/")))


def _entry(path: Path, name: str | None = None) -> Entry:
    found = path.stat()
    return Entry(
        path.name if name is None else name,
        stat.S_ISDIR(found.st_mode), found.st_size, int(found.st_mtime), found.st_mode,
    )  # fmt: skip


def answer(connection: socket.socket, root: Path) -> None:
    """Serve one client until it hangs up."""
    print("session begun", file=sys.stderr, flush=True)
    session = SftpSession(FolderCore(root), 1 << 30)
    requests = p.Assembler()
    try:
        while data := connection.recv(p.MAX_PACKET):
            requests.feed(data)
            while (packet := requests.next()) is not None:
                connection.sendall(session.answer(packet))
    except (p.PacketError, Disconnected, BrokenPipeError, ConnectionResetError) as error:
        print(f"session ended: {error}", file=sys.stderr)
    finally:
        session.end()
        connection.close()


def serve(path: Path, root: Path) -> None:
    """Listen at a unix socket for ever, a process for each connection."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(16)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                try:
                    answer(connection, root)
                finally:
                    os._exit(0)
            connection.close()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
