"""Mail addresses: whose intake an address is, and who may send to it.

`<client>@<domain>` or `<client>+<anything>@<domain>`. Who may send is part of the client's profile: whole
addresses, or `@domain` for everyone there. Which clients exist is nobody's business who may not send to them:
one that is unknown, one that is closed and one that does not know the sender answer in the same words, after
the same questions, and not before `REFUSED_AFTER`.

Who is accepted is answered at once, and remembered with the client's quota as long as no client's row
changes (`Acquaintances`). Only accepted pairs of sender and name are: whoever is refused is asked after anew,
so that what is remembered shows in no refusal's time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, bindparam, select

from gateway.core.core import Core
from gateway.core.intake import quotas, receive
from gateway.core.intake.acquaintances import Acquaintance
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Mail, Upload
from gateway.errors import Refusal
from gateway.wire.messages import BeginMail, MailRecipient, RecipientAnswer
from vault.catalogue import queries
from vault.catalogue.schema import clients
from vault.catalogue.states import ClientState
from vault.crypto.wrapping import open_record, seal_record
from vault.errors import VaultError
from vault.keys.secret_names import SECRET_PROFILE

PURPOSE_PROFILE: Final = "client-profile"
MESSAGE_NAME: Final = "message.eml"
NOT_TAKEN: Final = (
    "5.7.1 No client of that name takes documents from your address; ask your accountant"
)
REFUSED_AFTER: Final = (
    0.05  # seconds: longer than any of it takes, a keyring read from disk included
)
UNLIMITED: Final = quotas.Quota(0, 0, 0)
# No numbers: an envelope proves nobody's identity.
NO_ROOM: Final = "5.2.2 This client's room here is used up; tell your accountant"


_NAMED: Final = select(clients).where(
    clients.c.slug == bindparam("slug"), clients.c.state == ClientState.OPEN
)
_ANY: Final = (
    select(clients).where(clients.c.state == ClientState.OPEN).order_by(clients.c.id).limit(1)
)


class ClientProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is personal about a client, sealed under its keyring. `emails`: addresses or `@domain`.

    `notice_to`: where receipts go for what it sends by SFTP; "": nowhere.
    """

    name: str
    emails: list[str] = msgspec.field(default_factory=list)
    language: str = "zh"
    notice_to: str = ""


def seal_profile(core: Core, client_id: str, profile: ClientProfile) -> bytes:
    """Seal a profile under the client's key."""
    key = core.store.custody.keyring(client_id).secrets[SECRET_PROFILE]
    return seal_record(
        key, msgspec.json.encode(profile), purpose=PURPOSE_PROFILE, subject=client_id
    )


def open_profile(core: Core, row: queries.Client | Row[Any]) -> ClientProfile:
    """The profile of a client row."""
    key = core.store.custody.keyring(row.id).secrets[SECRET_PROFILE]
    data = open_record(key, row.profile, purpose=PURPOSE_PROFILE, subject=row.id)
    return msgspec.json.decode(data, type=ClientProfile)


def parse_recipient(address: str) -> tuple[str, str] | None:
    """(client slug, domain) of an intake address, both lower case; None if it is no address."""
    local, at, domain = address.rpartition("@")
    if not at or not local:
        return None
    return local.partition("+")[0].lower(), domain.lower()


def may_send(profile: ClientProfile, sender: str) -> bool:
    """Whether the envelope sender is one of the client's."""
    sender = sender.lower()
    _, at, domain = sender.rpartition("@")
    allowed = {entry.lower() for entry in profile.emails}
    return bool(at) and (sender in allowed or f"@{domain}" in allowed)


async def check_recipient(intake: Intake, request: MailRecipient) -> RecipientAnswer:
    """Decide on a recipient (SMTP replies of RFC 5321 with RFC 3463 codes)."""
    core = intake.core
    parsed = parse_recipient(request.recipient)
    domain = core.config.smtp.domain
    if parsed is None or parsed[1] != domain.lower():
        return RecipientAnswer(550, f"5.7.1 This gateway takes mail for {domain} only")
    begun = time.monotonic()
    known = await _known(intake, parsed[0], request.sender)
    if known is None:
        await asyncio.sleep(max(0.0, REFUSED_AFTER - (time.monotonic() - begun)))
        return RecipientAnswer(550, NOT_TAKEN)
    try:
        await _admit(intake, known.client_id, size=request.size or None)
    except Refusal as refusal:
        return _no_room(refusal)
    return _accepted(known)


