"""How many messages and bytes one source may send in a time: two buckets for each.

Promises: a source that sends more than its share hears 450 at its next message, so that its server waits and
tries again; nobody else notices. Memory is bounded: at most `MOST` sources, those with full buckets forgotten
first. Networks in `exempt` are not counted (a relay of the firm's own sends for everybody).

Leaves out: connections (`admission`) and quotas, which are a client's and the core's.

Rule: a bucket holds what may come in its time, and fills evenly. A message of any size may come while there
is anything left in the bucket of bytes: it may go below nothing, and then takes as long to come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.process.sources import Network, source_of, within

MOST: Final = 4096
MESSAGES_SECONDS: Final = 60.0
BYTES_SECONDS: Final = 3600.0

TOO_MANY: Final = (
    "450 4.7.1 Too many messages from your address within a minute; they are taken a little later"
)
TOO_MUCH: Final = (
    "450 4.7.1 Too much mail from your address within an hour; it is taken a little later"
)


@dataclass
class _Left:
    messages: float
    bytes: float
    touched: float


class Rates:
    """What each source has left. Times are the loop's, in seconds."""

    def __init__(self, messages: int, size: int, exempt: Sequence[Network]) -> None:
        """`messages` a minute and `size` bytes an hour; 0: no limit."""
        self._messages = messages
        self._bytes = size
        self._exempt = tuple(exempt)
        self._sources: dict[str, _Left] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def begin(self, peer: str, now: float) -> str:
        """Count a message that begins; returns "" or the reply that refuses it."""
        left = self._of(peer, now)
        if left is None:
            return ""
        if self._messages and left.messages < 1:
            return TOO_MANY
        if self._bytes and left.bytes <= 0:
            return TOO_MUCH
        left.messages -= 1
        return ""

    def took(self, peer: str, size: int, now: float) -> None:
        """Count the bytes of a message, whatever became of it."""
        left = self._of(peer, now)
        if left is not None:
            left.bytes -= size

    def _of(self, peer: str, now: float) -> _Left | None:
        if not (self._messages or self._bytes) or within(peer, self._exempt):
            return None
        name = source_of(peer)
        left = self._sources.get(name)
        if left is None:
            if len(self._sources) >= MOST:
                self._forget(now)
            left = self._sources[name] = _Left(self._messages, self._bytes, now)
        self._refill(left, now)
        return left

    def _refill(self, left: _Left, now: float) -> None:
        passed = now - left.touched
        left.touched = now
        left.messages = min(
            self._messages, left.messages + passed * self._messages / MESSAGES_SECONDS
        )
        left.bytes = min(self._bytes, left.bytes + passed * self._bytes / BYTES_SECONDS)

    def _forget(self, now: float) -> None:
        """Drop the sources that have most left: an eighth of them, so that it is rare."""
        for left in self._sources.values():
            self._refill(left, now)
        by_rest = sorted(
            self._sources,
            key=lambda name: (self._sources[name].messages, self._sources[name].bytes),
            reverse=True,
        )
        for name in by_rest[: MOST // 8]:
            del self._sources[name]
