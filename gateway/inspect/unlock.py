"""Locked files opened with passwords that their sender deposited: PDF, Office, zip, 7z.

Promises: passwords are tried one after the other, as many as were handed over; the original is not changed.
What comes out of a PDF or an Office file is one plain file, held in memory; an archive's members are read as
streams (zip by libarchive, 7z by `formats.seven_zip`), under the limits of any archive.
Leaves out: rar, which nothing here decrypts; mails (S/MIME, OpenPGP), where no password helps; which
passwords there are (`gateway.core.inspection.locked`).

Rules: a password is in no message, no code, no file. Excel opens what is locked with one password of its own
without asking (write protection), so that one is always tried.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, cast

from gateway.inspect.document import Document, Limits, Unreadable
from gateway.inspect.formats import archive_stream, seven_zip, zip_layout
from gateway.inspect.scan import office, pdf
from gateway.inspect.unpack import archives
from gateway.wire.messages import Lock

BUILT_IN: Final = "VelvetSweatshop"  # [MS-OFFCRYPTO] 2.3.5; Excel tries it before it asks
NONE_GIVEN: Final = -1
_TRIED: Final = 16  # members of a zip for each password: AES takes a thousand rounds for one
MEDIA_TYPES: Final[dict[Lock, str]] = {
    "zip": archive_stream.ZIP,
    "7z": archive_stream.SEVEN_ZIP,
}


@dataclass(frozen=True, slots=True)
class Unlocked:
    """An opened file. `which`: the password's place among those handed over, -1 for the built-in one.

    `plain` is the whole file without its lock; None for an archive, whose members are read with `password`.
    """

    kind: Lock
    which: int
    password: str
    plain: bytes | None = None


def open_locked(document: Document, passwords: Sequence[str], limits: Limits) -> Unlocked | None:
    """Open a locked document; None if it is not locked, or none of the passwords opens it.

    Raises:
        Unreadable: a zip that is not to be touched (`zip_layout.open_zip`).
    """
    head = document.head()
    kind: Lock
    if office.is_compound(head):
        kind, tried, passwords = "office", _office, [*passwords, BUILT_IN]
    elif not passwords:
        return None
    elif pdf.looks_like_pdf(head):
        kind, tried = "pdf", _pdf
    elif head.startswith((b"PK", seven_zip.MAGIC)):
        return _open_archive(document, head, passwords, limits)
    else:
        return None
    if document.size > limits.max_whole_bytes:
        return None
    for which, password in enumerate(passwords):
        plain = tried(document, password, limits)
        if plain is not None:
            built_in = kind == "office" and which == len(passwords) - 1
            return Unlocked(kind, NONE_GIVEN if built_in else which, password, plain)
    return None


def _open_archive(
    document: Document, head: bytes, passwords: Sequence[str], limits: Limits
) -> Unlocked | None:
    """The password that opens an encrypted member, read whole: a zip's own check passes one in 256.

    Members of a zip may have a password each; of so many the first are tried.
    """
    kind: Lock = "7z" if head.startswith(seven_zip.MAGIC) else "zip"
    if kind == "zip":
        if not archive_stream.available():
            return None
        if not zip_layout.open_zip(document, limits, max_members=office.MAX_MEMBERS).encrypted:
            return None
    for which, password in enumerate(passwords):
        try:
            with archives.opened(document, MEDIA_TYPES[kind], [password]) as stream:
                shut = 0
                for member in stream:
                    if not member.encrypted or member.kind != "file":
                        continue
                    try:
                        _read_through(stream.chunks(), limits)
                    except Unreadable as error:
                        shut += 1
                        if kind != "zip" or error.reason != "encrypted" or shut == _TRIED:
                            raise
                    else:
                        return Unlocked(kind, which, password)
                if not shut:
                    return None  # nothing in it is locked
        except Unreadable as error:
            if error.reason == "over_limit":
                return Unlocked(kind, which, password)  # taking it apart will say so
    return None


def _read_through(chunks: Iterator[bytes], limits: Limits) -> None:
    room = limits.max_expand_bytes
    for chunk in chunks:
        room -= len(chunk)
        if room < 0:
            raise Unreadable("over_limit", "parts: expected fewer bytes expanded, found more")


def _pdf(document: Document, password: str, limits: Limits) -> bytes | None:
    import pikepdf

    del limits
    pdf.limit_library()
    try:
        with closing(
            pikepdf.open(document.stream(), password=password, suppress_warnings=True)
        ) as opened:
            if not opened.is_encrypted:
                return None
            out = io.BytesIO()
            opened.save(out, encryption=False)
            return out.getvalue()
    except (pikepdf.PasswordError, pikepdf.PdfError, ValueError):
        # A wrong password is one of these, and so is damage: what opens with none of them stays locked.
        return None


def _office(document: Document, password: str, limits: Limits) -> bytes | None:
    import msoffcrypto
    from msoffcrypto.format import doc97, ooxml, ppt97, xls97

    for module in (doc97, ppt97, xls97):
        # They write what they decrypt into a temporary file; here it stays in memory.
        module.tempfile = _Memory
    try:
        file = msoffcrypto.OfficeFile(document.stream())
        if not file.is_encrypted():
            return None
        file.load_key(password=password)
        out = _Bounded(limits.max_expand_bytes)
        file.decrypt(out)
        plain = out.getvalue()
        # The library's own check of a password refuses right ones of some makers; what comes out tells.
        if isinstance(file, ooxml.OOXMLFile) and not plain.startswith(b"PK\x03\x04"):
            return None
        return plain
    except Unreadable:
        raise
    except Exception:  # noqa: BLE001  the library raises anything, for a wrong password too
        return None


class _Memory:
    """What stands in for the module `tempfile`."""

    TemporaryFile = io.BytesIO


class _Bounded(io.BytesIO):
    """Memory for what comes out, which is as long as what went in; a lie about it ends here."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: object, /) -> int:
        if self.tell() + len(cast("bytes", data)) > self._most:
            raise Unreadable("over_limit", "locked file: expected fewer bytes, found more")
        return super().write(cast("bytes", data))


