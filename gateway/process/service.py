"""What every role does as a process: logging, readiness, watchdog, stopping.

Promises: the same notifications go to systemd and to `strongroom run`'s supervisor. Logs go to standard
error, one event a line; they hold identifiers, codes and counts, never names, keys or document text. No
role leaves a core dump: it could hold a key.
Leaves out: the sandbox (`sandbox`), and sockets of our own making (`listen`).

Sources: sd_notify(3): a datagram to $NOTIFY_SOCKET.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from typing import Final

import structlog

from gateway.config import Config
from gateway.process.prctl import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logging(config: Config, role: str) -> None:
    """Send structured events of this process to standard error."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if config.log.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.log.level]),
        # Looked up for each logger: a stream that was replaced since is not written to.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(role=role)
    # Libraries' own logs may quote what somebody unknown sent: only their existence is let through.
    logging.basicConfig(level=logging.CRITICAL, stream=sys.stderr, format="%(name)s: %(levelname)s")


def forbid_core_dumps() -> None:
    """No core file, no reading of this process's memory by others of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        prctl(PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """Be killed when the parent dies, so that no role outlives its supervisor."""
    with contextlib.suppress(OSError, AttributeError):
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def notify(message: str) -> None:
    """Tell the supervisor something (sd_notify(3)); silently nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message.encode(), address)


def ready() -> None:
    """Say that this role serves."""
    notify("READY=1")


def watchdog_interval() -> float | None:
    """How often to send WATCHDOG=1, in seconds (half of what the supervisor allows), or None."""
    try:
        allowed = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    pid = os.environ.get("WATCHDOG_PID")
    if pid and pid != str(os.getpid()):
        return None
    return allowed / 2_000_000


def inherited_sockets() -> dict[str, socket.socket]:
    """Listening sockets handed over by systemd, by name (sd_listen_fds_with_names(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    found = {}
    for number in range(count):
        descriptor = 3 + number
        os.set_inheritable(descriptor, False)
        listener = socket.socket(fileno=descriptor)
        listener.setblocking(False)
        found[names[number] if number < len(names) else str(number)] = listener
    return found
