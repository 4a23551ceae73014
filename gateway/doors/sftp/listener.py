"""The listener of the sftp door: accepts, counts, forks one process per connection.

The parent is single-threaded and touches no byte of a connection. Each child has its own interpreter
lock, its own limits, its own connection to the core and a fence (`fence`) that leaves it little else; one
hostile client costs one process. Connections are capped in all and per source address. A login has a
deadline that starts with the connection; an idle session ends.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from typing import Any, Final

import structlog

from gateway import service
from gateway.config import Config, parse_listen
from gateway.doors.sftp.fence import missing_fences, raise_fence
from gateway.doors.sftp.session import SftpSession
from gateway.doors.sftp.transport import DoorServer, DoorTransport
from gateway.errors import ConfigurationError, GatewayError
from gateway.wire.channel import Channel
from gateway.wire.messages import Greet, Greeting

BACKLOG: Final = 256
CORE_PATIENCE: Final = 5.0
PATROL: Final = 1.0  # seconds between looks at a connection's clock
PARKING: Final = 10.0  # seconds that putting open uploads away may take

log = structlog.get_logger("sftp")


def listen(address: str, key: str) -> socket.socket:
    """A listening TCP socket.

    Raises:
        ConfigurationError: the address can't be used (a port in use, say).
    """
    host, port = parse_listen(address, key)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # Not its own text: `create_server` adds the address once more.
        found = os.strerror(error.errno) if error.errno else error
        raise ConfigurationError(
            f"{key}: expected to listen on {address}, found {found}"
        ) from error
    return listener


def run(config: Config) -> None:
    """Accept connections until SIGTERM or SIGINT (raises ConfigurationError)."""
    service.configure_logging(config, "sftp")
    service.forbid_core_dumps()
    listener = listen(config.sftp.listen, "sftp.listen")
    Listener(config, listener).serve()


class Listener:
    """The accepting parent."""

    def __init__(self, config: Config, listener: socket.socket) -> None:
        self._config = config
        self._listener = listener
        self._children: dict[int, str] = {}
        self._stopping = False

    def serve(self) -> None:
        """Accept until told to stop, then end the children."""
        wake_read, wake_write = socket.socketpair()
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._listener.setblocking(False)
        missing = missing_fences()
        if missing:
            log.warning("the kernel lacks fences for connections", missing=missing)
        # What is loaded now is shared with every child: collecting it would copy its pages.
        gc.collect()
        gc.freeze()
        service.ready()
        log.info("sftp door listens", address=self._config.sftp.listen)
        watchdog = service.watchdog_interval() or 5.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(min(watchdog, 5.0)):
                    if key.fileobj is wake_read:
                        wake_read.recv(4096)
                    else:
                        self._accept()
                self._reap()
                service.notify("WATCHDOG=1")
        self._listener.close()
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
                self._children.clear()
                return
            if pid == 0:
                return
            self._children.pop(pid, None)

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:
            return
        source = source_of(address)
        self._reap()
        if len(self._children) >= self._config.sftp.max_connections:
            log.warning("connection refused", why="too many connections")
            connection.close()
            return
        if (
            sum(child == source for child in self._children.values())
            >= self._config.sftp.max_connections_per_source
        ):
            log.warning("connection refused", why="too many connections from one source")
            connection.close()
            return
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            log.error("connection refused", why=error.strerror)
            connection.close()
            return
        if pid:
            self._children[pid] = source
            connection.close()
            return
        code = 1
        try:
            self._listener.close()
            signal.set_wakeup_fd(-1)
            serve_connection(self._config, connection, str(address[0]), parent)
            code = 0
        except BaseException as error:  # noqa: BLE001  a child ends here whatever happens
            log.error("connection failed", error=type(error).__name__)
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code)


def source_of(address: tuple[Any, ...]) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 /64."""
    try:
        ip = ipaddress.ip_address(address[0])
    except ValueError:
        return str(address[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def serve_connection(config: Config, connection: socket.socket, peer: str, parent: int) -> None:
    """One connection, in its own process: core, fence, key exchange, login, sessions."""
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
    raise_fence(config, parent)  # from here on nothing of the client is trusted

    def start() -> SftpSession:
        return SftpSession(core, config.sftp.max_document_size)

    transport = DoorTransport(connection, core, greeting.host_keys, start)
    deadline = time.monotonic() + greeting.login_grace
    transport.start_server(event=threading.Event(), server=DoorServer(transport))
    watch = select.poll()
    watch.register(transport.ended, select.POLLHUP)
    watch.register(core.fileno(), select.POLLRDHUP)
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
            break
        # A login is granted within the time left for it: look again soon after.
        if watch.poll(min(left, PATROL) * 1000):
            break  # the connection is over, or the core has ended it
    transport.hang_up()
    transport.join(PARKING)  # open uploads are parked before the process ends
    core.close()
