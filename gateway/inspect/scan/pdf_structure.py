"""The file around a PDF's objects: where it starts and ends, and what lies beside its table.

Promises: the ambiguities that readers resolve differently, so that two people see two documents in
one file ("content masking"), are named by codes. Leaves out: what qpdf's own repair reports.

Rules: the bytes are looked at as they are; nothing is decoded. Must run before anything touches the
page tree, because qpdf repairs that in place and may reuse the numbers of missing objects.
Source: ISO 32000-1 section 7.5 (file structure).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gateway.inspect.document import MIB, Document, Examination, read_exactly
from gateway.inspect.formats import zip_layout

if TYPE_CHECKING:
    import pikepdf

STRUCTURE_BYTES: Final = 64 * MIB
_MAX_OBJECTS: Final = 200_000
_MAX_REFERRERS: Final = 20_000
_END: Final = re.compile(rb"[\r\n]%%EOF")
_FILLING: Final = re.compile(rb"(?:[\x00\t\n\x0c\r\x1a ]|%(?!%EOF)[^\r\n]*+)*+")
_GOES_ON: Final = re.compile(
    rb"\d{1,10}[ \t\r\n]+\d{1,5}[ \t\r\n]+obj\b|xref\b|startxref\b|trailer\b|endstream\b|%%EOF"
)
_RAW_OBJECT: Final = re.compile(rb"(?:^|[\r\n])[ \t]*(\d{1,10})[ \t]+(\d{1,5})[ \t]+obj\b")
_COMMENTED_OBJECT: Final = re.compile(rb"[\r\n]%[ \t]*\d{1,10}[ \t]+\d{1,5}[ \t]+obj\b")


def check_structure(document: Document, pdf: pikepdf.Pdf, result: Examination) -> None:
    """Ambiguities that readers resolve differently: what stands before, after and beside."""
    document.source.seek(0)
    data = read_exactly(document.source, min(document.size, STRUCTURE_BYTES))
    if data.find(b"%PDF-") > 0:
        result.mark("pdf.header_not_first")
    if document.size > len(data):
        return  # the rest of a very large file is judged by qpdf's warnings alone
    ending = data.rfind(b"startxref")
    if ending < max(data.rfind(b"\ntrailer"), data.rfind(b"\rtrailer")):
        result.mark("pdf.ambiguous_end")
    if not _END.search(data, max(ending, 0)):
        result.mark("pdf.ambiguous_end")
    else:
        _check_ends(data, result)
    if _COMMENTED_OBJECT.search(data):
        result.mark("pdf.hidden_object")
    _check_hidden_objects(data, pdf, result)


def _check_ends(data: bytes, result: Examination) -> None:
    """What follows each end: an update, the rest of a linearised file, or nothing but blanks.

    Anything else is another file behind this one, and other programs find that first: a zip is read from
    its end.
    """
    size = len(data)
    after = 0
    for end in _END.finditer(data):
        if after and not _GOES_ON.match(data, after):
            result.mark("pdf.data_after_end")
        filling = _FILLING.match(data, end.end())
        after = filling.end() if filling else end.end()
    if after < size:
        result.mark("pdf.data_after_end")
    if zip_layout.ends_in_archive(data[-zip_layout.TAIL :]):
        result.mark("pdf.data_after_end")  # an archive whose comment is the rest of the file


def _check_hidden_objects(data: bytes, pdf: pikepdf.Pdf, result: Examination) -> None:
    """Objects whose bodies are in the file, that are referred to, and that the table calls free."""
    import pikepdf

    bodies = {(int(m[1]), int(m[2])) for m in _RAW_OBJECT.finditer(data)}
    if len(bodies) > _MAX_OBJECTS:
        result.fail("pdf.too_many_objects")
        return
    hidden = {pair for pair in bodies if pair[0] < 2**31 and pdf.get_object(pair) is None}
    if not hidden:
        return
    wanted = {b"%d %d R" % pair for pair in hidden}
    for index, top in enumerate(pdf.objects):
        if index >= _MAX_REFERRERS:
            return
        if not isinstance(top, (pikepdf.Dictionary, pikepdf.Stream, pikepdf.Array)):
            continue
        plain = top.stream_dict if isinstance(top, pikepdf.Stream) else top
        text = plain.unparse(resolved=True)
        if len(text) < MIB and any(reference in text for reference in wanted):
            result.mark("pdf.hidden_object")
            return
