"""Temporary names and whole files with real clients: handed in at the rename, never added to afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import paramiko
import pytest
from paramiko.message import Message

from gateway.doors.sftp import protocol as p
from tests.support.sftp import Gateway, until

MIB = 1024 * 1024
CHUNK = 16384


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "book.bin"
    path.write_bytes(os.urandom(3 * MIB + 12345))
    return path


def digest(data: bytes | Path) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()


def sent(gateway: Gateway, batch: str) -> None:
    done = gateway.sftp(batch)
    assert done.returncode == 0, done.stderr


def refused(gateway: Gateway, batch: str) -> str:
    done = gateway.sftp(batch)
    assert done.returncode != 0
    return done.stderr


def is_document(gateway: Gateway, name: str, data: bytes | Path) -> None:
    """The only document so far, whole, and nothing else lies about."""
    documents = gateway.documents()
    assert {each: documents[each]["sha256"] for each in documents} == {name: digest(data)}
    assert gateway.partials() == []
    assert gateway.spooled() == []
    assert len(gateway.stored()) == 1


def break_off(gateway: Gateway, path: str, data: bytes) -> None:
    """Send the beginning of a file; then the connection breaks, and a partial stays."""
    with gateway.paramiko() as client:
        remote = client.open(path, "wb")
        remote.write(data)
        client.get_channel().get_transport().close()
    until(gateway.partials)


def lftp(gateway: Gateway, script: str) -> subprocess.CompletedProcess:
    program = shutil.which("lftp")
    if program is None:
        pytest.skip("lftp is not installed")
    connect = " ".join(["ssh -a -x", *gateway.options("acme")])
    preamble = (
        f'set sftp:connect-program "{connect}"; set net:max-retries 1; set cmd:fail-exit yes;'
        f" open -p {gateway.port} sftp://acme:@127.0.0.1;"
    )
    return subprocess.run(
        [program, "-c", preamble + script], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "HOME": str(gateway.folder)},
    )  # fmt: skip


# ── temporary names ──


@pytest.mark.parametrize(
    "name", ["a.pdf.filepart", "a.part", "a.TMP", ".in.a.pdf", "a.pdf.1a2b3c4d.partial"]
)
def test_a_file_under_a_temporary_name_is_a_document_only_once_it_is_renamed(gateway, source, name):
    """Until then it is listed at its size, and is in no receipt and before no inspector."""
    sent(gateway, f"put {source} /inbox/{name}\n")
    assert gateway.documents() == {}
    assert [(each["name"], each["size"]) for each in gateway.partials()] == [
        (name, source.stat().st_size)
    ]
    assert gateway.stored() == []
    assert gateway.sftp("ls -1 /receipts\n").stdout.split("\n")[1:] == [""]
    assert name in gateway.sftp("ls -1a /inbox\n").stdout
    sent(gateway, f"rename /inbox/{name} /inbox/final.pdf\n")
    is_document(gateway, "final.pdf", source)
    assert gateway.sftp("ls -1 /inbox\n").stdout.split("\n")[1:] == ["/inbox/final.pdf", ""]
    gateway.file_received()
    sent(gateway, "ls /receipts\n")


def test_what_waits_for_its_rename_survives_a_restart(gateway, source):
    sent(gateway, f"put {source} /inbox/book.part\n")
    gateway.core.process.kill()
    gateway.core.process.wait(10)
    gateway.start_core()
    assert gateway.partials()[0]["size"] == source.stat().st_size
    sent(gateway, "rename /inbox/book.part /inbox/book.bin\n")
    is_document(gateway, "book.bin", source)


def test_an_empty_file_waits_and_is_handed_in_like_any_other(gateway, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    sent(gateway, f"put {tmp_path}/empty /inbox/e.tmp\nrename /inbox/e.tmp /inbox/e\n")
    is_document(gateway, "e", b"")


def test_a_rename_into_a_folder_files_it_there(gateway, source):
    sent(
        gateway,
        f"mkdir /inbox/2025\nput {source} /inbox/b.part\nrename /inbox/b.part /inbox/2025/b.bin\n",
    )
    assert gateway.sftp("ls -1 /inbox/2025\n").stdout.split("\n")[1:] == ["/inbox/2025/b.bin", ""]
    is_document(gateway, "b.bin", source)


def test_a_rename_to_a_name_that_is_there_is_a_new_version(gateway, source, tmp_path):
    """As when the name is sent again: both versions are kept, the newer is shown."""
    (tmp_path / "old").write_bytes(b"old")
    sent(gateway, f"put {tmp_path}/old /inbox/b.bin\nput {source} /inbox/b.bin.part\n")
    sent(gateway, "rename /inbox/b.bin.part /inbox/b.bin\n")
    versions = gateway.admin.call("document.list", client="acme")
    assert sorted(each["size"] for each in versions) == [3, source.stat().st_size]
    with gateway.paramiko() as client:
        assert client.stat("/inbox/b.bin").st_size == source.stat().st_size


def test_sent_again_under_its_temporary_name_only_the_last_one_waits(gateway, source, tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    sent(gateway, f"put {tmp_path}/old /inbox/b.part\nput {source} /inbox/b.part\n")
    assert len(gateway.partials()) == len(gateway.spooled()) == 1
    sent(gateway, "rename /inbox/b.part /inbox/b.bin\n")
    is_document(gateway, "b.bin", source)


def test_a_finished_temporary_file_can_be_continued(gateway, source, tmp_path):
    """Its last chunk is sealed: what is added goes into a new sealed file, under a new key."""
    whole = source.read_bytes()
    (tmp_path / "start").write_bytes(whole[: MIB + 7])
    sent(gateway, f"put {tmp_path}/start /inbox/b.part\n")
    (first,) = gateway.spooled()
    before = first.read_bytes()
    sent(gateway, f"reput {source} /inbox/b.part\n")
    (second,) = gateway.spooled()
    after = second.read_bytes()
    assert first.name != second.name
    # Not one sealed chunk is the same, though the plaintext begins alike.
    chunks = {after[at : at + CHUNK + 16] for at in range(56, len(after), CHUNK + 16)}
    assert not any(
        before[at : at + CHUNK + 16] in chunks for at in range(56, len(before), CHUNK + 16)
    )
    assert before[:56] != after[:56]
    sent(gateway, "rename /inbox/b.part /inbox/b.bin\n")
    is_document(gateway, "b.bin", source)


def test_a_continuation_that_is_cut_before_it_is_longer_loses_nothing(gateway, source):
    """What waited goes on waiting until its successor is durable and at least as long."""
    data = source.read_bytes()
    with gateway.paramiko() as client:
        with client.open("/inbox/b.part", "wb") as remote:
            remote.write(data[: MIB + 7])
        client.open("/inbox/b.part", "ab")
        client.get_channel().get_transport().close()
    # The copy ends on a chunk boundary, seven bytes before what it continues.
    until(lambda: len(gateway.spooled()) == 1)
    assert [each["size"] for each in gateway.partials()] == [MIB + 7]
    sent(gateway, f"reput {source} /inbox/b.part\nrename /inbox/b.part /inbox/b.bin\n")
    is_document(gateway, "b.bin", source)


def test_an_interrupted_temporary_file_is_not_handed_in_before_it_is_whole(gateway, source):
    data = source.read_bytes()
    break_off(gateway, "/inbox/b.part", data[:MIB])
    with gateway.paramiko() as client, pytest.raises(OSError, match="is not whole"):
        client.rename("/inbox/b.part", "/inbox/b.bin")
    assert gateway.documents() == {}
    sent(gateway, f"reput {source} /inbox/b.part\nrename /inbox/b.part /inbox/b.bin\n")
    is_document(gateway, "b.bin", source)


def test_a_temporary_file_can_be_removed_and_leaves_nothing(gateway, source):
    """It was not handed in yet, and programs clean up what they gave up."""
    sent(gateway, f"put {source} /inbox/b.part\nrm /inbox/b.part\n")
    assert gateway.partials() == gateway.spooled() == gateway.stored() == []
    assert "No such file" in refused(gateway, "rename /inbox/b.part /inbox/b.bin\n")


def test_no_other_rename_is_possible(gateway, source):
    """Each refusal says why, and nothing changes."""
    sent(gateway, f"mkdir /inbox/f\nput {source} /inbox/b.bin\nput {source} /inbox/c.part\n")
    with gateway.paramiko() as client:
        for old, new, why in [
            ("/inbox/b.bin", "/inbox/x.com", "renamed to a program"),
            ("/inbox/b.bin", "/inbox/x.part", "temporary name, too"),
            ("/inbox/b.bin", "/inbox/f", "a folder of this name"),
            ("/inbox/f", "/inbox/g", "keeps its name"),
            ("/inbox/c.part", "/inbox/d.part", "temporary name, too"),
            ("/inbox/c.part", "/inbox/f", "a folder of this name"),
            ("/inbox/c.part", "/receipts/c", "below /inbox"),
            ("/receipts", "/inbox/r", "read-only"),
        ]:
            for rename in (client.rename, client.posix_rename):
                with pytest.raises(OSError, match=why):
                    rename(old, new)
        with pytest.raises(FileNotFoundError):
            client.rename("/inbox/c.part", "/inbox/nowhere/c")
        with pytest.raises(FileNotFoundError):
            client.rename("/inbox/none.part", "/inbox/c")
        held = client.open("/inbox/c.part", "ab")
        with pytest.raises(OSError, match="not closed yet"):
            client.rename("/inbox/c.part", "/inbox/c")
        held.close()
    assert list(gateway.documents()) == ["b.bin"]
    assert [each["name"] for each in gateway.partials()] == ["c.part"]


def test_lftp_with_temporary_names_delivers_and_delivers_again(gateway, source):
    """It removes the former file before it renames (refused), renames all the same: a new version."""
    for _ in range(2):
        done = lftp(gateway, f"set xfer:use-temp-file yes; put -O /inbox {source} -o l.bin")
        assert done.returncode == 0, done.stderr
    versions = gateway.admin.call("document.list", client="acme")
    assert [(each["name"], each["sha256"]) for each in versions] == [("l.bin", digest(source))] * 2
    assert gateway.partials() == []


# ── a whole file takes nothing more ──


def test_nothing_is_added_to_a_whole_file(gateway, source, tmp_path):
    """By an append, by a write at its end, in its middle: refused with a sentence, nothing recorded."""
    longer = tmp_path / "longer"
    longer.write_bytes(source.read_bytes() + b"more")
    sent(gateway, f"put {source} /inbox/b.bin\n")
    refused(gateway, f"reput {longer} /inbox/b.bin\n")
    assert "received whole" in lftp(gateway, f"put -c -O /inbox {longer} -o b.bin").stderr
    with gateway.paramiko() as client:
        with pytest.raises(OSError, match="received whole"):
            client.open("/inbox/b.bin", "ab")
        for offset in (1, CHUNK, source.stat().st_size):
            request, handle = client._request(
                p.OPEN, "/inbox/b.bin", p.FLAG_WRITE, paramiko.SFTPAttributes()
            )
            assert request == p.HANDLE
            name = handle.get_binary()
            with pytest.raises(OSError, match="received whole"):
                client._request(p.WRITE, name, paramiko.sftp.int64(offset), b"more")
            with pytest.raises(OSError, match="received whole"):
                client._request(p.CLOSE, name)
    is_document(gateway, "b.bin", source)


def opened_in_place(client: paramiko.SFTPClient, path: str) -> bytes:
    """A handle for writing, without truncation."""
    _, reply = client._request(
        p.OPEN, path, p.FLAG_WRITE | p.FLAG_CREATE, paramiko.SFTPAttributes()
    )
    return reply.get_binary()


def test_opened_and_closed_without_a_byte_a_whole_file_stays_as_it_is(gateway, source):
    """So a `reput` of a complete file that asks for its size first ends well, and records nothing."""
    sent(gateway, f"put {source} /inbox/b.bin\n")
    with gateway.paramiko() as client:
        handle = opened_in_place(client, "/inbox/b.bin")
        _, attributes = client._request(p.FSTAT, handle)
        assert paramiko.SFTPAttributes._from_msg(attributes).st_size == source.stat().st_size
        client._request(p.CLOSE, handle)
    is_document(gateway, "b.bin", source)


def test_the_beginning_of_a_whole_file_is_not_replaced(gateway, source):
    """The rest would be lost: only a file sent whole, or truncated, is a new version."""
    sent(gateway, f"put {source} /inbox/b.bin\n")
    with gateway.paramiko() as client:
        handle = opened_in_place(client, "/inbox/b.bin")
        client._request(p.WRITE, handle, paramiko.sftp.int64(0), b"new")
        with pytest.raises(OSError, match="send all of it"):
            client._request(p.CLOSE, handle)
    is_document(gateway, "b.bin", source)


@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 12345, 4 * MIB])
def test_scp_sends_a_new_version_of_any_size(gateway, source, tmp_path, size):
    """scp opens without truncation and cuts the file at its end."""
    (tmp_path / "new").write_bytes(os.urandom(size))
    sent(gateway, f"put {source} /inbox/b.bin\n")
    done = subprocess.run(
        ["scp", "-q", "-P", str(gateway.port), *gateway.options("acme"), str(tmp_path / "new"),
         "acme@127.0.0.1:/inbox/b.bin"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert gateway.documents()["b.bin"]["sha256"] == digest(tmp_path / "new")


def test_an_append_continues_an_interrupted_upload_whatever_its_offsets(gateway, source):
    """SSH_FXF_APPEND adds at the end: some clients count from the end, some from nought."""
    data = source.read_bytes()
    break_off(gateway, "/inbox/b.bin", data[:MIB])
    with gateway.paramiko() as client:
        flags = p.FLAG_WRITE | p.FLAG_APPEND
        _, reply = client._request(p.OPEN, "/inbox/b.bin", flags, paramiko.SFTPAttributes())
        handle = reply.get_binary()
        for start in range(MIB, len(data), 30_000):
            piece = data[start : start + 30_000]
            client._request(p.WRITE, handle, paramiko.sftp.int64(start - MIB), piece)
        client._request(p.CLOSE, handle)
    is_document(gateway, "b.bin", source)


# ── uploads that are given up ──


def test_a_resumed_upload_that_starts_over_leaves_no_partial(gateway, source):
    """Known gap: the row of the abandoned one stood until it expired."""
    data = source.read_bytes()
    break_off(gateway, "/inbox/b.bin", data[:MIB])
    with gateway.paramiko() as client:
        handle = opened_in_place(client, "/inbox/b.bin")
        client._request(p.WRITE, handle, paramiko.sftp.int64(0), data[:30_000])
        assert gateway.partials() == []
        with contextlib.suppress(OSError):
            client._request(p.WRITE, handle, paramiko.sftp.int64(2**40), b"beyond every limit")
        with pytest.raises(OSError, match="at most"):
            client._request(p.CLOSE, handle)
    assert gateway.partials() == gateway.spooled() == []
    assert gateway.documents() == {}


# ── extensions ──


def advertised(gateway: Gateway) -> dict[bytes, bytes]:
    """The extensions of the VERSION packet."""
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    try:
        key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
        transport.connect(username="acme", pkey=key)
        channel = transport.open_session()
        channel.invoke_subsystem("sftp")
        channel.sendall(b"\0\0\0\5\1\0\0\0\3")
        data = b""
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            data += channel.recv(4096)
    finally:
        transport.close()
    message = Message(data[9:])
    found = {}
    while message.get_remainder():
        name = message.get_binary()
        found[name] = message.get_binary()
    return found


def test_what_is_advertised_answers_and_nothing_else_does(gateway, source):
    versions = advertised(gateway)
    sent(gateway, f"put {source} /inbox/a.part\nput {source} /inbox/b.part\n")
    attributes = paramiko.SFTPAttributes()
    with gateway.paramiko() as client:
        _, reply = client._request(
            p.OPEN, "/inbox/o", p.FLAG_WRITE | p.FLAG_CREATE | p.FLAG_TRUNCATE, attributes
        )
        handle = reply.get_binary()
        arguments: dict[bytes, tuple[tuple, bytes]] = {
            b"posix-rename@openssh.com": (("/inbox/a.part", "/inbox/a"), b"1"),
            b"statvfs@openssh.com": (("/inbox",), b"2"),
            b"fstatvfs@openssh.com": ((handle,), b"2"),
            b"fsync@openssh.com": ((handle,), b"1"),
            b"lsetstat@openssh.com": (("/inbox/a", attributes), b"1"),
            b"limits@openssh.com": ((), b"1"),
        }
        assert versions == {name: version for name, (_, version) in arguments.items()}
        for name, (fields, _) in arguments.items():
            kind, _ = client._request(p.EXTENDED, name, *fields)
            assert kind in {p.STATUS, p.EXTENDED_REPLY, None}, name
        for name in (
            b"check-file", b"hardlink@openssh.com", b"copy-data", b"expand-path@openssh.com",
            b"home-directory", b"users-groups-by-id@openssh.com", b"md5-hash@openssh.com",
        ):  # fmt: skip
            with pytest.raises(OSError, match="does not know"):
                client._request(p.EXTENDED, name, "/inbox/a", "/inbox/z")
        with pytest.raises(OSError, match="no such handle"):
            client._request(p.EXTENDED, b"fsync@openssh.com", b"none")
        with pytest.raises(OSError, match="no such handle"):
            client._request(p.EXTENDED, b"fstatvfs@openssh.com", b"none")
        with pytest.raises(FileNotFoundError):
            client._request(p.EXTENDED, b"statvfs@openssh.com", "/clients")
        truncation = paramiko.SFTPAttributes()
        truncation.st_size = 0
        with pytest.raises(OSError, match="can't be truncated"):
            client._request(p.EXTENDED, b"lsetstat@openssh.com", "/inbox/a", truncation)


def test_df_tells_what_can_still_be_taken_in(template):
    """The file system of the store, less the floor that uploads leave free."""
    floor = 10**9
    with (
        Gateway(template, store=f"minimum_free = {floor}") as gateway,
        gateway.paramiko() as client,
    ):
        _, reply = client._request(p.EXTENDED, b"statvfs@openssh.com", "/inbox")
        found = [reply.get_int64() for _ in range(11)]
        real = os.statvfs(gateway.folder)
    assert found[:2] == [4096, 4096]
    assert found[2] == real.f_blocks * real.f_frsize // 4096
    expected = max(0, real.f_bavail * real.f_frsize - floor)
    assert abs(found[3] * 4096 - expected) < 2**28  # others write meanwhile
    assert found[3] == found[4]
    assert found[5] == real.f_files
    assert found[10] == 255


def test_below_the_floor_df_says_that_nothing_is_left(template):
    with (
        Gateway(template, store=f"minimum_free = {2**60}") as gateway,
        gateway.paramiko() as client,
    ):
        _, reply = client._request(p.EXTENDED, b"statvfs@openssh.com", "/inbox")
        assert [reply.get_int64() for _ in range(11)][3:5] == [0, 0]


def test_what_was_synced_survives_the_core_and_the_door(gateway, source):
    """fsync says how much is on disk; after a crash exactly that can be continued."""
    data = source.read_bytes()
    with gateway.paramiko() as client:
        remote = client.open("/inbox/b.bin", "wb")
        remote.write(data[: MIB + 7])
        client._request(p.EXTENDED, b"fsync@openssh.com", remote.handle)
        assert [each["size"] for each in gateway.partials()] == [MIB]
        gateway.core.process.kill()
        gateway.core.process.wait(10)
    gateway.kill_children()
    gateway.start_core()
    assert [each["size"] for each in gateway.partials()] == [MIB]
    sent(gateway, f"reput {source} /inbox/b.bin\n")
    is_document(gateway, "b.bin", source)


def test_an_upload_that_was_synced_is_committed_as_any_other(gateway, source):
    """Synced below a chunk, at a chunk, twice: the row that keeps it becomes the document's."""
    data = source.read_bytes()
    with gateway.paramiko() as client, client.open("/inbox/b.bin", "wb") as remote:
        written = 0
        for until_byte in (100, CHUNK, CHUNK, 5 * CHUNK + 1, len(data)):
            remote.write(data[written:until_byte])
            written = until_byte
            client._request(p.EXTENDED, b"fsync@openssh.com", remote.handle)
    is_document(gateway, "b.bin", source)


