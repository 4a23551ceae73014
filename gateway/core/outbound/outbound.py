"""The outbound wing: what everything that leaves the machine shares while the core runs.

Promises: one queue of transfers, and one list of what is in progress, so that a place is never written to by
two at once. It decides nothing.

Leaves out: what is due and what became of it; that is in the catalogue, and each module here knows its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from gateway.core import backoff
from gateway.core.core import Core
from gateway.core.in_progress import InProgress
from gateway.core.key_groups import GroupFreeze
from gateway.core.outbound.transfers import TransferQueue


class Outbound:
    """The wing's state; made once, beside the core."""

    def __init__(
        self, core: Core, freeze: GroupFreeze, chance: Callable[[], float] = backoff.chance
    ) -> None:
        """`chance`: see `backoff.delay`."""
        self.core = core
        self.freeze = freeze
        self.chance = chance
        self.transfers = TransferQueue()
        self.in_progress = InProgress()
        self.checkpointed = -1  # ledger size at the last checkpoint job
        self.background: set[asyncio.Task[None]] = set()  # deliveries under way
        self.complained: dict[tuple[str, str], dict[type[Exception], datetime]] = {}
        """Kind and place → class of error → when it was last in the log.

        `PlaceError` is there from the place's failure until it answers again.
        """
        self.resting: dict[tuple[str, str], tuple[int, datetime]] = {}
        """Kind and place → unforeseen failures in a row outside any delivery's row, and how long it rests."""
