"""Arrivals: a source that does not log in is paced, one that means it goes first, and what waits is bounded."""

from __future__ import annotations

import contextlib
import socket

import pytest

from gateway.doors.sftp.pacing import MAX_WAITING, MAX_WAITING_PER_SOURCE, Arrivals
from gateway.process.sources import parse_networks

A, B = "192.0.2.1", "198.51.100.9"


@pytest.fixture
def connect():
    """Makes connections: ours, and the client's end."""
    with contextlib.ExitStack() as stack:

        def make(said: bytes = b""):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            if said:
                theirs.sendall(said)
            return ours, theirs

        yield make


def test_a_second_s_worth_is_served_at_once_and_the_rest_at_the_pace(connect):
    arrivals = Arrivals(10)
    at_once = sum(arrivals.enter(connect()[0], A, 0.0) is not None for _ in range(20))
    assert at_once == 10
    served = 0
    for tick in range(200):  # two seconds
        while arrivals.next(tick / 100):
            served += 1
        if tick == 49:
            assert 4 <= served <= 5
    assert served == 10
    assert arrivals.due_in(2.0) is None


def test_one_source_does_not_wait_for_another(connect):
    arrivals = Arrivals(10)
    for _ in range(30):
        arrivals.enter(connect()[0], A, 0.0)
    assert arrivals.enter(connect()[0], B, 0.0) is not None


def test_who_logs_in_is_never_paced(connect):
    arrivals = Arrivals(10)
    for _ in range(500):
        arrival = arrivals.enter(connect()[0], A, 0.0)
        assert arrival is not None
        arrivals.give_back(arrival.source, 0.0)


def test_giving_back_more_than_was_taken_fills_no_bucket_over_its_brim(connect):
    arrivals = Arrivals(10)
    arrivals.enter(connect()[0], A, 0.0)
    for _ in range(100):
        arrivals.give_back(A, 0.0)
    assert sum(arrivals.enter(connect()[0], A, 0.0) is not None for _ in range(20)) == 10


def test_a_client_that_speaks_goes_before_those_that_only_hold_a_socket(connect):
    arrivals = Arrivals(1)
    arrivals.enter(connect()[0], A, 0.0)
    for _ in range(5):
        assert arrivals.enter(connect()[0], A, 0.0) is None
    speaking, _ = connect(b"SSH-2.0-x\r\n")
    assert arrivals.enter(speaking, A, 0.0) is None
    assert arrivals.next(0.5) is None
    served = arrivals.next(1.0)
    assert served is not None
    assert served.connection is speaking


def test_whoever_has_left_costs_no_turn(connect):
    arrivals = Arrivals(1)
    arrivals.enter(connect()[0], A, 0.0)
    for _ in range(5):
        ours, theirs = connect()
        arrivals.enter(ours, A, 0.0)
        theirs.close()
    last, _ = connect()
    arrivals.enter(last, A, 0.0)
    served = arrivals.next(1.0)
    assert served is not None
    assert served.connection is last


def test_what_waits_is_bounded_and_the_silent_make_room_for_those_who_speak(connect):
    arrivals = Arrivals(1)
    arrivals.enter(connect()[0], A, 0.0)
    silent = [connect()[0] for _ in range(MAX_WAITING_PER_SOURCE)]
    for ours in silent:
        arrivals.enter(ours, A, 0.0)
    speaking, _ = connect(b"SSH-")
    arrivals.enter(speaking, A, 0.0)
    assert silent[0].fileno() == -1
    served = arrivals.next(1.0)
    assert served is not None
    assert served.connection is speaking
    # In all, too: many sources, each with a few.
    for number in range(2 * MAX_WAITING):
        peer = f"10.0.{number // 8}.1"
        arrivals.enter(connect()[0], peer, 1.0)
    assert arrivals._count <= MAX_WAITING


def test_exempt_networks_are_not_paced(connect):
    arrivals = Arrivals(1, parse_networks(["192.0.2.0/24"]))
    assert all(arrivals.enter(connect()[0], A, 0.0) for _ in range(50))
    arrivals.enter(connect()[0], B, 0.0)
    assert arrivals.enter(connect()[0], B, 0.0) is None
