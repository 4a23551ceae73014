"""A domain that sends mail, for tests: its DKIM key, what it publishes, and messages it signs."""

from __future__ import annotations

import base64

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

_SMALL = {1024: "rsa1024", 512: "rsa512"}


class MailDomain:
    """`records` has the texts that it publishes, by name."""

    def __init__(
        self, name: str, *, selector: str = "s1", bits: int = 2048, policy: str = ""
    ) -> None:
        self.name = name
        self.selector = selector
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        public = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._edwards = ed25519.Ed25519PrivateKey.generate()
        raw = self._edwards.public_key().public_bytes_raw()
        self.records = {
            f"{selector}._domainkey.{name}": [
                f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
            ],
            f"ed._domainkey.{name}": [f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode()}"],
        }
        if policy:
            self.records[f"_dmarc.{name}"] = [policy]

    def signed(
        self,
        message: bytes,
        *,
        domain: str = "",
        headers: tuple[bytes, ...] = (b"from", b"to", b"subject", b"date"),
        length: bool = False,
    ) -> bytes:
        """The message with the domain's RSA signature before it."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        signature = dkim.sign(
            message,
            self.selector.encode(),
            (domain or self.name).encode(),
            pem,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=list(headers),
            length=length,
        )
        return bytes(signature) + message

    def signed_ed25519(self, message: bytes) -> bytes:
        """The message with the domain's Ed25519 signature (RFC 8463) before it."""
        seed = base64.b64encode(self._edwards.private_bytes_raw())
        signature = dkim.sign(
            message,
            b"ed",
            self.name.encode(),
            seed,
            canonicalize=(b"relaxed", b"simple"),
            signature_algorithm=b"ed25519-sha256",
            include_headers=[b"from", b"to", b"subject"],
        )
        return bytes(signature) + message


def letter(
    author: str, *, subject: str = "Invoice", body: str = "See the attachment.\r\n"
) -> bytes:
    """A plain message."""
    return (
        f"From: {author}\r\nTo: acme@intake.localhost\r\nSubject: {subject}\r\n"
        f"Date: Sat, 28 Nov 2026 08:00:00 +0000\r\nMessage-ID: <1@{author.rpartition('@')[2].rstrip('>')}>\r\n"
        f"\r\n{body}"
    ).encode()
