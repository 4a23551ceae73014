"""The open connections: caps in all, per network and per source; which one makes room; how the door closes.

Promises: at most `limit` connections, of which one source has at most `MAX_PER_SOURCE` and one network at
most a quarter; `drained` is set once no connection is left. A newcomer who finds all places taken gets that
of the slowest, so that places can be held only by being faster than others; while there is room nobody is
displaced.

Leaves out: sockets; a connection is any object with the methods of `Guest`.

Rules of displacement (`slowest`):
1. What counts is the pace: bytes a second, of which those of `HALF_LIFE` seconds ago count half.
2. Nobody is displaced in the first `GRACE` seconds, nor while the door or the core is at work for him, nor
   after a message of his was acknowledged, unless he has been silent for `IDLE` seconds since.
3. Where all are that young, it is a flood: the network with the most places gives up its oldest one, unless
   the newcomer's would then have as many.
4. In a network that has its share, only those make room who are slower than `MIN_RATE`.
Refusals and displacements are counted and said once a minute: a flood must not write the log.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from gateway.process import sources

MAX_PER_SOURCE: Final = 16
NETWORKS: Final = 4  # this many networks may have all places together
MIN_RATE: Final = 1024  # bytes a second of a message, on average after one timeout's grace
HALF_LIFE: Final = 10.0
GRACE: Final = 5.0
IDLE: Final = 30.0
COMPLAINT: Final = 60.0  # seconds between lines about refused connections

GOING_DOWN: Final = "the service is going down"
FULL: Final = "too many connections"
FULL_NETWORK: Final = "too many connections from one network"
FULL_SOURCE: Final = "too many connections from one source"
RATE: Final = "a message above the rate of its source"
DISPLACED: Final = "displaced by a newer one"

log = structlog.get_logger("smtp")


@dataclass
class Progress:
    """How much a connection has sent, and when. Times are the loop's, in seconds.

    Args:
        since: when it began.
        held: it waits for us, not we for it.
        acknowledged: a message of it is durable.
    """

    since: float
    held: bool = False
    acknowledged: bool = False
    _credit: float = 0.0
    _heard: float = -math.inf

    def add(self, size: int, now: float) -> None:
        """Count bytes that came."""
        self._credit = self._faded(now) + size
        self._heard = now

    def pace(self, now: float) -> float:
        """Bytes a second, lately."""
        return self._faded(now) * math.log(2) / HALF_LIFE

    def may_be_displaced(self, now: float) -> bool:
        """Whether another connection may take its place (rule 2)."""
        if self.held or now - self.since <= GRACE:
            return False
        return not self.acknowledged or now - self._heard > IDLE

    def _faded(self, now: float) -> float:
        if not self._credit:
            return 0.0
        return float(self._credit * 0.5 ** ((now - self._heard) / HALF_LIFE))


class Guest(Protocol):
    """A connection, as the door sees it. All of this happens on one event loop."""

    progress: Progress

    def end_when_idle(self) -> None:
        """End now, or after the transaction that is under way."""

    def displace(self) -> None:
        """End now, with a word why; nothing unfinished is kept."""

    def cut(self) -> None:
        """End now, whatever is under way; nothing unfinished is kept."""


@dataclass(frozen=True)
class Origin:
    """The source and the network of a connection, as the caps count them."""

    source: str
    network: str


def source_of(address: tuple[Any, ...]) -> str:
    """The source that an address counts for: an IPv4 address, or an IPv6 /64 (one customer's usual share)."""
    return sources.source_of(str(address[0]))


def origin_of(address: tuple[Any, ...]) -> Origin:
    """Source and network of a peer's socket address."""
    return Origin(source_of(address), sources.network_of(str(address[0])))


def slowest(guests: Iterable[Guest], now: float, below: float = math.inf) -> Guest | None:
    """The connection to end first: the slowest one under `below` bytes a second; of several, the oldest."""
    candidates = [
        guest
        for guest in guests
        if guest.progress.may_be_displaced(now) and guest.progress.pace(now) < below
    ]
    if not candidates:
        return None
    return min(candidates, key=lambda guest: (guest.progress.pace(now), guest.progress.since))


def oldest_of_busiest(guests: Mapping[Guest, Origin], network: str) -> Guest | None:
    """In a flood of newcomers: the oldest of the network with most places, if `network` will have fewer."""
    counts = Counter(origin.network for origin in guests.values())
    busiest, places = counts.most_common(1)[0]
    if places <= counts[network] + 1:
        return None
    there = [
        guest
        for guest, origin in guests.items()
        if origin.network == busiest and not (guest.progress.held or guest.progress.acknowledged)
    ]
    return min(there, key=lambda guest: guest.progress.since, default=None)


class Connections:
    """The open connections of the door."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = max(MAX_PER_SOURCE, limit // NETWORKS)
        self._guests: dict[Guest, Origin] = {}
        self._sources: Counter[str] = Counter()
        self._networks: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._complained = -math.inf
        self._drained = asyncio.Event()
        self._drained.set()
        self.closing = False

    def __len__(self) -> int:
        return len(self._guests)

    def admit(self, guest: Guest, origin: Origin, now: float) -> str:
        """Count a new connection in, displacing another if need be; returns "" or why it may not stay."""
        why = self._make_room(origin, now)
        if why:
            self._refused[why] += 1
            self.complain(now)
            return why
        self._guests[guest] = origin
        self._sources[origin.source] += 1
        self._networks[origin.network] += 1
        self._drained.clear()
        return ""

    def _make_room(self, origin: Origin, now: float) -> str:
        if self.closing:
            return GOING_DOWN
        if self._sources[origin.source] >= MAX_PER_SOURCE:
            return FULL_SOURCE
        guests = self._guests
        if self._networks[origin.network] >= self._share:
            why = FULL_NETWORK
            mine = [guest for guest, its in guests.items() if its.network == origin.network]
            displaced = slowest(mine, now, below=MIN_RATE)
        elif len(guests) >= self._limit:
            why = FULL
            displaced = slowest(guests, now) or oldest_of_busiest(guests, origin.network)
        else:
            return ""
        if displaced is None:
            return why
        self.release(displaced)
        displaced.displace()
        self._refused[DISPLACED] += 1
        self.complain(now)
        return ""

    def release(self, guest: Guest) -> None:
        """Count a connection out; harmless for one that was not admitted."""
        origin = self._guests.pop(guest, None)
        if origin is None:
            return
        for counter, name in ((self._sources, origin.source), (self._networks, origin.network)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]
        if not self._guests:
            self._drained.set()

    def refuse(self, why: str, now: float) -> None:
        """Count something refused besides a connection, to be said with the rest."""
        self._refused[why] += 1
        self.complain(now)

    def complain(self, now: float) -> None:
        """Say who was refused or displaced, at most once in `COMPLAINT` seconds."""
        if not self._refused or now - self._complained < COMPLAINT:
            return
        for why, count in self._refused.items():
            what = "messages refused" if why == RATE else "connections refused"
            log.warning(what, why=why, count=count)
        self._refused.clear()
        self._complained = now

    async def close(self, patience: float) -> None:
        """Admit nobody any more, let transactions finish for `patience` seconds, cut the rest."""
        self.closing = True
        for guest in list(self._guests):
            guest.end_when_idle()
        try:
            async with asyncio.timeout(patience):
                await self._drained.wait()
        except TimeoutError:
            for guest in list(self._guests):
                guest.cut()
            # Ended transports tell their protocols in the next turn of the loop.
            await asyncio.sleep(0)
