"""Takes messages apart: attachments and attached messages become documents of their own.

Promises: every part goes to the `PartSink` as bytes, whole, or not at all; the limits on number,
bytes and depth hold over one message; what mail readers could understand differently is
"ambiguous" and said so (the class of CVE-2024-28054), though its parts are taken out all the same.
Leaves out: archives (`archives`, `formats.zip_layout`), TNEF (`tnef`), Outlook files (`outlook`), and S/MIME
(a person looks).

Rules: names inside are data, cut down to one harmless segment. A message is read with the standard
library's oldest policy (compat32), which keeps what it does not understand instead of raising.
The text of a message is returned for classification only.

Sources: RFC 5322 (message), RFC 2045–2047, 2183, 2231 (MIME).
"""

from __future__ import annotations

import binascii
import email
import email.message
import email.policy
import email.utils
import quopri
import re
from collections.abc import Iterator
from typing import Final

from gateway.inspect.classify import letters
from gateway.inspect.document import (
    KIB,
    Document,
    Limits,
    PartSink,
    Unreadable,
    error_code,
)
from gateway.inspect.parts import Budget, Unpacked
from gateway.inspect.unpack import header_words, left_out, second_reading
from gateway.inspect.unpack.automatic import automatic
from gateway.names import decode_name, opens_as_program, safe_name

Message = email.message.Message

