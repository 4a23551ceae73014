"""A document on its way in: what is known of it before it is durable.

Promises: closing an upload gives back its descriptor and whatever claims it holds, once. Leaves out: making
it durable (`receive`), and who may send it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from vault.catalogue.states import Proof

Channel = Literal["sftp", "smtp", "imap", "part"]
MAIL: Final[frozenset[Channel]] = frozenset({"smtp", "imap"})
"""The channels over which a document is a message."""


@dataclass(frozen=True)
class Fetched:
    """A message's number in the mailbox it was fetched from (RFC 3501, section 2.3.1.1).

    `mailbox`: as `fetched.key_of` has it.
    """

    mailbox: str
    uidvalidity: int
    uid: int


@dataclass(frozen=True)
class Mail:
    """What is known of a message besides its bytes.

    Args:
        message_id: as it stands in its header, "" for none.
        content: SHA-256 of what it says, without the fields that each hop adds; empty for unknown.
        recipients: the addresses of its envelope.
        peer, helo: the address of the host that sent it, and the name that it gave itself.
        upstream: the name under which the judgement of the mailbox's host is believed, or "".
        fetched: where it was fetched from, if it was.
        refuse: it is refused if it proves nothing, not kept apart.
    """

    message_id: str = ""
    proof: Proof = Proof.NONE
    content: bytes = b""
    recipients: tuple[str, ...] = ()
    peer: str = ""
    helo: str = ""
    refuse: bool = False
    upstream: str = ""
    fetched: Fetched | None = None


@dataclass
class Upload:
    """A document that has been begun and is not yet durable. `descriptor` is the core's own."""

    document_id: str
    client_id: str
    key: bytes
    descriptor: int
    channel: Channel
    name: str
    path: str = ""
    folder_id: str | None = None
    submitter: str | None = None
    sender: str = ""
    parent_id: str | None = None
    depth: int = 0
    lane: int | None = None  # of what it came out of
    resumed: bool = False
    resumed_size: int = 0
    replaces: int | None = None  # size of the whole document that has the name, if it stays
    predecessor: Any = None  # row of the temporary file whose bytes it begins with
    release: Callable[[], None] = lambda: None  # ends the claim on a partial
    room: int | None = None  # plaintext bytes it may have, and what is said of more
    too_large: str = ""
    ahead: bool = False  # given before it was asked for: perhaps nobody writes it
    staged: bool = False  # the sealed file has its place in the store
    mail: Mail | None = None  # it is a message
    stored_as: str = ""  # it was sent before, as this document, and nothing of it is kept
    said: str = ""  # what the one who sent it is told besides that it is durable
    facts: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self.release()
