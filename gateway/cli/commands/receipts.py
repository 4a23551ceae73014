"""`strongroom receipt`: verify, schema.

Verification is offline: the file and the ledger's keys are enough, given with `--vkey` or taken from the
store of this installation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.commands import certificates
from gateway.cli.support import output
from gateway.cli.support.options import ConfigPath, Json, VerifierKeys, new_group
from gateway.errors import ConfigurationError
from vault.certificate.receipt import MAX_RECEIPT, json_schema, verify_receipt
from vault.errors import VaultError

group = new_group("Receipts: what was handed in, signed.")


@group.command("verify")
def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Receipts, text or JSON.")],
    vkey: VerifierKeys = None,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Verify receipts offline; exit code 1 if one is not signed by a key of the ledger."""
    known, source = certificates.trusted_keys(vkey or [], config)
    if known is None:
        raise ConfigurationError(
            "ledger key: expected --vkey or an installation to take it from, found neither"
        )
    results: list[dict[str, Any]] = []
    for path in files:
        result: dict[str, Any] = {"file": str(path), "key_source": source, "passed": True}
        try:
            result["receipt"] = verify_receipt(output.read_file(path, MAX_RECEIPT), known)
        except VaultError as error:
            result |= {"passed": False, "problem": str(error)}
        results.append(result)
        if not as_json:
            _print(result)
    if as_json:
        output.json_document(results)
    if not all(result["passed"] for result in results):
        raise typer.Exit(1)


def _print(result: dict[str, Any]) -> None:
    output.heading(output.plain(result["file"]))
    if not result["passed"]:
        output.say(f"NOT VERIFIED: {output.plain(result['problem'])}")
        return
    output.details({name: value for name, value in result["receipt"].items() if value})
    output.say(f"Verified; ledger key from {output.plain(result['key_source'])}.")


@group.command("schema")
def schema() -> None:
    """Print the JSON Schema of a JSON receipt."""
    output.say(json_schema().decode().rstrip())
