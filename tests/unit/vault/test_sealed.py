"""Sealed blobs: what is refused, what survives interruption, and what a file-like reader owes."""

import errno
import hashlib
import io
import json
import os
import resource
import signal
import zipfile
import zlib
from contextlib import contextmanager

import pytest

from tests.vectors import generate
from tests.vectors.corpus import ROOT
from vault.crypto import chunked, sealed
from vault.crypto.sealed import (
    CHUNK,
    HEADER,
    TAG,
    SealedReader,
    SealedWriter,
    document_context,
    open_bytes,
    plain_size,
    seal_bytes,
    sealed_size,
    whole_chunks,
)
from vault.errors import IntegrityError, StorageFailed, StorageFull, VaultError

KEY = bytes(range(32))
CONTEXT = document_context("01JD0000000000000000000000")
BOUNDARIES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1,
              16 * CHUNK - 1, 16 * CHUNK, 16 * CHUNK + 1, 33 * CHUNK + 5]  # fmt: skip
WYCHEPROOF = ROOT / "crypto-vectors/wycheproof/c2sp_chunked_encryption_aes_256_gcm_test.json"

# Which check must stop each invalid vector. Those absent pass the opening: their final chunk is
# valid, and reading must stop them at the bad chunk.
OPENING_FAILS = {
    11: "chunk", 12: "chunk", 14: "chunk", 16: "length", 17: "length", 18: "chunk", 19: "length",
    20: "truncated", 21: "commitment", 22: "commitment", 25: "commitment", 26: "commitment",
    27: "header", 28: "header", 29: "header", 30: "header", 31: "truncated", 32: "chunk",
    35: "chunk",
}  # fmt: skip
WRONG_KEY_SIZE = {23, 24}


def wycheproof():
    if not WYCHEPROOF.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"no corpus at {ROOT}"))]
    groups = json.loads(WYCHEPROOF.read_text())["testGroups"]
    return [
        pytest.param(test, id=f"{test['tcId']}-{test['comment']}"[:60])
        for group in groups
        for test in group["tests"]
    ]


@pytest.fixture
def fd(tmp_path):
    """A new empty file, open for reading and writing."""
    number = os.open(tmp_path / "sealed", os.O_RDWR | os.O_CREAT, 0o600)
    yield number
    os.close(number)


def put(fd, data):
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)


def content(fd):
    return os.pread(fd, os.fstat(fd).st_size, 0)


