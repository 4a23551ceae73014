"""SSH signatures: OpenSSH's are accepted, ours are accepted by OpenSSH, everything else is refused."""

from __future__ import annotations

import base64
import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)

from vault.crypto.sshsig import (
    MAX_ARMORED,
    PrivateKey,
    SignatureError,
    fingerprint,
    public_line,
    sign,
    verify,
)

NAMESPACE = "strongroom-approval-v1"
MESSAGE = "I approve batch B1, 会计档案.\n".encode()

KEYGEN = shutil.which("ssh-keygen")
needs_openssh = pytest.mark.skipif(KEYGEN is None, reason="ssh-keygen is not installed")

TYPES = [
    ("ed25519", ["-t", "ed25519"]),
    ("rsa", ["-t", "rsa", "-b", "2048"]),
    ("nistp256", ["-t", "ecdsa", "-b", "256"]),
    ("nistp384", ["-t", "ecdsa", "-b", "384"]),
    ("nistp521", ["-t", "ecdsa", "-b", "521"]),
]
IDS = [name for name, _ in TYPES]


def keygen(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    assert KEYGEN is not None
    return subprocess.run(
        [KEYGEN, *arguments], input=stdin, capture_output=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    for name, options in TYPES:
        made = keygen(*options, "-q", "-N", "", "-C", "", "-f", str(folder / name))
        assert made.returncode == 0, made.stderr
    return {name: folder / name for name, _ in TYPES}


@needs_openssh
@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("digest", ["sha512", "sha256"])
def test_a_signature_by_ssh_keygen_verifies_and_names_its_key(
    name: str, digest: str, keys: dict[str, Path]
) -> None:
    made = keygen(
        "-Y", "sign", "-f", str(keys[name]), "-n", NAMESPACE, "-O", f"hashalg={digest}",
        stdin=MESSAGE,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    line = verify(made.stdout.decode(), MESSAGE, NAMESPACE)
    public = keys[name].with_suffix(".pub").read_text().split()
    assert line.split() == public[:2]
    shown = keygen("-l", "-f", str(keys[name]) + ".pub").stdout.decode().split()[1]
    assert fingerprint(line) == shown
    assert fingerprint(base64.b64decode(public[1])) == shown


@needs_openssh
@pytest.mark.parametrize("name", IDS)
def test_a_signature_by_us_verifies_with_ssh_keygen(
    name: str, keys: dict[str, Path], tmp_path: Path
) -> None:
    private = load_ssh_private_key(keys[name].read_bytes(), None)
    assert isinstance(
        private, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    )
    signature = tmp_path / "message.sig"
    signature.write_text(sign(private, MESSAGE, NAMESPACE))
    allowed = tmp_path / "allowed"
    allowed.write_text(f"officer {public_line(private)}\n")
    arguments = ("-Y", "verify", "-f", str(allowed), "-I", "officer", "-s", str(signature), "-n")
    good = keygen(*arguments, NAMESPACE, stdin=MESSAGE)
    assert good.returncode == 0, good.stderr
    assert keygen(*arguments, NAMESPACE, stdin=MESSAGE + b" ").returncode != 0
    assert keygen(*arguments, "file", stdin=MESSAGE).returncode != 0


def private_keys() -> dict[str, PrivateKey]:
    return {
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "nistp256": ec.generate_private_key(ec.SECP256R1()),
        "nistp521": ec.generate_private_key(ec.SECP521R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
    }


OURS = private_keys()


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_we_sign_we_verify_and_nothing_else(name: str) -> None:
    armored = sign(OURS[name], MESSAGE, NAMESPACE)
    assert verify(armored, MESSAGE, NAMESPACE) == public_line(OURS[name])
    for message, namespace in [(MESSAGE + b"\n", NAMESPACE), (b"", NAMESPACE)]:
        with pytest.raises(SignatureError, match="false one"):
            verify(armored, message, namespace)
    with pytest.raises(SignatureError, match="namespace file"):
        verify(armored, MESSAGE, "file")


def unarmor(armored: str) -> bytes:
    return base64.b64decode("".join(armored.splitlines()[1:-1]))


def armor(body: bytes) -> str:
    text = base64.b64encode(body).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n"


def test_every_changed_byte_of_a_signature_is_refused() -> None:
    body = unarmor(sign(OURS["ed25519"], MESSAGE, NAMESPACE))
    for index in range(len(body)):
        for change in (0x01, 0x80):
            spoiled = bytearray(body)
            spoiled[index] ^= change
            with pytest.raises(SignatureError):
                verify(armor(bytes(spoiled)), MESSAGE, NAMESPACE)


def test_every_truncation_and_any_trailing_byte_is_refused() -> None:
    body = unarmor(sign(OURS["nistp256"], MESSAGE, NAMESPACE))
    for length in range(len(body)):
        with pytest.raises(SignatureError):
            verify(armor(body[:length]), MESSAGE, NAMESPACE)
    with pytest.raises(SignatureError, match="1 more bytes"):
        verify(armor(body + b"\0"), MESSAGE, NAMESPACE)


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def assemble(
    blob: bytes, algorithm: bytes, raw: bytes, *, hash_name: bytes = b"sha512", version: int = 1
) -> str:
    fields = (blob, NAMESPACE.encode(), b"", hash_name, string(algorithm) + string(raw))
    return armor(b"SSHSIG" + struct.pack(">I", version) + b"".join(map(string, fields)))


def to_sign(hash_name: bytes = b"sha512") -> bytes:
    digest = hashlib.new(hash_name.decode(), MESSAGE).digest()
    return b"SSHSIG" + b"".join(map(string, (NAMESPACE.encode(), b"", hash_name, digest)))


def blob_of(key: PrivateKey) -> bytes:
    return base64.b64decode(public_line(key).split()[1])


def test_an_rsa_signature_over_sha1_is_refused_although_it_is_a_true_one() -> None:
    key = OURS["rsa"]
    assert isinstance(key, rsa.RSAPrivateKey)
    raw = key.sign(to_sign(), padding.PKCS1v15(), hashes.SHA1())
    with pytest.raises(SignatureError, match="rsa-sha2-512 or rsa-sha2-256"):
        verify(assemble(blob_of(key), b"ssh-rsa", raw), MESSAGE, NAMESPACE)


def test_an_rsa_signature_over_sha256_is_accepted_under_its_own_name_only() -> None:
    key = OURS["rsa"]
    assert isinstance(key, rsa.RSAPrivateKey)
    raw = key.sign(to_sign(), padding.PKCS1v15(), hashes.SHA256())
    assert verify(assemble(blob_of(key), b"rsa-sha2-256", raw), MESSAGE, NAMESPACE)
    with pytest.raises(SignatureError, match="false one"):
        verify(assemble(blob_of(key), b"rsa-sha2-512", raw), MESSAGE, NAMESPACE)


def test_a_short_rsa_key_neither_signs_nor_verifies() -> None:
    short = rsa.generate_private_key(65537, 1024)
    with pytest.raises(SignatureError, match="2048 bits or more, found 1024"):
        sign(short, MESSAGE, NAMESPACE)
    line = short.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    blob = base64.b64decode(line.split()[1])
    raw = short.sign(to_sign(), padding.PKCS1v15(), hashes.SHA512())
    with pytest.raises(SignatureError, match="2048 bits or more"):
        verify(assemble(blob, b"rsa-sha2-512", raw), MESSAGE, NAMESPACE)


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (b"ssh-dss", "another type"),
        (b"sk-ssh-ed25519@openssh.com", "another type"),
        (b"ssh-ed25519-cert-v01@openssh.com", "another type"),
        (b"ssh-ed25519", "invalid one"),
        (b"ecdsa-sha2-nistp256", "invalid one"),
    ],
)
def test_other_key_types_and_broken_keys_are_refused(kind: bytes, match: str) -> None:
    blob = string(kind) + string(b"x" * 31)
    with pytest.raises(SignatureError, match=match):
        verify(assemble(blob, kind, b"x" * 64), MESSAGE, NAMESPACE)


def test_another_version_hash_or_signature_type_is_refused() -> None:
    key = OURS["ed25519"]
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    raw, blob = key.sign(to_sign()), blob_of(key)
    assert verify(assemble(blob, b"ssh-ed25519", raw), MESSAGE, NAMESPACE)
    with pytest.raises(SignatureError, match="version 1, found 2"):
        verify(assemble(blob, b"ssh-ed25519", raw, version=2), MESSAGE, NAMESPACE)
    with pytest.raises(SignatureError, match="sha256 or sha512"):
        verify(assemble(blob, b"ssh-ed25519", raw, hash_name=b"md5"), MESSAGE, NAMESPACE)
    with pytest.raises(SignatureError, match="type of its key"):
        verify(assemble(blob, b"ecdsa-sha2-nistp256", raw), MESSAGE, NAMESPACE)


def test_an_ecdsa_signature_has_one_encoding_of_its_numbers() -> None:
    key = OURS["nistp256"]
    with pytest.raises(SignatureError, match="canonical positive integers"):
        verify(
            assemble(blob_of(key), b"ecdsa-sha2-nistp256", string(b"\x00\x01") + string(b"\x01")),
            MESSAGE,
            NAMESPACE,
        )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\n????\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nU1NIU0l\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN PGP SIGNATURE-----\nU1NIU0lH\n-----END PGP SIGNATURE-----\n",
        "x" * (MAX_ARMORED + 1),
    ],
)
def test_text_that_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(SignatureError):
        verify(text, MESSAGE, NAMESPACE)


def test_line_ends_of_another_system_do_not_matter() -> None:
    armored = sign(OURS["ed25519"], MESSAGE, NAMESPACE).replace("\n", "\r\n")
    assert verify(armored, MESSAGE, NAMESPACE) == public_line(OURS["ed25519"])


def test_a_signature_without_a_purpose_is_misuse() -> None:
    with pytest.raises(RuntimeError, match="namespace"):
        sign(OURS["ed25519"], MESSAGE, "")


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 ?", "ssh-ed25519 AAA"])
def test_a_fingerprint_of_something_that_is_no_key_line_is_refused(line: str) -> None:
    with pytest.raises(SignatureError):
        fingerprint(line)
