"""New connections and their order: a pace for each source that has not logged in yet.

OpenSSH refuses at random beyond MaxStartups, and drops penalised sources; here what comes too fast waits a
little instead, because a colleague behind the same address must still get in. Promises:

- A source has a bucket of tokens: as many as a second's worth at once, refilled at the configured rate. A
  connection takes one; a login gives it back, so that those who log in are never paced.
- Of a source's waiting connections, one that has said something goes before those that only hold a
  socket (an SSH client speaks first or at once; a scanner that counts banners does not), else the oldest.
  A connection that left is dropped without a token.
- What waits is bounded, per source and in all. Over it the oldest silent one goes, or the newcomer.

Leaves out: forking and counting what is served (the listener does). Time is monotonic seconds, passed in.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from gateway.process.sources import Network, source_of, within

MAX_WAITING: Final = 256
MAX_WAITING_PER_SOURCE: Final = 24
MAX_BUCKETS: Final = 4096


@dataclass
class Arrival:
    """An accepted connection that waits for its turn."""

    connection: socket.socket
    peer: str
    source: str

    def state(self) -> str:
        """`gone`, `silent` or `speaking`, by a look at what was received."""
        try:
            data = self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return "silent"
        except OSError:
            return "gone"
        return "speaking" if data else "gone"


@dataclass
class _Bucket:
    tokens: float
    at: float
    waiting: deque[Arrival] = field(default_factory=deque)


class Arrivals:
    """The waiting room of a listener."""

    def __init__(self, per_second: float, exempt: tuple[Network, ...] = ()) -> None:
        self._rate = per_second
        self._exempt = exempt
        self._buckets: dict[str, _Bucket] = {}
        self._count = 0

    def enter(self, connection: socket.socket, peer: str, now: float) -> Arrival | None:
        """A new connection: itself if it is its turn at once, else None; then `next` gives it later."""
        arrival = Arrival(connection, peer, source_of(peer))
        if within(peer, self._exempt):
            return arrival
        bucket = self._bucket(arrival.source, now)
        if not bucket.waiting and bucket.tokens >= 1:
            bucket.tokens -= 1
            return arrival
        if len(bucket.waiting) >= MAX_WAITING_PER_SOURCE or self._count >= MAX_WAITING:
            dropped = next((each for each in bucket.waiting if each.state() != "speaking"), arrival)
            if dropped is not arrival:
                bucket.waiting.remove(dropped)
                self._count -= 1
            _close(dropped)
            if dropped is arrival:
                return None
        bucket.waiting.append(arrival)
        self._count += 1
        return None

    def next(self, now: float) -> Arrival | None:
        """A waiting connection whose turn has come."""
        if not self._count:
            return None
        for bucket in self._buckets.values():
            if not bucket.waiting or self._refill(bucket, now) < 1:
                continue
            chosen = None
            for arrival in list(bucket.waiting):
                state = arrival.state()
                if state == "gone":
                    self._leave(bucket, arrival)
                    _close(arrival)
                elif state == "speaking":
                    chosen = arrival
                    break
            if chosen is None and bucket.waiting:
                chosen = bucket.waiting[0]
            if chosen is not None:
                self._leave(bucket, chosen)
                bucket.tokens -= 1
                return chosen
        return None

    def give_back(self, source: str, now: float) -> None:
        """Give a source its turn back: a connection of it has logged in."""
        bucket = self._buckets.get(source)
        if bucket is not None:
            self._refill(bucket, now)
            bucket.tokens = min(self._rate, bucket.tokens + 1)

    def due_in(self, now: float) -> float | None:
        """Seconds until the next turn may come; None: nobody waits."""
        if not self._count:
            return None
        return min(
            max(0.0, (1 - self._refill(bucket, now)) / self._rate)
            for bucket in self._buckets.values()
            if bucket.waiting
        )

    def close(self) -> None:
        """Close all that wait."""
        for bucket in self._buckets.values():
            for arrival in bucket.waiting:
                _close(arrival)
        self._buckets.clear()
        self._count = 0

    def _leave(self, bucket: _Bucket, arrival: Arrival) -> None:
        bucket.waiting.remove(arrival)
        self._count -= 1

    def _refill(self, bucket: _Bucket, now: float) -> float:
        bucket.tokens = min(self._rate, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        return bucket.tokens

    def _bucket(self, source: str, now: float) -> _Bucket:
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                # Full ones say nothing that a new one would not.
                for name, each in list(self._buckets.items()):
                    if not each.waiting and self._refill(each, now) >= self._rate:
                        del self._buckets[name]
            bucket = self._buckets[source] = _Bucket(self._rate, now)
        self._refill(bucket, now)
        return bucket


def _close(arrival: Arrival) -> None:
    with contextlib.suppress(OSError):
        arrival.connection.close()