@contextmanager
def file_size_limit(limit):
    """Files of this process may not grow beyond `limit` bytes: EFBIG, as ENOSPC would do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def expect_kind(kind, call, *arguments):
    with pytest.raises(IntegrityError) as caught:
        call(*arguments)
    assert caught.value.kind == kind


# -- third-party vectors ---------------------------------------------------------------------


@pytest.mark.parametrize("case", wycheproof())
def test_a_wycheproof_vector_streams_or_fails_where_it_must(case, fd):
    """Reading front to back yields the message, or its valid prefix and then failures only."""
    key, context = bytes.fromhex(case["key"]), bytes.fromhex(case["ctx"])
    put(fd, zlib.decompress(bytes.fromhex(case["ct"])))
    number = case["tcId"]
    if number in WRONG_KEY_SIZE:
        with pytest.raises(RuntimeError):
            SealedReader(fd, key, context)
        return
    if number in OPENING_FAILS:
        expect_kind(OPENING_FAILS[number], SealedReader, fd, key, context)
        return
    reader = SealedReader(fd, key, context)
    digest, length = hashlib.sha512(), 0

    def stream():
        nonlocal length
        while piece := reader.read(CHUNK):
            digest.update(piece)
            length += len(piece)

    if case["result"] == "valid":
        stream()
        reader.verify()
        assert reader.size == length
    else:
        assert "ValidFinalChunk" in case["flags"]
        expect_kind("chunk", stream)
        expect_kind("chunk", reader.read, 1)
        expect_kind("chunk", reader.read, 1)
        expect_kind("chunk", reader.verify)
    assert length == case.get("msgLength", 0)
    if "msgSha512" in case:
        assert digest.hexdigest() == case["msgSha512"]


@pytest.mark.parametrize("case", wycheproof())
def test_a_wycheproof_vector_seeks_or_fails_where_it_must(case, fd):
    """Reading from the end, and in memory, reaches the same verdict as streaming."""
    key, context = bytes.fromhex(case["key"]), bytes.fromhex(case["ctx"])
    data = zlib.decompress(bytes.fromhex(case["ct"]))
    put(fd, data)
    number = case["tcId"]
    if case["result"] == "valid":
        whole = open_bytes(key, context, data)
        assert hashlib.sha512(whole).hexdigest() == case["msgSha512"]
        reader = SealedReader(fd, key, context)
        reader.seek(0, os.SEEK_END)
        assert reader.tell() == len(whole) == case["msgLength"]
        for offset in range(len(whole), -1, -30_011):
            assert reader.read_at(offset, 1000) == whole[offset : offset + 1000]
        return
    kind = RuntimeError if number in WRONG_KEY_SIZE else IntegrityError
    with pytest.raises(kind):
        open_bytes(key, context, data)
    if number not in OPENING_FAILS and number not in WRONG_KEY_SIZE:
        reader = SealedReader(fd, key, context)
        final = reader.size // CHUNK * CHUNK
        assert len(reader.read_at(final, CHUNK)) == reader.size - final
        expect_kind("chunk", reader.read_at, 0, reader.size)


# -- damage ----------------------------------------------------------------------------------


def test_every_single_bit_flip_in_a_small_file_is_refused():
    """No bit of a sealed file can change unnoticed, and the class says where it was."""
    data = seal_bytes(KEY, CONTEXT, b"a short document")
    for bit in range(len(data) * 8):
        at = bit // 8
        changed = bytearray(data)
        changed[at] ^= 1 << bit % 8
        expect_kind(
            "commitment" if at < HEADER else "chunk", open_bytes, KEY, CONTEXT, bytes(changed)
        )


def test_every_cut_of_a_small_file_is_refused():
    """A file that lost its end at any byte never opens."""
    data = seal_bytes(KEY, CONTEXT, b"a short document")
    for length in range(len(data)):
        with pytest.raises(IntegrityError):
            open_bytes(KEY, CONTEXT, data[:length])


@pytest.mark.parametrize("cut", [HEADER, HEADER + 1, HEADER + CHUNK + TAG - 1, HEADER + CHUNK + TAG,
                                 HEADER + CHUNK + TAG + 1, HEADER + 2 * (CHUNK + TAG)])  # fmt: skip
def test_a_file_cut_around_a_chunk_boundary_is_refused(cut, fd):
    """Dropping whole chunks leaves a file that reads as truncated, not as shorter."""
    data = seal_bytes(KEY, CONTEXT, bytes(2 * CHUNK))
    put(fd, data[:cut])
    with pytest.raises(IntegrityError):
        SealedReader(fd, KEY, CONTEXT)


def test_chunks_swapped_repeated_or_taken_from_another_file_are_refused(fd):
    """A chunk opens only at its own place in its own file, even under the same document key."""
    whole = CHUNK + TAG
    data, other = (seal_bytes(KEY, CONTEXT, bytes([n]) * (2 * CHUNK + 9)) for n in (1, 2))
    head, first, second, last = data[:HEADER], data[HEADER:][:whole], data[HEADER:][whole:][:whole], data[HEADER + 2 * whole:]  # fmt: skip
    foreign = other[HEADER:][:whole]
    for body in (second + first, first + first, foreign + second):
        put(fd, head + body + last)
        reader = SealedReader(fd, KEY, CONTEXT)
        assert len(reader.read_at(2 * CHUNK, 99)) == 9
        expect_kind("chunk", reader.verify)
    put(fd, head + first + last)
    expect_kind("chunk", SealedReader, fd, KEY, CONTEXT)
    put(fd, head + first + second + last + last)
    expect_kind("chunk", SealedReader, fd, KEY, CONTEXT)


def test_a_damaged_chunk_spoils_no_other_and_stays_refused(fd):
    """Reads that touch the damage fail each time; reads beside it go on working."""
    plain = os.urandom(3 * CHUNK + 7)
    data = bytearray(seal_bytes(KEY, CONTEXT, plain))
    data[HEADER + CHUNK + TAG + 500] ^= 0x10
    put(fd, bytes(data))
    reader = SealedReader(fd, KEY, CONTEXT)
    assert reader.read_at(CHUNK - 5, 5) == plain[CHUNK - 5 : CHUNK]
    expect_kind("chunk", reader.read_at, CHUNK - 5, 6)
    expect_kind("chunk", reader.read_at, 2 * CHUNK - 1, 1)
    expect_kind("chunk", reader.read_at, CHUNK, 1)
    assert reader.read_at(0, CHUNK) == plain[:CHUNK]
    expect_kind("chunk", reader.read_at, CHUNK, 1)
    assert reader.read_at(0, CHUNK) == plain[:CHUNK]
    assert reader.read_at(2 * CHUNK, CHUNK) == plain[2 * CHUNK : 3 * CHUNK]


def test_a_failed_read_leaves_the_callers_buffer_alone(fd):
    """Bytes that did not verify reach no one, not even beside an exception."""
    data = bytearray(seal_bytes(KEY, CONTEXT, b"\xff" * 100 + b"\xff" * CHUNK))
    data[HEADER + 50] ^= 1
    put(fd, bytes(data))
    buffer = bytearray(200)
    reader = SealedReader(fd, KEY, CONTEXT)
    expect_kind("chunk", reader.readinto, buffer)
    assert buffer == bytes(200)


def test_a_file_that_shrinks_while_it_is_open_is_reported_as_truncated(fd):
    """The size was authentic at opening; bytes missing later are damage, not an early end."""
    put(fd, seal_bytes(KEY, CONTEXT, bytes(5 * CHUNK)))
    reader = SealedReader(fd, KEY, CONTEXT)
    os.ftruncate(fd, HEADER + 100)
    expect_kind("truncated", reader.read_at, CHUNK, 1)


def test_verify_reads_the_disk_again(fd):
    """A check is about what is stored now, not about what was decrypted before."""
    put(fd, seal_bytes(KEY, CONTEXT, b"fixity"))
    reader = SealedReader(fd, KEY, CONTEXT)
    reader.verify()
    os.pwrite(fd, b"\0\0\0", HEADER)
    expect_kind("chunk", reader.verify)


@pytest.mark.parametrize(("length", "kind"), [(0, "header"), (55, "header"), (56, "truncated"),
    (57, "length"), (71, "length"), (HEADER + CHUNK + TAG, "truncated"),
    (HEADER + CHUNK + TAG + 15, "length"), (HEADER + 2**38 * (CHUNK + TAG) + 16, "length")])  # fmt: skip
def test_a_length_that_no_finished_file_has_is_refused(length, kind):
    """Sizes are derived from lengths only where a writer could have made that length."""
    expect_kind(kind, plain_size, length)


@pytest.mark.parametrize("size", [*BOUNDARIES, 2**38 * CHUNK - 1])
def test_sizes_convert_both_ways(size):
    """Plain and sealed size determine each other."""
    assert plain_size(sealed_size(size)) == size
    assert whole_chunks(sealed_size(size)) is None


def test_whole_chunks_knows_boundaries_only():
    """Only a file of a header and whole chunks can be continued."""
    assert [whole_chunks(n) for n in (0, 55, 56, 57)] == [None, None, 0, None]
    edge = HEADER + 3 * (CHUNK + TAG)
    assert [whole_chunks(edge + d) for d in (-1, 0, 1)] == [None, 3, None]


# -- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", BOUNDARIES)
def test_what_the_writer_writes_opens_in_an_independent_implementation(size, fd):
    """The format is the specification's, not merely one this reader accepts."""
    plain = generate.plaintext(size)
    writer = SealedWriter(fd, KEY, CONTEXT)
    writer.write(plain)
    assert writer.finish() == size
    data = content(fd)
    assert len(data) == sealed_size(size)
    assert generate.unseal(KEY, CONTEXT, data) == plain


