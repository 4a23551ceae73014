"""FileZilla's SFTP engine (`fzsftp`) without its window.

FileZilla runs this program for each connection and talks to it over its standard streams; so does `Engine`. A
command is a line; what comes back are events, each a character ('0' and up) and a number of lines that depends on
it. Files do not pass through the streams: the engine asks for pieces of a memory file that both have mapped.
(Observed with FileZilla 3.63, which speaks version 11 of this; others say so in their first line and are refused.)
"""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
from enum import IntEnum
from pathlib import Path
from typing import Final

from tests.support.sftp_client import HOST, Client, Outcome, quoted

VERSION: Final = "protocol_version=11"
SHARED: Final = 256 * 1024  # bytes of the memory file
RESUME: Final = str(2**64 - 1)  # "offset" with which the engine opens a local file to append to it


class Event(IntEnum):
    """What the engine says that matters here; the rest tells how the connection goes."""

    REPLY = 0
    DONE = 1
    ERROR = 2
    STATUS = 5
    ENTRY = 8
    ASK_HOST_KEY = 9
    ASK_CHANGED_KEY = 10
    ASK_BETTER_KEY = 11
    ASK_PASSWORD = 12
    QUOTA_RECEIVE = 16
    QUOTA_SEND = 17
    HOST_KEY = 25
    IO_SIZE = 26
    IO_OPEN = 27
    IO_NEXT = 28
    IO_FINISH = 29


_LINES: Final = {
    Event.ENTRY: 3, Event.ASK_HOST_KEY: 2, Event.ASK_CHANGED_KEY: 2, Event.ASK_BETTER_KEY: 2,
    Event.QUOTA_RECEIVE: 0, Event.QUOTA_SEND: 0, Event.IO_SIZE: 0,
}  # fmt: skip


class EngineError(Exception):
    """A command failed; what a person would have seen in FileZilla's message log."""


class Engine:
    """One connection."""

    def __init__(self, program: str, home: Path, fingerprint: str) -> None:
        """`fingerprint`: the only host key that is accepted, as ssh-keygen prints it."""
        self._fingerprint = fingerprint
        self._host_key = ""
        self._shared = os.memfd_create("fzsftp", 0)
        os.ftruncate(self._shared, SHARED)
        self._memory = mmap.mmap(self._shared, SHARED)
        self._local: Path | None = None
        self._position = 0
        self._upload = False
        self.entries: list[str] = []
        self._process = subprocess.Popen(
            [program, "-v"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, pass_fds=[self._shared], cwd=home,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        kind, (greeting,) = self._event()
        if kind != Event.REPLY or VERSION not in greeting:
            self.close()
            raise EngineError(f"expected {VERSION}, found {greeting}")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._memory.close()
        os.close(self._shared)

    def _say(self, line: str) -> None:
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _event(self) -> tuple[int, list[str]]:
        kind = self._process.stdout.read(1)
        if not kind:
            raise EngineError("the engine ended")
        number = kind[0] - ord("0")
        count = _LINES.get(number, 1)
        return number, [
            self._process.stdout.readline().decode("utf-8", "replace").rstrip("\n")
            for _ in range(count)
        ]

    def run(self, command: str, local: Path | None = None) -> str:
        """Carry out a command; `local` is the file that a transfer reads or writes.

        Returns what was said; raises EngineError if it failed.
        """
        self._local, self._position = local, 0
        self._upload = command.startswith(("put", "reput"))
        self.entries, said = [], []
        self._say(command)
        while True:
            kind, lines = self._event()
            match kind:
                case Event.REPLY:
                    return "\n".join([*said, *lines])
                case Event.DONE:
                    if lines != ["1"]:
                        raise EngineError("\n".join(said))
                    return "\n".join(said)
                case Event.ERROR | Event.STATUS:
                    said += lines
                case Event.ENTRY:
                    self.entries.append(lines[2])
                case Event.HOST_KEY:
                    self._host_key = lines[0]
                case Event.ASK_HOST_KEY:
                    self._say("y" if self._fingerprint in self._host_key.split() else "")
                case Event.ASK_CHANGED_KEY | Event.ASK_BETTER_KEY | Event.ASK_PASSWORD:
                    self._say("")  # no
                case Event.QUOTA_RECEIVE | Event.QUOTA_SEND:
                    self._say(f"-{kind - Event.QUOTA_RECEIVE}-")  # as fast as it goes
                case Event.IO_SIZE | Event.IO_OPEN | Event.IO_NEXT | Event.IO_FINISH:
                    self._transfer(kind, lines)

    def _transfer(self, kind: int, lines: list[str]) -> None:
        """Answer the engine's questions about the local file."""
        assert self._local is not None
        if kind == Event.IO_SIZE:
            self._say(f"-{self._local.stat().st_size}")
        elif kind == Event.IO_OPEN:
            self._position = int(lines[0]) if lines[0] != RESUME else self._local.stat().st_size
            if not self._upload and self._position == 0:
                self._local.write_bytes(b"")
            self._say(f"-{self._shared} {SHARED} {self._position}")
        elif self._upload:
            with self._local.open("rb") as source:
                source.seek(self._position)
                piece = source.read(SHARED)
            self._memory[: len(piece)] = piece
            self._position += len(piece)
            self._say(f"-0 {len(piece)}" if piece else "-")
        else:
            with self._local.open("ab") as sink:
                sink.write(self._memory[: int(lines[0])])
            self._say(f"-0 {SHARED}" if kind == Event.IO_NEXT else "-1")


class FileZilla(Client):
    """FileZilla's engine, as FileZilla drives it."""

    refusal = "permission denied"

    def _do(self, user: str, *commands: tuple[str, Path | None]) -> tuple[Outcome, list[str]]:
        engine = Engine(self.need("fzsftp"), self.home, self.fingerprint)
        said = []
        try:
            engine.run(f"keyfile {quoted(self.gateway.key(user))}")
            engine.run(f'open "{user}@{HOST}" {self.gateway.port}')
            for command, local in commands:
                said.append(engine.run(command, local))
            return Outcome(done=True, text="\n".join(said)), engine.entries
        except EngineError as error:
            return Outcome(done=False, text=str(error)), []
        finally:
            engine.close()

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        return self._do(user, (f"put {quoted(local, remote)}", local))[0]

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        return self._do(user, (f"get {quoted(remote, local)}", local))[0]

    def listing(self, user: str, folder: str) -> list[str]:
        done, names = self._do(user, (f"cd {quoted(folder)}", None), ("ls", None))
        assert done.done, done.text
        return names

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        return self._do(user, (f"reput {quoted(local, remote)}", local))[0]

    def rename(self, user: str, old: str, new: str) -> Outcome:
        return self._do(user, (f"mv {quoted(old, new)}", None))[0]
