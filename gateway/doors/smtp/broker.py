"""The broker: the one way out of the mail door's sandbox to the core and to the supervisor.

Promises: the door itself makes no socket and connects to nothing. A helper, forked before the first sender
is let in, connects to the core's socket for the mail door, and to nothing else, whenever the door asks, and
hands the connection over as a descriptor; so a core that was restarted is found again. It reads the door's
certificate and key anew when they have changed, and passes on three notices to the supervisor. The door
sends it one byte that says which: hostile code in the door can have more such connections and the key that
it serves with, which it has anyway, and say that it is well, and nothing else.

Leaves out: how many connections there are (the door's places), and what is said on them (`intake`).

Rules: landlock can't tell one unix socket from another, and a system-call filter can't see a path; hence a
second process, and not a permission. For the same reason the door has no datagram socket, not even that of
its notices: it could send to any name. The broker has a sandbox, too, in which it can read the folders of the
certificate and its key, and ends when the door does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from gateway.doors.smtp.certificate import Files
from gateway.errors import Disconnected
from gateway.process import service
from gateway.process.sandbox import MIB, UNLIMITED, SandboxLimits, enter_sandbox
from gateway.wire.channel import AsyncChannel, until_ready

PATIENCE: Final = 5  # seconds that the core may take to have room in its queue
CALLS: Final = frozenset({"socket", "connect"})
LIMITS: Final = SandboxLimits(
    memory=64 * MIB, cpu_seconds=UNLIMITED, file_size=UNLIMITED, descriptors=16
)
CONNECT: Final = b"?"
RENEW: Final = b"c"
READY, WELL, STOPPING = b"r", b"w", b"s"
_NOTICES: Final[Mapping[bytes, str]] = {
    READY: "READY=1",
    WELL: "WATCHDOG=1",
    STOPPING: "STOPPING=1",
}
_LONGEST: Final = 256  # bytes of an answer: why there is no connection, or no certificate
_UNCHANGED: Final = b"="
_MOST_FILES: Final = 2  # descriptors with an answer
_TIMEVAL: Final = struct.Struct("ll")

log = structlog.get_logger("smtp")


class Broker:
    """The door's end. `lost` is set once there is no broker any more: then the door must start anew."""

    def __init__(self, line: socket.socket, path: Path, pid: int) -> None:
        self._line = line
        self._path = path
        self._lock = asyncio.Lock()
        self.pid = pid
        self.lost = asyncio.Event()

    async def connect(self) -> AsyncChannel:
        """A new connection to the core (raises Disconnected)."""
        # Who asked may go away; the answer comes all the same, and must not be taken for another's.
        asking = asyncio.get_running_loop().create_task(self._ask())
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(_let_go)
            raise

    async def renewed(self) -> tuple[int, int] | None:
        """Certificate and key as memory files, for the caller to close, if they have changed; None: not.

        Raises:
            Disconnected: they could not be read, or the broker is gone.
        """
        said, descriptors = await self._request(RENEW)
        if len(descriptors) == _MOST_FILES:
            return descriptors[0], descriptors[1]
        if said == _UNCHANGED:
            return None
        raise Disconnected(f"certificate: expected to read it, found {_text(said)}")

    def notify(self, notice: bytes) -> None:
        """Pass a notice on to the supervisor; one that can't be is lost, as with `service.notify`."""
        with contextlib.suppress(OSError):
            self._line.send(notice)

    async def _ask(self) -> AsyncChannel:
        said, descriptors = await self._request(CONNECT)
        if descriptors:
            return AsyncChannel(socket.socket(fileno=descriptors[0]))
        raise Disconnected(f"{self._path}: expected the core listening, found {_text(said)}")

    async def _request(self, what: bytes) -> tuple[bytes, list[int]]:
        """Ask for something, and hear the answer (raises Disconnected)."""
        async with self._lock:
            try:
                self._line.send(what)
                said, descriptors = await self._answer()
            except OSError as error:
                self.lost.set()
                raise Disconnected(f"broker: expected an answer, found {error.strerror}") from error
        if not said:
            self.lost.set()
            raise Disconnected("broker: it is gone")
        return said, descriptors

    async def _answer(self) -> tuple[bytes, list[int]]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                said, descriptors, _flags, _address = socket.recv_fds(
                    self._line, _LONGEST, _MOST_FILES, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                await until_ready(loop, self._line.fileno(), reading=True)
                continue
            return said, descriptors


def _let_go(asking: asyncio.Task[AsyncChannel]) -> None:
    """Close a connection that nobody waits for any more."""
    if not asking.cancelled() and asking.exception() is None:
        asking.result().close()


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace")


def start(path: Path, files: Files | None) -> Broker:
    """Fork the broker for the core's socket at `path`; called while this process has one thread.

    Args:
        files: the certificate and key that the door has loaded.
    """
    version = files.version() if files is not None else ()
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(
                    number, signal.SIG_IGN
                )  # the door may still need it: it ends with that
            kept = its.fileno()
            os.closerange(3, kept)
            os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
            readable = files.folders() if files is not None else ()
            enter_sandbox(LIMITS, door, readable=readable, calls=CALLS)
            _serve(its, path, files, version)
            code = 0
        except BaseException as error:  # noqa: BLE001  a child ends here whatever happens
            log.error("broker failed", error=type(error).__name__)
        finally:
            os._exit(code)
    its.close()
    ours.setblocking(False)
    return Broker(ours, path, pid)


def _serve(
    line: socket.socket,
    path: Path,
    files: Files | None,
    version: tuple[tuple[int, ...], ...],
) -> None:
    """Connect, read and notify as often as asked, until the door is gone."""
    with contextlib.suppress(ConnectionError):
        while asked := line.recv(1):
            if asked == RENEW:
                version = _renew(line, files, version)
                continue
            if asked != CONNECT:
                if asked in _NOTICES:
                    service.notify(_NOTICES[asked])
                continue
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                # What `connect` waits for is room in the core's queue.
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(PATIENCE, 0)
                )
                try:
                    connection.connect(str(path))
                except OSError as error:
                    line.send((error.strerror or "no answer").encode()[:_LONGEST])
                    continue
                socket.send_fds(line, [b"!"], [connection.fileno()])


def _renew(
    line: socket.socket, files: Files | None, version: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, ...], ...]:
    """Hand certificate and key over if they have changed since `version`; returns the one looked at now."""
    now = files.version() if files is not None else version
    if files is None or now == version:
        line.send(_UNCHANGED)
        return version
    try:
        descriptors = files.read()
    except OSError as error:
        line.send((error.strerror or "files too large").encode()[:_LONGEST])
        return now
    socket.send_fds(line, [b"!"], list(descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    return now