def test_two_files_of_the_same_bytes_share_nothing():
    """The salt is fresh each time, so nothing sealed twice can be compared."""
    one, two = seal_bytes(KEY, CONTEXT, bytes(64)), seal_bytes(KEY, CONTEXT, bytes(64))
    assert one[:24] != two[:24]
    assert one[HEADER:] != two[HEADER:]


def test_a_writer_survives_short_writes(fd, monkeypatch):
    """The kernel may take less than it was given; nothing is lost or doubled."""
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda f, b, o: real(f, [memoryview(b[0])[:777]], o))
    plain = os.urandom(20 * CHUNK + 3)
    writer = SealedWriter(fd, KEY, CONTEXT)
    writer.write(plain)
    writer.finish()
    assert generate.unseal(KEY, CONTEXT, content(fd)) == plain


def test_a_shared_file_offset_does_not_matter(fd):
    """A descriptor passed between processes shares its offset; positions are explicit."""
    plain = os.urandom(40 * CHUNK)
    writer = SealedWriter(fd, KEY, CONTEXT)
    for start in range(0, len(plain), 50_000):
        os.lseek(fd, start // 3, os.SEEK_SET)
        writer.write(plain[start : start + 50_000])
    writer.finish()
    os.lseek(fd, 5, os.SEEK_SET)
    assert SealedReader(fd, KEY, CONTEXT).readall() == plain


def test_a_finished_writer_refuses_everything():
    """After the final chunk nothing may be sealed: that is misuse, not bad data."""
    with open(os.memfd_create("t"), "r+b") as file:
        writer = SealedWriter(file.fileno(), KEY, CONTEXT)
        writer.finish()
        for call in (lambda: writer.write(b"x"), writer.flush, writer.finish):
            with pytest.raises(RuntimeError):
                call()


def test_a_writer_refuses_a_file_that_is_not_empty(fd):
    """Writing over something would leave a mixture."""
    put(fd, b"x")
    with pytest.raises(RuntimeError):
        SealedWriter(fd, KEY, CONTEXT)
    assert content(fd) == b"x"


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_of_the_wrong_size_is_misuse_and_writes_nothing(key, fd):
    """Every entry point checks the key before it touches the file."""
    for call in (lambda: SealedWriter(fd, key, CONTEXT), lambda: seal_bytes(key, CONTEXT, b"")):
        with pytest.raises(RuntimeError):
            call()
    assert content(fd) == b""


def test_after_a_full_disk_the_writer_seals_nothing_more(fd):
    """A torn chunk uses up its index: even with room again the writer repeats its failure."""
    writer = SealedWriter(fd, KEY, CONTEXT)
    with file_size_limit(HEADER + 2 * (CHUNK + TAG) + 100):
        writer.write(bytes(3 * CHUNK))
        with pytest.raises(StorageFull):
            writer.flush()
    before = content(fd)
    for call in (lambda: writer.write(b"x"), writer.flush, writer.finish):
        with pytest.raises(StorageFull):
            call()
    assert content(fd) == before
    expect_kind("length", SealedWriter.resume, fd, KEY, CONTEXT)


def test_a_failed_finish_does_not_seal_the_final_chunk_again(fd):
    """More bytes must not follow under the index that the final chunk has used."""
    writer = SealedWriter(fd, KEY, CONTEXT)
    with file_size_limit(HEADER + 50):
        writer.write(bytes(100))
        with pytest.raises(StorageFull):
            writer.finish()
    before = content(fd)
    for call in (writer.finish, lambda: writer.write(b"x"), writer.flush):
        with pytest.raises(StorageFull):
            call()
    assert content(fd) == before


def test_a_failing_medium_is_a_final_failure(fd, monkeypatch):
    """EIO is not a full disk; the writer stays unusable."""
    writer = SealedWriter(fd, KEY, CONTEXT)

    def fail(*_):
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fail)
        with pytest.raises(StorageFailed):
            writer.write(bytes(16 * CHUNK))
    with pytest.raises(StorageFailed):
        writer.finish()


