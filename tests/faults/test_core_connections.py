"""What a role can hold open in the core is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
import socket
import struct
import time

import pytest

from gateway.core.server import MOST
from gateway.errors import Disconnected, WireError
from gateway.wire import channel as channel_module
from gateway.wire.channel import REQUEST_LIMITS, AsyncChannel, Channel
from gateway.wire.messages import Claim, Verdict
from tests.servers.gateway_process import installation, running
from tests.support.sftp import Gateway


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
        for peer in held:
            with contextlib.suppress(OSError):
                peer.sendall(struct.pack("!IB", 1024, 0) + b"x")  # a frame that never ends
        # Whoever is served hears nothing: only the closed ones can be read.
        closed, waiting, deadline = 0, set(held), time.monotonic() + 20
        while closed < 20 and time.monotonic() < deadline:
            for peer in select.select(waiting, [], [], 1)[0]:
                waiting.discard(peer)
                try:
                    closed += peer.recv(1) == b""
                except OSError:
                    closed += 1
        assert closed >= 20
        for peer in held:
            peer.close()
        assert made.json("status")["serving"]


@pytest.mark.parametrize("role", sorted(REQUEST_LIMITS))
async def test_a_frame_longer_than_the_messages_of_its_socket_is_not_read(role):
    ours, theirs = socket.socketpair()
    channel = AsyncChannel(ours, accept_fds=False, limit=REQUEST_LIMITS[role])
    theirs.sendall(struct.pack("!IB", REQUEST_LIMITS[role] + 1, 0))
    with pytest.raises(WireError, match="expected at most"):
        await channel.receive()
    theirs.close()
    channel.close()


async def test_the_core_waits_for_a_message_but_not_for_the_rest_of_one(monkeypatch):
    monkeypatch.setattr(channel_module, "FRAME_SECONDS", 0.2)
    ours, theirs = socket.socketpair()
    channel = AsyncChannel(ours, accept_fds=False)
    waiting = asyncio.create_task(channel.receive())
    await asyncio.sleep(0.4)
    assert not waiting.done()
    theirs.sendall(struct.pack("!IB", 3, 0) + b"ab")
    with pytest.raises(WireError, match="the rest of it"):
        await waiting
    theirs.close()
    channel.close()


def test_the_core_hangs_up_on_an_inspector_that_gave_its_verdict(template):
    with Gateway(template) as gateway:
        with gateway.paramiko() as client, client.open("/inbox/a.txt", "w") as remote:
            remote.write(b"text")
        inspector = Channel.connect(gateway.folder / "run" / "inspect.sock", timeout=60)
        work, descriptors = inspector.call(Claim())
        os.close(descriptors[0])
        inspector.call(Verdict(work.document_id, work.size, hashlib.sha256(b"text").digest()))
        with pytest.raises(Disconnected):
            inspector.call(Claim())
        inspector.close()
