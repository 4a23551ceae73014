"""What every blob store promises, tested against each; then what only the local one can show."""

import errno
import mmap
import os
import shutil
import socket
import stat

import pytest

from tests.contracts.blob_memory import MemoryBlobStore
from vault.crypto.sealed import SealedReader, SealedWriter, document_context, sealed_size
from vault.errors import BlobMissing, StorageFailed, StoreExists, StoreMissing, VaultError
from vault.storage import blobs, leases
from vault.storage.blob_port import BlobStore
from vault.storage.blobs import LocalBlobStore

A = "01JD000000000000000000000A"
B = "01JD000000000000000000000B"
BAD_IDS = ["", "x", A[:-1], A + "A", A[:-1] + "/", "../../../../../etc/passwd", A[:-1] + ".",
           A[:-1] + "\n", A + "\n", A[:-1] + "\0", A[:-1] + "é", "." * 26, "/" * 26]  # fmt: skip


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path) -> BlobStore:
    if request.param == "local":
        yield LocalBlobStore.create(tmp_path / "blobs")
    else:
        memory = MemoryBlobStore()
        yield memory
        memory.close()


@pytest.fixture
def local(tmp_path):
    return LocalBlobStore.create(tmp_path / "blobs")


def put(store, blob_id, data=b"sealed"):
    fd = store.begin(blob_id)
    os.pwrite(fd, data, 0)
    size = store.publish(blob_id, fd)
    store.settle(blob_id)
    os.close(fd)
    return size


def get(store, blob_id):
    fd = store.open(blob_id)
    try:
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


# -- the contract ----------------------------------------------------------------------------


def file_with(data):
    fd = os.memfd_create("whole")
    os.pwrite(fd, data, 0)
    return fd


@pytest.mark.parametrize("there", [True, False])
def test_a_damaged_or_missing_blob_is_put_back_and_is_one_blob_again(store, there):
    if there:
        put(store, A, b"damaged")
    put(store, B, b"neighbour")
    fd = file_with(b"whole" * 500_000)
    store.replace(A, fd)
    os.close(fd)
    assert store.size(A) == 2_500_000
    assert get(store, A)[:10] == b"wholewhole"
    assert (sorted(store.stored()), list(store.spooled())) == ([A, B], [])
    assert store.forget_damaged(A) is there
    assert store.forget_damaged(A) is False
    assert not store.is_being_written(A)
    assert get(store, B) == b"neighbour"


@pytest.mark.parametrize("bad", BAD_IDS)
def test_an_id_of_which_a_path_could_be_made_is_refused_by_every_call(store, bad):
    """Before anything is looked up or touched."""
    for call in (store.begin, store.reopen, store.open, store.size, store.discard, store.remove,
                 store.exists, store.is_being_written, store.is_spool_open, lambda blob_id: store.publish(blob_id, 0),
                 lambda blob_id: store.secure(blob_id, 0)):  # fmt: skip
        with pytest.raises(VaultError, match="26 letters and digits"):
            call(bad)


def test_a_blob_is_visible_from_its_publication_on(store):
    """Not while it is written."""
    fd = store.begin(A)
    os.pwrite(fd, b"sealed", 0)
    assert not store.exists(A)
    assert list(store.spooled()) == [A]
    assert list(store.stored()) == []
    for call in (store.open, store.size, store.is_being_written):
        with pytest.raises(BlobMissing):
            call(A)
    assert store.publish(A, fd) == 6
    os.close(fd)
    assert store.exists(A)
    assert list(store.spooled()) == [A]
    assert store.settle(A) is True
    assert store.settle(A) is False
    assert list(store.spooled()) == []
    assert list(store.stored()) == [A]
    assert store.size(A) == 6
    assert get(store, A) == b"sealed"


def test_an_id_is_used_once(store):
    """Neither a spooled nor a published blob is ever begun again."""
    os.close(store.begin(A))
    with pytest.raises(StoreExists):
        store.begin(A)
    put(store, B)
    with pytest.raises(StoreExists):
        store.begin(B)
    assert get(store, B) == b"sealed"


