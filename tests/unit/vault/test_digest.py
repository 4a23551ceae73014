"""The digest of a stream is that of its bytes, however they come and however many there are."""

from __future__ import annotations

import hashlib
import random
import threading

import pytest

from vault.crypto.digest import DEPTH, PIECE, THRESHOLD, StreamDigest

GENERATOR = random.Random(7)


@pytest.mark.parametrize(
    "size",
    [0, 1, PIECE, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, THRESHOLD + (DEPTH + 3) * PIECE + 5],
)
@pytest.mark.parametrize("step", [1 << 15, 100_003, 3 * PIECE])
def test_it_is_the_digest_of_exactly_the_bytes_given(size, step):
    data = GENERATOR.randbytes(size)
    digest = StreamDigest()
    for start in range(0, size, step):
        digest.update(data[start : start + step])
    assert digest.digest() == hashlib.sha256(data).digest()


def test_a_buffer_may_be_used_again_at_once():
    """The door gives a view of its packet buffer, and reads the next packet into it."""
    digest, expected = StreamDigest(), hashlib.sha256()
    buffer = bytearray(64 * 1024)
    for number in range(200):
        buffer[:] = bytes([number]) * len(buffer)
        digest.update(memoryview(buffer))
        expected.update(buffer)
    buffer[:] = bytes(len(buffer))
    assert digest.digest() == expected.digest()


def test_more_may_follow_a_digest():
    digest = StreamDigest()
    digest.update(b"a" * (THRESHOLD + 1))
    first = digest.digest()
    digest.update(b"b" * (2 * PIECE))
    assert first == hashlib.sha256(b"a" * (THRESHOLD + 1)).digest()
    expected = hashlib.sha256(b"a" * (THRESHOLD + 1) + b"b" * (2 * PIECE)).digest()
    assert digest.digest() == expected


def test_a_stream_given_up_leaves_no_thread_behind():
    before = threading.active_count()
    digest = StreamDigest()
    digest.update(b"x" * (THRESHOLD + 4 * PIECE))
    digest.update(b"x")
    assert threading.active_count() == before + 1
    digest.close()
    digest.close()
    assert threading.active_count() == before
