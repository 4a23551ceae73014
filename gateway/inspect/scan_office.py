"""Active content of office files: macros, DDE, links to other places, objects inside.

Three families: zip packages (OOXML, ODF, OFD), compound files (Word, Excel, PowerPoint 97–2003,
Outlook), and text forms (RTF, SYLK, MHT, flat XML, CSV formulas). oletools and msoffcrypto do what
they do well (VBA, encryption, RTF objects); what they miss is done here: Excel 4 macro sheets
(extract_macros passes over them since 0.60), DDE fields, PowerPoint's embedded objects.

Rules: macros that start by themselves and reach outside are `found`; any macro, DDE, external link
or embedded object is `suspect`. An exception in a library is a failure, never clean. Codes only.

Sources: ECMA-376 part 2 (packages, relationships), [MS-XLS] 2.4.28 BoundSheet8, [MS-PPT] 2.3.1
record header and 2.10.34 ExOleObjStg, [MS-DOC] 2.8.25 (field characters), ODF 1.3 part 2.
"""

from __future__ import annotations

import importlib.metadata
import io
import re
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from gateway.inspect import archive, scan_xml
from gateway.inspect.document import MIB, Document, Examination, Limits, Unreadable, error_code

NAME: Final = "office"
OLE_MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MAX_MEMBERS: Final = 20_000
_MAX_PART: Final = 16 * MIB
_MAX_STREAM: Final = 32 * MIB
_MAX_RECORDS: Final = 500_000
_INSTALLER_CLSID: Final = "000C1084-0000-0000-C000-000000000046"
_BIFF_BOUNDSHEET: Final = 0x85
_BIFF_SHEET_MACRO: Final = b"\x01"
_BIFF_SUPBOOK: Final = 0x01AE
_BIFF_SUPBOOK_INSIDE: Final = (b"\x01\x04", b"\x01\x3a", b"")  # this workbook, an add-in, cut off
_PPT_CONTAINER: Final = 0xF
_PPT_OLE_STORAGE: Final = 0x1011
_PPT_OLE_LINK: Final = 0x0FCE
_DDE_FIELD: Final = re.compile(
    rb"\x13\s*DDE(?:AUTO)?\b|\x13\x00(?:\s\x00)*D\x00D\x00E\x00", re.IGNORECASE
)
_DDE_TEXT: Final = re.compile(r"(?:^|>)\s*[\"']?\s*DDE(?:AUTO)?\s", re.IGNORECASE)
# A cell that hands a command to a program (=cmd|'/C …'!A0), and functions that reach outside.
_FORMULA_PROGRAM: Final = re.compile(
    r"(?:^|[,;\t|\r\n])[\s\"']{0,20}[=+\-@][^\r\n|]{0,400}\|[^\r\n|!]{0,400}!"
)
_FORMULA_CALL: Final = re.compile(
    r"[=+\-@]\s{0,20}(?:DDE|WEBSERVICE|IMPORTXML|IMPORTDATA|CALL)\s{0,20}\(", re.IGNORECASE
)
_CODED_FILE: Final = re.compile(
    r"^begin(?:-base64)? [0-7]{3,4} \S|^\(This file must be converted with BinHex", re.MULTILINE
)  # uuencode and BinHex: another file written as text
_HYPERLINK: Final = "/hyperlink"
_OUTSIDE: Final = re.compile(r"(\\\\|file:|javascript:|vbscript:|ms-\w+:)", re.IGNORECASE)


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
    opened: archive.Archive, limits: Limits, scan_member: Callable[[bytes], list[tuple[str, bool]]]
) -> Examination:
    """Examine an OOXML, ODF or OFD package.

    Args:
        scan_member: pattern rules over one expanded member: (rule name, whether it means `found`).
    """
    result = _new()
    for code in opened.codes:
        result.mark(code)
    reason = archive.worst(opened)
    if reason is not None:
        result.unreadable = reason
    for name in opened.names():
        _check_name(name, result)
    for member in opened.members:
        if member.file_size > _MAX_PART:
            # Large members are media, or a sheet: the raw scan and the antivirus saw the file.
            if not member.filename.lower().startswith(
                ("xl/worksheets/", "word/media/", "ppt/media/")
            ):
                result.mark("office.large_member")
            continue
        try:
            data = b"".join(opened.chunks(member))
        except Unreadable as error:
            result.unreadable = error.reason
            continue
        for rule, found in scan_member(data):
            result.mark(f"rule:{rule}", found=found)
        _check_member(member.filename, data, result)
    if "office.macros" in result.suspect:
        macros = opened.read(_vba_name(opened), min(_MAX_STREAM, limits.max_whole_bytes))
        if macros is not None:
            _grade_macros(macros, result)
    return result


