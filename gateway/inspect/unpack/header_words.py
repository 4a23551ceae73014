"""Names and headers in all the ways that mail programs write them, decoded to text. Pure, and never fails.

Promises: encoded words (RFC 2047), also where they may not stand (in parameters, quoted, with a suffix behind
them, cut in the middle of a character); parameters in the extended form (RFC 2231), continued, with a charset
that nobody knows, none, or raw bytes in its place; bytes without any statement; percent signs without any.
Leaves out: what a name may be (`gateway.names.safe_name`).

Rules: what a charset says is believed if the bytes fit it; GB 2312 is read as GB 18030, which holds it. Of an
extended and a plain name the extended one counts: the plain one is for programs that can't read it.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import email.message
import quopri
import re
import urllib.parse
from typing import Final

from gateway.names import decode_name

_WORD: Final = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\r\n]{0,2000})\?=")
_BLANK: Final = re.compile(r"\s*")
_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2}){2}")
_SUPERSETS: Final = {"gb2312": "gb18030", "gbk": "gb18030", "ks_c_5601-1987": "cp949"}

_SUFFIXES: Final = {
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "application/xml": ".xml",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-outlook": ".msg",
    "application/ms-tnef": ".dat",
    "application/ofd": ".ofd",
    "application/rtf": ".rtf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "text/plain": ".txt",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/xml": ".xml",
    "text/calendar": ".ics",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/tiff": ".tif",
    "image/heic": ".heic",
    "message/rfc822": ".eml",
}


def decode_words(text: str) -> str:
    """A text with its encoded words decoded."""
    out: list[str] = []
    held: tuple[str, bytes] | None = None
    position = 0
    for word in _WORD.finditer(text):
        between = text[position : word.start()]
        charset = (
            word[1].partition("*")[0].lower()
        )  # with a language behind it: RFC 2231, section 5
        data = _word_bytes(word[2], word[3])
        adjacent = held is not None and _BLANK.fullmatch(between)
        if held is not None and adjacent and held[0] == charset:
            held = (charset, held[1] + data)  # a character may be cut between the two
        else:
            out.append(_text(held))
            if not adjacent:
                out.append(between)
            held = (charset, data)
        position = word.end()
    out += [_text(held), text[position:]]
    return "".join(out)


def file_name(part: email.message.Message) -> str:
    """The name of a part: text, with bytes that nobody states as surrogate escapes; "" for none."""
    for header, parameter in (("content-disposition", "filename"), ("content-type", "name")):
        found: list[object] = []
        try:
            for name, value in part.get_params([], header):
                if name.lower() == parameter:
                    found.append(value)
        except (ValueError, LookupError, TypeError, AttributeError):
            return "attachment"
        extended = next((each for each in found if isinstance(each, tuple)), None)
        if extended is not None:
            return _extended(extended)
        if found and str(found[0]).strip():
            return _unescaped(str(found[0]))
    return ""


def suffix_of(media_type: str) -> str:
    """What a file of a type is called in the end, where it has no name; "" if nobody knows."""
    return _SUFFIXES.get(media_type.lower(), "")


def _word_bytes(coding: str, text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if coding in "qQ":
        return quopri.decodestring(data, header=True)
    kept = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
    if len(kept) % 4 == 1:
        kept = kept[:-1]
    try:
        return base64.b64decode(kept + b"=" * (-len(kept) % 4))
    except binascii.Error:
        return data


def _text(held: tuple[str, bytes] | None) -> str:
    return "" if held is None else _decoded(held[1], held[0])


def _decoded(data: bytes, charset: str) -> str:
    charset = charset.strip().lower()
    try:
        return data.decode(codecs.lookup(_SUPERSETS.get(charset, charset)).name)
    except (LookupError, ValueError):
        return decode_name(data)


def _extended(value: tuple[object, ...]) -> str:
    """A parameter of RFC 2231: its charset, its language, and its bytes as the library gives them."""
    charset, _language, text = value
    data = b"".join(_byte(each) for each in str(text))
    return _unescaped(decode_words(_decoded(data, str(charset or ""))))


def _byte(character: str) -> bytes:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00])
    return bytes([code]) if code < 0x100 else character.encode("utf-8", "replace")


def _unescaped(text: str) -> str:
    """A plain name whose maker wrote it as part of an address: only if that gives text that is not ASCII."""
    if not text.isascii() or not _PERCENT.search(text):
        return text
    try:
        found = urllib.parse.unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
    return text if found.isascii() else found
