"""A connection of the mail door: recipients, then messages for those accepted; or an account that logs in.

Promises: a message is taken only for one client, by recipients accepted on this connection. Once an account
has logged in all mail on the connection is that account's, to the end of the connection: a door can't hand
in another's under its name, nor take the name off again. What was accepted before counts no more then. When
the account's rights change the connection ends, as its SFTP sessions do.

Leaves out: who may send to whom (`intake.recipients`, `intake.submission`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.core.intake import receive, recipients, submission
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.core.login.accounts import Account
from gateway.core.login.logins import Logins
from gateway.core.login.submission import Submission
from gateway.core.sessions.base import Answer, Answering, UploadSession
from gateway.errors import Refusal, WireError
from gateway.wire.messages import (
    SHA256_SIZE,
    Abandon,
    AuthenticateSubmission,
    BeginMail,
    CommitMail,
    Done,
    MailRecipient,
    MailStored,
    Message,
    RecipientAnswer,
    SubmissionLogin,
)


class SmtpSession(UploadSession):
    """A connection of the mail door."""

    def __init__(self, intake: Intake, logins: Logins) -> None:
        super().__init__(intake)
        self._accepted: dict[tuple[str, str], str] = {}
        self._logins = logins
        self._login: Submission | None = None
        self._account: Account | None = None

    def handle(self, request: Any) -> Answering:
        match request:
            case CommitMail():
                return self._commit_mail(request)
            case MailRecipient() if self._account is None:
                answer = recipients.recipient_at_hand(self.intake, request)
                if answer is not None:
                    return self._note(request, answer), None
            case BeginMail() if self._account is None:
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
                if self._account is None:
                    answer = await recipients.check_recipient(self.intake, request)
                else:
                    answer = await submission.check_recipient(self.intake, self._account, request)
                return self._note(request, answer), None
            case BeginMail():
                client = self._client_of(request)
                if self._account is None:
                    return self._writable(await recipients.begin(self.intake, client, request))
                self._check_room()
                return self._writable(await submission.begin(self.intake, self._account, request))
            case AuthenticateSubmission():
                return await self._authenticate(request), None
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
        raise WireError(
            f"smtp: expected a request of the mail door, found {type(request).__name__}"
        )

    async def _authenticate(self, request: AuthenticateSubmission) -> SubmissionLogin:
        if self.uploads:
            raise WireError("smtp: expected a login before a message, found it within one")
        if self._login is None:
            self._login = Submission(self._logins)
        account = await self._login.attempt(request, self.hang_up)
        if account is None:
            return SubmissionLogin(granted=False)
        self._account = account
        self._accepted.clear()
        return SubmissionLogin(granted=True)

    async def close(self) -> None:
        if self._login is not None:
            self._login.leave()
        await super().close()
