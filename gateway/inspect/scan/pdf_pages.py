"""The pages of a PDF and what is drawn on them.

Promises: drawings that readers understand differently, or that hold what one reader shows and another does
not, are named; each drawing is read once, however many pages share it. Leaves out: rendering.

Rules: drawings are parsed within a budget that grows with the file; a drawing that calls others without
measure is over the limit.

Source: ISO 32000-1 section 7.8 (content streams), annex A (operators).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from gateway.inspect.document import MIB, Examination
from gateway.inspect.formats import pdf_expansion

if TYPE_CHECKING:
    import pikepdf

_MAX_CONTENT_PAGES: Final = 50
_MAX_PIECES: Final = 2000
_MAX_PARSED_CONTENT: Final = MIB
_OPERATORS: Final = frozenset(
    re.findall(
        r"\S+",
        "b B b* B* BDC BI BMC BT BX c cm CS cs d d0 d1 Do DP EI EMC ET EX f F f* G g gs h i ID j J "
        "K k l m M MP n q Q re RG rg ri s S SC sc SCN scn sh T* Tc Td TD Tf Tj TJ TL Tm Tr Ts Tw "
        "Tz v w W W* y ' \"",
    )
)  # ISO 32000-1, annex A
_HIDDEN_DRAWING: Final = re.compile(rb"(?:^|[\r\n])[^\r\n(]{0,80}%[^\r\n]{0,400}\b(?:Tj|TJ|Do)\b")


def check(pdf: pikepdf.Pdf, result: Examination, file_size: int, read: int) -> None:
    """Look at the pages of a PDF.

    Args:
        file_size: bytes of the file.
        read: how many pages a reader goes through afterwards.
    """
    import pikepdf

    declared: Any = pdf.Root.Pages.get("/Count")
    pages = len(pdf.pages)
    if isinstance(declared, int) and declared != pages:
        result.mark("pdf.page_count")
    drawn = _Drawn(file_size)
    for page in list(pdf.pages)[:_MAX_CONTENT_PAGES]:
        contents = page.obj.get("/Contents")
        if contents is None:
            continue
        streams = list(contents) if isinstance(contents, pikepdf.Array) else [contents]
        sizes = [drawn.size(stream, result) for stream in streams[:_MAX_PIECES]]
        if len(streams) > _MAX_PIECES:
            result.mark("pdf.many_contents")
        elif None not in sizes and drawn.parse(page, sum(size or 0 for size in sizes)):
            result.mark("pdf.unknown_operator")
    if not pdf_expansion.is_drawn_soon(list(pdf.pages)[:read], file_size):
        result.unreadable = "over_limit"
        result.mark("pdf.expands_too_far")


class _Drawn:
    """The drawings examined so far: pages share them, and each is read once.

    All drawings together are parsed within a budget that grows with the file.
    """

    def __init__(self, file_size: int) -> None:
        self._sizes: dict[Any, int | None] = {}
        self._pages: set[Any] = set()
        self._room = 2 * _MAX_PARSED_CONTENT + 2 * file_size

    def size(self, stream: Any, result: Examination) -> int | None:
        """The decoded size of a piece of drawing, after a look at it; None: it can't be parsed."""
        import pikepdf

        if not isinstance(stream, pikepdf.Stream):
            # Also what was a reference to an object that the table calls free: now null.
            result.mark("pdf.contents_type")
            return None
        if stream.objgen not in self._sizes:
            self._sizes[stream.objgen] = self._look(stream, result)
        return self._sizes[stream.objgen]

    def _look(self, stream: Any, result: Examination) -> int | None:
        import pikepdf

        if pdf_expansion.expanded(stream, pdf_expansion.ROOM) > pdf_expansion.ROOM:
            result.unreadable = "over_limit"
            result.mark("pdf.expands_too_far")
            return None
        try:
            data = stream.read_bytes()
        except pikepdf.PdfError:
            result.mark("pdf.unreadable_contents")
            return None
        if b"endstream" in data:
            result.mark("pdf.stream_in_stream")
        if _HIDDEN_DRAWING.search(data):
            result.mark("pdf.hidden_drawing")
        return len(data)

    def parse(self, page: pikepdf.Page, size: int) -> bool:
        """Whether a page not parsed before has an operator that no reader knows."""
        import pikepdf

        contents = page.obj.get("/Contents")
        pieces = list(contents) if isinstance(contents, pikepdf.Array) else [contents]
        key = tuple(piece.objgen for piece in pieces if piece is not None)
        if not 0 < size <= min(_MAX_PARSED_CONTENT, self._room) or key in self._pages:
            return False
        self._pages.add(key)
        self._room -= size
        return _unknown_operator(page)


def _unknown_operator(page: pikepdf.Page) -> bool:
    """Whether a page's drawing has an operator no reader knows: some stop there, others go on."""
    import pikepdf

    compatible = 0  # inside BX … EX unknown operators are allowed (ISO 32000-1, section 7.8.2)
    for instruction in pikepdf.parse_content_stream(page):
        if isinstance(instruction, pikepdf.ContentStreamInlineImage):
            continue
        operator = str(instruction.operator)
        compatible += (operator == "BX") - (operator == "EX")
        if operator not in _OPERATORS and compatible <= 0:
            return True
    return False
