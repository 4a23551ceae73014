"""What the XML of an office document fetches, starts, or takes from elsewhere.

One walk for every form the same content comes in: the parts of OOXML and ODF packages, and one-file
forms (flat OPC, flat ODF, Word 2003 XML, XML Spreadsheet 2003, XFDF). Promises: elements are known by
their local name, whatever prefix or encoding; a field's code is put together over runs, paragraphs and
nested fields, as Word does. Leaves out: binary forms, and what ordinary links to web pages lead to.

Rules: nothing here is `found`: honest documents link to other files, too. A part that is not well-formed is
said to be malformed and looked through all the same. One pass, and memory in proportion to the part.

Sources: ECMA-376 part 1, 17.16 (fields), 18.14 (external data); part 2, 9.3 (relationships); ODF 1.3 part 3;
[MS-XLSX]; Word 2003 and Excel 2003 XML reference schemas; ISO 19444-1 (XFDF).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from gateway.inspect.document import Examination, Unreadable
from gateway.inspect.formats import references
from gateway.inspect.scan import xml

if TYPE_CHECKING:
    from lxml.etree import _Element

TEMPLATE: Final = "office.external_template"
CONNECTION: Final = "office.external_connection"
_ODF: Final = "urn:oasis:names:tc:opendocument:xmlns:"
_ODF_SPACES: Final = (
    *("animation", "chart", "database", "dr3d", "drawing", "form", "meta", "office"),
    *("presentation", "script", "smil-compatible", "style", "table", "text"),
)
# Parts are taken in whole or shown in a frame: what they name is fetched by opening the document.
_TEMPLATES: Final = ("/attachedtemplate", "/frame", "/subdocument", "/afchunk")
_LINKS: Final = ("/hyperlink",)
_PROGRAM_ACTIONS: Final = ("ppaction://program", "ppaction://macro", "ppaction://ole")

# Only where there is the code of a field do the marks and the text around it matter.
_FIELD_TEXTS: Final = frozenset({"instrText", "delInstrText", "fldSimple"})
_AROUND_FIELDS: Final = frozenset({"fldChar", "t", "p"})
_MAX_NESTED: Final = 32  # fields within fields; Word takes 20
_CODE, _RESULT, _SHOWN = range(3)

Attributes = dict[str, str]


class _Fields:
    """Word's fields in document order: codes of running ones, joined over whatever cuts them."""

    def __init__(self, result: Examination) -> None:
        self._result = result
        self._loose = ""  # codes outside any field: a paragraph's own
        self._open: list[str] = []
        self._results: list[int] = []  # for each: its code, its result, or a result with text

    def begin(self) -> None:
        if len(self._open) == _MAX_NESTED:
            self._result.mark(references.FIELD)
        self._open.append("")
        self._results.append(_CODE)

    def code(self, text: str) -> None:
        if not self._open:
            self._loose = _joined(self._loose, text)
        else:
            self._open[-1] = _joined(self._open[-1], text)

    def shown(self, item: _Element) -> None:
        """Text of a result: a nested field's becomes part of the code around it."""
        if 1 < len(self._open) < _MAX_NESTED and self._results[-1] and self._results[-2] == _CODE:
            self._results[-1] = _SHOWN
            self._open[-2] = _joined(self._open[-2], _text(item))

    def separate(self) -> None:
        if self._open:
            self._results[-1] = max(self._results[-1], _RESULT)

    def end(self) -> None:
        if not self._open:
            return
        code = self._open.pop()
        result = self._results.pop()
        self.judge(code)
        if result != _SHOWN and 0 < len(self._open) < _MAX_NESTED:
            self.code(references.written(code))

    def paragraph(self) -> None:
        self.judge(self._loose)
        self._loose = ""

    def finish(self) -> None:
        self.paragraph()
        while self._open:
            self.end()

    def judge(self, code: str) -> None:
        for found in references.field_codes(code) if code else ():
            self._result.mark(found)


def _joined(before: str, text: str) -> str:
    if len(before) >= references.FIELD_LENGTH:
        return before
    return (before + text[: references.FIELD_LENGTH + 1]) if before.strip() else text.lstrip()


