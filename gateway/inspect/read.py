"""Reads enough of a document to say what it is: its first text, and its structure if it has one.

Promises: bounded pages, rows and characters, whatever the file; encodings are guessed from the bytes
and never trusted from a name. Leaves out: OCR, layout, old binary Word and PowerPoint text. Nothing
read here is kept beyond the facts a classification names.

Rules: parsers see the original bytes; a parser's exception passes to the caller, which contains it.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.inspect import extent, scan_xml, structure
from gateway.inspect.document import MIB, Document, Limits, Unreadable

if TYPE_CHECKING:
    from lxml.etree import _Element

    from gateway.inspect.archive import Archive

_MAX_ROWS: Final = 60
_MAX_SHEETS: Final = 6
_MAX_CELL: Final = 200
_MAX_COLUMNS: Final = 60
_MAX_MEMBER: Final = 16 * MIB
_SAMPLE: Final = 64 * 1024
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
_A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_T: Final = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


@dataclass(slots=True)
class Reading:
    """What was read: normalised text from the beginning, and a structure if one was recognised."""

    text: str = ""
    structure: structure.Structure | None = None


def read_pdf(document: Document, limits: Limits, embedded: list[tuple[str, bytes]]) -> Reading:
    """The text of the first pages, and the invoice of an embedded XML (Factur-X)."""
    import pypdfium2

    reading = Reading()
    for _name, content in embedded:
        with contextlib.suppress(Unreadable):
            reading.structure = structure.read_tree(scan_xml.parse(content))
        if reading.structure is not None:
            break
    pieces: list[str] = []
    room = limits.max_text
    with contextlib.closing(pypdfium2.PdfDocument(document.stream())) as pdf:
        for index in range(min(len(pdf), limits.max_pages)):
            with (
                contextlib.closing(pdf[index]) as page,
                contextlib.closing(page.get_textpage()) as textpage,
            ):
                count = min(textpage.count_chars(), room)
                text = textpage.get_text_range(0, count) if count > 0 else ""
            pieces.append(text)
            room -= len(text)
            if room <= 0:
                break
    reading.text = normalise("\n".join(pieces), limits)
    return reading


def read_xml(data: bytes) -> Reading:
    """The structure of an XML (raises Unreadable). Its words have no title line: they say nothing."""
    return Reading("", structure.read_tree(scan_xml.parse(data)))


def read_text(document: Document, limits: Limits) -> Reading:
    """Plain text and comma-separated values, in whatever encoding."""
    text = decode(document.head(min(document.size, limits.max_text * 4)))
    return Reading(normalise(text, limits), structure.read_edifact(text))


def read_sheets(document: Document, limits: Limits, opened: Archive | None) -> Reading:
    """The names and first rows of a workbook's sheets.

    Args:
        opened: the package, or None for a compound file.
    """
    import python_calamine

    if not extent.is_modest(document, limits, opened):
        # The library lays a sheet out as a table from its first to its last cell: two cells can end a worker.
        return Reading()
    with python_calamine.load_workbook(document.stream()) as book:
        lines: list[str] = []
        for name in book.sheet_names[:_MAX_SHEETS]:
            lines.append(name)
            rows = book.get_sheet_by_name(name).to_python(nrows=_MAX_ROWS)
            for row in rows[:_MAX_ROWS]:
                cells = [_cell(value) for value in row[:_MAX_COLUMNS]]
                if any(cells):
                    lines.append("\t".join(cells))
    return Reading(normalise("\n".join(lines), limits))


def _cell(value: Any) -> str:
    return re.sub(r"\s+", " ", str(value)).strip()[:_MAX_CELL]


def read_package(opened: Archive, limits: Limits) -> Reading:
    """The text of a word-processing document, a presentation's first slides, or an OFD."""
    names = opened.names()
    if "OFD.xml" in names:
        return _read_ofd(opened, limits)
    if "word/document.xml" in names:
        return _read_paragraphs(opened, ["word/document.xml"], (f"{_W}p",), f"{_W}t", limits)
    slides = sorted(name for name in names if re.fullmatch(r"ppt/slides/slide[1-4]\.xml", name))
    if slides:
        return _read_paragraphs(opened, slides, (f"{_A}p",), f"{_A}t", limits)
    if "content.xml" in names:
        return _read_paragraphs(opened, ["content.xml"], (f"{_T}h", f"{_T}p"), None, limits)
    return Reading()


def _member(opened: Archive, name: str) -> _Element | None:
    data = opened.read(name, _MAX_MEMBER)
    return None if data is None else scan_xml.parse(data)


def _read_paragraphs(
    opened: Archive,
    names: list[str],
    paragraphs: tuple[str, ...],
    run: str | None,
    limits: Limits,
) -> Reading:
    lines: list[str] = []
    for name in names:
        root = _member(opened, name)
        if root is not None:
            lines += _lines(root, frozenset(paragraphs), run, limits.max_text)
    return Reading(normalise("\n".join(lines), limits))


def _lines(root: _Element, paragraphs: frozenset[str], run: str | None, room: int) -> Iterator[str]:
    """Paragraph by paragraph, in one pass: paragraphs lie within each other, to any depth.

    Args:
        run: the elements whose text counts; None: any text within a paragraph.
    """
    from lxml import etree

    line: list[str] = []
    depth = 0
    for count, (event, item) in enumerate(etree.iterwalk(root, events=("start", "end"))):
        if room <= 0 or count > _MAX_ELEMENTS:
            break
        text = ""
        if item.tag in paragraphs:
            if line:
                yield "".join(line)
                line = []
            depth += 1 if event == "start" else -1
        if event == "start" and (item.tag == run or (run is None and depth)):
            text = item.text or ""
        elif event == "end" and run is None and depth:
            text = item.tail or ""
        if text:
            line.append(text[:_MAX_LINE])
            room -= len(text)
    if line:
        yield "".join(line)


def _read_ofd(opened: Archive, limits: Limits) -> Reading:
    """GB/T 33190: the text of pages in reading order, and an attached invoice."""
    reading = Reading()
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
    placed: list[tuple[float, float, str]] = []
    for name in pages[: limits.max_pages * 2]:
        root = _member(opened, name)
        if root is None:
            continue
        box: list[str] = []
        for item in itertools.islice(root.iter("{*}TextObject", "{*}TextCode"), _MAX_ELEMENTS):
            if str(item.tag).endswith("TextObject"):
                box = (item.get("Boundary") or "")[:_MAX_CELL].split()
                continue
            with contextlib.suppress(ValueError, IndexError):
                text = (item.text or "")[:_MAX_LINE]
                placed.append((round(float(box[1]) / 3), float(box[0]), text))
    lines: dict[float, list[str]] = {}
    placed.sort(key=lambda each: each[:2])  # pieces of one object stay in order
    for row, _column, text in placed:
        lines.setdefault(row, []).append(text)
    reading.text = normalise("\n".join(" ".join(line) for line in lines.values()), limits)
    return reading


def normalise(text: str, limits: Limits) -> str:
    """NFKC, one kind of line end, no control characters, bounded: what patterns can rely on."""
    text = _MARKS.sub(lambda found: found[0][:_MOST_MARKS], text[: limits.max_text])
    text = unicodedata.normalize("NFKC", text)[: limits.max_text]  # it may grow eighteenfold
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
