"""ClamAV's daemon over its socket: one streamed scan of one document.

Promises: memory does not depend on the document's size; nothing but a plain "OK" from a daemon that
looked at every byte, with signatures young enough, becomes `clean`. Everything else is an outcome
that nobody may take for clean: `found`, `suspect` (encrypted inside), `limit` (clamd did not look at
everything), `error`, `unavailable`.

Own client rather than aioclamd: that one speaks TCP only, 1 KiB a chunk through a thread hop, and
opens its connection when scanning starts; an inspector must connect before it enters its sandbox,
where no socket can be made any more.

Rules (protocol: clamd(8), commands `zVERSION`, `zINSTREAM`):
- clamd says OK to what is over its limits unless `AlertExceedsMax yes` is set; with it, it reports
  `Heuristics.Limits.Exceeded.*`, which is `limit` here. Likewise `AlertEncrypted*`.
- A database without a date (none but local signatures) is reported by its version, not refused.
- A client that gives up does not stop clamd's scan; the document simply waits.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from gateway.wire.messages import Scan

NAME: Final = "clamd"
_LENGTH: Final = struct.Struct("!I")
_ANSWER_LIMIT: Final = 4096
_CONNECT_SECONDS: Final = 5.0
_ANSWER: Final = re.compile(r"^(?:stream|instream\([^)]*\)): (.*?) ?(OK|FOUND|ERROR)$")
_SIGNATURE: Final = re.compile(r"[^\x21-\x7e]")

ENCRYPTED: Final = "encrypted"


class ClamdStream:
    """One document on its way through clamd. Open it before the sandbox is entered, feed it, finish it.

    No method raises for what clamd does or fails to do: `finish` says it as a `Scan`.
    """

    def __init__(self, version: str, connection: socket.socket | None, timeout: float) -> None:
        self._version = version
        self._socket = connection
        self._timeout = timeout
        self._started = False
        self._ended = False
        self._early: bytes | None = None
        self._failure: Scan | None = None

    @classmethod
    def open(
        cls, address: str, *, timeout: float, now: datetime, max_age_days: int | None
    ) -> ClamdStream:
        """Connect, and ask the daemon for its version.

        Args:
            address: `unix:/path` or `tcp:host:port`.
            timeout: seconds that one send, or the answer at the end, may take.
            now: aware time, against which the signatures' date is held.
            max_age_days: signatures older than this make the outcome `error`; None for any age.
        """
        stream = cls("", None, timeout)
        try:
            with contextlib.closing(_connect(address)) as connection:
                connection.sendall(b"zVERSION\0")
                answer = _answer(connection, time.monotonic() + _CONNECT_SECONDS)
            stream._version = _SIGNATURE.sub(" ", answer.decode("ascii", "replace"))[:200]
            stream._socket = _connect(address)
            stream._socket.settimeout(timeout)
        except (OSError, ValueError) as error:
            stream._fail("unavailable", f"no answer ({type(error).__name__})")
            return stream
        if not answer.startswith(b"ClamAV"):
            stream._fail("unavailable", "the socket is not clamd's")
            return stream
        made = signature_date(stream._version)
        # A day of grace: clamd prints the date in a time zone of its own.
        age = None if made is None else now - made - timedelta(days=1)
        if max_age_days is not None and age is not None and age > timedelta(days=max_age_days):
            detail = f"signatures of {made:%Y-%m-%d} are older than {max_age_days} days"
            stream._fail("error", detail)
        return stream

    def feed(self, data: bytes) -> None:
        """Send the next bytes; after an early answer or a failure it does nothing."""
        if self._failure is not None or self._early is not None or not data:
            return
        connection = self._connection()
        try:
            self._start(connection)
            if select.select([connection], [], [], 0)[0]:
                # clamd answers early when the stream exceeds its limit, and then closes.
                self._early = _answer(connection, time.monotonic() + self._timeout)
                return
            connection.settimeout(self._timeout)
            connection.sendall(_LENGTH.pack(len(data)) + data)
        except TimeoutError:
            self._fail("error", "timeout while sending")
        except OSError as error:
            self._take_last_words(connection, error)

    def end(self) -> None:
        """Say that all bytes were sent: clamd scans while the caller does something else."""
        if self._failure is not None or self._early is not None or self._ended:
            return
        connection = self._connection()
        self._ended = True
        try:
            self._start(connection)
            connection.sendall(_LENGTH.pack(0))
        except TimeoutError:
            self._fail("error", "timeout while sending")
        except OSError as error:
            self._take_last_words(connection, error)

    def finish(self) -> Scan:
        """Wait for the answer (ends the stream if that was not done)."""
        self.end()
        failed = self._said()
        if failed is not None:
            return failed
        connection = self._connection()
        try:
            if self._early is None:
                self._early = _answer(connection, time.monotonic() + self._timeout)
        except TimeoutError:
            self._fail("error", "timeout while scanning")
        except OSError as error:
            self._take_last_words(connection, error)
        self.close()
        return self._said() or interpret(self._early or b"", self._version)

    def _said(self) -> Scan | None:
        return self._failure

    def close(self) -> None:
        """Drop the connection. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise RuntimeError("clamd stream: expected an open one, found it finished")
        return self._socket

    def _start(self, connection: socket.socket) -> None:
        if not self._started:
            self._started = True
            connection.settimeout(self._timeout)
            connection.sendall(b"zINSTREAM\0")

    def _take_last_words(self, connection: socket.socket, error: OSError) -> None:
        """Read what the daemon said before it hung up: it may be the reason."""
        for _attempt in range(2):  # the first read may only report the reset
            with contextlib.suppress(OSError):
                self._early = _answer(connection, time.monotonic() + 1.0) or None
            if self._early is not None:
                return
        self._fail("error", f"disconnected ({type(error).__name__})")

    def _fail(self, outcome: Literal["unavailable", "error"], detail: str) -> None:
        self.close()
        self._failure = Scan(NAME, outcome, detail, self._version)


