"""Reads enough of a document to say what it is: its first text, and its structure if it has one.

Promises: bounded pages, rows and characters, whatever the file; encodings are guessed from the bytes
and never trusted from a name. Each page, sheet or slide stays a section of its own, and far more of them
are read than for the class: what is sensitive may stand on the last one. What was not read is said.
Leaves out: OCR, layout, old binary Word and PowerPoint text. Nothing read here is kept beyond the facts a
classification names.

Rules: parsers see the original bytes; a parser's exception passes to the caller, which contains it.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from gateway.inspect.classify import sheet_extent
from gateway.inspect.document import MIB, Document, Limits, Unreadable
from gateway.inspect.formats import invoices as structure
from gateway.inspect.formats import statements
from gateway.inspect.scan import xml

if TYPE_CHECKING:
    from lxml.etree import _Element
    from pypdfium2 import PdfDocument
    from python_calamine import CalamineWorkbook

    from gateway.inspect.formats.zip_layout import Archive

_MAX_ROWS: Final = 60
_MAX_SHEETS: Final = 6
_MAX_CELL: Final = 200
_MAX_COLUMNS: Final = 60
_MAX_SLIDES: Final = 4
# What a word processor prints around its pages, and what it keeps beside them.
_BESIDE: Final = r"word/(?:header|footer|footnotes|endnotes|comments)\d{0,3}\.xml"
_MAX_MEMBER: Final = 16 * MIB
_SAMPLE: Final = 64 * 1024
_SECTION: Final = 4000  # characters that every page, sheet or slide may have
# All sections together, in texts of the length that is read for the class.
_SECTIONS_TEXT: Final = 20
_SECTION_CELLS: Final = 400_000
_MAX_ELEMENTS: Final = 400_000
_MAX_LINE: Final = 1000
# Long runs of combining marks take the square of their length to put in order (UAX #15, section 13).
_MOST_MARKS: Final = 30
_MARKS: Final = re.compile(
    "["
    + "".join(chr(code) for code in range(0x300, 0x1F000) if unicodedata.combining(chr(code)))
    + "]{31,}"
)
_W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_SS: Final = "{urn:schemas-microsoft-com:office:spreadsheet}"
_A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_T: Final = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


@dataclass(slots=True)
class Reading:
    """What was read: normalised text from the beginning, and a structure if one was recognised.

    `sections`: the text of every page, sheet or slide, or nothing where the text is the only one. `whole`: no
    section was left out. `pages`: the structure came with pages that people read, and that may say otherwise.
    `parts`: documents that were taken out of it.
    """

    text: str = ""
    structure: structure.Structure | None = None
    sections: list[str] = field(default_factory=list)
    whole: bool = True
    pages: bool = False
    parts: int = 0


class _Sections:
    """Collects sections within what may be read, and notes what is left out."""

    def __init__(self, limits: Limits, count: int) -> None:
        self._left = limits.max_sections
        # A long section takes nothing from those behind it.
        self.room = max(_SECTION, _SECTIONS_TEXT * limits.max_text // max(1, count))
        self.texts: list[str] = []
        self.whole = True

    def add(self, text: str) -> bool:
        """Take a section; False when there is no room for another."""
        if self._left <= 0:
            self.whole = False
            return False
        self._left -= 1
        if len(text) > self.room:
            self.whole = False
        self.texts.append(_normal(text[: self.room]))
        return True


def read_pdf(document: Document, limits: Limits, embedded: list[tuple[str, bytes]]) -> Reading:
    """The text of the first pages, and the invoice of an embedded XML (Factur-X)."""
    import pypdfium2

    reading = Reading(pages=True)
    for _name, content in embedded:
        with contextlib.suppress(Unreadable):
            reading.structure = structure.read_tree(xml.parse(content))
        if reading.structure is not None:
            break
    pieces: list[str] = []
    room = limits.max_text
    with contextlib.closing(pypdfium2.PdfDocument(document.stream())) as pdf:
        sections = _Sections(limits, len(pdf))
        for index in range(len(pdf)):
            try:
                text = _page_text(pdf, index, max(room, sections.room))
            except pypdfium2.PdfiumError:
                if index < limits.max_pages:
                    raise
                sections.whole = False
                continue
            if not sections.add(text):
                break
            if index < limits.max_pages and room > 0:
                pieces.append(text[:room])
                room -= len(text)
    reading.text = normalise("\n".join(pieces), limits)
    reading.sections, reading.whole = sections.texts, sections.whole
    return reading


def _page_text(pdf: PdfDocument, index: int, most: int) -> str:
    with (
        contextlib.closing(pdf[index]) as page,
        contextlib.closing(page.get_textpage()) as textpage,
    ):
        count = min(textpage.count_chars(), most)
        return textpage.get_text_range(0, count) if count > 0 else ""


def read_xml(data: bytes, limits: Limits) -> Reading:
    """The structure of an XML, or the sheets of an XML spreadsheet of 2003 (raises Unreadable).

    The words of any other XML have no title line: they say nothing.
    """
    root = xml.parse(data)
    if root.tag == f"{_SS}Workbook":
        sheets = list(root.iterfind(f"{_SS}Worksheet"))
        named = ((sheet.get(f"{_SS}Name", ""), _xml_rows(sheet)) for sheet in sheets)
        return _sheets(named, len(sheets), limits)
    return Reading("", structure.read_tree(root))


def _xml_rows(sheet: _Element) -> Iterator[list[str]]:
    for row in sheet.iterfind(f"{_SS}Table/{_SS}Row"):
        cells: list[str] = []
        for cell in islice(row.iterfind(f"{_SS}Cell"), _MAX_COLUMNS):
            place = cell.get(f"{_SS}Index", "")  # counted from 1; without it the next one
            if place.isascii() and place.isdecimal() and int(place[:6]) <= _MAX_COLUMNS:
                cells += [""] * (int(place) - 1 - len(cells))
            data = cell.find(f"{_SS}Data")
            cells.append(
                _cell("" if data is None else "".join(str(text) for text in data.itertext()))
            )
        yield cells


def read_text(document: Document, limits: Limits) -> Reading:
    """Plain text and comma-separated values, in whatever encoding."""
    most = _SECTIONS_TEXT * limits.max_text
    text = decode(document.head(most))
    stated = text
    if document.size > most and statements.begins(text):
        most = _MAX_MEMBER
        stated = decode(document.head(most))
    return Reading(
        normalise(text, limits),
        structure.read_words(stated),
        sections=[_normal(text)],
        whole=document.size <= most,
    )


def read_sheets(document: Document, limits: Limits, opened: Archive | None) -> Reading:
    """The names and first rows of a workbook's sheets.

    Args:
        opened: the package, or None for a compound file.
    """
    import python_calamine

    if not sheet_extent.is_modest(document, limits, opened):
        # The library lays a sheet out as a table from its first to its last cell: two cells can end a worker.
        return Reading()
    with python_calamine.load_workbook(document.stream()) as book:
        names = book.sheet_names
        return _sheets(((name, _rows(book, name)) for name in names), len(names), limits)


def _rows(book: CalamineWorkbook, name: str) -> Iterator[list[Any]]:
    yield from book.get_sheet_by_name(name).iter_rows()


def _sheets(
    sheets: Iterable[tuple[str, Iterable[list[Any]]]], count: int, limits: Limits
) -> Reading:
    """A reading of sheets, whatever they came in: a name and rows of cells each."""
    sections = _Sections(limits, count)
    top: list[str] = []
    for index, (name, rows) in enumerate(sheets):
        lines, shown, cells, room = [name], None, 0, sections.room
        for number, row in enumerate(rows):
            if number == _MAX_ROWS:
                shown = len(lines)
            cells += len(row)
            if room <= 0 or cells > _SECTION_CELLS:
                sections.whole = False
                break
            line = "\t".join(_cell(value) for value in row[:_MAX_COLUMNS])
            if line.strip("\t"):
                lines.append(line)
                room -= len(line) + 1
        if index < _MAX_SHEETS:
            top += lines[:shown]
        if not sections.add("\n".join(lines)):
            break
    text = normalise("\n".join(top), limits)
    return Reading(text, sections=sections.texts, whole=sections.whole)


def _cell(value: Any) -> str:
    return re.sub(r"\s+", " ", str(value)).strip()[:_MAX_CELL]


def read_package(opened: Archive, limits: Limits) -> Reading:
    """The text of a word-processing document, a presentation's first slides, or an OFD."""
    names = opened.names()
    if "OFD.xml" in names:
        return _read_ofd(opened, limits)
    if "word/document.xml" in names:
        beside = sorted(name for name in names if re.fullmatch(_BESIDE, name))
        return _read_paragraphs(
            opened, ["word/document.xml"], beside, (f"{_W}p",), f"{_W}t", limits
        )
    slides = sorted(
        (name for name in names if re.fullmatch(r"ppt/slides/slide\d{1,4}\.xml", name)),
        key=lambda name: (len(name), name),
    )
    if slides:
        first, more = slides[:_MAX_SLIDES], slides[_MAX_SLIDES:]
        return _read_paragraphs(opened, first, more, (f"{_A}p",), f"{_A}t", limits)
    if "content.xml" in names:
        return _read_paragraphs(opened, ["content.xml"], [], (f"{_T}h", f"{_T}p"), None, limits)
    return Reading()


