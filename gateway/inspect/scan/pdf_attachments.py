"""The files attached to a PDF: found wherever they hang, and taken out as documents of their own.

Promises: every embedded file that a reader would offer is found once, by the streams of file
specifications, be they in the name tree, at an annotation, or associated with a page. Leaves out: the invoice
in XML (Factur-X), which is the PDF's own structure and is read with it; what only names a file elsewhere.

Rules: sizes are counted before anything is decoded. What can't be taken out is said, and the PDF is closed.

Sources: ISO 32000-1 section 7.11.4 (embedded files), 12.5.6.15 (annotations); ISO 19005-3 (associated files).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.inspect import parts
from gateway.inspect.document import (
    MIB,
    Document,
    Examination,
    Limits,
    PartSink,
    Unreadable,
)
from gateway.inspect.formats import invoices, pdf_expansion
from gateway.inspect.parts import Budget, Unpacked
from gateway.inspect.scan import xml
from gateway.names import safe_name

if TYPE_CHECKING:
    import pikepdf

Attached = tuple[str, bytes]
_LARGEST: Final = 16 * MIB
_MAX_OBJECTS: Final = 200_000


def find(pdf: pikepdf.Pdf, result: Examination, limits: Limits) -> list[Attached]:
    """The embedded files as (name, content)."""
    import pikepdf

    found: list[Attached] = []
    seen: set[Any] = set()
    room = min(limits.max_expand_bytes, 4 * _LARGEST)
    for spec in _specifications(pdf):
        for stream in dict(spec["/EF"]).values():
            if not isinstance(stream, pikepdf.Stream) or stream.objgen in seen:
                continue
            seen.add(stream.objgen)
            if pdf_expansion.expanded(stream, min(_LARGEST, room)) > min(_LARGEST, room):
                result.unreadable = "over_limit"
                result.mark("pdf.embedded_too_large")
                return found
            try:
                content = stream.read_bytes()
            except pikepdf.PdfError:
                result.unreadable = result.unreadable or "malformed"
                result.mark("pdf.embedded_unreadable")
                continue
            room -= len(content)
            found.append((_name(spec), content))
    return found


def _specifications(pdf: pikepdf.Pdf) -> Iterable[Any]:
    """All file specifications with a file, also those written inside other objects."""
    import pikepdf

    for index, top in enumerate(pdf.objects):
        if index >= _MAX_OBJECTS:
            return  # said by the examination of objects
        stack: list[tuple[Any, int]] = [(top, 0)]
        while stack:
            node, depth = stack.pop()
            if isinstance(node, (pikepdf.Dictionary, pikepdf.Stream)):
                if isinstance(node.get("/EF"), pikepdf.Dictionary):
                    yield node
                inner: Iterable[Any] = [value for _key, value in node.items()]
            elif isinstance(node, pikepdf.Array):
                inner = node
            else:
                continue
            stack.extend(
                (child, depth + 1)
                for child in inner
                if depth < 20
                and isinstance(child, (pikepdf.Dictionary, pikepdf.Array))
                and not child.is_indirect
            )


def _name(spec: Any) -> str:
    import pikepdf

    for key in ("/UF", "/F", "/Unix", "/DOS", "/Mac"):
        value = spec.get(key)
        if isinstance(value, pikepdf.String) and str(value):
            return str(value)[:2000]
    return ""


def is_invoice(content: bytes) -> bool:
    """Whether an embedded file is an invoice in XML: the PDF's own structure."""
    try:
        return invoices.read_tree(xml.parse(content)) is not None
    except Unreadable:
        return False


def take_out(
    attached: list[Attached], document: Document, limits: Limits, sink: PartSink
) -> Unpacked:
    """Make parts of embedded files, but for the first that is an invoice in XML: it is read with the PDF."""
    unpacked = Unpacked()
    budget = Budget(limits)
    own = next((index for index, (_, content) in enumerate(attached) if is_invoice(content)), -1)
    if own >= 0:
        unpacked.ignore(safe_name(attached[own][0], "invoice.xml"), "read-with-its-pdf")
    others = [each for index, each in enumerate(attached) if index != own]
    for index, (name, content) in enumerate(others):
        if document.depth >= limits.max_depth:
            unpacked.trouble("over_limit", "pdf.too_deep")
            break
        named = safe_name(name, f"attachment-{index + 1}")
        if not parts.take_out(unpacked, sink, budget, named, content, "pdf"):
            break
    return unpacked
