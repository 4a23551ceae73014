"""The doors: what they take in the clear, what a login takes, and who can't log in or connect.

Promises: looks, and changes nothing.
Leaves out: whether a door runs (`host`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from gateway.config import Config, parse_listen
from gateway.doctor.finding import Finding
from gateway.install import demonstration
from gateway.readable import moment
from vault.crypto.sshsig import SignatureError, fingerprint

_LOOPBACK: Final = ("127.", "::1", "localhost")


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
