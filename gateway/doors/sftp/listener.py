"""The listener of the sftp door: accepts, counts, forks one process per connection.

The parent is single-threaded and touches no byte of a connection. Each child has its own interpreter
lock, its own limits (address space, descriptors, no core dump) and its own connection to the core; one
hostile client costs one process. Connections are capped in all and per source address. A login has a
deadline that starts with the connection; an idle session ends.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import resource
import selectors
import signal
import socket
import sys
import threading
import time
from typing import Any, Final

import paramiko
import structlog

from gateway import service
from gateway.config import Config, parse_listen
from gateway.doors.sftp.session import SftpSession
from gateway.doors.sftp.transport import DoorServer, DoorTransport
from gateway.errors import ConfigurationError, GatewayError
from gateway.wire.channel import Channel
from gateway.wire.messages import Greet, Greeting

BACKLOG: Final = 256
DESCRIPTORS: Final = 256
CORE_PATIENCE: Final = 5.0

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
        raise ConfigurationError(
            f"{key}: expected to listen on {address}, found {error.strerror or error}"
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
            serve_connection(self._config, connection, str(address[0]))
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


def serve_connection(config: Config, connection: socket.socket, peer: str) -> None:
    """One connection, in its own process: limits, core, key exchange, login, sessions."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    service.die_with_parent()
    _limit(config)
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
    transport = DoorTransport(connection, core, greeting.host_keys)
    transport.daemon = True
    deadline = time.monotonic() + greeting.login_grace
    touched = [time.monotonic()]
    sessions: list[threading.Thread] = []

    def touch() -> None:
        touched[0] = time.monotonic()

    def start(channel: paramiko.Channel) -> None:
        touch()
        session = SftpSession(channel, core, config.sftp.max_document_size, touch)

        def serve() -> None:
            try:
                session.run()
            finally:
                channel.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        sessions.append(thread)

    server = SubsystemServer(transport, start)
    transport.start_server(event=threading.Event(), server=server)
    while transport.is_active():
        now = time.monotonic()
        if not transport.is_authenticated() and now > deadline:
            log.info("login took too long")
            break
        if now - touched[0] > config.sftp.idle_timeout and transport.is_authenticated():
            log.info("idle session ended")
            break
        transport.join(0.2)
    transport.close()
    for thread in sessions:
        thread.join(10)  # open uploads are parked before the process ends
    core.close()


class SubsystemServer(DoorServer):
    """Starts a session where the client asks for the subsystem sftp, and refuses everything else."""

    def __init__(self, transport: DoorTransport, start: Any) -> None:
        super().__init__(transport)
        self._start = start
        self._started: set[int] = set()

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        if name != "sftp" or channel.get_id() in self._started:
            return False
        self._started.add(channel.get_id())
        self._start(channel)
        return True


def _limit(config: Config) -> None:
    """What one connection may use."""
    resource.setrlimit(resource.RLIMIT_AS, (config.sftp.memory_limit, config.sftp.memory_limit))
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
