"""SSH keys and signatures, as far as the core needs them: on bytes, with `cryptography`, no network.

Public keys and signature blobs in the encodings of RFC 4253 (section 6.6), RFC 8332 (rsa-sha2-256/512),
RFC 5656 (ecdsa) and RFC 8709 (ed25519). `ssh-rsa` with SHA-1 and certificate algorithms are refused:
certificates would have to be validated, and nothing here does.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from gateway.errors import GatewayError

# Signature algorithm → key types it may be made with.
SIGNATURE_ALGORITHMS: Final[dict[str, str]] = {
    "ssh-ed25519": "ssh-ed25519",
    "rsa-sha2-512": "ssh-rsa",
    "rsa-sha2-256": "ssh-rsa",
    "ecdsa-sha2-nistp256": "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384": "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521": "ecdsa-sha2-nistp521",
}
KEY_TYPES: Final = frozenset(SIGNATURE_ALGORITHMS.values())
RSA_MINIMUM_BITS: Final = 3072
RSA_HOST_BITS: Final = 4096
_HASHES: Final = {
    "rsa-sha2-512": hashes.SHA512(),
    "rsa-sha2-256": hashes.SHA256(),
    "ecdsa-sha2-nistp256": hashes.SHA256(),
    "ecdsa-sha2-nistp384": hashes.SHA384(),
    "ecdsa-sha2-nistp521": hashes.SHA512(),
}


class KeyFormatError(GatewayError):
    """A key or signature is not what it should be."""


def string(data: bytes) -> bytes:
    """An SSH string (RFC 4251, section 5)."""
    return struct.pack(">I", len(data)) + data


def take_string(data: bytes) -> tuple[bytes, bytes]:
    """Split an SSH string off `data` (raises KeyFormatError)."""
    if len(data) < 4:
        raise KeyFormatError("SSH encoding: expected a length, found the end")
    (length,) = struct.unpack_from(">I", data)
    if length > len(data) - 4:
        raise KeyFormatError(f"SSH encoding: expected {length} bytes, found {len(data) - 4}")
    return data[4 : 4 + length], data[4 + length :]


def fingerprint(blob: bytes) -> str:
    """`SHA256:…` as OpenSSH prints it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).rstrip(b"=")
    return f"SHA256:{digest.decode()}"


def parse_public(line: str) -> tuple[str, bytes]:
    """Parse a public key line (`type base64 [comment]`).

    Returns:
        The key type and its blob.

    Raises:
        KeyFormatError: not a key, a type that is not accepted, or an RSA key below 3072 bits.
    """
    parts = line.split()
    if len(parts) < 2:
        raise KeyFormatError("public key: expected `type base64 [comment]`, found something else")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except ValueError as error:
        raise KeyFormatError("public key: expected base64, found something else") from error
    if parts[0] not in KEY_TYPES:
        raise KeyFormatError(
            f"public key: expected one of {', '.join(sorted(KEY_TYPES))}, found {parts[0]}"
        )
    load_public(blob)
    return parts[0], blob


def load_public(
    blob: bytes,
) -> ed25519.Ed25519PublicKey | rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """Decode a key blob strictly (raises KeyFormatError)."""
    kind, _rest = take_string(blob)
    name = kind.decode("ascii", "replace")
    if name not in KEY_TYPES:
        raise KeyFormatError(f"public key: expected an accepted type, found {name[:32]!r}")
    try:
        key = load_ssh_public_key(kind + b" " + base64.b64encode(blob))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFormatError(
            f"public key: expected a valid {name}, found a malformed one"
        ) from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_MINIMUM_BITS:
            raise KeyFormatError(
                f"public key: expected RSA of at least {RSA_MINIMUM_BITS} bits, found {key.key_size}"
            )
        return key
    if isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        return key
    raise KeyFormatError(f"public key: expected an accepted type, found {name}")


def verify(algorithm: str, blob: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` (an SSH signature blob) over `data` was made by the key of `blob`.

    Args:
        algorithm: the signature algorithm announced; key and signature must both fit it.
    """
    try:
        if SIGNATURE_ALGORITHMS.get(algorithm) != take_string(blob)[0].decode("ascii", "replace"):
            return False
        made_with, rest = take_string(signature)
        raw, rest = take_string(rest)
        if rest or made_with.decode("ascii", "replace") != algorithm:
            return False
        key = load_public(blob)
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(raw, data)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(raw, data, padding.PKCS1v15(), _HASHES[algorithm])
        else:
            r, rest = take_string(raw)
            s, rest = take_string(rest)
            if rest:
                return False
            der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
            key.verify(der, data, ec.ECDSA(_HASHES[algorithm]))
    except (InvalidSignature, KeyFormatError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class HostKeyPair:
    """One of the gateway's own host keys: signs exchange hashes, never leaves the core."""

    algorithm: str  # of the key: ssh-ed25519 or ssh-rsa
    blob: bytes
    _private: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

    @classmethod
    def load(cls, secret: bytes) -> HostKeyPair:
        """Load from OpenSSH's private key format (the keyring holds it)."""
        # Made here and kept under an authenticated seal: to look for primes again takes half a second.
        private = load_ssh_private_key(secret, password=None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(private, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
            raise KeyFormatError("host key: expected ed25519 or rsa, found another type")
        line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        kind, encoded = line.split()[:2]
        return cls(kind.decode(), base64.b64decode(encoded), private)

    def public_line(self) -> str:
        """`type base64`, as a known_hosts file has it."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode()}"

    def sign(self, algorithm: str, data: bytes) -> bytes:
        """An SSH signature blob over `data` (raises KeyFormatError for a foreign algorithm)."""
        if isinstance(self._private, ed25519.Ed25519PrivateKey) and algorithm == "ssh-ed25519":
            raw = self._private.sign(data)
        elif isinstance(self._private, rsa.RSAPrivateKey) and algorithm in {
            "rsa-sha2-512",
            "rsa-sha2-256",
        }:
            raw = self._private.sign(data, padding.PKCS1v15(), _HASHES[algorithm])
        else:
            raise KeyFormatError(
                f"host key: expected an algorithm of {self.algorithm}, found {algorithm[:32]!r}"
            )
        return string(algorithm.encode()) + string(raw)


def new_host_keys() -> dict[str, bytes]:
    """New host keys for a store's keyring, by secret name, in OpenSSH's private key format."""
    made: dict[str, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey] = {
        "ssh-host-ed25519": ed25519.Ed25519PrivateKey.generate(),
        "ssh-host-rsa": rsa.generate_private_key(public_exponent=65537, key_size=RSA_HOST_BITS),
    }
    return {
        name: key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        for name, key in made.items()
    }
