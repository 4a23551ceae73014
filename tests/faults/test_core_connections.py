"""What a role can hold open in the core is bounded."""

from __future__ import annotations

import socket
import struct

import pytest

from gateway.core.server import MOST
from tests.servers.gateway_process import installation, running


@pytest.mark.parametrize("role", ["inspect", "admin"])
def test_connections_that_never_finish_a_frame_are_bounded_in_number(role):
    with installation() as made, running(made, "core"):
        path = made.folder / "run" / f"{role}.sock"
        held = []
        for _ in range(MOST[role] + 20):  # the core accepts and closes those beyond
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            peer.settimeout(5)
            peer.connect(str(path))
            held.append(peer)
        closed = 0
        for peer in held:
            peer.settimeout(0.05)
            try:
                peer.sendall(struct.pack("!IB", 1024, 0) + b"x")  # a frame that never ends
                closed += peer.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                closed += 1
        assert closed >= 20
        for peer in held:
            peer.close()
        assert made.json("status")["serving"]
