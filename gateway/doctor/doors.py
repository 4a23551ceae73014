"""The doors: what they take in the clear, what a login takes, and who can't log in or connect.

Promises: looks, and changes nothing.
Leaves out: whether a door runs (`host`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from gateway.config import Config, parse_listen
from gateway.doctor.finding import Finding
from gateway.install import demonstration
from gateway.readable import moment
from vault.crypto.sshsig import SignatureError, fingerprint
from vault.moments import stamp

_LOOPBACK: Final = ("127.", "::1", "localhost")
WARNED: Final = timedelta(days=30)
_RENEW: Final = "renew it; a running door takes it within a minute, without a restart"


def mail_in_the_clear(config: Config) -> Iterator[Finding]:
    host, _port = parse_listen(config.smtp.listen, "smtp.listen")
    if not host.startswith(_LOOPBACK) and not config.smtp.tls_certificate:
        yield Finding(
            "weak",
            "e-mail door",
            f"it listens on {config.smtp.listen} without TLS: mail can be read on its way",
            "set smtp.tls_certificate and smtp.tls_key, or listen on the loopback behind a relay",
        )
    for name in ("tls_certificate", "tls_key"):
        value = getattr(config.smtp, name)
        if value and not os.access(config.resolve(value), os.R_OK):
            yield Finding(
                "problem",
                f"smtp.{name}",
                f"{config.resolve(value)} is no file that can be read",
                "put it there, or correct the configuration",
            )


def certificate(config: Config, now: datetime) -> Iterator[Finding]:
    """Whether the mail door's certificate fits its key and its name, and how long it is good for."""
    smtp = config.smtp
    if not smtp.tls_certificate:
        return
    path = config.resolve(smtp.tls_certificate)
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError:
        return  # `mail_in_the_clear` has said that it can't be read
    except ValueError:
        yield Finding("problem", "smtp.tls_certificate", f"{path} holds no certificate", _RENEW)
        return
    leaf = chain[0]
    try:
        key = load_pem_private_key(config.resolve(smtp.tls_key).read_bytes(), None)
    except OSError:
        pass
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = f"{config.resolve(smtp.tls_key)} holds no private key without a passphrase"
        yield Finding("problem", "smtp.tls_key", what, "put the certificate's key there, in PEM")
    else:
        if _public(key.public_key()) != _public(leaf.public_key()):
            yield Finding(
                "problem",
                "smtp.tls_key",
                f"the key is not that of the certificate at {path}: a door that starts now fails, one that"
                " runs goes on with the old pair",
                _RENEW,
            )
    left = leaf.not_valid_after_utc - now
    if left <= timedelta(0):
        since = moment(stamp(leaf.not_valid_after_utc))
        what = f"the mail door's certificate has not been good since {since}"
        yield Finding("problem", "smtp.tls_certificate", what, _RENEW)
    elif left <= WARNED:
        what = f"the mail door's certificate is good for {left.days} more days"
        yield Finding("weak", "smtp.tls_certificate", what, _RENEW)
    names = _names(leaf)
    if not any(_covers(name, smtp.domain.lower()) for name in names):
        yield Finding(
            "weak",
            "smtp.tls_certificate",
            f"it is for {', '.join(names) or 'no name'}, not for {smtp.domain}: senders and scanners that"
            " check it refuse to send",
            "have it issued for smtp.domain too, or point MX records and scanners at a name that it has",
        )


def _public(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _names(leaf: x509.Certificate) -> list[str]:
    """The host names that a certificate is for (RFC 9525: none but those of its extension)."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _covers(name: str, domain: str) -> bool:
    """Whether a certificate's name is a domain's; `*` stands for its first label."""
    if name.startswith("*."):
        return domain.partition(".")[2] == name[2:]
    return name == domain


def factors(config: Config) -> Iterator[Finding]:
    """What logins over SFTP take, where it is less than the default."""
    if not config.login.staff.endswith("+code"):
        yield Finding(
            "weak",
            "logins of staff",
            f'login.staff is "{config.login.staff}": a stolen key or password is enough to read documents',
            'set login.staff to "key+code", and enrol codes with `strongroom account totp NAME`',
        )


def shut_out(accounts: list[dict[str, Any]]) -> Iterator[Finding]:
    """Accounts that lack a factor which their role's login takes."""
    for account in accounts:
        if account["state"] == "active" and account["lacks"]:
            yield Finding(
                "note",
                f"account {account['name']}",
                f"it can't log in over SFTP without {' and '.join(account['lacks'])}",
                f"`strongroom account totp {account['name']}`, or `account key`; or another policy"
                " in [login]",
            )


def mismatches(state: dict[str, Any]) -> Iterator[Finding]:
    """Programs that could not connect: at the client, somebody thinks that documents were sent."""
    for each in state["mismatches"]:
        yield Finding(
            "weak",
            f"{each['program'] or 'a program'} at {each['source']}",
            f"it could not connect {each['count']} times, last {moment(each['last_at'])}: it has no"
            f" {each['lacking']} in common with the door; it offers {each['offered'][:200] or 'none'}",
            "have its owner update it, or send by mail; docs/clients.md lists programs that work",
        )


def demonstration_left(config: Config, accounts: list[dict[str, Any]]) -> Iterator[Finding]:
    if demonstration.PACK in config.retention.packs:
        yield Finding(
            "weak",
            "demonstration pack",
            "its rules let demonstration classes go within days",
            'take "demo" out of retention.packs before real documents come',
        )
    folder = config.base / demonstration.FOLDER
    known: set[str] = set()
    for path in sorted(folder.glob("*.pub")):
        try:
            known.add(fingerprint(path.read_text("utf-8")))
        except (SignatureError, UnicodeDecodeError):
            continue
    names = [
        account["name"]
        for account in accounts
        if account["state"] == "active" and known.intersection(account["keys"])
    ]
    if names:
        yield Finding(
            "weak",
            "demonstration accounts",
            f"{', '.join(names)} can be used by whoever reads {folder}",
            "`strongroom account disable` each before real documents come, and remove the folder",
        )
