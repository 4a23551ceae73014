"""The ledger's keys that a file is verified with, and where they are from.

Promises: where the keys come from is always said, as it decides what a verification is worth: given with
`--vkey`, or taken from the store of this installation.
Leaves out: verifying (`vault.certificate`, `vault.ledger.note`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.cli.support import output
from gateway.cli.support.command import Ask
from gateway.errors import GatewayError
from vault.errors import VaultError

_LIMIT: Final = 64 * 1024


def read(given: list[str]) -> tuple[str, ...]:
    """The keys that were given, each as it is or as a file of keys (raises ConfigurationError)."""
    found: list[str] = []
    for each in given:
        path = Path(each)
        text = output.read_text(path, _LIMIT) if path.is_file() else each
        found.extend(line.strip() for line in text.splitlines() if line.strip())
    return tuple(found)


def trusted(given: list[str], ask: Ask) -> tuple[tuple[str, ...] | None, str]:
    """The keys to verify with, and where they are from in words; None where nobody can be asked.

    What was given counts, even if it holds no key: then nothing verifies. Without `--vkey` and `--config`, an
    installation that can't be asked is as good as none.
    """
    if given:
        files = [each for each in given if Path(each).is_file()]
        return read(given), ", ".join(files) or "--vkey"
    try:
        with ask.console() as console:
            vkeys = console.act("certificate.keys", {}).data["vkeys"]
    except (GatewayError, VaultError):
        if ask.config_path is not None:
            raise
        return None, ""
    return tuple(str(each) for each in vkeys), "the store of this installation"
