"""Counter mode under a MAC over the ciphertext: the door's packetizer speaks with paramiko's own."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.message import Message
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

from gateway.doors.sftp.ssh import packets
from gateway.doors.sftp.ssh.packets import MAX_PACKET, ChannelData, DoorPacketizer

AES = algorithms.AES(bytes(32))
ENGINES = {"sha2-256": hashlib.sha256, "sha2-512": hashlib.sha512}


def keyed(packetizer: Packetizer, engine=hashlib.sha256, key: int = 0, **changed) -> Packetizer:
    """Both directions under one key."""
    cipher = Cipher(algorithms.AES(bytes([key] * 32)), modes.CTR(bytes(15) + b"\xf0"))
    common = {
        "block_size": 16, "mac_engine": engine, "mac_size": engine().digest_size,
        "mac_key": bytes([key] * engine().digest_size), "etm": True, "aead": False, **changed,
    }  # fmt: skip
    packetizer.set_inbound_cipher(block_engine=cipher.decryptor(), **common)
    packetizer.set_outbound_cipher(block_engine=cipher.encryptor(), sdctr=True, **common)
    return packetizer


def message(number: int, body: bytes) -> Message:
    made = Message()
    made.add_bytes(bytes((number,)) + body)
    return made


def carried(sender: Packetizer, receiver: Packetizer, made: Message) -> tuple[int, Message]:
    thread = threading.Thread(target=sender.send_message, args=(made,))
    thread.start()
    try:
        return receiver.read_message()
    finally:
        thread.join()


def sealed(pair, count: int = 1, body: bytes = b"body" * 10) -> list[bytes]:
    """Packets of a peer's, as they lie on the wire."""
    theirs = keyed(Packetizer(pair[1]))
    found: list[bytes] = []
    theirs.write_all = lambda out: found.append(bytes(out))
    for _ in range(count):
        theirs.send_message(message(5, body))
    return found


@pytest.mark.parametrize("engine", ENGINES.values(), ids=list(ENGINES))
def test_messages_of_every_length_go_both_ways(pair, engine):
    """Lengths around the block size and long ones, dozens in a row: both count alike."""
    ours, theirs = keyed(DoorPacketizer(pair[0]), engine), keyed(Packetizer(pair[1]), engine)
    for size in [*range(40), 1000, 32768, 200_000]:
        body = os.urandom(size)
        number, got = carried(theirs, ours, message(5, body))
        assert (number, got.asbytes()) == (5, body)
        number, got = carried(ours, theirs, message(6, body))
        assert (number, got.asbytes()) == (6, body)


def test_channel_data_is_handed_on_as_a_view(pair):
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    made = message(MSG_CHANNEL_DATA, struct.pack(">II", 7, 5) + b"bytes")
    number, got = carried(theirs, ours, made)
    assert (number, type(got)) == (MSG_CHANNEL_DATA, ChannelData)
    assert (got.get_int(), bytes(got.data)) == (7, b"bytes")


@pytest.mark.parametrize("clear", [0, 1, 3])
def test_packets_before_the_first_key_count(pair, clear):
    """Without strict key exchange the first sealed packet is not number nought."""
    ours, theirs = DoorPacketizer(pair[0]), Packetizer(pair[1])
    for _ in range(clear):
        carried(theirs, ours, message(5, b"clear"))
        carried(ours, theirs, message(5, b"clear"))
    keyed(ours)
    keyed(theirs)
    for _ in range(2):
        assert carried(theirs, ours, message(5, b"sealed"))[1].asbytes() == b"sealed"
        assert carried(ours, theirs, message(6, b"sealed"))[1].asbytes() == b"sealed"


@pytest.mark.parametrize("strict", [True, False])
def test_new_keys_go_on_counting_unless_the_exchange_is_strict(pair, strict):
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    for key in (1, 2):
        assert carried(theirs, ours, message(5, b"before"))[1].asbytes() == b"before"
        assert carried(ours, theirs, message(5, b"before"))[1].asbytes() == b"before"
        for packetizer in (ours, theirs):
            keyed(packetizer, key=key)
            if strict:
                packetizer.reset_seqno_in()
                packetizer.reset_seqno_out()
    assert carried(theirs, ours, message(5, b"after"))[1].asbytes() == b"after"
    assert carried(ours, theirs, message(5, b"after"))[1].asbytes() == b"after"


@pytest.mark.parametrize("place", [2, 3, 4, 20, -33, -32, -1])
def test_a_changed_byte_anywhere_is_refused(pair, place):
    """In the length, the ciphertext (first, middle, last) and the MAC; nothing of it is decrypted."""
    (wire,) = sealed(pair)
    changed = bytearray(wire)
    changed[place] ^= 0x10
    ours = keyed(DoorPacketizer(pair[0]))
    untouched = bytes(ours._plain)
    pair[1].sendall(changed)
    pair[1].shutdown(socket.SHUT_WR)
    with pytest.raises((SSHException, EOFError)):
        ours.read_message()
    assert bytes(ours._plain) == untouched


def test_a_packet_sent_twice_or_out_of_turn_is_refused(pair):
    first, second = sealed(pair, 2)
    ours = keyed(DoorPacketizer(pair[0]))
    pair[1].sendall(first + first)
    assert ours.read_message()[1].asbytes() == b"body" * 10
    with pytest.raises(SSHException, match="authenticates"):
        ours.read_message()
    other = keyed(DoorPacketizer(pair[0]))
    pair[1].sendall(second)
    with pytest.raises(SSHException, match="authenticates"):
        other.read_message()


@pytest.mark.parametrize("length", [0, 15, 17, MAX_PACKET + 16, 0xFFFFFFFF])
def test_lengths_no_packet_has_end_the_connection_before_more_is_read(pair, length):
    ours = keyed(DoorPacketizer(pair[0]))
    pair[1].sendall(struct.pack(">I", length))
    with pytest.raises(SSHException, match="whole blocks"):
        ours.read_message()


def test_the_longest_packet_there_is_goes_through(pair):
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    body = os.urandom(MAX_PACKET - 16)
    assert carried(theirs, ours, message(5, body))[1].asbytes() == body


@pytest.mark.parametrize("kind", ["aead", "over plaintext"])
def test_a_renewal_with_another_kind_of_cipher_is_refused(pair, kind):
    ours = keyed(DoorPacketizer(pair[0]))
    renewed = {"etm": False, "aead": kind == "aead", "iv_in": bytes(12)}
    engine = AESGCM(bytes(16)) if kind == "aead" else Cipher(AES, modes.CTR(bytes(16))).decryptor()
    with pytest.raises(SSHException, match="same kind"):
        ours.set_inbound_cipher(
            block_engine=engine, block_size=16, mac_engine=hashlib.sha256, mac_size=32,
            mac_key=bytes(32), **renewed,
        )  # fmt: skip


def test_keys_are_renewed_by_volume(pair, monkeypatch):
    """Our own wish after a limit; a peer that ignores it is cut off after as much again."""
    monkeypatch.setattr(packets, "REKEY", 100_000)
    ours, theirs = keyed(DoorPacketizer(pair[0])), keyed(Packetizer(pair[1]))
    for _ in range(3):
        assert not ours.need_rekey()
        carried(theirs, ours, message(5, bytes(30_000)))
    carried(theirs, ours, message(5, bytes(30_000)))
    assert ours.need_rekey()
    carried(theirs, ours, message(5, bytes(30_000)))
    carried(theirs, ours, message(5, bytes(30_000)))
    with pytest.raises(SSHException, match="ignored"):
        carried(theirs, ours, message(5, bytes(30_000)))
