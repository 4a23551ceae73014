"""Messages and archives come apart into bounded, named parts, and deception is called by its name."""

from __future__ import annotations

import base64
import contextlib
import io
import quopri
import stat
import struct
import time
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspect.classify import media
from gateway.inspect.document import Document, Limits, Unreadable
from gateway.inspect.formats import zip_layout
from gateway.inspect.unpack import mail as unpack
from gateway.names import safe_name
from tests.support.parts import Parts


def document(data, *, depth=0, channel="sftp"):
    return Document("d", io.BytesIO(data), len(data), "name", channel, depth)


def mail(text, limits=None, depth=0):
    parts = Parts()
    raw = (
        text.replace("\n", "\r\n").encode("utf-8", "surrogateescape")
        if isinstance(text, str)
        else text
    )
    result = unpack.unpack_mail(document(raw, depth=depth), limits or Limits(), parts)
    return result, parts.taken


def attachment(content, *, name="a.pdf", headers=""):
    coded = base64.encodebytes(content).decode()
    return (
        "From: a@example.org\nTo: b@example.org\nSubject: papers\nMIME-Version: 1.0\n"
        'Content-Type: multipart/mixed; boundary="B"\n\n--B\nContent-Type: text/plain\n\nHello\n'
        f'--B\nContent-Type: application/pdf\nContent-Disposition: attachment; filename="{name}"\n'
        f"Content-Transfer-Encoding: base64\n{headers}\n{coded}--B--\n"
    )


# ── mail ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_attachment_becomes_a_part_byte_for_byte_and_the_text_is_kept_for_reading():
    content = bytes(range(256)) * 40
    result, parts = mail(attachment(content))
    assert parts == [("a.pdf", content)]
    assert result.text.strip() == "Hello"
    assert result.facts == {"from": "a@example.org", "subject": "papers", "automatic": "no"}
    assert result.suggested_name == "papers.eml"
    assert result.result.scan().outcome == "clean"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Content-Transfer-Encoding: 7bit\n", "mail.duplicate_content_transfer_encoding"),
        ("Content-Type: text/plain\n", "mail.duplicate_content_type"),
        ("Content-Disposition: inline\n", "mail.duplicate_content_disposition"),
        ("Content-Type(x): text/plain\n", "mail.header_name"),
    ],
)
def test_headers_that_mail_programs_resolve_differently_are_ambiguous(header, code):
    result, parts = mail(attachment(b"content", headers=header))
    assert result.result.unreadable == "ambiguous"
    assert code in result.result.suspect
    assert len(parts) == 1, "the part is taken out and scanned all the same"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ('multipart/mixed; boundary="A"; boundary="B"', "mail.duplicate_boundary"),
        ('multipart/mixed; boundary="' + "B" * 71 + '"', "mail.bad_boundary"),
        ('multipart/mixed; boundary=""', "mail.bad_boundary"),
    ],
)
def test_a_boundary_that_can_be_read_in_two_ways_is_ambiguous(kind, code):
    result, _parts = mail(attachment(b"x").replace('multipart/mixed; boundary="B"', kind))
    assert code in result.result.suspect
    assert result.result.scan().outcome != "clean"


def test_an_encoding_nobody_knows_is_ambiguous():
    result, _parts = mail(attachment(b"x").replace("Encoding: base64", "Encoding: base65"))
    assert result.result.unreadable == "ambiguous"


def test_a_multipart_that_claims_to_be_encoded_is_ambiguous():
    text = attachment(b"x").replace(
        "MIME-Version", "Content-Transfer-Encoding: base64\nMIME-Version"
    )
    result, _parts = mail(text)
    assert "mail.encoded_multipart" in result.result.suspect


def test_damaged_base64_is_taken_as_far_as_it_goes_and_the_mail_is_ambiguous():
    content = b"content of a file that a mail program opens"
    whole = base64.encodebytes(content).decode()
    for damaged in (
        whole.rstrip("=\n") + "\n",
        whole + "-- \nThis mail was checked by a gateway.\n",
        whole.rstrip("=\n") + "\n\n--\nfooter, without padding before it\n",
    ):
        result, parts = mail(attachment(content).replace(whole, damaged))
        assert parts == [("a.pdf", content)]
        assert result.result.unreadable == "ambiguous"
    result, parts = mail(attachment(content).replace(whole, "Y2=u\n" + whole))
    assert result.result.unreadable == "ambiguous"
    assert len(parts) == 1


