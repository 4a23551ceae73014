"""The sheet a certificate is printed on: fonts, languages, and the shapes text can take.

Promises: A4 pages with a running foot, in English, Chinese or both, from a few shapes
(section, paragraph, panel, pairs, table, listing, seal). With embedded fonts the file is PDF/A-3
(ISO 19005-3, level U), the archival form that may carry attachments.

Leaves out: what is said (`pdf.document`).

Rules:
1. Chinese needs fonts that have it (`fonts`); they are embedded as a subset.
2. Without any, the print is English only, in the PDF core fonts; what these cannot show appears as
   [...]. Nothing is dropped silently.
3. A listing is placed line by line, its words measured once: ten thousand lines take a second or two,
   and tables that wrap would take half a minute.
4. Text from outside is shown as text: no markup is read in it, and no control or invisible
   character of it reaches the page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timezone
from typing import Final, Literal
from xml.sax.saxutils import escape

import msgspec
from fpdf import FPDF
from fpdf.enums import DocumentCompliance, XPos, YPos
from fpdf.fonts import FontFace

from vault.certificate.model import Text
from vault.certificate.pdf.fonts import COLLECTION_FACE, Fonts
from vault.errors import VaultError

Language = Literal["en", "zh", "both"]

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
# No line begins with a closing mark or ends with an opening one (避头尾), and no Latin word is cut.
_OPEN: Final = "（《〈“‘「『【"
_CLOSE: Final = "，。、；：！？）》〉”’」』】…"
_UNIT: Final = re.compile(
    rf"[{_OPEN}]*(?:[^\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef{_OPEN}{_CLOSE}]+[年月日份]?|.)[{_CLOSE}]*",
    re.DOTALL,
)
_KEEP: Final = 40.0  # mm of a paragraph that is moved to the next page rather than torn
_LEADING: Final = 0.53  # mm between lines for each point of type
_LIST_SIZE: Final = 6.8
_LIST_SMALLEST: Final = 4.6
_LIST_LINE: Final = 4.6
_FITTED: Final = 4096  # measured words that are remembered
_GAP: Final = 0.8
"""Millimetres between a column's text and its edge."""


class PrintError(VaultError):
    """The certificate cannot be printed: a font is missing, unreadable or not embeddable."""


