"""What the mail door relies on: names of aiosmtpd that exist, caps that count, one source for an IPv6 /64."""

from __future__ import annotations

import asyncio

import pytest
from aiosmtpd.smtp import SMTP

from gateway.doors.smtp.connections import MAX_PER_SOURCE, Connections, source_of
from gateway.doors.smtp.conversation import Conversation
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


def test_aiosmtpd_still_has_the_attributes_that_the_door_uses():
    async def attributes():
        session = SMTP(None, hostname="x", loop=asyncio.get_running_loop())
        return vars(session).keys()

    assert asyncio.run(attributes()) >= {
        "transport",
        "loop",
        "_timeout_handle",
        "_handler_coroutine",
    }


class Nobody:
    def __init__(self):
        self.asked = self.was_cut = False

    def end_when_idle(self):
        self.asked = True

    def cut(self):
        self.was_cut = True


def test_one_source_has_its_share_and_gets_it_back():
    connections = Connections(limit=100)
    guests = [Nobody() for _ in range(MAX_PER_SOURCE)]
    assert all(connections.admit(guest, "a") == "" for guest in guests)
    assert "one source" in connections.admit(Nobody(), "a")
    assert connections.admit(Nobody(), "b") == ""
    connections.release(guests[0])
    connections.release(guests[0])
    assert connections.admit(Nobody(), "a") == ""
    assert "one source" in connections.admit(Nobody(), "a")


def test_all_sources_together_have_a_cap():
    connections = Connections(limit=2)
    assert connections.admit(Nobody(), "a") == ""
    assert connections.admit(Nobody(), "b") == ""
    assert connections.admit(Nobody(), "c") == "too many connections"
    assert len(connections) == 2


def test_closing_admits_nobody_asks_everyone_and_cuts_who_stays():
    async def close():
        connections = Connections(limit=9)
        polite, stubborn = Nobody(), Nobody()
        connections.admit(polite, "a")
        connections.admit(stubborn, "a")
        task = asyncio.create_task(connections.close(0.2))
        await asyncio.sleep(0.05)
        assert polite.asked
        assert stubborn.asked
        assert "going down" in connections.admit(Nobody(), "b")
        connections.release(polite)
        await task
        return polite, stubborn

    polite, stubborn = asyncio.run(close())
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
