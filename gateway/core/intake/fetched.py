"""Mail fetched from mailboxes: whose it is, which is new, and how each mailbox does.

Promises: a message of a mailbox is decided about once: its number is written down in the transaction that
stores it, or with the reason why nobody takes it. So it is fetched once, however often a fetcher dies and
begins anew; and where a mailbox gives all its messages new numbers (UIDVALIDITY), those that are stored are
known by what they say (`resends`). Numbers belong to a user's folder at a host: a section that is pointed at
another one takes none of its messages for those of the old one, though many servers begin with the same
UIDVALIDITY.

Leaves out: IMAP (`gateway.doors.mailbox`), what proves a sender (`senders`, `inspection.proving`).

Whose a message is: its mailbox's client; or that of the first of its addresses that the mailbox's section
names, or that is an intake address here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select

from gateway.config.sections import MailboxSection
from gateway.core.core import Core
from gateway.core.intake import quotas, receive, recipients, senders
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Fetched, Mail, Upload
from gateway.errors import Refusal
from gateway.wire.messages import BeginFetched, MailboxReport, NewMessages, WhichAreNew
from vault.catalogue.schema import clients, mailbox_messages
from vault.catalogue.states import ClientState, Proof
from vault.moments import stamp

NOT_OURS: Final = "no-client"
NOT_KNOWN: Final = "unknown-sender"


@dataclass(frozen=True)
class MailboxState:
    """How a mailbox did when it was last heard of."""

    fault: str
    since: datetime  # that it is so
    heard: datetime


def key_of(section: MailboxSection) -> str:
    """What the numbers of a mailbox are kept under: its name, and a digest of what it is pointed at."""
    place = f"{section.name}\0{section.host}\0{section.user}\0{section.folder}"
    return f"{section.name[:31]}-{hashlib.sha256(place.encode()).hexdigest()[:32]}"


def section_of(core: Core, name: str) -> MailboxSection:
    """The section of a mailbox (raises Refusal: the core's configuration has none of that name)."""
    for section in core.config.mailbox:
        if section.name == name:
            return section
    raise Refusal("not_found", f"mailbox {name}: expected one of the configuration, found none")


async def which_are_new(intake: Intake, request: WhichAreNew) -> NewMessages:
    """Which messages are to be decided about, and which are stored (raises Refusal).

    One that nobody took is decided about anew once a client has changed: perhaps its sender is known now.
    """
    core = intake.core
    mailbox = key_of(section_of(core, request.mailbox))
    version = core.store.catalogue.version(clients)
    table = mailbox_messages

    def look(connection: Connection) -> dict[int, str | None]:
        rows = connection.execute(
            select(table.c.uid, table.c.document_id).where(
                table.c.mailbox == mailbox,
                table.c.uidvalidity == request.uidvalidity,
                table.c.uid.in_(request.uids),
            )
        )
        return {row.uid: row.document_id for row in rows}

    known = await core.read(look)
    declined = intake.declined.get(mailbox)
    if declined is None or declined[:2] != (request.uidvalidity, version):
        declined = request.uidvalidity, version, set()

    def is_new(uid: int) -> bool:
        return uid not in known or (known[uid] is None and uid not in declined[2])

    return NewMessages(
        new=[uid for uid in request.uids if is_new(uid)],
        stored=[uid for uid, document in known.items() if document is not None],
    )


async def begin(intake: Intake, request: BeginFetched) -> Upload:
    """Begin a message of a mailbox.

    Raises:
        Refusal: it is no client's, or from nobody the client knows, and that is written down; or there is no
            room, and it stays new.
    """
    core = intake.core
    section = section_of(core, request.mailbox)
    fetched = Fetched(key_of(section), request.uidvalidity, request.uid)
    version = core.store.catalogue.version(clients)
    row, tag = await _client_of(core, section, request.addresses)
    if row is None:
        await _decline(intake, fetched, version, NOT_OURS)
        raise Refusal("not_found", "message: expected an address of a client, found none")
    profile = recipients.open_profile(core, row)
    proof = senders.shown(profile, request.sender, tag, core.config.senders.proof)
    if proof is None and section.senders == "anyone":
        proof = (
            Proof.WAITING
        )  # its From has to be looked at: it may name one that has something to show
    if proof is None:
        await _decline(intake, fetched, version, NOT_KNOWN)
        raise Refusal("denied", "message: expected a sender that its client knows, found another")
    allowance = await quotas.admit(intake, row.id)
    return receive.begin(
        intake,
        core.now(),
        client_id=row.id,
        channel="imap",
        name=recipients.MESSAGE_NAME,
        sender=request.sender,
        mail=Mail(
            proof=proof,
            recipients=(request.mailbox,),
            upstream=section.authserv_id,
            fetched=fetched,
        ),
        room=allowance.room,
        too_large=allowance.sentence,
        facts={
            "mailbox": request.mailbox,
            "envelope_recipients": " ".join(request.addresses)[:2000],
            **({"upstream": section.authserv_id} if section.authserv_id else {}),
        },
    )


def report(intake: Intake, request: MailboxReport) -> None:
    """Remember how a mailbox does (raises Refusal)."""
    core = intake.core
    section_of(core, request.mailbox)
    now = core.now()
    before = intake.mailboxes.get(request.mailbox)
    same = before is not None and before.fault == request.fault
    since = before.since if before is not None and same else now
    intake.mailboxes[request.mailbox] = MailboxState(request.fault, since, now)


def standing(intake: Intake, connection: Connection) -> list[dict[str, Any]]:
    """The mailboxes of the configuration: how each does, and how much of it nobody took."""
    found = []
    for section in intake.core.config.mailbox:
        state = intake.mailboxes.get(section.name)
        declined = connection.execute(
            select(func.count()).where(
                mailbox_messages.c.mailbox == key_of(section),
                mailbox_messages.c.document_id.is_(None),
            )
        ).scalar_one()
        found.append(
            {
                "name": section.name,
                "fault": state.fault if state else None,
                "since": stamp(state.since) if state else None,
                "heard": stamp(state.heard) if state else None,
                "not_taken": declined,
            }
        )
    return found


async def _client_of(
    core: Core, section: MailboxSection, addresses: Sequence[str]
) -> tuple[Any, str]:
    """The row of the open client that a message is for, and the tag of its address; None: there is none."""
    wanted: list[tuple[str, str]] = [(section.client, "")] if section.client else []
    mapped = {address.lower(): slug for address, slug in section.addresses.items()}
    domain = core.config.smtp.domain.lower()
    for address in () if section.client else addresses:
        if address in mapped:
            wanted.append((mapped[address], ""))
        elif (parsed := recipients.parse_recipient(address)) and parsed[2] == domain:
            wanted.append(parsed[:2])

    def look(connection: Connection) -> tuple[Any, str]:
        for slug, tag in wanted:
            row = connection.execute(
                select(clients).where(clients.c.slug == slug, clients.c.state == ClientState.OPEN)
            ).one_or_none()
            if row is not None:
                return row, tag
        return None, ""

    return await core.read(look)


async def _decline(intake: Intake, fetched: Fetched, version: int, reason: str) -> None:
    core, now = intake.core, intake.core.now()
    table = mailbox_messages
    noted = (
        select(table.c.reason)
        .where(table.c.mailbox == fetched.mailbox)
        .where(table.c.uidvalidity == fetched.uidvalidity, table.c.uid == fetched.uid)
    )
    # After a start, or once a client has changed, most are declined as before: that is not written again.
    if await core.read(lambda connection: connection.execute(noted).scalar()) != reason:
        await core.write(lambda tx: receive.note_fetched(tx, fetched, None, now, reason))
    declined = intake.declined.get(fetched.mailbox)
    if declined is None or declined[:2] != (fetched.uidvalidity, version):
        declined = intake.declined[fetched.mailbox] = (fetched.uidvalidity, version, set())
    declined[2].add(fetched.uid)
