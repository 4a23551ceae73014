"""Mail addresses: whose intake an address is, and who may send to it.

`<client>@<domain>` or `<client>+<anything>@<domain>`. Who may send, and what it has to show, is part of the
client's profile (`senders`). Which clients exist is nobody's business who may not send to them:
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
from gateway.core.intake import quotas, receive, senders
from gateway.core.intake.acquaintances import Acquaintance
from gateway.core.intake.intake import Intake
from gateway.core.intake.senders import ClientProfile
from gateway.core.intake.upload import Mail, Upload
from gateway.errors import Refusal
from gateway.wire.messages import BeginMail, MailRecipient, RecipientAnswer
from vault.catalogue import queries
from vault.catalogue.schema import clients
from vault.catalogue.states import ClientState, Proof
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
NO_ROOM: Final = "4.2.2 This client's room here is used up; tell your accountant"


_NAMED: Final = select(clients).where(
    clients.c.slug == bindparam("slug"), clients.c.state == ClientState.OPEN
)
_ANY: Final = (
    select(clients).where(clients.c.state == ClientState.OPEN).order_by(clients.c.id).limit(1)
)


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


def parse_recipient(address: str) -> tuple[str, str, str] | None:
    """(client slug, tag, domain) of an intake address, all lower case; None if it is no address."""
    local, at, domain = address.lower().rpartition("@")
    if not at or not local:
        return None
    slug, _, tag = local.partition("+")
    return slug, tag, domain


Standing = tuple[Proof, bool]
"""What an envelope proves, and whether mail is refused that proves nothing."""
Decided = tuple[RecipientAnswer, Acquaintance | None]
"""The answer about a recipient (SMTP replies of RFC 5321 with RFC 3463 codes), and what is known of a yes."""


async def check_recipient(intake: Intake, request: MailRecipient) -> Decided:
    """Decide on a recipient."""
    core = intake.core
    parsed = parse_recipient(request.recipient)
    domain = core.config.smtp.domain
    if parsed is None or parsed[2] != domain.lower():
        return RecipientAnswer(550, f"5.7.1 This gateway takes mail for {domain} only"), None
    begun = time.monotonic()
    known = await _known(intake, parsed[0], parsed[1], request.sender)
    if known is None:
        await asyncio.sleep(max(0.0, REFUSED_AFTER - (time.monotonic() - begun)))
        return RecipientAnswer(550, NOT_TAKEN), None
    try:
        await _admit(intake, known.client_id, size=request.size or None)
    except Refusal as refusal:
        return no_room(refusal), None
    return accepted(known)


def recipient_at_hand(intake: Intake, request: MailRecipient) -> Decided | None:
    """`check_recipient` where all it takes is remembered; None: it has to be waited for."""
    parsed = parse_recipient(request.recipient)
    if parsed is None or parsed[2] != intake.core.config.smtp.domain.lower():
        return None
    version = intake.core.store.catalogue.version(clients)
    known = intake.acquaintances.find(version, parsed[:2], request.sender)
    if known is None:
        return None
    try:
        allowance = _allowance_at_hand(intake, known.client_id, size=request.size or None)
    except Refusal as refusal:
        return no_room(refusal), None
    return None if allowance is None else accepted(known)


def accepted(known: Acquaintance) -> Decided:
    """The answer that takes a recipient."""
    return RecipientAnswer(250, "2.1.5 Recipient accepted", client=known.client_id), known


def no_room(refusal: Refusal) -> RecipientAnswer:
    """The answer where its client, or the disk, has no room for the message."""
    if refusal.code == "full":
        return RecipientAnswer(452, "4.3.1 No room for the message now; try again later")
    return RecipientAnswer(452, NO_ROOM)


async def _known(intake: Intake, slug: str, tag: str, sender: str) -> Acquaintance | None:
    """The open client of that name if it takes mail from `sender`, and what is known of the proof."""
    core = intake.core
    version = core.store.catalogue.version(clients)
    known = intake.acquaintances.find(version, (slug, tag), sender)
    if known is None:
        found = await _client_for(core, slug, tag, sender)
        if found is None:
            return None
        row, (proof, refuse) = found
        known = Acquaintance(row.id, quotas.quota_of(core, row) == UNLIMITED, proof, refuse)
        intake.acquaintances.note(version, (slug, tag), sender, known)
    return known


async def _client_for(
    core: Core, slug: str, tag: str, sender: str
) -> tuple[Row[Any], Standing] | None:
    """The open client of that name if it takes mail from `sender`, and what is known of the proof."""

    def look(connection: Connection) -> tuple[Row[Any] | None, Row[Any] | None]:
        named = connection.execute(_NAMED, {"slug": slug}).one_or_none()
        return named, connection.execute(_ANY).one_or_none()

    named, other = await core.read(look)
    # Of a name that no client has, another's profile is opened: what it costs is the same.
    row = other if named is None else named
    try:
        standing = None if row is None else _standing(core, open_profile(core, row), sender, tag)
    except VaultError:
        if named is not None:
            raise
        standing = None
    return None if named is None or standing is None else (named, standing)


def _standing(core: Core, profile: ClientProfile, sender: str, tag: str) -> Standing | None:
    """What the envelope of mail from `sender` proves, and whether it is refused if nothing does.

    None: it is not taken at all.
    """
    proof = senders.shown(profile, sender, tag, core.config.senders.proof)
    refuse = (profile.unproven or core.config.senders.unproven) == "refuse"
    return None if proof is None or (refuse and proof is Proof.FAILED) else (proof, refuse)


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


async def begin(intake: Intake, known: Acquaintance, request: BeginMail) -> Upload:
    """Begin a message for a client (raises Refusal)."""
    return _begin(intake, known, request, await _admit(intake, known.client_id))


def begin_now(intake: Intake, known: Acquaintance, request: BeginMail) -> Upload | None:
    """`begin` where nothing has to be read for it; None: it has to be waited for (raises Refusal)."""
    allowance = _allowance_at_hand(intake, known.client_id)
    return None if allowance is None else _begin(intake, known, request, allowance)


def _begin(
    intake: Intake, known: Acquaintance, request: BeginMail, allowance: quotas.Allowance
) -> Upload:
    peer, helo = request.peer[:64], request.helo[:255]
    return receive.begin(
        intake,
        intake.core.now(),
        client_id=known.client_id,
        channel="smtp",
        name=MESSAGE_NAME,
        sender=request.sender,
        mail=Mail(
            proof=known.proof,
            recipients=tuple(request.recipients),
            peer=peer,
            helo=helo,
            refuse=known.refuse,
        ),
        room=allowance.room,
        too_large=allowance.sentence,
        facts={
            "envelope_recipients": " ".join(request.recipients)[:2000],
            "peer": peer,
            "helo": helo,
        },
    )