def test_a_spooled_blob_can_be_reopened_where_it_stopped(store):
    """The bytes are there; a published blob cannot be opened for writing."""
    fd = store.begin(A)
    os.pwrite(fd, b"one", 0)
    os.close(fd)
    fd = store.reopen(A)
    assert os.fstat(fd).st_size == 3
    os.pwrite(fd, b"two", 3)
    store.publish(A, fd)
    store.settle(A)
    os.close(fd)
    assert get(store, A) == b"onetwo"
    with pytest.raises(BlobMissing):
        store.reopen(A)
    fd = store.open(A)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(fd, b"x", 0)
    os.close(fd)


def test_whoever_could_still_write_into_a_published_blob_is_seen(store):
    """However the descriptor is held: a duplicate, a mapping, on its way to another process. Readers are not."""
    fd = store.begin(A)
    os.pwrite(fd, b"sealed", 0)
    store.publish(A, fd)
    assert store.is_being_written(A)
    copy = os.dup(fd)
    os.close(fd)
    store.settle(A)
    assert store.is_being_written(A)
    mapping = mmap.mmap(copy, 6)
    os.close(copy)
    assert store.is_being_written(A)
    mapping.close()
    put(store, B)
    fd = store.open(B)
    assert not store.is_being_written(A)
    assert not store.is_being_written(B)
    os.close(fd)


def test_a_spooled_file_that_someone_still_writes_is_known(local):
    """Nobody else may go on with it: one chunk index is sealed once."""
    with pytest.raises(BlobMissing):
        local.is_spool_open(A)
    fd = local.begin(A)
    assert local.is_spool_open(A)
    os.close(fd)
    assert not local.is_spool_open(A)
    fd = local.reopen(A)
    assert local.is_spool_open(A)
    os.close(fd)


def test_a_descriptor_on_its_way_to_another_process_is_seen(store):
    """Sent and not yet received, it is in nobody's table of descriptors."""
    fd = store.begin(A)
    store.publish(A, fd)
    store.settle(A)
    here, there = socket.socketpair()
    with here, there:
        socket.send_fds(here, [b"x"], [fd])
        os.close(fd)
        assert store.is_being_written(A)
    assert not store.is_being_written(A)


def test_what_is_published_is_not_opened_for_writing_again(store):
    """Not even while it is spooled, too: a crash may leave it so."""
    fd = store.begin(A)
    os.pwrite(fd, b"sealed", 0)
    store.publish(A, fd)
    os.close(fd)
    fd = store.reopen(A)
    assert os.fstat(fd).st_size == 6
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(fd, b"x", 0)
    os.close(fd)
    assert not store.is_being_written(A)


def test_publishing_needs_the_very_file_that_is_spooled(store):
    """Another descriptor would make durable what nobody will read."""
    fd, other = store.begin(A), store.begin(B)
    for call in (store.publish, store.secure):
        with pytest.raises(RuntimeError):
            call(A, other)
    store.secure(A, fd)
    assert list(store.stored()) == []
    store.publish(A, fd)
    with pytest.raises(StoreExists):
        store.publish(A, fd)
    store.settle(A)
    for call in (store.publish, store.secure):
        with pytest.raises(BlobMissing):
            call(A, fd)
    with pytest.raises(BlobMissing):
        store.settle(B)
    os.close(fd)
    os.close(other)


def test_removing_and_discarding_may_be_repeated(store):
    """The answer says whether there was something; the state is the same afterwards."""
    put(store, A)
    assert store.discard(A) is False
    assert store.remove(A) is True
    assert store.remove(A) is False
    assert not store.exists(A)
    assert list(store.stored()) == []
    os.close(store.begin(B))
    assert store.remove(B) is False
    assert store.discard(B) is True
    assert store.discard(B) is False
    assert list(store.spooled()) == []


def test_a_reader_that_has_a_blob_open_reads_on_after_its_removal(store):
    """Removal takes the name; ending the key is what ends the content."""
    put(store, A, b"still here")
    fd = store.open(A)
    store.remove(A)
    assert os.pread(fd, 100, 0) == b"still here"
    os.close(fd)


def test_descriptors_are_independent_and_not_inherited(store):
    """Two openings do not share an offset, and no child process gets one by accident."""
    put(store, A, b"0123456789")
    one, two = store.open(A), store.open(A)
    assert os.read(one, 4) == b"0123"
    assert os.read(two, 4) == b"0123"
    assert not os.get_inheritable(one)
    os.close(one)
    os.close(two)


