"""Files attached to a PDF become documents, and what is held says why in a code of its own."""

from __future__ import annotations

import io

import pikepdf
import pytest

from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan import yara
from tests.support.parts import Parts
from tests.vectors.cases import CASES

HERE = CASES / "14-active-content-message"
UBL = (
    b'<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"><ID>%s</ID>'
    b"<IssueDate>2025-03-14</IssueDate></Invoice>"
)
FATTURA = (
    b'<?xml version="1.0"?>%s<FatturaElettronica><FatturaElettronicaBody><DatiGenerali>'
    b"<DatiGeneraliDocumento><Data>2024-12-30</Data><Numero>45</Numero></DatiGeneraliDocumento>"
    b"</DatiGenerali></FatturaElettronicaBody></FatturaElettronica>"
)
N = pikepdf.Name


@pytest.fixture(scope="module")
def rules():
    return yara.RuleSet.load()


def inspect(data, rules, name="name", depth=0, **limits):
    parts = Parts()
    document = Document("d", io.BytesIO(data), len(data), name, "sftp", depth)
    verdict = inspection.inspect(document, Limits(**limits), parts, rules=rules, clamd=None)
    return verdict, parts.taken


def said(verdict):
    return [s.detail for s in verdict.scans if s.outcome not in {"clean", "skipped"}]


def pdf(change=lambda _pdf: None):
    made = pikepdf.new()
    made.add_blank_page()
    change(made)
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


def attach(*files):
    def change(made):
        for name, content in files:
            made.attachments[name] = pikepdf.AttachedFileSpec(made, content, filename=name)

    return change


def specification(made, content, name="note.txt"):
    stream = made.make_stream(content)
    stream.Type = N.EmbeddedFile
    return pikepdf.Dictionary(Type=N.Filespec, F=name, UF=name, EF=pikepdf.Dictionary(F=stream))


def test_attached_files_become_parts_and_the_pdf_is_clean(rules):
    verdict, parts = inspect(pdf(attach(("a.xlsx", b"sheet"), ("b.pdf", b"%PDF-1.4"))), rules)
    assert sorted(parts) == [("a.xlsx", b"sheet"), ("b.pdf", b"%PDF-1.4")]
    assert verdict.parts == ["1", "2"]
    assert said(verdict) == []


def test_the_invoice_of_a_pdf_stays_its_own_and_a_second_one_is_a_part(rules):
    files = (("factur-x.xml", UBL % b"1"), ("timesheet.csv", b"a,b"), ("other.xml", UBL % b"2"))
    verdict, parts = inspect(pdf(attach(*files)), rules)
    assert verdict.classification.record_class == "invoice"
    assert said(verdict) == []
    invoices = [content for _name, content in parts if content.startswith(b"<Invoice")]
    assert len(invoices) == 1
    assert ("timesheet.csv", b"a,b") in parts


@pytest.mark.parametrize("place", ["annotation", "page", "catalogue", "inside an array"])
def test_a_file_is_found_wherever_it_hangs(place, rules):
    def change(made):
        spec = specification(made, b"hidden away")
        page = made.pages[0].obj
        if place == "annotation":
            note = pikepdf.Dictionary(Type=N.Annot, Subtype=N.FileAttachment, Rect=[0, 0, 9, 9])
            note.FS = spec
            page.Annots = [made.make_indirect(note)]
        elif place == "page":
            page.AF = [made.make_indirect(spec)]
        elif place == "catalogue":
            made.Root.AF = [spec]
        else:
            page.PieceInfo = pikepdf.Dictionary(X=[[pikepdf.Dictionary(Y=spec)]])

    verdict, parts = inspect(pdf(change), rules)
    assert parts == [("note.txt", b"hidden away")]
    assert said(verdict) == []


def test_different_contents_of_one_specification_are_all_taken_out(rules):
    def change(made):
        spec = specification(made, b"for one reader")
        spec.EF.UF = made.make_stream(b"for another")
        made.Root.AF = [spec]

    _verdict, parts = inspect(pdf(change), rules)
    assert sorted(content for _name, content in parts) == [b"for another", b"for one reader"]


