"""One message between its first byte and the answer to it: sealed, or read into nothing and refused.

Promises: what is refused leaves no bytes behind, from the moment that it is; the answer that refuses is the
first reason found. Nothing is acknowledged that the core has not said to be durable.

Leaves out: how bytes are told from commands (`data_stream` for DATA, a count for BDAT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.doors.smtp.admission import MIN_RATE
from gateway.doors.smtp.connection import HangUp, log
from gateway.doors.smtp.intake import Incoming
from gateway.errors import GatewayError, Refusal
from vault.errors import StorageFull, VaultError

NOT_NOW: Final = "451 4.3.0 The message could not be stored; try again later"
FULL: Final = "452 4.3.1 No room for the message now; try again later"
# Without the numbers that clients see over SFTP: an envelope proves nobody's identity.
UNPROVEN: Final = (
    "550 5.7.26 Nothing in this message proves its sender; ask your accountant for another way"
)
NO_ROOM: Final = "452 4.2.2 This client's room here is used up; nothing of the message was kept"
TOO_LARGE: Final = "552 5.3.4 The message is larger than this server takes"


class Receiving:
    """A message that arrives.

    Args:
        incoming: where it goes; closed by `close`.
        limit: bytes it may have.
        since: when its first byte could come, by the loop's clock.
        hold: stops the clock while the core works.
    """

    def __init__(
        self, incoming: Incoming, limit: int, since: float, hold: Callable[[], None]
    ) -> None:
        self._incoming = incoming
        self._limit = limit
        self._since = since
        self._hold = hold
        self.size = 0
        self.refusal = ""

    def patience(self, now: float, timeout: float) -> float:
        """Seconds that the next bytes may take: the timeout, but no slower than the least rate in all."""
        return min(timeout, timeout + self.size / MIN_RATE - (now - self._since))

    async def take(self, text: bytes, refusal: str = "") -> None:
        """Seal the next bytes, or find the reason to refuse (raises HangUp for one that never stops).

        Args:
            refusal: the reason, where it was found already.
        """
        self.size += len(text)
        if not self.refusal:
            self.refusal = refusal or self._seal(text)
            if self.refusal:
                self._hold()
                await self._incoming.abandon()
        if self.size > 2 * self._limit:
            # Long refused, and sent on regardless: nobody waits for its end.
            raise HangUp(TOO_LARGE)

    async def finish(self) -> str:
        """It has ended; returns the reply to it."""
        if self.refusal:
            log.info("message refused", code=self.refusal[:3], size=self.size)
            return self.refusal
        # COMMIT POINT: on return the message is durable, and only then the peer is told.
        self._hold()
        try:
            stored = await self._incoming.commit()
        except (GatewayError, VaultError) as error:
            log.warning("message not stored", error=type(error).__name__)
            return reply_for(error)
        log.info(
            "message received", document=stored.document_id, size=self.size, again=stored.again
        )
        return f"250 2.0.0 {'Already stored' if stored.again else 'Stored'} as {stored.document_id}"

    async def abandon(self) -> None:
        """It will not be completed: the core drops it now."""
        await self._incoming.abandon()

    def close(self) -> None:
        """Let go of it; what was not committed is dropped with the line to the core."""
        self._incoming.close()

    def _seal(self, text: bytes) -> str:
        """Seal the next bytes; returns "" or the reply that refuses the message."""
        if self.size > self._limit:
            return TOO_LARGE
        room = self._incoming.room
        if room is not None and self.size > room:
            return NO_ROOM
        try:
            self._incoming.write(text)
        except VaultError as error:
            return reply_for(error)
        return ""


def reply_for(error: GatewayError | VaultError) -> str:
    """The SMTP reply for a failure.

    All but one make the sender's server try again: what is short today, the disk or a quota, a person can
    give within the days that it tries, and then nothing was lost.
    """
    if isinstance(error, Refusal) and error.code == "unproven":
        return UNPROVEN
    if isinstance(error, Refusal) and error.code == "quota":
        return NO_ROOM
    full = isinstance(error, StorageFull) or (isinstance(error, Refusal) and error.code == "full")
    return FULL if full else NOT_NOW
