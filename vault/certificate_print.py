"""Printing a certificate in a process of its own.

Setting a page of Chinese takes a hundred megabytes and a second or two; the process that holds the keys
keeps neither. The child is given the certificate and a language, nothing else: no key, no descriptor, no
environment; what comes back is a PDF.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final, Literal

from vault.certificate import Certificate, certificate_to_json, parse_certificate
from vault.errors import VaultError

PATIENCE_SECONDS: Final = 300.0  # ten thousand items take about half a minute

Language = Literal["en", "zh", "both"]
_LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh", "both")


class PrintFailed(VaultError):
    """The printing process failed; the certificate itself is not affected."""


def language_of(text: str) -> Language:
    """A client's language as one that can be printed; `both` for anything unknown."""
    return next((language for language in _LANGUAGES if language == text), "both")


def print_certificate(certificate: Certificate, language: Language) -> bytes:
    """The certificate as PDF, with its JSON attached.

    Raises PrintFailed: the child ended badly or took too long.
    """
    subject = f"certificate {certificate.body.certificate_id}"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "vault.certificate_print", language],
            input=certificate_to_json(certificate),
            capture_output=True,
            check=False,
            timeout=PATIENCE_SECONDS,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PrintFailed(f"{subject}: expected a print, found {type(error).__name__}") from error
    if done.returncode != 0 or not done.stdout.startswith(b"%PDF-"):
        raise PrintFailed(f"{subject}: expected a print, found exit code {done.returncode}")
    return done.stdout


def _child() -> None:
    from vault.certificate_pdf import render_pdf

    certificate = parse_certificate(sys.stdin.buffer.read())
    sys.stdout.buffer.write(render_pdf(certificate, language_of(sys.argv[1])))


if __name__ == "__main__":
    _child()
