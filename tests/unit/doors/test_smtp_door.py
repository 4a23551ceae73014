"""What the mail door relies on: names of aiosmtpd that exist, caps that count, one source for an IPv6 /64."""

from __future__ import annotations

import asyncio
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
from gateway.doors.smtp.connection import Conversation, Terms
from gateway.doors.smtp.session import DoorSession

OVERRIDDEN = {
    "__init__",
    "_handle_client",
    "_timeout_cb",
    "connection_lost",
    "connection_made",
    "data_received",
    "eof_received",
    "line_length_limit",
}
# Set by aiosmtpd's own __init__ or connection_made, or called there.
RELIED_ON = {"_reset_timeout", "_cb_client_connected", "connection_made", "_handle_client"}


def ours(kind):
    special = {"__module__", "__doc__", "__abstractmethods__", "_abc_impl", "__parameters__"}
    return {name for name in vars(kind) if name not in special}


def test_what_overrides_aiosmtpd_is_exactly_what_is_meant_to():
    """aiosmtpd finds things by name: a typo would silently leave the original in force."""
    inherited = {name for base in SMTP.__mro__ if base is not object for name in vars(base)}
    found = ours(Conversation) & (inherited | {"__init__"})
    assert found == OVERRIDDEN
    assert ours(DoorSession) & inherited <= {"__init__"}
    assert inherited >= RELIED_ON


async def test_aiosmtpd_still_has_the_attributes_that_the_door_uses():
    async def attributes():
        session = SMTP(None, hostname="x", loop=asyncio.get_running_loop())
        return vars(session).keys()

    assert await attributes() >= {
        "transport",
        "loop",
        "_timeout_handle",
        "_handler_coroutine",
    }


async def test_a_reset_connection_leaves_no_error_that_nobody_awaits():
    """Such an error would be reported as unforeseen once its future is garbage."""

    async def reset_one() -> BaseException | None:
        loop = asyncio.get_running_loop()
        sessions: list[DoorSession] = []

        def made() -> DoorSession:
            sessions.append(
                DoorSession(
                    Terms(
                        domain="x", limit=1000, timeout=5.0, tls=None, connections=Connections(5),
                        connect=asyncio.Event().wait,
                    ),
                    loop,
                )
            )  # fmt: skip
            return sessions[-1]

        server = await loop.create_server(made, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.readline()
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.close()
        await asyncio.wait([sessions[0]._closed], timeout=5)
        server.close()
        return sessions[0]._closed.exception()

    assert await reset_one() is None


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