def test_an_interrupted_call_uses_up_the_writer(fd, monkeypatch):
    """After an exception from outside in the middle of a chunk, no chunk is sealed again."""
    writer = SealedWriter(fd, KEY, CONTEXT)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chunked.ChunkCipher, "seal_into", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.write(bytes(CHUNK))
    with pytest.raises(RuntimeError):
        writer.write(bytes(CHUNK))


def test_a_document_past_the_last_chunk_is_refused(fd, monkeypatch):
    """The counter of the format ends at 2^38 (lowered here); it never wraps."""
    monkeypatch.setattr(sealed, "MAX_CHUNKS", 2)
    writer = SealedWriter(fd, KEY, CONTEXT)
    writer.write(bytes(2 * CHUNK))
    with pytest.raises(VaultError, match="at most 2 chunks"):
        writer.finish()


# -- resuming --------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [0, 1, 15, 16, 17, 33])
def test_an_interrupted_file_continues_after_its_whole_chunks(whole, fd):
    """What was flushed is kept untouched, shown to the caller, and completed."""
    plain = os.urandom(40 * CHUNK + 11)
    writer = SealedWriter(fd, KEY, CONTEXT)
    writer.write(plain[: whole * CHUNK + 4000])
    writer.flush()
    assert writer.resumable_size == whole * CHUNK
    assert writer.plain_written == whole * CHUNK + 4000
    before = content(fd)
    assert whole_chunks(len(before)) == whole
    digest = hashlib.sha256()
    writer = SealedWriter.resume(fd, KEY, CONTEXT, digest.update)
    assert writer.plain_written == writer.resumable_size == whole * CHUNK
    assert digest.digest() == hashlib.sha256(plain[: whole * CHUNK]).digest()
    writer.write(plain[whole * CHUNK :])
    assert writer.finish() == len(plain)
    assert content(fd)[: len(before)] == before
    assert generate.unseal(KEY, CONTEXT, content(fd)) == plain


