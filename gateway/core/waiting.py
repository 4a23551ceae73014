"""Waiting for work that somebody else brings: the one long poll.

Promises: what is there is found at once; what `event` tells of, as soon as it does; and what falls due by the
clock, within `LOOK` seconds. Leaves out who does the work if several wait: `find` decides that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

LOOK: Final = 1.0  # seconds after which one looks again though nobody told


async def wait_for_work(
    event: asyncio.Event, find: Callable[[], Awaitable[T | None]], seconds: float
) -> T | None:
    """Wait until there is something to do.

    Args:
        event: set when there is work.
        find: what there is to do now; None: nothing.
        seconds: how long to wait at most.

    Returns:
        What was found; None: nothing in that time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        event.clear()  # before the look, so that nothing that comes after it is missed
        found = await find()
        if found is not None:
            return found
        left = deadline - loop.time()
        if left <= 0:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left, LOOK)):
                await event.wait()
