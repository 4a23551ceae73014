"""What each scanner of a format sees, on documents made here, and that a failure is never clean."""

from __future__ import annotations

import io
import time
import zipfile

import pikepdf
import pytest

from gateway.inspect import inspection
from gateway.inspect.classify import media
from gateway.inspect.document import Document, Limits, Unreadable
from gateway.inspect.scan import office, xml, yara
from gateway.inspect.scan import pdf as scan_pdf
from tests.support.parts import Parts

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD" + b"-ANTIVIRUS-TEST-FILE!$H+H*"


@pytest.fixture(scope="module")
def rules():
    return yara.RuleSet.load()


def document(data, name="name", **more):
    return Document("d", io.BytesIO(data), len(data), name, **more)


def inspect(data, rules, name="name", **more):
    return inspection.inspect(
        document(data, name, **more), Limits(), Parts(), rules=rules, clamd=None
    )


def outcomes(verdict):
    return {scan.scanner: scan.outcome for scan in verdict.scans}


# ── PDF ──────────────────────────────────────────────────────────────────────────────────────────


def pdf(change=lambda _pdf: None, **save):
    made = pikepdf.new()
    made.add_blank_page()
    change(made)
    buffer = io.BytesIO()
    made.save(buffer, **save)
    return buffer.getvalue()


def put(key, value):
    def change(made):
        made.Root[key] = value

    return change


def action(**entries):
    return pikepdf.Dictionary(**entries)


N = pikepdf.Name


@pytest.mark.parametrize(
    ("change", "code", "outcome"),
    [
        (lambda _pdf: None, None, "clean"),
        (put("/OpenAction", action(S=N.Launch, F="cmd.exe")), "pdf.launch", "found"),
        (
            put("/OpenAction", action(S=N.JavaScript, JS="app.alert(1)")),
            "pdf.javascript",
            "suspect",
        ),
        (
            put("/OpenAction", action(S=N.URI, URI="https://example.org")),
            "pdf.automatic_action",
            "suspect",
        ),
        (put("/OpenAction", action(S=N.GoTo, D="x")), None, "clean"),
        (put("/AA", action(WC=action(S=N.GoTo, D="x"))), "pdf.automatic_action", "suspect"),
        (put("/X", action(S=N.GoToR, F="\\\\host\\share")), "pdf.remote_target", "suspect"),
        (put("/X", action(S=N.URI, URI="file:///etc/passwd")), "pdf.outside_reference", "suspect"),
        (put("/X", action(S=N.URI, URI="https://example.org")), None, "clean"),
        (put("/AcroForm", action(XFA="x")), "pdf.xfa", "suspect"),
        (put("/X", action(Type=N.Annot, Subtype=N.RichMedia)), "pdf.media", "suspect"),
        (put("/X", action(S=N.SubmitForm, F="https://x")), "pdf.submit_form", "suspect"),
        (
            put("/X", pikepdf.Array([pikepdf.Array([action(S=N.Launch, F="x")])])),
            "pdf.launch",
            "found",
        ),
    ],
)
def test_what_a_pdf_does_by_itself_is_named(change, code, outcome):
    examination, _embedded = scan_pdf.scan(document(pdf(change)), Limits())
    assert examination.scan().outcome == outcome
    if code:
        assert code in examination.found + examination.suspect


def test_active_content_in_compressed_objects_is_seen_too():
    data = pdf(
        put("/OpenAction", action(S=N.Launch, F="x")),
        object_stream_mode=pikepdf.ObjectStreamMode.generate,
    )
    assert b"/Launch" not in data
    assert scan_pdf.scan(document(data), Limits())[0].scan().outcome == "found"


def test_a_name_written_with_escapes_is_read_as_what_it_means():
    data = pdf(put("/X", action(S=N.Launch))).replace(b"/Launch", b"/L#61unch")
    assert "pdf.launch" in scan_pdf.scan(document(data), Limits())[0].found


def test_a_pdf_that_needs_a_password_is_encrypted_and_one_that_opens_is_read():
    locked = pdf(encryption=pikepdf.Encryption(owner="o", user="u"))
    assert scan_pdf.scan(document(locked), Limits())[0].unreadable == "encrypted"
    opened = pdf(encryption=pikepdf.Encryption(owner="o", user=""))
    assert scan_pdf.scan(document(opened), Limits())[0].unreadable == ""


@pytest.mark.parametrize("cut", [8, 100, 300])
def test_a_pdf_cut_short_is_never_clean(cut):
    examination, _embedded = scan_pdf.scan(document(pdf()[:cut]), Limits())
    assert examination.scan().outcome != "clean"


def test_embedded_files_are_scanned_like_the_document(rules):
    def attach(made):
        made.attachments["a.xml"] = pikepdf.AttachedFileSpec(made, EICAR, filename="a.xml")

    verdict = inspect(pdf(attach), rules)
    assert outcomes(verdict)["pdf"] == "found"


