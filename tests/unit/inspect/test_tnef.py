"""A winmail.dat comes apart into its attachments, and one that is damaged is closed, never passed over."""

from __future__ import annotations

import io
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspect import inspection
from gateway.inspect.classify import media
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan import yara
from gateway.inspect.unpack import tnef
from tests.support.parts import Parts
from tests.vectors.cases import CASES

CASE = CASES / "15-winmail-and-rar-are-pdf"
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"
TITLE, DATA, PROPERTIES, BEGIN = 0x00018010, 0x0006800F, 0x00069005, 0x00069002
MESSAGE = bytes.fromhex("0703020000000000c000000000000046")


def attribute(level, identifier, value, checksum=None):
    total = sum(value) & 0xFFFF if checksum is None else checksum
    return struct.pack("<BII", level, identifier, len(value)) + value + struct.pack("<H", total)


def properties(*items):
    out = struct.pack("<I", len(items))
    for kind, identifier, value in items:
        out += struct.pack("<HH", kind, identifier)
        if kind in {0x1E, 0x1F, 0x0D, 0x102}:
            out += struct.pack("<II", 1, len(value)) + value + bytes(-len(value) % 4)
        else:
            out += value
    return out


def stream(*attributes, page=1252):
    start = attribute(1, 0x00089006, struct.pack("<I", 0x00010000))
    start += attribute(1, 0x00069007, struct.pack("<II", page, 0))
    start += attribute(1, 0x00078008, b"IPM.Microsoft Mail.Note\0")
    return tnef.SIGNATURE + b"\x01\x00" + start + b"".join(attributes)


def attached(content, title=b"a.pdf\0", held=b""):
    made = attribute(2, BEGIN, bytes(14)) + attribute(2, TITLE, title)
    if content is not None:
        made += attribute(2, DATA, content)
    return made + (attribute(2, PROPERTIES, held) if held else b"")


def unpack(data, depth=0, **limits):
    parts = Parts()
    document = Document("d", io.BytesIO(data), len(data), "winmail.dat", "part", depth)
    assert media.detect(document)[1] == media.TNEF
    return tnef.unpack(document, Limits(**limits), parts).result, parts.taken


def inspect(data, name="name", channel="sftp"):
    parts = Parts()
    document = Document("d", io.BytesIO(data), len(data), name, channel)
    verdict = inspection.inspect(document, Limits(), parts, rules=yara.RuleSet.load(), clamd=None)
    return verdict, parts.taken


def test_every_attachment_becomes_a_part_byte_for_byte_and_the_stream_is_correspondence():
    data = stream(attached(PDF), attached(b"second", b"b.txt\0"))
    result, parts = unpack(data)
    assert parts == [("a.pdf", PDF), ("b.txt", b"second")]
    assert result.scan().outcome == "clean"
    verdict, _parts = inspect(data)
    assert verdict.classification.record_class == "correspondence"
    assert {scan.outcome for scan in verdict.scans} <= {"clean", "skipped"}


@pytest.mark.parametrize(
    ("held", "page", "name"),
    [
        ((0x1F, 0x3707, "Rechnung März 2025.pdf\0".encode("utf-16-le")), 1252, "Rechnung März 2025.pdf"),
        ((0x1E, 0x3707, "发票.pdf\0".encode("gbk")), 936, "发票.pdf"),
        ((0x1E, 0x3707, "Fatura ı.pdf\0".encode("cp1254")), 1254, "Fatura ı.pdf"),
        ((0x1E, 0x3707, "发票.pdf\0".encode()), 65001, "发票.pdf"),
        ((0x1F, 0x3001, "shown\0".encode("utf-16-le")), 99999, "RECHNU~1.PDF"),
    ],
)  # fmt: skip
def test_the_long_name_goes_before_the_short_one_in_whatever_code_page(held, page, name):
    data = stream(attached(PDF, b"RECHNU~1.PDF\0", properties(held)), page=page)
    assert [each for each, _content in unpack(data)[1]] == [name]


def test_content_that_only_the_properties_hold_is_taken_out():
    held = properties((3, 0x3705, struct.pack("<I", 1)), (0x102, 0x3701, PDF))
    assert unpack(stream(attached(None, held=held)))[1] == [("a.pdf", PDF)]


def test_named_properties_and_several_values_are_passed_over():
    named = (
        struct.pack("<HH", 0x1E, 0x8001) + bytes(16) + struct.pack("<II", 1, 6) + b"a\0b\0\0\0\0\0"
    )
    named += struct.pack("<II", 1, 2) + b"x\0\0\0"
    numbered = struct.pack("<HH", 3, 0x8002) + bytes(16) + struct.pack("<III", 0, 7, 1)
    several = struct.pack("<HHI", 0x101E, 0x3A00, 2) + (struct.pack("<I", 2) + b"x\0\0\0") * 2
    last = properties((0x102, 0x3701, PDF))[4:]
    held = struct.pack("<I", 4) + named + numbered + several + last
    assert unpack(stream(attached(None, held=held)))[1] == [("a.pdf", PDF)]


