"""The intake wing: what is being received now, and by whom.

Promises: a partial document is in one pair of hands at a time; what is being written for a client is known
while it is; whoever waits for arrivals is told of each. Leaves out: what becomes of an upload (`receive`,
`partial`, `temporary`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from gateway.core.core import Core
from gateway.core.in_progress import InProgress
from gateway.core.intake.acquaintances import Acquaintances
from gateway.core.intake.spares import Spares
from gateway.core.intake.upload import Upload
from gateway.core.questions import Questions
from gateway.errors import Refusal

COMMITTING: Final = 32  # documents made durable at once
_UPLOAD: Final = "upload"
MANY: Final = 8
MOMENT: Final = 0.5  # seconds
JUST_NOW: Final = 0.2


class Intake:
    """What intake holds while the core runs."""

    def __init__(self, core: Core) -> None:
        self.core = core
        # Where documents are made durable: whoever waits for the disk there keeps no reader waiting, and as
        # many as wait at once are committed in one transaction.
        self.committing = ThreadPoolExecutor(COMMITTING, thread_name_prefix="commit")
        self.arrived = asyncio.Event()  # there is something to inspect
        self.unproven = asyncio.Event()  # there is a message whose sender is to be judged
        self.receiving: dict[
            str, dict[str, Upload]
        ] = {}  # client id → document id → upload under way
        self.spares = Spares(core)
        self.flushing = False  # what waits to be recorded is, at the end of this turn of the loop
        self._latest: deque[float] = deque(maxlen=MANY)  # when the latest were acknowledged
        # By mailbox the messages nobody took: of which UIDVALIDITY, as of which clients' rows, their UIDs.
        self.declined: dict[str, tuple[int, int, set[int]]] = {}
        self.mailboxes: dict[str, Any] = {}  # how each did when last heard of, by name
        self.questions = Questions()  # to the resolver
        self.acquaintances = Acquaintances()  # whom clients take mail from
        self._in_progress = InProgress()
        self._tasks: set[asyncio.Task[None]] = set()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a work that nobody awaits (on the loop)."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def acknowledged(self) -> None:
        """A document was made durable, and its sender told."""
        self._latest.append(time.monotonic())
        self.arrived.set()

    def busy(self) -> bool:
        """Whether documents arrive in numbers: the latest few came within a moment, and just now."""
        latest = self._latest
        if len(latest) < MANY:
            return False
        now = time.monotonic()
        return now - latest[-1] < JUST_NOW and now - latest[0] < MOMENT

    def close(self) -> None:
        """Wait for what is being made durable."""
        self.committing.shutdown()
        self.spares.close()

    def taken(self, document_id: str) -> bool:
        """Whether a partial document is in someone's hands."""
        return self._in_progress.has(_UPLOAD, document_id)

    def take(self, document_id: str, sentence: str) -> None:
        """Take a partial document in hand.

        Raises:
            Refusal("busy"): somebody has it; `sentence` says so.
        """
        if self.taken(document_id):
            raise Refusal("busy", sentence)
        self._in_progress.begin(_UPLOAD, document_id)

    def give_back(self, document_id: str) -> None:
        """It is in nobody's hands any more; harmless where it was not."""
        self._in_progress.end(_UPLOAD, document_id)
