"""Sockets to listen at: TCP for the doors, unix sockets for the core.

Promises: an address that can't be used (a port in use, a core that runs already) is said with the key or the
path that names it. A unix socket is this user's only, from its first moment. Nothing returned here blocks.
Leaves out: accepting; sockets that systemd hands over (`service.inherited_sockets`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

from gateway.config import parse_listen
from gateway.errors import ConfigurationError

TCP_BACKLOG: Final = 256
UNIX_BACKLOG: Final = 512


def listen_tcp(address: str, key: str) -> socket.socket:
    """A listening TCP socket.

    Args:
        address: host:port, as the configuration has it.
        key: the key that it stands at, for messages.

    Raises:
        ConfigurationError: the address can't be used (a port in use, say).
    """
    host, port = parse_listen(address, key)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=TCP_BACKLOG)
    except OSError as error:
        # `create_server` repeats the address in its text; a resolver's numbers are no errno.
        resolver = isinstance(error, socket.gaierror)
        found = error.strerror if resolver or error.errno is None else os.strerror(error.errno)
        raise ConfigurationError(
            f"{key}: expected to listen on {address}, found {found}"
        ) from error
    listener.setblocking(False)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """A listening unix socket at `path`, for this user only.

    Raises:
        ConfigurationError: a core listens there already, or the place can't be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if path.exists():
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise ConfigurationError(f"{path}: another core is listening there already")
            path.unlink()
        previous = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous)
        listener.listen(UNIX_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{path}: expected to listen there, found {error.strerror}"
        ) from error
    except ConfigurationError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
