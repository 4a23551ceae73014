"""What unit tests share."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def pair():
    """The two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        here, _ = listener.accept()
    there.settimeout(20)
    here.settimeout(20)
    yield here, there
    here.close()
    there.close()
