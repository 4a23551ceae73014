"""What an inspection works on, and what it may spend.

`Document` is one sealed file opened for reading; `Limits` is what its inspection may cost; a
`PartSink` takes what is found inside. `Examination` is what one scanner of a format brings back.

Rules: names given by senders are hints and never paths; a limit that is met is reported
(`Unreadable`), never worked around; no message holds text of the document.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Literal, Protocol, TypeVar, cast

from gateway.config import InspectSection
from gateway.errors import GatewayError
from gateway.wire.messages import Scan

R = TypeVar("R", bound=str)

KIB: Final = 1024
MIB: Final = 1024 * 1024
READ_SIZE: Final = 256 * KIB
_CONFIGURED: Final = InspectSection()

Reason = Literal["encrypted", "over_limit", "malformed", "ambiguous"]
_GRAVITY: Final = ("", "ambiguous", "malformed", "over_limit", "encrypted")


class Source(Protocol):
    """A seekable, readable file: the decrypting reader in a worker, `io.BytesIO` elsewhere."""

    def read(self, size: int = -1, /) -> bytes | None: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What the inspection of one document may cost.

    Args:
        max_expand_bytes: plain bytes of all parts of one container together.
        max_parts: parts of one container.
        max_depth: containers within containers; a document at this depth is not unpacked.
        max_whole_bytes: the largest file that may be held in memory as a whole.
        max_text: characters of text that are read for classification.
        max_pages: pages of a PDF that are read for classification.
        max_sections: pages, sheets or slides that are each looked at for what is sensitive; a document with
            more of them is never sure.
        body_text: whether a message's own words become a document (`unpack.own_words`).
    """

    max_expand_bytes: int = _CONFIGURED.max_expanded_size
    max_parts: int = _CONFIGURED.max_parts
    max_depth: int = _CONFIGURED.max_depth
    max_whole_bytes: int = 64 * MIB
    max_text: int = 100_000
    max_pages: int = 4
    max_sections: int = 200
    body_text: Literal["auto", "always", "never"] = "auto"

    @classmethod
    def of(cls, section: InspectSection) -> Limits:
        """The limits with what is configured of them."""
        return cls(
            section.max_expanded_size,
            section.max_parts,
            section.max_depth,
            body_text=section.body_text,
        )


@dataclass(frozen=True, slots=True)
class Document:
    """A document to inspect. `name` was chosen by the sender; `depth` 0 is what was received."""

    document_id: str
    source: Source
    size: int
    name: str
    channel: Literal["sftp", "smtp", "part"] = "sftp"
    depth: int = 0

    def head(self, length: int = 64 * KIB) -> bytes:
        """The first bytes."""
        self.source.seek(0)
        return read_exactly(self.source, min(length, self.size))

    def whole(self, limits: Limits) -> bytes:
        """All bytes (raises Unreadable when there are more than may be held)."""
        if self.size > limits.max_whole_bytes:
            raise Unreadable(
                "over_limit",
                f"size: expected at most {limits.max_whole_bytes} bytes, found {self.size}",
            )
        return self.head(self.size)

    def stream(self) -> BinaryIO:
        """The source as a binary file at its beginning, for parsers that want one."""
        self.source.seek(0)
        return cast("BinaryIO", self.source)


class PartSink(Protocol):
    """Takes documents found inside. A part that fails while it is read leaves nothing behind."""

    def add(self, name: str, chunks: Iterable[bytes], name_bytes: bytes = b"") -> str:
        """Seal and commit one part; its id. Errors raised by `chunks` pass through."""
        ...


class Unreadable(GatewayError):
    """A container or document can't be judged by reading it; `reason` is what the verdict says."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


@dataclass(slots=True)
class Examination:
    """What a scanner of one format brings back: codes of what it saw, and whether it could see.

    `found` and `suspect` are short codes such as "pdf.launch", in order, without repetition.
    """

    scanner: str
    version: str = ""
    found: list[str] = field(default_factory=list)
    suspect: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unreadable: Reason | Literal[""] = ""

    def mark(self, code: str, *, found: bool = False) -> None:
        """Note a code once."""
        codes = self.found if found else self.suspect
        if code not in codes:
            codes.append(code)

    def fail(self, code: str) -> None:
        """Note that a part of the examination could not be done: the outcome is never clean."""
        if code not in self.failed:
            self.failed.append(code)

    def scan(self) -> Scan:
        """The outcome as a message: found before error before suspect before clean."""
        if self.found:
            return Scan(self.scanner, "found", _codes(self.found + self.suspect), self.version)
        if self.failed:
            return Scan(self.scanner, "error", _codes(self.failed + self.suspect), self.version)
        if self.unreadable == "over_limit":
            return Scan(self.scanner, "limit", _codes(self.suspect), self.version)
        if self.suspect or self.unreadable:
            detail = _codes(self.suspect or [self.unreadable])
            return Scan(self.scanner, "suspect", detail, self.version)
        return Scan(self.scanner, "clean", "", self.version)


def _codes(codes: list[str]) -> str:
    return ", ".join(codes)[:400]


def graver(first: R, second: R) -> R:
    """Of two reasons why something could not be judged (`Reason`, or "" for none) the graver one."""
    return max(first, second, key=_GRAVITY.index)


def read_exactly(source: Source, length: int) -> bytes:
    """Read `length` bytes, or fewer only at the end: a raw reader may return short reads."""
    parts = bytearray()
    while len(parts) < length:
        data = source.read(min(length - len(parts), 4 * MIB))
        if not data:
            break
        parts += data
    return bytes(parts)


def error_code(prefix: str, error: BaseException) -> str:
    """A detail that names an error's class only: its text may quote the document."""
    return f"{prefix}: {type(error).__name__}"
