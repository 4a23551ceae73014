"""The antivirus client takes nothing for clean but a plain OK about every byte, by a daemon up to date."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from datetime import UTC, datetime

import pytest

from gateway.inspect.scan.clamd import ClamdStream, interpret, signature_date

NOW = datetime(2025, 11, 20, tzinfo=UTC)
VERSION = b"ClamAV 1.4.6/27800/Mon Nov 17 09:00:00 2025\0"


@pytest.mark.parametrize(
    ("answer", "outcome", "detail"),
    [
        (b"stream: OK", "clean", ""),
        (b"stream: Eicar-Test-Signature FOUND", "found", "Eicar-Test-Signature"),
        (
            b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND",
            "limit",
            "Heuristics.Limits.Exceeded.MaxFileSize",
        ),
        (
            b"stream: Heuristics.Encrypted.Zip FOUND",
            "suspect",
            "encrypted: Heuristics.Encrypted.Zip",
        ),
        (b"INSTREAM size limit exceeded. ERROR", "limit", "larger than the scanner takes"),
        (b"stream: Can't allocate memory ERROR", "error", "the scanner reported an error"),
        (b"stream: OK FOUND", "found", "OK"),
        (b"stream: almost OK", "error", "the scanner reported an error"),
        (b"OK", "error", "answer not understood"),
        (b"", "error", "answer not understood"),
        (b"stream: ok", "error", "answer not understood"),
        (b"UNKNOWN COMMAND", "error", "answer not understood"),
        (b"stream: \xff\xfe FOUND", "found", ""),
    ],
)
def test_every_answer_that_is_not_plainly_ok_is_something_else(answer, outcome, detail):
    scan = interpret(answer, "v")
    assert scan.outcome == outcome
    assert scan.version == "v"
    if detail:
        assert scan.detail == detail


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("ClamAV 1.4.6/27800/Mon Nov 17 09:00:00 2025", datetime(2025, 11, 17, 9, tzinfo=UTC)),
        ("ClamAV 1.4.6", None),
        ("ClamAV 1.4.6/27800/nonsense", None),
        ("", None),
    ],
)
def test_the_date_of_the_signatures_is_read_from_the_version(version, expected):
    assert signature_date(version) == expected


class FakeClamd:
    """A daemon that follows a script: how it answers VERSION, and what it does with a stream."""

    def __init__(self, path, version=VERSION, stream=None):
        self.address = f"unix:{path}"
        self.received = bytearray()
        self._version, self._stream = version, stream
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            command = b""
            while not command.endswith(b"\0"):
                data = connection.recv(1)
                if not data:
                    return
                command += data
            if command == b"zVERSION\0":
                connection.sendall(self._version)
            elif command == b"zINSTREAM\0":
                self._stream(self, connection)

    def take_all(self, connection):
        file = connection.makefile("rb")
        while length := struct.unpack("!I", file.read(4))[0]:
            self.received += file.read(length)

    def close(self):
        self._listener.close()


def says(answer):
    def stream(daemon, connection):
        daemon.take_all(connection)
        connection.sendall(answer)

    return stream


@pytest.fixture
def daemon(tmp_path):
    running = []

    def start(**script):
        running.append(FakeClamd(tmp_path / "clamd.sock", **script))
        return running[-1]

    yield start
    for item in running:
        item.close()


def scan(address, chunks, *, timeout=5.0, max_age_days=7):
    stream = ClamdStream.open(address, timeout=timeout, now=NOW, max_age_days=max_age_days)
    for chunk in chunks:
        stream.feed(chunk)
    return stream.finish()


@pytest.mark.parametrize("chunks", [[], [b""], [b"a"], [b"a" * 300_000, b"", b"b"]])
def test_exactly_the_bytes_fed_arrive_however_they_are_cut(daemon, chunks):
    served = daemon(stream=says(b"stream: OK\0"))
    assert scan(served.address, chunks).outcome == "clean"
    assert bytes(served.received) == b"".join(chunks)


def test_an_answer_cut_off_before_its_end_is_not_taken(daemon):
    served = daemon(stream=says(b"stream: "))
    assert scan(served.address, [b"x"]).outcome == "error"


def test_signatures_older_than_allowed_are_an_error_that_names_their_date(daemon):
    served = daemon(
        version=b"ClamAV 1.4.6/27000/Mon Nov  3 09:00:00 2025\0", stream=says(b"stream: OK\0")
    )
    result = scan(served.address, [b"x"])
    assert result.outcome == "error"
    assert result.detail == "signatures of 2025-11-03 are older than 7 days"
    assert scan(served.address, [b"x"], max_age_days=None).outcome == "clean"
    assert scan(served.address, [b"x"], max_age_days=30).outcome == "clean"


def test_a_database_without_a_date_is_named_by_its_version_and_not_refused(daemon):
    served = daemon(version=b"ClamAV 1.4.6\0", stream=says(b"stream: OK\0"))
    result = scan(served.address, [b"x"])
    assert (result.outcome, result.version) == ("clean", "ClamAV 1.4.6")


def test_a_stream_too_long_is_noticed_while_it_is_sent(daemon):
    def stream(served, connection):
        connection.recv(1000)
        connection.sendall(b"INSTREAM size limit exceeded. ERROR\0")

    result = scan(daemon(stream=stream).address, [b"x" * 256 * 1024] * 40)
    assert (result.outcome, result.detail) == ("limit", "larger than the scanner takes")


def test_a_daemon_that_dies_midway_is_an_error(daemon):
    def stream(served, connection):
        connection.recv(1000)

    result = scan(daemon(stream=stream).address, [b"x" * 256 * 1024] * 40)
    assert result.outcome == "error"


def test_a_daemon_that_dies_before_its_answer_is_an_error(daemon):
    result = scan(daemon(stream=says(b"")).address, [b"x"])
    assert result.outcome == "error"


def test_a_daemon_that_never_answers_is_an_error_after_the_timeout(daemon):
    def stream(served, connection):
        served.take_all(connection)
        time.sleep(5)

    begun = time.monotonic()
    result = scan(daemon(stream=stream).address, [b"x"], timeout=0.5)
    assert (result.outcome, result.detail) == ("error", "timeout while scanning")
    assert time.monotonic() - begun < 3


def test_a_daemon_that_stops_reading_is_an_error_after_the_timeout(daemon):
    def stream(served, connection):
        time.sleep(5)

    result = scan(daemon(stream=stream).address, [b"x" * 256 * 1024] * 20, timeout=0.5)
    assert (result.outcome, result.detail) == ("error", "timeout while sending")


@pytest.mark.parametrize(
    "address",
    ["unix:/nonexistent/socket", "tcp:127.0.0.1:1", "nonsense", "tcp:host", "unix:", "tcp::1", ""],
)
def test_an_address_where_nobody_answers_is_unavailable(address):
    assert scan(address, [b"x"]).outcome == "unavailable"


def test_a_socket_of_something_else_is_unavailable(daemon):
    served = daemon(version=b"HTTP/1.1 400 Bad Request\0", stream=says(b"stream: OK\0"))
    assert scan(served.address, [b"x"]).outcome == "unavailable"


def test_a_finished_stream_can_not_be_finished_again(daemon):
    served = daemon(stream=says(b"stream: OK\0"))
    stream = ClamdStream.open(served.address, timeout=5, now=NOW, max_age_days=None)
    assert stream.finish().outcome == "clean"
    with pytest.raises(RuntimeError, match="found it finished"):
        stream.finish()