def recipient_at_hand(intake: Intake, request: MailRecipient) -> RecipientAnswer | None:
    """`check_recipient` where all it takes is remembered; None: it has to be waited for."""
    parsed = parse_recipient(request.recipient)
    if parsed is None or parsed[1] != intake.core.config.smtp.domain.lower():
        return None
    version = intake.core.store.catalogue.version(clients)
    known = intake.acquaintances.find(version, parsed[0], request.sender)
    if known is None:
        return None
    try:
        allowance = _allowance_at_hand(intake, known.client_id, size=request.size or None)
    except Refusal as refusal:
        return _no_room(refusal)
    return None if allowance is None else _accepted(known)


def _accepted(known: Acquaintance) -> RecipientAnswer:
    return RecipientAnswer(250, "2.1.5 Recipient accepted", client=known.client_id)


def _no_room(refusal: Refusal) -> RecipientAnswer:
    if refusal.code == "full":
        return RecipientAnswer(452, "4.3.1 No room for the message now; try again later")
    return RecipientAnswer(552, NO_ROOM)


async def _known(intake: Intake, slug: str, sender: str) -> Acquaintance | None:
    """The open client of that name if `sender` is one of its own."""
    core = intake.core
    version = core.store.catalogue.version(clients)
    known = intake.acquaintances.find(version, slug, sender)
    if known is None:
        row = await _client_for(core, slug, sender)
        if row is None:
            return None
        known = Acquaintance(row.id, quotas.quota_of(core, row) == UNLIMITED)
        intake.acquaintances.note(version, slug, sender, known)
    return known


async def _client_for(core: Core, slug: str, sender: str) -> Row[Any] | None:
    """The open client of that name if `sender` is one of its own."""

    def look(connection: Connection) -> tuple[Row[Any] | None, Row[Any] | None]:
        named = connection.execute(_NAMED, {"slug": slug}).one_or_none()
        return named, connection.execute(_ANY).one_or_none()

    named, other = await core.read(look)
    # Of a name that no client has, another's profile is opened: what it costs is the same.
    row = other if named is None else named
    try:
        taken = row is not None and may_send(open_profile(core, row), sender)
    except VaultError:
        if named is not None:
            raise
        taken = False
    return named if taken else None


async def _admit(intake: Intake, client_id: str, *, size: int | None = None) -> quotas.Allowance:
    """As `quotas.admit`; of a client without a quota nothing has to be read for it."""
    at_hand = _allowance_at_hand(intake, client_id, size=size)
    return at_hand or await quotas.admit(intake, client_id, size=size)


def _allowance_at_hand(
    intake: Intake, client_id: str, *, size: int | None = None
) -> quotas.Allowance | None:
    core = intake.core
    if intake.acquaintances.unlimited(core.store.catalogue.version(clients), client_id):
        return quotas.allow(core, quotas.Standing(ClientState.OPEN, UNLIMITED, 0, 0), size=size)
    return None


async def begin(intake: Intake, client_id: str, request: BeginMail) -> Upload:
    """Begin a message for a client (raises Refusal)."""
    return _begin(intake, client_id, request, await _admit(intake, client_id))


def begin_now(intake: Intake, client_id: str, request: BeginMail) -> Upload | None:
    """`begin` where nothing has to be read for it; None: it has to be waited for (raises Refusal)."""
    allowance = _allowance_at_hand(intake, client_id)
    return None if allowance is None else _begin(intake, client_id, request, allowance)


def _begin(
    intake: Intake, client_id: str, request: BeginMail, allowance: quotas.Allowance
) -> Upload:
    return receive.begin(
        intake,
        intake.core.now(),
        client_id=client_id,
        channel="smtp",
        name=MESSAGE_NAME,
        sender=request.sender,
        mail=Mail(),
        room=allowance.room,
        too_large=allowance.sentence,
        facts={"envelope_recipients": " ".join(request.recipients)[:2000]},
    )