@pytest.mark.parametrize("coding", ["base65", "base64 (encoded)", "x-uuencode", "BASE64;"])
def test_an_attachment_under_an_encoding_nobody_knows_does_not_vanish(coding):
    result, parts = mail(attachment(b"x" * 50).replace("Encoding: base64", f"Encoding: {coding}"))
    assert result.result.unreadable == "ambiguous"
    ((name, content),) = parts
    assert name == "a.pdf"
    assert content == (b"x" * 50 if "base64" in coding.lower() else content)
    assert content


@pytest.mark.parametrize("raw", [b"", b"\r\n\r\n", b"   "])
def test_a_mail_of_nothing_is_for_a_person(raw):
    assert mail(raw)[0].result.unreadable == "malformed"


INNER = attachment(b"MZ a program", name="tool.exe")


def attached(headers, body):
    return (
        'From: a@b\nSubject: outer\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="O"\n\n'
        f"--O\n{headers}\n\n{body}\n--O--\n"
    )


def taken_apart(parts, depth=1):
    """Everything found inside, however deep, the way the inspectors go on with each part."""
    found = []
    for name, content in parts:
        found.append((name, content))
        inner = Document("d", io.BytesIO(content), len(content), name, "part", depth)
        if media.detect(inner)[0] == "mail":
            deeper = Parts()
            unpack.unpack_mail(inner, Limits(), deeper)
            found += taken_apart(deeper.taken, depth + 1)
    return found


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        pytest.param(
            attached(
                "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64",
                base64.encodebytes(INNER.encode()).decode(),
            ),
            True,
            id="message in base64",
        ),
        pytest.param(
            attached(
                "Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable",
                quopri.encodestring(INNER.encode()).decode(),
            ),
            True,
            id="message in quoted-printable",
        ),
        pytest.param(
            attached(
                'Content-Type: multipart/mixed; boundary="B"\nContent-Transfer-Encoding: base64',
                base64.encodebytes(INNER.partition("\n\n")[2].encode()).decode(),
            ),
            True,
            id="multipart in base64",
        ),
        pytest.param(
            attached("Content-Type: message/rfc822", INNER.replace("From: a@", "From:a@")),
            False,
            id="no space after the first colon",
        ),
        pytest.param("\n" + INNER, True, id="a blank line before the header"),
        pytest.param(
            attached("Content-Type: message/rfc822", "\n" + INNER), False, id="blank line inside"
        ),
        pytest.param(
            "From x@y Mon Jan  1 00:00:00 2024\nFrom: a@b\nSubject: one\n\ntext\n\n"
            "From x@y Mon Jan  1 00:00:00 2024\n" + INNER,
            True,
            id="a second message in a mailbox",
        ),
    ],
)
def test_what_an_attached_mail_holds_is_taken_out_whichever_way_it_is_written(text, closed):
    result, parts = mail(text)
    assert ("tool.exe", b"MZ a program") in taken_apart(parts)
    assert bool(result.result.unreadable) is closed