def test_many_blobs_are_listed_completely(store):
    """Whatever shard they fall into."""
    ids = {f"01JD0000000000000000000{n:03d}" for n in range(120)}
    for blob_id in ids:
        put(store, blob_id, b"")
    assert sorted(store.stored()) == sorted(ids)


def test_free_space_is_counted_in_bytes(store):
    """Enough for a test to write something."""
    assert store.free_bytes() > 1 << 20


def test_a_sealed_document_goes_in_and_comes_out(store):
    """Writer and reader work on the store's descriptors, an interruption included."""
    key, context = bytes(range(32)), document_context(A)
    plain = os.urandom(100_000)
    fd = store.begin(A)
    writer = SealedWriter(fd, key, context)
    writer.write(plain[:50_000])
    writer.flush()
    visible = writer.resumable_size
    os.close(fd)
    fd = store.reopen(A)
    writer = SealedWriter.resume(fd, key, context)
    writer.write(plain[visible:])
    writer.finish()
    assert store.publish(A, fd) == sealed_size(len(plain))
    os.close(fd)
    with SealedReader(store.open(A), key, context, close_fd=True) as reader:
        assert reader.readall() == plain


# -- the local store -------------------------------------------------------------------------


def test_a_published_file_has_its_content_and_its_name_synced_in_order(local, monkeypatch):
    """File, link, directory."""
    steps = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(fd):
        steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))  # noqa: PTH115, PTH119
        real_fsync(fd)

    def link(source, target, **more):
        steps.append("link")
        real_link(source, target, **more)

    fd = local.begin(A)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    local.secure(A, fd)
    assert steps == [A, "spool"]
    steps.clear()
    local.publish(A, fd)
    os.close(fd)
    shard = next((local._objects).glob("*/*")).parent
    assert steps == [A, "link", shard.name]


def test_a_failed_fsync_publishes_nothing(local, monkeypatch):
    """What may be lost in a power cut is not acknowledged."""
    fd = local.begin(A)

    def fail(_):
        raise OSError(5, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageFailed):
            local.publish(A, fd)
    os.close(fd)
    assert not local.exists(A)
    assert list(local.spooled()) == [A]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EAGAIN, errno.EACCES])
def test_a_file_system_without_leases_is_told_apart_from_a_writer(
    local, tmp_path, monkeypatch, code
):
    """It knows none (EINVAL), refuses them all for its own reasons (EAGAIN, as NFS does), or this file's."""
    put(local, A)
    real = leases.fcntl.fcntl

    def without_leases(fd, command, *more):
        if command == leases.fcntl.F_SETLEASE:
            raise OSError(code, "injected")
        return real(fd, command, *more)

    assert leases.tells_writers(tmp_path / "blobs/spool")
    monkeypatch.setattr(leases.fcntl, "fcntl", without_leases)
    assert not leases.tells_writers(tmp_path / "blobs/spool")
    assert not local.is_being_written(A)
    assert list((tmp_path / "blobs/spool").iterdir()) == []


def test_asking_for_writers_survives_one_that_comes_in_between(local, tmp_path, monkeypatch):
    """A broken lease ends its holder by default (SIGIO)."""
    put(local, A)
    path = next((tmp_path / "blobs/objects").rglob(A))
    real, broken = leases.fcntl.fcntl, []

    def break_it(fd, command, *more):
        if command == leases.fcntl.F_SETLEASE and more == (leases.fcntl.F_UNLCK,):
            with pytest.raises(BlockingIOError):  # it would wait for the lease
                os.open(path, os.O_RDWR | os.O_NONBLOCK)
            broken.append(path)
        return real(fd, command, *more)

    monkeypatch.setattr(leases.fcntl, "fcntl", break_it)
    assert not local.is_being_written(A)
    assert broken == [path]


def test_files_and_directories_are_private(local, tmp_path):
    """Whatever the umask of the operator."""
    before = os.umask(0)
    try:
        put(local, A)
        os.close(local.begin(B))
    finally:
        os.umask(before)
    for path in (tmp_path / "blobs").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o600 if path.is_file() else 0o700), path


