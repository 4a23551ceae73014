"""SFTP packets are cut and read strictly, whatever pieces they arrive in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.doors.sftp import protocol as p


def cut(pieces: list[bytes], capacity: int = 2 * (p.MAX_PACKET + 4)) -> list[bytes]:
    assembler = p.Assembler(capacity)
    found = []
    for piece in pieces:
        assembler.feed(piece)
        while (packet := assembler.next()) is not None:
            found.append(bytes(packet))
    return found


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.data())
def test_packets_come_out_whole_however_they_were_cut(packets, data):
    stream = b"".join(struct.pack(">I", len(packet)) + packet for packet in packets)
    pieces = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        pieces.append(stream[:size])
        stream = stream[size:]
    # A capacity just above what is held makes every compaction happen.
    assert cut(pieces, 20 * 304) == packets


@pytest.mark.parametrize("length", [0, p.MAX_PACKET + 1, 2**32 - 1])
def test_an_impossible_length_is_refused_before_its_bytes_arrive(length):
    with pytest.raises(p.PacketError, match="expected 1 to"):
        cut([struct.pack(">I", length)])


def test_the_longest_packet_is_taken():
    packet = bytes(p.MAX_PACKET)
    assert cut([struct.pack(">I", len(packet)) + packet]) == [packet]


def test_more_than_was_reserved_is_misuse():
    assembler = p.Assembler(10)
    with pytest.raises(RuntimeError, match="at most 10"):
        assembler.feed(bytes(11))


def test_what_is_held_is_counted():
    assembler = p.Assembler()
    assembler.feed(struct.pack(">I", 3) + b"abcdef")
    assert assembler.held == 10
    assert bytes(assembler.next() or b"") == b"abc"
    assert assembler.held == 3


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\5abcd", b"\xff\xff\xff\xff"])
def test_a_field_beyond_the_end_is_refused(data):
    with pytest.raises(p.PacketError, match="more bytes"):
        p.Reader(data).string()


def test_attributes_are_passed_over_to_the_last_byte():
    block = struct.pack(">IQIIIIII", 0x8000000F, 7, 0, 0, 0o644, 1, 2, 1)
    block += p.string(b"name") + p.string(b"value") + p.string(b"next")
    reader = p.Reader(block)
    assert reader.size_attribute() == 7
    assert reader.string() == b"next"


def test_a_huge_count_of_extended_attributes_costs_nothing():
    with pytest.raises(p.PacketError):
        p.Reader(struct.pack(">II", 0x80000000, 2**32 - 1)).size_attribute()
