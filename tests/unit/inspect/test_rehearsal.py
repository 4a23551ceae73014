"""The rehearsal that a manager holds before it forks workers."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.inspect import inspection, rehearsal
from gateway.inspect.classify import media
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan.yara import RuleSet
from tests.support.parts import Parts

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", sorted(rehearsal.specimens()))
def test_a_specimen_is_read_to_its_end(name):
    content = rehearsal.specimens()[name]
    document = Document("d", io.BytesIO(content), len(content), name)
    verdict = inspection.inspect(document, Limits(), Parts(), rules=RuleSet.load(), clamd=None)
    assert {scan.outcome for scan in verdict.scans} == {"clean", "skipped"}
    assert verdict.classification.record_class in {"invoice", "correspondence"}
    assert not verdict.unreadable


def test_it_leaves_no_thread_and_no_descriptor_to_be_forked():
    program = (
        "import os; from gateway.inspect import pool; pool._preload()\n"
        "from gateway.inspect.rehearsal import rehearse\n"
        "before = set(os.listdir('/proc/self/fd')); rehearse()\n"
        "assert len(os.listdir('/proc/self/task')) == 1\n"
        "assert set(os.listdir('/proc/self/fd')) == before\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("a.pdf", "pdf", b"%PDF-1.7\n%%EOF\n"),
        ("a.eml", "mail", b"From: a@example.org\nTo: b@example.org\nSubject: x\n\nwords\n"),
    ],
)
def test_libmagic_is_not_asked_what_our_own_look_settles(name, kind, content, monkeypatch):
    monkeypatch.setattr(media, "_detector", lambda: pytest.fail("libmagic was asked"))
    document = Document("d", io.BytesIO(content), len(content), name)
    assert media.detect(document)[0] == kind
