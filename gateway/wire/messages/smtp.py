"""What the mail door may ask, and what it is answered.

Promises: whether a recipient is taken; a message begun for recipients that were; a login for those who hand
in mail themselves.
Leaves out: SMTP itself (`gateway.doors.smtp`).
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from gateway.wire.messages.common import Abandon, Message

MESSAGE_ID: Final = 998
"""Octets that a Message-ID may have: those of a line (RFC 5322, section 2.1.1)."""
CREDENTIAL: Final = 1024
"""Characters that a name or a password may have."""


class MailRecipient(Message, frozen=True):
    """Asks whether mail from `sender` (envelope) may go to `recipient` (envelope).

    `size`: bytes the sender announced (RFC 1870), 0 for none; `helo`: the name that the peer gave itself
    with HELO or EHLO, at most 255 octets.
    """

    peer: str
    sender: str
    recipient: str
    size: int = 0
    helo: str = ""


class RecipientAnswer(Message, frozen=True):
    """SMTP reply for a recipient. `client` identifies whose intake it is (empty if refused)."""

    code: int
    text: str
    client: str = ""


class BeginMail(Message, frozen=True):
    """Begins a message for a recipient accepted before on this connection."""

    peer: str
    sender: str
    recipients: list[str]
    helo: str = ""


class AuthenticateSubmission(Message, frozen=True):
    """Logs the connection in for handing in mail, once: from then on all mail on it is that account's.

    Args:
        password: the account's, or one of its app passwords.
    """

    peer: str
    user: Annotated[str, Meta(max_length=CREDENTIAL)]
    password: Annotated[str, Meta(max_length=CREDENTIAL)]


class SubmissionLogin(Message, frozen=True):
    """Whether it is logged in; the same for an unknown account and for a wrong password."""

    granted: bool


class CommitMail(Message, frozen=True):
    """All bytes are sealed and written. `size` and `sha256` are those of the plaintext.

    `message_id` as it stands in the header, "" for none; `content`: SHA-256 of the message without the
    fields that each hop adds.
    """

    document_id: str
    size: int
    sha256: bytes
    content: bytes
    message_id: Annotated[str, Meta(max_length=MESSAGE_ID)] = ""


class MailStored(Message, frozen=True):
    """The message is durable, as `document_id`; `again`: it was before, and nothing of this copy is kept."""

    document_id: str
    again: bool = False


SmtpRequest = MailRecipient | AuthenticateSubmission | BeginMail | CommitMail | Abandon
SmtpReply = RecipientAnswer | SubmissionLogin | MailStored
