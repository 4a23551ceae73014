"""A connection of an inspector: one document, and the parts found in it.

Promises: a worker sees one document and no other; whatever ends the connection gives its claim back. Leaves
out: which document, and what a verdict does (`inspection.claims`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.core.inspection.claims import Claimed, Fixity, InspectionQueue, Look
from gateway.core.intake import receive
from gateway.core.intake.intake import Intake
from gateway.core.reading import NotRead
from gateway.core.sessions.base import Answer, UploadSession
from gateway.errors import WireError
from gateway.wire.messages import (
    Abandon,
    BeginPart,
    Claim,
    Commit,
    Done,
    MailReport,
    NoWork,
    Verdict,
)
from vault.errors import StorageFailed


class InspectSession(UploadSession):
    """A connection of an inspector: one document, and the parts found in it.

    After its verdict the core ends it: a worker that was taken over by one client's document never
    sees another's.
    """

    def __init__(self, intake: Intake, queue: InspectionQueue) -> None:
        super().__init__(intake)
        self._queue = queue
        self._claimed: Claimed | None = None
        self._fixity: Fixity | None = None
        self._look: Look | None = None
        self._spent = False

    async def handle(self, request: Any) -> Answer:
        if isinstance(request, Claim):
            if self._spent:
                raise WireError("inspect: expected one document a connection, found a second claim")
            found = await self._queue.claim()
            if found is None:
                return NoWork(), None
            self._claimed, self._fixity, self._look = found.claimed, found.fixity, found.look
            self._spent = True
            return found.work, found.descriptor
        if isinstance(request, MailReport) and self._look is not None:
            self.over = True
            look = self._look
            if request.document_id != look.document_id:
                raise WireError("inspect: expected a report on its message, found another's")
            self._look = None
            if not look.result.done():  # whoever asked may have gone
                look.result.set_result(request)
            return Done(), None
        claimed = self._claimed
        if claimed is None:
            raise WireError(f"inspect: expected a claim first, found {type(request).__name__}")
        match request:
            case BeginPart():
                self._check_room()
                return self._writable(
                    await self._queue.begin_part(claimed, request.name, request.name_bytes)
                )
            case Commit():
                upload = self._upload(request.document_id)
                await receive.stage(self.core, upload, request.size, request.sha256)
                claimed.parts[upload.document_id] = (upload, request.size, request.sha256)
                return Done(), None
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
            case Verdict():
                self.over = True
                self._claimed, fixity, self._fixity = None, self._fixity, None
                try:
                    await self._queue.verdict(claimed, request, fixity)
                except (StorageFailed, asyncio.CancelledError):
                    raise  # what is recorded is not known now: the next start looks
                except BaseException:
                    await self._queue.lost(claimed, None, seen=True)
                    raise
                return Done(), None
        raise WireError(
            f"inspect: expected a request of an inspector, found {type(request).__name__}"
        )

    async def close(self) -> None:
        await super().close()
        if self._look is not None and not self._look.result.done():
            self._look.result.set_exception(
                NotRead(
                    f"message {self._look.document_id}: expected it read, found its reader ended"
                )
            )
        if self._claimed is not None:
            claimed, self._claimed = self._claimed, None
            await self._queue.lost(claimed, self._fixity, seen=not self.undelivered)