def test_links_in_place_of_files_are_not_followed(local, tmp_path):
    """A link planted in the store leads nowhere."""
    (tmp_path / "target").write_bytes(b"other")
    (tmp_path / "blobs/spool" / A).symlink_to(tmp_path / "target")
    with pytest.raises(StorageFailed):
        local.reopen(A)
    with pytest.raises(StoreExists):
        local.begin(A)
    put(local, B)
    path = next((tmp_path / "blobs/objects").rglob(B))
    path.unlink()
    path.symlink_to(tmp_path / "target")
    with pytest.raises(StorageFailed):
        local.open(B)
    assert not local.exists(B)
    with pytest.raises(BlobMissing):
        local.size(B)


def test_a_published_blob_has_one_name(local, tmp_path):
    """So that removing it leaves none."""
    put(local, A)
    assert next((tmp_path / "blobs/objects").rglob(A)).stat().st_nlink == 1
    local.remove(A)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_a_store_that_vanished_does_not_look_like_an_empty_one(local, tmp_path):
    """An unmounted disk is no proof that anything was removed."""
    put(local, A)
    shutil.rmtree(tmp_path / "blobs")
    for call in (
        lambda: local.exists(A),
        lambda: local.size(A),
        lambda: local.remove(A),
        lambda: list(local.stored()),
        lambda: list(local.spooled()),
        lambda: local.begin(B),
        local.free_bytes,
    ):
        with pytest.raises(StoreMissing):
            call()


def test_a_missing_store_is_not_created_and_an_existing_one_not_replaced(tmp_path):
    """Opening and creating are different acts."""
    with pytest.raises(StoreMissing):
        LocalBlobStore(tmp_path / "blobs")
    assert list(tmp_path.iterdir()) == []
    put(LocalBlobStore.create(tmp_path / "blobs"), A)
    with pytest.raises(StoreExists):
        LocalBlobStore.create(tmp_path / "blobs")
    assert get(LocalBlobStore(tmp_path / "blobs"), A) == b"sealed"


def test_strange_files_in_the_store_are_not_blobs(local, tmp_path):
    """Listings yield ids only, and strangers do not stop them."""
    put(local, A)
    shard = next((tmp_path / "blobs/objects").rglob(A)).parent
    for path in (
        shard / "note.txt",
        tmp_path / "blobs/objects/stray",
        shard.parent / "stray",
        tmp_path / "blobs/spool/.x",
    ):
        path.write_bytes(b"")
    assert list(local.stored()) == [A]
    assert list(local.spooled()) == []


def test_blobs_spread_over_directories_by_the_digest_of_their_id(local, tmp_path):
    """Ids that count up fill no single directory, and the place follows from the id alone."""
    put(local, A)
    path = next((tmp_path / "blobs/objects").rglob(A))
    digest = blobs.hashlib.sha256(A.encode()).hexdigest()
    assert path.parts[-3:] == ("objects", digest[:2], A)


def test_the_damaged_one_lies_aside_until_it_is_forgotten_and_goes_with_its_blob(local, tmp_path):
    for end in (local.remove, lambda blob_id: local.remove_all([blob_id])):
        put(local, A, b"damaged")
        fd = file_with(b"whole")
        local.replace(A, fd)
        aside = tmp_path / "blobs/spool" / f"{A}.damaged"
        assert aside.read_bytes() == b"damaged"
        assert stat.S_IMODE(aside.stat().st_mode) == 0o600
        (tmp_path / "blobs/spool" / f"{A}.restoring").write_bytes(b"left by a crash")
        end(A)
        assert list((tmp_path / "blobs").rglob(f"{A}*")) == []
        os.close(fd)


@pytest.mark.parametrize("failing", ["fsync", "link"])
def test_what_fails_before_the_name_leaves_the_damaged_one_in_its_place(
    local, monkeypatch, failing
):
    put(local, A, b"damaged")
    fd = file_with(b"whole")

    def fail(*_arguments, **_more):
        raise OSError(5, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(StorageFailed):
            local.replace(A, fd)
    assert get(local, A) == b"damaged"
    local.replace(A, fd)
    assert get(local, A) == b"whole"
    os.close(fd)