class Column(msgspec.Struct, frozen=True):
    """One column of a listing: its head, its width in mm, and the side its text is set to."""

    head: str
    width: float
    align: Literal["L", "R", "C"] = "L"


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
    names of its two families.
    """

    def __init__(self, language: Language, fonts: Fonts | None, foot: str, zone: timezone) -> None:
        """Begin a document with the line `foot` on each page and times in `zone` (raises PrintError)."""
        self.zone = zone
        self.language: Language = language if fonts is not None else "en"
        self._unicode = fonts is not None
        self.serif, self.sans = ("serif", "sans") if fonts else ("times", "helvetica")
        compliance = DocumentCompliance.PDFA_3U if fonts else None
        self.pdf = _Page(self.plain(foot), self.sans, compliance)
        if fonts is not None:
            for family, path in (("serif", fonts.serif), ("sans", fonts.sans)):
                face = COLLECTION_FACE if path.suffix in {".ttc", ".otc"} else 0
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
        if self.language == "zh" or text.en == text.zh:
            return text.zh
        return f"{text.en} {text.zh}"

    def told(self, text: str | Text) -> str:
        """As `pick`, of words that may be there in one language only."""
        return text if isinstance(text, str) else self.pick(text)

    def when(self, moment: datetime) -> str:
        """Date and time to the second, in the zone of the print; the JSON has fractions."""
        return f"{moment.astimezone(self.zone):%Y-%m-%d %H:%M:%S}"

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

    def keep(self, height: float) -> None:
        """Begin a new page unless `height` mm are left on this one."""
        if self.pdf.will_page_break(height):
            self.pdf.add_page()

    def words(self, text: Text, size: float = 9.2) -> None:
        """Running text, in one language or in both, one after the other; `size` in points."""
        if self.language != "zh":
            self.paragraph(text.en, size)
        if self.language != "en":
            self.paragraph(text.zh, size)

    def paragraph(self, text: str, size: float = 9.2) -> None:
        """One paragraph; `size` in points."""
        pdf = self.pdf
        pdf.set_font(self.serif, size=size)
        lines = self._break(self.plain(text), WIDTH)
        height = len(lines) * size * _LEADING
        if height < _KEEP and pdf.will_page_break(height):
            pdf.add_page()
        pdf.set_text_color(*_INK)
        self._set(lines, WIDTH, size * _LEADING)
        pdf.ln(1)

    def panel(self, badge: str, head: Text, text: Text) -> None:
        """A shaded box: a badge at the left, a headline, and what it says exactly."""
        pdf = self.pdf
        left = MARGIN + 20
        width = WIDTH - 24
        runs: list[tuple[list[str], float, bool]] = []
        for part, size in ((head, 11.5), (text, 8.8)):
            pdf.set_font(self.serif, size=size)
            shown = [part.en] if self.language != "zh" else []
            shown += [part.zh] if self.language != "en" else []
            runs.extend((self._break(self.plain(it), width), size, part is head) for it in shown)
        height = sum(len(lines) * size * _LEADING + 1.2 for lines, size, _ in runs) + 6
        if pdf.will_page_break(height):
            pdf.add_page()
        top = pdf.get_y()
        pdf.set_fill_color(*_SHADE)
        pdf.rect(MARGIN, top, WIDTH, height, style="F")
        pdf.set_fill_color(*DEEP)
        pdf.rect(MARGIN, top, 1.6, height, style="F")
        pdf.set_font(self.serif, size=24)
        pdf.set_text_color(*DEEP)
        pdf.text(MARGIN + 5, top + 12, badge)
        pdf.set_y(top + 3.6)
        for lines, size, is_head in runs:
            pdf.set_font(self.serif, size=size)
            pdf.set_text_color(*(DEEP if is_head else _INK))
            pdf.set_x(left)
            self._set(lines, width, size * _LEADING)
            pdf.set_y(pdf.get_y() + 1.2)
        pdf.set_y(top + height)
        pdf.ln(4)

    def _set(self, lines: list[str], width: float, leading: float) -> None:
        """Set lines that were broken to `width`, from the place the pen is at."""
        self.pdf.multi_cell(
            width, leading, "\n".join(lines), align="L", new_x=XPos.LEFT, new_y=YPos.NEXT
        )

    def _break(self, text: str, width: float) -> list[str]:
        """Break `text` into lines of `width` mm in the current font."""
        room = width - 2 * self.pdf.c_margin - 0.1
        lines: list[str] = []
        for paragraph in text.split("\n"):
            line, filled = "", 0.0
            for unit in _UNIT.findall(paragraph):
                size = self.pdf.get_string_width(unit)
                if filled + size > room and line:
                    lines.append(line.rstrip())
                    line, filled = "", 0.0
                while size > room and len(unit) > 1:
                    # One word longer than a line is cut where it has to be.
                    fits = max(1, int(len(unit) * room / size))
                    while fits > 1 and self.pdf.get_string_width(unit[:fits]) > room:
                        fits -= 1
                    lines.append(unit[:fits])
                    unit = unit[fits:]
                    size = self.pdf.get_string_width(unit)
                if line or not unit.isspace():
                    line += unit
                    filled += size
            lines.append(line.rstrip())
        return lines

    def seal(self, lines: Sequence[str]) -> tuple[int, tuple[int, int, int, int]]:
        """A framed block at the end, for a signature to be placed over.

        Returns:
            The page (from zero) and the box in points from the page's lower left corner.
        """
        pdf = self.pdf
        height = 5.0 * len(lines) + 5
        if pdf.will_page_break(height + 3):
            pdf.add_page()
        pdf.ln(3)
        top = pdf.get_y()
        pdf.set_draw_color(*DEEP)
        pdf.set_line_width(0.4)
        pdf.rect(MARGIN, top, WIDTH, height)
        pdf.set_line_width(0.2)
        for number, line in enumerate(lines):
            pdf.set_font(
                self.serif if number == 0 else self.sans, size=10.5 if number == 0 else 7.6
            )
            pdf.set_text_color(*(DEEP if number == 0 else _INK))
            pdf.text(MARGIN + 4, top + 6 + 5.0 * number, self.plain(line))
        pdf.set_y(top + height)
        scale = pdf.k
        box = (MARGIN, pdf.h - top - height, MARGIN + WIDTH, pdf.h - top)
        x0, y0, x1, y1 = (round(side * scale) for side in box)
        return pdf.page_no() - 1, (x0, y0, x1, y1)

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
            lines = self._break(self.plain(value), WIDTH - label_width)
            self._set(lines, WIDTH - label_width, 5.2)
            pdf.set_x(MARGIN)
        pdf.ln(1)

    def listing(self, columns: Sequence[Column], lines: Iterable[Sequence[str]]) -> None:
        """The lines of a register, thousands if need be: each fitted to its columns, never wrapped.

        The columns' widths add up to WIDTH.
        """
        pdf = self.pdf
        heads = [column.head for column in columns]
        fitted: dict[tuple[int, str], tuple[str, float, float]] = {}
        if pdf.will_page_break(3 * _LIST_LINE):
            pdf.add_page()
        self._list_line(columns, heads, fitted, head=True)
        for number, line in enumerate(lines):
            if pdf.will_page_break(_LIST_LINE):
                pdf.add_page()
                self._list_line(columns, heads, fitted, head=True)
            self._list_line(columns, line, fitted, shade=number % 2 == 1)
        pdf.ln(2)

    def _list_line(
        self,
        columns: Sequence[Column],
        line: Sequence[str],
        fitted: dict[tuple[int, str], tuple[str, float, float]],
        *,
        head: bool = False,
        shade: bool = False,
    ) -> None:
        pdf = self.pdf
        top = pdf.get_y()
        if head or shade:
            pdf.set_fill_color(*_SHADE)
            pdf.rect(MARGIN, top, WIDTH, _LIST_LINE, style="F")
        pdf.set_font(self.sans, size=_LIST_SIZE)
        # Text in the colour of fills is placed without a change of state for each word.
        pdf.set_text_color(*(DEEP if head else _INK))
        pdf.set_fill_color(*(DEEP if head else _INK))
        x = MARGIN
        for index, text in enumerate(line):
            column = columns[index]
            at = (index, text)
            if at not in fitted:
                if len(fitted) > _FITTED:
                    fitted.clear()
                fitted[at] = self._fit(column, text)
            shown, offset, size = fitted[at]
            if shown:
                pdf.set_font_size(size)
                pdf.text(x + offset, top + _LIST_LINE * 0.7, shown)
            x += column.width
        pdf.set_y(top + _LIST_LINE)

    def _fit(self, column: Column, text: str) -> tuple[str, float, float]:
        """The part of `text` that fits a column, its distance from the left edge in mm, and its size.

        What is too wide is set smaller, as far as it stays readable, before it is cut.
        """
        room = column.width - 2 * _GAP
        shown = self.plain(text)
        size = _LIST_SIZE
        self.pdf.set_font_size(size)
        width = self.pdf.get_string_width(shown)
        if width > room:
            size = max(_LIST_SMALLEST, size * room / width)
            self.pdf.set_font_size(size)
            width = self.pdf.get_string_width(shown)
        # Font sizes are kept to a hundredth of a point.
        while len(shown) > 1 and width > room + 0.1:
            shown = shown[:-2] + "~"
            width = self.pdf.get_string_width(shown)
        free = {"L": 0.0, "C": (room - width) / 2, "R": room - width}[column.align]
        return shown, _GAP + free, size

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
            self.paragraph(self.say("None.", "无。"))
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
