"""The door's packetizer speaks with paramiko's own, and refuses what a hostile peer announces."""

from __future__ import annotations

import os
import struct
import threading

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.message import Message
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

from gateway.doors.sftp.ssh import packets
from gateway.doors.sftp.ssh.packets import MAX_PACKET, ChannelData, DoorPacketizer

KEY = AESGCM(bytes(range(16)))


def keyed(packetizer: Packetizer) -> Packetizer:
    """Both directions under one key, each with its own fixed part of the nonce."""
    ours = isinstance(packetizer, DoorPacketizer)
    ivs = (b"AAAA" + bytes(6) + b"\xff\xf0", b"BBBB" + bytes(6) + b"\xff\xf0")
    common = {"mac_engine": None, "mac_size": 16, "mac_key": None, "etm": False, "aead": True}
    packetizer.set_inbound_cipher(
        block_engine=KEY, block_size=16, iv_in=ivs[0 if ours else 1], **common
    )
    packetizer.set_outbound_cipher(
        block_engine=KEY, block_size=16, iv_out=ivs[1 if ours else 0], sdctr=False, **common
    )
    return packetizer


def message(number: int, body: bytes) -> Message:
    made = Message()
    made.add_bytes(bytes((number,)) + body)
    return made


def data(channel: int, body: bytes) -> Message:
    return message(MSG_CHANNEL_DATA, struct.pack(">II", channel, len(body)) + body)


def read_many(packetizer: Packetizer, count: int) -> None:
    for _ in range(count):
        packetizer.read_message()


def test_messages_of_every_length_go_both_ways(pair):
    """Lengths around the block size; the nonce's counter runs over a byte, as RFC 5647 counts it."""
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    for size in [*range(40), 1000, 32768, 200_000]:
        body = os.urandom(size)
        thread = threading.Thread(target=theirs.send_message, args=(message(5, body),))
        thread.start()
        number, got = ours.read_message()
        thread.join()
        assert (number, got.asbytes()) == (5, body)
        thread = threading.Thread(target=ours.send_message, args=(message(6, body),))
        thread.start()
        number, got = theirs.read_message()
        thread.join()
        assert (number, got.asbytes()) == (6, body)


def test_channel_data_is_a_view_of_what_was_sent(pair):
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    theirs.send_message(data(7, b"hello"))
    number, got = ours.read_message()
    assert number == MSG_CHANNEL_DATA
    assert isinstance(got, ChannelData)
    assert (got.get_int(), bytes(got.data)) == (7, b"hello")


@pytest.mark.parametrize("body", [b"", b"\0\0\0\7", struct.pack(">II", 7, 6) + b"hello"])
def test_channel_data_that_lies_about_its_length_is_refused(body):
    with pytest.raises(SSHException, match="channel data"):
        ChannelData(memoryview(bytes([MSG_CHANNEL_DATA]) + body))


def test_what_is_corked_leaves_at_once(pair):
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    ours.cork()
    for number in range(3):
        ours.send_message(data(number, b"x"))
    pair[1].settimeout(0.05)
    with pytest.raises(TimeoutError):
        pair[1].recv(1)
    pair[1].settimeout(5)
    ours.uncork()
    assert [theirs.read_message()[1].get_int() for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("length", [0, 15, 17, MAX_PACKET + 16, 2**32 - 16])
def test_an_impossible_length_ends_the_connection(pair, length):
    ours = keyed(DoorPacketizer(pair[0]))
    pair[1].sendall(struct.pack(">I", length) + bytes(100))
    with pytest.raises(SSHException, match="whole blocks"):
        ours.read_message()


def test_a_changed_bit_ends_the_connection(pair):
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    sent = []
    theirs.write_all = sent.append
    theirs.send_message(data(1, b"x" * 50))
    damaged = bytearray(sent[0])
    damaged[30] ^= 1
    pair[1].sendall(damaged)
    with pytest.raises(SSHException, match="authenticates"):
        ours.read_message()


def test_a_packet_taken_again_does_not_authenticate(pair):
    """The nonce counts: a replayed packet is refused."""
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    sent = []
    theirs.write_all = sent.append
    theirs.send_message(data(1, b"x"))
    pair[1].sendall(sent[0] + sent[0])
    ours.read_message()
    with pytest.raises(SSHException, match="authenticates"):
        ours.read_message()


def test_a_line_without_end_is_not_waited_for(pair):
    ours = DoorPacketizer(pair[0])
    pair[1].sendall(b"x" * (packets.MAX_BANNER + 1))
    with pytest.raises(SSHException, match="identification"):
        ours.readline(15)


def test_bytes_after_the_line_are_kept(pair):
    ours = DoorPacketizer(pair[0])
    pair[1].sendall(b"SSH-2.0-x\r\nrest")
    assert ours.readline(15) == "SSH-2.0-x"
    assert ours.read_all(4) == b"rest"


def test_another_kind_of_cipher_at_a_rekey_is_refused(pair):
    ours = keyed(DoorPacketizer(pair[0]))
    with pytest.raises(SSHException, match="same kind"):
        ours.set_inbound_cipher(
            block_engine=None, block_size=16, mac_engine=None, mac_size=32, mac_key=b"",
            etm=True, aead=False, iv_in=None,
        )  # fmt: skip


def test_keys_are_renewed_after_their_share_of_bytes(pair, monkeypatch):
    monkeypatch.setattr(packets, "REKEY", 1000)
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    for _ in range(9):
        theirs.send_message(data(1, b"x" * 100))
        ours.read_message()
    assert ours.need_rekey()
    for _ in range(9):
        theirs.send_message(data(1, b"x" * 100))
    with pytest.raises(SSHException, match="ignored"):
        read_many(ours, 9)


def test_closing_wakes_the_reader(pair):
    ours = keyed(DoorPacketizer(pair[0]))
    pair[0].settimeout(None)
    threading.Timer(0.1, ours.close).start()
    with pytest.raises((EOFError, OSError)):
        ours.read_message()
