"""A connection of the mail door: recipients, then messages for those accepted.

Promises: a message is taken only for one client, by recipients accepted on this connection. Leaves out: who
may send to whom (`intake.recipients`).
"""

from __future__ import annotations

from typing import Any

from gateway.core.intake import receive, recipients
from gateway.core.intake.intake import Intake
from gateway.core.sessions.base import Answer, Answering, UploadSession
from gateway.errors import Refusal, WireError
from gateway.wire.messages import (
    Abandon,
    BeginMail,
    Commit,
    Done,
    MailRecipient,
)


class SmtpSession(UploadSession):
    """A connection of the mail door: recipients, then messages for those accepted."""

    def __init__(self, intake: Intake) -> None:
        super().__init__(intake)
        self._accepted: dict[tuple[str, str], str] = {}

    def handle(self, request: Any) -> Answering:
        return self._commit(request) if isinstance(request, Commit) else self._handle(request)

    async def _handle(self, request: Any) -> Answer:
        match request:
            case MailRecipient():
                answer = await recipients.check_recipient(self.intake, request)
                if answer.client:
                    self._accepted[request.sender, request.recipient] = answer.client
                return answer, None
            case BeginMail():
                accepted = {
                    self._accepted.get((request.sender, recipient))
                    for recipient in request.recipients
                }
                if len(accepted) != 1 or None in accepted:
                    raise Refusal(
                        "denied", "message: expected recipients accepted before, for one client"
                    )
                client = accepted.pop()
                assert client is not None
                self._check_room()
                return self._writable(await recipients.begin(self.intake, client, request))
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
        raise WireError(
            f"smtp: expected a request of the mail door, found {type(request).__name__}"
        )
