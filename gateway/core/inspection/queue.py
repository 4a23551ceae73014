"""Who is inspected next: clients take turns, and the senders of each client do.

Promises:
- Whose documents have cost least of late goes first: a client, or within it a sender, that sends much or
  costs much waits behind the others, and is served in full when nobody else waits.
- A client whose documents are slow never has all workers: one is left for the others.
- What ran out of time once (`TIMED_OUT`) is suspect. Suspects come last and one at a time, with all the time
  there is; one that has waited for `PATIENCE` takes its turn all the same.
- Reading for fixity waits for documents, but not for ever: after `FIXITY_PATIENCE` it has one worker.

Leaves out: what inspection means for a document (`verdicts`).
Rules: no I/O but two queries; costs are seconds of a worker's time, halved every minute, in memory only.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, literal_column, select

from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState
from vault.moments import stamp

TIMED_OUT: Final = "inspection-timed-out"
SLOW: Final = 2.0  # seconds in a worker's hands; what takes longer is slow
SLOW_FOR: Final = 600.0  # seconds that a client counts as slow after its last slow document
HALF_LIFE: Final = 60.0
PATIENCE: Final = 300.0
FIXITY_PATIENCE: Final = 2.0
MOST_COSTS: Final = 10_000  # clients and senders remembered; the cheapest are forgotten
# Spelt out: with a parameter the index of those that wait would not be used.
_RECEIVED: Final = documents.c.state == literal_column(f"'{DocumentState.RECEIVED}'")
MOST_LANES: Final = 32  # senders of one client that take part at once; those that waited longest
_FRESH: Final = 0.5  # seconds that a look at who waits is good for
AHEAD: Final = 8  # documents of a sender that one look finds


@dataclass(frozen=True)
class Lane:
    """Documents of one sender of one client that wait, suspects apart from the others."""

    client: str
    lane: int
    suspect: bool
    since: datetime


@dataclass
class InHand:
    """A document that a worker has."""

    client: str = ""
    lane: int = 0
    suspect: bool = False
    fixity: bool = False
    begun: float = field(default_factory=time.monotonic)


_SUSPECT: Final = documents.c.reason == literal_column(f"'{TIMED_OUT}'")
_WAITING: Final = (
    select(
        documents.c.client_id,
        documents.c.lane,
        _SUSPECT.label("suspect"),
        func.min(documents.c.next_attempt_at).label("since"),
    )
    .where(_RECEIVED, documents.c.next_attempt_at <= bindparam("now"))
    .group_by(documents.c.client_id, documents.c.lane, _SUSPECT)
    .order_by("since")
)
_HEADS: Final = {
    suspect: select(documents)
    .where(
        _RECEIVED,
        documents.c.client_id == bindparam("client"),
        documents.c.lane == bindparam("of_lane"),
        documents.c.next_attempt_at <= bindparam("now"),
        _SUSPECT if suspect else ~_SUSPECT,
    )
    .order_by(documents.c.next_attempt_at, documents.c.id)
    .limit(bindparam("most"))
    for suspect in (False, True)
}


def waiting(connection: Connection, now: datetime) -> list[Lane]:
    """Everyone whose documents are due, in order of who has waited longest."""
    lanes: list[Lane] = []
    of_client: Counter[str] = Counter()
    for row in connection.execute(_WAITING, {"now": stamp(now)}):
        of_client[row.client_id] += 1
        if of_client[row.client_id] <= MOST_LANES:
            since = datetime.fromisoformat(row.since)
            lanes.append(Lane(row.client_id, row.lane, bool(row.suspect), since))
    return lanes


def heads(
    connection: Connection, lane: Lane, now: datetime, busy: Collection[str]
) -> list[Row[Any]]:
    """The documents of a lane that have waited longest and that no worker has, at most `AHEAD`."""
    rows = connection.execute(
        _HEADS[lane.suspect],
        {
            "client": lane.client,
            "of_lane": lane.lane,
            "now": stamp(now),
            "most": len(busy) + AHEAD,
        },
    )
    return [row for row in rows if row.id not in busy][:AHEAD]


class Turns:
    """Whose turn it is. One for the core; it is told what goes into a worker's hands and what comes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds, going evenly."""
        self._clock = clock
        self._cost: dict[tuple[str, int | None], tuple[float, float]] = {}  # seconds, as of when
        self._slow: dict[str, float] = {}  # until when
        self._lanes: tuple[float, list[Lane]] = (-1.0, [])
        self._ahead: dict[
            Lane, list[Row[Any]]
        ] = {}  # found in the same look, and not handed out yet

    def known(self) -> list[Lane] | None:
        """The lanes that waited when last read; None if that was too long ago."""
        taken, lanes = self._lanes
        return lanes if lanes and 0 <= self._clock() - taken < _FRESH else None

    def remember(self, lanes: list[Lane]) -> None:
        """Take note of a look at who waits."""
        self._lanes = (self._clock(), lanes)
        self._ahead.clear()

    def ahead(self, lane: Lane, busy: Collection[str]) -> Row[Any] | None:
        """The next document of a lane that an earlier look has found and that no worker has.

        It is what the look told: whoever hands it out checks that it is still due.
        """
        rows = self._ahead.get(lane, [])
        while rows:
            if (row := rows.pop(0)).id not in busy:
                return row
        return None

    def found(self, lane: Lane, rows: list[Row[Any]]) -> None:
        """Take note of the documents that a look at a lane has found."""
        self._ahead[lane] = rows

    def forget(self, lane: Lane) -> None:
        """A lane is empty."""
        self._ahead.pop(lane, None)
        taken, lanes = self._lanes
        self._lanes = (taken, [each for each in lanes if each != lane])

    def order(
        self, lanes: list[Lane], in_hand: dict[str, InHand], workers: int, now: datetime
    ) -> list[Lane]:
        """Those who may have the next document inspected, in order.

        Args:
            in_hand: what workers have, by document.
            workers: how many there are, the one that asks among them.
        """
        # One moment for all: what is under way would otherwise cost more with each look at the clock.
        moment = self._clock()
        held = [each for each in in_hand.values() if not each.fixity]
        slow_held = sum(self.is_slow(each.client, in_hand) for each in held)
        keep_one = workers > 1 and slow_held >= workers - 1
        may = [lane for lane in lanes if not (keep_one and self.is_slow(lane.client, in_hand))]
        ordinary = sorted(
            (lane for lane in may if not lane.suspect),
            key=lambda lane: (
                sum(each.client == lane.client for each in held),
                self.cost(lane.client, None, in_hand, moment),
                sum(each.client == lane.client and each.lane == lane.lane for each in held),
                self.cost(lane.client, lane.lane, in_hand, moment),
                lane.since,
            ),
        )
        if any(each.suspect for each in held):
            return ordinary
        suspects = sorted(
            (lane for lane in may if lane.suspect),
            key=lambda lane: (self.cost(lane.client, None, in_hand, moment), lane.since),
        )
        overdue = [lane for lane in suspects if (now - lane.since).total_seconds() > PATIENCE]
        return [*overdue[:1], *ordinary, *suspects]

    def is_slow(self, client: str, in_hand: dict[str, InHand]) -> bool:
        """Whether a client's documents took long lately, or one takes long now."""
        now = self._clock()
        return self._slow.get(client, 0.0) > now or any(
            each.client == client and now - each.begun > SLOW for each in in_hand.values()
        )

    def cost(self, client: str, lane: int | None, in_hand: dict[str, InHand], now: float) -> float:
        """Seconds that a client (`lane` None) or a sender has cost lately, work in progress included."""
        seconds, at = self._cost.get((client, lane), (0.0, now))
        return seconds * math.exp2((at - now) / HALF_LIFE) + sum(
            now - each.begun
            for each in in_hand.values()
            if each.client == client and lane in {None, each.lane} and not each.fixity
        )

    def returned(self, done: InHand) -> float:
        """A document came back from a worker; the seconds it took."""
        now = self._clock()
        took = max(0.0, now - done.begun)
        if done.fixity:
            return took
        for key in ((done.client, None), (done.client, done.lane)):
            seconds, at = self._cost.pop(key, (0.0, now))
            self._cost[key] = (seconds * math.exp2((at - now) / HALF_LIFE) + took, now)
        while len(self._cost) > MOST_COSTS:
            del self._cost[next(iter(self._cost))]  # the one not seen for longest
        if took > SLOW:
            self._slow[done.client] = now + SLOW_FOR
            self._slow = {client: until for client, until in self._slow.items() if until > now}
        return took
