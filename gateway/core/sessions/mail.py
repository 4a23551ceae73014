"""What the doors for mail have in common: a message is committed with what is known of it by then.

Promises: a message that is to be refused where it proves nothing is judged before it is acknowledged, while
its sender is there to hear of it. Leaves out: whose a message is, and how it came (`smtp`, `mailbox`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.core.inspection.proving import Proving
from gateway.core.intake import receive
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Mail, Upload
from gateway.core.sessions.base import Answer, Answering, UploadSession
from gateway.errors import Refusal
from gateway.wire.messages import SHA256_SIZE, CommitMail, MailStored, Message
from vault.catalogue.states import Proof


class MailSession(UploadSession):
    """A connection over which messages come in."""

    def __init__(self, intake: Intake, proving: Proving) -> None:
        super().__init__(intake)
        self._proving = proving

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
