"""`strongroom certificate`: list, show, verify.

Verification is offline: the file and the ledger's key are enough. Where the key comes from decides what a
verification is worth, so it is always said: given with `--vkey`, taken from the store here, or taken from
the certificate itself, and then it only shows that the file agrees with itself.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.cli import output
from gateway.cli.connection import ask, at_desk
from gateway.cli.options import ConfigPath, Json, new_group
from gateway.cli.output import Column
from gateway.config import load
from gateway.errors import GatewayError
from vault.certificate import MAX_CERTIFICATE, Certificate, parse_certificate
from vault.certificate_verify import VerificationReport, verify_certificate
from vault.errors import VaultError

group = new_group("Certificates of destruction.")

_VKEY_LIMIT: Final = 4096
OWN_WORD: Final = "the certificate itself: the key is the file's own word"

_COLUMNS = (
    Column("id", "CERTIFICATE"),
    Column("batch", "BATCH"),
    Column("client", "CLIENT"),
    Column("level", "LEVEL"),
    Column("issued_at", "ISSUED", output.moment),
)


@group.command("list")
def list_all(config: ConfigPath = None, as_json: Json = False) -> None:
    """List the certificates."""
    data = ask(config, "certificate.list").data
    if as_json:
        output.json_document(data)
    else:
        output.table(data, _COLUMNS, "No certificates.")


@group.command("show")
def show(
    certificate: Annotated[str, typer.Argument(metavar="ID", help="The certificate's id.")],
    pdf: Annotated[
        Path | None, typer.Option("--pdf", metavar="FILE", help="Write its print to a new file.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the certificate to a new file."),
    ] = None,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Show a certificate, or write it (and its print) to files."""
    data = ask(config, "certificate.show", {"id": certificate}).data
    if to is not None:
        output.write_new(to, data["json"].encode())
    if pdf is not None:
        output.write_new(pdf, base64.b64decode(data["pdf"]))
    if as_json:
        output.json_document(data)
        return
    _show(parse_certificate(data["json"].encode()), data["vkey"])
    for path in (to, pdf):
        if path is not None:
            output.say(f"Written: {path}")


def _show(certificate: Certificate, vkey: str) -> None:
    body = certificate.body
    destroyed = sum(item.result == "destroyed" for item in body.outcomes)
    output.details(
        {
            "certificate": body.certificate_id,
            "client": body.client,
            "batch": body.batch_id,
            "issued_at": body.issued_at.isoformat(),
            "destroyed": f"{destroyed} of {len(body.register)} documents",
            "claim": f"{body.claim.level}: {body.claim.sentence.en}",
            "": body.claim.sentence.zh,
            "approved_by": [
                f"{item.account} ({item.role}) {item.signed_at:%Y-%m-%d %H:%M}Z {item.fingerprint}"
                for item in body.approvals
            ],
            "executed_by": f"{body.executor.account} ({body.executor.role})",
            "checks": [f"{item.result}: {item.name}" for item in body.checks],
            "copies": [f"{item.state}: {item.kind} at {item.place}" for item in body.copies],
            "ledger": f"{certificate.ledger.origin}, key {vkey}",
        },
        {"issued_at": output.moment},
    )


@group.command("verify")
def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Certificates (JSON).")],
    vkey: Annotated[
        str,
        typer.Option(
            "--vkey", metavar="KEY|FILE", help="The ledger's key as you know it, or a file with it."
        ),
    ] = "",
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Verify certificates offline, step by step; exit code 1 if any step of any fails."""
    key, source = _trusted_key(vkey, config)
    results = []
    for path in files:
        data = output.read_file(path, MAX_CERTIFICATE)
        report = verify_certificate(data, key or _own_key(data))
        results.append({"file": str(path), "key_source": source, **msgspec.to_builtins(report)})
        if not as_json:
            _print_report(path, report, source)
    if as_json:
        output.json_document(results)
    if not all(result["passed"] for result in results):
        raise typer.Exit(1)


def _print_report(path: Path, report: VerificationReport, source: str) -> None:
    output.heading(f"{output.plain(path)}")
    output.say(f"Ledger key from {source}")
    for step in report.steps:
        mark = "pass" if step.passed else "FAIL"
        output.say(f"  {step.number}. {mark}  {step.name}: {output.plain(step.detail)}")
    if not report.passed:
        output.say("NOT VERIFIED")
    elif source == OWN_WORD:
        output.say(
            "Consistent, but only with itself: compare the key with one you know, or use --vkey."
        )
    else:
        output.say("Verified.")


def _trusted_key(given: str, config: Path | None) -> tuple[str, str]:
    """The ledger's key that is not the certificate's own, and where it is from.

    Without `--vkey` and `--config`, an installation that can't be asked is as good as none.
    """
    if given:
        path = Path(given)
        if not path.is_file():
            return given.strip(), "--vkey"
        return output.read_text(path, _VKEY_LIMIT).strip(), f"{path}"
    try:
        with at_desk(load(config)) as desk:
            data: dict[str, Any] = desk.act("ledger.export", {"start": 0, "limit": 1}).data
    except (GatewayError, VaultError):
        if config is not None:
            raise
        return "", OWN_WORD
    return str(data["vkey"]), "the store of this installation"


def _own_key(data: bytes) -> str:
    try:
        return parse_certificate(data).ledger.vkey
    except VaultError:
        return ""  # step 1 will say why
