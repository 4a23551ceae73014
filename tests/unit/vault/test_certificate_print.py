"""Printing in another process: the key stays here, and what comes back is signed once or not at all."""

from __future__ import annotations

import datetime as dt
import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pikepdf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.unit.vault.test_certificate_sample import ORIGIN, issue, make_body
from vault.certificate.model import Certificate, certificate_to_json
from vault.certificate.pdf import render_process
from vault.certificate.pdf.document import ATTACHMENT
from vault.certificate.pdf.render_process import PrintFailed, language_of, print_certificate
from vault.certificate.signing import MAX_SIGNED, RSA_BITS, SIGNATURE, SigningError, SigningIdentity

NOW = dt.datetime(2056, 2, 1, 7, tzinfo=dt.UTC)
CERTIFICATE = issue(make_body())


@pytest.fixture(scope="module")
def identity() -> SigningIdentity:
    return SigningIdentity.create(ORIGIN, NOW)


# --- the identity ----------------------------------------------------------------------------------


def test_an_identity_survives_being_stored(identity: SigningIdentity) -> None:
    again = SigningIdentity.load(identity.encode())
    assert again.encode() == identity.encode()
    assert again.fingerprint == identity.fingerprint
    assert again.authority_pem.startswith("-----BEGIN CERTIFICATE-----\n")


def test_the_certificate_says_who_signs_and_that_the_key_signs_and_nothing_else(
    identity: SigningIdentity,
) -> None:
    certificate = identity.certificate
    assert certificate.subject.rfc4514_string() == f"CN=Strongroom {ORIGIN}"
    assert certificate.not_valid_before_utc <= NOW < certificate.not_valid_after_utc
    assert (certificate.not_valid_after_utc - NOW).days == 3652
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.content_commitment
    for other in ("key_cert_sign", "crl_sign", "key_encipherment", "key_agreement"):
        assert not getattr(usage.value, other)
    ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not ca.value.ca
    certificate.verify_directly_issued_by(identity.authority)
    identity.authority.verify_directly_issued_by(identity.authority)


def test_an_identitys_text_forms_do_not_show_the_key(identity: SigningIdentity) -> None:
    assert "key" not in repr(identity).lower().replace("keyusage", "")
    assert "PRIVATE" not in identity.authority_pem


def _joined(key: rsa.RSAPrivateKey, *certificates: x509.Certificate) -> bytes:
    parts = [key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())]
    parts += [certificate.public_bytes(Encoding.DER) for certificate in certificates]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def test_the_authority_issues_and_does_not_sign_and_no_one_has_its_key(
    identity: SigningIdentity,
) -> None:
    usage = identity.authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    ca = identity.authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (ca.ca, ca.path_length) == (True, 0)
    assert identity.authority.public_key() != identity.key.public_key()


def test_stored_bytes_that_are_no_identity_are_refused(identity: SigningIdentity) -> None:
    data = identity.encode()
    other = SigningIdentity.create(ORIGIN, NOW)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert _joined(identity.key, identity.certificate, identity.authority) == data
    for spoiled in (
        b"",
        b"\0\0\0",
        data[:-1],
        data[:100],
        data + b"\0",
        b"\xff\xff\xff\xff" + data[4:],
        data[: -len(identity.authority_der) - 4],
        _joined(identity.key, other.certificate, other.authority),
        _joined(identity.key, identity.certificate, other.authority),
        _joined(weak, identity.certificate, identity.authority),
        _joined(identity.key, identity.certificate, identity.authority, identity.authority),
    ):
        with pytest.raises(SigningError):
            SigningIdentity.load(spoiled)


def test_only_what_looks_like_signed_attributes_is_signed(identity: SigningIdentity) -> None:
    attributes = b"\x31" + b"\0" * 100
    signature = identity.sign(attributes)
    assert len(signature) == SIGNATURE == RSA_BITS // 8
    identity.key.public_key().verify(signature, attributes, padding.PKCS1v15(), hashes.SHA256())
    identity.sign(b"\x31" + b"\0" * (MAX_SIGNED - 1))
    for refused in (b"", b"\x31", b"\x30" + b"\0" * 100, b"\x31" + b"\0" * MAX_SIGNED):
        with pytest.raises(SigningError):
            identity.sign(refused)


# --- the print -------------------------------------------------------------------------------------


def test_the_same_certificate_is_printed_to_the_same_signed_bytes(
    identity: SigningIdentity,
) -> None:
    first = print_certificate(CERTIFICATE, "zh", identity)
    assert first == print_certificate(CERTIFICATE, "zh", identity)
    with pikepdf.open(io.BytesIO(first)) as pdf:
        assert pdf.attachments[ATTACHMENT].get_file().read_bytes() == certificate_to_json(
            CERTIFICATE
        )
        field = pdf.Root.AcroForm.Fields[0]
        assert field.V.SubFilter == "/ETSI.CAdES.detached"
        assert str(field.V.M) == "D:20560201070000Z"
        reference = pdf.Root.Perms.DocMDP.Reference[0]
        assert reference.TransformParams.P == 1
        with pdf.open_metadata() as metadata:
            assert metadata.pdfa_status == "3U"
            assert metadata["pdf:Producer"] == "strongroom 0.1.0"