@pytest.mark.parametrize(
    "grow",
    [
        pytest.param(lambda n: "boundary" + " " * n + "x", id="boundary and spaces"),
        pytest.param(lambda n: ";boundary" * (n // 9), id="many boundaries"),
        pytest.param(lambda n: "x; name" + " " * n + ";", id="name and spaces"),
        pytest.param(lambda n: ';"' * (n // 2), id="quotes"),
    ],
)
def test_a_header_of_any_length_costs_no_more_than_its_length(grow):
    def cost(length):
        text = f"From: a@b\nContent-Type: multipart/mixed; {grow(length)}\n\n--B\n\nx\n--B--\n"
        begun = time.process_time()
        mail(text)
        return time.process_time() - begun

    first = max(cost(16_384), 0.002)
    # Six doublings: 64 times the input. Quadratic would be 4096 times the time.
    assert cost(16_384 * 64) < first * 64 * 8


@pytest.mark.parametrize(
    "text",
    ["begin 644 a.exe\n#86)C\n`\nend\n", "(This file must be converted with BinHex 4.0)\n:xyz:\n"],
)
def test_a_file_written_into_the_text_is_ambiguous(text):
    result, _parts = mail(f"From: a@example.org\nSubject: s\n\n{text}")
    assert "mail.encoded_in_text" in result.result.suspect


def test_encrypted_mail_is_reported_as_encrypted():
    text = 'From: a@b\nSubject: s\nMIME-Version: 1.0\nContent-Type: multipart/encrypted; boundary="B"\n\n--B\n\nx\n--B--\n'
    assert mail(text)[0].result.unreadable == "encrypted"


def test_a_message_attached_is_one_part_and_is_not_unpacked_in_place():
    inner = attachment(b"deep")
    text = f'From: a@b\nSubject: outer\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="O"\n\n--O\nContent-Type: message/rfc822\n\n{inner}\n--O--\n'
    _result, parts = mail(text)
    assert [name for name, _ in parts] == ["papers.eml"]
    assert b"filename=" in parts[0][1]


PNG = "iVBORw0KGgoAAAAAAAAAAA=="
DER = "MIIBAA=="
EXE = base64.b64encode(b"MZ" + bytes(60)).decode()


def related(picture: str, signature: str, kind: str = "application/pkcs7-signature") -> str:
    return (
        'From: a@b\nSubject: s\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary="B"\n\n'
        f"--B\nContent-Type: image/png\nContent-ID: <logo>\nContent-Transfer-Encoding: base64\n\n{picture}\n"
        f"--B\nContent-Type: {kind}; name=smime.p7s\n"
        f"Content-Transfer-Encoding: base64\n\n{signature}\n"
        "--B\nContent-Type: image/png\nContent-Disposition: attachment; filename=scan.png\nContent-ID: <x>\n"
        f"Content-Transfer-Encoding: base64\n\n{PNG}\n--B--\n"
    )


def test_pictures_shown_in_the_text_and_signatures_are_no_documents():
    assert [name for name, _ in mail(related(PNG, DER))[1]] == ["scan.png"]


def test_a_program_that_calls_itself_a_logo_or_a_signature_is_taken_out():
    assert [name for name, _ in mail(related(EXE, DER))[1]] == ["attachment-1.png", "scan.png"]
    for kind in ("application/pkcs7-signature", "application/pgp-signature"):
        assert [name for name, _ in mail(related(PNG, EXE, kind))[1]] == ["smime.p7s", "scan.png"]


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
def test_a_program_that_calls_itself_the_text_is_taken_out(kind):
    text = f"From: a@b\nContent-Type: {kind}\nContent-Transfer-Encoding: base64\n\n{EXE}\n"
    assert [content for _, content in mail(text)[1]] == [b"MZ" + bytes(60)]


INSIDE = (
    "Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=tool.exe\n"
    f"Content-Transfer-Encoding: base64\n\n{EXE}\n"
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            f'Content-Type: multipart (x)/mixed; boundary="B"\n\n--B\n{INSIDE}--B--\n',
            "mail.odd_type",
        ),
        (f'Content-Type: "multipart/mixed"; boundary="B"\n\n--B\n{INSIDE}--B--\n', "mail.odd_type"),
        (
            f'Content-Type: =?utf-8?q?multipart/mixed?=; boundary="B"\n\n--B\n{INSIDE}--B--\n',
            "mail.odd_type",
        ),
        (
            (
                'Content-Type: multipart/mixed; boundary="B"\n\n--B\nContent-Type: text/plain\n\nhi\n--B--\n'
                f"--B\n{INSIDE}--B--\n"
            ),
            "mail.parts_behind_the_end",
        ),
        (f"Content-Type: message/delivery-status\n\n{INSIDE}", "mail.part_malformed"),
        ("Subject: s\n\n=ybegin line=128 size=5 name=a.exe\nabcde\n", "mail.encoded_in_text"),
    ],
)
def test_what_some_programs_would_open_and_others_do_not_see_closes_the_mail(text, code):
    result, _ = mail(f"From: a@b\nMIME-Version: 1.0\n{text}")
    assert code in result.result.suspect


def test_an_ordinary_delivery_status_is_no_document():
    text = (
        'From: a@b\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary="B"\n\n--B\n'
        "Content-Type: text/plain\n\nnot delivered\n--B\nContent-Type: message/delivery-status\n\n"
        "Reporting-MTA: dns; mx.example\n\nFinal-Recipient: rfc822; x@example.org\nAction: failed\n\n--B--\n"
    )
    result, parts = mail(text)
    assert parts == []
    assert result.result.scan().outcome == "clean"


@pytest.mark.parametrize(
    ("limits", "depth", "code"),
    [
        (Limits(max_parts=0), 0, "mail.part_over_limit"),
        (Limits(max_expand_bytes=9), 0, "mail.part_over_limit"),
        (Limits(max_depth=2), 2, "mail.too_deep"),
        (Limits(max_whole_bytes=100), 0, "mail.too_large"),
    ],
)
def test_limits_on_number_size_and_depth_are_said(limits, depth, code):
    result, parts = mail(attachment(b"ten bytes."), limits, depth)
    assert parts == []
    assert result.result.unreadable == "over_limit"
    assert code in result.result.suspect


def test_a_limit_that_is_just_met_is_no_trouble():
    result, parts = mail(
        attachment(b"ten bytes."), Limits(max_parts=1, max_expand_bytes=10, max_depth=1)
    )
    assert len(parts) == 1
    assert result.result.scan().outcome == "clean"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("=?utf-8?b?5Y+R56Wo?=", "发票"),
        ("发票", "发票"),
        ("=?utf-8?b?broken", "=?utf-8?b?broken"),
        ("a\r\n b\x00c\u202ed", "a b c d"),
        ("=?nonsense?q?x?=", "x"),
    ],
)
def test_headers_are_decoded_without_ever_failing(raw, expected):
    assert unpack.header_text(raw) == expected


