"""What a document is by its content, never by its name: libmagic, and a look where it is too coarse.

Promises: one `Kind` that says which scanners and readers apply, and a media type for the record. A
name may only add suspicion (`name_codes`) or make a text be read as a message, which looks closer.

Rules: libmagic comes in the pylibmagic wheel, which must be imported before `magic`; its database is
loaded once, by the manager, before it forks.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from gateway.inspect.document import Document
from gateway.inspect.formats import archive_stream
from gateway.inspect.scan import office, pdf, xml
from gateway.names import opens_as_program

if TYPE_CHECKING:
    from gateway.inspect.formats.zip_layout import Archive

Kind = Literal["pdf", "zip", "compound", "mail", "xml", "html", "text", "image", "opaque"]

_ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
# RFC 5322 asks for no space after the colon, and for no blank line before: programs write both.
_HEADER_LINE: Final = re.compile(rb"^(?:>?From |[A-Za-z][A-Za-z0-9-]{1,60}[ \t]{0,8}:)")
_MAIL_HEADERS: Final = re.compile(
    rb"^(?:Received|Message-ID|MIME-Version|Return-Path|Delivered-To|X-[\w-]+|From|To|Subject|Date"
    rb"|Content-Type)[ \t]{0,8}:",
    re.MULTILINE | re.IGNORECASE,
)
_IMAGES: Final = frozenset(
    f"image/{name}" for name in ("png", "jpeg", "gif", "tiff", "bmp", "webp", "heic", "x-ms-bmp")
)
_OFFICE_SUFFIX: Final = re.compile(
    r"\.(?:xls|xlsx|xlsm|xlsb|csv|ods|et|doc|docx|odt|wps|rtf|ppt|pptx|odp)\s*$", re.IGNORECASE
)
_BIDI: Final = re.compile(r"[\u202a-\u202e\u2066-\u2069\u200e\u200f]")
_OOXML: Final = "application/vnd.openxmlformats-officedocument."


@cache
def _detector() -> object:
    import pylibmagic  # noqa: F401  puts its library and database where `magic` looks

    import magic  # isort: skip

    return magic.Magic(mime=True)


def preload() -> None:
    """Load the library and its database now."""
    _detector()


TNEF: Final = "application/ms-tnef"
# Containers other than zip, by the magic they begin with. It goes before anything found further in: a stored
# PDF within the first KiB makes no PDF of a winmail.dat or a RAR.
_CONTAINERS: Final = (
    (b"\x78\x9f\x3e\x22", TNEF),
    (b"Rar!\x1a\x07", archive_stream.RAR),
    (b"7z\xbc\xaf\x27\x1c", archive_stream.SEVEN_ZIP),
    (b"\x1f\x8b", archive_stream.GZIP),
    (b"\xfd7zXZ\0", archive_stream.XZ),
    (b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"),
)


_BZIP2: Final = re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)")
_TAR_BLOCK: Final = 512
_TAR_SUM: Final = slice(148, 156)  # POSIX.1-1988, ustar: the checksum of a header, in octal


def _is_tar(head: bytes) -> bool:
    """Whether a file begins with a header of tar: by its checksum, which all its dialects have."""
    block = head[:_TAR_BLOCK]
    stated = block[_TAR_SUM].strip(b" \0")
    if len(block) < _TAR_BLOCK or not re.fullmatch(rb"[0-7]{1,7}", stated) or not block[0]:
        return False
    counted = sum(block) - sum(block[_TAR_SUM]) + 8 * ord(" ")
    return counted == int(stated, 8)


def detect(document: Document) -> tuple[Kind, str]:
    """Kind and media type of a document."""
    head = document.head()
    received = _is_received_mail(document)
    for magic, media_type in _CONTAINERS:
        if head.startswith(magic) and not received:
            return "opaque", media_type
    if _BZIP2.match(head) and not received:
        return "opaque", archive_stream.BZIP2
    if _is_tar(head) and not received:
        return "opaque", archive_stream.TAR
    certain = "mail" if received else _certain(document, head)
    if certain == "pdf":
        return certain, "application/pdf" if b"%PDF-" in head[:1024] else "application/vnd.fdf"
    if certain == "mail":
        return certain, "message/rfc822"
    found = str(_detector().from_buffer(head)) if head else "application/x-empty"  # type: ignore[attr-defined]
    kind = certain or _kind(head, found)
    if kind == "mail":
        return kind, "message/rfc822"
    if kind == "xml" and "xml" not in found:
        return kind, "text/xml"
    return kind, found[:120]


def _certain(document: Document, head: bytes) -> Kind | None:
    """What a document is by our own look alone: most are spared the thousand rules of libmagic."""
    if head.startswith(_ZIP_MAGIC):
        return "zip"
    if office.is_compound(head):
        return "compound"
    if pdf.looks_like_pdf(head):
        return "pdf"
    return "mail" if _is_message(document, head) else None


def _kind(head: bytes, found: str) -> Kind:
    """What the others are."""
    if found == "message/rfc822":
        return "mail"
    if found == "text/html" or head[:512].lstrip().lower().startswith(
        (b"<!doctype html", b"<html")
    ):
        return "html"
    if xml.looks_like_xml(head):
        return "xml"
    if found.startswith("text/") or found in {"application/csv", "application/json"} or not head:
        return "text"
    if found in {"application/rtf", "application/x-empty"} or _is_text(head):
        return "text"
    return "image" if found in _IMAGES else "opaque"


def _is_received_mail(document: Document) -> bool:
    """Whether the document was received as a message: then it is one, whatever its bytes look like."""
    return document.channel == "smtp" and document.depth == 0


def _is_message(document: Document, head: bytes) -> bool:
    head = head.lstrip(b"\r\n")
    if not _HEADER_LINE.match(head):
        return False
    top = head.split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0]
    count = len({match.lower() for match in _MAIL_HEADERS.findall(top)})
    return count >= (1 if document.name.lower().endswith((".eml", ".mht", ".mhtml")) else 3)


def _is_text(head: bytes) -> bool:
    """Text in an encoding libmagic does not know (GB 18030): no control characters at all."""
    return re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", head) is None


def package_type(opened: Archive) -> str:
    """The media type of an office package; "application/zip" for a plain archive."""
    names = opened.names()
    if "OFD.xml" in names:
        return "application/ofd"
    if "[Content_Types].xml" in names:
        for folder, kind in (
            ("word/", "wordprocessingml.document"),
            ("xl/", "spreadsheetml.sheet"),
            ("ppt/", "presentationml.presentation"),
        ):
            if any(name.startswith(folder) for name in names):
                return _OOXML + kind
        return "application/vnd.ms-package"
    kind = (opened.read("mimetype", 200) or b"").decode("ascii", "replace").strip()
    if re.fullmatch(r"application/vnd\.oasis\.opendocument\.[a-z-]{1,40}", kind):
        return kind
    return "application/zip"


def is_workbook(media_type: str) -> bool:
    """Whether the spreadsheet reader should be tried."""
    return "spreadsheet" in media_type or "ms-excel" in media_type


def is_office_name(name: str) -> bool:
    """Whether a name says that it is an office document: banks name tables in HTML so."""
    return _OFFICE_SUFFIX.search(name) is not None


def name_codes(name: str) -> list[str]:
    """Suspicions that a name alone gives: programs, shortcuts, and names that read backwards."""
    codes = []
    if opens_as_program(name):
        codes.append("name.program_suffix")
    if _BIDI.search(name):
        codes.append("name.direction_override")
    return codes
