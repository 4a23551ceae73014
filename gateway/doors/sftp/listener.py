"""The listener of the sftp door: accepts, counts, forks one process per connection.

Promises: the parent is single-threaded and touches no byte of a connection. Each child has its own
interpreter lock, its own limits, its own connection to the core and a sandbox (`sandbox`) that leaves it
little else; one hostile client costs one process. A login has a deadline that starts with the connection;
an idle session ends.

Rules: connections are paced per source as long as they don't log in (`pacing`), and capped in all and per
source. At a cap, a connection that has not logged in makes room: the one that failed most, then one that
does not even exchange keys, then the oldest. A session that is logged in is never ended for another. How
far a child has come it says itself, a byte at a time, over a pipe; a lie there only spares its own waiting.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import structlog
from paramiko.ssh_exception import SSHException

from gateway.config import Config
from gateway.doors.sftp.pacing import Arrival, Arrivals
from gateway.doors.sftp.sandbox import missing_layers, restrict_process
from gateway.doors.sftp.session import SftpSession
from gateway.doors.sftp.ssh.authentication import EXCHANGED, FAILED, PROVEN
from gateway.doors.sftp.ssh.transport import DoorServer, DoorTransport
from gateway.errors import GatewayError
from gateway.process import service
from gateway.process.listen import listen_tcp
from gateway.process.sources import parse_networks
from gateway.wire.channel import Channel
from gateway.wire.messages import Farewell, Greet, Greeting

CORE_PATIENCE: Final = 5.0
PATROL: Final = 1.0  # seconds between looks at a connection's clock
PARKING: Final = 10.0  # seconds that putting open uploads away may take
COMPLAINT: Final = 1.0  # seconds between lines about refused connections
PROMPT: Final = 2.0  # seconds that a key exchange takes at most, of those who mean it

log = structlog.get_logger("sftp")


def run(config: Config) -> None:
    """Accept connections until SIGTERM or SIGINT (raises ConfigurationError)."""
    service.configure_logging(config, "sftp")
    service.forbid_core_dumps()
    listener = listen_tcp(config.sftp.listen, "sftp.listen")
    Listener(config, listener).serve()


@dataclass
class Child:
    """A connection's process, and how far it says that it has come."""

    source: str
    pipe: int
    since: float
    failures: int = 0
    exchanged: bool = False
    proven: bool = False
    ending: bool = False

    def badness(self, now: float) -> tuple[int, bool, float]:
        """How bad a connection is: the larger, the sooner it must make room for others."""
        age = now - self.since
        return self.failures, not self.exchanged and age > PROMPT, age