def test_bytes_before_the_header_make_a_pdf_suspect():
    examination, _embedded = scan_pdf.scan(document(b"GIF89a" + pdf()), Limits())
    assert "pdf.header_not_first" in examination.suspect


# ── office ───────────────────────────────────────────────────────────────────────────────────────


def package(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("word/document.xml", "<w:document xmlns:w='w'/>")
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


RELATIONS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="1" Type="http://x/{kind}" Target="{target}" TargetMode="External"/></Relationships>'


@pytest.mark.parametrize(
    ("member", "outcome", "code"),
    [
        (("word/media/a.png", b"x"), "clean", ""),
        (("word/vbaProject.bin", b"x"), "suspect", "office.macros"),
        (("xl/macrosheets/sheet1.xml", b"<a/>"), "suspect", "office.excel4_macros"),
        (("word/embeddings/oleObject1.bin", b"x"), "suspect", "office.embedded_object"),
        (("word/embeddings/chart.xlsx", b"x"), "clean", ""),
        (("word/activeX/activeX1.bin", b"x"), "suspect", "office.activex"),
        (
            ("word/_rels/a.rels", RELATIONS.format(kind="hyperlink", target="https://example.org")),
            "clean",
            "",
        ),
        (
            ("word/_rels/a.rels", RELATIONS.format(kind="hyperlink", target="\\\\host\\x")),
            "suspect",
            "office.external_link",
        ),
        (
            ("word/_rels/a.rels", RELATIONS.format(kind="image", target="https://example.org")),
            "suspect",
            "office.external_link",
        ),
        (
            ("word/_rels/a.rels", RELATIONS.format(kind="attachedTemplate", target="https://x")),
            "suspect",
            "office.external_template",
        ),
        (("word/_rels/a.rels", b"<broken"), "suspect", ""),
        (
            (
                "word/footer.xml",
                "<w:p><w:instrText>D</w:instrText><w:instrText>DEAUTO c:\\x</w:instrText></w:p>",
            ),
            "suspect",
            "office.dde",
        ),
        (
            ("word/footer.xml", "<w:p><w:instrText>QUOTE 68 68 69</w:instrText></w:p>"),
            "suspect",
            "office.dde",
        ),
        (("xl/externalLinks/e.xml", b"<ddeLink/>"), "suspect", "office.dde"),
        (
            ("word/a.xml", b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a/>"),
            "suspect",
            "xml.doctype",
        ),
        (("word/hidden.bin", EICAR), "found", "rule:eicar_test_file"),
    ],
)
def test_what_an_office_package_carries_is_named(member, outcome, code, rules):
    verdict = inspect(package(member), rules)
    scan = next(item for item in verdict.scans if item.scanner == "office")
    assert scan.outcome == outcome, scan
    assert code in scan.detail


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (b"date,amount\n2026-01-01,-5\n", "clean"),
        (b"a,=1+2\n", "clean"),
        (b"a,=cmd|'/C calc'!A0\n", "suspect"),
        (b"+cmd|' /C calc'!A0", "suspect"),
        (b'=DDE("cmd";"/C calc";"x")', "suspect"),
        (b"{\\rtf1 hello}", "clean"),
        (b"{\\rtf1{\\object\\objemb{\\*\\objdata 0105000002000000}}}", "suspect"),
        (b"begin 644 a.exe\n#86)C\n`\nend\n", "suspect"),
    ],
)
def test_formulas_that_start_programs_and_objects_in_text_are_suspect(text, outcome):
    assert office.scan_text(document(text), Limits()).scan().outcome == outcome


def test_a_broken_compound_file_is_never_clean():
    broken = office.OLE_MAGIC + b"\xff" * 600
    assert office.scan_compound(document(broken), Limits()).scan().outcome == "error"


# ── XML ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>',
        b'<!DOCTYPE a SYSTEM "http://example.org/a.dtd"><a/>',
        "<!DOCTYPE a [<!ENTITY b 'x'>]><a>&b;</a>".encode("utf-16"),
        b"<?xml version='1.0'?>" + b"<!-- -->" * 9000 + b"<!DOCTYPE a [<!ENTITY b 'x'>]><a>&b;</a>",
    ],
)
def test_entities_and_document_types_are_never_resolved(text):
    with pytest.raises(Unreadable):
        xml.parse(text)
    assert xml.scan(document(text), Limits()).scan().outcome != "clean"


def test_xml_nested_beyond_measure_is_refused_and_not_followed():
    with pytest.raises(Unreadable):
        xml.parse(b"<a>" * 100_000 + b"</a>" * 100_000)


def test_an_error_about_xml_does_not_quote_it():
    with pytest.raises(Unreadable) as caught:
        xml.parse(b"<a>SECRET<b></a>")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("text", [b"<svg onload='x()'/>", b"<a><script>x</script></a>"])
