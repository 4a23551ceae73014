"""A .msg comes apart into its attachments, and attached messages are .msg of their own that others can read."""

from __future__ import annotations

import io
import struct

import olefile
import oxmsg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits
from gateway.inspect.formats import compound_writer
from gateway.inspect.formats.compound_writer import Storage
from gateway.inspect.scan import yara
from gateway.inspect.unpack import outlook
from tests.support.parts import Parts

RULES = yara.RuleSet.load()
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"


def properties(header, **numbers):
    entries = b"".join(
        struct.pack("<HHIii", 3, int(name[1:], 16), 6, value, 0) for name, value in numbers.items()
    )
    return bytes(header) + entries


def stated(streams):
    """The properties stream with an entry for each property that has a stream, as Outlook writes it."""
    for name, content in list(streams.items()):
        if name.startswith("__substg1.0_"):
            tag = int(name[-8:], 16)
            size = len(content) + (2 if tag & 0xFFFF == 0x1F else 0)
            streams[outlook.PROPERTIES] += struct.pack("<IIII", tag, 6, size, 0)
    return streams


def wide(identifier, text):
    return {f"__substg1.0_{identifier:04X}001F": text.encode("utf-16-le")}


def attachment(name="发票.pdf", content=PDF, method=1, message=None):
    streams = {outlook.PROPERTIES: properties(8, x3705=method)}
    streams |= wide(0x3707, name) if name else {}
    storages = {}
    if content is not None:
        streams["__substg1.0_37010102"] = content
    stated(streams)
    if message is not None:
        storages["__substg1.0_3701000D"] = message
    return Storage(streams, storages)


def message(*attachments, header=32, subject="papers", body="Please find the papers.", **more):
    streams = {outlook.PROPERTIES: properties(header, **more)}
    streams |= wide(0x0037, subject) | wide(0x1000, body) | wide(0x5D01, "a@example.org")
    stated(streams)
    return Storage(
        streams, {f"__attach_version1.0_#{n:08X}": each for n, each in enumerate(attachments)}
    )


def inspect(data, depth=0, name="a.msg", **limits):
    parts = Parts()
    document = Document("d", io.BytesIO(data), len(data), name, "sftp", depth)
    verdict = inspection.inspect(document, Limits(**limits), parts, rules=RULES, clamd=None)
    return verdict, parts


def codes(verdict):
    return ", ".join(scan.detail for scan in verdict.scans if scan.outcome != "clean")


def test_every_attachment_becomes_a_part_byte_for_byte_and_the_message_is_correspondence():
    large = bytes(range(256)) * 400
    data = compound_writer.write(message(attachment(), attachment("b.bin", large)))
    verdict, parts = inspect(data)
    assert verdict.media_type == outlook.MEDIA_TYPE
    assert parts.taken == [("发票.pdf", PDF), ("b.bin", large)]
    assert verdict.facts["subject"] == "papers"
    assert verdict.facts["from"] == "a@example.org"
    assert verdict.classification.record_class == "correspondence"
    assert {scan.outcome for scan in verdict.scans} <= {"clean", "skipped"}


def test_another_parser_finds_the_same_attachments():
    data = compound_writer.write(message(attachment(), attachment("b.bin", b"x" * 9000)))
    _verdict, parts = inspect(data)
    other = oxmsg.Message.load(io.BytesIO(data))
    assert parts.taken == [(each.file_name, each.file_bytes) for each in other.attachments]


def test_an_attached_message_is_a_file_of_its_own_and_comes_apart_as_well():
    inner = message(attachment("inner.pdf"), header=24, subject="内")
    data = compound_writer.write(message(attachment("内", None, 5, inner)))
    _verdict, parts = inspect(data)
    ((name, content),) = parts.taken
    assert name == "内.msg"
    assert oxmsg.Message.load(io.BytesIO(content)).subject == "内"
    verdict, inside = inspect(content, 1, name)
    assert inside.taken == [("inner.pdf", PDF)]
    assert verdict.facts["subject"] == "内"


def test_names_in_a_code_page_are_read_in_it():
    each = attachment(name="")
    each.streams["__substg1.0_3707001E"] = "发票.pdf".encode("gbk")
    data = compound_writer.write(message(each, x3FFD=936))
    assert inspect(data)[1].names == ["发票.pdf"]


@pytest.mark.parametrize(
    ("each", "code"),
    [
        (attachment(content=None, method=4), "outlook.attached_by_reference"),
        (attachment(content=None), "outlook.no_content"),
        (attachment(message=message(header=24)), "outlook.two_contents"),
    ],
)
def test_what_could_not_be_taken_out_is_said(each, code):
    verdict, parts = inspect(compound_writer.write(message(each, attachment("whole.pdf"))))
    assert parts.names == ["whole.pdf"]
    assert code in codes(verdict)
    assert verdict.unreadable


@pytest.mark.parametrize("limits", [{"max_parts": 1}, {"max_expand_bytes": 40}, {"max_depth": 1}])
def test_limits_hold(limits):
    data = compound_writer.write(message(attachment(), attachment()))
    verdict, _parts = inspect(data, depth=1, **limits)
    assert verdict.unreadable == "over_limit"


def test_names_are_no_paths():
    data = compound_writer.write(message(attachment("../../x.pdf"), attachment("C:\\y.pdf")))
    assert inspect(data)[1].names == ["x.pdf", "y.pdf"]


def test_a_message_that_is_cut_or_changed_never_raises_and_is_never_clean_where_it_lost_something():
    data = compound_writer.write(message(attachment(), attachment("b.bin", b"x" * 9000)))
    for cut in range(0, len(data), 1009):
        verdict, parts = inspect(data[:cut])
        assert len(parts.taken) == 2 or verdict.unreadable or codes(verdict) or not parts.taken


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=6000), max_size=12),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4),
)
def test_what_is_written_is_what_other_programs_read(contents, changes):
    tree = Storage({f"s{n}": data for n, data in enumerate(contents)})
    tree.storages["inner"] = Storage({f"t{n}": data for n, data in enumerate(contents)})
    data = compound_writer.write(tree)
    with olefile.OleFileIO(io.BytesIO(data), raise_defects=olefile.DEFECT_POTENTIAL) as ole:
        for number, content in enumerate(contents):
            assert ole.openstream(f"s{number}").read() == content
            assert ole.openstream(f"inner/t{number}").read() == content
    damaged = bytearray(data)
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    inspect(bytes(damaged))
