"""What is being done now, so that nobody begins it a second time.

Promises: of one kind and key, one piece of work is in progress at a time. `claim` refuses a second one in
plain words; `turn` lets it wait for the first. Whatever way the work ends, the claim ends with it.

Leaves out: work in another process. The store's lock sees to it that there is one core.

>>> running = InProgress()
>>> with running.claim("backup to", "disk"):
...     running.has("backup to", "disk")
True
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from gateway.errors import Refusal


class InProgress:
    """The work in progress. Belongs to one event loop."""

    def __init__(self) -> None:
        # What runs, in words, and what is set when it has ended.
        self._running: dict[tuple[str, str], tuple[str, asyncio.Event]] = {}

    def has(self, kind: str, key: str) -> bool:
        """Whether this is in progress."""
        return (kind, key) in self._running

    def begin(self, kind: str, key: str, words: str = "") -> None:
        """Have this in progress until `end`; for the arguments see `claim`.

        Raises:
            Refusal: it is in progress already.
        """
        if self.has(kind, key):
            running, _ = self._running[kind, key]
            raise Refusal("locked", f"{running} {key} is already running")
        self._running[kind, key] = words or kind, asyncio.Event()

    def end(self, kind: str, key: str) -> None:
        """This is in progress no more; harmless where it was not."""
        running = self._running.pop((kind, key), None)
        if running is not None:
            _, ended = running
            ended.set()

    @contextlib.contextmanager
    def claim(self, kind: str, key: str, words: str = "") -> Iterator[None]:
        """Have this in progress for as long as the block runs.

        Args:
            kind: the work in words that go before its key: "backup to", "rotation".
            key: what it is done to.
            words: what a refusal says instead of `kind`, where one kind is several things.

        Raises:
            Refusal: it is in progress already.
        """
        self.begin(kind, key, words)
        try:
            yield
        finally:
            self.end(kind, key)

    @contextlib.asynccontextmanager
    async def turn(self, kind: str, key: str) -> AsyncIterator[None]:
        """As `claim`, but wait for one that is in progress to end."""
        while (running := self._running.get((kind, key))) is not None:
            _, ended = running
            await ended.wait()
        with self.claim(kind, key):
            yield
