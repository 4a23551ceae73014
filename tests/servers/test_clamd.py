"""The antivirus client against a real clamd with a database of its own."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile
from datetime import UTC, datetime

import pytest

from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan.clamd import ClamdStream
from gateway.inspect.scan.yara import RuleSet
from tests.servers import clamd_server as server

pytestmark = pytest.mark.skipif(server.CLAMD is None, reason="clamd is not installed")


@pytest.fixture(scope="module")
def clamd(tmp_path_factory):
    with server.clamd_running(
        tmp_path_factory.mktemp("clamd"), stream_max="4M", scan_max="1M"
    ) as running:
        yield running


def open_stream(address, timeout=20.0):
    return ClamdStream.open(address, timeout=timeout, now=datetime.now(UTC), max_age_days=7)


def scan(clamd, data, timeout=20.0):
    stream = open_stream(clamd.address, timeout)
    for start in range(0, len(data), 256 * 1024):
        stream.feed(data[start : start + 256 * 1024])
    return stream.finish()


def zipped(content, name="a.txt"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"x", b"invoice 42\n", os.urandom(300_000)])
def test_a_clean_document_is_clean_and_the_version_is_told(clamd, data):
    result = scan(clamd, data)
    assert (result.outcome, result.detail) == ("clean", "")
    assert result.version.startswith("ClamAV ")


def test_the_test_virus_is_found_plain_and_inside_an_archive(clamd):
    assert scan(clamd, server.EICAR).outcome == "found"
    result = scan(clamd, zipped(server.EICAR))
    assert result.outcome == "found"
    assert "Strongroom-Test-Eicar" in result.detail


def test_a_stream_longer_than_the_daemon_takes_is_a_limit_and_not_clean(clamd):
    result = scan(clamd, os.urandom(9 * 1024 * 1024))
    assert result.outcome == "limit"


def test_a_file_larger_than_the_daemon_scans_is_a_limit_and_not_clean(clamd):
    result = scan(clamd, os.urandom(3 * 1024 * 1024))
    assert result.outcome == "limit"
    assert "Limits.Exceeded" in result.detail


def test_an_archive_with_a_password_is_suspect_and_unreadable(clamd):
    # Version 2.0, encryption flag set, twelve bytes of encryption header before the content.
    data = bytearray(zipped(b"secret text that nobody can read"))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    result = scan(clamd, bytes(data))
    assert result.outcome == "suspect"
    assert result.detail.startswith("encrypted")


def test_an_inspection_takes_the_daemons_word_and_says_both(clamd):
    document = Document("d", io.BytesIO(server.EICAR), len(server.EICAR), "a.txt")
    verdict = inspection.inspect(
        document, Limits(), None, rules=RuleSet.load(), clamd=open_stream(clamd.address)
    )
    outcomes = {item.scanner: item.outcome for item in verdict.scans}
    assert outcomes["clamd"] == "found"
    assert outcomes["yara"] == "found"


def test_a_daemon_killed_midway_is_an_error(tmp_path):
    with server.clamd_running(tmp_path / "clamd") as clamd:
        stream = open_stream(clamd.address)
        stream.feed(b"x" * 100_000)
        clamd.kill()
        for _ in range(20):
            stream.feed(b"x" * 256 * 1024)
        assert stream.finish().outcome == "error"
        assert open_stream(clamd.address).finish().outcome == "unavailable"


def test_a_daemon_that_hangs_is_an_error_after_the_timeout_and_recovers(tmp_path):
    with server.clamd_running(tmp_path / "clamd") as clamd:
        stream = open_stream(clamd.address, timeout=1.0)
        stream.feed(b"x" * 1000)
        clamd.freeze()
        begun = time.monotonic()
        assert stream.finish().outcome == "error"
        assert time.monotonic() - begun < 5
        threading.Timer(0.2, clamd.thaw).start()
        assert scan(clamd, b"fine").outcome == "clean"