def test_scripts_in_drawings_are_suspect(text, rules):
    verdict = inspect(b"<?xml version='1.0'?>" + text, rules)
    assert "suspect" in outcomes(verdict).values()


# ── pattern rules ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("offset", [0, 1, 5000, yara.WHOLE - 30, yara.WHOLE + 1000])
def test_the_test_virus_is_found_wherever_it_lies_also_across_windows(offset, rules):
    data = bytes(offset) + EICAR + bytes(1000)
    assert yara.scan(document(data), rules).found == ["eicar_test_file"]


def test_a_program_is_one_at_the_start_of_a_file_and_not_at_the_start_of_a_window(rules):
    program = b"\x7fELF" + bytes(60)
    assert yara.scan(document(program), rules).found == ["executable_elf"]
    start_of_second = yara.WHOLE - yara.OVERLAP
    assert (
        yara.scan(document(bytes(start_of_second) + program + bytes(yara.OVERLAP)), rules).found
        == []
    )


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0" + bytes(64), "executable_pe"),
        (b"\xcf\xfa\xed\xfe" + bytes(60), None),
        (b"\xfe\xed\xfa\xcf" + bytes(60), "executable_macho"),
        (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(60), "shortcut_lnk"),
        (b"<HTA:APPLICATION id=x>", "hta_application"),
        (b'CreateObject("WScript.Shell").Run "calc"', "script_dropper"),
    ],
)
def test_programs_and_droppers_are_found(data, rule, rules):
    found = yara.scan(document(data), rules).found
    assert (rule in found) if rule else True


def test_rules_of_the_operator_join_and_one_without_severity_means_found(tmp_path):
    (tmp_path / "own.yar").write_text('rule own { strings: $a = "forbidden" condition: $a }')
    extended = yara.RuleSet.load(tmp_path)
    assert yara.scan(document(b"forbidden"), extended).found == ["own"]
    assert extended.version != yara.RuleSet.load().version


# ── the whole ────────────────────────────────────────────────────────────────────────────────────


def test_a_step_that_raises_is_an_error_and_the_other_steps_still_report(rules, monkeypatch):
    def explode(*_arguments):
        raise ZeroDivisionError("SECRET")

    monkeypatch.setattr(scan_pdf, "scan", explode)
    verdict = inspect(pdf(), rules)
    assert outcomes(verdict)["format"] == "error"
    assert outcomes(verdict)["yara"] == "clean"
    assert len(verdict.sha256) == 32
    assert "SECRET" not in str(verdict)


@pytest.mark.parametrize(
    "name", ["invoice.pdf.exe", "a.lnk", "x.js ", "rechnung\u202efdp.exe", "a.HTA"]
)
def test_names_of_programs_are_suspect_whatever_the_content(name, rules):
    assert outcomes(inspect(b"harmless", rules, name))["name"] == "suspect"


@pytest.mark.parametrize("name", ["invoice.pdf", "exe", "a.exe.pdf", "发票.xml", "x.jsx"])
def test_ordinary_names_are_not(name, rules):
    assert "name" not in outcomes(inspect(b"harmless", rules, name))


@pytest.mark.parametrize(
    "data",
    [
        b"Rar!\x1a\x07\x01\0" + bytes(50),
        b"7z\xbc\xaf\x27\x1c" + bytes(50),
        b"\x1f\x8b\x08" + bytes(50),
        bytes(range(256)) * 4,
    ],
)
def test_what_nobody_here_can_open_is_never_clean(data, rules):
    assert "suspect" in {outcomes(inspect(data, rules)).get(name) for name in ("format", "unpack")}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "text"),
        ("记账凭证\n2026年".encode("gb18030"), "text"),
        (b"%PDF-1.7\n", "pdf"),
        (b"\n\n%PDF-1.7\n", "pdf"),
        (b"PK\x03\x04" + bytes(30), "zip"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><a/>", "xml"),
        (b"<!DOCTYPE html><html></html>", "html"),
        (b"From: a\r\nTo: b\r\nSubject: c\r\n\r\nx", "mail"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0", "image"),
    ],
)
def test_content_decides_what_a_document_is(data, kind):
    assert media.detect(document(data, "name.exe"))[0] == kind


def test_everything_that_came_by_mail_is_read_as_a_message():
    assert media.detect(document(b"%PDF-1.7", channel="smtp"))[0] == "mail"
    assert media.detect(document(b"%PDF-1.7", channel="part", depth=1))[0] == "pdf"


@pytest.mark.parametrize(
    "text",
    [
        b"\n" * 3_000_000,
        b",=" * 1_000_000,
        b",=|" * 100_000 + b"!",
        b"\x13 " * 1_000_000,
        b"<" * 1_000_000,
    ],
)
def test_no_long_run_of_anything_makes_the_text_scanner_crawl(text):
    begun = time.process_time()
    office.scan_text(document(text), Limits())
    assert time.process_time() - begun < 10
