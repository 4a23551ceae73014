"""The intake wing: what is being received now, and by whom.

Promises: a partial document is in one pair of hands at a time; what is being written for a client is known
while it is; whoever waits for arrivals is told of each. Leaves out: what becomes of an upload (`receive`,
`partial`, `temporary`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gateway.core.core import Core
from gateway.core.in_progress import InProgress
from gateway.core.intake.acquaintances import Acquaintances
from gateway.core.intake.upload import Upload
from gateway.errors import Refusal

COMMITTING: Final = 32  # documents made durable at once
_UPLOAD: Final = "upload"


class Intake:
    """What intake holds while the core runs."""

    def __init__(self, core: Core) -> None:
        self.core = core
        # Where documents are made durable: whoever waits for the disk there keeps no reader waiting, and as
        # many as wait at once are committed in one transaction.
        self.committing = ThreadPoolExecutor(COMMITTING, thread_name_prefix="commit")
        self.arrived = asyncio.Event()  # there is something to inspect
        self.receiving: dict[
            str, dict[str, Upload]
        ] = {}  # client id → document id → upload under way
        self.acquaintances = Acquaintances()  # whom clients take mail from
        self._in_progress = InProgress()

    def close(self) -> None:
        """Wait for what is being made durable."""
        self.committing.shutdown()

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
