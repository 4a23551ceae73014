"""The door's certificate: what TLS is made with, and how a new one takes the old one's place.

Promises: TLS 1.2 or later, with forward secrecy and authenticated ciphers only. A certificate that was
renewed is served to new connections without a restart, and running ones go on with theirs; one that can't be
used is said in the log, and the old one stays.

Leaves out: asking for one (an ACME program does), and what the peer's certificate says: none is asked for.

Rules:
1. The door can open no file once it serves (`sandbox`), so that its broker reads certificate and key and
   hands them over as memory files. The library takes paths only: /proc/self/fd names those.
2. A new pair is looked at whole, in a context of its own: half of a pair never reaches a connection.
"""

from __future__ import annotations

import fcntl
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.config import Config
from gateway.errors import ConfigurationError, GatewayError

SUITES: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    ":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    ":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""Of TLS 1.2: Mozilla's "intermediate" configuration (Server Side TLS, version 5.7), without its DHE suites,
which need parameters of their own and no client that knows TLS 1.2 is without ECDHE for. Those of TLS 1.3 are
all it has."""
MOST: Final = 1024 * 1024  # bytes of a file
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class CertificateError(GatewayError):
    """A certificate and its key can't be used; the text says why, without what is in them."""


@dataclass(frozen=True)
class Files:
    """Where the certificate chain and its key are, both PEM."""

    chain: Path
    key: Path

    @classmethod
    def of(cls, config: Config) -> Files | None:
        """As configured; None: there is no certificate."""
        smtp = config.smtp
        if not smtp.tls_certificate:
            return None
        return cls(config.resolve(smtp.tls_certificate), config.resolve(smtp.tls_key))

    def folders(self) -> tuple[Path, ...]:
        """What must be readable to read them again: programs that renew put new files beside the old ones."""
        paths = (self.chain, self.key, self.chain.resolve(), self.key.resolve())
        return tuple(sorted({path.parent for path in paths}))

    def version(self) -> tuple[tuple[int, ...], ...]:
        """What changes when one of them does; of one that is not there, nothing."""
        found: list[tuple[int, ...]] = []
        for path in (self.chain, self.key):
            try:
                status = path.stat()
            except OSError:
                found.append(())
            else:
                found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def read(self) -> tuple[int, int]:
        """Both as sealed memory files, to be closed by the caller (raises OSError)."""
        chain = _in_memory(self.chain)
        try:
            return chain, _in_memory(self.key)
        except OSError:
            os.close(chain)
            raise


def _in_memory(path: Path) -> int:
    with path.open("rb") as file:
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise OSError(f"{path}: expected at most {MOST} bytes")
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Certificate:
    """What new connections begin TLS with. `context` None: there is no certificate."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.context = context

    @classmethod
    def load(cls, files: Files | None) -> Certificate:
        """At start, from the files themselves (raises ConfigurationError)."""
        if files is None:
            return cls(None)
        try:
            return cls(_context(str(files.chain), str(files.key)))
        except CertificateError as error:
            raise ConfigurationError(
                f"smtp.tls_certificate: expected a certificate chain at {files.chain} and its key, found"
                f" {error}"
            ) from error

    def renew(self, chain: int, key: int) -> None:
        """Take a new pair from now on; on CertificateError the old one stays."""
        self.context = _context(f"/proc/self/fd/{chain}", f"/proc/self/fd/{key}")


def _context(chain: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # A key with a passphrase would ask for it on the terminal.
        context.load_cert_chain(chain, key, password=lambda: "")
    except ssl.SSLError as error:
        raise CertificateError((error.reason or "no PEM").replace("_", " ").lower()) from error
    except OSError as error:
        raise CertificateError(error.strerror or type(error).__name__) from error
    return context
