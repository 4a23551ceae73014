"""Durable writes: the order of the steps, what remains when one fails, and what the errors say."""

import errno
import os
import resource
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from vault.errors import StorageFailed, StorageFull, StoreExists, StoreMissing
from vault.storage import durable
from vault.storage.durable import (
    clear_leftovers,
    create_durably,
    make_directory,
    remove_durably,
    storage_error,
    sync_descriptor,
    sync_directory,
    write_durably,
)


@pytest.fixture
def steps(monkeypatch):
    """Record fsyncs and renames, in order, by the name of what they concern."""
    seen = []
    real_fsync, real_replace, real_rename = os.fsync, os.replace, os.rename
    real_link, real_unlink = os.link, os.unlink

    def name(path):
        text = Path(path).name
        return "temporary" if text.endswith(".tmp") else text

    def fsync(fd):
        seen.append(("fsync", name(Path(f"/proc/self/fd/{fd}").readlink())))
        real_fsync(fd)

    def spy(verb, real):
        def call(*paths, **options):
            seen.append((verb, *map(name, paths)))
            real(*paths, **options)

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", spy("rename", real_replace))
    monkeypatch.setattr(os, "rename", spy("rename", real_rename))
    monkeypatch.setattr(os, "link", spy("link", real_link))
    monkeypatch.setattr(os, "unlink", spy("unlink", real_unlink))
    return seen


def failing_fsync(monkeypatch, number, code=errno.EIO):
    """Let the fsync with this number (from 1) fail, as `strace -e inject` would."""
    real, count = os.fsync, 0

    def fsync(fd):
        nonlocal count
        count += 1
        if count == number:
            raise OSError(code, os.strerror(code))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)


def leftovers(directory):
    return [entry.name for entry in directory.iterdir() if entry.name.endswith(".tmp")]


def test_a_write_syncs_the_file_then_renames_then_syncs_the_directory(tmp_path, steps):
    """Any other order can show an empty file after a power cut."""
    write_durably(tmp_path / "f", b"x")
    assert steps == [("fsync", "temporary"), ("rename", "temporary", "f"), ("fsync", tmp_path.name)]


def test_a_creation_syncs_the_file_then_links_then_syncs_the_directory(tmp_path, steps):
    """The directory is synced last, when the temporary name is gone from it as well."""
    create_durably(tmp_path / "f", b"x")
    assert steps == [
        ("fsync", "temporary"),
        ("link", "temporary", "f"),
        ("unlink", "temporary"),
        ("fsync", tmp_path.name),
    ]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_fsync_of_the_file_keeps_the_old_content_and_is_final(tmp_path, monkeypatch, code):
    """Even ENOSPC from an fsync is StorageFailed: nobody may wait and try again."""
    target = tmp_path / "f"
    write_durably(target, b"old")
    failing_fsync(monkeypatch, 1, code)
    with pytest.raises(StorageFailed):
        write_durably(target, b"new")
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_failed_fsync_of_the_directory_is_reported(tmp_path, monkeypatch):
    """The rename has happened, but it is not durable, so it is not a success."""
    failing_fsync(monkeypatch, 2)
    with pytest.raises(StorageFailed, match="directory"):
        write_durably(tmp_path / "f", b"new")