def _member(opened: Archive, name: str) -> _Element | None:
    data = opened.read(name, _MAX_MEMBER)
    return None if data is None else xml.parse(data)


def _read_paragraphs(
    opened: Archive,
    names: list[str],
    more: list[str],
    paragraphs: tuple[str, ...],
    run: str | None,
    limits: Limits,
) -> Reading:
    """The text of some members, and of `more` of them as sections only."""
    sections = _Sections(limits, len(names) + len(more))
    text: list[str] = []
    for name in (*names, *more):
        root = _member(opened, name)
        if root is None:
            continue
        lines, whole = _lines(root, frozenset(paragraphs), run, sections.room)
        if not whole:
            sections.whole = False
        if name in names:
            text += lines
        if not sections.add("\n".join(lines)):
            break
    return Reading(
        normalise("\n".join(text), limits), sections=sections.texts, whole=sections.whole
    )


def _lines(
    root: _Element, paragraphs: frozenset[str], run: str | None, room: int
) -> tuple[list[str], bool]:
    """Paragraph by paragraph, in one pass: paragraphs lie within each other, to any depth.

    Args:
        run: the elements whose text counts; None: any text within a paragraph.
        room: characters at most.

    Returns:
        The paragraphs, and whether that is all there is.
    """
    from lxml import etree

    lines: list[str] = []
    line: list[str] = []
    depth, whole = 0, True
    for count, (event, item) in enumerate(etree.iterwalk(root, events=("start", "end"))):
        if room <= 0 or count > _MAX_ELEMENTS:
            whole = False
            break
        text = ""
        if item.tag in paragraphs:
            if line:
                lines.append("".join(line))
                room -= 1
                line = []
            depth += 1 if event == "start" else -1
        if event == "start" and (item.tag == run or (run is None and depth)):
            text = item.text or ""
        elif event == "end" and run is None and depth:
            text = item.tail or ""
        if text:
            line.append(text[:_MAX_LINE])
            room -= len(line[-1])
            whole = whole and len(text) <= _MAX_LINE
    if line:
        lines.append("".join(line))
    return lines, whole


