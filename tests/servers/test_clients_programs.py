"""What is particular to one client: trees, temporary names, checks of its own, ranges, several at once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.sftp import Gateway
from tests.support.sftp_clients import Curl, Lftp, OpenSsh, Psftp, Rclone, Scp

SHELF = "/clients/acme/2025/invoice"


@pytest.fixture(scope="module")
def gateway(shared_gateway):
    return shared_gateway


@pytest.fixture(scope="module")
def filed(gateway) -> bytes:
    data = os.urandom(1_000_003)
    with gateway.paramiko() as client, client.open("/inbox/filed.bin", "wb") as remote:
        remote.set_pipelined(True)
        remote.write(data)
    gateway.file_received()
    return data


def tree(root: Path, prefix: str) -> dict[str, str]:
    """A folder of files in folders; returns the digests by name."""
    digests = {}
    for number, folder in enumerate(("", "一月", "with space/deep", "一月")):
        for size in (0, 20_000 + number):
            name = f"{prefix}-{number}-{size}.bin"
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(size))
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def recorded(gateway: Gateway, names: dict[str, str]) -> dict[str, str]:
    found = gateway.documents()
    return {name: found[name]["sha256"] for name in names}


def versions(gateway: Gateway, name: str) -> int:
    listed = gateway.admin.call("document.list", client="acme")
    return sum(document["name"] == name for document in listed)


def test_lftp_mirrors_a_tree_several_at_a_time_and_finds_nothing_left_to_do(gateway, tmp_path):
    """The second mirror compares sizes with the listing and sends nothing again."""
    sent = tree(tmp_path / "tree", "mirror")
    lftp = Lftp(gateway, tmp_path)
    mirror = f"mirror -R --parallel=3 --ignore-time {tmp_path}/tree /inbox/mirrored"
    for _ in range(2):
        done = lftp.script("acme", mirror)
        assert done.done, done.text
    assert recorded(gateway, sent) == sent
    assert {versions(gateway, name) for name in sent} == {1}


def test_lftp_hands_in_by_temporary_names(gateway, tmp_path):
    """`xfer:use-temp-file`: under `.in.<name>.` until it is whole, then renamed."""
    sent = tree(tmp_path / "tree", "temp")
    done = Lftp(gateway, tmp_path).script(
        "acme", "set xfer:use-temp-file yes", f"mirror -R {tmp_path}/tree /inbox/by-temp"
    )
    assert done.done, done.text
    assert recorded(gateway, sent) == sent
    assert not [each for each in gateway.partials() if sent.keys() & {each["name"]}]


def test_rclone_copies_a_tree_once(gateway, tmp_path):
    """A second copy finds sizes and times as they were: it can't set times, so it goes by size."""
    sent = tree(tmp_path / "tree", "rclone")
    for _ in range(2):
        done = Rclone(gateway, tmp_path).command(
            "acme", "copy", "--size-only", str(tmp_path / "tree"), "@/inbox/by-rclone"
        )
        assert done.done, done.text
    assert recorded(gateway, sent) == sent
    assert {versions(gateway, name) for name in sent} == {1}


def test_rclone_checks_what_an_accountant_sees_against_a_folder(gateway, filed, tmp_path):
    """`check --download` compares bytes, as there are no hashing commands; a difference is found."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "filed.bin").write_bytes(filed)
    rclone = Rclone(gateway, tmp_path)
    check = ["check", "--download", "--one-way", str(tmp_path / "copy"), f"@{SHELF}"]
    same = rclone.command("accountant", *check)
    assert same.done, same.text
    assert "0 differences found" in same.text
    (tmp_path / "copy" / "filed.bin").write_bytes(filed[:-1] + bytes([filed[-1] ^ 1]))
    other = rclone.command("accountant", *check)
    assert not other.done
    assert "1 differences found" in other.text


def test_rclone_is_told_that_its_key_for_the_host_is_wrong(gateway, tmp_path):
    """It asks for the RSA key first, so a file that knows the Ed25519 key only is not enough."""
    rclone = Rclone(gateway, tmp_path)
    (tmp_path / "known_hosts").write_bytes(
        (gateway.folder / "demo" / "known_hosts").read_bytes().splitlines(keepends=True)[0]
    )
    refused = rclone.command("acme", "lsf", "@/inbox")
    assert not refused.done
    assert "key mismatch" in refused.text


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("0-0", slice(0, 1)),
        ("16383-16400", slice(16_383, 16_401)),
        ("999000-", slice(999_000, None)),
        ("-5", slice(-5, None)),
    ],
    ids=["first", "across a chunk", "to the end", "the last"],
)
def test_curl_downloads_ranges(gateway, filed, tmp_path, asked, part):
    done = Curl(gateway, tmp_path).transfer(
        "accountant", f"{SHELF}/filed.bin", "-r", asked, "-o", str(tmp_path / "part")
    )
    assert done.done, done.text
    assert (tmp_path / "part").read_bytes() == filed[part]


def test_downloads_are_continued(gateway, filed, tmp_path):
    """curl -C -, psftp reget, sftp reget, lftp get -c: what is there already is kept."""
    remote = f"{SHELF}/filed.bin"

    def begun(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(filed[:500_000])
        return path

    curl = Curl(gateway, tmp_path).transfer(
        "accountant", remote, "-C", "-", "-o", str(begun("curl.bin"))
    )
    assert curl.done, curl.text
    begun("filed.bin")
    psftp = Psftp(gateway, tmp_path).batch("accountant", f"lcd {tmp_path}", f"reget {remote}")
    assert psftp.done, psftp.text
    openssh = OpenSsh(gateway, tmp_path).batch("accountant", f"reget {remote} {begun('ssh.bin')}")
    assert openssh.done, openssh.text
    lftp = Lftp(gateway, tmp_path).script("accountant", f"get -c {remote} -o {begun('lftp.bin')}")
    assert lftp.done, lftp.text
    for name in ("curl.bin", "filed.bin", "ssh.bin", "lftp.bin"):
        assert (tmp_path / name).read_bytes() == filed, name


def test_scp_and_psftp_send_folders(gateway, tmp_path):
    """`scp -r` and `put -r` keep the folders below."""
    for prefix in ("scp", "psftp"):
        sent = tree(tmp_path / prefix, prefix)
        if prefix == "scp":
            done = Scp(gateway, tmp_path).copy(
                "acme", "-r", str(tmp_path / prefix), "acme@127.0.0.1:/inbox/"
            )
        else:
            done = Psftp(gateway, tmp_path).batch(
                "acme", "cd /inbox", f"put -r {tmp_path / prefix}"
            )
        assert done.done, done.text
        assert recorded(gateway, sent) == sent
        listed = OpenSsh(gateway, tmp_path).listing("acme", f"/inbox/{prefix}/with space/deep")
        assert sorted(listed) == sorted(name for name in sent if f"{prefix}-2-" in name)


def test_openssh_syncs_and_asks_for_room(gateway, tmp_path):
    """`put -f` syncs before it closes; `df` is answered; setting times (`put -p`) does no harm."""
    (tmp_path / "synced.bin").write_bytes(os.urandom(40_000))
    done = OpenSsh(gateway, tmp_path).batch(
        "acme", f"put -fp {tmp_path}/synced.bin /inbox/", "df -h /inbox"
    )
    assert done.done, done.text
    assert "%Capacity" in done.text
    assert gateway.documents()["synced.bin"]["size"] == 40_000
