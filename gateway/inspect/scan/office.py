"""Active content of office files: macros, DDE, links to other places, objects inside.

Promises: three families are examined: zip packages (OOXML, ODF, OFD), compound files (Word, Excel,
PowerPoint 97–2003, Outlook), and text forms (RTF, SYLK, MHT, flat XML, CSV formulas). oletools and
msoffcrypto do what they do well (VBA, encryption, RTF objects); what they miss is done here: Excel 4 macro
sheets (extract_macros passes over them since 0.60), DDE fields, PowerPoint's embedded objects.

Rules: macros that start by themselves and reach outside are `found`; any macro, DDE, external link
or embedded object is `suspect`. An exception in a library is a failure, never clean. Codes only.

Sources: ECMA-376 part 2 (packages), ODF 1.3 part 2 (packages), [MS-CFB].
"""

from __future__ import annotations

import importlib.metadata
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Final

from gateway.inspect.document import MIB, Document, Examination, Limits, Unreadable, error_code
from gateway.inspect.formats import office_records, zip_layout
from gateway.inspect.scan import office_markup, rich_text, xml

NAME: Final = "office"
OLE_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MAX_MEMBERS: Final = 20_000
_MAX_PART: Final = 16 * MIB
_MAX_STREAM: Final = 32 * MIB
_EXPANSION: Final = 100
_EXPANSION_FREE: Final = 8 * MIB
_MEDIA: Final = re.compile(r"(?:^|/)(?:media|Pictures|Res|Thumbnails)/[^/]*$", re.IGNORECASE)
_MAX_INNER: Final = 64 * MIB
_MAX_WITHIN: Final = 2
_INSTALLER_CLSID: Final = "000C1084-0000-0000-C000-000000000046"
_TEXTS: Final = (".xml", ".rels", ".rdf", ".vml")
# A cell that hands a command to a program (=cmd|'/C …'!A0), and functions that reach outside.
_FORMULA_PROGRAM: Final = re.compile(
    r"(?:^|[,;\t|\r\n])[\s\"']{0,20}[=+\-@][^\r\n|]{0,400}\|[^\r\n|!]{0,400}!"
)
_FORMULA_CALL: Final = re.compile(
    r"[=+\-@]\s{0,20}(?:DDE|WEBSERVICE|IMPORTXML|IMPORTDATA|CALL)\s{0,20}\(", re.IGNORECASE
)
_ACTING_HEAD: Final = 4096
# By what their formats begin with, not by a name: see `media` for the suffixes.
_ACTING: Final = re.compile(
    r"WEB[ \t]*\r?\n1[ \t]*\r?\n(?:[a-z]+:|\\\\)|XLODBC[ \t]*\r?\n1[ \t]*\r?\n"  # queries: .iqy, .dqy
    r"|(?:[;#][^\r\n]*+[\r\n]++){0,20}\[(?:InternetShortcut|Desktop Entry|\.ShellClassInfo|autorun|shell"
    r"|oledb|Theme|Application|version)\][ \t]*(?:[\r\n]|$)"  # .url .desktop .scf .udl .theme .ica .inf
    r"|(?:[a-z0-9 ]{1,40}:[isb]:[^\r\n]*+[\r\n]++){0,80}(?:full address|alternate shell|remoteapplication\w*"
    r"|gatewayhostname):s:"  # .rdp
    r"|#![ \t]*/|@echo off\b|Windows Registry Editor |REGEDIT4"
    r"|(?:<\?xml[^>]*>\s*)?(?:<!--[^>]*-->\s*)?<(?:\w+:)?(?:libraryDescription|persistedQuery|jnlp|MMC_ConsoleFile|scriptlet"
    r"|package\s*>\s*<\s*job|job\s+id|PCSettings|searchConnectorDescription|asx|xbap)\b"
    r"|https?://[^\s#]{1,1000}\.application#",  # .appref-ms
    re.IGNORECASE,
)
_CODED_FILE: Final = re.compile(
    r"^begin(?:-base64)? [0-7]{3,4} \S|^\(This file must be converted with BinHex", re.MULTILINE
)  # uuencode and BinHex: another file written as text