def _read_ofd(opened: Archive, limits: Limits) -> Reading:
    """GB/T 33190: the text of pages in reading order, and an attached invoice."""
    reading = Reading(pages=True)
    for name in sorted(opened.names()):
        if name.lower().endswith(".xml") and "attach" in name.lower():
            with contextlib.suppress(Unreadable):
                root = _member(opened, name)
                reading.structure = reading.structure or (
                    None if root is None else structure.read_tree(root)
                )
    pages = sorted(
        (n for n in opened.names() if n.endswith("Content.xml")),
        # The page itself goes before the template under it; both hold part of what is seen.
        key=lambda n: ("Tpl" in n, len(n), n),
    )
    sections = _Sections(limits, len(pages))
    placed: list[_Placed] = []
    for index, name in enumerate(pages):
        root = _member(opened, name)
        if root is None:
            continue
        items = list(_placed(root))
        if index < limits.max_pages * 2:
            placed += items
        if not sections.add(_in_lines(items)):
            break
    reading.text = normalise(_in_lines(placed), limits)
    reading.sections, reading.whole = sections.texts, sections.whole
    return reading


_Placed = tuple[float, float, str]


def _placed(root: _Element) -> Iterator[_Placed]:
    """Each text object with its row and column, in one pass: objects may lie within each other."""
    where: tuple[float, float] | None = None
    codes: list[str] = []
    for item in islice(root.iter("{*}TextObject", "{*}TextCode"), _MAX_ELEMENTS):
        if str(item.tag).endswith("TextCode"):
            codes.append((item.text or "")[:_MAX_LINE])
            continue
        if where is not None:
            yield *where, "".join(codes)[:_MAX_LINE]
        box, codes, where = (item.get("Boundary") or "")[:_MAX_CELL].split(), [], None
        with contextlib.suppress(ValueError, IndexError):
            where = round(float(box[1]) / 3), float(box[0])
    if where is not None:
        yield *where, "".join(codes)[:_MAX_LINE]


