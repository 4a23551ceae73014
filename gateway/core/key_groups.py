"""Key groups that stand still: one at a time ends groups, or relies on none ending.

Promises: destruction, rotation and what reads a plain snapshot of the catalogue never work on groups at the
same time. Whoever needs the groups to stand still takes a `Frozen` as an argument, which only the holder has,
so that forgetting it is an error of types. Leaves out: what a group is (`vault.keys.custody`).

    async with freeze.hold() as frozen:
        await groups.drop_ended(keys, frozen, now)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Frozen:
    """Proof that the groups stand still, handed on as an argument. Made by `GroupFreeze.hold` alone."""


class GroupFreeze:
    """Who holds the groups. Belongs to one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[Frozen]:
        """Wait for the groups, and have them stand still for as long as the block runs."""
        async with self._lock:
            yield Frozen()
