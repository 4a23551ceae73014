"""What systems leave beside documents asks nobody; what hides under such a name is inspected."""

from __future__ import annotations

import io
import zipfile

import pytest

from gateway.inspect.document import Document, Limits
from gateway.inspect.formats import litter
from gateway.inspect.inspection import inspect
from gateway.inspect.scan.yara import RuleSet
from tests.support.parts import Parts
from tests.vectors.cases import CASES


@pytest.fixture(scope="module")
def rules():
    return RuleSet.load(None)


def inspected(data, name, rules):
    parts = Parts()
    document = Document("d", io.BytesIO(data), len(data), name, "sftp", 0)
    return inspect(document, Limits(), parts, rules=rules, clamd=None), parts.names


OWNER = bytes([6]) + b"Person" + b"\0" * 155
LITTER = [
    (".DS_Store", b"\0\0\0\1Bud1" + b"\0" * 100),
    ("._invoice.pdf", b"\0\5\x16\7\0\2\0\0Mac OS X"),
    ("desktop.ini", b"[.ShellClassInfo]\r\nIconIndex=1\r\n"),
    ("~$book.docx", OWNER),
    (".~lock.book.ods#", b",person,host,01.03.2025 10:00,file:///home/person;"),
    ("XSM.LCK", b""),
]


@pytest.mark.parametrize(("name", "data"), LITTER)
def test_a_system_s_own_file_is_known_by_name_and_content(name, data, rules):
    verdict, _ = inspected(data, name, rules)
    assert verdict.classification.record_class == "system-file"
    assert verdict.classification.confidence >= 0.8
    assert {scan.outcome for scan in verdict.scans} <= {"clean", "skipped"}
    assert verdict.unreadable == ""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (".DS_Store", b"MZ" + b"\0" * 100),
        ("._invoice.pdf", b"%PDF-1.7 \n"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600),
        ("desktop.ini", b"[.ShellClassInfo]\r\nIconFile=\\\\host.example\\x.ico\r\n"),
        ("~$book.docx", b"PK\3\4" + b"\0" * 158),
        ("XSM.LCK", b"#!/bin/sh\n"),
        ("invoice.pdf", b"\0\0\0\1Bud1"),
    ],
)
def test_what_has_only_the_name_is_inspected_like_anything_else(name, data, rules):
    assert not litter.is_litter(name, data)
    verdict, _ = inspected(data, name, rules)
    assert verdict.classification.record_class != "system-file"


def test_an_empty_file_is_for_a_person_and_says_so(rules):
    verdict, _ = inspected(b"", "invoice.pdf", rules)
    assert verdict.unreadable == "malformed"
    assert "format.empty" in [scan.detail for scan in verdict.scans]


def archive(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


def test_an_archive_is_what_its_members_came_in_and_its_litter_stays_there(rules):
    data = archive(
        ("a/one.txt", b"one"), *((f"__MACOSX/a/{name}", content) for name, content in LITTER)
    )
    verdict, names = inspected(data, "papers.zip", rules)
    assert names == ["one.txt"]
    assert (verdict.classification.record_class, verdict.unreadable) == ("correspondence", "")
    for name, _ in LITTER:
        assert name in verdict.facts["left_in_archive"]


def test_an_archive_without_a_document_in_it_is_for_a_person(rules):
    verdict, names = inspected(archive(*LITTER), "empty.zip", rules)
    assert names == []
    assert verdict.classification.record_class is None


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("50-mac.zip", ["发票51.pdf"]),
        ("83-two-invoices.zip", ["76-invoice-delivery-dec.pdf", "77-invoice-due-first.pdf"]),
        ("87-shuidian.zip", ["dzfp_25442000000000000001.pdf"]),
    ] if CASES.is_dir() else [],
)  # fmt: skip
def test_the_archives_of_the_cases_ask_nobody(name, members, rules):
    path = CASES / "09-zip-container-and-mac-litter-review" / name
    verdict, names = inspected(path.read_bytes(), name, rules)
    assert names == members
    assert verdict.classification.record_class == "correspondence"
