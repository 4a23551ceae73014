"""The inspection of one document, in numbered steps, and the verdict that sums it up.

Promises: the digest is of exactly the bytes that were scanned; every step is contained, so that its
failure is the outcome `error` of that step and never `clean`; what could not be opened is said.
Leaves out: the decision. The core decides from the verdict; nothing here passes or refuses.

Rules: details are codes and signature names, never text of the document. Facts (subject, numbers)
are personal and go into `facts` only, bounded in length.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from gateway.inspect import unlock
from gateway.inspect.classify import classify, media, text
from gateway.inspect.document import (
    READ_SIZE,
    Document,
    Examination,
    Limits,
    PartSink,
    Unreadable,
    error_code,
    graver,
)
from gateway.inspect.formats import archive_stream, litter, zip_layout
from gateway.inspect.parts import NAME as UNPACK
from gateway.inspect.parts import Budget, Unpacked, take_out
from gateway.inspect.scan import office, pdf, pdf_attachments, xml, yara
from gateway.inspect.scan.clamd import ENCRYPTED, ClamdStream
from gateway.inspect.unpack import archives, mail, outlook, own_words, tnef
from gateway.names import safe_name
from gateway.wire.messages import DETAIL, IGNORED, INVOICE_BY_LINK, Classification, Scan, Verdict
from vault.errors import VaultError

MAX_FACTS: Final = 24
_LINKS: Final = 2000  # characters of the links that are shown
_ARCHIVES: Final = archive_stream.OPENED | {archive_stream.ZIP}

T = TypeVar("T")


@dataclass(slots=True)
class _Findings:
    """What the steps have brought together so far."""

    kind: media.Kind = "opaque"
    media_type: str = "application/octet-stream"
    scans: list[Scan] = field(default_factory=list)
    unreadable: str = ""
    parts: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    classification: Classification = field(default_factory=Classification)
    suggested_name: str = ""
    litter: bool = False
    embedded: list[tuple[str, bytes]] = field(default_factory=list)
    package: zip_layout.Archive | None = None
    words: str = ""  # of a message
    ignored: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    own_text: str = ""  # of a message, without its subject
    unlocked: unlock.Unlocked | None = None
    inside: tuple[Document, _Findings] | None = None  # what was locked, and what was found in it
    locked: bool = False  # a scanner of its format needed a password

    def trouble(self, reason: str) -> None:
        """Note why the inside could not be judged; the gravest reason stays."""
        self.unreadable = graver(self.unreadable, reason)

    def take(self, examination: Examination) -> None:
        """Add a scanner's examination."""
        self.scans.append(examination.scan())
        self.trouble(examination.unreadable)
        self.locked = self.locked or examination.unreadable == "encrypted"