def is_compound(head: bytes) -> bool:
    """Whether the bytes begin a compound file ([MS-CFB])."""
    return head.startswith(OLE_MAGIC)


@cache
def _version() -> str:
    return f"oletools {importlib.metadata.version('oletools')}"


def _new() -> Examination:
    return Examination(NAME, _version())


# ── zip packages ─────────────────────────────────────────────────────────────────────────────────


def scan_package(
    opened: zip_layout.Archive,
    limits: Limits,
    scan_member: Callable[[bytes], list[tuple[str, bool]]],
    *,
    within: int = 0,
) -> Examination:
    """Examine an OOXML, ODF or OFD package.

    Args:
        scan_member: pattern rules over one expanded member: (rule name, whether it means `found`).
        within: in how many packages this one lies.
    """
    result = _new()
    for code in opened.codes:
        result.mark(code)
    reason = zip_layout.worst(opened)
    if reason is not None:
        result.unreadable = reason
    for name in opened.names():
        _check_name(name, result)
    room = _check_expansion(opened)
    for member in opened.members:
        try:
            if member.file_size > _MAX_PART:
                _check_large(opened, member, result)
                continue
            data = b"".join(opened.chunks(member))
            if data.startswith(b"PK\x03\x04"):
                _check_inner(data, limits, scan_member, result, within)
        except Unreadable as error:
            result.unreadable = error.reason
            continue
        for rule, found in scan_member(data):
            result.mark(f"rule:{rule}", found=found)
        if not member.filename.lower().endswith(_TEXTS) and not xml.looks_like_xml(data):
            _check_bytes(member.filename, data, result)
            continue
        room -= len(data)
        if room < 0:
            raise Unreadable("over_limit", "package: expected less text among its media")
        _check_text(member.filename, data, result)
    if "office.macros" in result.suspect:
        macros = opened.read(_vba_name(opened), min(_MAX_STREAM, limits.max_whole_bytes))
        if macros is not None:
            _grade_macros(macros, result)
    return result


def _check_expansion(opened: zip_layout.Archive) -> int:
    """How many bytes of a package may be parsed, refused before any is expanded.

    Text that fills a thousand times its size is written to keep readers busy; office programs reach a
    ratio of twenty. Media may be all one colour: they count only if they turn out to be text.
    """
    texts = [member for member in opened.members if not _MEDIA.search(member.filename)]
    expanded = sum(member.file_size for member in texts)
    room = max(_EXPANSION_FREE, _EXPANSION * sum(m.compress_size for m in texts))
    if expanded > room:
        raise Unreadable("over_limit", f"package: expected {room} bytes at most, found {expanded}")
    return room


def _check_large(opened: zip_layout.Archive, member: zipfile.ZipInfo, result: Examination) -> None:
    """Members too large to hold: a sheet is read as a stream, and media are not read."""
    lower = member.filename.lower()
    if lower.startswith("xl/worksheets/"):
        office_markup.check_sheet(opened.chunks(member), result)
    elif not lower.startswith(("word/media/", "ppt/media/", "xl/media/")):
        result.mark("office.large_member")


def _check_inner(
    data: bytes,
    limits: Limits,
    scan_member: Callable[[bytes], list[tuple[str, bool]]],
    result: Examination,
    within: int,
) -> None:
    """A package in a package, such as a chart's figures, is examined like the one around it."""
    if within >= _MAX_WITHIN:
        result.mark("office.embedded_object")
        return
    inner = zip_layout.open_zip(
        Document("", io.BytesIO(data), len(data), ""),
        replace(limits, max_expand_bytes=min(limits.max_expand_bytes, _MAX_INNER)),
        max_members=MAX_MEMBERS,
    )
    seen = scan_package(inner, limits, scan_member, within=within + 1)
    for code in seen.found:
        result.mark(code, found=True)
    for code in seen.suspect:
        result.mark(code)
    for code in seen.failed:
        result.fail(code)
    result.unreadable = result.unreadable or seen.unreadable