def test_headers_in_gb18030_without_any_encoding_are_read():
    result, _parts = mail("Subject: 发票\n\nx".replace("\n", "\r\n").encode("gb18030"))
    assert result.facts["subject"] == "发票"


@pytest.mark.parametrize("piece", ["<script ", "<style>", "<a", "<" * 10, "<script></style>"])
def test_no_unfinished_markup_makes_the_reader_crawl(piece):
    begun = time.process_time()
    mail("Subject: s\nContent-Type: text/html\n\n" + piece * (500_000 // len(piece)))
    assert time.process_time() - begun < 10


def test_facts_are_bounded():
    result, _parts = mail(f"Subject: {'x' * 10_000}\nMessage-ID: <{'y' * 10_000}>\n\n")
    assert all(len(value) <= unpack.FACT_LENGTH for value in result.facts.values())
    assert len(result.suggested_name.encode()) <= 255


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_make_the_mail_reader_raise(data):
    unpack.unpack_mail(document(data), Limits(), Parts())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 600), st.binary(min_size=1, max_size=30))
def test_no_damage_to_a_message_makes_the_reader_raise(offset, junk):
    raw = attachment(b"some content").encode()
    unpack.unpack_mail(document(raw[:offset] + junk + raw[offset + len(junk) :]), Limits(), Parts())


# ── archives ─────────────────────────────────────────────────────────────────────────────────────


def zipped(members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def unzip(data, limits=None, depth=0, max_members=1000):
    limits = limits or Limits()
    parts = Parts()
    whole = document(data, depth=depth)
    opened = zip_layout.open_zip(whole, limits, max_members=max_members)
    return zip_layout.unpack_zip(opened, whole, limits, parts), parts.taken


def reason(data, limits=None, max_members=1000):
    with pytest.raises(Unreadable) as caught:
        zip_layout.open_zip(document(data), limits or Limits(), max_members=max_members)
    return caught.value.reason


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_members_come_out_byte_for_byte_in_order(method):
    members = [("a.txt", b"one"), ("folder/b.bin", bytes(300_000)), ("empty", b"")]
    result, parts = unzip(zipped(members, method))
    assert parts == [("a.txt", b"one"), ("b.bin", bytes(300_000)), ("empty", b"")]
    assert result.result.scan().outcome == "clean"


def test_members_that_share_bytes_are_refused_before_anything_is_expanded():
    """The overlapping zip bomb (CVE-2024-0450), which this Python's own module may accept."""
    data = zipped([("a", b"x" * 1000)], zipfile.ZIP_STORED)
    end = data.index(b"PK\x05\x06")
    start = data.index(b"PK\x01\x02")
    directory = data[start:end]
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 2, 2, 2 * len(directory), start)
    assert reason(data[:start] + directory * 2 + bytes(tail)) == "malformed"