FACT_LENGTH: Final = 500
_INLINE_IMAGE: Final = 256 * KIB
_MAX_MIME_PARTS: Final = 5000
_MAX_LINKS: Final = 20
_ENCODINGS: Final = frozenset({"", "7bit", "8bit", "binary", "base64", "quoted-printable"})
_CODED: Final = frozenset({"base64", "quoted-printable"})
_HEADER_LIMIT: Final = 8192  # bytes of a folded field that says how a part is to be read
_STRUCTURE: Final = re.compile(rb"^content-[a-z-]{1,40}[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_FIELD_END: Final = re.compile(rb"\n(?![ \t])")
# Where a mailbox goes on: its separator line, with a header behind it.
_SEPARATOR: Final = re.compile(rb"^>?From [^\r\n]*\r?\n(?=[!-9;-~]{1,80}+:)", re.MULTILINE)
_BOUNDARY: Final = re.compile(r";\s*+boundary\s*+\*?(?:\d++\*?)?\s*+=", re.IGNORECASE)
_BASE64_LINE: Final = re.compile(rb"[A-Za-z0-9+/]++={0,2}")
_ONCE: Final = (
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "mime-version",
)
# How they begin: DER, or its PEM form; what lies under their names and is something else is a document.
_SIGNATURES: Final[dict[str, tuple[bytes, ...]]] = {
    "application/pkcs7-signature": (b"\x30", b"-----BEGIN PKCS7-----"),
    "application/x-pkcs7-signature": (b"\x30", b"-----BEGIN PKCS7-----"),
    "application/pgp-signature": (b"-----BEGIN PGP SIGNATURE-----",),
}
_PICTURES: Final[dict[str, tuple[bytes, ...]]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}
# What no text begins with: programs, archives, PDF, compound files.
_BINARY: Final = re.compile(
    rb"\s{0,64}(?:MZ|PK\x03\x04|%PDF-|\x7fELF|Rar!\x1a|7z\xbc\xaf|\xd0\xcf\x11\xe0|\x1f\x8b\x08)|.{0,512}\0",
    re.DOTALL,
)
_TYPE: Final = re.compile(r"\s*[!#-'*+.0-9A-Z^-z|~-]{1,100}/[!#-'*+.0-9A-Z^-z|~-]{1,100}\s*(?:;|$)")
_PART_BEHIND: Final = re.compile(
    r"^(?:--\S|Content-[A-Za-z-]{1,40}[ \t]{0,8}:)", re.MULTILINE | re.IGNORECASE
)
_FACTS: Final = {
    "subject": "subject",
    "from": "from",
    "message-id": "message_id",
    "date": "date_header",
}
# A file written into the text of a message: old mail programs make an attachment of it.
_ENCODED: Final = re.compile(
    r"^begin [0-7]{3,4} \S|^=ybegin |^\(This file must be converted with BinHex|"
    r"^Content-Transfer-Encoding:\s*base64|^(?:[A-Za-z0-9+/]{60,76}\r?\n){8}",
    re.MULTILINE | re.IGNORECASE,
)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
# A script without an end takes the rest of the text with it, so that every match is found in one go.
_TAG: Final = re.compile(
    r"<(script|style)\b(?:.*?</\1\s*>|.*\Z)|<[^>]{0,500}>", re.IGNORECASE | re.DOTALL
)


class _AsSent(email.policy.Compat32):
    """Headers with their 8-bit bytes (surrogate escapes), which the policy would replace by U+FFFD."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        del name
        return value


_AS_SENT: Final = _AsSent()


# ── mail ─────────────────────────────────────────────────────────────────────────────────────────


def unpack_mail(document: Document, limits: Limits, sink: PartSink) -> Unpacked:
    """Take a message apart: attachments and attached messages become parts."""
    unpacked = Unpacked()
    if document.size > limits.max_whole_bytes:
        unpacked.trouble("over_limit", "mail.too_large")
        return unpacked
    raw = document.whole(limits)
    if not raw.strip():
        unpacked.trouble("malformed", "mail.empty")
        return unpacked
    if _has_long_header(raw):
        unpacked.trouble("over_limit", "mail.header_too_long")
        return unpacked
    raw, others = _messages(raw, unpacked)
    _check_bytes(raw, unpacked)
    try:
        message = email.message_from_bytes(raw, policy=_AS_SENT)
        leaves = list(_leaves(message, unpacked))
    except Exception as error:  # noqa: BLE001  the parser raises anything on hostile mail
        unpacked.result.fail(error_code("mail", error))
        unpacked.result.unreadable = "malformed"
        return unpacked
    _read_headers(message, unpacked)
    _compare(raw, leaves, unpacked)
    budget = Budget(limits)
    room = limits.max_text
    found: list[Message | bytes] = [*leaves, *others]
    for index, part in enumerate(found):
        try:
            if isinstance(part, Message) and _is_body(part):
                text = _body_text(part, room, unpacked)
                room -= len(text)
                unpacked.text += text
                if _ENCODED.search(text):
                    unpacked.trouble("ambiguous", "mail.encoded_in_text")
            elif not isinstance(part, bytes) and (rule := _decoration(part)):
                unpacked.ignore(_shown_name(part), rule)
            else:
                if document.depth >= limits.max_depth:
                    unpacked.trouble("over_limit", "mail.too_deep")
                    break
                budget.open()
                name, content = _attachment(part, index, unpacked)
                raw = b"" if isinstance(part, bytes) else _name_bytes(part)
                unpacked.parts.append(sink.add(name, budget.count([content]), raw))
        except Unreadable as error:
            unpacked.trouble(error.reason, f"mail.part_{error.reason}")
            if error.reason == "over_limit":
                break
        except Exception as error:  # noqa: BLE001  what was committed before must be reported
            unpacked.result.fail(error_code("mail.part", error))
    return unpacked


def _compare(raw: bytes, leaves: list[Message], unpacked: Unpacked) -> None:
    """Hold what was found against another parser's reading."""
    ours = []
    for part in leaves:
        kind = part.get_content_type()
        content = _content(part) if second_reading.is_compared(kind) else b""
        ours.append((kind, second_reading.digest(content)))
    second_reading.compare(raw, ours, unpacked)


def _has_long_header(raw: bytes) -> bool:
    """Whether a header about a part's form is longer than any mail program writes.

    The standard library's parameter parser is quadratic in it, and runs while the message is parsed.
    """
    for start in _STRUCTURE.finditer(raw):
        end = _FIELD_END.search(raw, start.end())
        if (end.start() if end else len(raw)) - start.start() > _HEADER_LIMIT:
            return True
    return False


def _messages(raw: bytes, unpacked: Unpacked) -> tuple[bytes, list[bytes]]:
    """The first message of what came, and the others where it is a mailbox (RFC 4155).

    Programs differ in what they make of blank lines before the first header and of a second "From " line: one
    sees a text, the other a message with attachments. Both readings are taken apart, and the mail is closed.
    """
    stripped = raw.lstrip(b"\r\n")
    if len(stripped) != len(raw):
        unpacked.trouble("ambiguous", "mail.blank_before_header")
    if not stripped.startswith((b"From ", b">From ")):
        return stripped, []
    found = [each for each in _SEPARATOR.split(stripped) if each.strip()]
    if len(found) > 1:
        unpacked.trouble("ambiguous", "mail.several_messages")
    return (found[0], found[1:]) if found else (stripped, [])


def _check_bytes(raw: bytes, unpacked: Unpacked) -> None:
    head = raw.split(b"\r\n\r\n", 1)[0].split(b"\n\n", 1)[0]
    if b"\0" in head:
        unpacked.trouble("ambiguous", "mail.nul_in_header")
    if re.search(rb"\r(?!\n)", head):
        unpacked.trouble("ambiguous", "mail.bare_cr_in_header")


def _leaves(message: Message, unpacked: Unpacked) -> Iterator[Message]:
    """All parts that are no containers, an attached message being one leaf; checks each."""
    stack = [message]
    for _count in range(_MAX_MIME_PARTS):
        if not stack:
            return
        part = stack.pop()
        _check_part(part, unpacked)
        payload = part.get_payload()
        kind = part.get_content_type()
        if kind == "message/delivery-status" and _is_status(payload):
            unpacked.ignore("delivery-status", "delivery-status")  # fields for mail programs
            continue
        if not isinstance(payload, list) or kind.startswith("message/"):
            yield part
        else:
            stack.extend(child for child in reversed(payload) if isinstance(child, Message))
    unpacked.trouble("over_limit", "mail.too_many_parts")


def _is_status(blocks: object) -> bool:
    """Whether a delivery status is one (RFC 3464): blocks of fields, and nothing that could be a part."""
    return isinstance(blocks, list) and all(
        isinstance(block, Message)
        and not str(block.get_payload()).strip()
        and not any(name.lower().startswith("content-") for name in block)
        for block in blocks
    )


def _check_part(part: Message, unpacked: Unpacked) -> None:
    """Note what mail programs read in different ways in a part (the class of CVE-2024-28054)."""
    if not all(_HEADER_NAME.fullmatch(name) for name in part):
        unpacked.trouble("ambiguous", "mail.header_name")
    for name in _ONCE:
        if len(part.get_all(name, [])) > 1:
            unpacked.trouble("ambiguous", f"mail.duplicate_{name.replace('-', '_')}")
    kind_header = str(part.get("Content-Type", ""))
    if kind_header.strip() and not _TYPE.match(kind_header):
        unpacked.trouble("ambiguous", "mail.odd_type")  # some see a text in it, others a container
    epilogue = str(part.epilogue or "")
    if _PART_BEHIND.search(epilogue):
        unpacked.trouble("ambiguous", "mail.parts_behind_the_end")
    if len(_BOUNDARY.findall(kind_header)) > 1:
        unpacked.trouble("ambiguous", "mail.duplicate_boundary")
    for header, parameter in (("Content-Type", "name"), ("Content-Disposition", "filename")):
        pattern = rf";\s*+{parameter}\s*+="  # possessive: two neighbouring repeats are quadratic
        if len(re.findall(pattern, str(part.get(header, "")), re.IGNORECASE)) > 1:
            unpacked.trouble("ambiguous", "mail.duplicate_name")
    coding = _coding(part)
    if coding != str(part.get("Content-Transfer-Encoding", "")).strip().lower():
        unpacked.trouble("ambiguous", "mail.unknown_encoding")
    kind = part.get_content_type()
    if kind.startswith("multipart/") and coding in _CODED:
        unpacked.trouble("ambiguous", "mail.encoded_multipart")
    elif kind.startswith("multipart/") and not part.is_multipart():
        unpacked.trouble("ambiguous", "mail.unparted_multipart")
    if kind.startswith("message/") and coding in _CODED:
        # RFC 2046, 5.2.1 forbids it, programs send it, and only some readers decode it.
        unpacked.trouble("ambiguous", "mail.encoded_message")
    boundary = part.get_boundary() if kind.startswith("multipart/") else "-"
    if not boundary or len(boundary) > 70:
        unpacked.trouble("ambiguous", "mail.bad_boundary")
    if kind in {"message/partial", "message/external-body"}:
        unpacked.result.mark("mail.partial_or_external")
    if kind in {"multipart/encrypted", "application/pgp-encrypted"} or (
        kind in {"application/pkcs7-mime", "application/x-pkcs7-mime"}
        and str(part.get_param("smime-type", "")).lower() != "signed-data"
    ):
        unpacked.trouble("encrypted", "mail.encrypted")
    for defect in part.defects:
        # A missing last boundary also ends ordinary truncated mail: damaged, not deceptive.
        unpacked.trouble("malformed", f"mail.{type(defect).__name__}")


def _is_body(part: Message) -> bool:
    """Whether a leaf is the message's own words rather than something attached."""
    disposition = _disposition(part)
    return (
        part.get_content_type() in {"text/plain", "text/html"}
        and disposition != "attachment"
        and not _raw_filename(part)
        and not _BINARY.match(_content(part))
    )


def _decoration(part: Message) -> str:
    """The rule by which a part is no document: small pictures that a text shows (logos), signatures, and what
    programs write for programs (invitations, visiting cards, resource forks).

    The message as received keeps them, and the scanners saw them in it. What is of another kind than it says
    is none of them.
    """
    kind = part.get_content_type()
    name = header_text(_raw_filename(part), 1000)
    if kind in left_out.CALENDARS:  # what is left out is opened, and so imported, by nobody
        name = left_out.CALENDAR_SUFFIX.sub("", name)
    if opens_as_program(name):
        return ""
    if kind in left_out.KINDS:
        return left_out.rule_of(kind, _content(part))
    begins = _SIGNATURES.get(kind) or _PICTURES.get(kind)
    if begins is None:
        return ""
    if not _content(part).lstrip(b"\r\n").startswith(begins):
        return ""
    if kind in _SIGNATURES:
        return "signature"
    shown = (
        _disposition(part) != "attachment"
        and part.get("Content-ID") is not None
        and len(str(part.get_payload())) < _INLINE_IMAGE
    )
    return "picture-in-text" if shown else ""


def _shown_name(part: Message) -> str:
    return safe_name(
        header_text(_raw_filename(part), 200), part.get_content_type().replace("/", "-")
    )


def _content(part: Message) -> bytes:
    """The bytes of a leaf without its encoding, for a look at them; none if they can't be had."""
    try:
        data = part.get_payload(decode=True)
    except (ValueError, LookupError, AttributeError):
        return b""
    return data if isinstance(data, bytes) else b""


def _disposition(part: Message) -> str:
    return str(part.get("Content-Disposition", "")).split(";", 1)[0].strip().lower()


def _raw_filename(part: Message) -> str:
    return header_words.file_name(part)


def _name_bytes(part: Message) -> bytes:
    """An attachment's name as it stands in the header, where that is neither ASCII nor UTF-8."""
    raw = _raw_filename(part).encode("utf-8", "surrogateescape")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw
    return b""


def _coding(part: Message) -> str:
    """A part's transfer encoding; what nobody knows counts as what its first word says, or as none."""
    said = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    first = re.split(r"[\s;(]", said, maxsplit=1)[0]
    return first if first in _ENCODINGS else ""


def _attachment(part: Message | bytes, index: int, unpacked: Unpacked) -> tuple[str, bytes]:
    """The name and bytes of a part, or of a further message of a mailbox."""
    if isinstance(part, bytes):
        return f"message-{index + 1}.eml", part
    payload = part.get_payload()
    kind = part.get_content_type()
    if kind.startswith("message/") and _coding(part) in _CODED:
        # The parser read the encoded lines as a message: they are its body, or, where one looked like a
        # header, its header too. Its bytes are what stood there.
        inner = payload[0] if isinstance(payload, list) and payload else payload
        text = (
            inner.as_bytes(policy=_flat()) if isinstance(inner, Message) else str(payload).encode()
        )
        return f"message-{index + 1}.eml", _transfer_decoded(text, _coding(part), unpacked)
    if kind.startswith("multipart/"):
        # A container without parts as it stands: what its encoding hides is a message of that type.
        body = _decoded(part, unpacked)
        head = str(part.get("Content-Type", "")).encode("ascii", "replace")
        return f"message-{index + 1}.eml", b"Content-Type: " + head + b"\r\n\r\n" + body
    if isinstance(payload, list):
        inner = payload[0] if payload else None
        if len(payload) != 1 or not isinstance(inner, Message):
            raise Unreadable("malformed", "attached message: expected one, found another number")
        name = header_text(inner.get("Subject"), 120) or "message"
        return safe_name(f"{name.replace('/', '-')}.eml", "part"), inner.as_bytes(policy=_flat())
    name = header_text(_raw_filename(part), 1000)
    fallback = f"attachment-{index + 1}{header_words.suffix_of(kind)}"
    return safe_name(name, fallback), _decoded(part, unpacked)


def _flat() -> email.policy.Compat32:
    return email.policy.compat32.clone(max_line_length=0, linesep="\r\n")


def _decoded(part: Message, unpacked: Unpacked) -> bytes:
    """The bytes of a leaf, as far as they go."""
    payload = part.get_payload()
    if not isinstance(payload, str):
        raise Unreadable("malformed", "mail part: expected one body, found none")
    data = payload.encode("utf-8", "surrogateescape")
    return _transfer_decoded(data, _coding(part), unpacked)


def _transfer_decoded(data: bytes, coding: str, unpacked: Unpacked) -> bytes:
    """A body without its transfer encoding.

    Damaged base64 is taken as far as it goes, as mail programs do (no padding, a footer behind it): what a
    recipient would open is what is judged, and the mail is ambiguous.
    """
    if coding == "quoted-printable":
        return quopri.decodestring(data)
    if coding != "base64":
        return data
    compact = re.sub(rb"\s+", b"", data)
    try:
        return binascii.a2b_base64(compact, strict_mode=bool(compact))
    except binascii.Error:
        unpacked.trouble("ambiguous", "mail.damaged_base64")
    lines = []
    for line in data.splitlines():
        kept = line.strip()
        if kept and not _BASE64_LINE.fullmatch(kept):
            break  # a footer, or damage: what stands before it counts
        lines.append(kept)
        if kept.endswith(b"="):
            break
    whole = b"".join(lines).rstrip(b"=")
    if len(whole) % 4 == 1:
        whole = whole[:-1]
    return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))