def _vba_name(opened: zip_layout.Archive) -> str:
    return next((n for n in opened.names() if n.lower().endswith("vbaproject.bin")), "")


def _check_name(name: str, result: Examination) -> None:
    lower = name.lower()
    if lower.endswith("vbaproject.bin") or lower.startswith(("basic/", "scripts/")):
        result.mark("office.macros")
    if "/macrosheets/" in lower or "/intlmacrosheets/" in lower or "/dialogsheets/" in lower:
        result.mark("office.excel4_macros")
    if "/activex/" in lower:
        result.mark("office.activex")
    if "/embeddings/" in lower and not lower.endswith(("/", ".xlsx")):
        # A chart carries its figures as an .xlsx; anything else is an object somebody put there.
        result.mark("office.embedded_object")


def _check_bytes(name: str, data: bytes, result: Examination) -> None:
    lower = name.lower()
    if is_compound(data[:8]) and not lower.endswith("vbaproject.bin"):
        result.mark("office.embedded_object")
    if lower.endswith("connections.bin"):
        result.mark(office_markup.CONNECTION)
    if lower.endswith(".bin"):
        office_records.check_binary_part(data, result)


def _check_text(name: str, data: bytes, result: Examination) -> None:
    """A part that is XML by its name or content: the list of types may make any name an XML part."""
    lower = name.lower()
    text = data.decode("utf-8", "replace") if data[:2] not in {b"\xff\xfe", b"\xfe\xff"} else ""
    text = text or xml.decode_head(data)
    if re.search(r"<!\s*(DOCTYPE|ENTITY)\b", text, re.IGNORECASE):
        result.mark("xml.doctype")
    if "ddeLink" in text or "dde-connection" in text or "dde-link" in text:
        result.mark("office.dde")
    if "script:event-listener" in text:
        result.mark("office.macros")
    if "macroEnabled" in text and lower == "[content_types].xml":
        result.mark("office.macro_enabled_type")
    if "macrosheet" in text.lower() and lower == "[content_types].xml":
        result.mark("office.excel4_macros")
    if "encryption-data" in text and lower == "meta-inf/manifest.xml":
        result.unreadable = "encrypted"
        result.mark("office.encrypted")
    if lower.endswith("xl/connections.xml"):
        result.mark("office.external_connection")
    if "onLoad=" in text and "customui" in lower:
        result.mark("office.macros")
    office_markup.check(data, result, strict=not lower.endswith(".vml"))


# ── compound files ───────────────────────────────────────────────────────────────────────────────


def scan_compound(document: Document, limits: Limits) -> Examination:
    """Examine a compound file."""
    import olefile

    result = _new()
    if document.size > limits.max_whole_bytes:
        result.unreadable = "over_limit"
        return result
    data = document.whole(limits)
    try:
        ole = olefile.OleFileIO(io.BytesIO(data), raise_defects=olefile.DEFECT_INCORRECT)
    except Exception as error:  # noqa: BLE001  the library raises anything on hostile input
        result.unreadable = "malformed"
        result.fail(error_code("office.compound_file", error))
        return result
    with ole:
        steps: tuple[Callable[[], None], ...] = (
            lambda: _check_encryption(data, ole, result),
            lambda: _check_streams(ole, result),
            lambda: _check_workbook(ole, result),
            lambda: office_records.check_presentation(_stream(ole, "PowerPoint Document"), result),
            lambda: office_records.check_word(_stream(ole, "WordDocument"), result),
        )
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001  contained: a failure is never clean
                result.fail(error_code("office", error))
    if not result.unreadable:
        _grade_macros(data, result)
    return result


def _check_encryption(data: bytes, ole: Any, result: Examination) -> None:
    import msoffcrypto
    from msoffcrypto.exceptions import FileFormatError

    if ole.exists("EncryptedPackage"):
        encrypted = True
    elif not any(ole.exists(name) for name in ("WordDocument", "Workbook", "PowerPoint Document")):
        return
    else:
        try:
            encrypted = msoffcrypto.OfficeFile(io.BytesIO(data)).is_encrypted()
        except FileFormatError:
            return  # neither Word, Excel nor PowerPoint: nothing to be encrypted
    if encrypted:
        result.unreadable = "encrypted"
        result.mark("office.encrypted")