class Listener:
    """The accepting parent."""

    def __init__(self, config: Config, listener: socket.socket) -> None:
        self._config = config
        self._listener = listener
        self._children: dict[int, Child] = {}
        self._arrivals = Arrivals(
            config.login.connections_per_second, parse_networks(config.login.exempt)
        )
        self._selector = selectors.DefaultSelector()
        self._refused: Counter[str] = Counter()
        self._complained = 0.0
        self._stopping = False
        self._wake = socket.socketpair()

    def serve(self) -> None:
        """Accept until told to stop, then end the children."""
        wake_read, wake_write = self._wake
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._listener.setblocking(False)
        missing = missing_layers()
        if missing:
            log.warning("the kernel lacks fences for connections", missing=missing)
        # What is loaded now is shared with every child: collecting it would copy its pages.
        gc.collect()
        gc.freeze()
        service.ready()
        log.info("sftp door listens", address=self._config.sftp.listen)
        watchdog = service.watchdog_interval() or 5.0
        with self._selector as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            while not self._stopping:
                due = self._arrivals.due_in(time.monotonic())
                wait = min(watchdog, 5.0, 5.0 if due is None else due + 0.001)
                for key, _ in selector.select(wait):
                    if key.fileobj is wake_read:
                        wake_read.recv(4096)
                    elif key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._hear(key.data)
                self._reap()
                while (arrival := self._arrivals.next(time.monotonic())) is not None:
                    self._serve(arrival)
                self._complain()
                service.notify("WATCHDOG=1")
        self._listener.close()
        self._arrivals.close()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while self._children and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.05)
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _reap(self) -> None:
        while self._children:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                for pid in list(self._children):
                    self._forget(pid)
                return
            if pid == 0:
                return
            self._hear(pid)
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        child = self._children.pop(pid, None)
        if child is not None:
            self._mute(child)

    def _mute(self, child: Child) -> None:
        if child.pipe >= 0:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = -1

    def _hear(self, pid: int) -> None:
        """Read what a child reports about itself."""
        child = self._children.get(pid)
        if child is None or child.pipe < 0:
            return
        try:
            said = os.read(child.pipe, 64)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._mute(child)  # it is ending
            return
        child.failures += said.count(FAILED)
        child.exchanged |= EXCHANGED in said
        if PROVEN in said and not child.proven:
            child.proven = True
            self._arrivals.give_back(child.source, time.monotonic())
            self._mute(child)  # it has nothing more to say that would matter

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:
            return
        self._reap()
        arrival = self._arrivals.enter(connection, str(address[0]), time.monotonic())
        if arrival is not None:
            self._serve(arrival)

    def _make_room(self, source: str) -> str | None:
        """End a connection that is not logged in where a cap is reached; returns why if there is none."""
        login, sftp = self._config.login, self._config.sftp
        for pid, child in list(self._children.items()):
            if not child.proven:
                self._hear(pid)  # it may have logged in just now
        living = {pid: child for pid, child in self._children.items() if not child.ending}
        here = [pid for pid, child in living.items() if child.source == source]
        unproven = [pid for pid in here if not living[pid].proven]
        candidates: list[int] = []
        why = None
        if len(unproven) >= login.max_unproven_per_source:
            candidates = unproven
        if len(here) >= sftp.max_connections_per_source:
            candidates, why = unproven, "too many connections from one source"
        elif len(living) >= sftp.max_connections and not candidates:
            # The source with the most of them gives one, so that a flood displaces itself.
            counts = Counter(child.source for child in living.values() if not child.proven)
            busiest = counts.most_common(1)
            why = "too many connections"
            if busiest:
                candidates = [
                    pid
                    for pid, child in living.items()
                    if not child.proven and child.source == busiest[0][0]
                ]
        if not candidates:
            return why
        now = time.monotonic()
        worst = max(candidates, key=lambda pid: living[pid].badness(now))
        living[worst].ending = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(worst, signal.SIGTERM)
        self._refused["displaced by a newer one"] += 1
        return None

    def _serve(self, arrival: Arrival) -> None:
        connection, source = arrival.connection, arrival.source
        why = self._make_room(source)
        if why is not None:
            self._refused[why] += 1
            connection.close()
            return
        parent = os.getpid()
        hears, says = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            log.error("connection refused", why=error.strerror)
            connection.close()
            os.close(hears)
            os.close(says)
            return
        if pid:
            os.close(says)
            os.set_blocking(hears, False)
            self._children[pid] = Child(source, hears, time.monotonic())
            self._selector.register(hears, selectors.EVENT_READ, pid)
            connection.close()
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            os.close(hears)
            self._let_go()
            os.set_blocking(says, False)
            serve_connection(self._config, connection, arrival.peer, parent, _speaker(says))
            code = 0
        except BaseException as error:  # noqa: BLE001  a child ends here whatever happens
            log.error("connection failed", error=type(error).__name__)
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code)

    def _let_go(self) -> None:
        """In a child: close the descriptors of the listener and of other connections."""
        self._listener.close()
        self._selector.close()
        self._arrivals.close()
        for end in self._wake:
            end.close()
        for child in self._children.values():
            if child.pipe >= 0:
                os.close(child.pipe)
        self._children.clear()

    def _complain(self) -> None:
        """Say what was refused, at most a line a second."""
        now = time.monotonic()
        if self._refused and now - self._complained >= COMPLAINT:
            for why, count in self._refused.items():
                log.warning("connections refused", why=why, count=count)
            self._refused.clear()
            self._complained = now


def _speaker(pipe: int) -> Callable[[bytes], None]:
    def say(what: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(pipe, what)

    return say


def serve_connection(
    config: Config,
    connection: socket.socket,
    peer: str,
    parent: int,
    say: Callable[[bytes], None],
) -> None:
    """One connection, in its own process: core, sandbox, key exchange, login, sessions.

    Args:
        say: tells the listener how far it has come.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    service.forbid_core_dumps()
    connection.setblocking(True)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        core = Channel.connect(config.socket("sftp"), timeout=CORE_PATIENCE)
    except GatewayError as error:
        log.warning("connection refused", why=str(error))
        connection.close()
        return
    greeting, _ = core.call(Greet(peer))
    core.settimeout(None)
    assert isinstance(greeting, Greeting)
    restrict_process(config, parent)  # from here on nothing of the client is trusted

    def start() -> SftpSession:
        return SftpSession(core, config.sftp.max_document_size)

    transport = DoorTransport(connection, core, greeting, start, say)
    deadline = time.monotonic() + greeting.login_grace
    transport.start_server(event=threading.Event(), server=DoorServer(transport))
    watch = select.poll()
    watch.register(transport.ended, select.POLLHUP)
    watch.register(core.fileno(), select.POLLRDHUP)
    reason: Literal["grace", "nonsense", "silent"] | None = None
    while transport.is_alive():
        now = time.monotonic()
        if transport.is_authenticated():
            left = transport.packetizer.heard + config.sftp.idle_timeout - now
            why = "idle session ended"
        else:
            left = deadline - now
            why = "login took too long"
        if left <= 0:
            log.info(why)
            reason = "grace"
            break
        # A login is granted within the time left for it: look again soon after.
        if watch.poll(min(left, PATROL) * 1000):
            break  # the connection is over, or the core has ended it
    transport.hang_up()
    transport.join(PARKING)  # open uploads are parked before the process ends
    if not transport.role:
        if reason is None:
            spoke = bool(transport.remote_version)
            broke = spoke and isinstance(transport.saved_exception, SSHException)
            reason = "nonsense" if broke else "silent"
        with contextlib.suppress(GatewayError):
            core.settimeout(CORE_PATIENCE)
            core.call(Farewell(reason, transport.mismatch))
    core.close()
