"""A connection of the mail door: recipients, then messages for those accepted.

Promises: a message is taken only for one client, by recipients accepted on this connection. Leaves out: who
may send to whom (`intake.recipients`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.core.intake import receive, recipients
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.core.sessions.base import Answer, Answering, UploadSession
from gateway.errors import Refusal, WireError
from gateway.wire.messages import (
    SHA256_SIZE,
    Abandon,
    BeginMail,
    CommitMail,
    Done,
    MailRecipient,
    MailStored,
    Message,
    RecipientAnswer,
)


class SmtpSession(UploadSession):
    """A connection of the mail door: recipients, then messages for those accepted."""

    def __init__(self, intake: Intake) -> None:
        super().__init__(intake)
        self._accepted: dict[tuple[str, str], str] = {}

    def handle(self, request: Any) -> Answering:
        match request:
            case CommitMail():
                return self._commit_mail(request)
            case MailRecipient():
                answer = recipients.recipient_at_hand(self.intake, request)
                if answer is not None:
                    return self._note(request, answer), None
            case BeginMail():
                client = self._client_of(request)
                self._check_room()
                upload = recipients.begin_now(self.intake, client, request)
                if upload is not None:
                    return self._writable(upload)
        return self._handle(request)

    def _note(self, request: MailRecipient, answer: RecipientAnswer) -> RecipientAnswer:
        if answer.client:
            self._accepted[request.sender, request.recipient] = answer.client
        return answer

    def _client_of(self, request: BeginMail) -> str:
        """The one client of recipients that were accepted on this connection (raises Refusal)."""
        accepted = {
            self._accepted.get((request.sender, recipient)) for recipient in request.recipients
        }
        client = accepted.pop() if len(accepted) == 1 else None
        if client is None:
            raise Refusal("denied", "message: expected recipients accepted before, for one client")
        return client

    def _commit_mail(self, request: CommitMail) -> Answering:
        upload = self.uploads.get(request.document_id)
        if upload is not None and upload.mail is not None and len(request.content) == SHA256_SIZE:
            upload.mail = replace(
                upload.mail, message_id=request.message_id, content=request.content
            )
        return self._commit(request)

    def stored(self, upload: Upload) -> Message:
        if upload.stored_as:
            return MailStored(upload.stored_as, again=True)
        return MailStored(upload.document_id)

    async def _handle(self, request: Any) -> Answer:
        match request:
            case MailRecipient():
                return self._note(
                    request, await recipients.check_recipient(self.intake, request)
                ), None
            case BeginMail():
                client = self._client_of(request)
                return self._writable(await recipients.begin(self.intake, client, request))
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
        raise WireError(
            f"smtp: expected a request of the mail door, found {type(request).__name__}"
        )
