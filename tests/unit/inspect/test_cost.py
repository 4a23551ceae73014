"""What an inspection costs grows with the bytes sent, whatever they are: in time, and in memory."""

from __future__ import annotations

import gc
import io
import os
import resource
import struct
import time
import zipfile
import zlib

import pytest

from gateway.inspect import inspection, pool
from gateway.inspect.classify import media
from gateway.inspect.classify import text as read
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan import yara
from gateway.inspect.worker import cpu_budget

MIB = 1024 * 1024
RULES = yara.RuleSet.load()


class Parts:
    def add(self, _name, chunks, name_bytes=b""):
        for _chunk in chunks:
            pass
        return "part"


def inspect(data, name="name.eml"):
    document = Document("d", io.BytesIO(data), len(data), name)
    return inspection.inspect(document, Limits(), Parts(), rules=RULES, clamd=None)


@pytest.fixture(scope="module", autouse=True)
def _preloaded():
    pool._preload()
    inspect(b"warm")


# ── inputs of about n bytes, or n bytes expanded ─────────────────────────────────────────────────

HEAD = b"From: a@example.org\nTo: b@example.org\nSubject: x\nMIME-Version: 1.0\n"
PARTED = HEAD + b"Content-Type: multipart/mixed; boundary=B\n\n"


