"""What the processes may say to each other.

Every message is a tagged `msgspec` struct. A connection carries requests one way and exactly one reply
to each the other way, in order. Which socket a connection came in by decides which union its requests
are decoded with (`REQUESTS`), so a door cannot even express what it has no right to ask.

Descriptors travel beside a message (SCM_RIGHTS), never in it: the docstring of a reply says which.
Paths are those of the virtual tree that people see; they never reach a file system.
Times are ISO 8601 strings with offset, digests are raw bytes, sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

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
]

SHA256_SIZE: Final = 32
MAX_TRANSCRIPT: Final = 64 * 1024  # of a key exchange: two lists of algorithms and some keys


class Message(Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of every message: immutable, tagged with its class name, unknown fields refused."""


# ── replies that every socket knows ──────────────────────────────────────────────────────────────


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


# ── documents: the sftp door, the mail door and the inspectors ───────────────────────────────────


class Commit(Message, frozen=True):
    """All bytes are sealed and written. `size` and `sha256` are those of the plaintext."""

    document_id: str
    size: int
    sha256: bytes


class Abandon(Message, frozen=True):
    """The document will not be completed. `keep`: whole chunks stay for a resume (PARTIAL)."""

    document_id: str
    keep: bool = False


# ── the sftp door ────────────────────────────────────────────────────────────────────────────────


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
    """Asks for the attributes of a path."""

    path: str


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


PATH_BYTES: Final = 4096
PathBytes = Annotated[bytes, Meta(max_length=PATH_BYTES)]


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


# ── the mail door ────────────────────────────────────────────────────────────────────────────────


class MailRecipient(Message, frozen=True):
    """Asks whether mail from `sender` (envelope) may go to `recipient` (envelope).

    `size`: bytes the sender announced (RFC 1870), 0 for none.
    """

    peer: str
    sender: str
    recipient: str
    size: int = 0


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


# ── the inspectors ───────────────────────────────────────────────────────────────────────────────


class Claim(Message, frozen=True):
    """Asks for a document to inspect; answered when there is one, or with `NoWork` after a while."""


class NoWork(Message, frozen=True):
    """Nothing to inspect now: ask again."""


class Work(Message, frozen=True):
    """A document to inspect. Beside it travels one read-only descriptor of its sealed file.

    `mode` "fixity": only read everything and report size and digest. `depth` is 0 for what was
    received, one more for each container it came out of. `clamd` is the scanner's address
    (`unix:/path` or `tcp:host:port`) or "" for none. `thorough`: it may take all the processor time there is;
    else only as much as ordinary documents take, so that nobody waits behind one that is not.
    """

    mode: Literal["inspect", "fixity"]
    document_id: str
    key: bytes
    size: int
    name: str
    channel: Literal["sftp", "smtp", "part"]
    depth: int
    attempt: int
    clamd: str
    thorough: bool = True


# Bounds of what an inspector may say of a document, so that one that was taken over says no more.
PART_NAME: Final = 4096  # characters; `safe_name` makes 255 bytes of it
FACT: Final = 4096
DETAIL: Final = 400
CODE: Final = r"^[a-z0-9_.-]*\Z"
MEDIA_TYPE: Final = (
    r"^[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,62}/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,62}\Z"
)


class BeginPart(Message, frozen=True):
    """Begins a document found inside the claimed one (attachment, archive member).

    `name_bytes`: its name as it stood there, where that was not UTF-8.
    """

    name: Annotated[str, Meta(max_length=PART_NAME)]
    name_bytes: PathBytes = b""


class Scan(Struct, frozen=True):
    """What one scanner said.

    `found`: something that must not pass, named in `detail`. `unavailable`, `error`, `limit`: the
    scanner has not judged the whole document, and nobody may take that for clean. `suspect`: not
    harmful by itself, a person decides.
    """

    scanner: Annotated[str, Meta(max_length=32, pattern=CODE)]
    outcome: Literal["clean", "suspect", "found", "unavailable", "error", "limit", "skipped"]
    detail: Annotated[str, Meta(max_length=DETAIL)] = ""
    version: Annotated[str, Meta(max_length=DETAIL)] = ""


# The reason in a `Classification` of a message that offers an invoice behind a link and holds no document.
INVOICE_BY_LINK: Final = "invoice:by link only"


