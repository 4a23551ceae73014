"""What two parsers read differently in a message is for a person, and what they read alike is not."""

from __future__ import annotations

import email
import functools
import importlib.util
import io
from pathlib import Path

import fast_mail_parser
import mailparser
import pytest
import tnefparse

from gateway.inspect.document import Document, Limits
from gateway.inspect.parts import Unpacked
from gateway.inspect.unpack import mail, second_reading, tnef
from tests.support.parts import Parts
from tests.unit.inspect.test_corpus import CORPUS
from tests.vectors.cases import CASES

PLAIN = (
    b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"
    b"--B\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0=\r\n"
    b"--B--\r\n"
)


def compare(raw, *ours):
    unpacked = Unpacked()
    second_reading.compare(
        raw, [(kind, second_reading.digest(content)) for kind, content in ours], unpacked
    )
    return unpacked.result.suspect


def test_the_same_files_are_no_difference():
    assert compare(PLAIN, ("application/pdf", b"%PDF-")) == []
    assert compare(PLAIN, ("application/octet-stream", b"%PDF-")) == []


@pytest.mark.parametrize(
    "ours",
    [
        [],
        [("application/pdf", b"%PDF-2")],
        [("application/pdf", b"%PDF-"), ("application/zip", b"PK")],
    ],
)
def test_a_file_that_one_of_them_does_not_find_is_ambiguous(ours):
    assert compare(PLAIN, *ours) == [second_reading.CODE]


def test_a_message_that_the_other_finds_attached_is_ambiguous():
    raw = PLAIN.replace(b"application/pdf; name=a.pdf", b"message/rfc822").replace(
        b"base64", b"7bit"
    )
    assert compare(raw, ("text/plain", b"")) == [second_reading.CODE]
    assert compare(raw, ("message/rfc822", b"")) == []


def test_what_the_other_gives_up_on_is_ambiguous():
    assert compare(PLAIN.replace(b"JVBERi0=", b"J"), ("application/pdf", b"")) == [
        f"{second_reading.CODE}_failed"
    ]


def test_a_message_read_in_two_ways_goes_to_a_person(monkeypatch):
    class Other:
        attachments = ()

    monkeypatch.setattr(fast_mail_parser, "parse_email", lambda _raw: Other)
    parts = Parts()
    found = mail.unpack_mail(
        Document("d", io.BytesIO(PLAIN), len(PLAIN), "n", "smtp", 0), Limits(), parts
    )
    assert found.result.unreadable == "ambiguous"
    assert parts.names == ["a.pdf"], "it is taken out and scanned all the same"


# ── the corpus, Python's own examples, and the cases ─────────────────────────────────────────────


@functools.cache
def messages():
    python = importlib.util.find_spec("test.test_email")  # some systems leave it out of Python
    found = []
    if python is not None and python.origin:
        found += sorted((Path(python.origin).parent / "data").glob("msg_*"))
    for folder, pattern in ((CORPUS / "email", "*"), (CASES, "*.eml")):
        found += sorted(path for path in folder.rglob(pattern) if path.is_file())
    return [path for path in found if path.suffix != ".xor"]


# What another parser takes out and we do not, by the message: what it is, and why that is right.
LEFT_OUT = {
    "delivery-status": "fields for mail programs (RFC 3464), no document; listed as left out",
    "picture-in-text": "a small picture that the HTML text shows; listed as left out",
    "signature": "an S/MIME or OpenPGP signature; listed as left out",
    "invitation": "a calendar entry that asks or answers, without files of its own; listed as left out",
    "visiting-card": "a vCard beside the text; listed as left out",
    "resource-fork": "what a Mac keeps beside a file (AppleDouble); listed as left out",
    "closed": "we call the message damaged or ambiguous: a person looks at it",
    "not opened by this parser": "mail-parser gives an attached message, or encoded lines, in another form",
}


def ours(raw):
    parts = Parts()
    found = mail.unpack_mail(
        Document("d", io.BytesIO(raw), len(raw), "n", "smtp", 0), Limits(), parts
    )
    return found, parts


def bare(content):
    return content.replace(b"\r\n", b"\n").rstrip(b"\r\n")


@pytest.mark.parametrize("path", messages(), ids=lambda path: path.name)
def test_every_file_that_another_parser_finds_is_found(path):
    raw = path.read_bytes()
    found, parts = ours(raw)
    taken = {bare(content) for _, content in parts.taken}
    try:
        theirs = [
            (each.mimetype, bare(each.content))
            for each in fast_mail_parser.parse_email(raw).attachments
        ]
    except fast_mail_parser.ParseError:
        assert found.result.unreadable
        theirs = []
    if found.result.unreadable:
        return  # LEFT_OUT["closed"]
    missing = [
        kind
        for kind, content in theirs
        if content not in taken and not kind.startswith(("message/", "text"))
    ]
    assert len(missing) <= len(found.ignored), (missing, found.ignored, LEFT_OUT)
    number = sum(kind == "message/rfc822" for kind, _ in theirs)
    assert number <= sum(name.endswith(".eml") for name in parts.names)
    assert not [code for code in found.result.suspect if code.startswith(second_reading.CODE)]


@pytest.mark.parametrize("path", messages(), ids=lambda path: path.name)
def test_every_file_that_mail_parser_finds_is_found(path):
    raw = path.read_bytes()
    found, parts = ours(raw)
    try:
        attachments = mailparser.parse_from_bytes(raw).attachments
    except Exception:  # it gives up on some of these, where we do not
        return
    if found.result.unreadable:
        return  # LEFT_OUT["closed"]
    taken = {bare(content) for _, content in parts.taken}
    for name, content in parts.taken:
        if name.endswith(".eml"):  # mail-parser looks into attached messages at once
            taken |= {bare(inner) for _, inner in ours(content)[1].taken}
    missing = []
    for each in attachments:
        kind = each["mail_content_type"]
        if kind.startswith(("message/", "text", "multipart/")):
            continue  # LEFT_OUT["not opened by this parser"]
        content = each["payload"].encode("utf-8", "surrogateescape")
        if each["binary"]:
            content = email.message_from_bytes(
                b"Content-Transfer-Encoding: base64\n\n" + content
            ).get_payload(decode=True)
        if bare(content) not in taken:
            missing.append(kind)
    assert len(missing) <= len(found.ignored), (missing, found.ignored, LEFT_OUT)


@pytest.mark.skipif(not CASES.exists(), reason="the folder of cases is not here")
def test_every_attachment_that_tnefparse_finds_is_found():
    data = (CASES / "15-winmail-and-rar-are-pdf" / "winmail.dat").read_bytes()
    parts = Parts()
    tnef.unpack(Document("d", io.BytesIO(data), len(data), "n", "part", 1), Limits(), parts)
    theirs = [(each.long_filename(), each.data) for each in tnefparse.TNEF(data).attachments]
    assert parts.taken == theirs
