"""Whose turn it is to be inspected: by what each has cost, with a worker left for the others."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from gateway.core.inspection import claims
from gateway.core.inspection.queue import (
    HALF_LIFE,
    PATIENCE,
    SLOW,
    SLOW_FOR,
    InHand,
    Lane,
    Turns,
)
from gateway.core.intake.acquaintances import Acquaintance
from vault.catalogue.schema import documents
from vault.crypto.wrapping import blind_number

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def turns(clock):
    return Turns(clock)


def lane(client, number=1, *, suspect=False, waited=0.0):
    return Lane(client, number, suspect, NOW - timedelta(seconds=waited))


def held(clock, client, number=1, *, ago=0.0, **more):
    return InHand(client, number, begun=clock() - ago, **more)


def spend(turns, clock, client, number, seconds):
    before = clock.seconds
    done = held(clock, client, number)
    clock.seconds = before + seconds
    turns.returned(done)


def first(turns, lanes, in_hand=None, workers=2):
    order = turns.order(lanes, in_hand or {}, workers, NOW)
    return (order[0].client, order[0].lane) if order else None


def test_who_has_cost_nothing_goes_before_who_waits_longer(turns, clock):
    lanes = [lane("busy", waited=100), lane("quiet", waited=1)]
    assert first(turns, lanes) == ("busy", 1)
    spend(turns, clock, "busy", 1, 0.5)
    assert first(turns, lanes) == ("quiet", 1)


def test_a_cost_is_forgotten_by_halves(turns, clock):
    spend(turns, clock, "a", 1, 1.0)
    clock.seconds += HALF_LIFE
    assert turns.cost("a", None, {}, clock()) == pytest.approx(0.5)
    spend(turns, clock, "b", 1, 0.6)
    clock.seconds += 10 * HALF_LIFE
    spend(turns, clock, "b", 1, 0.1)
    assert first(turns, [lane("b"), lane("a")]) == ("a", 1)


def test_what_is_under_way_counts(turns, clock):
    lanes = [lane("a", waited=9), lane("b")]
    assert first(turns, lanes, {"1": held(clock, "a")}, workers=3) == ("b", 1)


def test_senders_of_one_client_take_turns(turns, clock):
    spend(turns, clock, "a", 1, 1.0)
    assert first(turns, [lane("a", 1, waited=60), lane("a", 2)]) == ("a", 2)


@pytest.mark.parametrize(("workers", "expected"), [(1, ("slow", 1)), (2, None), (3, ("slow", 1))])
def test_a_slow_client_never_has_the_last_worker(turns, clock, workers, expected):
    in_hand = {"1": held(clock, "slow", ago=SLOW + 1)}
    assert first(turns, [lane("slow")], in_hand, workers) == expected
    assert first(turns, [lane("slow"), lane("other")], in_hand, workers) == ("other", 1)


def test_several_slow_clients_together_leave_a_worker_too(turns, clock):
    in_hand = {"1": held(clock, "x", ago=SLOW + 1), "2": held(clock, "y", ago=SLOW + 1)}
    assert first(turns, [lane("x"), lane("y")], in_hand, workers=3) is None
    assert first(turns, [lane("x"), lane("new")], in_hand, workers=3) == ("new", 1)


def test_a_client_is_slow_for_a_while_and_not_for_ever(turns, clock):
    spend(turns, clock, "slow", 1, SLOW + 0.1)
    assert turns.is_slow("slow", {})
    clock.seconds += SLOW_FOR + 1
    assert not turns.is_slow("slow", {})
    spend(turns, clock, "quick", 1, SLOW - 0.1)
    assert not turns.is_slow("quick", {})


def test_suspects_come_last_and_one_at_a_time(turns, clock):
    lanes = [lane("a", suspect=True, waited=60), lane("b")]
    assert [each.client for each in turns.order(lanes, {}, 2, NOW)] == ["b", "a"]
    in_hand = {"1": held(clock, "a", suspect=True)}
    assert [each.client for each in turns.order(lanes, in_hand, 3, NOW)] == ["b"]


def test_a_suspect_that_has_waited_long_takes_its_turn(turns):
    lanes = [lane("a", suspect=True, waited=PATIENCE + 1), lane("b")]
    assert turns.order(lanes, {}, 2, NOW)[0].client == "a"


def test_reading_for_fixity_costs_a_client_nothing(turns, clock):
    done = held(clock, "a", fixity=True)
    clock.seconds += 100
    turns.returned(done)
    assert turns.cost("a", None, {}, clock()) == 0
    assert not turns.is_slow("a", {})


async def test_a_client_with_thousands_of_senders_takes_part_with_a_few_of_them(house):
    """Each look would otherwise weigh all of them, for everybody."""
    from gateway.core.inspection import queue
    from gateway.core.intake import recipients
    from gateway.wire.messages import BeginMail

    client = (await house.act("client.show", slug="acme"))["id"]
    for number in range(queue.MOST_LANES + 5):
        letter = BeginMail("p", f"s{number}@acme.example", ["a@b"])
        await house.finish(
            await recipients.begin(
                house.wings.intake, Acquaintance(client, unlimited=False), letter
            ),
            b"%d" % number,
        )
    await house.upload("/inbox/a.xml", b"x", by="other")
    lanes = await house.core.read(lambda c: queue.waiting(c, house.clock()))
    assert len(lanes) == queue.MOST_LANES + 1
    assert len({lane.client for lane in lanes}) == 2


def test_what_a_look_has_found_is_handed_out_once_in_its_order_and_not_to_two(turns):
    rows = [SimpleNamespace(id=name) for name in "abcd"]
    turns.remember([lane("acme")])
    turns.found(lane("acme"), rows)
    assert turns.ahead(lane("other"), set()) is None
    assert turns.ahead(lane("acme"), {"a"}).id == "b"
    assert turns.ahead(lane("acme"), set()).id == "c"
    turns.remember([lane("acme")])  # a new look: what the old one found is forgotten
    assert turns.ahead(lane("acme"), set()) is None


async def test_several_documents_of_a_sender_take_one_look(house, monkeypatch):
    ids = [await house.upload(f"/inbox/{n}.txt", b"note %d" % n) for n in range(4)]
    looks = []
    heads = claims.heads
    monkeypatch.setattr(
        claims, "heads", lambda *given, **named: looks.append(1) or heads(*given, **named)
    )
    assert [await house.judge() for _ in ids] == ids
    assert len(looks) == 1


async def test_a_document_put_off_since_the_look_is_not_handed_out(house):
    first, second = [await house.upload(f"/inbox/{n}.txt", b"note %d" % n) for n in range(2)]
    found = await house.queue._next()
    os.close(found.descriptor)
    row = await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.id == second)).one()
    )
    await house.queue._postpone(row, "inspection-failed", for_ever=False)
    assert found.work.document_id == first
    assert await house.queue._next() is None
    house.clock.advance(seconds=60)
    assert await house.judge() == second


def test_a_lane_does_not_tell_its_sender():
    key, other = b"k" * 32, b"o" * 32
    assert blind_number(key, "owner@example.com") == blind_number(key, "owner@example.com")
    assert blind_number(key, "owner@example.com") != blind_number(other, "owner@example.com")
    assert 0 <= blind_number(key, "x") < 2**48