def many(unit, before=b"", after=b""):
    return lambda n: before + unit * (n // len(unit)) + after


def nested_parts(n):
    part = b"Content-Type: multipart/mixed; boundary=B%d\n\n--B%d\n"
    return HEAD + b"".join(part % (i, i) for i in range(n // 60))


MAIL = {
    "headers": many(b"X: y\n", HEAD, b"\nx"),
    "headers of structure": many(b"Content-Type: text/plain; a=b\n", HEAD, b"\nx"),
    "encoded headers": many(b"From: =?utf-8?q?a?= <a@b>\n", HEAD, b"\nx"),
    "one header": many(b"y", HEAD + b"X: ", b"\n\nx"),
    "a folded header": many(b" \n", HEAD + b"X: a\n", b"\nx"),
    "spaces after a boundary": many(b" ", PARTED + b"--B", b"\n\nx"),
    "blanks after a boundary": many(b"\t \r", PARTED + b"--B", b"x\n"),
    "boundaries": many(b"--B\n", PARTED),
    "parts": many(b"--B\n\nx\n", PARTED),
    "parts with parameters": many(
        b"--B\nContent-Type: a/b" + b"".join(b";a*%d=b" % i for i in range(700)) + b"\n\nx\n",
        PARTED,
    ),
    "nested parts": nested_parts,
    "nested messages": many(b"Content-Type: message/rfc822\n\n", HEAD),
    "messages of a mailbox": many(b"From a\nX: y\n\n"),
    "tags": many(b"<", HEAD + b"Content-Type: text/html\n\n"),
    "scripts": many(b"<script", HEAD + b"Content-Type: text/html\n\n"),
    "damaged base64": many(
        b"QUJD!\n", PARTED + b"--B\nContent-Type: a/b\nContent-Transfer-Encoding: base64\n\n"
    ),
}
TEXT = {
    "spaces": many(b" "),
    "line ends": many(b"\n"),
    "cells": many(b",=a|", after=b"!"),
    "quotes": many(b'"'),
    "dates": many(b"2026-01-01 "),
    "ideographs": many("年 ".encode()),
    "combining marks": many("\u0300\u0323".encode(), b"a"),
    "signs that grow": many("\ufdfa".encode()),
    "groups": many(b"{", b"{\\rtf1 "),
    "fields of rich text": many(b"{\\*\\fldinst a", b"{\\rtf1 "),
    "comments": many(b";a\n", after=b"[InternetShortcut]"),
    "settings": many(b"a:i:1\n"),
}
XML = {
    "depth": many(b"<a>", b"<?xml version='1.0'?>"),
    "comments": many(b"<!--", b"<?xml version='1.0'?><a>"),
    "declarations": many(b"<! ", b"<?xml version='1.0'?><a>"),
    "attributes": lambda n: (
        b"<?xml version='1.0'?><a " + b" ".join(b"a%d=''" % i for i in range(n // 10)) + b"/>"
    ),
    "quotes in formulas": many(b"'a\"", b"<?xml version='1.0'?><a><f>", b"</f></a>"),
    "joins in formulas": many(b'" ', b"<?xml version='1.0'?><a><f>HYPERLINK(", b"</f></a>"),
    "fields in fields": many(
        b"<fldChar fldCharType='begin'/><instrText>QUOTE 65</instrText>",
        b"<?xml version='1.0'?><a>",
        b"</a>",
    ),
    "parties": many(
        b"<AccountingSupplierParty><Party/></AccountingSupplierParty>",
        b"<Invoice xmlns='urn:oasis:names:specification:ubl:schema:xsd:Invoice-2'>",
        b"</Invoice>",
    ),
}


def zipped(members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def names(unit):
    return lambda n: zipped(
        [(f"{unit * (50_000 // len(unit.encode()))}{i}", "") for i in range(n // 100_000)]
    )


def word(unit, before=b"", after=b""):
    space = b"http://schemas.openxmlformats.org/wordprocessingml/2006/main"

    def make(n):
        body = b"<w:d xmlns:w='%s'>" % space + many(unit, before, after)(n) + b"</w:d>"
        return zipped([("[Content_Types].xml", "<Types/>"), ("word/document.xml", body)])

    return make


OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def workbook(rows, part="worksheets/sheet1.xml"):
    link = f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r" Type="{OFFICE}/{{}}" Target="{{}}"/></Relationships>'
    return zipped(
        [
            ("[Content_Types].xml", "<Types/>"),
            ("_rels/.rels", link.format("officeDocument", "xl/workbook.xml")),
            (
                "xl/workbook.xml",
                (
                    f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}"><sheets><sheet name="a" sheetId="1" r:id="r"/>'
                    "</sheets></workbook>"
                ),
            ),
            ("xl/_rels/workbook.xml.rels", link.format("worksheet", part)),
            (f"xl/{part}", f'<worksheet xmlns="{SHEET}"><sheetData>{rows}</sheetData></worksheet>'),
        ]
    )


def open_document(kind, body):
    spaces = " ".join(
        f"xmlns:{name[0]}='urn:oasis:names:tc:opendocument:xmlns:{name}:1.0'"
        for name in ("office", "table", "xtext")
    ).replace("xtext", "text")
    text = f"<o:d {spaces}><o:body><o:{kind}>{body}</o:{kind}></o:body></o:d>"
    return zipped(
        [("mimetype", f"application/vnd.oasis.opendocument.{kind}"), ("content.xml", text)]
    )


def paged(body):
    return zipped(
        [("OFD.xml", "<OFD/>"), ("Doc_0/Pages/Page_0/Content.xml", f"<Page>{body}</Page>")]
    )


PACKAGES = {
    "long names": names("x"),
    "long ways": names("../"),
    "ideographs in names": names("年"),
    "members": lambda n: zipped([(f"a{i}", "") for i in range(n // 110)]),
    "paragraphs": word(b"<w:p/>"),
    "paragraphs in paragraphs": word(b"<w:t/>", b"<w:p>" * 240, b"</w:p>" * 240),
    "cells": lambda n: workbook("<row><c><v>1</v></c></row>" * (n // 26)),
    "formulas": lambda n: workbook("<row><c><f>A1</f></c></row>" * (n // 27)),
    "cells of ods": lambda n: open_document(
        "spreadsheet",
        f"<t:table t:name='a'><t:table-row>{'<t:table-cell/>' * (n // 15)}</t:table-row></t:table>",
    ),
    "text in text of odt": lambda n: open_document(
        "text", "<x:p>" * 240 + "<x:a/>" * (n // 6) + "</x:p>" * 240
    ),
    "text in text of ofd": lambda n: paged(
        "<TextObject>" * 240 + "<TextCode/>" * (n // 11) + "</TextObject>" * 240
    ),
}


def pdf(objects, catalog=b"", behind=b""):
    """A PDF of these objects by number; 1 and 2 are made here."""
    objects = {1: b"<</Type/Catalog/Pages 2 0 R%s>>" % catalog} | objects
    out = bytearray(b"%PDF-1.7\n")
    places = {}
    for number, body in sorted(objects.items()):
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    top, start = max(places) + 1, len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % top
    free = b"0000000000 65535 f \n"
    out += b"".join(b"%010d 00000 n \n" % places[i] if i in places else free for i in range(1, top))
    out += b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (top, start)
    return bytes(out + behind)


def stream(data, more=b"", times=1):
    for _ in range(times):
        data = zlib.compress(data, 9)
    filters = b"/Filter[%s]" % (b"/FlateDecode" * times) if times else b""
    return b"<<%s%s/Length %d>>\nstream\n%s\nendstream" % (more, filters, len(data), data)


def pages(count, extra, more=b""):
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 60 0 R%s>>" % more
    kids = b" ".join(b"%d 0 R" % (3 + i) for i in range(count))
    tree = b"<</Type/Pages/Count %d/Kids[%s]>>" % (count, kids)
    return {2: tree} | {3 + i: page for i in range(count)} | extra


def forms(deep, wide):
    made = {60: stream(b"/F0 Do ")}
    for i in range(deep):
        used = b"/Resources<</XObject<</F%d %d 0 R>>>>" % (i + 1, 62 + i)
        made[61 + i] = stream(
            b"/F%d Do " % (i + 1) * wide, b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]" + used
        )
    made[61 + deep] = stream(b"q Q", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]")
    return pdf(pages(1, made, b"/Resources<</XObject<</F0 61 0 R>>>>"))


def drawn(unit):
    return lambda n: pdf(pages(50, {60: stream(unit * (n // len(unit)))}))


ONE = pages(1, {60: stream(b"q Q")})
PDF = {
    "objects": lambda n: pdf(ONE | {100 + i: b"<<>>" for i in range(n // 40)}),
    "objects without a table": many(b"9 0 obj\n<<>>\nendobj\n", b"%PDF-1.7\n"),
    "streams": lambda n: pdf(ONE | {100 + i: stream(b"x", times=0) for i in range(n // 90)}),
    "ends": many(b"\n%%EOF", pdf(ONE)),
    "line ends": many(b"\r", b"%PDF-1.7\n", pdf(ONE)),
    "numbers": many(b"1 ", b"%PDF-1.7\n", pdf(ONE)),
    "kids of themselves": lambda n: pdf(
        {2: b"<</Type/Pages/Count 1/Kids[" + b"2 0 R " * (n // 6) + b"]>>"}
    ),
    "outlines": lambda n: pdf(
        ONE
        | {100 + i: b"<</First %d 0 R/Next %d 0 R>>" % (101 + i, 101 + i) for i in range(n // 60)},
        b"/Outlines 100 0 R",
    ),
    "arrays": lambda n: pdf(ONE | {100: b"[" + b"[]" * (n // 2) + b"]"}),
    "lines drawn on every page": drawn(b"0 0 m "),
    "texts drawn on every page": drawn(b"BT (a) Tj ET "),
    "comments on every page": drawn(b"%\n"),
    "drawings that call ten drawings": lambda n: forms(max(1, n.bit_length() - 14), 10),
    "escapes in a form": many(b"#41", b"%FDF-1.2\n"),
}
CASES = [
    (family, what, make, largest)
    for family, makers, largest in (
        ("mail", MAIL, 300_000),
        ("text", TEXT, 200_000),
        ("xml", XML, 300_000),
        ("package", PACKAGES, 1_500_000),
        ("pdf", PDF, 400_000),
    )
    for what, make in makers.items()
]


def seconds(data):
    # A worker has frozen what it was forked with; here a collection would look through the whole test run.
    gc.disable()
    try:
        begun = time.process_time()
        inspect(data)
        return time.process_time() - begun
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("make", "largest"),
    [pytest.param(m, n, id=f"{f}: {w}") for f, w, m, n in CASES],
)
def test_twice_the_input_takes_about_twice_the_time(make, largest):
    inputs = [make(largest >> doublings) for doublings in range(6, -1, -1)]  # six doublings
    spent = []
    for data in inputs:
        spent.append(seconds(data))
        # Whatever it is: what its sender pays for in bytes. Runs here are shared, and so is this bound.
        assert spent[-1] < 10 + 10 * len(data) / MIB
    # Over two doublings what is linear takes four times as long, and what is quadratic sixteen.
    before, last = spent[-3], spent[-1]
    for _again in range(4):  # the least of several: others use the same processors
        if last < max(0.1, 9 * before):
            return
        before, last = min(before, seconds(inputs[-3])), min(last, seconds(inputs[-1]))
    assert last < max(0.1, 9 * before), spent


def test_long_names_and_headers_of_a_megabyte_are_read_within_seconds():
    assert seconds(MAIL["headers"](MIB)) < 5
    assert seconds(PACKAGES["long names"](8 * MIB)) < 5


# ── memory ───────────────────────────────────────────────────────────────────────────────────────


def within_a_gibibyte(data):
    """What was said, by a process that may take a GiB more, as a worker may; None: it was ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
            resource.setrlimit(resource.RLIMIT_AS, (used + 1024 * MIB, used + 1024 * MIB))
            resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            verdict = inspect(data, "name")
            errors = [s.detail for s in verdict.scans if s.outcome == "error"]
            os.write(writing, f"{verdict.media_type}|{errors}|{verdict.unreadable}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return said or None


def binary_sheet(row, column):
    def record(kind, payload):
        number = bytes([kind]) if kind < 128 else bytes([kind & 0x7F | 0x80, kind >> 7])
        return number + bytes([len(payload)]) + payload

    cell = struct.pack("<II", column, 0) + struct.pack("<d", 1)
    first = struct.pack("<II", 0, 0) + struct.pack("<d", 1)
    return (
        record(129, b"") + record(145, b"") + record(0, struct.pack("<I", 0)) + record(5, first)
        + record(0, struct.pack("<I", row)) + record(5, cell) + record(146, b"") + record(130, b"")
    )  # fmt: skip


FAR = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
REPEATED = (
    "<t:table t:name='a'><t:table-row t:number-rows-repeated='1000000'><t:table-cell o:value-type='float'"
    " o:value='1' t:number-columns-repeated='16000'><x:p>1</x:p></t:table-cell></t:table-row></t:table>"
)
GAPS = (
    "<t:table t:name='a'><t:table-row t:number-rows-repeated='1048000'/><t:table-row><t:table-cell"
    " t:number-columns-repeated='16000'/><t:table-cell o:value-type='float' o:value='1'><x:p>1</x:p>"
    "</t:table-cell></t:table-row></t:table>"
)


def understated(method):
    """An archive whose member expands to 600 MB and says that it has one."""
    data = bytearray(zipped([("a.txt", bytes(600 * MIB))], method))
    directory = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, 22, MIB)
    struct.pack_into("<I", data, directory + 24, MIB)
    return bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: workbook(FAR), id="a cell at each end of a sheet"),
        pytest.param(lambda: workbook(FAR, "other/part.xml"), id="a sheet under another name"),
        pytest.param(lambda: open_document("spreadsheet", REPEATED), id="a cell repeated"),
        pytest.param(lambda: open_document("spreadsheet", GAPS), id="a gap repeated"),
        pytest.param(lambda: pdf(pages(1, {60: stream(bytes(300 * MIB), times=2)})), id="deflate twice"),
        pytest.param(lambda: pdf(pages(9, {60: stream(bytes(300 * MIB))})), id="deflate"),
        pytest.param(lambda: understated(zipfile.ZIP_BZIP2), id="bzip2 that understates"),
        pytest.param(lambda: understated(zipfile.ZIP_LZMA), id="lzma that understates"),
    ],
)  # fmt: skip
def test_no_small_file_ends_a_worker_by_its_memory(make):
    data = make()
    assert len(data) < MIB
    assert within_a_gibibyte(data) is not None


def test_a_sheet_is_read_where_its_table_is_modest_and_not_where_it_is_not():
    def text(data):
        document = Document("d", io.BytesIO(data), len(data), "name")
        found = inspection.zip_layout.open_zip(document, Limits(), max_members=100)
        return read.read_sheets(document, Limits(), found).text

    assert media.is_workbook("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
    assert text(workbook('<row r="1"><c r="A1"><v>7</v></c></row>')) == "a\n7.0"
    assert text(workbook(FAR)) == ""


def test_the_extent_of_binary_sheets_is_told_from_their_records():
    from gateway.inspect.classify import sheet_extent

    assert sheet_extent._binary(binary_sheet(9, 9)).modest()
    assert not sheet_extent._binary(binary_sheet(1_048_575, 16_383)).modest()


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────


def test_processor_time_grows_with_the_document_up_to_what_is_configured():
    assert cpu_budget(30_000, 120, 1.0) == 11
    assert cpu_budget(MIB, 120, 1.0) == 21
    assert cpu_budget(100 * MIB, 120, 1.0) == 221
    assert cpu_budget(100 * MIB, 5, 0.0) == 6
