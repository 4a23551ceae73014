"""What the mail door may ask, and what it is answered.

Promises: whether a recipient is taken; a message begun for recipients that were.
Leaves out: SMTP itself (`gateway.doors.smtp`).
"""

from __future__ import annotations

from gateway.wire.messages.common import Abandon, Commit, Message


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


SmtpRequest = MailRecipient | BeginMail | Commit | Abandon
