"""The lines to the core: each serves one SMTP connection at a time, and the next one afterwards.

Promises: a line has one borrower; whoever borrows gets one whose other end was there a moment ago, or a new
one. After `MAX_REQUESTS` a line is closed: the core keeps the recipients it accepted as long as a line lasts.
At most `IDLE` lines wait unused.

Leaves out: what is said on a line (`intake`, which closes one in doubt instead of giving it back).

Rules: mail servers open a connection for a message; a line of its own for each cost the door, its broker and
the core about as much as a question. What a line may do never depends on who used it before: the door asks
about recipients anew in each transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.wire.channel import AsyncChannel

Connect = Callable[[], Awaitable[AsyncChannel]]
"""Opens a connection to the core (raises Disconnected)."""

MAX_REQUESTS: Final = 1000
IDLE: Final = 16


@dataclass(eq=False)
class Line:
    """A connection to the core, and how many requests it has carried."""

    channel: AsyncChannel
    requests: int = 0


class Lines:
    """All lines of the door that nobody uses, the last used on top."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._idle: list[Line] = []

    async def borrow(self) -> Line:
        """A line for one SMTP connection (raises Disconnected)."""
        while self._idle:
            line = self._idle.pop()
            if not line.channel.gone():
                return line
            line.channel.close()  # the core was restarted
        return Line(await self._connect())

    def give_back(self, line: Line) -> None:
        """Nothing is under way on it."""
        if line.requests >= MAX_REQUESTS or len(self._idle) >= IDLE:
            line.channel.close()
        else:
            self._idle.append(line)