def test_a_member_named_differently_in_the_directory_is_ambiguous():
    data = zipped([("harmless.txt", b"x")])
    at = data.index(b"harmless.txt")
    renamed = data[:at] + b"horrible.exe" + data[at + 12 :]
    assert reason(renamed) == "malformed" or reason(renamed) == "ambiguous"
    at = data.rindex(b"harmless.txt")
    assert reason(data[:at] + b"horrible.exe" + data[at + 12 :]) == "ambiguous"


def test_what_expands_beyond_the_limit_is_refused_by_its_directory_alone():
    data = zipped([("zeros", bytes(1_000_000))])
    assert reason(data, Limits(max_expand_bytes=999_999)) == "over_limit"
    assert unzip(data, Limits(max_expand_bytes=1_000_000))[1] != []


def test_a_ratio_no_honest_file_reaches_is_refused():
    assert reason(zipped([("zeros", bytes(40 * 1024 * 1024))])) == "over_limit"


def test_too_many_members_are_refused():
    data = zipped([(str(i), b"") for i in range(11)])
    assert reason(data, max_members=10) == "over_limit"
    result, parts = unzip(data, Limits(max_parts=10))
    assert result.result.unreadable == "over_limit"
    assert len(parts) == 10


def test_an_archive_too_deep_is_not_opened_further():
    result, parts = unzip(zipped([("a", b"x")]), Limits(max_depth=3), depth=3)
    assert (parts, result.result.unreadable) == ([], "over_limit")
    assert unzip(zipped([("a", b"x")]), Limits(max_depth=3), depth=2)[1] == [("a", b"x")]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../../etc/passwd", "archive.escaping_name"),
        ("/etc/passwd", "archive.escaping_name"),
        ("C:/Windows/x", "archive.escaping_name"),
        ("..\\..\\x", "archive.escaping_name"),
    ],
)
def test_names_that_want_out_are_suspect_and_become_one_segment(name, code):
    result, parts = unzip(zipped([(name, b"x")]))
    assert code in result.result.suspect
    assert "/" not in parts[0][0]
    assert "\\" not in parts[0][0]


def test_a_symbolic_link_is_suspect_and_nothing_but_its_text():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    result, parts = unzip(buffer.getvalue())
    assert "archive.symlink" in result.result.suspect
    assert parts == [("link", b"/etc/passwd")]


def test_a_folder_that_holds_bytes_is_suspect():
    result, _parts = unzip(zipped([("folder/", b""), ("invoice.pdf/", b"%PDF-1.4")]))
    assert result.result.suspect == ["archive.special_file"]
    result, _parts = unzip(zipped([("folder/", b""), ("folder/a", b"x")]))
    assert result.result.suspect == []


def test_an_encrypted_member_is_reported_and_the_others_are_read():
    data = bytearray(zipped([("open", b"x"), ("closed", b"y")]))
    data[data.index(b"closed") - 30 + 6] |= 1
    data[data.rindex(b"closed") - 46 + 8] |= 1
    result, parts = unzip(bytes(data))
    assert result.result.unreadable == "encrypted"
    assert parts == [("open", b"x")]


def test_a_wrong_checksum_leaves_the_member_out():
    data = bytearray(zipped([("a", b"abc")], zipfile.ZIP_STORED))
    data[data.index(b"abc")] ^= 1
    result, parts = unzip(bytes(data))
    assert parts == []
    assert result.result.unreadable == "malformed"


def test_a_directory_that_lies_about_the_size_yields_no_more_than_it_says():
    content = b"A" * 100_000
    data = bytearray(zipped([("a", content)]))
    directory = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, directory + 24, 10)
    struct.pack_into("<I", data, directory + 16, zlib.crc32(content))
    result, parts = unzip(bytes(data))
    assert parts == []
    assert result.result.unreadable == "malformed"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_to_an_archive_raises_anything_but_unreadable(data):
    raw = bytearray(zipped([("a", b"hello" * 100), ("b", b"x")]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Unreadable):
        unzip(bytes(raw))


# ── names ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.pdf", "a.pdf"),
        ("/a/b/c.pdf", "c.pdf"),
        ("a\\b\\c.pdf", "c.pdf"),
        ("..", "part"),
        (".", "part"),
        ("", "part"),
        ("\x00\x01", "part"),
        ("in\u202efdp.exe", "infdp.exe"),
        ("发票.xml", "发票.xml"),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
    ],
)
def test_a_name_becomes_one_harmless_segment(name, expected):
    assert safe_name(name, "part") == expected


