"""Where a link leads, and what a field or a formula would fetch or start: judged from its words alone.

Promises: pure functions over one string, linear in its length. What a person must click and what leads
to a web page or a mail address is ordinary; a path on another computer (UNC), a file, or a scheme that
starts a program is not. Leaves out: where the string stood, which the callers know.

Rules: fields and functions go by the names files store, which are English in every language version.
Words in quotation marks are text, so that "please CALL (0555)" is no call. What readers ignore is ignored
(blanks within a scheme, escapes of a path); what they join is joined (`"\\" & "\\host"`).

Sources: ECMA-376 part 1, 17.16.5 (field definitions) and 18.17 (formulas); ODF 1.3 part 4 (OpenFormula).
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Final, Literal

Place = Literal["inside", "web", "file", "outside"]

DDE: Final = "office.dde"
LINK: Final = "office.external_link"
FIELD: Final = "office.fetching_field"
FORMULA: Final = "office.reaching_formula"

FIELD_LENGTH: Final = 4096  # characters of a field's code that are judged; Word itself takes fewer
_WEB: Final = frozenset({"http", "https", "ftp", "ftps", "sftp"})
_PLAIN: Final = frozenset(
    {
        *("mailto", "tel", "sms", "callto", "sip", "sips", "fax", "news", "nntp", "geo"),
        *("urn", "doi", "isbn", "cid", "mid", "about", "info", "tag"),
    }
)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,60}):")
_BLANK: Final = re.compile(r"[\x00-\x20\x7f\xa0\u200b-\u200f\ufeff]+")

_FIELD_NAME: Final = re.compile(r"[\s\"'\u201c\u201d\x00-\x1f]*+([A-Za-z]+)")
_FIELD_WORD: Final = re.compile(r"\"([^\"]*)\"|\u201c([^\u201d]*)\u201d|([^\s\"\u201c]+)")
_SPELLED: Final = re.compile(r"\b\d{2,3}\b")
_QUOTE: Final = re.compile(r"\bQUOTE\b", re.IGNORECASE)
# Each brings in what stands somewhere else, whatever it names.
_FETCHING: Final = frozenset({"INCLUDETEXT", "INCLUDE", "RD", "DATABASE"})
_PICTURES: Final = frozenset({"INCLUDEPICTURE", "IMPORT"})

_CELL_TEXT: Final = re.compile(r"\"(?:[^\"]++|\"\")*+\"|'(?:[^']++|'')*+'")
_JOIN: Final = re.compile(r"\"[ \t\r\n]*+&[ \t\r\n]*+\"")
_CALLED: Final = re.compile(
    r"(?<![A-Za-z0-9_])(?:WEBSERVICE|IMAGE|RTD|FILTERXML|CALL|REGISTER|REGISTER\.ID|EXEC|DDE|DDEINITIATE"
    r"|INITIATE|SQL\.REQUEST|IMPORTXML|IMPORTDATA|IMPORTHTML|IMPORTFEED|IMPORTRANGE)\s{0,20}\(",
    re.IGNORECASE,
)
_HYPERLINK: Final = re.compile(r"(?<![A-Za-z0-9_])HYPERLINK\s{0,20}\(", re.IGNORECASE)
# program|'arguments'!item; quoted pieces are empty here.
_CHANNEL: Final = re.compile(r"\|\s{0,20}(?:''|[^\s|!'\"{};()]{1,200}+)\s{0,20}!")


def place(target: str) -> Place:
    """Where the target of a link lies.

    Returns:
        "inside" (this document, a neighbour, a mail address), "web", "file" (a path with a drive), or
        "outside": another computer's files, or a scheme that opens a file or starts a program.
    """
    text = _BLANK.sub("", target[:4096])
    if "%" in text:
        text = urllib.parse.unquote(text, errors="replace")
    if re.match(r"[\\/]{2}", text):
        return "outside"
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[1].lower() in _PLAIN:
        return "inside"
    if len(scheme[1]) == 1:
        return "file"
    return "web" if scheme[1].lower() in _WEB else "outside"


def field_codes(code: str) -> list[str]:
    """The finding codes for a Word field, from its field code (ECMA-376 part 1, 17.16.5)."""
    code = code.lstrip()[:FIELD_LENGTH]
    named = _FIELD_NAME.match(code)
    if named is None:
        return []
    name = named[1].upper()
    if name.startswith("DDE") or spelled(code).upper().find("DDE") >= 0:
        return [DDE]
    if name in _FETCHING:
        return [FIELD]
    if name == "LINK":
        return [LINK]
    rest = code[named.end() :]
    places = {place(next(filter(None, word), "")) for word in _FIELD_WORD.findall(rest)}
    if name in _PICTURES:
        return [FIELD] if places & {"web", "outside"} else []
    if name == "HYPERLINK":
        return [LINK] if "outside" in places else []
    # Any other that names a path on another computer, such as an argument of a nested field.
    return [LINK] if re.search(r"(?:^|[\s\"'\u201c])[\\/]{2,}+[\w.?-]", rest) else []


def spelled(code: str) -> str:
    """What a `QUOTE` field writes by character codes: {QUOTE 68 68 69} is "DDE"."""
    if not _QUOTE.search(code):
        return ""
    return "".join(chr(int(number)) for number in _SPELLED.findall(code) if int(number) < 256)


def written(code: str) -> str:
    """What a `QUOTE` field leaves in the code of the field around it."""
    quote = _QUOTE.search(code)
    if quote is None:
        return ""
    return spelled(code) or code[quote.end() :].replace('"', "").strip()


def formula_codes(formula: str) -> list[str]:
    """The finding codes for a cell's formula, in the notation of Excel or OpenFormula."""
    codes = []
    bare = _CELL_TEXT.sub(lambda match: match[0][0] * 2, formula)
    if _CALLED.search(bare):
        codes.append(FORMULA)
    if _CHANNEL.search(bare):
        codes.append(DDE)
    quoted = _CELL_TEXT.findall(formula)
    if any(place(text[1:]) in {"web", "outside"} for text in quoted if text[0] == "'"):
        codes.append(LINK)  # a cell of a workbook that lies elsewhere
    elif _HYPERLINK.search(bare):
        joined = _CELL_TEXT.findall(_JOIN.sub("", formula))
        if any(place(text[1:-1]) == "outside" for text in joined if text[0] == '"'):
            codes.append(LINK)
    return codes
