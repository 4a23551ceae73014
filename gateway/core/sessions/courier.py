"""A connection of the courier: one transfer at a time, and how it ended.

Promises: a transfer that a lost connection had claimed fails at once; one that never reached it waits on. A
report is answered with the next transfer, so that a worker that has a place open is free when more is to be
done there. Leaves out: what is due (`gateway.core.outbound`).
"""

from __future__ import annotations

from typing import Any

from gateway.core.outbound.outbound import Outbound
from gateway.core.sessions.base import Answer, Session
from gateway.errors import WireError
from gateway.wire.messages import ClaimTransfer, NoWork, TransferReport


class CourierSession(Session):
    """A connection of the courier."""

    def __init__(self, outbound: Outbound) -> None:
        super().__init__(outbound.core)
        self._transfers = outbound.transfers
        self._worker = self._transfers.worker(
            lambda: self.hang_up(),  # noqa: PLW0108  the server sets it later
            lambda: self.gone(),  # noqa: PLW0108  likewise
        )
        self._transfer: int | None = None  # what this connection has claimed

    async def handle(self, request: Any) -> Answer:
        match request:
            case ClaimTransfer():
                pass
            case TransferReport():
                self._transfer = None
                self._transfers.report(request)
            case _:
                raise WireError(
                    f"courier: expected a request of the courier, found {type(request).__name__}"
                )
        claimed = await self._worker.claim()
        if claimed is None:
            return NoWork(), None
        self._transfer = claimed[0].transfer_id
        return claimed

    async def close(self) -> None:
        await super().close()
        if self._transfer is not None:
            self._transfers.lost(self._transfer, seen=not self.undelivered)