def test_a_finished_or_torn_file_is_not_resumed(fd):
    """Both have used the next index; continuing would seal it twice."""
    for plain in (b"", bytes(CHUNK), bytes(CHUNK + 1)):
        put(fd, seal_bytes(KEY, CONTEXT, plain))
        expect_kind("length", SealedWriter.resume, fd, KEY, CONTEXT)
    put(fd, seal_bytes(KEY, CONTEXT, bytes(2 * CHUNK))[: HEADER + CHUNK + TAG + 1])
    expect_kind("length", SealedWriter.resume, fd, KEY, CONTEXT)
    for length in (0, 1, HEADER - 1):
        put(fd, bytes(length))
        expect_kind("header", SealedWriter.resume, fd, KEY, CONTEXT)


def test_a_damaged_or_foreign_file_is_not_resumed(fd):
    """Every chunk that is there is verified before anything is added."""
    data = bytearray(seal_bytes(KEY, CONTEXT, bytes(20 * CHUNK))[: HEADER + 20 * (CHUNK + TAG)])
    put(fd, bytes(data))
    expect_kind("commitment", SealedWriter.resume, fd, bytes(32), CONTEXT)
    expect_kind("commitment", SealedWriter.resume, fd, KEY, document_context("other"))
    data[HEADER + 19 * (CHUNK + TAG)] ^= 1
    put(fd, bytes(data))
    seen = []
    expect_kind("chunk", SealedWriter.resume, fd, KEY, CONTEXT, lambda view: seen.append(len(view)))
    assert sum(seen) <= 19 * CHUNK
    assert content(fd) == bytes(data)


# -- the reader as a file --------------------------------------------------------------------


