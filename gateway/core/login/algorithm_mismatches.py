"""Programs that could not agree with the door on how to encrypt: who they are, and what they offered.

An old scanner that knows no algorithm of ours fails before it can log in, and nobody at the firm would see
it. Promises: each is in the log with its source, its program and its offers, the first time and each time
their number has doubled; `status` and `doctor` list those of the last days. The list is short, kept in
memory, and empty after a restart: who is still there comes again.

Leaves out: what a source pays for it (`gateway.core.login.throttle`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.core import log
from gateway.process.sources import source_of
from gateway.wire.messages import Mismatch
from vault.moments import stamp

MOST: Final = 100  # sources and programs told apart; the one longest silent makes room
KEPT: Final = timedelta(days=7)


@dataclass
class _Seen:
    count: int
    first: datetime
    last: datetime
    mismatch: Mismatch


class Mismatches:
    """The failed key exchanges of a core."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()

    def note(self, peer: str, mismatch: Mismatch, now: datetime) -> None:
        """A connection ended because nothing in one of its lists is offered here.

        Args:
            peer: its address.
        """
        key = (source_of(peer), mismatch.program)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(0, now, now, mismatch)
        self._seen.move_to_end(key)
        seen.count, seen.last, seen.mismatch = seen.count + 1, now, mismatch
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        if seen.count & (seen.count - 1) == 0:
            log.warning(
                "no common algorithm",
                source=key[0],
                program=mismatch.program,
                lacking=mismatch.lacking,
                offered=mismatch.offered,
                times=seen.count,
            )

    def listed(self, now: datetime) -> list[dict[str, Any]]:
        """Those of the last days, the latest first."""
        return [
            {
                "source": source,
                "program": program,
                "lacking": seen.mismatch.lacking,
                "offered": seen.mismatch.offered,
                "count": seen.count,
                "first_at": stamp(seen.first),
                "last_at": stamp(seen.last),
            }
            for (source, program), seen in reversed(self._seen.items())
            if now - seen.last <= KEPT
        ]