def inspect(
    document: Document,
    limits: Limits,
    parts: PartSink,
    *,
    rules: yara.RuleSet,
    clamd: ClamdStream | None,
    passwords: Sequence[str] = (),
) -> Verdict:
    """Inspect a document.

    Args:
        parts: takes what is found inside.
        rules: compiled pattern rules.
        clamd: an opened stream to the antivirus daemon, or None when none is configured.
        passwords: tried if it is locked.

    Returns:
        The verdict. If the sealed file itself can't be read it holds no digest, and says so.
    """
    found = _Findings()

    # 1. Read everything once: the digest, and the antivirus at the same time. Of what was locked it is shown
    #    the inside: what is wrong in there, only there can it see.
    found.unlocked = _contained(
        found, "unlock", lambda: unlock.open_locked(document, passwords, limits)
    )
    try:
        size, sha256 = _read_all(document, None if found.unlocked else clamd)
    except (VaultError, OSError) as error:
        return unreadable_file(document.document_id, error)
    if clamd is not None:
        if found.unlocked:
            _contained(
                found, "unlock", lambda: _feed_inside(document, limits, passwords, found, clamd)
            )
        clamd.end()

    # 2. What it is. The antivirus is scanning meanwhile.
    kind = _contained(found, "type", lambda: media.detect(document))
    if kind is not None:
        found.kind, found.media_type = kind
    if document.size <= litter.most(document.name):
        whole = document.head(document.size)
        found.litter = litter.is_litter(document.name, whole)
    elif not document.size:
        found.trouble("malformed")
        found.scans.append(Scan("format", "suspect", "format.empty"))
    codes = media.name_codes(document.name)
    if codes:
        found.scans.append(Scan("name", "suspect", ", ".join(codes)))

    # 3. Pattern rules over the bytes.
    matched = _contained(found, yara.NAME, lambda: yara.scan(document, rules))
    if matched is not None:
        found.take(matched)

    if found.litter:
        found.classification = Classification(litter.RECORD_CLASS, 0.99, None, ["name:system file"])
    else:
        # 4. Active content of its format.
        _contained(found, "format", lambda: _scan_inside(document, limits, rules, found))
        _contained(found, "tail", lambda: _scan_tail(document, found))
        # 5. What is inside.
        _contained(
            found,
            UNPACK,
            lambda: _unpack(document, limits, parts, found, passwords),
        )
        # 6. What it says, and whether that is a document, too.
        _contained(found, "reader", lambda: _read(document, limits, found))
        _contained(found, UNPACK, lambda: _take_words(document, limits, parts, found))

    # 7. The antivirus' answer, and the sum.
    if clamd is None:
        found.scans.insert(0, Scan("clamd", "skipped", "no scanner is configured"))
    else:
        answer = clamd.finish()
        found.scans.insert(0, answer)
        if answer.outcome == "suspect" and answer.detail.startswith(ENCRYPTED):
            found.trouble("encrypted")
    return Verdict(
        document.document_id,
        size,
        sha256,
        media_type=found.media_type,
        scans=[
            msgspec.structs.replace(
                scan, detail=scan.detail[:DETAIL], version=scan.version[:DETAIL]
            )
            for scan in found.scans
        ],
        classification=msgspec.structs.replace(
            found.classification,
            reasons=[reason[:DETAIL] for reason in found.classification.reasons],
        ),
        unreadable=found.unreadable,
        facts=dict(list(found.facts.items())[:MAX_FACTS]),
        parts=found.parts,
        suggested_name=found.suggested_name,
        ignored=_bounded(found.ignored),
        lock=unlock.lock_of(found.kind, found.media_type) if found.locked else "",
        opened_with=found.unlocked.which if found.unlocked else -1,
    )


def _bounded(ignored: list[str]) -> list[str]:
    """What became no document, as much of it as a verdict names; the last says how many others there were."""
    if len(ignored) <= IGNORED:
        return ignored
    return [*ignored[: IGNORED - 1], f"more: {len(ignored) - IGNORED + 1} others"]


def measure(document: Document) -> Verdict:
    """Fixity only: read everything, report size and digest."""
    try:
        size, sha256 = _read_all(document, None)
    except (VaultError, OSError) as error:
        return unreadable_file(document.document_id, error)
    return Verdict(document.document_id, size, sha256, scans=[Scan("fixity", "clean")])


def unreadable_file(document_id: str, error: Exception) -> Verdict:
    """The verdict on a sealed file that can't be read: no digest, so that nothing can match it."""
    return Verdict(document_id, 0, b"", scans=[Scan("fixity", "error", error_code("file", error))])


def _read_all(document: Document, clamd: ClamdStream | None) -> tuple[int, bytes]:
    digest = hashlib.sha256()
    size = 0
    document.source.seek(0)
    while data := document.source.read(READ_SIZE):
        digest.update(data)
        size += len(data)
        if clamd is not None:
            clamd.feed(data)
    return size, digest.digest()


def _feed_inside(
    document: Document,
    limits: Limits,
    passwords: Sequence[str],
    found: _Findings,
    clamd: ClamdStream,
) -> None:
    assert found.unlocked is not None
    if found.unlocked.plain is None:
        unlock.feed_members(document, found.unlocked, passwords, limits, clamd.feed)
    else:
        view = memoryview(found.unlocked.plain)
        for start in range(0, len(view), READ_SIZE):
            clamd.feed(bytes(view[start : start + READ_SIZE]))


