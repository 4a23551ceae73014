"""`strongroom receipt`: verifying receipts of what was handed in, and their schema.

Promises: verification is offline. The file and the ledger's keys are enough (`verifier_keys`).
Leaves out: making receipts, which the core does (`gateway.core.intake.receipts`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.cli.support import output, verifier_keys
from gateway.cli.support.command import Ask, Shown, command
from gateway.cli.support.options import VerifierKeys, argument, new_group
from gateway.errors import ConfigurationError
from vault.certificate.receipt import MAX_RECEIPT, json_schema, verify_receipt
from vault.errors import VaultError

group = new_group("Receipts: what was handed in, signed.")


@command(group, "verify")
def verify(
    ask: Ask,
    files: list[Path] = argument("FILE…", "Receipts, text or JSON."),
    vkey: VerifierKeys = None,
) -> Shown:
    """Verify receipts offline; exit code 1 if one is not signed by a key of the ledger."""
    known, source = verifier_keys.trusted(vkey or [], ask)
    if known is None:
        raise ConfigurationError(
            "ledger key: expected --vkey, or an installation (--config) to take it from"
        )
    results: list[dict[str, Any]] = []
    for path in files:
        result: dict[str, Any] = {"file": str(path), "key_source": source, "passed": True}
        try:
            result["receipt"] = verify_receipt(output.read_file(path, MAX_RECEIPT), known)
        except VaultError as error:
            result |= {"passed": False, "problem": str(error)}
        results.append(result)
    passed = all(result["passed"] for result in results)
    return Shown(results, lambda: _show(results), 0 if passed else 1)


def _show(results: list[dict[str, Any]]) -> None:
    for result in results:
        output.heading(output.plain(result["file"]))
        if result["passed"]:
            output.details({name: value for name, value in result["receipt"].items() if value})
            output.say(f"Verified; ledger key from {output.plain(result['key_source'])}.")
        else:
            output.say(f"NOT VERIFIED: {output.plain(result['problem'])}")


@group.command("schema")
def schema() -> None:
    """Print the JSON Schema of a JSON receipt."""
    output.say(json_schema().decode().rstrip())