def check(data: bytes, result: Examination, *, strict: bool = True) -> None:
    """Look through one part or document.

    Args:
        result: takes the codes; `unreadable` becomes "malformed" where the XML is not well-formed.
        strict: False for parts that office programs write like HTML (VML): these are looked through only.
    """
    try:
        root = xml.parse(data)
    except Unreadable as error:
        if strict:
            result.unreadable = result.unreadable or error.reason
        broken = xml.parse_broken(data)
        if broken is not None:
            _walk(((_local(item.tag), item) for item in broken.iter("*")), result)
        return
    _walk(_chosen(root, data), result)


def check_sheet(chunks: Iterable[bytes], result: Examination) -> None:
    """Look through the formulas of a sheet that is too large to hold (raises Unreadable)."""
    fields = _Fields(result)
    for item in xml.stream(chunks, ("f", "formula", "formula1", "formula2"), "row"):
        if _local(item.tag) != "row":
            _formula(item, fields, result)


def _chosen(root: _Element, data: bytes) -> Iterator[tuple[str, _Element]]:
    """The elements that matter, in document order.

    The choice is made outside Python: a large text without a field has millions of elements to pass over.
    """
    names = set(_LOOKS)
    coding = (root.getroottree().docinfo.encoding or "UTF-8").upper()
    if coding in {"UTF-8", "US-ASCII", "ASCII"}:
        names = {name for name in _LOOKS if name.encode() in data}
    if not names & _FIELD_TEXTS:
        names -= _AROUND_FIELDS
    patterns = [f"{{*}}{name}" for name in names]
    if _ODF.encode() in data or coding not in {"UTF-8", "US-ASCII", "ASCII"}:
        patterns += [f"{{{_ODF}{space}:1.0}}*" for space in _ODF_SPACES]
    for element in root.iter(*patterns) if patterns else ():
        yield _local(element.tag), element


def _walk(elements: Iterable[tuple[str, _Element]], result: Examination) -> None:
    fields = _Fields(result)
    for name, element in elements:
        look = _LOOKS.get(name)
        if look is not None:
            look(element, fields, result)
        if _ODF in str(element.tag):
            _odf_link(name, element, result)
    fields.finish()


def _local(name: object) -> str:
    """A name without its namespace; in what is not well-formed, without its prefix."""
    return str(name).rpartition("}")[2].rpartition(":")[2]


def attributes(element: _Element) -> Attributes:
    """The attributes of an element by local name."""
    return {_local(name): str(value) for name, value in element.attrib.items()}


def _text(item: _Element) -> str:
    """The text of an element itself. What other elements in it say is theirs."""
    text = item.text or ""
    return text + "".join(child.tail or "" for child in item) if len(item) else text


# ── Word ─────────────────────────────────────────────────────────────────────────────────────────


def _field_char(item: _Element, fields: _Fields, _result: Examination) -> None:
    step = attributes(item).get("fldCharType", "").strip().lower()
    if step == "begin":
        fields.begin()
    elif step == "separate":
        fields.separate()
    elif step == "end":
        fields.end()


def _field_text(item: _Element, fields: _Fields, _result: Examination) -> None:
    fields.code(_text(item))


def _shown_text(item: _Element, fields: _Fields, _result: Examination) -> None:
    fields.shown(item)


def _simple_field(item: _Element, fields: _Fields, _result: Examination) -> None:
    fields.judge(attributes(item).get("instr", ""))


def _paragraph(_item: _Element, fields: _Fields, _result: Examination) -> None:
    fields.paragraph()


def _named_file(item: _Element, _fields: _Fields, result: Examination) -> None:
    """Word 2003 writes a path where OOXML refers to a relationship."""
    if references.place(attributes(item).get("val", "")) in {"web", "outside"}:
        result.mark(TEMPLATE)


def _ole_object(item: _Element, _fields: _Fields, result: Examination) -> None:
    given = attributes(item)
    if given.get("Type", "").lower() == "link" or "link" in given:
        result.mark(references.LINK)


# ── relationships, in a part of their own or in one file ─────────────────────────────────────────


def _relationship(item: _Element, _fields: _Fields, result: Examination) -> None:
    given = attributes(item)
    kind, mode = given.get("Type", "").lower(), given.get("TargetMode", "").strip().lower()
    where = references.place(given.get("Target", ""))
    away = mode == "external" or where in {"web", "outside"}
    if (away and not kind.endswith(_LINKS)) or where == "outside":
        result.mark(references.LINK)
    if away and kind.endswith(_TEMPLATES):
        result.mark(TEMPLATE)
    if kind.endswith("/afchunk"):
        result.mark("office.embedded_object")  # a document of another format that is taken in


