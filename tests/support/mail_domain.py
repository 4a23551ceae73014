"""A domain that sends mail, for tests: its DKIM key, what it publishes, and messages it signs."""

from __future__ import annotations

import base64
import hashlib
import re

import dkim
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa


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

    def sign(self, data: bytes) -> bytes:
        """An RSA signature in base64."""
        return base64.b64encode(self._key.sign(data, padding.PKCS1v15(), hashes.SHA256()))

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


def sealed_by(domain: MailDomain, message: bytes, judgement: str, *, chain: str = "none") -> bytes:
    """The message with one more ARC set before it (RFC 8617, section 5.1), made without the library that checks it.

    Args:
        judgement: what the sealer's `ARC-Authentication-Results` says behind its name.
        chain: the `cv` of the seal.
    """
    header, _, body = message.partition(b"\r\n\r\n")
    fields = [
        tuple(field.split(b":", 1)) for field in re.sub(rb"\r\n[ \t]+", b" ", header).split(b"\r\n")
    ]
    instance = 1 + sum(name.lower() == b"arc-seal" for name, _ in fields)
    results = f" i={instance}; mx.{domain.name}; {judgement}".encode()
    content = re.sub(rb"[ \t]+", b" ", body)
    content = re.sub(rb" (?=\r\n)", b"", content).rstrip(b"\r\n") + b"\r\n"
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    tags = f" i={instance}; a=rsa-sha256; d={domain.name}; s={domain.selector};"
    signature = f"{tags} c=relaxed/relaxed; h=from:to:subject; bh={digest}; b=".encode()
    named = {name.lower(): value for name, value in fields}
    signed = [(name, named[name]) for name in (b"from", b"to", b"subject")]
    signature += domain.sign(_relaxed([*signed, (b"arc-message-signature", signature)]))
    seal = f"{tags} cv={chain}; b=".encode()
    sets = []
    for number in range(1, instance):
        for kind in (b"arc-authentication-results", b"arc-message-signature", b"arc-seal"):
            sets += [
                (kind, value)
                for name, value in fields
                if name.lower() == kind and value.strip().startswith(b"i=%d;" % number)
            ]
    ours = [
        (b"arc-authentication-results", results),
        (b"arc-message-signature", signature),
        (b"arc-seal", seal),
    ]
    seal += domain.sign(_relaxed([*sets, *ours]))
    return (
        b"ARC-Seal:" + seal + b"\r\nARC-Message-Signature:" + signature
        + b"\r\nARC-Authentication-Results:" + results + b"\r\n" + message
    )  # fmt: skip


def _relaxed(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Header fields as RFC 6376, section 3.4.2 has them; the last one ends without a line end."""
    return b"\r\n".join(
        name.lower() + b":" + re.sub(rb"\s+", b" ", value).strip() for name, value in fields
    )
