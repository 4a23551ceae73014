"""A message that is sent again, because its sender never heard that it was stored, is one document.

Promises: a mail server that lost the answer and sends the message again hears that it is stored, and as which
document; nothing is kept twice. A message is never taken for another one that it might not be. Decision and
row are one transaction: of two copies that arrive at once one is stored, and the other one hears of it.

Leaves out: what a message says without its trace fields (the door digests that while it arrives,
`gateway.doors.header`), and the same bytes in documents that are no resend (`receive._same_bytes`).

The rule. A message repeats an earlier one if all of this holds:
1. They say the same: every header field and the whole body, byte for byte, but for fields that each hop adds
   (Received and its like). So they have the same Message-ID, too, or both have none.
2. The same envelope sender sends it to the same recipients, by the same account if any.
3. The earlier one was received within `smtp.resend_hours`, and is there.
4. What proves the earlier one's origin is not less: one that failed its proof, or proved nothing, stands for
   none that the sender has logged in for.
5. If it is not known yet what proves the earlier one, the two are the same bytes from the same host: a copy
   without the signature, or from another host, may prove less, and would take the true one's place.
6. What was fetched from a mailbox, the same bytes, is the same message whatever it proved: a mailbox that
   gives its messages new numbers sends nothing again.

Why not the Message-ID alone: it is the sender's to choose. Broken programs use one twice, and whoever knows
one could make the gateway swallow the message that it belongs to by sending another one first. So one that
has only the id in common is stored; `same_id_as` names the first one with it, for people (`document show`).
Its sender is not told: knowing an id proves nobody's identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, bindparam, select

from gateway.core.core import Core
from gateway.core.intake.upload import Mail, Upload
from vault.catalogue.prepared import Prepared
from vault.catalogue.schema import documents, messages
from vault.catalogue.states import PROVEN, STORED, UNDECIDED, Proof
from vault.catalogue.store import Transaction
from vault.errors import KeyUnavailable, VaultError
from vault.moments import stamp


@dataclass(frozen=True)
class Indexes:
    """A message's columns of `messages` that depend on a key, and what is known by them."""

    message_id: bytes | None
    content: bytes | None
    same_id_as: str | None = None


_SAME_CONTENT: Final = Prepared(
    select(documents, messages.c.proof)
    .select_from(messages.join(documents, documents.c.id == messages.c.document_id))
    .where(
        messages.c.client_id == bindparam("client"),
        messages.c.content_index == bindparam("content"),
        documents.c.received_at >= bindparam("since"),
        documents.c.state.in_(STORED),
    )
    # An expression, so that the few of this content are found and sorted, whatever index has ids in order.
    .order_by(documents.c.id.concat(""))
)
_SAME_ID: Final = Prepared(
    select(documents.c.id)
    .select_from(messages.join(documents, documents.c.id == messages.c.document_id))
    .where(
        messages.c.client_id == bindparam("client"),
        messages.c.message_id_index == bindparam("message"),
        documents.c.state.in_(STORED),
    )
    .order_by(documents.c.id.concat(""))
    .limit(1)
)


def stands_for(earlier: Proof, mail: Proof) -> bool:
    """Whether a stored message with that proof may stand for one that comes with `mail` (rule 4)."""
    if earlier == Proof.FAILED:
        return False
    return earlier in PROVEN or mail not in PROVEN


def first(
    core: Core, tx: Transaction, upload: Upload, content: bytes | None, sha256: bytes, now: datetime
) -> str | None:
    """The document that an upload repeats, inside its transaction; None: it is stored.

    Args:
        content: its `content_index`.
    """
    hours = core.config.smtp.resend_hours
    if upload.mail is None or content is None or not (hours or upload.mail.fetched):
        return None
    since = stamp(core.received_time(now) - timedelta(hours=hours))
    if upload.mail.fetched is not None:
        since = ""  # a mailbox may offer all it has ever had anew, under other numbers
    wanted = {"client": upload.client_id, "content": content, "since": since}
    for row in _SAME_CONTENT.all(tx.connection, wanted):
        earlier = Proof(row.proof)
        undecided = earlier in UNDECIDED and upload.mail.proof not in PROVEN
        if undecided and (upload.mail.fetched or earlier != Proof.FAILED):
            taken = _same_bytes_and_host(core, row, upload.mail, sha256)
        else:
            taken = stands_for(earlier, upload.mail.proof)
        if taken:
            return str(row.id)
    return None


def _same_bytes_and_host(core: Core, row: Row[Any], mail: Mail, sha256: bytes) -> bool:
    """Whether an earlier message will prove what this one would (rules 5 and 6)."""
    try:
        metadata = core.store.custody.open_metadata(row)
    except VaultError:
        return False  # a damaged row stands for nothing: both are kept
    return metadata.sha256 == sha256 and metadata.facts.get("peer", "") == mail.peer


def indexes(
    core: Core, tx: Transaction, upload: Upload, mail: Mail, content: bytes | None
) -> Indexes:
    """What is written of a message that is stored, so that the next one is known by it."""
    message = core.store.custody.message_index(upload.client_id, mail.message_id)
    same = None
    if message is not None:
        wanted = {"client": upload.client_id, "message": message}
        same = _SAME_ID.scalar(tx.connection, wanted)
    return Indexes(message, content, same)


def content_index(core: Core, upload: Upload) -> bytes | None:
    """The blind index of what a message says, and who sends it to whom; None for what is no such message."""
    mail = upload.mail
    if mail is None or not mail.content:
        return None
    try:
        return core.store.custody.content_index(
            upload.client_id,
            mail.content,
            upload.sender.lower(),
            " ".join(sorted(address.lower() for address in mail.recipients)),
            upload.submitter or "",
        )
    except KeyUnavailable:
        return None  # of a client that has ended: it is refused with the words for that
