"""A connection of the courier: one transfer at a time, and how it ended.

Promises: a transfer that a lost connection had claimed fails at once. Leaves out: what is due
(`gateway.core.outbound`).
"""

from __future__ import annotations

from typing import Any

from gateway.core.outbound.outbound import Outbound
from gateway.core.sessions.base import Answer, Session
from gateway.errors import WireError
from gateway.wire.messages import ClaimTransfer, Done, NoWork, TransferReport


class CourierSession(Session):
    """A connection of the courier."""

    def __init__(self, outbound: Outbound) -> None:
        super().__init__(outbound.core)
        self._transfers = outbound.transfers
        self._transfer: int | None = None  # what this connection has claimed

    async def handle(self, request: Any) -> Answer:
        match request:
            case ClaimTransfer():
                claimed = await self._transfers.claim(drop=self.hang_up)
                if claimed is None:
                    return NoWork(), None
                self._transfer = claimed[0].transfer_id
                return claimed
            case TransferReport():
                self._transfer = None
                self._transfers.report(request)
                return Done(), None
        raise WireError(
            f"courier: expected a request of the courier, found {type(request).__name__}"
        )

    async def close(self) -> None:
        await super().close()
        if self._transfer is not None:
            self._transfers.lost(self._transfer)
