r"""Rich text: fields put together over the groups that cut them, templates, and objects.

Promises: the code of a field is read as Word reads it: over groups and formatting, with escaped characters,
numbers of characters and binary runs skipped. One pass. Leaves out: what objects hold (oletools finds
them), the text itself.

Rules: codes only; a failure of the library is a failure, never clean.
Source: Rich Text Format Specification 1.9.1, "Fields", "Document Formatting Properties".
"""

from __future__ import annotations

import re
from typing import Final

from gateway.inspect.document import Examination, error_code
from gateway.inspect.formats import references

_TOKEN: Final = re.compile(
    rb"\\'([0-9A-Fa-f]{2})|\\([A-Za-z]{1,32})(-?\d{1,10})? ?|\\(.)|([{}])|([^\\{}]+)", re.DOTALL
)
_REMOTE_WORDS: Final = frozenset({"template", "nextfile", "subdocument"})


def check(data: bytes, result: Examination) -> None:
    """Look through a rich text document."""
    from oletools import rtfobj

    try:
        parser = rtfobj.RtfObjParser(data)
        parser.parse()
    except Exception as error:  # noqa: BLE001  any failure means wait, not clean
        result.fail(error_code("office.rich_text", error))
        return
    if parser.objects:
        result.mark("office.embedded_object")
    _check_fields(data, result)


def _check_fields(data: bytes, result: Examination) -> None:
    depth = 0
    inside: list[int] = []  # depths of the groups whose text is a field's code
    codes: list[str] = []
    at = 0
    skip = 0  # characters that only readers without Unicode show
    while (token := _TOKEN.match(data, at)) is not None:
        at = token.end()
        coded, word, number, symbol, brace, text = token.groups()
        piece = ""
        if brace == b"{":
            depth += 1
        elif brace == b"}":
            if inside and inside[-1] == depth:
                inside.pop()
                _judge(codes.pop(), result)
            depth -= 1
        elif word is not None:
            name = word.decode("ascii")
            if name == "bin":
                at += max(0, int(number or 0))
            elif name == "fldinst":
                if not inside or inside[-1] != depth:
                    inside.append(depth)
                    codes.append("")
            elif name in _REMOTE_WORDS:
                result.mark("office.external_template")
            elif name == "u" and number is not None:
                piece, skip = chr(int(number) % 65536), 1
        elif coded is not None:
            piece, skip = ("", skip - 1) if skip else (chr(int(coded, 16)), 0)
        elif symbol is not None:
            # A line end after a backslash is a paragraph; a star only says that the word may be ignored.
            piece = symbol.decode("latin-1") if symbol in b"\\{}" else ""
        elif text is not None:
            piece = text.decode("latin-1").replace("\r", "").replace("\n", "")
            piece, skip = piece[skip:], max(0, skip - len(piece))
        if codes and piece and len(codes[-1]) < references.FIELD_LENGTH:
            codes[-1] = (codes[-1] + piece[: references.FIELD_LENGTH]).lstrip()
    for code in codes:
        _judge(code, result)


def _judge(code: str, result: Examination) -> None:
    for found in references.field_codes(code):
        result.mark(found)
