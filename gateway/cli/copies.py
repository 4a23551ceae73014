"""`strongroom keys copies` and `keys settle`: where copies of keyrings are, and what became of old ones."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import output, signing
from gateway.cli.connection import ask
from gateway.cli.options import As, ConfigPath, Json, Key
from gateway.cli.output import Column

_PLACES = (
    Column("name", "NAME"),
    Column("state", "STATE"),
    Column("delivered_at", "LAST SEEN", output.moment),
    Column("waiting", "WAITING", right=True),
    Column("behind_since", "BEHIND SINCE", output.moment),
    Column("failure", "WHY"),
    Column("place", "PLACE"),
)


def list_copies(config: ConfigPath = None, as_json: Json = False) -> None:
    """List every place that holds or held copies of the keyrings, and what is behind, since when and why."""
    data = ask(config, "keys.copies").data
    output.listing(data, as_json, _PLACES, "No copies are registered ([[keyring.copies]]).")


def settle(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The place, as `keys copies` names it.")
    ],
    statement: Annotated[
        str, typer.Option("--statement", help="What became of the copies there, and how you know.")
    ],
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """State that nothing is left at a place that was taken out of the configuration (an officer's act)."""
    arguments = {"name": name, "statement": statement}
    data = ask(config, "keys.settle", arguments, signing.person(as_name, key)).data
    output.outcome(
        data,
        as_json,
        f"Place {data['name']} settled: certificates list it as destroyed from now on.",
    )


def restore(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="The client's short name.")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A copy of its keyring, fetched from a place that `check` names.",
        ),
    ],
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Bring back a client's keyring that does not open from a registered copy."""
    arguments = {"client": client, "content": base64.b64encode(file.read_bytes()).decode()}
    data = ask(config, "keys.restore", arguments, signing.person(as_name, key)).data
    output.outcome(
        data,
        as_json,
        f"The keyring of {data['client']} opens again (epoch {data['epoch']},"
        f" {data['groups']} groups); its copies follow.",
    )


def add_to(keys: typer.Typer) -> None:
    """Give the group `keys` these commands."""
    keys.command("copies")(list_copies)
    keys.command("restore")(restore)
    keys.command("settle")(settle)