class Classification(Struct, frozen=True):
    """What a document is taken for, and why.

    `confidence` is in 0..1. `document_date` (YYYY-MM-DD) is the date of the transaction or the last
    day of the period that the document states. `reasons` name features, never document text.
    """

    record_class: Annotated[str, Meta(max_length=64, pattern=CODE)] | None = None
    confidence: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    document_date: Annotated[str, Meta(max_length=10)] | None = None
    reasons: Annotated[list[Annotated[str, Meta(max_length=DETAIL)]], Meta(max_length=32)] = field(
        default_factory=list
    )


class Verdict(Message, frozen=True):
    """Everything an inspector has to say about its document: plain data, decided upon by the core.

    `unreadable`: why the inside could not be judged by reading ("encrypted", "over_limit",
    "malformed", "ambiguous"), or "". `facts` (invoice number, amounts, subject, sender …) are
    personal: the core seals them under the document's key. `parts` are the ids of the parts committed
    on this connection, `suggested_name` a file name for what arrived without one (a message).
    """

    document_id: Annotated[str, Meta(max_length=64)]
    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[bytes, Meta(max_length=32)]
    media_type: Annotated[str, Meta(pattern=MEDIA_TYPE)] = "application/octet-stream"
    scans: Annotated[list[Scan], Meta(max_length=64)] = field(default_factory=list)
    classification: Classification = Classification()
    unreadable: Annotated[str, Meta(max_length=32, pattern=r"^[a-z_]*\Z")] = ""
    facts: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=FACT)]],
        Meta(max_length=64),
    ] = field(default_factory=dict)
    parts: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=100_000)] = field(
        default_factory=list
    )
    suggested_name: Annotated[str, Meta(max_length=PART_NAME)] = ""


# ── the courier ──────────────────────────────────────────────────────────────────────────────────


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


class ClaimCarry(Message, frozen=True):
    """Asks for something sealed to carry to or from a backup target; answered like `Claim`."""


CarryVerb = Literal["put", "get", "probe", "names", "remove"]


class Carry(Message, frozen=True):
    """Something to do at a backup target or a place of the ledger (`ledger:<name>`).

    What is carried is sealed, or signed and meant to be read; but for `remove`, one descriptor travels
    beside the message.

    `put` keeps what the descriptor holds under `name`. `get` writes what is kept into it; `probe` reads all
    of that, but writes only its first and last 64 KiB, each at its own place in a file of the whole size.
    `names` writes a line `size name` for each name below the folder `name`. `remove` takes it away.
    """

    carry_id: int
    target: str
    verb: CarryVerb
    name: str


class CarryReport(Message, frozen=True):
    """How a carry ended: `size` (bytes) and `sha256` of what was put, fetched or probed."""

    carry_id: int
    outcome: Literal["done", "missing", "failed"]
    size: int = 0
    sha256: bytes = b""
    detail: str = ""


# ── administration ───────────────────────────────────────────────────────────────────────────────


class Challenge(Message, frozen=True):
    """Asks for the challenge that a signed act on this connection must contain."""


class ChallengeAnswer(Message, frozen=True):
    """Random, once per connection."""

    nonce: str


class AdminCall(Message, frozen=True):
    """One act of `gateway.core.admin`: its name and its arguments.

    An act by a person (`account` set) carries the exact `statement` that the person's own SSH key
    signed (SSHSIG, namespace `strongroom-act`); without it the actor is the operating system's user at
    the other end of the socket.
    """

    act: str
    arguments: dict[str, Any] = field(default_factory=dict)
    account: str = ""
    statement: bytes = b""
    signature: str = ""


class AdminAnswer(Message, frozen=True):
    """The result as plain JSON data. `exit_code` 1: a check ran and found something."""

    data: Any = None
    exit_code: int = 0


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
SmtpRequest = MailRecipient | BeginMail | Commit | Abandon
InspectRequest = Claim | BeginPart | Commit | Abandon | Verdict
CourierRequest = ClaimErrand | ErrandReport | ClaimCarry | CarryReport
AdminRequest = Challenge | AdminCall

Reply = (
    Done
    | Refused
    | Writable
    | Readable
    | Greeting
    | ExchangeSignature
    | HostKeyProofs
    | AuthenticationResult
    | Attributes
    | Page
    | Kept
    | Room
    | RecipientAnswer
    | Work
    | NoWork
    | Errand
    | Carry
    | ChallengeAnswer
    | AdminAnswer
)

Role = Literal["sftp", "smtp", "inspect", "courier", "admin"]

REQUESTS: Final[dict[Role, Any]] = {
    "sftp": SftpRequest,
    "smtp": SmtpRequest,
    "inspect": InspectRequest,
    "courier": CourierRequest,
    "admin": AdminRequest,
}
