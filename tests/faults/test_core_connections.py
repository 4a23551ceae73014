"""What a role can hold open in the core is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
import socket
import struct
import threading
import time
from concurrent.futures import Future

import msgspec
import pytest

from gateway.core import server as server_module
from gateway.core.server import MOST, CoreServer
from gateway.core.sessions.base import Session
from gateway.errors import Disconnected, Refusal, WireError
from gateway.wire.channel import MAX_FRAME, REQUEST_LIMITS, Assembler, Channel, as_frame
from gateway.wire.messages import Claim, Done, Stat, Verdict
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


class Echo(Session):
    """Answers each request in the way that it names."""

    def __init__(self):
        super().__init__(None)
        self.closed = asyncio.Event()
        self.pending: Future = Future()
        self.broken = False

    def handle(self, request):
        match request.path:
            case "now":
                return Done("now"), None
            case "later":
                return self.later()
            case "thread":
                return self.pending
            case "long":
                return Done("x" * 4_000_000), None
            case "endless":
                return self.endless()
            case "refused":
                raise Refusal("denied", "no")
            case "file":
                read, write = os.pipe()
                os.close(write)
                return Done("file"), read
        raise WireError("echo: expected another path")

    async def later(self):
        await asyncio.sleep(0.01)
        return Done("later"), None

    async def endless(self):
        return Done("x" * (MAX_FRAME + 1)), None

    async def close(self):
        self.closed.set()
        if self.broken:
            raise OSError("no")


@contextlib.asynccontextmanager
async def served(tmp_path, role="sftp"):
    """A core's server with one kind of session: a connection of a client, and the sessions so far."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "core.sock"))
    listener.listen()
    listener.setblocking(False)
    sessions: list[Echo] = []

    def session():
        sessions.append(Echo())
        return sessions[-1]

    server = CoreServer({role: listener}, {role: session}, own_sockets=True)
    serving = asyncio.create_task(server.serve())
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.setblocking(False)
    await asyncio.get_running_loop().sock_connect(peer, str(tmp_path / "core.sock"))
    try:
        yield peer, sessions
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        assert all(each.closed.is_set() for each in sessions)
        peer.close()
        listener.close()


async def answers(peer, count):
    """So many answers' texts, as a door reads them."""
    loop, assembler, texts = asyncio.get_running_loop(), Assembler(), []
    while len(texts) < count:
        while (frame := assembler.next()) is not None:
            texts.append(
                msgspec.msgpack.decode(frame[0])["message" if b"Refused" in frame[0] else "said"]
            )
        if len(texts) < count:
            data = await loop.sock_recv(peer, 1 << 20)
            assert data, texts
            assembler.feed(data, ())
    return texts


async def test_requests_sent_ahead_are_answered_one_after_another_in_their_order(tmp_path):
    async with served(tmp_path) as (peer, _):
        asked = ["now", "later", "refused", "now", "long", "later", "now"]
        peer.send(b"".join(as_frame(Stat(path), 0) for path in asked))
        texts = await asyncio.wait_for(answers(peer, len(asked)), 20)
        assert [text[:5] for text in texts] == [
            "now",
            "later",
            "no",
            "now",
            "xxxxx",
            "later",
            "now",
        ]


async def test_an_answer_of_another_thread_lets_the_next_request_in(tmp_path):
    async with served(tmp_path) as (peer, sessions):
        peer.send(as_frame(Stat("thread"), 0))
        await asyncio.sleep(0.05)
        peer.send(as_frame(Stat("now"), 0))
        await asyncio.sleep(0.05)
        threading.Thread(
            target=sessions[0].pending.set_result, args=((Done("thread"), None),)
        ).start()
        assert await asyncio.wait_for(answers(peer, 2), 10) == ["thread", "now"]


async def test_a_server_that_stops_waits_for_what_is_being_made_durable(tmp_path):
    async with served(tmp_path) as (peer, sessions):
        peer.send(as_frame(Stat("thread"), 0))
        await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_later(
            0.2, sessions[0].pending.set_result, (Done("thread"), None)
        )
        texts = asyncio.create_task(answers(peer, 1))
    assert await texts == ["thread"]


async def test_a_peer_that_leaves_while_it_is_answered_is_put_away(tmp_path):
    async with served(tmp_path) as (peer, sessions):
        peer.send(as_frame(Stat("later"), 0))
        await asyncio.sleep(0.002)
        peer.close()
        await asyncio.wait_for(sessions[0].closed.wait(), 5)


async def test_an_answer_that_can_not_be_sent_ends_the_connection(tmp_path):
    async with served(tmp_path) as (peer, sessions):
        peer.send(as_frame(Stat("endless"), 0))
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 100), 5) == b""
        await asyncio.wait_for(sessions[0].closed.wait(), 5)


async def test_the_rest_of_a_message_behind_another_is_waited_for_no_longer(monkeypatch, tmp_path):
    monkeypatch.setattr(server_module, "FRAME_SECONDS", 0.2)
    async with served(tmp_path) as (peer, sessions):
        peer.send(as_frame(Stat("later"), 0) + struct.pack("!IB", 3, 0) + b"ab")
        assert await answers(peer, 1) == ["later"]
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 100), 5) == b""
        await asyncio.wait_for(sessions[0].closed.wait(), 5)


async def test_whoever_sends_ahead_keeps_nobody_else_waiting(tmp_path):
    async with served(tmp_path) as (peer, _):
        turns = 0

        def turn():
            nonlocal turns
            turns += 1
            asyncio.get_running_loop().call_soon(turn)

        peer.send(as_frame(Stat("now"), 0) * 200)
        turn()
        assert await answers(peer, 200) == ["now"] * 200
        assert turns >= 200 / server_module.IN_A_TURN


async def test_a_session_that_can_not_be_put_away_keeps_no_other_from_it(tmp_path):
    async with served(tmp_path) as (peer, sessions):
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        other.setblocking(False)
        await asyncio.get_running_loop().sock_connect(other, str(tmp_path / "core.sock"))
        for each in (peer, other):
            each.send(as_frame(Stat("now"), 0))
            assert await answers(each, 1) == ["now"]
        sessions[0].broken = True
    other.close()


async def test_what_is_no_request_ends_the_connection(tmp_path):
    async with served(tmp_path) as (peer, sessions):
        peer.send(struct.pack("!IB", 5, 0) + b"hello")
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b""
        await asyncio.wait_for(sessions[0].closed.wait(), 5)


@pytest.mark.parametrize("role", sorted(REQUEST_LIMITS))
async def test_a_frame_longer_than_the_messages_of_its_socket_is_not_read(tmp_path, role):
    async with served(tmp_path, role) as (peer, sessions):
        peer.send(struct.pack("!IB", REQUEST_LIMITS[role] + 1, 0))
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b""
        await asyncio.wait_for(sessions[0].closed.wait(), 5)


async def test_the_core_waits_for_a_message_but_not_for_the_rest_of_one(monkeypatch, tmp_path):
    monkeypatch.setattr(server_module, "FRAME_SECONDS", 0.2)
    async with served(tmp_path) as (peer, sessions):
        await asyncio.sleep(0.4)
        peer.send(as_frame(Stat("now"), 0))
        assert await answers(peer, 1) == ["now"]
        peer.send(struct.pack("!IB", 3, 0) + b"ab")
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 100), 5) == b""
        await asyncio.wait_for(sessions[0].closed.wait(), 5)


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
