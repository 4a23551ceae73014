"""A channel answers no faster than its peer reads, and believes no peer about its window."""

from __future__ import annotations

import struct

import pytest
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from gateway.doors.sftp import protocol as p
from gateway.doors.sftp.ssh.channels import WINDOW, DoorChannel
from gateway.doors.sftp.ssh.packets import ChannelData
from gateway.errors import Disconnected


class Line:
    """Notes what a channel sends; enforces that nothing leaves while keys are renewed."""

    def __init__(self) -> None:
        self.may_send = True
        self.sent: list[bytes] = []
        self.forgotten: list[int] = []

    def emit(self, payload: bytes) -> None:
        self.sent.append(payload)

    def cork(self) -> None: ...

    def uncork(self) -> None: ...

    def forget(self, number: int) -> None:
        self.forgotten.append(number)

    def of(self, number: int) -> list[bytes]:
        return [payload for payload in self.sent if payload[0] == number]

    def data(self) -> bytes:
        return b"".join(payload[9:] for payload in self.of(94))


class Echo:
    """Answers each packet with `size` bytes of its number."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.answered = 0
        self.ended = 0

    def answer(self, packet: memoryview) -> bytes:
        self.answered += 1
        if packet[0] == 99:
            raise p.PacketError("packet: expected another")
        if packet[0] == 98:
            raise Disconnected("core: gone")
        return bytes([packet[0]]) * self.size

    def end(self) -> None:
        self.ended += 1


def subsystem(name: bytes = b"sftp") -> Message:
    return Message(p.string(b"subsystem") + b"\1" + p.string(name))


def opened(line: Line, echo: Echo, window: int = 10**6, packet: int = 32768) -> DoorChannel:
    channel = DoorChannel(line, 3, 7, window, packet, lambda: echo)
    channel.request(subsystem())
    assert line.sent == [struct.pack(">BI", 99, 7)]
    line.sent.clear()
    return channel


def feed(channel: DoorChannel, body: bytes) -> None:
    payload = b"\x5e" + struct.pack(">II", 3, len(body)) + body
    channel.data(ChannelData(memoryview(payload)))


def packet(number: int, size: int = 1) -> bytes:
    return struct.pack(">I", size) + bytes([number]) * size


def test_answers_wait_for_the_peers_window_and_requests_wait_unread():
    line, echo = Line(), Echo(1000)
    channel = opened(line, echo, window=1500)
    numbers = [count % 90 + 1 for count in range(600)]
    feed(channel, b"".join(packet(number) for number in numbers))
    assert line.data() == b"\1" * 1000 + b"\2" * 500
    assert echo.answered < 300  # what can't leave is not produced without end
    channel.adjust(Message(struct.pack(">I", 700)))
    assert len(line.data()) == 2200
    channel.adjust(Message(struct.pack(">I", 2**32 - 1)))
    assert line.data() == b"".join(bytes([number]) * 1000 for number in numbers)
    assert echo.answered == 600


def test_no_packet_is_larger_than_the_peer_takes():
    line, echo = Line(), Echo(100_000)
    feed(opened(line, echo, packet=32768), packet(1))
    assert max(len(payload) - 9 for payload in line.of(94)) == 32768
    assert line.data() == b"\1" * 100_000


def test_nothing_leaves_while_keys_are_renewed():
    line, echo = Line(), Echo(10)
    channel = opened(line, echo)
    line.may_send = False
    feed(channel, packet(1) + packet(2))
    assert line.sent == []
    assert echo.answered == 0
    line.may_send = True
    channel.work()
    assert line.data() == b"\1" * 10 + b"\2" * 10


def test_data_beyond_the_window_ends_the_connection():
    line, echo = Line(), Echo(1000)
    channel = opened(line, echo, window=0)
    pieces = b"".join(packet(1, 29_996) for _ in range(WINDOW // 30_000))
    for start in range(0, len(pieces), 30_000):
        feed(channel, pieces[start : start + 30_000])
    with pytest.raises(SSHException, match="expected no data"):
        feed(channel, bytes(WINDOW - len(pieces) + 1))


def test_the_window_opens_again_by_what_was_answered():
    line, echo = Line(), Echo(1)
    channel = opened(line, echo)
    for _ in range(3 * WINDOW // 30_000):
        feed(channel, packet(1, 29_996))
    assert sum(struct.unpack(">I", payload[5:])[0] for payload in line.of(93)) > 2 * WINDOW


def test_data_without_a_session_ends_the_connection():
    channel = DoorChannel(Line(), 3, 7, 10, 10, lambda: Echo(1))
    with pytest.raises(SSHException, match="expected no data"):
        feed(channel, b"x")


def test_a_second_stream_ends_the_connection():
    with pytest.raises(SSHException, match="extended"):
        opened(Line(), Echo(1)).extended_data(Message(b""))


@pytest.mark.parametrize("kind", [b"shell", b"exec", b"pty-req", b"env", b"x11-req", b"signal"])
def test_other_requests_are_refused(kind):
    line = Line()
    channel = opened(line, Echo(1))
    channel.request(Message(p.string(kind) + b"\1" + p.string(b"sftp")))
    assert line.sent == [struct.pack(">BI", 100, 7)]


def test_a_second_session_on_a_channel_is_refused():
    line = Line()
    channel = opened(line, Echo(1))
    channel.request(subsystem())
    assert line.sent == [struct.pack(">BI", 100, 7)]


def test_the_end_of_the_peer_is_answered_with_a_status_and_a_close():
    line, echo = Line(), Echo(5)
    channel = opened(line, echo, window=3)
    feed(channel, packet(1))
    channel.eof(Message(b""))
    assert echo.ended == 0  # the answer has not left yet
    channel.adjust(Message(struct.pack(">I", 100)))
    assert line.data() == b"\1" * 5
    assert [payload[0] for payload in line.sent[-3:]] == [98, 96, 97]
    assert echo.ended == 1
    channel.close(Message(b""))
    assert echo.ended == 1
    assert len(line.of(97)) == 1
    assert line.forgotten == [3]


def test_a_connection_that_ends_ends_the_session_once():
    line, echo = Line(), Echo(1)
    channel = opened(line, echo)
    channel._unlink()
    channel._unlink()
    assert echo.ended == 1


@pytest.mark.parametrize(("number", "error"), [(99, SSHException), (98, EOFError)])
def test_a_session_that_is_over_ends_the_connection(number, error):
    channel = opened(Line(), Echo(1))
    with pytest.raises(error):
        feed(channel, packet(number))