def test_an_attached_message_is_a_stream_of_its_own():
    inner = stream(attached(PDF))
    held = properties((3, 0x3705, struct.pack("<I", 5)), (0x0D, 0x3701, MESSAGE + inner))
    _result, parts = unpack(stream(attached(None, b"Forwarded\0", held)))
    assert parts == [("Forwarded.dat", inner)]
    assert inspect(parts[0][1])[1] == [("a.pdf", PDF)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (stream(attached(PDF))[:-1], "tnef.damaged"),
        (stream(attached(PDF))[:-20] + b"x", "tnef.damaged"),
        (stream(attached(PDF), b"\x07" + bytes(20)), "tnef.damaged"),
        (stream(attached(PDF), b"abcd"), "tnef.damaged"),
        (stream(attribute(2, BEGIN, b"") + attribute(2, DATA, PDF, checksum=1)), "tnef.checksum"),
        (stream(attribute(2, DATA, PDF)), "tnef.attribute_before_attachment"),
        (stream(attached(PDF) + attribute(2, DATA, b"other")), "tnef.two_contents"),
        (stream(attached(None)), "tnef.no_content"),
        (stream(attached(None, held=properties((3, 0x3705, struct.pack("<I", 2))))), "tnef.attached_by_reference"),
        (stream(attached(PDF, held=b"\xff\xff\xff\xff")), "tnef.damaged"),
        (stream(attached(PDF, held=struct.pack("<IHHII", 1, 0x1E, 0x3707, 1, 1 << 30))), "tnef.damaged"),
        (stream(attached(PDF, held=struct.pack("<IHH", 1, 0x0999, 1))), "tnef.damaged"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_contradicts_itself_is_closed(data, code):
    result, parts = unpack(data)
    assert result.unreadable == "malformed"
    assert code in result.suspect
    if code in {"tnef.checksum", "tnef.two_contents", "tnef.attribute_before_attachment"}:
        assert PDF in [content for _name, content in parts]


def test_number_size_and_depth_are_limited():
    data = stream(*[attached(b"x" * 1000)] * 5)
    assert unpack(data, max_parts=2)[0].unreadable == "over_limit"
    assert unpack(data, max_expand_bytes=2500)[0].unreadable == "over_limit"
    assert unpack(data, max_whole_bytes=100)[0].unreadable == "over_limit"
    result, parts = unpack(data, depth=4)
    assert (result.unreadable, parts) == ("over_limit", [])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_bytes_loses_an_attachment_in_silence(data):
    whole = bytearray(stream(attached(PDF), attached(b"second", b"b.txt\0")))
    at = data.draw(st.integers(6, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    result, parts = unpack(bytes(whole))
    assert len(parts) == 2 or result.unreadable


@pytest.mark.parametrize(
    "make",
    [
        lambda n: stream(attached(b"x") * (n // 60)),
        lambda n: stream(attribute(1, 1, b"") * (n // 11)),
        lambda n: stream(attached(PDF, held=struct.pack("<I", 9999) + struct.pack("<HH", 1, 1) * (n // 4))),
        lambda n: stream(attached(PDF), bytes(n)),
        lambda n: stream(attached(b"\xff" * n)),
    ],
)  # fmt: skip
def test_a_stream_is_read_in_time_that_grows_with_its_length(make):
    spent = []
    for n in (500_000, 1_000_000):
        data = make(n)
        times = []
        for _ in range(3):
            begun = time.process_time()
            unpack(data)
            times.append(time.process_time() - begun)
        spent.append(min(times))
    assert spent[1] < max(0.1, 3 * spent[0])


@pytest.mark.skipif(not CASE.is_dir(), reason="the folder of cases is not here")
def test_the_invoice_in_a_winmail_dat_of_a_mail_is_taken_out_and_known():
    mail = (CASE / "14-winmail.eml").read_bytes()
    _verdict, parts = inspect(mail, channel="smtp")
    assert [name for name, _content in parts] == ["winmail.dat"]
    verdict, inner = inspect(parts[0][1], "winmail.dat", channel="part")
    assert verdict.unreadable == ""
    assert [name for name, _content in inner] == ["invoice-14.pdf"]
    invoice, _parts = inspect(inner[0][1], "invoice-14.pdf", channel="part")
    assert invoice.classification.record_class == "invoice"
    assert str(invoice.classification.document_date).startswith("2025")