def _in_lines(placed: list[_Placed]) -> str:
    lines: dict[float, list[str]] = {}
    for row, _column, text in sorted(placed):
        lines.setdefault(row, []).append(text)
    return "\n".join(" ".join(line) for line in lines.values())


def normalise(text: str, limits: Limits) -> str:
    """NFKC, one kind of line end, no control characters, bounded: what patterns can rely on."""
    return _normal(text[: limits.max_text])[: limits.max_text]  # it may grow eighteenfold


def _normal(text: str) -> str:
    text = _MARKS.sub(lambda found: found[0][:_MOST_MARKS], text)
    text = unicodedata.normalize("NFKC", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ufeff]", " ", text)


def decode(data: bytes) -> str:
    """Text from bytes of unknown encoding: BOM, UTF-8, GB 18030, Big5, and Latin-1 in the end.

    A cut at the end of the bytes is no error. The eastern encodings accept almost anything, so they
    are taken only if what comes out is mostly common ideographs.
    """
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return codecs.getincrementaldecoder(name)("replace").decode(data)
    if b"\0" in data[:_SAMPLE]:
        even, odd = data[:_SAMPLE:2].count(0), data[1:_SAMPLE:2].count(0)
        name = "utf-16-le" if odd > even else "utf-16-be"
        return codecs.getincrementaldecoder(name)("replace").decode(data)
    with contextlib.suppress(UnicodeDecodeError):
        return codecs.getincrementaldecoder("utf-8")("strict").decode(data)
    for name in ("gb18030", "big5"):
        with contextlib.suppress(UnicodeDecodeError):
            text = codecs.getincrementaldecoder(name)("strict").decode(data)
            foreign = [c for c in text[:20_000] if ord(c) > 127]
            common = sum(
                "\u4e00" <= c <= "\u9fff" or "\u3000" <= c <= "\u303f" or c > "\uff00"
                for c in foreign
            )
            if common * 2 > len(foreign) and _adjoining(text):
                return text
    return data.decode("latin-1")


def _adjoining(text: str) -> bool:
    """Whether ideographs stand beside each other, as words do and stray accents do not."""
    return re.search(r"[\u4e00-\u9fff]{2}", text[:20_000]) is not None
