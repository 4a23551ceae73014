"""A change of host keys as an OpenSSH client sees it: learned, proven, and then used."""

from __future__ import annotations

import base64
import subprocess

import paramiko
import pytest

from gateway.core.login import ssh_keys
from tests.support.sftp import Gateway


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template) as running:
        yield running


def client(gateway: Gateway, known, *more: str) -> subprocess.CompletedProcess:
    """OpenSSH with a known_hosts file of its own that it may write to."""
    command = gateway.sftp_command()
    command[1:1] = ["-o", f"UserKnownHostsFile={known}", "-o", "UpdateHostKeys=yes", *more]
    command = [word.replace("LogLevel=ERROR", "LogLevel=VERBOSE") for word in command]
    return subprocess.run(
        command, input="ls /\n", capture_output=True, text=True, timeout=30, check=False
    )


def fingerprints(known) -> set[str]:
    return {
        ssh_keys.fingerprint(base64.b64decode(line.split()[2]))
        for line in known.read_text("ascii").splitlines()
        if line and not line.startswith("#")
    }


def shown(gateway: Gateway, which: str) -> set[str]:
    return {each["fingerprint"] for each in gateway.admin.call("keys.host")[which]}


def test_openssh_learns_announced_keys_with_proof_and_logs_in_after_the_change(gateway, tmp_path):
    """Knowing the ed25519 key alone at first; the host key of the exchange is checked each time."""
    known = tmp_path / "known_hosts"
    known.write_bytes((gateway.folder / "demo" / "known_hosts").read_bytes())
    strict = ("-o", "StrictHostKeyChecking=yes")
    old = shown(gateway, "in_use")
    assert len(fingerprints(known)) == 1

    # 1. In normal operation it learns the other type.
    done = client(gateway, known, *strict)
    assert done.returncode == 0, done.stderr
    assert fingerprints(known) == old

    # 2. Announced: both are known afterwards; the old ones are still used.
    gateway.admin.call("keys.rotate", what="host")
    new = shown(gateway, "announced")
    assert len(new) == 2
    # Those who have the key alone see nothing of it.
    assert gateway.sftp("ls /\n").returncode == 0
    for algorithm in ("rsa-sha2-256", "rsa-sha2-512", "ssh-ed25519"):
        again = tmp_path / f"known-{algorithm}"
        again.write_bytes(known.read_bytes())
        done = client(gateway, again, *strict, "-o", f"HostKeyAlgorithms={algorithm}")
        assert done.returncode == 0, done.stderr
        if algorithm != "ssh-ed25519":
            # OpenSSH learns what it would negotiate: here RSA keys only.
            assert len(fingerprints(again) & new) == 1, done.stderr
    done = client(gateway, known, *strict)
    assert done.returncode == 0, done.stderr
    assert fingerprints(known) == old | new
    assert shown(gateway, "in_use") == old

    # 3. Changed: the same client goes on, forgets the old ones, and one that knows only them warns.
    gateway.admin.call("keys.rotate", what="host", at_once=True)
    assert shown(gateway, "in_use") == new
    for algorithm in ("ssh-ed25519", "rsa-sha2-512"):
        again = tmp_path / f"after-{algorithm}"
        again.write_bytes(known.read_bytes())
        done = client(gateway, again, *strict, "-o", f"HostKeyAlgorithms={algorithm}")
        assert done.returncode == 0, done.stderr
    done = client(gateway, known, *strict)
    assert done.returncode == 0, done.stderr
    assert fingerprints(known) == new
    stale = gateway.sftp("ls /\n")
    assert stale.returncode != 0
    assert "Host key verification failed" in stale.stderr


class Asking(paramiko.Transport):
    """A client that asks for proof of keys of its choice."""

    def prove(self, *blobs: bytes) -> paramiko.Message | None:
        return self.global_request("hostkeys-prove-00@openssh.com", blobs, wait=True)


def test_nothing_is_proven_before_a_login_nor_for_a_key_that_is_not_ours(gateway):
    announced = [
        base64.b64decode(each["line"].split()[1])
        for each in gateway.admin.call("keys.host")["in_use"]
    ]
    key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
    transport = Asking(("127.0.0.1", gateway.port))
    try:
        transport.connect(username="acme", pkey=key)
        assert transport.prove(key.asbytes()) is None
        assert transport.prove(announced[0], key.asbytes()) is None
        assert transport.prove(announced[0], announced[0]) is None
        assert transport.prove() is None
        assert transport.prove(*[announced[0] + bytes([n]) for n in range(12)]) is None
        reply = transport.prove(*announced)
        assert reply is not None
        for blob in announced:
            signature = reply.get_binary()
            statement = b"".join(
                ssh_keys.string(part)
                for part in (b"hostkeys-prove-00@openssh.com", transport.session_id, blob)
            )
            algorithm = ssh_keys.take_string(signature)[0].decode()
            assert ssh_keys.verify(algorithm, blob, signature, statement)
        assert reply.get_remainder() == b""
    finally:
        transport.close()
    transport = Asking(("127.0.0.1", gateway.port))
    try:
        transport.start_client(timeout=10)
        # Before a login nothing of a connection is answered; it ends, or the answer is no.
        with pytest.raises((paramiko.SSHException, EOFError)):
            transport.auth_none("acme")
        assert transport.prove(*announced) is None
    finally:
        transport.close()
