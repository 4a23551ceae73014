"""Names and opens as programs send them: local encodings, READ|WRITE, temporary names that nobody knows."""

from __future__ import annotations

import os

import pytest
from paramiko.sftp import int64

from gateway.doors.sftp import protocol as p
from gateway.wire.channel import Channel
from gateway.wire.messages import Claim, Classification, Scan, Verdict
from tests.servers.test_sftp_temporary import lftp
from tests.support.sftp import Gateway


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template) as running:
        yield running


def names(gateway: Gateway) -> set[str]:
    return set(gateway.documents())


def test_a_folder_with_names_in_a_local_encoding_arrives_whole(gateway, tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    for name in (
        b"aa.txt",
        "发票-甲.txt".encode("gbk"),
        "银行对账单.txt".encode("gbk"),
        b"zz-ascii.txt",
    ):
        (folder / name.decode("utf-8", "surrogateescape")).write_bytes(name)
    below = folder / "目录".encode("gbk").decode("utf-8", "surrogateescape")
    below.mkdir()
    (below / b"\xb7\xa2\xc6\xb1.txt".decode("utf-8", "surrogateescape")).write_bytes(b"below")

    done = gateway.sftp(f"put -r {folder} /inbox/\n")

    assert done.returncode == 0, done.stderr
    assert {"aa.txt", "发票-甲.txt", "银行对账单.txt", "zz-ascii.txt", "发票.txt"} <= names(gateway)
    with gateway.paramiko() as client:
        assert set(client.listdir("/inbox/d")) == {
            "aa.txt", "发票-甲.txt", "银行对账单.txt", "zz-ascii.txt", "目录",
        }  # fmt: skip
        # Under its bytes and under its name it is the same file.
        assert client.stat(b"/inbox/d/" + "发票-甲.txt".encode("gbk")).st_size == 11
        assert client.stat("/inbox/d/发票-甲.txt").st_size == 11
    shown = gateway.admin.call("document.show", document=gateway.documents()["发票-甲.txt"]["id"])
    assert bytes.fromhex(shown["facts"]["name_bytes"]).endswith("发票-甲.txt".encode("gbk"))


def test_lftp_mirrors_in_a_local_encoding_once_and_finds_it_again(gateway, tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "进项.txt".encode("gbk").decode("utf-8", "surrogateescape")).write_bytes(b"one")
    done = lftp(gateway, f"set sftp:charset gbk; set file:charset gbk; mirror -R {folder} /inbox/x")
    assert done.returncode == 0, done.stderr
    assert "进项.txt" in names(gateway)


def test_bytes_that_are_no_encoding_are_taken_escaped(gateway):
    with gateway.paramiko() as client, client.open(b"/inbox/n\x81\xff\xfe.txt", "w") as remote:
        remote.write(b"x")
    assert "n%81%FF%FE.txt" in names(gateway)


def test_a_file_opened_for_reading_and_writing_is_an_upload_and_can_not_be_read(gateway):
    with gateway.paramiko() as client, client.open("/inbox/rw.txt", "w+") as remote:
        remote.write(b"both")
        with pytest.raises(OSError, match="can't be read back"):
            remote.sftp._request(p.READ, remote.handle, int64(0), 4)
    assert "rw.txt" in names(gateway)


@pytest.mark.parametrize(
    ("sent", "final"),
    [
        ("y.csv.ea158102491446ca9e56e1dc8ab3b8a5", "y.csv"),
        (".dotted.csv", "dotted.csv"),
        ("w.csv.writing", "w.csv"),
        ("inprogress/c.csv", "c.csv"),
        ("v.csv.new", "v.csv"),
    ],
)
@pytest.mark.parametrize("rename", ["rename", "posix_rename"])
def test_a_rename_just_after_the_upload_gives_the_document_its_name(gateway, sent, final, rename):
    final = f"{rename}-{final}"
    with gateway.paramiko() as client:
        client.mkdir(f"/inbox/{final}-work")
        client.mkdir(f"/inbox/{final}-work/inprogress")
        folder = f"/inbox/{final}-work"
        with client.open(f"{folder}/{sent}", "w") as remote:
            remote.write(b"a;b\n")
        getattr(client, rename)(f"{folder}/{sent}", f"/inbox/{final}")
        assert final in client.listdir("/inbox")
        with pytest.raises(FileNotFoundError):
            client.stat(f"{folder}/{sent}")
    found = gateway.documents()[final]
    shown = gateway.admin.call("document.show", document=found["id"])
    assert shown["path"] == final
    assert shown["sha256"] == found["sha256"]


def test_a_document_is_never_renamed_to_a_program_nor_by_another_account(gateway):
    with gateway.paramiko() as client:
        with client.open("/inbox/t.txt", "w") as remote:
            remote.write(b"text")
        with pytest.raises(OSError, match="can't be renamed to a program"):
            client.rename("/inbox/t.txt", "/inbox/t.exe")
    assert "t.txt" in names(gateway)
    assert "t.exe" not in names(gateway)


def test_a_rename_outlives_the_verdict_of_an_inspection_that_had_begun(gateway):
    gateway.file_received()
    with gateway.paramiko() as client, client.open("/inbox/early.csv.p1", "w") as remote:
        remote.write(b"a;b\n")
    document = gateway.documents()["early.csv.p1"]
    inspector = Channel.connect(gateway.folder / "run" / "inspect.sock", timeout=60)
    work, descriptors = inspector.call(Claim())
    os.close(descriptors[0])
    assert work.document_id == document["id"]
    with gateway.paramiko() as client:
        client.rename("/inbox/early.csv.p1", "/inbox/early.csv")
    digest = bytes.fromhex(document["sha256"])
    inspector.call(
        Verdict(
            work.document_id,
            document["size"],
            digest,
            scans=[Scan("yara", "clean")],
            classification=Classification("invoice", 0.95, "2025-03-01"),
            facts={"total": "12.00", "name_bytes": "00"},
        )
    )
    inspector.close()
    assert gateway.documents()["early.csv"]["state"] == "FILED"
    shown = gateway.admin.call("document.show", document=document["id"])
    assert shown["facts"] == {"total": "12.00"}
