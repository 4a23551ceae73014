"""Uploads that break off: never taken for whole ones, resumable, and the gateway goes on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.support.sftp import Gateway, until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "ledger.bin"
    path.write_bytes(os.urandom(40 * MIB + 12345))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def upload_under_way(gateway: Gateway, source: Path):
    """A slow upload of which at least 2 MiB have been written down by the door."""
    process = subprocess.Popen(
        gateway.sftp_command("acme", "-l", "100000"),  # kbit/s: 12 MB/s
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(f"put {source} /inbox/ledger.bin\n")
        process.stdin.close()
        process.stdin = None
        until(lambda: any(path.stat().st_size > 2 * MIB for path in gateway.spooled()))
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def resumed(gateway: Gateway, source: Path) -> None:
    """`reput` finishes the upload, and only then it is a document, with the right digest."""
    done = gateway.sftp(f"reput {source} /inbox/ledger.bin\n")
    assert done.returncode == 0, done.stderr
    document = gateway.documents()["ledger.bin"]
    assert (document["size"], document["sha256"]) == (source.stat().st_size, digest(source))
    assert gateway.partials() == []
    assert gateway.spooled() == []


def test_a_killed_client_leaves_a_partial_upload_that_resumes(gateway, source):
    with upload_under_way(gateway, source) as client:
        os.killpg(client.pid, signal.SIGKILL)
        client.wait(10)
        partial = until(gateway.partials)[0]
    assert "ledger.bin" not in gateway.documents()
    assert 0 < partial["size"] < source.stat().st_size
    assert partial["size"] % 16384 == 0
    resumed(gateway, source)


def test_a_partial_upload_resumes_after_a_restart(gateway, source):
    with upload_under_way(gateway, source) as client:
        os.killpg(client.pid, signal.SIGKILL)
        client.wait(10)
        until(gateway.partials)
    for process in (gateway.door, gateway.core):
        process.stop()
    gateway.start()
    resumed(gateway, source)


def test_a_partial_upload_resumes_twice(gateway, source):
    """Cut again while it is being resumed: the second resume still ends in the right bytes."""
    with upload_under_way(gateway, source) as client:
        os.killpg(client.pid, signal.SIGKILL)
        client.wait(10)
        first = until(gateway.partials)[0]["size"]
    second = subprocess.Popen(
        gateway.sftp_command("acme", "-l", "100000"),
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert second.stdin is not None
    second.stdin.write(f"reput {source} /inbox/ledger.bin\n")
    second.stdin.close()
    until(lambda: any(path.stat().st_size > first + 2 * MIB for path in gateway.spooled()))
    os.killpg(second.pid, signal.SIGKILL)
    second.wait(10)
    until(lambda: gateway.partials()[0]["size"] > first)
    assert "ledger.bin" not in gateway.documents()
    resumed(gateway, source)


def test_starting_over_after_an_interruption_sends_the_whole_file_anew(gateway, source):
    with upload_under_way(gateway, source) as client:
        os.killpg(client.pid, signal.SIGKILL)
        client.wait(10)
        until(gateway.partials)
    assert gateway.sftp(f"put {source} /inbox/ledger.bin\n").returncode == 0
    assert gateway.documents()["ledger.bin"]["sha256"] == digest(source)


def test_an_interrupted_upload_behind_a_newer_whole_one_is_not_continued(gateway, source):
    """An append is meant for the version that is seen (and refused); it never reaches an older partial."""
    with upload_under_way(gateway, source) as client:
        os.killpg(client.pid, signal.SIGKILL)
        client.wait(10)
        until(gateway.partials)
    assert gateway.sftp(f"put {source} /inbox/ledger.bin\n").returncode == 0
    with gateway.paramiko() as client, pytest.raises(OSError, match="received whole"):
        client.open("/inbox/ledger.bin", "ab")
    assert len(gateway.spooled()) == len(gateway.partials()) == 1
    assert gateway.documents()["ledger.bin"]["size"] == source.stat().st_size


def test_a_killed_door_process_fails_the_client_and_keeps_no_document(gateway, source):
    """Whatever was on disk is absent or resumable; the listener serves the next connection."""
    with upload_under_way(gateway, source) as client:
        gateway.kill_children()
        assert client.wait(20) != 0
    assert "ledger.bin" not in gateway.documents()
    until(lambda: gateway.partials() or not gateway.spooled())
    if gateway.partials():
        resumed(gateway, source)
    else:
        assert gateway.sftp(f"put {source} /inbox/ledger.bin\n").returncode == 0
    assert gateway.documents()["ledger.bin"]["sha256"] == digest(source)


def test_a_core_that_dies_fails_the_client(gateway, source):
    with upload_under_way(gateway, source) as client:
        gateway.core.process.kill()
        gateway.core.process.wait(10)
        assert client.wait(20) != 0
    gateway.start_core()
    assert gateway.documents() == {}
    assert gateway.spooled() == []
    assert gateway.sftp(f"put {source} /inbox/ledger.bin\n").returncode == 0
    assert gateway.documents()["ledger.bin"]["sha256"] == digest(source)


def test_a_connection_that_ends_without_close_commits_nothing(gateway):
    """The stock class commits on disconnect (see test_sftp_hardening): ours only on CLOSE."""
    with gateway.paramiko() as client:
        remote = client.open("/inbox/cut.bin", "wb")
        remote.write(os.urandom(100_000))
        client.get_channel().get_transport().close()
    partial = until(gateway.partials)[0]
    assert partial["size"] == 98304
    assert gateway.documents() == {}


def test_an_upload_below_one_chunk_leaves_nothing(gateway):
    with gateway.paramiko() as client:
        remote = client.open("/inbox/cut.bin", "wb")
        remote.write(b"x" * 16383)
        assert len(gateway.spooled()) == 1
        client.get_channel().get_transport().close()
    until(lambda: not gateway.spooled())
    assert gateway.documents() == {}


def peaks(pids: list[int], stop: threading.Event, into: dict[int, int]) -> None:
    """Sample the largest resident size (KiB) each process ever had."""
    while not stop.wait(0.1):
        for pid in pids:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
                    if line.startswith("VmHWM:"):
                        into[pid] = max(into.get(pid, 0), int(line.split()[1]))


@contextlib.contextmanager
def measured(gateway: Gateway):
    """Resident peaks of the core, the door and its connection processes, by process id."""
    found: dict[int, int] = {}
    stop = threading.Event()
    watched = [gateway.core.process.pid, gateway.door.process.pid]

    def watch() -> None:
        while not stop.is_set():
            ended = threading.Event()
            timer = threading.Timer(0.3, ended.set)
            timer.start()
            peaks([*watched, *gateway.children()], ended, found)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
def test_two_gibibytes_in_and_out_stay_small_in_memory(gateway, tmp_path):
    """2 GiB up and down: no process above 150 MB, the digest right, within a minute."""
    size = 2 * 1024 * MIB
    source = tmp_path / "large.bin"
    with source.open("wb") as file:  # sparse: no disk is needed for the source
        file.truncate(size)
        file.seek(size // 2 + 5)
        file.write(b"in the middle")
    started = time.monotonic()
    with measured(gateway) as found:
        done = gateway.sftp(f"put {source} /inbox/large.bin\n", timeout=100)
        assert done.returncode == 0, done.stderr
        gateway.file_received()
        got = gateway.sftp(
            f"get /clients/acme/2025/invoice/large.bin {tmp_path}/back\n",
            "accountant",
            timeout=100,
        )
        assert got.returncode == 0, got.stderr
    took = time.monotonic() - started
    assert len(found) >= 4, found
    assert max(found.values()) * 1024 < 150_000_000, found
    assert took < 60, f"{took:.0f} s"
    assert gateway.documents()["large.bin"]["sha256"] == digest(source)
    assert digest(tmp_path / "back") == digest(source)
    (tmp_path / "back").unlink()


@pytest.fixture
def small_disk():
    """48 MiB of memory as a disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = Path(tempfile.mkdtemp(prefix="sr-d-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "strongroom-test", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        place.rmdir()
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


def test_a_full_disk_fails_the_upload_and_nothing_else(template, small_disk, tmp_path):
    """The client reads why; its partial data goes; what was acknowledged stays; smaller files go on."""
    (tmp_path / "small.bin").write_bytes(os.urandom(3 * MIB))
    (tmp_path / "large.bin").write_bytes(os.urandom(80 * MIB))
    with Gateway(template, store="minimum_free = 0", place=small_disk) as gateway:
        assert gateway.sftp(f"put {tmp_path}/small.bin /inbox/first.bin\n").returncode == 0
        full = gateway.sftp(f"put {tmp_path}/large.bin /inbox/\n")
        assert full.returncode != 0
        assert "Failure" in full.stderr
        until(lambda: not gateway.spooled())
        assert set(gateway.documents()) == {"first.bin"}
        assert gateway.partials() == []
        # OpenSSH's client shows only "Failure"; the sentence is in the status message.
        with (
            gateway.paramiko() as client,
            client.open("/inbox/x", "wb") as remote,
            pytest.raises(OSError, match=r"no room left for this file\. Nothing of it was kept"),
        ):
            remote.write(bytes(80 * MIB))
        assert gateway.spooled() == []
        again = gateway.sftp(f"put {tmp_path}/small.bin /inbox/second.bin\n")
        assert again.returncode == 0, again.stderr
        found = gateway.documents()
        expected = digest(tmp_path / "small.bin")
        assert {found[name]["sha256"] for name in ("first.bin", "second.bin")} == {expected}
        gateway.file_received()
        got = gateway.sftp(
            f"get /clients/acme/2025/invoice/first.bin {tmp_path}/back\n", "accountant"
        )
        assert got.returncode == 0, got.stderr
        assert digest(tmp_path / "back") == expected


def test_an_upload_stops_at_the_floor_and_the_disk_keeps_its_free_space(template, small_disk):
    """`store.minimum_free` was looked at before an upload only: one client left 287 kB of it."""
    floor = 12 * MIB
    with Gateway(template, store=f"minimum_free = {floor}", place=small_disk) as gateway:
        least = []
        with gateway.paramiko() as client, client.open("/inbox/x", "wb") as remote:

            def fill():
                for _ in range(80):
                    remote.write(bytes(MIB))
                    least.append(shutil.disk_usage(small_disk).free)

            with pytest.raises(OSError, match=r"no room left for this file\. Nothing of it was"):
                fill()
        assert len(least) > 5
        assert min(least) > floor - MIB
        assert gateway.spooled() == []
        with gateway.paramiko() as client, client.open("/inbox/small", "wb") as remote:
            remote.write(bytes(MIB))
        assert set(gateway.documents()) == {"small"}


def test_one_clients_interrupted_uploads_do_not_shut_intake_for_others(template, small_disk):
    """They made room for nobody until `retention.partial_hours` were over."""
    floor = 8 * MIB
    with Gateway(template, store=f"minimum_free = {floor}", place=small_disk) as gateway:
        held = 0
        while (free := shutil.disk_usage(small_disk).free) > floor + MIB:
            with gateway.paramiko() as client:
                remote = client.open(f"/inbox/part{held}", "wb")
                remote.write(bytes(min(3 * MIB, max(MIB, free - floor - MIB))))
                client.sock.get_transport().close()
            held += 1
            if held > 20:
                break
            until(lambda n=held: len(gateway.partials()) + len(expired(gateway)) >= n, 60)
        until(lambda: shutil.disk_usage(small_disk).free >= 2 * floor, 60)
        assert gateway.partials()  # no more of them went than had to
        with gateway.paramiko() as client, client.open("/inbox/whole", "wb") as remote:
            remote.write(bytes(2 * MIB))
        assert "whole" in gateway.documents()


def expired(gateway):
    """Interrupted uploads that made room: a list names them only where it is asked for them."""
    return gateway.admin.call("document.list", client="acme", state="expired")


def test_below_the_floor_an_upload_is_refused_when_it_is_opened(template):
    """`store.minimum_free` refuses before a byte is sent."""
    with Gateway(template, store=f"minimum_free = {2**60}") as gateway:
        with gateway.paramiko() as client, pytest.raises(OSError, match="no room left"):
            client.open("/inbox/x", "wb")
        assert gateway.documents() == {}
