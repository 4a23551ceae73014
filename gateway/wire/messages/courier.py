"""What the courier may ask, and what it reports.

Promises: transfers to and from places, claimed one at a time, and how each ended; a finished message for the
relay or for a webhook is one of them.
Leaves out: how a place is spoken to (`gateway.courier.places`), and a relay or a webhook (`gateway.courier`).
"""

from __future__ import annotations

from typing import Literal

from gateway.wire.messages.common import Message


class ClaimTransfer(Message, frozen=True):
    """Asks for something to transfer; answered like `Claim`."""


TransferVerb = Literal["put", "get", "probe", "names", "remove", "send"]


class Transfer(Message, frozen=True):
    """Something to do at a backup target, a place of the ledger (`ledger:<name>`) or of keyring copies
    (`keyring:<name>`), or with a finished message for the `relay` or a `webhook:<name>`.

    What is transferred is sealed, or signed and meant to be read, or a message that says nothing of a
    document's content; but for `remove`, one descriptor travels beside the message.

    `put` keeps what the descriptor holds under `name`. `get` writes what is kept into it; `probe` reads all
    of that, but writes only its first and last 64 KiB, each at its own place in a file of the whole size.
    `names` writes a line `size name` for each name below the folder `name`. `remove` takes it away. `send`
    hands over what the descriptor holds (a `Letter`, or a webhook's body), of which `name` is the id: the
    same at every attempt.
    """

    transfer_id: int
    target: str
    verb: TransferVerb
    name: str


class Letter(Message, frozen=True):
    """A finished mail (RFC 5322, ASCII, lines ending in CRLF) and its envelope, encoded in a descriptor's
    file."""

    sender: str
    recipient: str
    content: bytes


class TransferReport(Message, frozen=True):
    """How a transfer ended: `size` (bytes) and `sha256` of what was put, fetched or probed.

    Of what was sent, `refused`: for good, whoever asks again; `deferred`: for now, and for this one only.
    Asks for the next one, too.
    """

    transfer_id: int
    outcome: Literal["done", "missing", "failed", "refused", "deferred"]
    size: int = 0
    sha256: bytes = b""
    detail: str = ""


CourierRequest = ClaimTransfer | TransferReport

CourierReply = Transfer
