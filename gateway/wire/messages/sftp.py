"""What the SFTP door may ask, and what it is answered.

Promises: the host key's signatures; the login; the virtual tree, one file or folder at a time.
Leaves out: SSH and SFTP themselves (`gateway.doors.sftp`), and what a path may be (`gateway.core.views`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from gateway.wire.messages.common import Abandon, Commit, Message, PathBytes

MAX_TRANSCRIPT: Final = 64 * 1024  # of a key exchange: two lists of algorithms and some keys


class Greet(Message, frozen=True):
    """First message of a connection. `peer` is the remote address as text, for penalties and records."""

    peer: str


class HostKey(Struct, frozen=True):
    """A public host key: SSH algorithm name (RFC 4253) and key blob."""

    algorithm: str
    blob: bytes


class Greeting(Message, frozen=True):
    """The public host keys in use, and how long a login may take, in seconds.

    `announced`: all keys a client should know after its login, those of the next change included
    (OpenSSH's PROTOCOL, section 2.5). `cookie`: what the door's first KEXINIT has as its cookie.
    """

    host_keys: list[HostKey]
    login_grace: float
    cookie: bytes
    announced: list[HostKey] = field(default_factory=list)


class SignExchange(Message, frozen=True):
    """Asks for the host key's signature over an exchange (RFC 4253, section 8): all that is hashed of it.

    The first hash of a connection is its session identifier; the core remembers it and verifies user
    signatures over it.
    """

    transcript: Annotated[bytes, Meta(max_length=MAX_TRANSCRIPT)]
    algorithm: str


class ExchangeSignature(Message, frozen=True):
    """A signature blob in SSH encoding."""

    signature: bytes


class ProveHostKeys(Message, frozen=True):
    """Asks for proof of possession of announced host keys, by their blobs, after the login.

    The core itself makes the text that is signed (OpenSSH's PROTOCOL, section 2.5).
    """

    blobs: Annotated[list[bytes], Meta(max_length=8)]


class HostKeyProofs(Message, frozen=True):
    """A signature blob in SSH encoding for each key asked for, in the same order."""

    signatures: list[bytes]


PRINTABLE: Final = r"^[ -~]*\Z"


class Mismatch(Struct, frozen=True):
    """What a program lacks to connect: the list of algorithms with nothing in common, as it offered them."""

    program: Annotated[str, Meta(max_length=255, pattern=PRINTABLE)]
    lacking: Literal["key exchange", "host key", "cipher", "MAC", "compression"]
    offered: Annotated[str, Meta(max_length=1000, pattern=PRINTABLE)]


class Farewell(Message, frozen=True):
    """A connection ended before its login: out of time, by nonsense, or just so.

    `mismatch`: the nonsense was only that no algorithm was common.
    """

    reason: Literal["grace", "nonsense", "silent"]
    mismatch: Mismatch | None = None


class AuthenticateKey(Message, frozen=True):
    """A public key offered (`signature` None) or proven (RFC 4252, section 7)."""

    user: str
    algorithm: str
    key: bytes
    signature: bytes | None = None


class AuthenticatePassword(Message, frozen=True):
    """A password (RFC 4252, section 8)."""

    user: str
    password: str


class AuthenticateCode(Message, frozen=True):
    """A one-time code given by keyboard-interactive (RFC 4256, RFC 6238)."""

    user: str
    code: str


class AuthenticationResult(Message, frozen=True):
    """What an attempt gave.

    `acceptable`: an unsigned probe of a key that would do. `partial`: this factor is right, `methods`
    are still wanted. `failed`: the same for an unknown user and for a wrong secret.
    """

    outcome: Literal["granted", "partial", "acceptable", "failed"]
    methods: list[str] = field(default_factory=list)
    role: str = ""


class Entry(Struct, frozen=True):
    """One name in a folder. `modified` is in whole seconds since 1970; `mode` a POSIX mode."""

    name: str
    folder: bool
    size: int
    modified: int
    mode: int


class Stat(Message, frozen=True):
    """Asks for the attributes of a path.

    With `ahead`, where there is nothing of the name and a client may hand it in, the answer is a document
    begun under it (`Writable`), so that opening it next costs no message: a fresh one for "", else the one of
    that id, which was given before and not written to; then no descriptor travels with it.
    """

    path: str
    ahead: str | None = None


class Attributes(Message, frozen=True):
    """Attributes of one path."""

    entry: Entry


class List(Message, frozen=True):
    """Asks for a page of a folder. `cursor` is what the previous page returned, "" for the first."""

    path: str
    cursor: str = ""


class Page(Message, frozen=True):
    """A page of a folder; `cursor` "" says that it was the last."""

    entries: list[Entry]
    cursor: str


class OpenRead(Message, frozen=True):
    """Asks to read a path. Checked and recorded in the ledger before the reply leaves."""

    path: str


class BeginUpload(Message, frozen=True):
    """Begins a document at a path. `resume`: continue an interrupted one of the same name.

    `size`: its plaintext bytes, where the client told them beforehand. `path_bytes`: the path as it was sent,
    where that was not UTF-8.
    """

    path: str
    resume: bool = False
    size: int | None = None
    path_bytes: PathBytes = b""


class Predecessor(Message, frozen=True):
    """Asks for the file that an upload continues, to be sealed anew; answered with `Readable`."""

    document_id: str


class Keep(Message, frozen=True):
    """Asks that what is written of an open upload survive a crash; answered with `Kept`."""

    document_id: str


class Kept(Message, frozen=True):
    """`size` plaintext bytes are durable, and no document yet: they wait for the rest, or a rename."""

    size: int


class Space(Message, frozen=True):
    """Asks how much room the store's file system has."""


class Room(Message, frozen=True):
    """Room in bytes and in files. `free` is what may still be taken in, above the configured floor."""

    total: int
    free: int
    files: int
    files_free: int


class MakeFolder(Message, frozen=True):
    """Creates a folder in the inbox."""

    path: str


class Rename(Message, frozen=True):
    """Moves a file. From `/review/` into a class folder, by an accountant: classifies it.

    `path_bytes`: the new path as it was sent, where that was not UTF-8.
    """

    old: str
    new: str
    path_bytes: PathBytes = b""


class Remove(Message, frozen=True):
    """Asks to remove a file or folder (only an empty folder of the inbox can be)."""

    path: str
    folder: bool = False


SftpRequest = (
    Greet
    | SignExchange
    | ProveHostKeys
    | Farewell
    | AuthenticateKey
    | AuthenticatePassword
    | AuthenticateCode
    | Stat
    | List
    | OpenRead
    | BeginUpload
    | Predecessor
    | Keep
    | Space
    | Commit
    | Abandon
    | MakeFolder
    | Rename
    | Remove
)

SftpReply = (
    Greeting
    | ExchangeSignature
    | HostKeyProofs
    | AuthenticationResult
    | Attributes
    | Page
    | Kept
    | Room
)
