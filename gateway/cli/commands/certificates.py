"""`strongroom certificate`: showing certificates of destruction, and verifying them anywhere.

Promises: verification is offline. Where the ledger's keys come from decides what a verification is worth,
so it is always said: given with `--vkey`, taken from the store here, or taken from the certificate
itself, and then it only shows that the file agrees with itself. Of several files, one that follows
another is compared with it.
Leaves out: the steps of a verification (`vault.certificate.verify`).
"""

from __future__ import annotations

import base64
from datetime import UTC
from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET

from gateway.cli.support import output, verifier_keys
from gateway.cli.support.command import Ask, Shown, command, listing
from gateway.cli.support.options import VerifierKeys, argument, new_group, option
from gateway.cli.support.output import Column
from gateway.errors import GatewayError
from vault.certificate.model import (
    MAX_CERTIFICATE,
    Body,
    Certificate,
    json_schema,
    parse_certificate,
)
from vault.certificate.pdf.words import enrolled
from vault.certificate.verify import VerificationReport, verify_certificate
from vault.errors import VaultError

group = new_group("Certificates of destruction.")

_OWN_WORD: Final = "the certificate itself: the key is the file's own word"

_COLUMNS = (
    Column("id", "CERTIFICATE"),
    Column("batch", "BATCH"),
    Column("client", "CLIENT"),
    Column("level", "LEVEL"),
    Column("issued_at", "ISSUED", output.moment),
)


@command(group, act="certificate.list")
def list_all(ask: Ask) -> Shown:
    """List the certificates."""
    return listing(ask(), _COLUMNS, "No certificates.")


@command(group, act="certificate.show")
def show(
    ask: Ask,
    certificate: str = argument("ID", "The certificate's id."),
    pdf: Path | None = option("--pdf", "Write its print to a new file.", None, metavar="FILE"),
    to: Path | None = option(
        "--output", "Write the certificate to a new file.", None, metavar="FILE"
    ),
) -> Shown:
    """Show a certificate, or write it (and its print) to files."""
    data = ask(id=certificate)
    if to is not None:
        output.write_new(to, data["json"].encode())
    if pdf is not None:
        output.write_new(pdf, base64.b64decode(data["pdf"]))

    def show() -> None:
        _show(parse_certificate(data["json"].encode()), data["vkey"])
        for path in (to, pdf):
            if path is not None:
                output.say(f"Written: {path}")

    return Shown(data, show)


def _show(certificate: Certificate, vkey: str) -> None:
    body = certificate.body
    destroyed = sum(item.result == "destroyed" for item in body.outcomes)
    output.details(
        {
            "certificate": body.certificate_id,
            "client": body.client,
            "batch": body.batch_id,
            "follows": body.follows,
            "issued_at": body.issued_at.isoformat(),
            "destroyed": f"{destroyed} of {len(body.register)} documents",
            "claim": f"{body.claim.level}: {body.claim.sentence.en}",
            "": body.claim.sentence.zh,
            "approved_by": [
                f"{item.account} ({item.role}) {item.signed_at:%Y-%m-%d %H:%M}Z {item.fingerprint}, "
                f"{enrolled(item.account, item.enrolment, UTC).en}"
                for item in body.approvals
            ],
            "executed_by": f"{body.executor.account} ({body.executor.role})",
            "witnessed_by": [f"{item.account} ({item.role})" for item in body.witnesses],
            **_recovery(body),
            "checks": [f"{item.result}: {item.name}" for item in body.checks],
            "copies": [f"{item.state}: {item.kind} at {item.place}" for item in body.copies],
            "media": [
                f"{item.medium} {item.serial}: {item.method}, {item.performed_on}, "
                f"stated by {item.account}"
                for item in body.sanitisations
            ],
            "ledger": f"{certificate.ledger.origin}, key {vkey}",
        },
        {"issued_at": output.moment},
    )


def _recovery(body: Body) -> dict[str, str]:
    recovery = body.unreviewed_recovery
    if recovery is UNSET:
        return {}
    return {
        "quorum": f"RESTORED BY RECOVERY since {recovery.since:%Y-%m-%d}, not yet reviewed:"
        f" {', '.join(recovery.accounts)}"
    }


@command(group, act="certificate.keys")
def keys(
    ask: Ask,
    signer: Path | None = option(
        "--signer", "Write what to trust the prints by (PEM).", None, metavar="FILE"
    ),
) -> Shown:
    """Show what others verify certificates with: the ledger's keys, and who signs the prints."""
    data = ask()
    if signer is not None:
        if not data["signer"]:
            raise GatewayError("signing certificate: there is none before the first print is made")
        output.write_new(signer, data["signer"].encode())

    def show() -> None:
        output.details(
            {
                "ledger_keys": data["vkeys"],
                "signer_sha256": data["fingerprint"] or "none yet: it is made with the first print",
            }
        )
        if signer is not None:
            output.say(f"Written: {signer}")

    return Shown(data, show)


@group.command("schema")
def schema() -> None:
    """Print the JSON Schema of a certificate file."""
    output.say(json_schema().decode().rstrip())


@command(group, "verify")
def verify(
    ask: Ask,
    files: list[Path] = argument("FILE…", "Certificates (JSON)."),
    vkey: VerifierKeys = None,
) -> Shown:
    """Verify certificates offline, step by step; exit code 1 if any step of any fails."""
    known, source = verifier_keys.trusted(vkey or [], ask)
    source = _OWN_WORD if known is None else source
    given = {path: output.read_file(path, MAX_CERTIFICATE) for path in files}
    by_id = {_body_of(data, "certificate_id"): data for data in given.values()}
    reports: dict[Path, VerificationReport] = {}
    for path, data in given.items():
        follows = _body_of(data, "follows")
        reports[path] = verify_certificate(
            data,
            _own_key(data) if known is None else known,
            earlier=by_id.get(follows) if follows else None,
        )

    def show() -> None:
        for path, report in reports.items():
            _show_report(path, report, source)

    results = [
        {"file": str(path), "key_source": source, **msgspec.to_builtins(report)}
        for path, report in reports.items()
    ]
    return Shown(results, show, 0 if all(report.passed for report in reports.values()) else 1)


def _show_report(path: Path, report: VerificationReport, source: str) -> None:
    output.heading(f"{output.plain(path)}")
    output.say(f"Ledger key from {source}")
    for step in report.steps:
        mark = "pass" if step.passed else "FAIL"
        output.say(f"  {step.number}. {mark}  {step.name}: {output.plain(step.detail)}")
    if not report.passed:
        output.say("NOT VERIFIED")
    elif source == _OWN_WORD:
        output.say(
            "Consistent, but only with itself: compare the key with one you know, or use --vkey."
        )
    else:
        output.say("Verified.")


def _own_key(data: bytes) -> str:
    try:
        return parse_certificate(data).ledger.vkey
    except VaultError:
        return ""  # step 1 will say why


def _body_of(data: bytes, field: str) -> str | None:
    """One identifier of a certificate's body, or None where step 1 will say why."""
    try:
        found: str | None = getattr(parse_certificate(data).body, field)
    except VaultError:
        return None
    return found
