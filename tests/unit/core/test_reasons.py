"""Every finding has a sentence of its own kind for the one who sent the document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gateway.inspect
from gateway.core.reasons import UNJUDGED, sentences

CODE = re.compile(r'"((?:pdf|office|xml|html|mail|archive|name|format|text|tnef)\.[a-z0-9_]+)"')
SOURCES = Path(gateway.inspect.__file__).parent.rglob("*.py")
CODES = sorted(
    {code for path in SOURCES for code in CODE.findall(path.read_text("utf-8"))} - {"office.excel"}
)


def test_the_codes_are_found_where_they_are_given():
    assert {"pdf.javascript", "mail.damaged_base64", "archive.symlink", "html.page"} <= set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_each_finding_of_the_inspectors_is_told_in_words(code):
    by_row = sentences(f"{UNJUDGED}suspect:{code.split('.')[0]}:{code}")
    by_findings = sentences(f"{UNJUDGED}malformed", [f"{code.split('.')[0]}: suspect {code}"])
    assert by_row == by_findings
    assert by_row.why.endswith(".")
    assert by_row.what_to_do.endswith(".")
    assert "Something in it looks harmful" not in by_row.why
    assert code not in by_row.why


@pytest.mark.parametrize(
    ("findings", "why", "what"),
    [
        ("format.not_opened: application/x-7z-compressed", "format that is not opened", "zip"),
        ("pdf.header_not_first", "before the beginning", "new PDF"),
        ("pdf.embedded_file", "attached to the PDF", "attached file"),
        ("xml.stylesheet", "style sheet", "without"),
        ("html.page", "web page", "real workbook"),
        ("office.macros", "acts by itself", "as a PDF"),
        ("pdf.header_not_first, pdf.javascript", "acts by itself", "as a PDF"),
        ("archive.encrypted", "password", "by telephone"),
    ],
)
def test_who_sent_an_archive_is_not_told_of_macros(findings, why, what):
    found = sentences(f"{UNJUDGED}suspect:x:{findings.replace(' ', '_')}"[:64])
    assert why in found.why
    assert what in found.what_to_do
