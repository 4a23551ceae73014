"""Signatures made with a person's own SSH key: OpenSSH's SSHSIG format, made and verified.

Promises: `verify` accepts nothing that `ssh-keygen -Y verify` would refuse, and tells by
which key it was signed; `sign` makes what `ssh-keygen -Y sign` would. So an approver needs nothing
but OpenSSH, and so does anyone who checks an approval years later.

Leaves out: who the key belongs to (the caller compares the key or its fingerprint with an
account's), certificates, and keys in hardware tokens (`sk-` types).

Rules:
1. Key types: ssh-ed25519, ecdsa-sha2-nistp256/384/521, ssh-rsa keys of at least 2048 bits with
   rsa-sha2-512 or rsa-sha2-256 signatures. An RSA signature over SHA-1 (`ssh-rsa`) is refused.
2. The namespace binds a signature to its purpose: one made for files or for git verifies nothing here.
3. Parsing is strict: lengths, canonical base64, no trailing bytes.

Source: OpenSSH PROTOCOL.sshsig; RFC 4253 (6.6), RFC 5656 (3.1), RFC 8332 (3), RFC 8709 (6).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from vault.errors import VaultError

PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MAX_ARMORED: Final = 16 * 1024
"""Characters in the longest signature that is looked at (an RSA 16384 one has about 6,000)."""
MIN_RSA_BITS: Final = 2048

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
# ssh-keygen breaks its lines here; any width is read.
_LINE: Final = 70

_HASHES: Final[Mapping[bytes, Callable[[bytes], bytes]]] = {
    b"sha256": lambda data: hashlib.sha256(data).digest(),
    b"sha512": lambda data: hashlib.sha512(data).digest(),
}
_CURVES: Final[Mapping[str, tuple[bytes, hashes.HashAlgorithm]]] = {
    # RFC 5656, 6.2.1: the hash follows from the size of the curve.
    "secp256r1": (b"ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": (b"ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": (b"ecdsa-sha2-nistp521", hashes.SHA512()),
}
_RSA_HASHES: Final[Mapping[bytes, hashes.HashAlgorithm]] = {
    b"rsa-sha2-512": hashes.SHA512(),
    b"rsa-sha2-256": hashes.SHA256(),
}


class SignatureError(VaultError):
    """A signature is malformed, of a type not accepted, for something else, or false."""


def sign(private_key: PrivateKey, message: bytes, namespace: str) -> str:
    """The armored SSHSIG of `message` in `namespace`, as `ssh-keygen -Y sign` writes it.

    The message is hashed with SHA-512.

    Raises:
        SignatureError: a key that `verify` would refuse.
        RuntimeError: an empty namespace.
    """
    public = private_key.public_key()
    blob = _blob(public)
    signed = _signed_data(_namespace(namespace), b"", b"sha512", message)
    algorithm = _key_algorithm(public)
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        raw = private_key.sign(signed)
    elif isinstance(private_key, ec.EllipticCurvePrivateKey):
        digest = _CURVES[private_key.curve.name][1]
        r, s = decode_dss_signature(private_key.sign(signed, ec.ECDSA(digest)))
        raw = _mpint(r) + _mpint(s)
    else:
        algorithm = b"rsa-sha2-512"
        raw = private_key.sign(signed, padding.PKCS1v15(), hashes.SHA512())
    body = b"".join(
        (
            _MAGIC,
            struct.pack(">I", _VERSION),
            _string(blob),
            _string(_namespace(namespace)),
            _string(b""),
            _string(b"sha512"),
            _string(_string(algorithm) + _string(raw)),
        )
    )
    text = base64.b64encode(body).decode("ascii")
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join((_BEGIN, *lines, _END, ""))


def verify(armored: str, message: bytes, namespace: str) -> str:
    """The public key line (`type base64`) of the key that signed `message`.

    Whose key that is, is for the caller to find out. Steps:
    1. armor and base64; 2. the fields of the signature; 3. namespace; 4. the key; 5. the signature.

    Raises:
        SignatureError: any of them fails.
        RuntimeError: an empty namespace.
    """
    # 1. Armor.
    body = _unarmor(armored)

    # 2. Fields, in their order, and nothing after them.
    if body[: len(_MAGIC)] != _MAGIC:
        raise SignatureError("signature: expected the SSHSIG preamble, found another")
    reader = _Reader(body[len(_MAGIC) :])
    version = reader.number()
    if version != _VERSION:
        raise SignatureError(f"signature: expected version {_VERSION}, found {version}")
    blob, space, reserved, hash_name, wrapped = (reader.string() for _ in range(5))
    reader.close()

    # 3. What it was made for.
    if space != _namespace(namespace):
        raise SignatureError(f"signature: expected the namespace {namespace}, found another")
    if hash_name not in _HASHES:
        raise SignatureError("signature: expected sha256 or sha512 as its hash, found another")

    # 4. The key.
    public = _load(blob)

    # 5. The signature over the preamble, the fields and the message's hash.
    inner = _Reader(wrapped)
    algorithm, raw = inner.string(), inner.string()
    inner.close()
    signed = _signed_data(space, reserved, hash_name, message)
    try:
        _check(public, algorithm, raw, signed)
    except InvalidSignature as error:
        raise SignatureError("signature: expected one over this text, found a false one") from error
    return f"{_key_algorithm(public).decode()} {base64.b64encode(blob).decode('ascii')}"


def fingerprint(key: str | bytes) -> str:
    """`SHA256:…` of a public key, as `ssh-keygen -l` prints it.

    Args:
        key: a public key line (`type base64 [comment]`) or the decoded blob.

    Raises:
        SignatureError: a line without a base64 key.
    """
    if isinstance(key, str):
        parts = key.split()
        if len(parts) < 2:
            raise SignatureError("public key: expected a type and a base64 key, found other text")
        key = _unbase64(parts[1], "public key")
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode("ascii")
    return "SHA256:" + digest.rstrip("=")


def public_line(private_key: PrivateKey) -> str:
    """The public key line (`type base64`) of a private key (raises SignatureError)."""
    public = private_key.public_key()
    blob = base64.b64encode(_blob(public)).decode("ascii")
    return f"{_key_algorithm(public).decode()} {blob}"


def _check(public: _PublicKey, algorithm: bytes, raw: bytes, signed: bytes) -> None:
    """Verify `raw` over `signed` (raises InvalidSignature if it is false, else SignatureError)."""
    if isinstance(public, rsa.RSAPublicKey):
        # The key type is ssh-rsa; the signature type names the hash, and ssh-rsa means SHA-1.
        digest = _RSA_HASHES.get(algorithm)
        if digest is None:
            raise SignatureError("signature: expected rsa-sha2-512 or rsa-sha2-256, found another")
        public.verify(raw, signed, padding.PKCS1v15(), digest)
        return
    if algorithm != _key_algorithm(public):
        raise SignatureError("signature: expected the type of its key, found another")
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(raw, signed)
        return
    numbers = _Reader(raw)
    r, s = numbers.mpint(), numbers.mpint()
    numbers.close()
    public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_CURVES[public.curve.name][1]))


def _load(blob: bytes) -> _PublicKey:
    """Load a public key blob of an accepted type, in its one canonical encoding."""
    name = _Reader(blob).string()
    known = {b"ssh-ed25519", b"ssh-rsa", *(item[0] for item in _CURVES.values())}
    if name not in known:
        raise SignatureError("public key: expected Ed25519, ECDSA or RSA, found another type")
    try:
        public = load_ssh_public_key(name + b" " + base64.b64encode(blob))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError("public key: expected a valid key, found an invalid one") from error
    if not isinstance(
        public, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    ):
        raise SignatureError("public key: expected Ed25519, ECDSA or RSA, found another type")
    if _blob(public) != blob:
        raise SignatureError("public key: expected its canonical encoding, found another")
    return public


def _key_algorithm(public: _PublicKey) -> bytes:
    if isinstance(public, ed25519.Ed25519PublicKey):
        return b"ssh-ed25519"
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < MIN_RSA_BITS:
            raise SignatureError(
                f"public key: expected RSA of {MIN_RSA_BITS} bits or more, found {public.key_size}"
            )
        return b"ssh-rsa"
    if public.curve.name not in _CURVES:
        raise SignatureError("public key: expected a NIST curve, found another")
    return _CURVES[public.curve.name][0]


def _blob(public: _PublicKey) -> bytes:
    _key_algorithm(public)
    line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def _namespace(namespace: str) -> bytes:
    if not namespace:
        raise RuntimeError("namespace: expected a purpose, found nothing")
    return namespace.encode()


def _signed_data(space: bytes, reserved: bytes, hash_name: bytes, message: bytes) -> bytes:
    """What is really signed. The reserved field is ignored but signed, as the format demands."""
    fields = (space, reserved, hash_name, _HASHES[hash_name](message))
    return _MAGIC + b"".join(_string(field) for field in fields)


def _unarmor(armored: str) -> bytes:
    if len(armored) > MAX_ARMORED:
        raise SignatureError(
            f"signature: expected at most {MAX_ARMORED} characters, found {len(armored)}"
        )
    lines = armored.replace("\r\n", "\n").strip("\n").split("\n")
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise SignatureError("signature: expected BEGIN and END SSH SIGNATURE lines, found others")
    return _unbase64("".join(lines[1:-1]), "signature")


def _unbase64(text: str, subject: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"{subject}: expected base64, found other text") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise SignatureError(f"{subject}: expected canonical base64, found another form")
    return data


def _string(data: bytes) -> bytes:
    """RFC 4251, 5: a length of four bytes, then the bytes."""
    return struct.pack(">I", len(data)) + data


def _mpint(value: int) -> bytes:
    """RFC 4251, 5: a positive integer, with a zero byte before a set sign bit."""
    return _string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


class _Reader:
    """Reads the fields of an SSH structure; everything that does not fit is a SignatureError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        value: int = struct.unpack(">I", self._take(4))[0]
        return value

    def string(self) -> bytes:
        return self._take(self.number())

    def mpint(self) -> int:
        data = self.string()
        value = int.from_bytes(data, "big", signed=True)
        if value <= 0 or _mpint(value)[4:] != data:
            raise SignatureError("signature: expected canonical positive integers, found others")
        return value

    def close(self) -> None:
        left = len(self._data) - self._at
        if left:
            raise SignatureError(f"signature: expected its end, found {left} more bytes")

    def _take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise SignatureError(f"signature: expected {count} more bytes, found {len(piece)}")
        self._at += count
        return piece
