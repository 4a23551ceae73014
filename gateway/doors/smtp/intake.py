"""The mail door's line to the core: recipients, and messages that are sealed while they arrive.

Promises: `Incoming.commit` returns only after the core said that it is stored, so 250 means durable. Whatever
else happens to a message (an error, a refusal, the peer or the core gone), nothing of it is kept: it is
abandoned, or the connection that began it is closed, which makes the core drop it.

Leaves out: what the peer is told (`gateway.doors.smtp.session`).

Rules: a line to the core is borrowed at the first recipient (`lines`) and given back at the end. A call that
did not end with a reply leaves a line on which replies and requests no longer match: it is closed at once.
One on which somebody tried to log in is closed at the end, and never another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any, Final

from gateway.doors.sealing import Sealing
from gateway.doors.smtp.lines import Line, Lines
from gateway.errors import Disconnected, GatewayError, Refusal, WireError
from gateway.wire.messages import (
    Abandon,
    AuthenticateSubmission,
    BeginMail,
    Done,
    MailRecipient,
    MailStored,
    Message,
    RecipientAnswer,
    SubmissionLogin,
    Writable,
)

CORE_PATIENCE: Final = 120.0  # seconds a reply may take: a commit syncs a file to a slow disk


class LoginEnded(Disconnected):
    """The account that had logged in here is so no longer."""


class Intake:
    """The core, as one SMTP connection sees it."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._line: Line | None = None
        self._named = (
            False  # somebody gave a name and password on the line: it is nobody else's any more
        )
        self._bound = False  # and is logged in on it

    async def recipient(
        self, peer: str, sender: str, recipient: str, size: int = 0, helo: str = ""
    ) -> RecipientAnswer:
        """Ask whether mail from `sender`, of `size` bytes if announced, may go to `recipient`.

        `helo` is the name that the peer gave itself.

        Raises:
            Refusal: the core can't say now. Disconnected, WireError: it is away, or confused.
        """
        reply, _ = await self.call(
            MailRecipient(peer, sender, recipient, size, helo), RecipientAnswer
        )
        assert isinstance(reply, RecipientAnswer)
        return reply

    async def authenticate(self, peer: str, user: str, password: str) -> bool:
        """Log in for handing in mail; then the line is this connection's, and dies with it.

        Raises:
            Refusal, Disconnected, WireError: nobody looked at it, or the login ended meanwhile.
        """
        self._named = True
        request = AuthenticateSubmission(peer, user, password)
        reply, _ = await self.call(request, SubmissionLogin)
        assert isinstance(reply, SubmissionLogin)
        self._bound = reply.granted
        return reply.granted

    async def begin(
        self, peer: str, sender: str, recipients: list[str], helo: str = ""
    ) -> Incoming:
        """Begin a message for recipients accepted before (raises as `recipient`, and VaultError)."""
        reply, descriptors = await self.call(BeginMail(peer, sender, recipients, helo), Writable)
        assert isinstance(reply, Writable)
        if len(descriptors) != 1:
            self.close()
            raise WireError(f"message: expected one descriptor, found {len(descriptors)}")
        try:
            return Incoming(self, reply, descriptors[0])
        except BaseException:
            os.close(descriptors[0])
            self.close()
            raise

    async def call(self, request: Message, expected: type[Message]) -> tuple[Any, list[int]]:
        """One request and its reply (raises Refusal, Disconnected, WireError)."""
        answered = False
        try:
            async with asyncio.timeout(CORE_PATIENCE):
                if self._line is None:
                    if self._bound:
                        # Another line would not know who is logged in here.
                        raise LoginEnded("core: the line on which somebody logged in has ended")
                    self._line = await self._lines.borrow()
                self._line.requests += 1
                reply, descriptors = await self._line.channel.call(request)
            if not isinstance(reply, expected):
                for descriptor in descriptors:
                    os.close(descriptor)
                raise WireError(f"core: expected {expected.__name__}, found another reply")
            answered = True
        except Refusal:
            answered = True
            raise
        except Disconnected as error:
            if self._bound and not isinstance(error, LoginEnded):
                raise LoginEnded(str(error)) from error
            raise
        except TimeoutError as error:
            raise Disconnected(f"core: no reply within {CORE_PATIENCE:.0f} s") from error
        finally:
            if not answered:
                self.close()
        return reply, descriptors

    def give_back(self) -> None:
        """The peer is gone, and nothing is under way: another may have the line."""
        if self._named:
            self.close()
        if self._line is not None:
            self._lines.give_back(self._line)
            self._line = None

    def close(self) -> None:
        """End the line; the core drops what was not committed on it."""
        if self._line is not None:
            self._line.channel.close()
            self._line = None


class Incoming:
    """A message being received. Closing it without `commit` keeps nothing of it."""

    def __init__(self, intake: Intake, begun: Writable, descriptor: int) -> None:
        self._intake = intake
        self._descriptor = descriptor
        self._settled = False
        self._sealing = Sealing(begun, descriptor)
        self.document_id = begun.document_id
        self.room = begun.room

    @property
    def open(self) -> bool:
        """Whether bytes are still wanted."""
        return not self._settled

    def write(self, data: bytes) -> None:
        """Seal and hash the next bytes (raises StorageFull, StorageFailed, VaultError)."""
        self._sealing.write(data)

    async def commit(self) -> MailStored:
        """COMMIT POINT of the door: on return the message is durable (raises as `Intake`, VaultError)."""
        request = self._sealing.finish()
        try:
            stored, _ = await self._intake.call(request, MailStored)
        except Refusal:
            self._settled = True  # the core has let go of it already
            raise
        self._settled = True
        assert isinstance(stored, MailStored)
        return stored

    async def abandon(self) -> None:
        """Give the message up now, so that its room and its key are free before the peer has finished."""
        if self._settled:
            return
        self._settled = True
        # A core that does not answer has dropped it with the connection, which `call` closed.
        with contextlib.suppress(GatewayError):
            await self._intake.call(Abandon(self.document_id), Done)

    def close(self) -> None:
        """Let go of it. What was neither committed nor given up is dropped with the line."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if not self._settled:
            self._settled = True
            self._intake.close()
