"""`strongroom account recover`, `cancel-recovery` and `review-recovery`: a quorum of officers that was lost.

Promises: the root key is read where its holder has it, makes a proof over the one act, and stays there.
Nothing but the proof goes to the core, and nothing secret stands in an argument.
Leaves out: when a quorum counts as lost (`gateway.core.login.recovery`).
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.support import output, signing
from gateway.cli.support.command import Ask, Shown, command, sentence
from gateway.cli.support.options import REQUIRED, option
from gateway.errors import ConfigurationError

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]


@command(None, act="account.recover", signed=True, must_sign=True)
def recover(
    ask: Ask,
    name: Name,
    add_file: Path = option(
        "--add", "The public key (.pub) it is to have.", REQUIRED, metavar="FILE"
    ),
    root_key: str = option(
        "--root-key",
        "The root key's file, or its address on a token (pkcs11:…), where its holder has it.",
        REQUIRED,
        metavar="FILE",
    ),
) -> Shown:
    """Restore a lost quorum: give a new officer, or one who lost every key, a key that counts later."""
    from gateway.core.login import recovery
    from vault.keys.root import load_root_key

    if not root_key:
        raise ConfigurationError("--root-key: expected a file, or an address on a token")
    assert ask.person is not None
    line, at = signing.public_key(add_file), datetime.now(UTC)
    root = load_root_key(root_key)
    text = recovery.statement(name=name, key=line, officer=ask.person.name, at=at)
    try:
        proof = recovery.prove(root, text, name)
        data = ask(
            name=name, key=line, at=at.isoformat(), proof=base64.b64encode(proof).decode("ascii")
        )
    finally:
        recovery.forget(root, name)  # nothing of it stays on a token
    return sentence(
        data,
        f"Key {data['fingerprint']} of {name} counts from {output.moment(data['counts_from'])}, for"
        " batches proposed after that. Until then any officer objects with"
        f" `strongroom account cancel-recovery {name}`; afterwards two officers review it.",
    )


@command(None, act="account.cancel-recovery", signed=True, must_sign=True)
def cancel(ask: Ask, name: Name) -> Shown:
    """Object, as an officer, to a recovery that does not count yet: it ends."""
    return sentence(ask(name=name), f"The recovery of {name} is cancelled.")


@command(None, act="account.review-recovery", signed=True, must_sign=True)
def review(ask: Ask) -> Shown:
    """State, as one of two officers, that a recovery was in order: later certificates no longer name it."""
    data = ask()
    names = ", ".join(data["names"])
    return sentence(
        data,
        f"The recovery of {names} waits for a second officer's review."
        if data["waiting"]
        else f"The recovery of {names} is reviewed.",
    )


def add_to(accounts: typer.Typer) -> None:
    """Give the group `account` these commands."""
    accounts.command("recover")(recover)
    accounts.command("cancel-recovery")(cancel)
    accounts.command("review-recovery")(review)
