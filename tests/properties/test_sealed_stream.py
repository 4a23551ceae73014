"""Properties of sealed streams: any size, any splitting, any interruption, any range."""

import itertools
import os
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault.crypto.sealed import (
    CHUNK,
    HEADER,
    TAG,
    SealedReader,
    SealedWriter,
    open_bytes,
    seal_bytes,
)
from vault.errors import IntegrityError

KEY = bytes(range(32))
CONTEXT = b"strongroom/v1/document/property"
SOURCE = os.urandom(40 * CHUNK)

near_a_boundary = st.builds(
    lambda chunks, off: max(0, chunks * CHUNK + off),
    st.sampled_from([0, 1, 2, 15, 16, 17, 33]),
    st.integers(-2, 2),
)
sizes = st.one_of(near_a_boundary, st.integers(0, 3 * CHUNK))


@contextmanager
def memory_file():
    fd = os.memfd_create("sealed")
    try:
        yield fd
    finally:
        os.close(fd)


def pieces(data, cuts):
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)] or [b""]


@settings(max_examples=60, deadline=None)
@given(size=sizes, cuts=st.lists(near_a_boundary | st.integers(0, 34 * CHUNK), max_size=8))
def test_any_splitting_of_the_writes_gives_the_same_plaintext(size, cuts):
    """How the bytes arrive does not matter."""
    plain = SOURCE[:size]
    with memory_file() as fd:
        writer = SealedWriter(fd, KEY, CONTEXT)
        for number, piece in enumerate(pieces(plain, cuts)):
            writer.write((bytes, bytearray, memoryview)[number % 3](piece))
            if number % 2:
                writer.flush()
        assert writer.finish() == size
        with SealedReader(fd, KEY, CONTEXT) as reader:
            assert reader.size == size
            assert reader.readall() == plain


@settings(max_examples=60, deadline=None)
@given(size=sizes, cuts=st.lists(near_a_boundary | st.integers(0, 34 * CHUNK), max_size=4))
def test_any_number_of_interruptions_gives_the_same_plaintext(size, cuts):
    """After each interruption the client goes on from the visible size, and nothing is missing."""
    plain = SOURCE[:size]
    with memory_file() as fd:
        writer = SealedWriter(fd, KEY, CONTEXT)
        for cut in sorted(cuts):
            if cut > writer.plain_written:
                writer.write(plain[writer.plain_written : cut])
            writer.flush()
            visible = writer.resumable_size
            existing = bytearray()
            writer = SealedWriter.resume(fd, KEY, CONTEXT, existing.extend)
            assert writer.plain_written == visible
            assert existing == plain[:visible]
        writer.write(plain[writer.plain_written :])
        assert writer.finish() == size
        assert SealedReader(fd, KEY, CONTEXT).readall() == plain


@settings(max_examples=60, deadline=None)
@given(size=sizes, ranges=st.lists(st.tuples(sizes, sizes), min_size=1, max_size=12))
def test_any_range_reads_as_the_slice_of_the_plaintext(size, ranges):
    """In any order, across any boundary, beyond the end: what slicing says."""
    plain = SOURCE[:size]
    with memory_file() as fd:
        os.pwrite(fd, seal_bytes(KEY, CONTEXT, plain), 0)
        with SealedReader(fd, KEY, CONTEXT) as reader:
            for offset, length in ranges:
                assert reader.read_at(offset, length) == plain[offset : offset + length]
                reader.seek(offset)
                assert reader.read(length) == plain[offset : offset + length]


@settings(max_examples=80, deadline=None)
@given(size=st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1]), data=st.data())
def test_no_changed_byte_and_no_cut_ever_opens(size, data):
    """Whatever is done to the file, the answer is a refusal."""
    sealed = seal_bytes(KEY, CONTEXT, SOURCE[:size])
    at = data.draw(st.integers(0, len(sealed) - 1))
    change = data.draw(st.integers(1, 255))
    for damaged in (
        sealed[:at],
        sealed[:at] + bytes([sealed[at] ^ change]) + sealed[at + 1 :],
        sealed + bytes([change]) * (at + 1),
    ):
        with pytest.raises(IntegrityError):
            open_bytes(KEY, CONTEXT, damaged)


@settings(max_examples=40, deadline=None)
@given(torn=st.integers(1, CHUNK + TAG - 1), whole=st.integers(0, 2))
def test_no_torn_file_is_ever_resumed(torn, whole):
    """A partial chunk on disk has used up its index."""
    sealed = seal_bytes(KEY, CONTEXT, SOURCE[: 4 * CHUNK])
    with memory_file() as fd:
        os.pwrite(fd, sealed[: HEADER + whole * (CHUNK + TAG) + torn], 0)
        with pytest.raises(IntegrityError):
            SealedWriter.resume(fd, KEY, CONTEXT)
