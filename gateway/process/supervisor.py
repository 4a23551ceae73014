"""`strongroom run`: all roles in the foreground under one supervisor.

Promises: the core is up before the others start; a role that ends unasked is said and restarted, with
growing delays while it keeps failing; a role that can't start at all (exit code 2) ends everything with
its own one line. Ctrl-C or SIGTERM stops everything in order: doors first, then inspectors and courier,
the core last, so that nothing acknowledged is cut off. No role outlives the supervisor.

Roles announce themselves by sd_notify datagrams, exactly as under systemd.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.errors import ConfigurationError
from gateway.process import service

START_PATIENCE: Final = 60.0
STOP_PATIENCE: Final = 20.0
SHORTEST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
STEADY: Final = 60.0  # a role up this long starts over with the shortest delay
WAVES: Final = (("core",), ("inspect", "courier", "resolver"), ("smtp", "sftp", "mailbox"))
"""The roles in the order they start in, and stop against."""

Say = Callable[[str], None]


class _Explained(ConfigurationError):
    """A role can't start and has said why itself: one line is enough."""


@dataclass
class _Role:
    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    ready: bool = False
    delay: float = SHORTEST_DELAY
    restart_at: float | None = None
    environment: dict[str, str] = field(default_factory=dict)


class Supervisor:
    """Starts, watches, restarts and stops the roles."""

    def __init__(self, config_path: Path, say: Say, *, without: Collection[str] = ()) -> None:
        """`without`: roles that this configuration has no use for."""
        self._config_path = config_path
        self._say = say
        self._roles = {name: _Role(name) for wave in WAVES for name in wave if name not in without}
        self._stopping = False
        self._folder = tempfile.TemporaryDirectory(prefix="strongroom-")
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = str(Path(self._folder.name) / "notify")
        self._notices.bind(self._address)
        self._notices.setblocking(False)
        # Datagrams carry their sender's pid, so that a role can speak for itself only. Each role leads a
        # process group: a helper of a role speaks for it (the mail door makes no sockets).
        self._notices.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def run(self, on_ready: Callable[[], None]) -> int:
        """Run until told to stop; returns the exit code.

        Args:
            on_ready: called once, when every role serves.
        """
        wake_read, wake_write = socket.socketpair()
        wake_write.setblocking(False)
        previous_wake = signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        previous = {
            number: signal.signal(number, self._ask_to_stop)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._notices, selectors.EVENT_READ)
                selector.register(wake_read, selectors.EVENT_READ)
                try:
                    self._start_all(selector)
                except _Explained:
                    return 2
                except ConfigurationError as error:
                    self._say(str(error))
                    return 2
                if not self._stopping:
                    service.ready()
                    on_ready()
                while not self._stopping:
                    self._turn(selector)
                return 0
        finally:
            self._stop_all()
            signal.set_wakeup_fd(previous_wake)
            for number, handler in previous.items():
                signal.signal(number, handler)
            wake_read.close()
            wake_write.close()
            self._notices.close()
            self._folder.cleanup()

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _start_all(self, selector: selectors.BaseSelector) -> None:
        """Start the core, then the rest once it serves."""
        for wave in self._waves(WAVES[:1], WAVES[1:]):
            for name in wave:
                self._start(self._roles[name])
            deadline = time.monotonic() + START_PATIENCE
            while not self._stopping and not all(self._roles[name].ready for name in wave):
                for name in wave:
                    role = self._roles[name]
                    code = role.process.poll() if role.process else None
                    if code == 2:
                        raise _Explained(f"{name}: it refused to start")
                    if code is not None:
                        raise ConfigurationError(
                            f"{name}: it ended with exit code {code} while starting"
                        )
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"{wave}: expected to be ready within {START_PATIENCE:.0f} s"
                    )
                self._listen(selector, 0.2)

    def _start(self, role: _Role) -> None:
        role.ready = False
        role.restart_at = None
        role.started = time.monotonic()
        role.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gateway.cli", role.name, "-c", str(self._config_path)],
            env={
                **os.environ,
                "NOTIFY_SOCKET": self._address,
                "STRONGROOM_SUPERVISED": str(os.getpid()),
            },
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C reaches the supervisor alone, which stops them in order
        )

    def _listen(self, selector: selectors.BaseSelector, timeout: float) -> None:
        """Take notices and signals for at most `timeout` seconds."""
        for key, _ in selector.select(timeout):
            if key.fileobj is not self._notices:
                with contextlib.suppress(OSError):
                    key.fileobj.recv(4096)  # type: ignore[union-attr]
                continue
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, ancillary, _flags, _address = self._notices.recvmsg(4096, 1024)
                    pid = next(
                        (
                            int.from_bytes(value[:4], sys.byteorder)
                            for level, kind, value in ancillary
                            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS
                        ),
                        0,
                    )
                    leader = _leader(pid)
                    for role in self._roles.values():
                        if role.process and role.process.pid == leader and b"READY=1" in data:
                            role.ready = True

    def _turn(self, selector: selectors.BaseSelector) -> None:
        """Notice ended roles, restart those whose delay is over."""
        self._listen(selector, 0.5)
        now = time.monotonic()
        for role in self._roles.values():
            if role.process is not None and (code := role.process.poll()) is not None:
                if self._stopping:
                    return
                if now - role.started > STEADY:
                    role.delay = SHORTEST_DELAY
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                self._say(f"{role.name}: ended with {how}; restarting in {role.delay:.1f} s")
                role.process = None
                role.restart_at = now + role.delay
                role.delay = min(role.delay * 2, LONGEST_DELAY)
            elif role.process is None and role.restart_at is not None and now >= role.restart_at:
                self._start(role)
                self._say(f"{role.name}: restarted")

    def _waves(self, *groups: Sequence[Sequence[str]]) -> list[list[str]]:
        """The roles there are, by groups of waves."""
        return [
            [name for wave in group for name in wave if name in self._roles] for group in groups
        ]

    def _stop_all(self) -> None:
        """Doors first, the core last; each is given time, then killed."""
        for wave in self._waves(WAVES[2:], WAVES[1:2], WAVES[:1]):
            running = [
                role
                for name in wave
                if (role := self._roles[name]).process is not None and role.process.poll() is None
            ]
            for role in running:
                assert role.process is not None
                role.process.terminate()
            deadline = time.monotonic() + STOP_PATIENCE
            for role in running:
                assert role.process is not None
                try:
                    role.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._say(f"{role.name}: did not stop in time; killed")
                    role.process.kill()
                    role.process.wait()


def _leader(pid: int) -> int:
    """The leader of a process's group; 0: the process is gone."""
    try:
        return os.getpgid(pid) if pid else 0
    except ProcessLookupError:
        return 0
