"""A connection of the mail door: recipients, then messages for those accepted; or an account that logs in.

Promises: a message is taken only for one client, by recipients accepted on this connection. Once an account
has logged in all mail on the connection is that account's, to the end of the connection: a door can't hand
in another's under its name, nor take the name off again. What was accepted before counts no more then. When
the account's rights change the connection ends, as its SFTP sessions do.

Leaves out: who may send to whom (`intake.recipients`, `intake.submission`).
"""

from __future__ import annotations

from typing import Any, Final

from gateway.core.inspection.proving import Proving
from gateway.core.intake import receive, recipients, submission
from gateway.core.intake.acquaintances import Acquaintance
from gateway.core.intake.intake import Intake
from gateway.core.login.accounts import Account
from gateway.core.login.logins import Logins
from gateway.core.login.submission import Submission
from gateway.core.sessions.base import Answer, Answering
from gateway.core.sessions.mail import MailSession
from gateway.errors import Refusal, WireError
from gateway.wire.messages import (
    Abandon,
    AuthenticateSubmission,
    BeginMail,
    CommitMail,
    Done,
    MailRecipient,
    RecipientAnswer,
    SubmissionLogin,
)
from vault.catalogue.states import Proof

_WORTH: Final = (Proof.SUBMISSION, Proof.TAG, Proof.NONE, Proof.WAITING, Proof.FAILED)
"""What an envelope can prove, the most first."""


class SmtpSession(MailSession):
    """A connection of the mail door."""

    def __init__(self, intake: Intake, proving: Proving, logins: Logins) -> None:
        super().__init__(intake, proving)
        self._accepted: dict[tuple[str, str], Acquaintance] = {}
        self._logins = logins
        self._login: Submission | None = None
        self._account: Account | None = None

    def handle(self, request: Any) -> Answering:
        match request:
            case CommitMail():
                return self._commit_mail(request)
            case MailRecipient() if self._account is None:
                decided = recipients.recipient_at_hand(self.intake, request)
                if decided is not None:
                    return self._note(request, decided), None
            case BeginMail() if self._account is None:
                known = self._known(request)
                self._check_room()
                upload = recipients.begin_now(self.intake, known, request)
                if upload is not None:
                    return self._writable(upload)
        return self._handle(request)

    def _note(self, request: MailRecipient, decided: recipients.Decided) -> RecipientAnswer:
        answer, known = decided
        if known is not None:
            self._accepted[request.sender, request.recipient] = known
        else:  # what held before on this line does not any more
            self._accepted.pop((request.sender, request.recipient), None)
        return answer

    def _known(self, request: BeginMail) -> Acquaintance:
        """The client of recipients that were accepted on this connection, and what is known of the sender.

        Raises:
            Refusal: one was not accepted, or they are of several clients.
        """
        found = [self._accepted.get((request.sender, each)) for each in request.recipients]
        known = [each for each in found if each is not None]
        if not known or len(known) < len(found) or len({each.client_id for each in known}) > 1:
            raise Refusal("denied", "message: expected recipients accepted before, for one client")
        # One address with a secret part proves the message, whatever others it goes to.
        return min(known, key=lambda each: _WORTH.index(each.proof))

    async def _handle(self, request: Any) -> Answer:
        match request:
            case MailRecipient():
                if self._account is None:
                    answer = await recipients.check_recipient(self.intake, request)
                else:
                    answer = await submission.check_recipient(self.intake, self._account, request)
                return self._note(request, answer), None
            case BeginMail():
                known = self._known(request)
                if self._account is None:
                    return self._writable(await recipients.begin(self.intake, known, request))
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