def test_a_failed_fsync_creates_nothing(tmp_path, monkeypatch):
    """A file that may be empty after a power cut must not carry the final name."""
    failing_fsync(monkeypatch, 1)
    with pytest.raises(StorageFailed):
        create_durably(tmp_path / "f", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rename_keeps_the_old_content(tmp_path):
    """Here the target is a directory, which no file can replace."""
    (tmp_path / "f").mkdir()
    with pytest.raises(StorageFailed):
        write_durably(tmp_path / "f", b"x")
    assert leftovers(tmp_path) == []


def test_a_file_size_limit_is_a_full_store_and_keeps_the_old_content(tmp_path):
    """EFBIG is treated as a full disk; the half-written temporary file is gone."""
    target = tmp_path / "f"
    write_durably(target, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageFull):
            write_durably(target, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_a_full_store_and_the_next_small_write_works(small_disk):
    """ENOSPC is retryable once there is room: nothing of the failed write takes space."""
    write_durably(small_disk / "f", b"old")
    with pytest.raises(StorageFull):
        write_durably(small_disk / "f", bytes(100_000))
    with pytest.raises(StorageFull):
        create_durably(small_disk / "g", bytes(100_000))
    assert (small_disk / "f").read_bytes() == b"old"
    write_durably(small_disk / "f", bytes(30_000))
    assert sorted(entry.name for entry in small_disk.iterdir()) == ["f"]


def test_a_missing_directory_is_a_missing_store(tmp_path):
    """It is never created along the way."""
    gone = tmp_path / "gone"
    for call in (
        lambda: write_durably(gone / "f", b""),
        lambda: create_durably(gone / "f", b""),
        lambda: remove_durably(gone / "f"),
        lambda: sync_directory(gone),
        lambda: make_directory(gone / "f"),
        lambda: clear_leftovers(gone),
    ):
        with pytest.raises(StoreMissing):
            call()
    assert list(tmp_path.iterdir()) == []


def test_create_never_replaces_anything(tmp_path):
    """Neither a file, nor a directory, nor a link to nowhere."""
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "directory", "link"):
        with pytest.raises(StoreExists):
            create_durably(tmp_path / name, b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert not (tmp_path / "nowhere").exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("call", [write_durably, create_durably])
def test_files_are_private_from_their_first_moment(tmp_path, call, monkeypatch):
    """The mode is the file's when it appears, whatever the umask, and is never widened later."""
    modes = []
    real = os.open

    def spy(path, flags, mode=0o777, **more):
        fd = real(path, flags, mode, **more)
        if flags & os.O_CREAT:
            modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return fd

    monkeypatch.setattr(os, "open", spy)
    before = os.umask(0)
    try:
        call(tmp_path / "f", b"x")
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_a_replaced_file_gets_the_mode_asked_for(tmp_path):
    """An old, wider mode is not inherited."""
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "f").chmod(0o644)
    write_durably(tmp_path / "f", b"x")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_removal_is_synced_even_when_there_was_nothing_to_remove(tmp_path, steps):
    """An earlier attempt may have died between its unlink and its sync."""
    (tmp_path / "f").write_bytes(b"x")
    assert remove_durably(tmp_path / "f") is True
    assert remove_durably(tmp_path / "f") is False
    assert [step for step in steps if step[0] == "fsync"] == [("fsync", tmp_path.name)] * 2


def test_removal_does_not_take_directories(tmp_path):
    """It removes one file and nothing else."""
    (tmp_path / "d").mkdir()
    with pytest.raises(StorageFailed):
        remove_durably(tmp_path / "d")
    assert (tmp_path / "d").is_dir()


def test_a_directory_is_made_once_private_and_its_parent_synced_each_time(tmp_path, steps):
    """Whoever made it first may have died before the sync."""
    before = os.umask(0)
    try:
        make_directory(tmp_path / "d")
    finally:
        os.umask(before)
    make_directory(tmp_path / "d")
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700
    assert steps == [("fsync", tmp_path.name)] * 2
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(StorageFailed):
        make_directory(tmp_path / "f")


def test_leftovers_of_crashed_writes_are_cleared_and_nothing_else(tmp_path, monkeypatch):
    """A temporary file may hold keys; a file that only looks similar is somebody's."""

    def crash(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        for name in ("a", "b"):
            with pytest.raises(SystemExit):
                write_durably(tmp_path / name, b"secret")
    assert len(leftovers(tmp_path)) == 2
    for name in ("a", ".a.tmp", ".a.0123.tmp", "x.0123456789abcdef.tmp"):
        (tmp_path / name).write_bytes(b"")
    assert clear_leftovers(tmp_path, "a") == 1
    assert clear_leftovers(tmp_path) == 1
    assert clear_leftovers(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 4


def test_sync_descriptor_reports_a_descriptor_that_cannot_be_synced():
    """Pipes have no durability to offer."""
    read, write = os.pipe()
    try:
        with pytest.raises(StorageFailed):
            sync_descriptor(write)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EIO, StorageFailed),
        (errno.EROFS, StorageFailed),
        (errno.EACCES, StorageFailed),
        (errno.ENOENT, StoreMissing),
    ],
)
def test_each_errno_has_one_domain_error(code, kind):
    """The table of translation, with subject, expectation and finding in the message."""
    error = storage_error(OSError(code, "text"), "write", "subject")
    assert type(error) is kind
    assert str(error) == f"subject: expected to write, found {os.strerror(code)}"


def test_a_write_that_takes_nothing_is_a_failure_and_not_an_endless_loop(tmp_path, monkeypatch):
    """A kernel that accepts zero bytes for ever must not hang the gateway."""
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    with pytest.raises(StorageFailed):
        write_durably(tmp_path / "f", b"x")
    write_durably(tmp_path / "f", b"")
    assert (tmp_path / "f").read_bytes() == b""


def test_pieces_are_written_completely_whatever_the_kernel_takes(tmp_path, monkeypatch):
    """Short writes that end inside, at the end of, or behind a piece all continue rightly."""
    real = os.pwritev
    pieces = [b"abc", b"", b"defgh", memoryview(b"i"), b"jklmnop"]
    for taken in (1, 3, 4, 8, 9, 100):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", lambda fd, b, at, n=taken: real(fd, [b"".join(b)[:n]], at))
            fd = os.open(tmp_path / str(taken), os.O_RDWR | os.O_CREAT)
            assert durable.write_all(fd, pieces, 2, "t") == 18
            assert os.pread(fd, 99, 0) == b"\0\0abcdefghijklmnop"
            os.close(fd)