def _vba_name(opened: archive.Archive) -> str:
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


def _check_member(name: str, data: bytes, result: Examination) -> None:
    lower = name.lower()
    if is_compound(data[:8]) and not lower.endswith("vbaproject.bin"):
        result.mark("office.embedded_object")
    if lower.endswith(".rels"):
        _check_relationships(data, result)
        return
    if not lower.endswith((".xml", ".rdf", ".vml")):
        if lower.endswith("connections.bin"):
            result.mark("office.external_connection")
        return
    text = data.decode("utf-8", "replace") if data[:2] not in {b"\xff\xfe", b"\xfe\xff"} else ""
    text = text or scan_xml.decode_head(data)
    if re.search(r"<!\s*(DOCTYPE|ENTITY)\b", text, re.IGNORECASE):
        result.mark("xml.doctype")
    if "ddeLink" in text or "dde-connection" in text or "dde-link" in text:
        result.mark("office.dde")
    if "instrText" in text or "fldSimple" in text:
        _check_fields(text, result)
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


def _check_fields(text: str, result: Examination) -> None:
    """Word fields: the code may be cut over many runs, so it is joined per paragraph."""
    for paragraph in re.split(r"</w:p>", text)[:200_000]:
        pieces = re.findall(r"<w:instrText[^>]*>([^<]*)<", paragraph)
        pieces += re.findall(r"<w:fldSimple[^>]*w:instr=\"([^\"]*)\"", paragraph)
        if pieces and (_DDE_TEXT.search("".join(pieces)) or _quoted_dde(pieces)):
            result.mark("office.dde")


def _quoted_dde(pieces: list[str]) -> bool:
    """`{QUOTE 68 68 69}` writes "DDE" by its character codes."""
    numbers = re.findall(r"\b\d{2,3}\b", " ".join(pieces))
    spelled = "".join(chr(int(n)) for n in numbers if int(n) < 128)
    return "QUOTE" in " ".join(pieces).upper() and "DDE" in spelled.upper()


def _check_relationships(data: bytes, result: Examination) -> None:
    try:
        root = scan_xml.parse(data)
    except Unreadable:
        result.unreadable = "malformed"
        return
    for item in root:
        kind, mode = item.get("Type", ""), item.get("TargetMode", "")
        target = item.get("Target", "")
        if (mode == "External" and not kind.endswith(_HYPERLINK)) or (
            mode == "External"
            and re.match(r"(\\\\|file:|javascript:|vbscript:|ms-\w+:)", target, re.IGNORECASE)
        ):
            result.mark("office.external_link")
        if kind.endswith(("/attachedTemplate", "/frame", "/subDocument")) and mode == "External":
            result.mark("office.external_template")


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
            lambda: _check_presentation(ole, result),
            lambda: _check_word(ole, result),
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
    for path in ole.listdir(streams=True, storages=True):
        lower = [part.lower() for part in path]
        last = lower[-1]
        if last in {"_vba_project", "vba", "_vba_project_cur"}:
            result.mark("office.macros")
        if last in {"\x01ole10native", "package"} or (lower[0] == "objectpool" and len(path) > 1):
            result.mark("office.embedded_object")
        if re.fullmatch(r"mbd[0-9a-f]{8}", lower[0]) or (last == "\x01ole" and len(path) > 1):
            result.mark("office.embedded_object")
        if last == "__properties_version1.0" and len(path) == 1:
            result.mark("office.outlook_message")  # its attachments are not opened here
        if last.startswith("__attach_version1.0"):
            result.mark("office.outlook_attachment")


