"""What the process that fetches mail from mailboxes may ask, and what it is answered.

Promises: which messages of a mailbox are new; one begun and committed like any other; how a mailbox does.
Leaves out: IMAP (`gateway.doors.mailbox`), and whose a message is (`gateway.core.intake.fetched`).
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from gateway.wire.messages.common import Abandon, Message
from gateway.wire.messages.smtp import CommitMail

PAGE: Final = 1000  # messages that are asked about at once
ADDRESSES: Final = 100
_Number = Annotated[int, Meta(ge=0, le=2**32 - 1)]  # RFC 3501, section 9: nz-number
_Address = Annotated[str, Meta(max_length=512)]


class WhichAreNew(Message, frozen=True):
    """Asks which messages of a mailbox nobody has decided about (RFC 3501, section 2.3.1.1: UID,
    UIDVALIDITY)."""

    mailbox: str
    uidvalidity: _Number
    uids: Annotated[list[_Number], Meta(max_length=PAGE)]


class NewMessages(Message, frozen=True):
    """Those of the messages asked about that are new, and those that are stored."""

    new: list[int]
    stored: list[int]


class BeginFetched(Message, frozen=True):
    """Begins a message of a mailbox; refused where it is no client's, and then it is not new any more.

    `sender` is the envelope's (Return-Path), or From where there is none; `addresses` whom it says to be
    sent to, the surest first.
    """

    mailbox: str
    uidvalidity: _Number
    uid: _Number
    sender: _Address
    addresses: Annotated[list[_Address], Meta(max_length=ADDRESSES)]


class MailboxReport(Message, frozen=True):
    """How a mailbox does: `fault` is "" where it was looked into, else why it could not be."""

    mailbox: str
    fault: Annotated[str, Meta(max_length=300)] = ""


MailboxRequest = WhichAreNew | BeginFetched | CommitMail | Abandon | MailboxReport