def _flat_part(item: _Element, _fields: _Fields, result: Examination) -> None:
    if attributes(item).get("name", "").lower().endswith("vbaproject.bin"):
        result.mark("office.macros")


# ── workbooks ────────────────────────────────────────────────────────────────────────────────────


def _formula(item: _Element, _fields: _Fields, result: Examination) -> None:
    for code in references.formula_codes(_text(item)):
        result.mark(code)


def _formula_or_file(item: _Element, fields: _Fields, result: Examination) -> None:
    """`f` is a cell's formula, and in XFDF the form that the answers belong to."""
    _formula(item, fields, result)
    _linked(item, fields, result)


def _cell(item: _Element, _fields: _Fields, result: Examination) -> None:
    """A cell or name that has its formula as an attribute: ODF, and Excel 2003."""
    given = attributes(item)
    for name in ("formula", "Formula", "RefersTo", "expression"):
        for code in references.formula_codes(given.get(name, "")):
            result.mark(code)
    if references.place(given.get("HRef", "")) == "outside":
        result.mark(references.LINK)


def _dde(_item: _Element, _fields: _Fields, result: Examination) -> None:
    result.mark(references.DDE)


def _other_book(_item: _Element, _fields: _Fields, result: Examination) -> None:
    result.mark(references.LINK)


def _query(_item: _Element, _fields: _Fields, result: Examination) -> None:
    result.mark(CONNECTION)


def _linked(item: _Element, _fields: _Fields, result: Examination) -> None:
    """An address in the element itself: Word 2003's links, VML's pictures, XFDF's file."""
    given = attributes(item)
    fetched = [references.place(given.get(key, "")) for key in ("src", "href")]
    if "web" in fetched or "outside" in [*fetched, references.place(given.get("dest", ""))]:
        result.mark(references.LINK)


def _shape_action(item: _Element, _fields: _Fields, result: Examination) -> None:
    if attributes(item).get("action", "").strip().lower().startswith(_PROGRAM_ACTIONS):
        result.mark("office.program_action")


def _script(_item: _Element, _fields: _Fields, result: Examination) -> None:
    result.mark("xml.active_content")


# ── OpenDocument ─────────────────────────────────────────────────────────────────────────────────


def _odf_link(name: str, item: _Element, result: Examination) -> None:
    target = attributes(item).get("href", "")
    if not target:
        return
    where = references.place(target)
    if where == "outside" or (where == "web" and name != "a"):
        # What a person clicks may lead to a page; everything else is fetched by opening the document.
        result.mark(references.LINK)


_Look = Callable[["_Element", _Fields, Examination], None]
_LOOKS: Final[dict[str, _Look]] = {
    "fldChar": _field_char,
    "instrText": _field_text,
    "delInstrText": _field_text,
    "t": _shown_text,
    "fldSimple": _simple_field,
    "p": _paragraph,
    **dict.fromkeys(("attachedTemplate", "sourceFileName", "subDoc"), _named_file),
    **dict.fromkeys(("OLEObject", "oleObject"), _ole_object),
    "Relationship": _relationship,
    "part": _flat_part,
    "f": _formula_or_file,
    **dict.fromkeys(("formula", "formula1", "formula2", "definedName"), _formula),
    **dict.fromkeys(("calculatedColumnFormula", "totalsRowFormula"), _formula),
    **dict.fromkeys(("Formula", "Formula1", "Formula2"), _formula),
    **dict.fromkeys(("Cell", "NamedRange", "named-expression"), _cell),
    **dict.fromkeys(("table-cell", "covered-table-cell"), _cell),
    **dict.fromkeys(("ddeLink", "dde-link", "dde-source", "dde-connection-decl"), _dde),
    **dict.fromkeys(("oleLink", "SupBook", "Supbook"), _other_book),
    "QueryTable": _query,
    **dict.fromkeys(("hlink", "imagedata"), _linked),
    **dict.fromkeys(("hlinkClick", "hlinkHover", "hlinkMouseOver"), _shape_action),
    **dict.fromkeys(("Launch", "JavaScript"), _script),
}