def _stream(ole: Any, name: str) -> bytes:
    if not ole.exists(name) or ole.get_size(name) > _MAX_STREAM:
        return b""
    data: bytes = ole.openstream(name).read()
    return data


def _check_workbook(ole: Any, result: Examination) -> None:
    """Excel 4 macro sheets are sheets of type 1 in the workbook's list ([MS-XLS] BoundSheet8)."""
    for name in ("Workbook", "Book"):
        data = _stream(ole, name)
        for kind, payload in _biff_records(data):
            if kind == _BIFF_BOUNDSHEET and payload[5:6] == _BIFF_SHEET_MACRO:
                result.mark("office.excel4_macros")
            elif kind == _BIFF_SUPBOOK and payload[2:4] not in _BIFF_SUPBOOK_INSIDE:
                result.mark("office.external_link")  # another workbook, DDE or OLE
        if ole.exists(name) and not data:
            result.fail("office.workbook_too_large")


def _biff_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for _count in range(_MAX_RECORDS):
        if offset + 4 > len(data):
            return
        kind, length = struct.unpack_from("<HH", data, offset)
        yield kind, data[offset + 4 : offset + 4 + length]
        offset += 4 + length


def _check_presentation(ole: Any, result: Examination) -> None:
    data = _stream(ole, "PowerPoint Document")
    stack = [(0, len(data))]
    for _count in range(_MAX_RECORDS):
        if not stack:
            return
        offset, end = stack.pop()
        if offset + 8 > end:
            continue
        version, kind, length = struct.unpack_from("<HHI", data, offset)
        stack.append((offset + 8 + length, end))
        if version & 0xF == _PPT_CONTAINER:
            stack.append((offset + 8, min(offset + 8 + length, end)))
        if kind in {_PPT_OLE_STORAGE, _PPT_OLE_LINK}:
            result.mark("office.embedded_object")
    result.fail("office.too_many_records")


def _check_word(ole: Any, result: Examination) -> None:
    if _DDE_FIELD.search(_stream(ole, "WordDocument")):
        result.mark("office.dde")


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
        _check_rich_text(data, result)
        return result
    text = scan_xml.decode_head(data).replace("\0", "")
    if start.startswith(b"ID;") and re.search(r"[\r\n](O;E|NN;|C;[^\r\n]*;E)", text):
        result.mark("office.sylk_formula")
    if "editdata.mso" in text.lower() or "QWN0aXZlTWlt" in text:
        result.mark("office.macros")  # ActiveMime: macros in a web archive or flat XML
    if 'progid="Word.Document"' in text and "w:binData" in text:
        result.mark("office.embedded_object")
    if _CODED_FILE.search(text):
        result.mark("text.encoded_file")
    if not scan_xml.looks_like_xml(data) and _has_formula(text):
        result.mark("office.dde")
    return result


def _has_formula(text: str) -> bool:
    if "|" in text and "!" in text and _FORMULA_PROGRAM.search(text):
        return True
    return _FORMULA_CALL.search(text) is not None


def _check_rich_text(data: bytes, result: Examination) -> None:
    from oletools import rtfobj

    try:
        parser = rtfobj.RtfObjParser(data)
        parser.parse()
    except Exception as error:  # noqa: BLE001  any failure means wait, not clean
        result.fail(error_code("office.rich_text", error))
        return
    if parser.objects:
        result.mark("office.embedded_object")
    if re.search(rb"\\\*?\\?fldinst[^}]{0,400}DDE", data, re.IGNORECASE):
        result.mark("office.dde")
    if re.search(rb"\\\*\\template\b", data):
        result.mark("office.external_template")
