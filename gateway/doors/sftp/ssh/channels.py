"""Session channels (RFC 4254), served by the thread that reads the connection.

Promises: data beyond the window ends the connection; what a peer does not read is not produced (requests
wait, unread, in a buffer as large as the window); nothing is sent while keys are being renewed. One thread
does everything, so that no lock and no wake-up of another thread stands between a packet and its answer.

Leaves out: what the requests mean (`session`), and every kind of channel but sessions with the subsystem
sftp: no terminal, no command, no forwarding.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from gateway.doors.sftp import protocol as p
from gateway.doors.sftp.ssh.packets import ChannelData
from gateway.errors import Disconnected

WINDOW: Final = 2 * 1024 * 1024
PACKET: Final = 128 * 1024  # larger than the usual 32 KiB: fewer packets for who follows it
SMALLEST_PACKET: Final = 1024  # a peer that wants its data in crumbs gets them no smaller
_GATHER: Final = 256 * 1024  # bytes of answers that leave together

log = structlog.get_logger("sftp")


class Session(Protocol):
    """What answers the requests of a channel."""

    def answer(self, packet: memoryview) -> bytes:
        """The reply to one packet (raises PacketError, Disconnected: the session is over)."""

    def end(self) -> None:
        """The channel is gone."""


class Line(Protocol):
    """What a channel needs of its transport."""

    @property
    def may_send(self) -> bool:
        """False while keys are being renewed."""

    def emit(self, payload: bytes) -> None:
        """Send a message, or keep it until it may be sent."""

    def cork(self) -> None:
        """Gather what is sent."""

    def uncork(self) -> None:
        """Send what was gathered."""

    def forget(self, number: int) -> None:
        """The channel of that number is gone."""


class DoorChannel:
    """One channel. `local` and `remote` are its numbers here and there."""

    def __init__(
        self,
        line: Line,
        local: int,
        remote: int,
        window: int,
        packet: int,
        start: Callable[[], Session],
    ) -> None:
        self._line = line
        self._local = local
        self._remote = remote
        self._start = start
        self._session: Session | None = None
        self._requests = p.Assembler(WINDOW + p.MAX_PACKET + 4)
        self._in_window = WINDOW
        self._in_total = self._credited = 0
        self._out: deque[memoryview] = deque()
        self._out_window = window
        self._out_packet = max(SMALLEST_PACKET, packet)
        self._peer_finished = self._finished = self._closed = False

    # ── what arrives ──

    def request(self, message: Message) -> None:
        """A channel request: the subsystem sftp, once, and nothing else."""
        kind, wanted = message.get_binary(), message.get_boolean()
        done = kind == b"subsystem" and message.get_binary() == b"sftp" and self._session is None
        if done:
            self._session = self._start()
        if wanted:
            number = MSG_CHANNEL_SUCCESS if done else MSG_CHANNEL_FAILURE
            self._line.emit(struct.pack(">BI", number, self._remote))

    def data(self, message: Message) -> None:
        """Bytes for the session (raises SSHException for what was not asked for)."""
        assert isinstance(message, ChannelData)
        size = len(message.data)
        self._in_window -= size
        if self._in_window < 0 or self._session is None or self._peer_finished:
            raise SSHException(f"channel: expected no data, found {size} bytes")
        self._in_total += size
        self._requests.feed(message.data)
        self.work()

    def extended_data(self, message: Message) -> None:
        """Refuse data of a second stream: towards a server there is none."""
        del message
        raise SSHException("channel: expected no extended data, found some")

    def adjust(self, message: Message) -> None:
        """The peer takes more."""
        self._out_window = min(self._out_window + message.get_int(), 0xFFFFFFFF)
        self.work()

    def eof(self, message: Message) -> None:
        """The peer sends no more: answer what is there, then finish."""
        del message
        self._peer_finished = True
        self.work()

    def close(self, message: Message) -> None:
        """The peer is done with the channel."""
        del message
        self._send_close()
        self._line.forget(self._local)
        self._unlink()

    def reply_to_us(self, message: Message) -> None:
        """Ignore an answer to a request: we never make any."""
        del message

    def _unlink(self) -> None:
        """The channel is gone (paramiko calls this when the connection ends)."""
        session, self._session = self._session, None
        if session is not None:
            session.end()

    # ── work ──

    def work(self) -> None:
        """Answer requests as long as the answers can leave."""
        if self._closed:
            return
        self._line.cork()
        try:
            self._flush()
            while not self._out and self._line.may_send and self._answer():
                self._flush()
            self._credit()
            if self._peer_finished and not self._out and self._line.may_send:
                self._finish()
        finally:
            self._line.uncork()

    def _answer(self) -> bool:
        """Gather answers to the requests that are here; False if there are none."""
        assert self._session is not None or self._peer_finished
        size = 0
        try:
            while (
                size < _GATHER
                and self._session is not None
                and (packet := self._requests.next()) is not None
            ):
                reply = self._session.answer(packet)
                size += len(reply)
                self._out.append(memoryview(reply))
        except p.PacketError as error:
            log.warning("session ended", error=str(error))
            raise SSHException("session: expected SFTP, found something else") from error
        except Disconnected as error:
            log.warning("session ended", error="the core went away")
            raise EOFError from error
        except Exception as error:
            log.error("session failed", error=type(error).__name__)
            raise
        return size > 0

    def _flush(self) -> None:
        """Send what the peer's window lets through, in packets of its size."""
        while self._out and self._out_window and self._line.may_send:
            room = min(self._out_window, self._out_packet)
            pieces: list[memoryview] = []
            size = 0
            while self._out and size < room:
                piece = self._out.popleft()
                if len(piece) > room - size:
                    self._out.appendleft(piece[room - size :])
                    piece = piece[: room - size]
                pieces.append(piece)
                size += len(piece)
            self._out_window -= size
            head = struct.pack(">BII", MSG_CHANNEL_DATA, self._remote, size)
            self._line.emit(b"".join((head, *pieces)))

    def _credit(self) -> None:
        """Open the window again by what has been answered."""
        taken = self._in_total - self._requests.held - self._credited
        if taken >= WINDOW // 8:
            self._credited += taken
            self._in_window += taken
            self._line.emit(struct.pack(">BII", MSG_CHANNEL_WINDOW_ADJUST, self._remote, taken))

    def _finish(self) -> None:
        """End in order. scp takes a subsystem that ends without a status for one that failed."""
        if self._finished:
            return
        self._finished = True
        self._unlink()
        status = struct.pack(">I", 11) + b"exit-status" + struct.pack(">BI", 0, 0)
        self._line.emit(struct.pack(">BI", MSG_CHANNEL_REQUEST, self._remote) + status)
        self._line.emit(struct.pack(">BI", MSG_CHANNEL_EOF, self._remote))
        self._send_close()

    def _send_close(self) -> None:
        if not self._closed:
            self._closed = True
            self._line.emit(struct.pack(">BI", MSG_CHANNEL_CLOSE, self._remote))
