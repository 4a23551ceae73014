"""Signatures made here or by OpenSSH verify; keys that are exposed or unusable are refused in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from gateway.cli.support import signing
from gateway.errors import ConfigurationError
from vault.crypto import sshsig

SPACE = "strongroom-act"
MESSAGE = b'{"act":"hold.release"}'
needs_openssh = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)


def write_key(path: Path, key, *, password: bytes | None = None, mode: int = 0o600) -> Path:
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, protection))
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 3072),
    ],
    ids=["ed25519", "ecdsa", "rsa"],
)
def test_a_signature_made_here_names_its_key(tmp_path: Path, key) -> None:
    path = write_key(tmp_path / "k", key)
    signature = signing.sign(path, MESSAGE, SPACE)
    assert sshsig.verify(signature, MESSAGE, SPACE) == sshsig.public_line(key)


@needs_openssh
def test_a_public_key_file_makes_openssh_sign(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    write_key(tmp_path / "k", key)
    (tmp_path / "k.pub").write_text(sshsig.public_line(key) + " me\n")
    signature = signing.sign(tmp_path / "k.pub", MESSAGE, SPACE)
    assert sshsig.verify(signature, MESSAGE, SPACE) == sshsig.public_line(key)


@needs_openssh
@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="ssh-agent is not installed")
def test_a_key_that_only_an_agent_holds_signs_by_its_public_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    private = write_key(tmp_path / "k", key)
    socket = f"/tmp/sr-agent-{os.getpid()}"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        for _ in range(50):
            added = subprocess.run(["ssh-add", "-q", str(private)], check=False)
            if added.returncode == 0:
                break
            assert agent.poll() is None
            subprocess.run(["sleep", "0.1"], check=True)
        private.unlink()
        (tmp_path / "only.pub").write_text(sshsig.public_line(key) + "\n")
        signature = signing.sign(tmp_path / "only.pub", MESSAGE, SPACE)
    finally:
        agent.terminate()
        agent.wait(10)
    assert sshsig.verify(signature, MESSAGE, SPACE) == sshsig.public_line(key)


@needs_openssh
def test_a_public_key_without_its_partner_is_told_with_openssh_s_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    line = sshsig.public_line(ed25519.Ed25519PrivateKey.generate())
    (tmp_path / "k.pub").write_text(line + "\n")
    with pytest.raises(ConfigurationError, match=r"expected ssh-keygen to sign with it, found \S"):
        signing.sign(tmp_path / "k.pub", MESSAGE, SPACE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o644, 0o666])
def test_a_private_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "k", ed25519.Ed25519PrivateKey.generate(), mode=mode)
    with pytest.raises(ConfigurationError, match=f"expected mode 0600.*found {mode:04o}"):
        signing.sign(path, MESSAGE, SPACE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n-----END OPENSSH PRIVATE KEY-----\n",
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
    ],
    ids=["empty", "broken", "pkcs8"],
)
def test_what_is_no_openssh_key_is_refused_without_its_content(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        signing.sign(path, MESSAGE, SPACE)
    assert str(caught.value) == (
        f"key {path}: expected a private key in OpenSSH's format, found other content"
    )


def test_a_key_too_weak_for_an_approval_is_refused(tmp_path: Path) -> None:
    weak = write_key(tmp_path / "rsa", rsa.generate_private_key(65537, 1024))
    with pytest.raises(ConfigurationError, match="2048 bits"):
        signing.sign(weak, MESSAGE, SPACE)


class _Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "good"), [("right horse", True), ("wrong", False)])
def test_a_passphrase_is_asked_for_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, good: bool
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    path = write_key(tmp_path / "k", key, password=b"right horse")
    monkeypatch.setattr("sys.stdin", _Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: typed)
    if good:
        signature = signing.sign(path, MESSAGE, SPACE)
        assert sshsig.verify(signature, MESSAGE, SPACE) == sshsig.public_line(key)
    else:
        with pytest.raises(ConfigurationError, match="is the passphrase right") as caught:
            signing.sign(path, MESSAGE, SPACE)
        assert typed not in str(caught.value)


def test_without_a_terminal_a_passphrase_is_never_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_key(tmp_path / "k", ed25519.Ed25519PrivateKey.generate(), password=b"pass phrase")
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(ConfigurationError, match="expected a terminal"):
            signing.sign(path, MESSAGE, SPACE)


def test_a_name_without_a_key_or_a_key_without_a_name_is_refused() -> None:
    assert signing.person("", None) is None
    with pytest.raises(ConfigurationError, match="--as officer1: expected --key"):
        signing.person("officer1", None)
    with pytest.raises(ConfigurationError, match="--key: expected it together with --as"):
        signing.person("", Path("k"))
