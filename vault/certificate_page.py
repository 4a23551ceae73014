"""The sheet a certificate is printed on: fonts, languages, and the shapes text can take.

What it promises: A4 pages with a running foot, in English, Chinese or both, from a few shapes
(section, paragraph, pairs, table, listing). With embedded fonts the file is PDF/A-3 (ISO 19005-3,
level U), the archival form that may carry attachments.

What it leaves out: what is said (`certificate_pdf`).

Rules:
1. Chinese needs fonts that have it; they are embedded as a subset. They are those given, else those
   of the package `pylopdf_fonts_zh_cn` (Noto, SIL OFL 1.1), else where distributions put Noto CJK.
2. Without any, the print is English only, in the PDF core fonts; what these cannot show appears as
   [...]. Nothing is dropped silently.
3. Text from outside is shown as text: no markup is read in it, and no control or invisible
   character of it reaches the page.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal
from xml.sax.saxutils import escape

import msgspec
from fpdf import FPDF
from fpdf.enums import DocumentCompliance, WrapMode, XPos, YPos
from fpdf.fonts import FontFace

from vault.certificate import Text
from vault.errors import VaultError

Language = Literal["en", "zh", "both"]

_FONT_PACKAGE: Final = "pylopdf_fonts_zh_cn"
_INSTALLED: Final = (
    "/usr/share/fonts/opentype/noto/Noto{style}CJK-Regular.ttc",
    "/usr/share/fonts/google-noto-{folder}-cjk-fonts/Noto{style}CJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/Noto{style}CJK-Regular.ttc",
)
# The face with the forms used in mainland China, in every Noto CJK collection.
_COLLECTION_FACE: Final = 2

# ISO 19005-3, 6.6: part and level of conformance, and the same facts as the information dictionary.
_XMP: Final = """\
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:pdf="http://ns.adobe.com/pdf/1.3/"
    xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/">
   <pdfaid:part>3</pdfaid:part>
   <pdfaid:conformance>U</pdfaid:conformance>
   <xmp:CreateDate>{day}</xmp:CreateDate>
   <xmp:ModifyDate>{day}</xmp:ModifyDate>
   <pdf:Producer>{producer}</pdf:Producer>
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>"""

_INK: Final = (24, 32, 44)
DEEP: Final = (27, 58, 94)
"""The colour of titles and of the rules around them."""
_QUIET: Final = (104, 112, 122)
_RULE: Final = (178, 186, 196)
_SHADE: Final = (240, 243, 247)
MARGIN: Final = 18.0
"""Left and right, in mm."""
WIDTH: Final = 210.0 - 2 * MARGIN
"""Of the text, in mm."""
# Columns of a register: width in mm, alignment. They add up to WIDTH.
_LIST: Final = (
    (8, "R"),
    (39, "L"),
    (31, "L"),
    (9, "L"),
    (17, "L"),
    (16, "R"),
    (8, "C"),
    (33, "L"),
    (13, "R"),
)
_LIST_LINE: Final = 4.4


class PrintError(VaultError):
    """The certificate cannot be printed: a font is missing, unreadable or not embeddable."""


class Fonts(msgspec.Struct, frozen=True):
    """Font files with Chinese and Latin glyphs (OTF, TTF, or a Noto CJK collection)."""

    serif: Path
    sans: Path


def find_fonts() -> Fonts | None:
    """The fonts of rule 1 that this system has, or None."""
    spec = importlib.util.find_spec(_FONT_PACKAGE)
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        fonts = Fonts(folder / "NotoSerifSC-Regular.otf", folder / "NotoSansSC-Regular.otf")
        if fonts.serif.is_file() and fonts.sans.is_file():
            return fonts
    for pattern in _INSTALLED:
        pair = [Path(pattern.format(style=it, folder=it.lower())) for it in ("Serif", "Sans")]
        present = [path for path in pair if path.is_file()]
        if present:
            return Fonts(present[0], present[-1])
    return None


class _Page(FPDF):
    """A page with its running foot."""

    def __init__(self, foot: str, family: str, compliance: DocumentCompliance | None) -> None:
        super().__init__(format="A4", enforce_compliance=compliance)
        self._foot = foot
        self._family = family

    def footer(self) -> None:
        """Identity of the document at the left, page of pages at the right (called by fpdf2)."""
        self.set_y(-14)
        self.set_draw_color(*_RULE)
        self.line(MARGIN, self.get_y(), MARGIN + WIDTH, self.get_y())
        self.set_font(self._family, size=7)
        self.set_text_color(*_QUIET)
        self.cell(WIDTH - 20, 6, self._foot)
        self.cell(20, 6, f"{self.page_no()} / {{nb}}", align="R")


class Sheet:
    """A document being printed: its pages, its language, and the shapes its text takes.

    `pdf` is the fpdf2 document, `language` the one really used (rule 2), `serif` and `sans` the
    names of its two families. Raises PrintError for a font that cannot be used.
    """

    def __init__(self, language: Language, fonts: Fonts | None, foot: str) -> None:
        """Begin a document whose every page carries the line `foot`."""
        self.language: Language = language if fonts is not None else "en"
        self._unicode = fonts is not None
        self.serif, self.sans = ("serif", "sans") if fonts else ("times", "helvetica")
        compliance = DocumentCompliance.PDFA_3U if fonts else None
        self.pdf = _Page(self.plain(foot), self.sans, compliance)
        if fonts is not None:
            for family, path in (("serif", fonts.serif), ("sans", fonts.sans)):
                face = _COLLECTION_FACE if path.suffix in {".ttc", ".otc"} else 0
                try:
                    self.pdf.add_font(family, "", path, collection_font_number=face)
                except Exception as error:
                    # A damaged font makes fontTools raise anything.
                    raise PrintError(
                        f"font {path.name}: expected a readable, embeddable font, "
                        f"found {type(error).__name__}"
                    ) from error
        self.pdf.set_margins(MARGIN, 20, MARGIN)
        self.pdf.set_auto_page_break(True, margin=20)
        self.pdf.set_lang("zh-CN" if self.language == "zh" else "en")

    def describe(self, title: str, producer: str, at: datetime) -> None:
        """Title, software and the one date of the document, for readers of metadata.

        The XMP packet is written here because fpdf2's own holds the time of printing: the same
        certificate would print to other bytes each time.
        """
        self.pdf.set_title(title)
        self.pdf.set_producer(producer)
        self.pdf.set_creation_date(at)
        if self._unicode:
            day = at.astimezone(UTC).isoformat(timespec="seconds")
            self.pdf.set_xmp_metadata(
                _XMP.format(title=escape(title), producer=escape(producer), day=day)
            )

    def say(self, en: str, zh: str) -> str:
        """The words in the language of the print."""
        return self.pick(Text(en=en, zh=zh))

    def pick(self, text: Text) -> str:
        """As `say`, of a text that has both."""
        if self.language == "en":
            return text.en
        return text.zh if self.language == "zh" else f"{text.en} {text.zh}"

    def plain(self, text: str) -> str:
        """`text` as it may appear (rules 2 and 3)."""
        shown = "".join(
            char if char == "\n" or unicodedata.category(char)[0] != "C" else " " for char in text
        )
        return shown if self._unicode else re.sub(r"[^\n\x20-\x7e\xa0-\xff]+", "[...]", shown)

    def section(self, en: str, zh: str) -> None:
        """Begin a section, on a new page if only its title would fit."""
        pdf = self.pdf
        if pdf.will_page_break(26):
            pdf.add_page()
        pdf.ln(4)
        pdf.set_font(self.serif, size=11.5)
        pdf.set_text_color(*DEEP)
        text = self.say(en, zh)
        pdf.cell(WIDTH, 7, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        pdf.set_draw_color(*_RULE)
        pdf.line(MARGIN, pdf.get_y(), MARGIN + WIDTH, pdf.get_y())
        pdf.ln(1.5)

    def words(self, text: Text) -> None:
        """Running text, in one language or in both, one after the other."""
        if self.language != "zh":
            self.paragraph(text.en, WrapMode.WORD)
        if self.language != "en":
            # Chinese has no spaces to break at.
            self.paragraph(text.zh, WrapMode.CHAR)

    def paragraph(self, text: str, wrap: WrapMode, size: float = 9.2) -> None:
        """One paragraph; `size` in points."""
        pdf = self.pdf
        pdf.set_font(self.serif, size=size)
        pdf.set_text_color(*_INK)
        pdf.multi_cell(
            WIDTH, 4.9, self.plain(text), align="L", wrapmode=wrap,
            new_x=XPos.LMARGIN, new_y=YPos.NEXT,
        )  # fmt: skip
        pdf.ln(1)

    def note(self, text: str) -> None:
        """A remark about the print itself, set apart from what is certified."""
        self.pdf.set_fill_color(*_SHADE)
        self.pdf.set_font(self.sans, size=8)
        self.pdf.set_text_color(*_INK)
        self.pdf.multi_cell(
            WIDTH, 4.5, text, fill=True, padding=2, new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )
        self.pdf.ln(3)

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Labels and what they say, one under the other."""
        pdf = self.pdf
        label_width = 58.0 if self.language == "both" else 44.0
        for label, value in pairs:
            if pdf.will_page_break(5.4):
                pdf.add_page()
            top = pdf.get_y()
            pdf.set_font(self.sans, size=8)
            pdf.set_text_color(*_QUIET)
            pdf.cell(label_width, 5.2, self.plain(label))
            pdf.set_text_color(*_INK)
            pdf.set_xy(MARGIN + label_width, top)
            pdf.multi_cell(
                WIDTH - label_width, 5.2, self.plain(value), align="L", wrapmode=WrapMode.CHAR,
                new_x=XPos.LMARGIN, new_y=YPos.NEXT,
            )  # fmt: skip
        pdf.ln(1)

    def listing(self, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
        """The lines of a register, thousands if need be: each cut to its columns, never wrapped.

        Nine cells to a line, in the columns of _LIST.
        """
        pdf = self.pdf
        self._list_line(heads, head=True)
        for number, line in enumerate(lines):
            if pdf.will_page_break(_LIST_LINE):
                pdf.add_page()
                self._list_line(heads, head=True)
            self._list_line(line, shade=number % 2 == 1)
        pdf.ln(2)

    def _list_line(self, line: Sequence[str], *, head: bool = False, shade: bool = False) -> None:
        pdf = self.pdf
        pdf.set_font(self.sans, size=6.6)
        pdf.set_text_color(*(DEEP if head else _INK))
        pdf.set_fill_color(*_SHADE)
        for (width, align), text in zip(_LIST, line, strict=True):
            shown = self.plain(text)
            while len(shown) > 1 and pdf.get_string_width(shown) > width - 1.6:
                shown = shown[:-2] + "~"
            pdf.cell(width, _LIST_LINE, shown, align=align, fill=head or shade)
        pdf.ln(_LIST_LINE)

    def table(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        widths: Sequence[float],
        size: float = 7.4,
    ) -> None:
        """A table whose cells wrap; column `widths` in mm, type `size` in points."""
        pdf = self.pdf
        if not rows:
            self.paragraph(self.say("None.", "无。"), WrapMode.CHAR)
            return
        pdf.set_font(self.sans, size=size)
        pdf.set_text_color(*_INK)
        pdf.set_draw_color(*_RULE)
        # Left over from elsewhere, a fill colour would spread to the rows.
        pdf.set_fill_color(255)
        with pdf.table(
            col_widths=tuple(widths),
            width=WIDTH,
            line_height=size * 0.52,
            text_align="LEFT",
            v_align="TOP",
            borders_layout="HORIZONTAL_LINES",
            headings_style=FontFace(color=DEEP, fill_color=_SHADE),
            padding=(1.1, 1.2),
            repeat_headings=1,
        ) as table:
            for line in (heads, *rows):
                row = table.row()
                for cell in line:
                    row.cell(self.plain(cell))
        pdf.ln(2)


def when(moment: datetime) -> str:
    """Date, time to the second and offset; the JSON has fractions."""
    return moment.isoformat(sep=" ", timespec="seconds")