def _contained(found: _Findings, scanner: str, step: Callable[[], T]) -> T | None:
    """Run a step; whatever it raises becomes that scanner's outcome, never clean."""
    try:
        return step()
    except Unreadable as error:
        found.trouble(error.reason)
        outcome = Scan(
            scanner, "limit" if error.reason == "over_limit" else "suspect", error.reason
        )
        found.scans.append(outcome)
    except Exception as error:  # noqa: BLE001  parsers of hostile input raise anything
        found.scans.append(Scan(scanner, "error", error_code(scanner, error)))
    return None


# ── 4: active content ────────────────────────────────────────────────────────────────────────────


def _scan_inside(document: Document, limits: Limits, rules: yara.RuleSet, found: _Findings) -> None:
    """Scan a document, or, if it was locked, what was inside: that acts for whoever opens it."""
    if found.unlocked is None or found.unlocked.plain is None:
        _scan_format(document, limits, rules, found)
        return
    plain = found.unlocked.plain
    inner = Document(document.document_id, io.BytesIO(plain), len(plain), document.name, "part")
    seen = _Findings()
    found.inside = inner, seen
    seen.kind, seen.media_type = media.detect(inner)
    seen.take(yara.scan(inner, rules))
    _scan_format(inner, limits, rules, seen)
    found.scans += seen.scans
    found.trouble(seen.unreadable)


def _scan_format(document: Document, limits: Limits, rules: yara.RuleSet, found: _Findings) -> None:
    if found.kind == "pdf":
        examination, found.embedded = pdf.scan(document, limits)
        for name, content in found.embedded:
            for rule, harmful in rules.match(content, first=True):
                examination.mark(f"embedded:{rule}", found=harmful)
            for code in media.name_codes(name):
                examination.mark(f"embedded:{code}")
        found.take(examination)
    elif found.kind == "zip":
        found.package = zip_layout.open_zip(document, limits, max_members=office.MAX_MEMBERS)
        found.media_type = media.package_type(found.package)
        if found.media_type != "application/zip":
            found.take(
                office.scan_package(
                    found.package, limits, lambda data: rules.match(data, first=True)
                )
            )
    elif found.kind == "compound":
        found.take(office.scan_compound(document, limits))
        if outlook.is_message(document, limits):
            found.media_type = outlook.MEDIA_TYPE
    elif found.kind == "xml":
        found.take(xml.scan(document, limits))
        found.take(office.scan_text(document, limits))
    elif found.kind in {"text", "html"}:
        examination = office.scan_text(document, limits)
        if found.kind == "html":
            if media.is_office_name(document.name):
                examination.mark("html.named_as_office")
            # A page is a program that runs in the reader's browser: a person decides.
            examination.mark("html.page")
        found.take(examination)
    elif found.media_type in archive_stream.OPENED and not archive_stream.available():
        found.scans.append(Scan("format", "suspect", "archive.library_missing"))
    elif found.kind == "opaque" and found.media_type not in {media.TNEF, *archive_stream.OPENED}:
        # Nobody here can look inside: other archives, disk images, sound, unknown formats.
        found.scans.append(Scan("format", "suspect", f"format.not_opened: {found.media_type}"))


def _scan_tail(document: Document, found: _Findings) -> None:
    """An archive behind a picture or a text, which unpackers find first. A PDF's own scan looks, too."""
    if found.kind not in {"zip", "pdf", "mail"} and zip_layout.lies_behind(document):
        found.scans.append(Scan("tail", "suspect", "archive.behind_another_file"))


# ── 5: parts ─────────────────────────────────────────────────────────────────────────────────────


