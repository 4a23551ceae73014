"""A person's own signature: with a private key file, or through OpenSSH for agents and tokens.

Promises: the private key is read when it is needed and never kept; a file that others could read is
refused, as ssh does. Signatures are SSHSIG (OpenSSH, PROTOCOL.sshsig) in the namespace asked for.
Leaves out: whose key it is: the core compares it with the account's.

Rules: given a public key file, `ssh-keygen -Y sign` makes the signature, so that the private key can be
in an agent or in hardware. A passphrase is asked for on the terminal, never taken from an argument.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from gateway.cli.support import output
from gateway.errors import ConfigurationError
from vault.crypto import sshsig
from vault.storage import secret_file

_LIMIT: Final = 64 * 1024
_PUBLIC: Final = (b"ssh-", b"ecdsa-", b"sk-")


@dataclass(frozen=True)
class Person:
    """Who acts: the account's name, and what signs (message, namespace) for it."""

    name: str
    sign: Callable[[bytes, str], str]


def person(name: str, key: Path | None) -> Person | None:
    """The person of `--as` and `--key`; None when neither is given.

    Raises:
        ConfigurationError: one without the other.
    """
    if not name and key is None:
        return None
    if not name:
        raise ConfigurationError("--key: expected it together with --as NAME")
    if key is None:
        raise ConfigurationError(f"--as {name}: expected --key FILE to sign with")
    return Person(name, lambda message, namespace: sign(key, message, namespace))


def required(name: str, key: Path | None) -> Person:
    """Like `person`, for acts that only a person may do (raises ConfigurationError)."""
    found = person(name, key)
    if found is None:
        raise ConfigurationError("--as: expected NAME, and --key FILE to sign this act")
    return found


def public_key(path: Path) -> str:
    """The one public key line of a file (raises ConfigurationError)."""
    text = output.read_text(path, _LIMIT)
    if "PRIVATE KEY" in text:
        # It would travel to the core and be refused there; better that it never leaves.
        raise ConfigurationError(
            f"{path}: expected a public key (its .pub file), found a private key"
        )
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise ConfigurationError(f"{path}: expected one public key line, found {len(lines)}")
    return lines[0].strip()


def sign(path: Path, message: bytes, namespace: str) -> str:
    """The armored SSHSIG of a message, made with the key that `path` is or names.

    Raises:
        ConfigurationError: the file is no usable key, or OpenSSH could not sign with it.
    """
    data = output.read_file(path, _LIMIT)
    if data.startswith(_PUBLIC):
        return _sign_with_openssh(path, message, namespace)
    if fault := secret_file.mode_fault(path.stat().st_mode):
        raise ConfigurationError(f"key {path}: {fault}")
    try:
        return sshsig.sign(_load(path, data), message, namespace)
    except sshsig.SignatureError as error:
        raise ConfigurationError(f"key {path}: {error}") from error


def _load(path: Path, data: bytes) -> sshsig.PrivateKey:
    password: bytes | None = None
    try:
        try:
            key = load_ssh_private_key(data, password)
        except TypeError:  # what the library raises for a key with a passphrase
            password = _passphrase(path)
            key = load_ssh_private_key(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        found = "another (is the passphrase right?)" if password else "other content"
        raise ConfigurationError(
            f"key {path}: expected a private key in OpenSSH's format, found {found}"
        ) from error
    if not isinstance(
        key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    ):
        raise ConfigurationError(
            f"key {path}: expected Ed25519, ECDSA or RSA, found another type;"
            " for a hardware key give its .pub file"
        )
    return key


def _passphrase(path: Path) -> bytes:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"key {path}: expected a terminal to ask for its passphrase on;"
            " load it into an agent and give its .pub file"
        )
    return getpass.getpass(f"Passphrase for {path}: ").encode()


def _sign_with_openssh(path: Path, message: bytes, namespace: str) -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise ConfigurationError(
            f"key {path}: signing with the partner of a public key takes ssh-keygen, which is not installed"
        )
    # On a terminal, what OpenSSH asks for (a touch, a PIN) must be seen.
    shown = None if os.isatty(2) else subprocess.PIPE
    done = subprocess.run(
        [program, "-Y", "sign", "-n", namespace, "-f", str(path)],
        input=message,
        stdout=subprocess.PIPE,
        stderr=shown,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()
        raise ConfigurationError(
            f"key {path}: expected ssh-keygen to sign with it,"
            f" found {said[-1] if said else f'exit code {done.returncode}'}"
        )
    return done.stdout.decode("ascii", "replace")
