"""The outbox, with a kind of delivery of its own: what is due, in which order, how often, and who hears of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from gateway.core.outbound import outbox
from gateway.core.outbound.outbox import Delivery, OfTable, waiting
from vault.catalogue.schema import errands
from vault.errors import KeyUnavailable, PlaceError, StorageFailed
from vault.moments import stamp


class Letters(OfTable):
    """Deliveries that go into lists; `broken` fails as it is told to."""

    name = "letter to"
    longest_delay = timedelta(minutes=1)

    def __init__(self, house, *places: str) -> None:
        super().__init__(house.wings.outbound, errands, places)
        self._house = house
        self.brought: list[tuple[str, str]] = []
        self.complaints: list[tuple[str, str]] = []
        self.broken: dict[str, Exception] = {}  # place or letter → what happens to it
        self.gates: dict[str, asyncio.Event] = {}

    def add(self, place: str, *letters: str) -> None:
        now = stamp(self._house.clock())
        rows = [
            {
                "target": place,
                "name": each,
                "created_at": now,
                "attempts": 0,
                "next_attempt_at": now,
                "failure": "",
            }
            for each in letters
        ]
        self._house.core.store.catalogue.write(
            lambda tx: tx.connection.execute(insert(errands), rows)
        )

    def rows(self) -> dict[str, Any]:
        return {
            row.name: row
            for row in self._house.core.store.catalogue.read(
                lambda c: c.execute(select(errands)).all()
            )
        }

    async def deliver(self, delivery: Delivery) -> None:
        if gate := self.gates.get(delivery.place):
            await gate.wait()
        for key in (delivery.place, delivery.row.name):
            if key in self.broken:
                raise self.broken[key]
        self.brought.append((delivery.place, delivery.row.name))

    def complain(self, place, error):
        self.complaints.append((place, str(error)))


def logged(capsys) -> str:
    """What was logged since the last time, wherever this process logs to."""
    said = capsys.readouterr()
    return said.out + said.err


async def look(house, kind) -> None:
    """One look at what is due, and all that it began."""
    for task in await outbox.due(house.wings.outbound, [kind]):
        await task


async def test_what_is_due_is_delivered_in_order_and_once(house):
    kind = Letters(house, "a", "b")
    kind.add("a", "1", "2", "3")
    kind.add("b", "4")
    kind.add("elsewhere", "5")  # no place of the configuration
    await look(house, kind)
    assert [name for place, name in kind.brought if place == "a"] == ["1", "2", "3"]
    assert sorted(name for _, name in kind.brought) == ["1", "2", "3", "4"]
    await look(house, kind)
    assert len(kind.brought) == 4


async def test_a_place_that_hangs_keeps_no_other_waiting_and_is_not_begun_twice(house):
    kind = Letters(house, "slow", "quick")
    kind.gates["slow"] = asyncio.Event()
    kind.add("slow", "1")
    kind.add("quick", "2")
    begun = await outbox.due(house.wings.outbound, [kind])
    assert len(begun) == 2
    async with asyncio.timeout(5):
        while ("quick", "2") not in kind.brought:
            await asyncio.sleep(0.01)
    assert await outbox.due(house.wings.outbound, [kind]) == []
    kind.gates["slow"].set()
    await asyncio.gather(*begun)
    assert kind.brought == [("quick", "2"), ("slow", "1")]
    assert not house.wings.outbound.background


async def test_a_place_that_fails_is_left_alone_with_all_that_waits_for_it(house):
    kind = Letters(house, "a")
    kind.add("a", "1", "2")
    kind.broken["a"] = PlaceError("a: not there")
    delays = []
    for _ in range(9):
        await look(house, kind)
        rows = kind.rows()
        assert rows["1"].failure == "a: not there"
        assert rows["1"].next_attempt_at == rows["2"].next_attempt_at
        before = house.clock()
        await look(house, kind)  # not before its time
        assert kind.rows() == rows
        while not house.core.store.catalogue.read(lambda c: kind.next(c, "a", house.clock())):
            house.clock.advance(seconds=1)
        delays.append((house.clock() - before).total_seconds())
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    kind.broken.clear()
    await look(house, kind)
    assert kind.brought == [("a", "1"), ("a", "2")]
    assert {row.failure for row in kind.rows().values()} == {""}


async def test_one_that_fails_at_a_place_that_does_not_keeps_the_others_going(house):
    kind = Letters(house, "a")
    kind.add("a", "1", "2", "3")
    kind.broken["1"] = KeyUnavailable("1: does not open")
    await look(house, kind)
    assert kind.brought == [("a", "2"), ("a", "3")]
    row = kind.rows()["1"]
    assert (row.delivered_at, row.attempts, row.failure) == (None, 1, "1: does not open")
    waits = house.core.store.catalogue.read(lambda c: waiting(c, errands))["a"]
    assert (waits.count, waits.failure) == (1, "1: does not open")


async def test_a_place_that_answers_again_gets_at_once_what_was_put_off(house):
    kind = Letters(house, "a")
    kind.add("a", "1", "2")
    kind.broken["a"] = PlaceError("a: not there")
    for _ in range(5):
        await look(house, kind)
        house.clock.advance(seconds=17)
    await look(house, kind)
    kind.broken.clear()
    kind.add("a", "3")  # due now, the others not for a while
    await look(house, kind)
    assert kind.brought == [("a", "3"), ("a", "1"), ("a", "2")]


async def test_a_failure_is_in_the_log_hourly_and_another_one_at_once(house):
    kind = Letters(house, "a")
    kind.add("a", "1")
    kind.broken["a"] = PlaceError("a: not there")
    for _ in range(10):
        await look(house, kind)
        house.clock.advance(minutes=5)
    assert kind.complaints == [("a", "a: not there")]
    kind.broken["a"] = KeyUnavailable("a: other")
    await look(house, kind)
    house.clock.advance(minutes=30)
    kind.broken["a"] = PlaceError("a: still not there")
    await look(house, kind)
    assert [words for _, words in kind.complaints] == [
        "a: not there", "a: other", "a: still not there",
    ]  # fmt: skip


async def test_at_once_means_due_or_not_and_a_failure_is_raised(house):
    kind = Letters(house, "a")
    kind.add("a", "1", "2")
    kind.broken["a"] = PlaceError("a: not there")
    await look(house, kind)
    with pytest.raises(PlaceError, match="not there"):
        await outbox.deliver(house.wings.outbound, kind, "a", at_once=True)
    assert kind.rows()["1"].attempts == 2
    kind.broken.clear()
    assert await outbox.deliver(house.wings.outbound, kind, "a") == 0  # not due yet
    assert await outbox.deliver(house.wings.outbound, kind, "a", at_once=True) == 2


async def test_at_once_waits_for_a_delivery_that_is_under_way(house):
    kind = Letters(house, "a")
    kind.gates["a"] = asyncio.Event()
    kind.add("a", "1")
    begun = await outbox.due(house.wings.outbound, [kind])
    await asyncio.sleep(0.01)
    own = asyncio.create_task(outbox.deliver(house.wings.outbound, kind, "a", at_once=True))
    await asyncio.sleep(0.01)
    kind.gates["a"].set()
    assert await own == 0
    await asyncio.gather(*begun)
    assert kind.brought == [("a", "1")]


async def test_no_room_on_this_machine_is_a_failure_like_others_and_a_failed_store_is_not(house):
    kind = Letters(house, "a")
    kind.add("a", "1")
    kind.broken["a"] = OSError(28, "No space left on device")
    await look(house, kind)
    assert kind.rows()["1"].failure == "a: expected room on the way, found No space left on device"
    kind.broken["a"] = StorageFailed("the disk is gone")
    with pytest.raises(StorageFailed):
        await outbox.deliver(house.wings.outbound, kind, "a", at_once=True)
    assert kind.rows()["1"].attempts == 1


async def test_what_was_superseded_while_it_was_under_way_leaves_the_next_one_to_follow(house):
    kind = Letters(house, "a")
    kind.add("a", "old")
    delivery = house.core.store.catalogue.read(lambda c: kind.next(c, "a", None))
    assert delivery is not None
    now = stamp(house.clock())
    house.core.store.catalogue.write(
        lambda tx: tx.connection.execute(
            errands.update().values(delivered_at=now, failure="superseded")
        )
    )
    kind.add("a", "new")
    assert await outbox.attempt(house.wings.outbound, kind, delivery) is None
    rows = kind.rows()
    assert rows["old"].failure == "superseded"
    assert rows["new"].delivered_at is None


async def test_what_nobody_foresaw_backs_off_and_the_log_has_its_type_hourly_and_never_its_text(
    house, capsys
):
    kind = Letters(house, "a")
    kind.add("a", "1", "2")
    kind.broken["1"] = TypeError("the key is 12345")
    for _ in range(7):
        await look(house, kind)
        house.clock.advance(seconds=1)
    assert kind.brought == [("a", "2")]
    row = kind.rows()["1"]
    assert row.attempts == 3  # at 0, 1 and 3 s
    assert row.failure == "a: expected no TypeError, found one; the core's log has it"
    said = logged(capsys)
    (line,) = [each for each in said.splitlines() if "unforeseen" in each]
    assert "TypeError" in line
    assert "12345" not in said
    house.clock.advance(hours=1)
    await look(house, kind)
    assert "unforeseen" in logged(capsys)
    kind.broken.clear()
    house.clock.advance(hours=1)
    await look(house, kind)
    assert kind.brought == [("a", "2"), ("a", "1")]


async def test_what_can_not_be_written_down_is_not_brought_again_every_second(house, capsys):
    class Forgetful(Letters):
        def delivered(self, tx, delivery, seen, now):
            raise TypeError("the key is 12345")

    kind = Forgetful(house, "a", "b")
    kind.add("a", "1")
    for _ in range(16):
        await look(house, kind)
        house.clock.advance(seconds=1)
    assert kind.brought == [("a", "1")] * 5  # at 0, 1, 3, 7 and 15 s
    said = logged(capsys)
    assert said.count("unforeseen failure") == 1
    assert "12345" not in said
    kind.add("b", "2")  # another place waits for none of that
    await look(house, kind)
    assert kind.brought[-1] == ("b", "2")
