"""The key a gateway signs its prints with, and the X.509 certificates that go with it.

Promises: `SigningIdentity` is one value that a keyring can hold; its certificate says who signs
(`Strongroom <origin>`) and that the key signs and does nothing else. Signing needs no parser: what is signed
comes as bytes, and is refused unless it looks like what a signature on a PDF covers.

Leaves out: an authority that others know. Nobody vouches for a gateway; who wants to trust its prints
takes the authority below from the gateway itself (`strongroom certificate keys`) or compares the signer's
fingerprint, as with an SSH host key. The ledger's proof in the attached file does not depend on it.

Rules:
1. RSA of 3072 bits with SHA-256 (PKCS #1 v1.5, RFC 8017 8.2): every reader of PDF verifies it, and its
   strength matches the ledger's (128 bits, NIST SP 800-57).
2. keyUsage is digitalSignature and nonRepudiation (RFC 5280, 4.2.1.3), no CA, ten years.
3. The certificate is issued by an authority that exists for this one act: its key is dropped at once, so that
   trusting it lets nobody issue anything else. It is there because readers build on authorities: NSS (and
   so pdfsig) trusts no self-signed certificate of a signer.
4. The stored form is `lp(key, PKCS #8 DER) || lp(certificate, DER) || lp(authority, DER)`, nothing behind it,
   where `lp(x) = u32(length) || x`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from vault.errors import VaultError

RSA_BITS: Final = 3072
SIGNATURE: Final = RSA_BITS // 8
"""Bytes of a signature."""
VALID_DAYS: Final = 3652
MAX_SIGNED: Final = 4096
"""Bytes of the longest signed attributes: a digest, a type and a reference to the certificate."""
_COMMON_NAME: Final = 64  # characters, RFC 5280 (ub-common-name)
# DER of a SET OF with a length of two bytes or fewer: what a CMS signature covers (RFC 5652, 5.4).
_SET: Final = 0x31


class SigningError(VaultError):
    """A stored identity is not one, or what is to be signed is not what this key signs."""


@dataclass(frozen=True)
class SigningIdentity:
    """A gateway's key for signing prints, its certificate, and the authority that issued that."""

    key: rsa.RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate
    authority: x509.Certificate

    @classmethod
    def create(cls, origin: str, now: datetime) -> SigningIdentity:
        """Make a key and its certificate, valid from `now` (aware) for ten years.

        It takes a second or so.

        Args:
            origin: the gateway's name in the ledger.
        """
        key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        issuing = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        signer, issuer = (_name(f"Strongroom {origin}"), _name(f"Strongroom authority {origin}"))
        authority = (
            _begin(issuer, issuer, issuing.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(issues=True), critical=True)
            .sign(issuing, hashes.SHA256())
        )
        certificate = (
            _begin(signer, issuer, key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(issues=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.public_key()),
                critical=False,
            )
            .sign(issuing, hashes.SHA256())
        )
        return cls(key, certificate, authority)

    @classmethod
    def load(cls, data: bytes) -> SigningIdentity:
        """Read the stored form.

        Raises:
            SigningError: it has another form, or parts that do not belong together.
        """
        try:
            parts = []
            while data:
                (length,) = struct.unpack_from(">I", data)
                if length > len(data) - 4:
                    raise SigningError("signing identity: expected more bytes, found its end")
                parts.append(data[4 : 4 + length])
                data = data[4 + length :]
            secret, *public = parts
            # Not checked for primes again, which takes longer than a signature: it comes out of a record
            # that only the house's keys open and make.
            key = load_der_private_key(secret, password=None, unsafe_skip_rsa_key_validation=True)
            certificate, authority = (x509.load_der_x509_certificate(each) for each in public)
            certificate.verify_directly_issued_by(authority)
        except (
            struct.error,
            ValueError,
            TypeError,
            UnsupportedAlgorithm,
            InvalidSignature,
        ) as error:
            raise SigningError(
                "signing identity: expected a key and its certificates, found other bytes"
            ) from error
        if (
            not isinstance(key, rsa.RSAPrivateKey)
            or key.key_size != RSA_BITS
            or certificate.public_key() != key.public_key()
        ):
            raise SigningError(
                f"signing identity: expected an RSA key of {RSA_BITS} bits and its certificate, "
                "found others"
            )
        return cls(key, certificate, authority)

    def encode(self) -> bytes:
        """The stored form: a secret."""
        key = self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        parts = (key, self.certificate_der, self.authority_der)
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    @property
    def certificate_der(self) -> bytes:
        """The signer's certificate, public."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def authority_der(self) -> bytes:
        """The authority's certificate, public."""
        return self.authority.public_bytes(Encoding.DER)

    @property
    def authority_pem(self) -> str:
        """The authority's certificate as people pass it on: what a reader of PDF is told to trust."""
        return self.authority.public_bytes(Encoding.PEM).decode("ascii")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the signer's certificate, hex, as `openssl x509 -fingerprint -sha256` counts it."""
        return hashlib.sha256(self.certificate_der).hexdigest()

    def sign(self, attributes: bytes) -> bytes:
        """Sign the DER of a signature's signed attributes (RFC 5652, 5.4).

        Raises:
            SigningError: bytes that are none, by their first byte and length.
        """
        if not 2 <= len(attributes) <= MAX_SIGNED or attributes[0] != _SET:
            raise SigningError(
                f"signed attributes: expected a set of at most {MAX_SIGNED} bytes, found otherwise"
            )
        return self.key.sign(attributes, padding.PKCS1v15(), hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:_COMMON_NAME])])


def _begin(
    subject: x509.Name, issuer: x509.Name, public: rsa.RSAPublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # Clocks differ: a print may be read within seconds of the first one.
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not issues,
        content_commitment=not issues,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