def _unpack(
    document: Document,
    limits: Limits,
    parts: PartSink,
    found: _Findings,
    passwords: Sequence[str],
) -> None:
    if found.unlocked is not None:
        unpacked = _take_unlocked(document, limits, parts, found.unlocked, passwords)
    elif found.kind == "mail":
        unpacked = mail.unpack_mail(document, limits, parts)
        if document.channel == "smtp" and document.depth == 0:
            found.suggested_name = unpacked.suggested_name
    elif found.embedded:
        unpacked = pdf_attachments.take_out(found.embedded, document, limits, parts)
    elif found.media_type == outlook.MEDIA_TYPE:
        unpacked = outlook.unpack(document, limits, parts)
    elif found.media_type == media.TNEF:
        unpacked = tnef.unpack(document, limits, parts)
    elif found.package is not None and found.media_type == "application/zip":
        unpacked = zip_layout.unpack_zip(found.package, document, limits, parts)
    elif found.media_type in archive_stream.OPENED and archive_stream.available():
        unpacked = archives.unpack(document, found.media_type, limits, parts)
    else:
        return
    found.parts = list(unpacked.parts)
    found.links = unpacked.links
    found.ignored = unpacked.ignored
    found.facts.update(unpacked.facts)
    found.own_text = unpacked.text
    found.words = "\n".join((unpacked.facts.get("subject", ""), unpacked.text))
    found.take(unpacked.result)


def _take_unlocked(
    document: Document,
    limits: Limits,
    parts: PartSink,
    unlocked: unlock.Unlocked,
    passwords: Sequence[str],
) -> Unpacked:
    """What was locked becomes a part: the plain file, or an archive's members."""
    if unlocked.plain is None:
        return archives.unpack(
            document,
            unlock.MEDIA_TYPES[unlocked.kind],
            limits,
            parts,
            [unlocked.password, *passwords],
        )
    unpacked = Unpacked()
    if document.depth >= limits.max_depth:
        unpacked.trouble("over_limit", "locked.too_deep")
        return unpacked
    take_out(unpacked, parts, Budget(limits), document.name, unlocked.plain, "locked")
    return unpacked


# ── 6: reading and classification ────────────────────────────────────────────────────────────────


def _read(document: Document, limits: Limits, found: _Findings) -> None:
    reading: text.Reading | None = None
    if found.unlocked is not None:
        if not found.parts or found.unreadable:
            return
        if found.inside is None:
            # An archive: what was in it are documents as they are, and it is what they came in.
            found.classification = Classification(
                "correspondence", 0.95, None, ["container:locked"]
            )
            return
        # The part is only a copy, made here: the original is the record, and is what the part is.
        inner, seen = found.inside
        _read(inner, limits, seen)
        found.classification = seen.classification
        found.facts.update(seen.facts)
        return
    message = found.media_type in {media.TNEF, outlook.MEDIA_TYPE} and not found.unreadable
    if found.kind == "mail" or message:
        reading = text.Reading(text.normalise(found.words, limits), parts=len(found.parts))
    elif found.media_type in _ARCHIVES and found.parts and not found.unreadable:
        # What is in it are documents of their own, and the archive what they came in, as a mail is.
        found.classification = Classification("correspondence", 0.95, None, ["container:archive"])
        return
    elif found.unreadable:
        return  # what could not be judged is not read for clues either
    elif found.kind == "pdf":
        reading = text.read_pdf(document, limits, found.embedded)
    elif found.kind == "xml":
        reading = text.read_xml(document.whole(limits), limits)
    elif found.kind in {"text", "html"}:
        reading = text.read_text(document, limits)
    elif found.package is not None and not media.is_workbook(found.media_type):
        reading = text.read_package(found.package, limits)
    elif media.is_workbook(found.media_type):
        reading = text.read_sheets(document, limits, found.package)
    if reading is None:
        return
    found.classification, facts = classify.classify(reading, found.media_type)
    found.facts.update(facts)
    if INVOICE_BY_LINK in found.classification.reasons:
        found.facts["links"] = "\n".join(found.links)[:_LINKS]


def _take_words(document: Document, limits: Limits, parts: PartSink, found: _Findings) -> None:
    """Make a document of what a message says itself, if that is one."""
    message = found.kind == "mail" or found.media_type == outlook.MEDIA_TYPE
    if not message or document.depth >= limits.max_depth or len(found.parts) >= limits.max_parts:
        return
    words = own_words.own_words(found.own_text)
    if own_words.are_a_document(words, limits.body_text, limits):
        subject = found.facts.get("subject", "").replace("/", "-")[:60].strip() or "message"
        found.parts.append(parts.add(safe_name(f"{subject}.txt"), [words.encode()]))
