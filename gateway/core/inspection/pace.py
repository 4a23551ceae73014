"""How fast documents are handed to inspectors while doors have work.

An inspection costs the core milliseconds and a processor tens of them, and the client that is sending waits
for both. What was acknowledged is safe, so that its inspection can wait: for as long as documents arrive in
numbers, one is handed out each `INTERVAL`, and all the others when it is quiet.

Promises: inspection never stands still; outside such times nothing is held back.
Leaves out: whose document is next (`claims`), and the workers' own priority (`gateway.inspect.pool`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from gateway.core.intake.intake import Intake

INTERVAL: Final = 0.1  # seconds between two hand-outs while doors have work
_LOOK: Final = 0.02


class Pace:
    """Gives the word for the next hand-out; one for all inspectors."""

    def __init__(self, intake: Intake, clock: Callable[[], float] = time.monotonic) -> None:
        self._intake = intake
        self._clock = clock
        self._latest = -INTERVAL

    async def turn(self) -> None:
        """Wait until the next document may be handed out."""
        while (  # noqa: ASYNC110  that it has become quiet is no event
            self._intake.busy() and self._clock() - self._latest < INTERVAL
        ):
            await asyncio.sleep(_LOOK)
        self._latest = self._clock()
