"""What is done over sftp: sizes, folders, ranges, versions and views (every client: test_clients_contract)."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from tests.support.sftp import Gateway

SHELF = "/clients/acme/2025/invoice"
# Around every boundary that matters: empty, a chunk (16 KiB), an SFTP write, a batch of chunks.
SIZES = (0, 1, 16383, 16384, 16385, 32768, 255 * 1024, 262144, 262145, 3_000_001)


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template) as running:
        yield running


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_openssh_uploads_files_of_every_awkward_size(gateway, tmp_path):
    """What the core recorded (size, SHA-256) is what lay on the client's disk."""
    sent = {f"size-{size}.bin": os.urandom(size) for size in SIZES}
    for name, data in sent.items():
        (tmp_path / name).write_bytes(data)
    done = gateway.sftp("".join(f"put {tmp_path}/{name} /inbox/\n" for name in sent))
    assert done.returncode == 0, done.stderr
    found = gateway.documents()
    for name, data in sent.items():
        assert (found[name]["size"], found[name]["sha256"]) == (len(data), digest(data)), name
    assert gateway.spooled() == []


def test_openssh_uploads_a_folder_and_lists_it(gateway, tmp_path):
    """`put -r` keeps the folders; names in Chinese and with spaces come back in the listing."""
    root = tmp_path / "2025"
    (root / "一月").mkdir(parents=True)
    (root / "一月" / "发票 001.txt").write_bytes(b"invoice")
    (root / "note.txt").write_bytes(b"note")
    done = gateway.sftp(f"put -r {root} /inbox/\n")
    assert done.returncode == 0, done.stderr
    listed = gateway.sftp("ls -1 /inbox/2025\nls -1 /inbox/2025/一月\n").stdout
    assert "/inbox/2025/note.txt" in listed
    assert "/inbox/2025/一月/发票 001.txt" in listed


@pytest.mark.parametrize("size", SIZES)
def test_a_download_is_byte_identical(gateway, tmp_path, size):
    """`get` returns the bytes that were sent, for every length around a boundary."""
    name, data = f"get-{size}.bin", os.urandom(size)
    (tmp_path / name).write_bytes(data)
    assert gateway.sftp(f"put {tmp_path}/{name} /inbox/\n").returncode == 0
    gateway.file_received()
    done = gateway.sftp(f"get {SHELF}/{name} {tmp_path}/back\n", "accountant")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == data


def test_paramiko_reads_ranges_while_others_upload(gateway, tmp_path):
    """Random ranges of a document are right, in any order, while other connections write."""
    data = os.urandom(2_000_003)
    with gateway.paramiko() as client, client.open("/inbox/ranges.bin", "wb") as remote:
        remote.set_pipelined(True)
        remote.write(data)
    gateway.file_received()
    (tmp_path / "noise").write_bytes(os.urandom(20_000_000))
    failures: list[str] = []

    def upload(number: int) -> None:
        done = gateway.sftp(f"put {tmp_path}/noise /inbox/noise-{number}\n")
        if done.returncode:
            failures.append(done.stderr)

    others = [threading.Thread(target=upload, args=(number,)) for number in range(3)]
    for other in others:
        other.start()
    with (
        gateway.paramiko("accountant") as client,
        client.open(f"{SHELF}/ranges.bin", "rb") as remote,
    ):
        for offset, length in [
            (0, 1), (16383, 2), (16384, 16384), (1_999_999, 100), (2_000_003, 10), (7, 900_000),
            (262143, 2), (1_500_000, 65_536), (16385, 0),
        ]:  # fmt: skip
            remote.seek(offset)
            assert remote.read(length) == data[offset : offset + length], (offset, length)
        parts = [(offset, 70_001) for offset in range(0, len(data), 70_001)]
        assert b"".join(remote.readv(parts)) == data
    for other in others:
        other.join()
    assert failures == []
    expected = digest((tmp_path / "noise").read_bytes())
    found = gateway.documents()
    assert {found[f"noise-{number}"]["sha256"] for number in range(3)} == {expected}


def test_sending_a_name_again_is_a_new_version(gateway, tmp_path):
    """Both versions are kept as documents; the inbox shows the newer one."""
    for text in (b"first", b"second one"):
        (tmp_path / "twice.txt").write_bytes(text)
        assert gateway.sftp(f"put {tmp_path}/twice.txt /inbox/\n").returncode == 0
    all_of_them = [
        document
        for document in gateway.admin.call("document.list", client="acme")
        if document["name"] == "twice.txt"
    ]
    assert [document["size"] for document in all_of_them] == [5, 10]
    listed = gateway.sftp("ls -l /inbox/twice.txt\n").stdout
    assert " 10 " in listed


def test_what_was_handed_in_cannot_be_taken_back(gateway, tmp_path):
    """Reading, removing, renaming and truncating are refused with a sentence, and nothing changes."""
    (tmp_path / "kept.txt").write_bytes(b"kept")
    assert gateway.sftp(f"put {tmp_path}/kept.txt /inbox/\n").returncode == 0
    for command in (
        "get /inbox/kept.txt",
        "rm /inbox/kept.txt",
        "rename /inbox/kept.txt /inbox/x.exe",
    ):
        refused = gateway.sftp(f"{command}\n")
        assert refused.returncode != 0, command
    with gateway.paramiko() as client:
        with pytest.raises(OSError, match="can't be read back"):
            client.open("/inbox/kept.txt", "rb")
        with pytest.raises(OSError, match="can't be truncated"):
            client.truncate("/inbox/kept.txt", 0)
        with pytest.raises(OSError, match="ask your accountant"):
            client.remove("/inbox/kept.txt")
    assert gateway.documents()["kept.txt"]["sha256"] == digest(b"kept")


def test_other_roles_see_nothing_of_it(gateway):
    """A client sees no shelves, an accountant no inbox, an auditor no document."""
    assert gateway.sftp("ls /clients\n").returncode != 0
    assert gateway.sftp("ls /inbox\n", "accountant").returncode != 0
    assert gateway.sftp("ls /clients\n", "auditor").returncode != 0
    assert gateway.sftp("ls /ledger\n", "auditor").returncode == 0


def test_many_names_in_a_folder_are_listed_once_each(gateway):
    """A listing goes on from page to page without losing or repeating a name."""
    with gateway.paramiko() as client:
        client.mkdir("/inbox/many")
        for number in range(620):
            client.mkdir(f"/inbox/many/{number:04}")
        assert sorted(client.listdir("/inbox/many")) == [f"{number:04}" for number in range(620)]
