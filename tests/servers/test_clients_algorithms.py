"""What the door offers before anyone logged in: algorithms, judged by ssh-audit, and the exception for old libssh2."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import asyncssh
import paramiko
import pytest

from tests.support.sftp import Gateway
from tests.support.sftp_clients import CLIENTS, OpenSsh

KEX = ["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"]
HOST_KEYS = ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"]
CIPHERS = ["aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr"]
MACS = ["hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com"]
FOR_OLD_LIBSSH2 = ["hmac-sha2-512", "hmac-sha2-256"]
MLKEM = KEX[0]


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template) as running:
        yield running


def offers(gateway: Gateway, identification: str) -> list[list[str]]:
    """The ten name lists of the door's KEXINIT (RFC 4253, section 7.1), to a program of that name."""
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection,
        connection.makefile("rb") as received,
    ):
        connection.sendall(identification.encode("ascii") + b"\r\n")
        assert received.readline().startswith(b"SSH-2.0-")
        length, padding, kind = struct.unpack(">IBB", received.read(6))
        assert kind == 20
        body = received.read(length - 2)[16 : length - 2 - padding]
    lists = []
    for _ in range(10):
        (size,) = struct.unpack_from(">I", body)
        lists.append(body[4 : 4 + size].decode("ascii").split(","))
        body = body[4 + size :]
    return lists