class ZipFeed(io.RawIOBase):
    """Somewhere to write a zip that only hands its bytes on: the antivirus sees members without a lock."""

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        super().__init__()
        self._feed = feed

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(cast("bytes", data))
        self._feed(piece)
        return len(piece)


def feed_members(
    document: Document,
    unlocked: Unlocked,
    passwords: Sequence[str],
    limits: Limits,
    feed: Callable[[bytes], None],
) -> None:
    """Hand on a zip of the same members without encryption (raises Unreadable).

    Args:
        passwords: for members of a zip that have another than `unlocked`.
    """
    room = limits.max_expand_bytes
    with (
        archives.opened(
            document, MEDIA_TYPES[unlocked.kind], [unlocked.password, *passwords]
        ) as stream,
        zipfile.ZipFile(cast("io.BytesIO", ZipFeed(feed)), "w") as out,
    ):
        for number, member in enumerate(stream):
            if member.kind != "file" or number >= limits.max_parts:
                continue
            with out.open(f"{number}", "w") as target:
                for chunk in stream.chunks():
                    room -= len(chunk)
                    if room < 0:
                        raise Unreadable("over_limit", "parts: expected fewer bytes, found more")
                    target.write(chunk)


def lock_of(kind: str, media_type: str) -> Lock:
    """What kind of lock an encrypted file has; "" where a password is not what it needs."""
    if kind == "pdf":
        return "pdf"
    if kind == "compound":
        return "office"
    if media_type == archive_stream.ZIP:
        return "zip"
    if media_type == archive_stream.SEVEN_ZIP:
        return "7z"
    return "archive" if media_type in archive_stream.OPENED else ""
