"""Mail handed in by an account that has logged in: whose document it becomes, and to which addresses.

Promises: it becomes a document of the account's client, whatever its From and its envelope say; `submitter`
is the account, and its proof is that it logged in.

Rule: any address at `smtp.domain` is taken, and means the account's own client. A scanner has its address
typed in once (`scan@intake.example.com`), and whoever typed it need not know how its client is called here.
Addresses elsewhere are refused: nothing is passed on, and a 250 would say that it is.

Leaves out: who has logged in (`gateway.core.login.submission`), mail from servers (`recipients`).
"""

from __future__ import annotations

from typing import Final

from gateway.core.intake import quotas, receive
from gateway.core.intake.acquaintances import Acquaintance
from gateway.core.intake.intake import Intake
from gateway.core.intake.recipients import (
    MESSAGE_NAME,
    Decided,
    accepted,
    no_room,
    parse_recipient,
)
from gateway.core.intake.upload import Mail, Upload
from gateway.core.login.accounts import Account
from gateway.errors import Refusal
from gateway.wire.messages import BeginMail, MailRecipient, RecipientAnswer
from vault.catalogue.states import Proof

ELSEWHERE: Final = (
    "5.7.1 This gateway files documents and passes no mail on; send to an address at {domain}"
)


async def check_recipient(intake: Intake, account: Account, request: MailRecipient) -> Decided:
    """Decide on a recipient of an account that has logged in."""
    domain = intake.core.config.smtp.domain
    parsed = parse_recipient(request.recipient)
    if parsed is None or parsed[2] != domain.lower():
        return RecipientAnswer(550, ELSEWHERE.format(domain=domain)), None
    client_id = client_of(account)
    try:
        await quotas.admit(intake, client_id, size=request.size or None)
    except Refusal as refusal:
        return no_room(refusal), None
    return accepted(Acquaintance(client_id, unlimited=False, proof=Proof.SUBMISSION))


async def begin(intake: Intake, account: Account, request: BeginMail) -> Upload:
    """Begin a message of an account (raises Refusal)."""
    client_id = client_of(account)
    allowance = await quotas.admit(intake, client_id)
    return receive.begin(
        intake,
        intake.core.now(),
        client_id=client_id,
        channel="smtp",
        name=MESSAGE_NAME,
        sender=request.sender,
        submitter=account.id,
        mail=Mail(proof=Proof.SUBMISSION, recipients=tuple(request.recipients)),
        room=allowance.room,
        too_large=allowance.sentence,
        facts={"envelope_recipients": " ".join(request.recipients)[:2000]},
    )


def client_of(account: Account) -> str:
    """The client that an account's mail belongs to."""
    if account.client_id is None:
        raise RuntimeError("submission: expected an account of a client, found another")
    return account.client_id