def _body_text(part: Message, room: int, unpacked: Unpacked) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes) or room <= 0:
        return ""
    charset = str(part.get_content_charset("utf-8") or "utf-8")
    try:
        text = data[: room * 4].decode(charset, "replace")
    except (LookupError, ValueError):
        text = data[: room * 4].decode("latin-1")
    unpacked.links += letters.targets(text)[: _MAX_LINKS - len(unpacked.links)]
    if part.get_content_type() == "text/html":
        text = markup_text(text)
    return text[:room] + "\n"


def markup_text(markup: str) -> str:
    """What an HTML text says, links in their places."""
    return _TAG.sub(letters.in_place_of, markup)


def header_text(value: object, length: int = FACT_LENGTH) -> str:
    """A header as text: RFC 2047 words decoded, control characters gone, bounded. Never fails."""
    if value is None:
        return ""
    text = str(value)[: length * 8]
    text = decode_name(text.encode("utf-8", "surrogateescape"))  # 8-bit headers without RFC 2047
    text = header_words.decode_words(text)
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = re.sub(r"[\s\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]+", " ", text)
    return text.strip()[:length]


def _read_headers(message: Message, unpacked: Unpacked) -> None:
    for name, value in message.raw_items():
        fact = _FACTS.get(name.lower())
        text = header_text(value) if fact else ""
        if fact and text:
            unpacked.facts.setdefault(fact, text)
    unpacked.facts["automatic"] = automatic(message)
    subject = unpacked.facts.get("subject", "").replace("/", "-").replace("\\", "-")
    unpacked.suggested_name = safe_name(f"{subject[:60].strip() or 'message'}.eml", "message.eml")