def test_an_annotation_that_only_names_a_file_is_suspect(rules):
    def change(made):
        note = pikepdf.Dictionary(Type=N.Annot, Subtype=N.FileAttachment, FS="a.exe")
        made.pages[0].obj.Annots = [made.make_indirect(note)]

    assert "pdf.file_attachment" in str(said(inspect(pdf(change), rules)[0]))


def test_what_can_not_be_taken_out_closes_the_pdf(rules):
    two = pdf(attach(("a.txt", b"one"), ("b.txt", b"two")))
    assert inspect(two, rules, max_parts=1)[0].unreadable == "over_limit"
    assert inspect(two, rules, max_expand_bytes=4)[0].unreadable == "over_limit"
    verdict, parts = inspect(two, rules, depth=4)
    assert (verdict.unreadable, parts) == ("over_limit", [])
    large = pdf(attach(("a.txt", bytes(17 << 20))))
    assert inspect(large, rules)[0].unreadable == "over_limit"


def test_a_program_attached_to_a_pdf_is_said_of_the_pdf_too(rules):
    verdict, _parts = inspect(pdf(attach(("a.lnk", b"x"))), rules)
    assert "embedded:name.program_suffix" in str(said(verdict))


@pytest.mark.parametrize(
    "style",
    [
        b"",
        b'<?xml-stylesheet type="text/xsl" href="fatturapa_v1.2.xsl"?>',
        b"<?xml-stylesheet href='https://www.fatturapa.gov.it/a.xsl' type='text/xsl'?>",
        b'<?xml-stylesheet type="text/xsl" href="a.xsl"?><?xml-stylesheet type="text/css" href="a.css"?>',
    ],
)
def test_an_invoice_that_names_a_style_sheet_is_ordinary(style, rules):
    verdict, _parts = inspect(FATTURA % style, rules)
    assert said(verdict) == []
    assert verdict.classification.record_class == "invoice"


@pytest.mark.parametrize(
    "data",
    [
        FATTURA % b'<?xml-stylesheet type="text/xsl" href="#inside"?>',
        FATTURA % b'<?xml-stylesheet type="text/xsl" href="&#92;&#92;host/a.xsl"?>',
        FATTURA % b'<?xml-stylesheet type="text/xsl" href="file:///a.xsl"?>',
        FATTURA % b'<?xml-stylesheet href="a.xsl"?><?xml-stylesheet href="data:text/xsl,x"?>',
        FATTURA % b'<?xml-stylesheet type="text/xsl"?>',
        b'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="a.xsl"?><letter/>',
    ],
)
def test_a_style_sheet_of_another_place_or_of_an_unknown_document_is_suspect(data, rules):
    assert "xml.stylesheet" in str(said(inspect(data, rules)[0]))


@pytest.mark.parametrize(
    ("data", "name", "codes"),
    [
        (b"\xef\xbb\xbf" + pdf(), "a.pdf", ["pdf.header_not_first"]),
        (b"\r\n\r\n" + pdf(), "a.pdf", ["pdf.header_not_first"]),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a.7z", ["archive.empty"]),
        (b"\x1f\x8b\x08" + bytes(50), "a.tgz", ["archive.malformed"]),
        (b"Rar!\x1a\x07\x01\0" + bytes(50), "a.rar", ["archive.malformed"]),
        (b"<html><table><tr><td>1</td></tr></table></html>", "a.xls", ["html.named_as_office, html.page"]),
        (b"<html><p>1</p></html>", "a.html", ["html.page"]),
    ],
)  # fmt: skip
def test_each_kind_of_oddity_has_a_code_of_its_own(data, name, codes, rules):
    assert said(inspect(data, rules, name)[0]) == codes


@pytest.mark.skipif(not HERE.is_dir(), reason="the folder of cases is not here")
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("09-invoice-with-xlsx-attached.pdf", 1),
        ("85-facturx-plus-timesheet.pdf", 1),
        ("86-invoice-plus-pdf.pdf", 1),
        ("81-fatturapa-style.xml", 0),
    ],
)
def test_invoices_with_something_attached_are_known_and_nothing_is_said(name, parts, rules):
    verdict, taken = inspect((HERE / name).read_bytes(), rules, name)
    assert said(verdict) == []
    assert verdict.unreadable == ""
    assert len(taken) == parts
    assert verdict.classification.record_class == "invoice"
    assert verdict.classification.confidence >= 0.8