def _check_streams(ole: Any, result: Examination) -> None:
    if str(ole.root.clsid).upper() == _INSTALLER_CLSID:
        result.mark("office.installer_package", found=True)
    message = ole.exists("__properties_version1.0")  # it is taken apart (`unpack.outlook`)
    for path in ole.listdir(streams=True, storages=True):
        lower = [part.lower() for part in path]
        last = lower[-1]
        if last in {"_vba_project", "vba", "_vba_project_cur"}:
            result.mark("office.macros")
        if last in {"\x01ole10native", "package"} or (lower[0] == "objectpool" and len(path) > 1):
            result.mark("office.embedded_object")
        if re.fullmatch(r"mbd[0-9a-f]{8}", lower[0]) or (last == "\x01ole" and len(path) > 1):
            result.mark("office.embedded_object")
        if last.startswith("__attach_version1.0") and not message:
            result.mark("office.outlook_attachment")


def _stream(ole: Any, name: str) -> bytes:
    if not ole.exists(name) or ole.get_size(name) > _MAX_STREAM:
        return b""
    data: bytes = ole.openstream(name).read()
    return data


def _check_workbook(ole: Any, result: Examination) -> None:
    for name in ("Workbook", "Book"):
        data = _stream(ole, name)
        if ole.exists(name) and not data:
            result.fail("office.workbook_too_large")
        office_records.check_workbook(data, result)


def _grade_macros(data: bytes, result: Examination) -> None:
    """VBA by oletools: macros are suspect; started by themselves and reaching outside, found."""
    from oletools import olevba

    try:
        parser = olevba.VBA_Parser("document", data=data, disable_pcode=True)
        try:
            if not parser.detect_vba_macros():
                return
            result.mark("office.macros")
            kinds = {kind for kind, _keyword, _description in parser.analyze_macros()}
        finally:
            parser.close()
    except Exception as error:  # noqa: BLE001  any failure means wait, not clean
        if not isinstance(error, olevba.FileOpenError):
            result.fail(error_code("office.macros", error))
        return
    if {"AutoExec", "Suspicious"} <= kinds:
        result.mark("office.automatic_macro", found=True)


# ── text forms ───────────────────────────────────────────────────────────────────────────────────


def scan_text(document: Document, limits: Limits) -> Examination:
    """Examine what is text: RTF, SYLK, web archives, flat XML, comma-separated values."""
    result = _new()
    data = document.head(min(document.size, limits.max_whole_bytes))
    if document.size > len(data):
        result.unreadable = "over_limit"
    start = data[:4096].lstrip()
    if start.startswith(b"{\\rt"):
        rich_text.check(data, result)
        return result
    text = xml.decode_head(data).replace("\0", "")
    if start.startswith(b"ID;") and re.search(r"[\r\n](O;E|NN;|C;[^\r\n]*;E)", text):
        result.mark("office.sylk_formula")
    if "editdata.mso" in text.lower() or "QWN0aXZlTWlt" in text:
        result.mark("office.macros")  # ActiveMime: macros in a web archive or flat XML
    if 'progid="Word.Document"' in text and "w:binData" in text:
        result.mark("office.embedded_object")
    for code in program_text(text):
        result.mark(code)
    if xml.looks_like_xml(data):
        office_markup.check(data, result)
    if _CODED_FILE.search(text):
        result.mark("text.encoded_file")
    if not xml.looks_like_xml(data) and _has_formula(text):
        result.mark("office.dde")
    return result


def program_text(text: str) -> list[str]:
    """Texts that a system acts on when they are opened: shortcuts, queries, settings, scripts."""
    start = text[:_ACTING_HEAD].lstrip("\ufeff\xef\xbb\xbf \t\r\n")
    return ["text.acts_when_opened"] if _ACTING.match(start) else []


def _has_formula(text: str) -> bool:
    if "|" in text and "!" in text and _FORMULA_PROGRAM.search(text):
        return True
    return _FORMULA_CALL.search(text) is not None
