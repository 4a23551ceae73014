"""`strongroom account recover`, `cancel-recovery` and `review-recovery`: a quorum that was lost.

The root key is read where its holder has it, makes a proof over the one act, and stays: neither it nor
anything derived from it but the proof goes to the core, and nothing of it stands in an argument.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.support import output, signing
from gateway.cli.support.connection import ask
from gateway.cli.support.options import As, ConfigPath, Json, Key
from gateway.errors import ConfigurationError

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]


def recover(
    name: Name,
    add_file: Annotated[
        Path, typer.Option("--add", metavar="FILE", help="The public key (.pub) it is to have.")
    ],
    root_key: Annotated[
        str,
        typer.Option(
            "--root-key",
            metavar="FILE",
            help="The root key's file, or its address on a token (pkcs11:…), where its holder has it.",
        ),
    ],
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Restore a lost quorum: give a new officer, or one who lost every key, a key that counts later."""
    from gateway.core.login import recovery
    from vault.keys.root import load_root_key

    if not root_key:
        raise ConfigurationError("--root-key: expected a file or a token's address, found none")
    person = signing.required(as_name, key)
    line, at = signing.public_key(add_file), datetime.now(UTC)
    root = load_root_key(root_key)
    text = recovery.statement(name=name, key=line, officer=person.name, at=at)
    try:
        proof = recovery.prove(root, text, name)
        arguments = {
            "name": name,
            "key": line,
            "at": at.isoformat(),
            "proof": base64.b64encode(proof).decode("ascii"),
        }
        data = ask(config, "account.recover", arguments, person).data
    finally:
        recovery.forget(root, name)  # nothing of it stays on a token
    output.outcome(
        data,
        as_json,
        f"Key {data['fingerprint']} of {name} counts from {output.moment(data['counts_from'])}, for"
        " batches proposed after that. Until then any officer objects with"
        f" `strongroom account cancel-recovery {name}`; afterwards two officers review it.",
    )


def cancel(
    name: Name,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Object, as an officer, to a recovery that does not count yet: it ends."""
    person = signing.required(as_name, key)
    data = ask(config, "account.cancel-recovery", {"name": name}, person).data
    output.outcome(data, as_json, f"The recovery of {name} is cancelled.")


def review(
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """State, as one of two officers, that a recovery was in order: later certificates no longer name it."""
    person = signing.required(as_name, key)
    data = ask(config, "account.review-recovery", {}, person).data
    names = ", ".join(data["names"])
    output.outcome(
        data,
        as_json,
        f"The recovery of {names} waits for a second officer's review."
        if data["waiting"]
        else f"The recovery of {names} is reviewed.",
    )


def add_to(accounts: typer.Typer) -> None:
    """Give the group `account` these commands."""
    accounts.command("recover")(recover)
    accounts.command("cancel-recovery")(cancel)
    accounts.command("review-recovery")(review)
