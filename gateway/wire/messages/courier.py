"""What the courier may ask, and what it reports.

Promises: sealed files to carry, claimed one at a time, and how each ended.
Leaves out: how a place is spoken to (`gateway.courier.places`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.wire.messages.common import Message


class ClaimErrand(Message, frozen=True):
    """Asks for something sealed to carry elsewhere; answered like `Claim`."""


class Errand(Message, frozen=True):
    """A keyring file to carry: `content` is sealed already. `target` is a place of the configuration.

    `content` None asks for the removal of `owner`'s file at the target. `store` is the store's id, for the
    marker at the place; `known` says that something was delivered there before, so that the marker must be
    there: a place without it is not the place it was (an empty mount point, a wiped bucket).
    """

    errand_id: int
    target: str
    owner: str
    content: bytes | None
    store: str
    known: bool


class ErrandReport(Message, frozen=True):
    """How an errand ended. `detail` is one sentence when it failed.

    When it did not, `epoch` and `sha256` are those of the file that was read back at the place; epoch 0
    and no digest say that the file was removed and found absent.
    """

    errand_id: int
    delivered: bool
    detail: str = ""
    epoch: Annotated[int, Meta(ge=0)] = 0
    sha256: bytes = b""


class ClaimTransfer(Message, frozen=True):
    """Asks for something to transfer; answered like `Claim`."""


TransferVerb = Literal["put", "get", "probe", "names", "remove"]


class Transfer(Message, frozen=True):
    """Something to do at a backup target or a place of the ledger (`ledger:<name>`).

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
    """How a transfer ended: `size` (bytes) and `sha256` of what was put, fetched or probed."""

    transfer_id: int
    outcome: Literal["done", "missing", "failed"]
    size: int = 0
    sha256: bytes = b""
    detail: str = ""


CourierRequest = ClaimErrand | ErrandReport | ClaimTransfer | TransferReport

CourierReply = Errand | Transfer
