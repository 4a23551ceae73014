"""What every socket knows, and what more than one of them uses.

Promises: the base of every message; the replies to any request; a document begun, committed or abandoned.
Leaves out: what only one kind of process asks (the modules beside this one).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

RefusalCode = Literal[
    "not_found",
    "denied",
    "exists",
    "full",
    "quota",
    "unsupported",
    "busy",
    "invalid",
    "failed",
    "locked",
    "unproven",
]

SHA256_SIZE: Final = 32
PATH_BYTES: Final = 4096
PathBytes = Annotated[bytes, Meta(max_length=PATH_BYTES)]


class Message(Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of every message: immutable, tagged with its class name, unknown fields refused."""


class Done(Message, frozen=True):
    """The request was carried out; what it promised is durable. `said`: a sentence for a person, or ""."""

    said: str = ""


class Refused(Message, frozen=True):
    """The request was not carried out. `message` is one sentence for a person."""

    code: RefusalCode
    message: str


class Writable(Message, frozen=True):
    """A document was begun. Beside it travels one descriptor, read-write, of its empty sealed file.

    With `resumed_size` > 0 the descriptor holds that many plaintext bytes of an interrupted upload
    already (a multiple of 16 KiB), sealed under the same key. With `continues` the document begins
    with that many bytes of a finished file under a temporary name (see `Predecessor`). With `replaces`
    a whole document of that size has the name, and was not asked to be truncated. With `room` it may have
    that many plaintext bytes in all, and `too_large` is the sentence for whoever sends more. `floor` is the
    free space in bytes that must stay on its file system while it is written (`gateway.process.free_space`).
    """

    document_id: str
    key: bytes
    resumed_size: int = 0
    continues: int | None = None
    replaces: int | None = None
    room: int | None = None
    too_large: str = ""
    floor: int = 0


class Readable(Message, frozen=True):
    """A file may be read. Beside it travels one read-only descriptor.

    `key` and `document_id` are set for a sealed document; without them the descriptor is a memory
    file with plain bytes that are no document (a register, a receipt, a checkpoint).
    """

    size: int
    key: bytes | None = None
    document_id: str | None = None


class Commit(Message, frozen=True):
    """All bytes are sealed and written. `size` and `sha256` are those of the plaintext."""

    document_id: str
    size: int
    sha256: bytes


class Abandon(Message, frozen=True):
    """The document will not be completed. `keep`: whole chunks stay for a resume (PARTIAL)."""

    document_id: str
    keep: bool = False


class NoWork(Message, frozen=True):
    """Nothing to inspect now: ask again."""


CommonReply = Done | Refused | Writable | Readable | NoWork