def test_without_an_identity_the_print_says_that_it_is_not_signed() -> None:
    data = print_certificate(CERTIFICATE, "en", None)
    with pikepdf.open(io.BytesIO(data)) as pdf:
        assert "/AcroForm" not in pdf.Root
        assert list(pdf.attachments) == [ATTACHMENT]


def test_an_unknown_language_is_printed_in_both() -> None:
    assert [language_of(text) for text in ("en", "zh", "both", "de", "")] == [
        "en", "zh", "both", "both", "both",
    ]  # fmt: skip


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put another program in the place of the printing process."""

    def put(source: str) -> None:
        script = tmp_path / "child"
        head = f"#!{sys.executable}\nimport struct, sys\nout = sys.stdout.buffer\n"
        frame = "def frame(kind, data):\n    out.write(struct.pack('>cI', kind, len(data)) + data)\n    out.flush()\n"
        script.write_text(head + frame + source)
        script.chmod(0o700)
        monkeypatch.setattr(render_process.sys, "executable", str(script))

    return put


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", "the end of the other process"),
        ("sys.exit(3)", "the end of the other process"),
        ("out.write(b'p')", "the end of the other process"),
        ("out.write(struct.pack('>cI', b'p', 100) + b'%PDF-')", "the end of the other process"),
        ("out.write(struct.pack('>cI', b'p', 1 << 31))", "a frame of"),
        ("frame(b'p', b'hello')", "another answer"),
        ("frame(b'q', b'%PDF-1.7')", "another answer"),
        ("frame(b'a', b'%PDF-1.7')", "signed attributes: expected a set"),
        ("frame(b'a', b'1' + bytes(5000))", "signed attributes: expected a set"),
        (  # it stays until the signature was written, else the pipe breaks first
            "frame(b'a', b'1' + bytes(9)); frame(b'a', b'1' + bytes(9)); sys.stdin.buffer.read()",
            "another answer",
        ),
    ],
)
def test_a_child_that_ends_lies_or_asks_for_more_gets_no_print_out(
    source: str, found: str, child: Callable[[str], None], identity: SigningIdentity
) -> None:
    child("sys.stdin.buffer.read(20)\n" + source)
    with pytest.raises(
        PrintFailed, match=rf"certificate C-2056-0001: expected a print, found .*{found}"
    ):
        print_certificate(CERTIFICATE, "en", identity)


def test_a_child_asks_for_no_signature_where_there_is_no_identity(
    child: Callable[[str], None],
) -> None:
    child("frame(b'a', b'1' + bytes(9))")
    with pytest.raises(PrintFailed, match="another answer"):
        print_certificate(CERTIFICATE, "en", None)


def test_a_child_that_hangs_is_ended_and_one_that_does_not_read_is_too(
    child: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render_process, "PATIENCE_SECONDS", 0.5)
    large: Certificate = issue(make_body(400))
    child("import time; time.sleep(60)")
    begun = dt.datetime.now(dt.UTC)
    with pytest.raises(PrintFailed):
        print_certificate(large, "en", None)
    assert dt.datetime.now(dt.UTC) - begun < dt.timedelta(seconds=20)


def test_the_child_is_given_no_environment_and_no_key(
    child: Callable[[str], None], tmp_path: Path, identity: SigningIdentity
) -> None:
    """What reaches it is the certificate and the public part of the identity."""
    seen = tmp_path / "seen"
    child(
        "import os\n"
        "def take():\n"
        "    head = sys.stdin.buffer.read(5)\n"
        "    return head + sys.stdin.buffer.read(struct.unpack('>I', head[1:])[0])\n"
        f"open({str(seen)!r}, 'wb').write(take() + take() + take())\n"
        "names = sorted(set(os.environ) - {'LC_CTYPE'})\n"
        "frame(b'p', b'%PDF-' + repr((names, sorted(os.listdir('/proc/self/fd')))).encode())\n"
    )
    answer = print_certificate(CERTIFICATE, "en", identity)
    # 0 to 2, and the one that lists the folder.
    assert answer == b"%PDF-([], ['0', '1', '2', '3'])"
    frames = (
        (b"c", certificate_to_json(CERTIFICATE)),
        (b"x", identity.certificate_der),
        (b"i", identity.authority_der),
    )
    told = b"".join(struct.pack(">cI", kind, len(data)) + data for kind, data in frames)
    assert seen.read_bytes() == told