def test_ssh_audit_finds_nothing_that_fails(gateway):
    """Of the key exchanges, host keys, ciphers and MACs none is judged FAIL, and they are those documented."""
    program = Path(sys.executable).parent / "ssh-audit"
    if not program.is_file():
        pytest.skip("ssh-audit is not installed")
    done = subprocess.run(
        [str(program), "-j", "--skip-rate-test", "-p", str(gateway.port), "127.0.0.1"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    judged = {
        (part, each["algorithm"]): each["notes"].get("fail", [])
        for part in ("kex", "key", "enc", "mac")
        for each in report[part]
    }
    assert {name: notes for name, notes in judged.items() if notes} == {}
    assert done.returncode != 3, done.stdout  # 3: something failed
    assert report["cves"] == []
    found = {
        part: [name for each, name in judged if each == part] for part in ("key", "enc", "mac")
    }
    assert found == {"key": HOST_KEYS, "enc": CIPHERS, "mac": MACS}
    assert {name for part, name in judged if part == "kex"} == {
        *KEX,
        "kex-strict-s-v00@openssh.com",
    }


@pytest.mark.parametrize(
    "name",
    [
        "OpenSSH_9.2p1", "PuTTY_Release_0.78", "FileZilla_3.63.0", "WinSCP_release_6.3", "Go",
        "libssh2_1.11.0", "libssh2_1.11.1", "libssh2_1.100.0", "libssh2_2.1.0", "libssh2_1",
        "not_libssh2_1.10.0",
    ],
)  # fmt: skip
def test_programs_that_can_do_better_are_offered_nothing_else(gateway, name):
    """Some would choose the weaker MAC if it were there: the client's order decides."""
    kex, host_keys, *rest = offers(gateway, f"SSH-2.0-{name}")
    assert [each for each in kex if not each.startswith("kex-strict")] == KEX
    assert host_keys == HOST_KEYS
    assert rest[0] == rest[1] == CIPHERS
    assert rest[2] == rest[3] == MACS


@pytest.mark.parametrize(
    "name", ["libssh2_1.10.0", "libssh2_1.8.0", "libssh2_1.4.3", "libssh2_1.10.1_DEV"]
)
def test_old_libssh2_is_offered_a_mac_over_the_plaintext_last(gateway, name):
    """libssh2 before 1.11 knows no other (curl of Debian 12); all else is as strong as for others."""
    kex, host_keys, *rest = offers(gateway, f"SSH-2.0-{name}")
    assert [each for each in kex if not each.startswith("kex-strict")] == KEX
    assert host_keys == HOST_KEYS
    assert rest[0] == CIPHERS
    assert rest[2] == rest[3] == MACS + FOR_OLD_LIBSSH2


@pytest.mark.parametrize("mac", FOR_OLD_LIBSSH2)
def test_a_changed_byte_under_such_a_mac_ends_the_connection(gateway, mac):
    """Before it, files go through; the byte changed is one of the MAC."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        transport = paramiko.Transport(connection)
        transport.local_version = "SSH-2.0-libssh2_1.10.0"
        options = transport.get_security_options()
        options.digests = (mac,)
        options.ciphers = ("aes256-ctr",)
        try:
            key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
            transport.connect(username="acme", pkey=key)
            assert (transport.local_mac, transport.local_cipher) == (mac, "aes256-ctr")
            client = paramiko.SFTPClient.from_transport(transport)
            with client.open(f"/inbox/{mac}.bin", "wb") as remote:
                remote.write(b"whole" * 50_000)
            assert gateway.documents()[f"{mac}.bin"]["size"] == 250_000
            send = transport.packetizer.write_all
            transport.packetizer.write_all = lambda out: send(out[:-1] + bytes([out[-1] ^ 1]))
            with pytest.raises((EOFError, OSError, paramiko.SSHException)):
                client.listdir("/inbox")
            transport.join(20)
            assert not transport.is_active()
        finally:
            transport.close()


async def test_ml_kem_with_asyncssh(gateway):
    async def work() -> tuple[str, list[str]]:
        async with (
            asyncssh.connect(
                "127.0.0.1", gateway.port, username="acme", config=None,
                client_keys=[str(gateway.key("acme"))], kex_algs=[MLKEM],
                known_hosts=str(gateway.folder / "demo" / "known_hosts"),
            ) as connection,
            connection.start_sftp_client() as client,
        ):  # fmt: skip
            return "done", [str(name) for name in await client.listdir("/")]

    try:
        done, names = await work()
    except ValueError as error:
        pytest.skip(f"this asyncssh can't do ML-KEM: {error}")
    assert (done, sorted(names)) == ("done", ["inbox", "receipts"])


def test_ml_kem_with_paramiko(gateway):
    """A renewal of keys under way works as well."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        transport = paramiko.Transport(connection)
        transport.get_security_options().kex = (MLKEM,)
        try:
            key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
            transport.connect(username="acme", pkey=key)
            client = paramiko.SFTPClient.from_transport(transport)
            transport.renegotiate_keys()
            assert sorted(client.listdir("/")) == ["inbox", "receipts"]
        finally:
            transport.close()


def test_key_exchange_with_openssh(gateway, tmp_path):
    """ML-KEM where the installed ssh has it (9.9 and later), else X25519 under its own name."""
    known = subprocess.run(
        ["ssh", "-Q", "kex"], capture_output=True, text=True, check=True, env=os.environ
    ).stdout.split()
    chosen = MLKEM if MLKEM in known else KEX[1]
    client = OpenSsh(gateway, tmp_path)
    client.options = ("-o", f"KexAlgorithms={chosen}")
    done = client.batch("acme", "pwd")
    assert done.done, done.text


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cipher_carries_a_file(gateway, tmp_path, cipher):
    data = os.urandom(1_000_001)
    (tmp_path / "carried").write_bytes(data)
    client = OpenSsh(gateway, tmp_path)
    client.options = ("-o", f"Ciphers={cipher}")
    done = client.batch("acme", f"put {tmp_path}/carried /inbox/{cipher}.bin")
    assert done.done, done.text
    assert gateway.documents()[f"{cipher}.bin"]["size"] == len(data)


@pytest.mark.parametrize("mac", MACS)
def test_keys_are_renewed_under_way_in_counter_mode(gateway, tmp_path, mac):
    """Ten times during one file; OpenSSH counts packets from nought again each time (strict)."""
    data = os.urandom(5_000_001)
    (tmp_path / "renewed").write_bytes(data)
    client = OpenSsh(gateway, tmp_path)
    client.options = ("-c", "aes256-ctr", "-o", f"MACs={mac}", "-o", "RekeyLimit=512K")
    done = client.upload("acme", tmp_path / "renewed", f"/inbox/renewed-{mac}")
    assert done.done, done.text
    assert gateway.documents()[f"renewed-{mac}"]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("mac", MACS)
def test_a_client_without_strict_key_exchange_counts_on(gateway, mac):
    """Packets before the first keys count, and new keys don't start anew: OpenSSH before 9.6."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        transport = paramiko.Transport(connection, strict_kex=False)
        options = transport.get_security_options()
        options.digests, options.ciphers = (mac,), ("aes256-ctr",)
        try:
            key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
            transport.connect(username="acme", pkey=key)
            assert not transport.agreed_on_strict_kex
            client = paramiko.SFTPClient.from_transport(transport)
            for _ in range(2):
                assert sorted(client.listdir("/")) == ["inbox", "receipts"]
                transport.renegotiate_keys()
            assert sorted(client.listdir("/")) == ["inbox", "receipts"]
        finally:
            transport.close()


def test_the_contract_covers_the_clients_that_are_promised():
    """A program is not dropped from the tests unnoticed."""
    assert {
        "openssh-sftp", "openssh-scp", "psftp", "lftp", "rclone", "curl", "sshfs", "asyncssh",
        "paramiko", "filezilla",
    } <= set(CLIENTS)  # fmt: skip