def test_zipfile_reads_a_sealed_archive(fd):
    """Libraries that seek about, also from the end, work on the reader directly."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(20):
            target.writestr(f"{number}.bin", os.urandom(5000 * number))
    put(fd, seal_bytes(KEY, CONTEXT, archive.getvalue()))
    with zipfile.ZipFile(SealedReader(fd, KEY, CONTEXT)) as source:
        assert source.testzip() is None
        assert len(source.namelist()) == 20


def test_a_file_too_small_for_zipfile_is_no_crash(fd):
    """zipfile seeks before the start and expects the OSError of a real file."""
    put(fd, seal_bytes(KEY, CONTEXT, b"PK"))
    reader = SealedReader(fd, KEY, CONTEXT)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        reader.seek(-3, os.SEEK_END)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(reader)


def test_the_reader_keeps_the_contract_of_raw_files(fd):
    """Position, ends, unusual seeks, and no way around the decryption."""
    plain = os.urandom(CHUNK + 10)
    put(fd, seal_bytes(KEY, CONTEXT, plain))
    reader = SealedReader(fd, KEY, CONTEXT)
    assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
    assert reader.read(0) == b""
    assert reader.read(5) == plain[:5]
    assert reader.seek(2, os.SEEK_CUR) == 7
    assert reader.read() == plain[7:]
    assert reader.read(1) == b""
    assert reader.seek(10**15) == 10**15
    assert reader.read() == reader.read(1) == b""
    assert reader.read_at(len(plain), 1) == reader.read_at(0, 0) == b""
    with pytest.raises(OSError, match="Invalid argument"):
        reader.seek(0, 17)
    with pytest.raises(io.UnsupportedOperation):
        reader.fileno()
    for arguments in ((-1, 1), (0, -1)):
        with pytest.raises(RuntimeError):
            reader.read_at(*arguments)
    reader.seek(0)
    assert io.BufferedReader(reader).read() == plain


def test_a_closed_reader_reads_nothing_and_leaves_the_descriptor(fd):
    """Without `close_fd` the descriptor stays the caller's."""
    put(fd, seal_bytes(KEY, CONTEXT, b"x"))
    with SealedReader(fd, KEY, CONTEXT) as reader:
        pass
    for call in (reader.read, reader.tell, reader.verify, lambda: reader.read_at(0, 1)):
        with pytest.raises(ValueError, match="closed"):
            call()
    os.fstat(fd)


def test_close_fd_hands_the_descriptor_over_only_on_success(fd):
    """A reader that could not be made closes nothing; one that was closes it once."""
    put(fd, seal_bytes(KEY, CONTEXT, b"x"))
    copy = os.dup(fd)
    with pytest.raises(IntegrityError):
        SealedReader(copy, bytes(32), CONTEXT, close_fd=True)
    os.fstat(copy)
    reader = SealedReader(copy, KEY, CONTEXT, close_fd=True)
    reader.close()
    reader.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)


@pytest.mark.parametrize(("offset", "length", "chunks"), [(0, 1, 1), (CHUNK - 1, 2, 2),
    (CHUNK, CHUNK, 1), (5, 2 * CHUNK, 3), (3 * CHUNK, 30 * CHUNK, 30)])  # fmt: skip
def test_a_read_decrypts_the_chunks_it_touches_and_no_others(
    offset, length, chunks, fd, monkeypatch
):
    """Seeking costs at most one chunk of amplification at each end."""
    plain = os.urandom(40 * CHUNK)
    put(fd, seal_bytes(KEY, CONTEXT, plain))
    reader = SealedReader(fd, KEY, CONTEXT)
    opened = []
    real = chunked.ChunkCipher.open_into
    monkeypatch.setattr(
        chunked.ChunkCipher, "open_into", lambda s, i, *a: (opened.append(i), real(s, i, *a))[1]
    )
    assert reader.read_at(offset, length) == plain[offset : offset + length]
    assert opened == list(range(offset // CHUNK, offset // CHUNK + chunks))


@pytest.mark.parametrize("bad", ["", "é", "发票"])
def test_a_context_is_made_of_ascii_ids_only(bad):
    """An id with two encodings would give a document two contexts."""
    with pytest.raises(RuntimeError):
        document_context(bad)
