"""Printing a certificate in a process of its own.

Promises: setting a page of Chinese takes a hundred megabytes and a second or two, and the process
that holds the keys keeps neither. The child is given the certificate, a language and the gateway's
signing certificate, nothing else: no key, no descriptor, no environment. Where the print is signed, the
child asks the parent for the one signature over its pipe, so that the process that makes files holds no
key and the process that holds the key reads no file.

Leaves out: what is printed (`pdf.document`), and who keeps the identity.

Rules:
1. Both directions carry frames: `type (1 byte) || u32(length) || data`. To the child: `c` the certificate
   (JSON), `x` and `i` the certificates of signer and issuer (DER; empty: unsigned), `s` a signature.
   From it: `a` signed attributes to be signed, at most once, and `p` the print, which ends it. Anything
   else ends the child.
2. The parent signs what looks like signed attributes and is at most MAX_SIGNED bytes (`signing`).
3. The child's standard output is the pipe's alone: what a library prints goes nowhere.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from typing import IO, Final, Literal

from vault.certificate.model import Certificate, certificate_to_json, parse_certificate
from vault.certificate.signing import MAX_SIGNED, SIGNATURE, SigningIdentity
from vault.errors import VaultError

PATIENCE_SECONDS: Final = 120.0  # ten thousand items take a few seconds
MAX_PRINT: Final = 256 << 20

Language = Literal["en", "zh", "both"]
_LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh", "both")
_HEADER: Final = struct.Struct(">cI")
_CERTIFICATE, _SIGNER, _ISSUER, _SIGNATURE = b"c", b"x", b"i", b"s"
_ATTRIBUTES, _PRINT = b"a", b"p"


class PrintFailed(VaultError):
    """The printing process failed; the certificate itself is not affected."""


def language_of(text: str) -> Language:
    """A client's language as one that can be printed; `both` for anything unknown."""
    return next((language for language in _LANGUAGES if language == text), "both")


def print_certificate(
    certificate: Certificate, language: Language, identity: SigningIdentity | None
) -> bytes:
    """The certificate as PDF, with its JSON attached, signed with `identity` unless that is None.

    Raises:
        PrintFailed: the child ended badly, took too long, or asked for what is not signed.
    """
    subject = f"certificate {certificate.body.certificate_id}"
    data = certificate_to_json(certificate)
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-m", "vault.certificate.pdf.render_process", language],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
        )
    except OSError as error:
        raise PrintFailed(f"{subject}: expected a print, found {type(error).__name__}") from error
    # A read from the pipe has no time limit of its own.
    patience = threading.Timer(PATIENCE_SECONDS, child.kill)
    patience.start()
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin, child.stdout:
            return _converse(child.stdin, child.stdout, data, identity)
    except (OSError, VaultError) as error:
        found = str(error) if isinstance(error, VaultError) else type(error).__name__
        raise PrintFailed(f"{subject}: expected a print, found {found}") from error
    finally:
        patience.cancel()
        child.kill()
        child.wait()


def _converse(
    to_child: IO[bytes], from_child: IO[bytes], data: bytes, identity: SigningIdentity | None
) -> bytes:
    """The parent's half of rule 1."""
    _send(to_child, _CERTIFICATE, data)
    _send(to_child, _SIGNER, b"" if identity is None else identity.certificate_der)
    _send(to_child, _ISSUER, b"" if identity is None else identity.authority_der)
    kind, payload = _receive(from_child, MAX_PRINT)
    if kind == _ATTRIBUTES and identity is not None:
        _send(to_child, _SIGNATURE, identity.sign(payload))
        kind, payload = _receive(from_child, MAX_PRINT)
    if kind != _PRINT or not payload.startswith(b"%PDF-"):
        raise PrintFailed("another answer")
    return payload


def _send(stream: IO[bytes], kind: bytes, data: bytes) -> None:
    stream.write(_HEADER.pack(kind, len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes], limit: int) -> tuple[bytes, bytes]:
    head = stream.read(_HEADER.size)
    if len(head) != _HEADER.size:
        raise PrintFailed("the end of the other process")
    kind, length = _HEADER.unpack(head)
    if length > limit:
        raise PrintFailed(f"a frame of {length} bytes")
    data = stream.read(length)
    if len(data) != length:
        raise PrintFailed("the end of the other process")
    return kind, data


def _child(language: Language) -> None:
    """The child's half of rule 1; whatever goes wrong ends it, and the parent sees the end."""
    from cryptography import x509

    from vault.certificate.model import MAX_CERTIFICATE
    from vault.certificate.pdf.document import render_pdf
    from vault.certificate.pdf.seal import Seal

    # Rule 3.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    question = sys.stdin.buffer

    def ask(attributes: bytes) -> bytes:
        _send(answer, _ATTRIBUTES, attributes)
        _, signature = _receive(question, SIGNATURE)
        return signature

    _, document = _receive(question, MAX_CERTIFICATE)
    _, signer = _receive(question, MAX_SIGNED)
    _, issuer = _receive(question, MAX_SIGNED)
    seal = None
    if signer:
        certificate, authority = map(x509.load_der_x509_certificate, (signer, issuer))
        seal = Seal(certificate, authority, ask)
    _send(answer, _PRINT, render_pdf(parse_certificate(document), language, seal=seal))


if __name__ == "__main__":
    _child(language_of(sys.argv[1]))
