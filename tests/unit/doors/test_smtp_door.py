"""What the mail door is made of: one connection, lines to the core, caps that count, one source for an IPv6 /64."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct

import pytest
from aiosmtpd.smtp import SMTP

from gateway.doors.smtp.admission import (
    GRACE,
    IDLE,
    MAX_PER_SOURCE,
    Connections,
    Origin,
    Progress,
    origin_of,
    source_of,
)
from gateway.doors.smtp.certificate import Certificate
from gateway.doors.smtp.connection import READ, Conversation, Terms
from gateway.doors.smtp.lines import IDLE as IDLE_LINES
from gateway.doors.smtp.lines import MAX_REQUESTS, Lines
from gateway.doors.smtp.rates import Rates
from gateway.doors.smtp.session import DoorSession

# Every way in from the network or a timer: what is not overridden would reach a stream never made.
OVERRIDDEN = {
    "__init__",
    "_handle_client",
    "_timeout_cb",
    "connection_lost",
    "connection_made",
    "data_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
}


def ours(kind):
    special = {"__module__", "__doc__", "__abstractmethods__", "_abc_impl", "__parameters__"}
    return {name for name in vars(kind) if name not in special}


def test_what_overrides_aiosmtpd_is_exactly_what_is_meant_to():
    """aiosmtpd finds things by name: a typo would silently leave the original in force."""
    inherited = {name for base in SMTP.__mro__ if base is not object for name in vars(base)}
    found = ours(Conversation) & (inherited | {"__init__"})
    assert found == OVERRIDDEN
    assert ours(DoorSession) & inherited <= {"__init__"}


def test_all_that_a_transport_calls_is_overridden():
    called = {
        name
        for base in (asyncio.Protocol, *asyncio.Protocol.__mro__)
        for name in vars(base)
        if not name.startswith("__")
    }
    assert called - {"_is_protocol", "_abc_impl"} <= OVERRIDDEN


async def served(**terms):
    """A door without a core: its address, its sessions, and what its loop could tell nobody."""
    loop = asyncio.get_running_loop()
    sessions: list[DoorSession] = []
    unforeseen: list[dict] = []
    loop.set_exception_handler(lambda _loop, context: unforeseen.append(context))
    facts = {
        "domain": "x", "limit": 1000, "timeout": 5.0, "certificate": Certificate(None),
        "connections": Connections(5), "rates": Rates(0, 0, ()), "lines": Lines(asyncio.Event().wait),
    }  # fmt: skip

    def made() -> DoorSession:
        sessions.append(DoorSession(Terms(**{**facts, **terms}), loop))
        return sessions[-1]

    server = await loop.create_server(made, "127.0.0.1", 0)
    return server, sessions, unforeseen


async def test_a_reset_connection_ends_its_task_and_leaves_no_error_that_nobody_awaits():
    server, sessions, unforeseen = await served()
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.readline()
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.close()
    task = sessions[0]._task
    await asyncio.wait([task], timeout=5)
    assert task.done()
    del task
    sessions.clear()
    gc.collect()
    await asyncio.sleep(0)
    server.close()
    assert unforeseen == []


async def test_what_nobody_takes_is_bounded_and_goes_on_when_it_is_taken():
    """The core works on a command: its peer can't fill the door's memory meanwhile."""
    server, sessions, _ = await served()
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.readline()
    released = asyncio.Event()

    async def busy(_line):
        await released.wait()

    obey, sessions[0]._obey = sessions[0]._obey, busy
    writer.write(b"NOOP\r\n" + b"x" * (8 * READ))
    while not sessions[0]._paused:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert sessions[0]._arrived_size <= READ + 256 * 1024  # what asyncio reads at once
    sessions[0]._obey = obey
    released.set()
    writer.write(b"\r\nNOOP\r\nQUIT\r\n")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == (
        b"500 5.5.2 Line too long\r\n250 2.0.0 OK\r\n221 2.0.0 Bye\r\n"
    )
    server.close()


async def test_a_deadline_that_moves_later_is_kept_and_one_that_moves_nearer_too():
    server, sessions, _ = await served()
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.readline()
    session = sessions[0]
    loop = asyncio.get_running_loop()
    first = session._timer.when()
    session._answer_by(first + 100)
    assert session._timer.when() == first  # it looks again then
    session._timer.cancel()
    session._timeout_cb()
    assert session._timer.when() == first + 100
    session._hold_timer()
    session._timer.cancel()
    session._timeout_cb()
    assert session._timer is None  # nobody is late while the core works
    session._answer_by(loop.time() - 1)
    assert await asyncio.wait_for(reader.read(), 5) == b"421 4.4.2 Timeout exceeded\r\n"
    writer.close()
    server.close()


# ── lines to the core ──


class Channel:
    def __init__(self):
        self.closed = self.away = False

    def gone(self):
        return self.away

    def close(self):
        self.closed = True


def lines_of(made):
    async def connect():
        made.append(Channel())
        return made[-1]

    return Lines(connect)


async def test_a_line_serves_one_connection_at_a_time_and_then_the_next():
    lines = lines_of(made := [])
    first, second = await lines.borrow(), await lines.borrow()
    assert first.channel is not second.channel
    lines.give_back(first)
    assert (await lines.borrow()) is first
    assert len(made) == 2


async def test_a_line_whose_core_has_gone_is_replaced():
    lines = lines_of(made := [])
    line = await lines.borrow()
    lines.give_back(line)
    made[0].away = True
    assert (await lines.borrow()) is not line
    assert made[0].closed
    assert not made[1].closed


async def test_a_line_ends_after_its_requests_and_only_so_many_wait():
    lines = lines_of([])
    line = await lines.borrow()
    line.requests = MAX_REQUESTS
    lines.give_back(line)
    assert line.channel.closed
    many = [await lines.borrow() for _ in range(IDLE_LINES + 1)]
    for each in many:
        lines.give_back(each)
    assert [each.channel.closed for each in many] == [False] * IDLE_LINES + [True]


class Nobody:
    def __init__(self, since=0.0, **facts):
        self.progress = Progress(since, **facts)
        self.asked = self.was_cut = self.displaced = False

    def end_when_idle(self):
        self.asked = True

    def displace(self):
        self.displaced = True

    def cut(self):
        self.was_cut = True


def place(source, network=None):
    return Origin(source, source if network is None else network)


def test_one_source_has_its_share_and_gets_it_back():
    connections = Connections(limit=100)
    guests = [Nobody() for _ in range(MAX_PER_SOURCE)]
    assert all(connections.admit(guest, place("a"), 0.0) == "" for guest in guests)
    assert "one source" in connections.admit(Nobody(), place("a"), 0.0)
    assert connections.admit(Nobody(), place("b"), 0.0) == ""
    connections.release(guests[0])
    connections.release(guests[0])
    assert connections.admit(Nobody(), place("a"), 0.0) == ""
    assert "one source" in connections.admit(Nobody(), place("a"), 0.0)


def test_all_sources_together_have_a_cap():
    connections = Connections(limit=2)
    assert connections.admit(Nobody(), place("a"), 0.0) == ""
    assert connections.admit(Nobody(), place("b"), 0.0) == ""
    assert connections.admit(Nobody(), place("c"), 0.0) == "too many connections"
    assert len(connections) == 2


def full(*guests, network=None):
    """A door whose places all these have, each from a network of its own or from one."""
    connections = Connections(limit=len(guests))
    for number, guest in enumerate(guests):
        assert connections.admit(guest, place(f"s{number}", network), guest.progress.since) == ""
    return connections


def test_the_slowest_makes_room_and_nobody_while_there_is_room():
    slow, slower, fast = Nobody(), Nobody(), Nobody()
    connections = Connections(limit=3)
    for guest, source in ((slow, "a"), (slower, "b")):
        connections.admit(guest, place(source), 0.0)
    for second in range(60):
        slow.progress.add(2, second)
        slower.progress.add(1, second)
    assert connections.admit(fast, place("c"), 60.0) == ""
    assert not slower.displaced  # there was room
    fast.progress.add(100_000, 61.0)
    assert connections.admit(Nobody(), place("d"), 62.0) == ""
    assert (slow.displaced, slower.displaced, fast.displaced) == (False, True, False)
    assert len(connections) == 3


def test_a_burst_long_ago_is_no_progress():
    burst, steady = Nobody(), Nobody()
    connections = full(burst, steady)
    burst.progress.add(1_000_000, 1.0)
    for second in range(300):
        steady.progress.add(200, second)
    assert connections.admit(Nobody(), place("new"), 300.0) == ""
    assert burst.displaced
    assert not steady.displaced


@pytest.mark.parametrize(
    ("guest", "now", "displaced"),
    [
        (Nobody(), GRACE, False),  # has only begun
        (Nobody(), GRACE + 0.1, True),
        (Nobody(held=True), 1000.0, False),  # waits for the core
        (Nobody(acknowledged=True), 1000.0, True),  # silent since
    ],
)
def test_who_may_be_displaced(guest, now, displaced):
    connections = full(guest)
    assert (connections.admit(Nobody(), place("s0"), now) == "") == displaced
    assert guest.displaced == displaced


def test_whose_message_was_acknowledged_is_not_displaced_while_it_speaks():
    guest = Nobody(acknowledged=True)
    connections = full(guest)
    guest.progress.add(1, 100.0)
    assert connections.admit(Nobody(), place("b"), 100.0 + IDLE) == "too many connections"
    assert connections.admit(Nobody(), place("b"), 100.1 + IDLE) == ""


def test_a_flood_of_new_connections_displaces_itself():
    flood = [Nobody(since=number / 10) for number in range(3)]
    connections = Connections(limit=4)
    other = Nobody(since=0.0)
    connections.admit(other, place("other"), 0.0)
    for number, guest in enumerate(flood):
        connections.admit(guest, place(f"f{number}", "flood"), 0.5)
    assert connections.admit(Nobody(), place("f9", "flood"), 1.0) == "too many connections"
    assert connections.admit(Nobody(), place("new"), 1.0) == ""
    assert [guest.displaced for guest in (other, *flood)] == [False, True, False, False]


def test_one_network_has_a_quarter_of_the_places_and_its_slowest_make_room_in_it():
    connections = Connections(limit=100)
    guests = [Nobody() for _ in range(25)]
    for number, guest in enumerate(guests):
        assert connections.admit(guest, place(f"s{number}", "n"), 0.0) == ""
        guest.progress.add(1_000_000, 1.0)
    assert "one network" in connections.admit(Nobody(), place("more", "n"), 10.0)
    assert connections.admit(Nobody(), place("elsewhere"), 10.0) == ""
    guests[3].progress = Progress(0.0)
    assert connections.admit(Nobody(), place("more", "n"), 10.0) == ""
    assert [guest for guest in guests if guest.displaced] == [guests[3]]


def test_refusals_are_a_line_a_minute_with_their_number(monkeypatch):
    counts = []

    class Log:
        def warning(self, event, *, why, count):
            assert (event, why) == ("connections refused", "too many connections")
            counts.append(count)

    monkeypatch.setattr("gateway.doors.smtp.admission.log", Log())
    connections = full(Nobody(held=True))
    for second in range(100):
        connections.admit(Nobody(), place("b"), float(second))
    connections.complain(121.0)
    assert counts == [1, 60, 39]


async def test_closing_admits_nobody_asks_everyone_and_cuts_who_stays():
    connections = Connections(limit=9)
    polite, stubborn = Nobody(), Nobody()
    connections.admit(polite, place("a"), 0.0)
    connections.admit(stubborn, place("a"), 0.0)
    task = asyncio.create_task(connections.close(0.2))
    await asyncio.sleep(0.05)
    assert polite.asked
    assert stubborn.asked
    assert "going down" in connections.admit(Nobody(), place("b"), 0.0)
    connections.release(polite)
    await task
    assert stubborn.was_cut
    assert not polite.was_cut


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        (("",), ""),
    ],
)
def test_an_ipv6_customer_is_one_source(address, source):
    assert source_of(address) == source


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (("192.0.2.7", 1), "192.0.2.0/24"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.0/24"),
        (("2001:db8:1:2ff:3:4:5:6", 1, 0, 0), "2001:db8:1:200::/56"),
        (("",), ""),
    ],
)
def test_a_network_is_what_is_cheap_to_have_many_sources_in(address, network):
    assert origin_of(address).network == network
