"""What an inspector may ask, and what it may say of a document.

Promises: a document claimed; a part begun; a verdict. Every text and list has a bound, so that an inspector
that was taken over says no more than one that was not.
Leaves out: what is decided upon a verdict (`gateway.core.inspection`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from gateway.wire.messages.common import Abandon, Commit, Message, PathBytes

# Bounds of what an inspector may say of a document, so that one that was taken over says no more.
PART_NAME: Final = 4096  # characters; `safe_name` makes 255 bytes of it
FACT: Final = 4096
DETAIL: Final = 400
IGNORED: Final = 200
CODE: Final = r"^[a-z0-9_.-]*\Z"
DomainName = Annotated[str, Meta(max_length=253)]
MEDIA_TYPE: Final = (
    r"^[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,62}/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,62}\Z"
)


class Claim(Message, frozen=True):
    """Asks for a document to inspect; answered when there is one, or with `NoWork` after a while."""


class Proving(Struct, frozen=True):
    """What a message's signatures are judged by.

    `records`: what the DNS has under the names that an earlier `MailReport` wanted; None: only say which are.
    `upstream`: the name under which a host's judgement is believed (RFC 8601, authserv-id), or "".
    """

    records: dict[str, list[str]] | None = None
    upstream: str = ""


class Work(Message, frozen=True):
    """A document to inspect. Beside it travels one read-only descriptor of its sealed file.

    `mode` "fixity": only read everything and report size and digest. "prove": find what a message has to
    show for its sender; answered with a `MailReport`. `depth` is 0 for what was received, one more for each
    container it came out of. `clamd` is the scanner's address
    (`unix:/path` or `tcp:host:port`) or "" for none. `thorough`: it may take all the processor time there is;
    else only as much as ordinary documents take, so that nobody waits behind one that is not. `passwords` are
    tried where it is locked; only for one that turned out to be.
    """

    mode: Literal["inspect", "fixity", "prove"]
    document_id: str
    key: bytes
    size: int
    name: str
    channel: Literal["sftp", "smtp", "part"]
    depth: int
    attempt: int
    clamd: str
    thorough: bool = True
    proving: Proving | None = None
    passwords: list[str] = field(default_factory=list)


class BeginPart(Message, frozen=True):
    """Begins a document found inside the claimed one (attachment, archive member).

    `name_bytes`: its name as it stood there, where that was not UTF-8.
    """

    name: Annotated[str, Meta(max_length=PART_NAME)]
    name_bytes: PathBytes = b""


Lock = Literal["", "pdf", "office", "zip", "7z", "archive"]
"""What kind of lock keeps a document shut that has a password; "archive": a rar, which none opens here."""


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
    """An inspector's report on its document: plain data; the core decides.

    `unreadable`: why the inside could not be judged by reading ("encrypted", "over_limit",
    "malformed", "ambiguous"), or "". `facts` (invoice number, amounts, subject, sender …) are
    personal: the core seals them under the document's key. `parts` are the ids of the parts committed
    on this connection, `suggested_name` a file name for what arrived without one (a message). `ignored` is
    what was found inside and became no part, each as "rule: name"; personal, as `facts` are.
    `lock` says what is still locked; `opened_with` which of the passwords handed out opened it, from 0.
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
    ignored: Annotated[list[Annotated[str, Meta(max_length=DETAIL)]], Meta(max_length=IGNORED)] = (
        field(default_factory=list)
    )
    lock: Lock = ""
    opened_with: Annotated[int, Meta(ge=-1)] = -1


class Signature(Struct, frozen=True):
    """A DKIM signature (RFC 6376). `later`: its key could not be had now."""

    domain: DomainName
    outcome: Literal["pass", "fail", "later"]
    detail: Annotated[str, Meta(max_length=DETAIL)] = ""


class MethodResult(Struct, frozen=True):
    """One judgement of `Authentication-Results` (RFC 8601): method, result, and the domain it is about."""

    method: Annotated[str, Meta(max_length=32, pattern=CODE)]
    result: Annotated[str, Meta(max_length=32, pattern=CODE)]
    domain: DomainName = ""


class MailReport(Message, frozen=True):
    """What a message has to show for its sender: plain data; the core decides.

    `author` is the one address of its one From field, in lower case; "" where there is none, or more than
    one, or where programs read different ones (`author_fault` says which). `wanted` are names whose texts are
    needed. `sealers` are the domains of a chain of seals that holds (ARC, RFC 8617), `sealed` what the first
    of them had found; `chain` its state. `upstream` is what the configured host had found.
    """

    document_id: Annotated[str, Meta(max_length=64)]
    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[bytes, Meta(max_length=32)]
    author: Annotated[str, Meta(max_length=320)] = ""
    author_fault: Annotated[str, Meta(max_length=32, pattern=CODE)] = ""
    wanted: Annotated[list[DomainName], Meta(max_length=64)] = field(default_factory=list)
    signatures: Annotated[list[Signature], Meta(max_length=16)] = field(default_factory=list)
    chain: Literal["none", "pass", "fail", "later"] = "none"
    sealers: Annotated[list[DomainName], Meta(max_length=64)] = field(default_factory=list)
    sealed: Annotated[list[MethodResult], Meta(max_length=32)] = field(default_factory=list)
    upstream: Annotated[list[MethodResult], Meta(max_length=32)] = field(default_factory=list)


InspectRequest = Claim | BeginPart | Commit | Abandon | Verdict | MailReport