def test_a_synced_upload_belongs_to_the_one_that_is_sending_it(gateway, source):
    """Nobody continues, renames or removes it meanwhile; a broken connection leaves it resumable."""
    data = source.read_bytes()
    with gateway.paramiko() as first:
        remote = first.open("/inbox/b.part", "wb")
        remote.write(data[:MIB])
        first._request(p.EXTENDED, b"fsync@openssh.com", remote.handle)
        with gateway.paramiko() as second:
            for act in (
                lambda: second.open("/inbox/b.part", "ab"),
                lambda: second.rename("/inbox/b.part", "/inbox/b.bin"),
                lambda: second.remove("/inbox/b.part"),
            ):
                with pytest.raises(OSError, match=r"connection|closed"):
                    act()
        first.get_channel().get_transport().close()
    until(lambda: gateway.sftp(f"reput {source} /inbox/b.part\n").returncode == 0)
    sent(gateway, "rename /inbox/b.part /inbox/b.bin\n")
    is_document(gateway, "b.bin", source)


def test_openssh_put_with_fsync_and_times_succeeds(gateway, source):
    sent(gateway, f"put -fp {source} /inbox/b.bin\n")
    is_document(gateway, "b.bin", source)


def test_a_file_being_sent_is_there_for_the_one_who_sends_it(gateway):
    """sshfs looks for a file that it has just created; nobody else sees it yet."""
    with (
        gateway.paramiko() as client,
        gateway.paramiko() as other,
        client.open("/inbox/b.bin", "wb") as remote,
    ):
        remote.write(b"1234")
        remote.flush()
        assert client.lstat("/inbox/./b.bin").st_size == 4
        client.chmod("/inbox/b.bin", 0o600)
        with pytest.raises(FileNotFoundError):
            other.stat("/inbox/b.bin")
    assert gateway.documents()["b.bin"]["size"] == 4


def test_a_killed_client_of_a_temporary_file_leaves_it_resumable(gateway, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(os.urandom(30 * MIB))
    process = subprocess.Popen(
        gateway.sftp_command("acme", "-l", "100000"), stdin=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(f"put {big} /inbox/big.filepart\n")
    process.stdin.close()
    until(lambda: any(path.stat().st_size > 2 * MIB for path in gateway.spooled()))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    until(gateway.partials)
    sent(gateway, f"reput {big} /inbox/big.filepart\nrename /inbox/big.filepart /inbox/big\n")
    is_document(gateway, "big", big)