def interpret(answer: bytes, version: str) -> Scan:
    """Turn clamd's answer to INSTREAM into an outcome. Anything not understood is `error`."""
    text = answer.decode("ascii", "replace").strip()
    if text.startswith("INSTREAM size limit exceeded"):
        return Scan(NAME, "limit", "larger than the scanner takes", version)
    match = _ANSWER.match(text)
    if match is None:
        return Scan(NAME, "error", "answer not understood", version)
    subject, status = _SIGNATURE.sub("", match[1])[:200], match[2]
    if status == "OK" and not subject:
        return Scan(NAME, "clean", "", version)
    if status == "FOUND":
        if subject.startswith("Heuristics.Limits.Exceeded"):
            return Scan(NAME, "limit", subject, version)
        if subject.startswith("Heuristics.Encrypted"):
            return Scan(NAME, "suspect", f"{ENCRYPTED}: {subject}", version)
        return Scan(NAME, "found", subject, version)
    return Scan(NAME, "error", "the scanner reported an error", version)


def signature_date(version: str) -> datetime | None:
    """The date of the signatures in an answer to VERSION, taken as UTC; None if there is none.

    The form is `ClamAV 1.4.6/27000/Mon Nov 17 09:00:00 2025`, or the first part alone.
    """
    fields = version.split("/")
    if len(fields) != 3:
        return None
    try:
        return datetime.strptime(fields[2].strip(), "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    except ValueError:
        return None


def _connect(address: str) -> socket.socket:
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(rest)
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = rest.rpartition(":")
    if kind != "tcp" or not host or not port.isdigit():
        raise ValueError("clamd: expected unix:/path or tcp:host:port, found something else")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS)


def _answer(connection: socket.socket, deadline: float) -> bytes:
    """Read one NUL-terminated answer (raises TimeoutError, OSError)."""
    answer = bytearray()
    while len(answer) < _ANSWER_LIMIT:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        data = connection.recv(_ANSWER_LIMIT)
        if not data:
            break
        answer += data
        if b"\0" in data:
            break
    if not answer:
        raise ConnectionResetError("no answer")
    return bytes(answer).split(b"\0", 1)[0]
