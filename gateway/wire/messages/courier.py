"""What the courier may ask, and what it reports.

Promises: transfers to and from places, claimed one at a time, and how each ended.
Leaves out: how a place is spoken to (`gateway.courier.places`).
"""

from __future__ import annotations

from typing import Literal

from gateway.wire.messages.common import Message


class ClaimTransfer(Message, frozen=True):
    """Asks for something to transfer; answered like `Claim`."""


TransferVerb = Literal["put", "get", "probe", "names", "remove"]


class Transfer(Message, frozen=True):
    """Something to do at a backup target, a place of the ledger (`ledger:<name>`) or of keyring copies
    (`keyring:<name>`).

    What is transferred is sealed, or signed and meant to be read; but for `remove`, one descriptor travels
    beside the message.

    `put` keeps what the descriptor holds under `name`. `get` writes what is kept into it; `probe` reads all
    of that, but writes only its first and last 64 KiB, each at its own place in a file of the whole size.
    `names` writes a line `size name` for each name below the folder `name`. `remove` takes it away.
    """

    transfer_id: int
    target: str
    verb: TransferVerb
    name: str


class TransferReport(Message, frozen=True):
    """How a transfer ended: `size` (bytes) and `sha256` of what was put, fetched or probed.

    Asks for the next one, too.
    """

    transfer_id: int
    outcome: Literal["done", "missing", "failed"]
    size: int = 0
    sha256: bytes = b""
    detail: str = ""


CourierRequest = ClaimTransfer | TransferReport

CourierReply = Transfer