@given(st.text(max_size=400))
def test_no_name_escapes(name):
    result = safe_name(name)
    assert result not in {"", ".", ".."}
    assert "/" not in result
    assert "\\" not in result
    assert "\0" not in result
    assert len(result.encode()) <= 255


@pytest.mark.parametrize(
    ("magic", "media_type"),
    [
        (b"\x78\x9f\x3e\x22", "application/ms-tnef"),
        (b"Rar!\x1a\x07\x00", "application/vnd.rar"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    ],
)
def test_a_container_s_own_magic_goes_before_a_pdf_stored_within_its_first_kib(magic, media_type):
    data = magic + b"\0" * 60 + b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n" + b"x" * 400
    kind, found = media.detect(Document("d", io.BytesIO(data), len(data), "winmail.dat", "part", 1))
    assert (kind, found) == ("opaque", media_type)


def raw_named(name: bytes, *, in_type=False) -> bytes:
    parameter = b'name="' if in_type else b'filename="'
    where = b"Content-Type: application/pdf; " if in_type else b"Content-Disposition: attachment; "
    return (
        b"From: a@example.org\r\nSubject: papers\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="B"\r\n\r\n--B\r\n'
        + where
        + parameter
        + name
        + b'"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--B--\r\n"
    )


@pytest.mark.parametrize("in_type", [True, False])
@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("发票-2025年3月.pdf", "gbk"),
        ("发票-五十七.pdf", "utf-8"),
        ("請求書ソ表.pdf", "cp932"),
        ("統一發票.pdf", "big5"),
        ("Rechnung März.pdf", "latin-1"),
    ],
)
def test_an_attachment_keeps_a_name_that_was_written_as_raw_bytes(name, encoding, in_type):
    raw = name.encode(encoding)
    parts = Parts()
    unpack.unpack_mail(document(raw_named(raw, in_type=in_type)), Limits(), parts)
    assert parts.taken == [(name, b"%PDF")]
    assert parts.name_bytes == [b"" if encoding == "utf-8" else raw]


def test_a_raw_western_subject_is_not_taken_for_chinese():
    result, _ = mail(b"From: a@example.org\r\nSubject: Rechnung M\xe4rz\r\n\r\nHallo\r\n")
    assert result.facts["subject"] == "Rechnung März"


def zipped_as(raw: bytes, *, extra=b"") -> bytes:
    """An archive with one member whose name is stored as these bytes, without the UTF-8 flag."""
    stand_in = "n" * len(raw)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo(stand_in)
        info.extra = extra
        file.writestr(info, b"%PDF")
    return buffer.getvalue().replace(stand_in.encode(), raw)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("发票.pdf", "gbk"),
        ("银行对账单-2025-03.csv", "gbk"),
        ("請求書.pdf", "cp932"),
        ("Müller.pdf", "cp437"),
    ],
)
def test_a_member_of_an_archive_keeps_its_maker_s_name(name, encoding):
    raw = name.encode(encoding)
    parts = Parts()
    source = document(zipped_as(raw))
    zip_layout.unpack_zip(
        zip_layout.open_zip(source, Limits(), max_members=9), source, Limits(), parts
    )
    assert parts.taken == [(name, b"%PDF")]
    assert parts.name_bytes == [raw]


def test_the_unicode_path_of_an_archive_goes_before_a_guess_where_it_belongs_to_the_name():
    raw = "发票".encode("gbk")
    for crc, expected in ((zlib.crc32(raw), "Fächer"), (1, "发票")):
        data = b"\1" + crc.to_bytes(4, "little") + "Fächer".encode()
        extra = struct.pack("<HH", 0x7075, len(data)) + data
        parts = Parts()
        source = document(zipped_as(raw, extra=extra))
        zip_layout.unpack_zip(
            zip_layout.open_zip(source, Limits(), max_members=9), source, Limits(), parts
        )
        assert parts.taken == [(expected, b"%PDF")]
