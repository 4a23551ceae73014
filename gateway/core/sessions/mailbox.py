"""A connection of the mailbox door: which messages are new, and messages like the mail door's.

Promises: a message is begun for a mailbox of the configuration, and its number is written down with it.
Leaves out: whose it is (`intake.fetched`).
"""

from __future__ import annotations

from typing import Any

from gateway.core.intake import fetched, receive
from gateway.core.sessions.base import Answer, Answering
from gateway.core.sessions.mail import MailSession
from gateway.errors import WireError
from gateway.wire.messages import (
    Abandon,
    BeginFetched,
    CommitMail,
    Done,
    MailboxReport,
    WhichAreNew,
)


class MailboxSession(MailSession):
    """A connection of the mailbox door."""

    def handle(self, request: Any) -> Answering:
        if isinstance(request, CommitMail):
            return self._commit_mail(request)
        return self._serve(request)

    async def _serve(self, request: Any) -> Answer:
        match request:
            case WhichAreNew():
                return await fetched.which_are_new(self.intake, request), None
            case BeginFetched():
                self._check_room()
                return self._writable(await fetched.begin(self.intake, request))
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
            case MailboxReport():
                fetched.report(self.intake, request)
                return Done(), None
        raise WireError(
            f"mailbox: expected a request of the mailbox door, found {type(request).__name__}"
        )
