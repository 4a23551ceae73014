"""A connection of the mail door: recipients, then messages for those accepted.

Promises: a message is taken only for one client, by recipients accepted on this connection. Leaves out: who
may send to whom (`intake.recipients`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

from gateway.core.inspection.proving import Proving
from gateway.core.intake import receive, recipients
from gateway.core.intake.acquaintances import Acquaintance
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Mail, Upload
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
from vault.catalogue.states import Proof

_WORTH: Final = (Proof.TAG, Proof.NONE, Proof.WAITING, Proof.FAILED)
"""What an envelope can prove, the most first."""


class SmtpSession(UploadSession):
    """A connection of the mail door: recipients, then messages for those accepted."""

    def __init__(self, intake: Intake, proving: Proving) -> None:
        super().__init__(intake)
        self._proving = proving
        self._accepted: dict[tuple[str, str], Acquaintance] = {}

    def handle(self, request: Any) -> Answering:
        match request:
            case CommitMail():
                return self._commit_mail(request)
            case MailRecipient():
                decided = recipients.recipient_at_hand(self.intake, request)
                if decided is not None:
                    return self._note(request, decided), None
            case BeginMail():
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

    def _commit_mail(self, request: CommitMail) -> Answering:
        upload = self.uploads.get(request.document_id)
        if upload is not None and upload.mail is not None:
            if len(request.content) == SHA256_SIZE:
                upload.mail = replace(
                    upload.mail, message_id=request.message_id, content=request.content
                )
            if upload.mail.refuse and upload.mail.proof is Proof.WAITING:
                return self._judge_first(request, upload, upload.mail)
        return self._commit(request)

    async def _judge_first(self, request: CommitMail, upload: Upload, mail: Mail) -> Answer:
        """Refuse what proves nothing while its sender is there to hear of it; keep what takes longer.

        Raises:
            Refusal("unproven"): nothing of it is kept.
        """
        judged = await self._proving.judge_upload(upload, request.size, request.sha256)
        if judged is not None and judged.proof is Proof.FAILED:
            await receive.discard(self.core, self._upload(request.document_id))
            raise Refusal("unproven", "This message shows nothing that proves its sender.")
        if judged is not None:
            upload.mail = replace(mail, proof=judged.proof)
            upload.facts["sender_proof"] = judged.said
        return await asyncio.wrap_future(self._commit(request))

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
                known = self._known(request)
                return self._writable(await recipients.begin(self.intake, known, request))
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
        raise WireError(
            f"smtp: expected a request of the mail door, found {type(request).__name__}"
        )
