"""`strongroom keys …`: what keys there are and how old, and changing them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from gateway.cli import copies, output
from gateway.cli.connection import ask
from gateway.cli.options import ConfigPath, Json, new_group
from gateway.cli.output import Column

keys = new_group("Keys: their ages, rotation, and the copies of keyrings.")

_KEYRINGS = (
    Column("client", "CLIENT"),
    Column("epoch", "EPOCH", right=True),
    Column("groups", "GROUPS", right=True),
    Column("oldest_group", "OLDEST GROUP", output.moment),
)


class What(StrEnum):
    """What `keys rotate` changes."""

    groups = "groups"
    root = "root"
    ledger = "ledger"


@keys.command("status")
def status(config: ConfigPath = None, as_json: Json = False) -> None:
    """Show the keys with their ages and limits, the keyrings, and copies that are behind."""
    data = ask(config, "keys.status").data
    if as_json:
        output.json_document(data)
        return
    output.details(
        {
            "root_key": data["root_key"],
            "ledger_key": data["ledger_key"],
            **{f"{each['what']}_in_use_since": _age(each) for each in data["ages"]},
            "last_rotation": _rotation(data["rotations"]),
            "copies": data["copies"],
            "copies_behind": data["copies_behind"],
        }
    )
    output.say()
    output.table(data["keyrings"], _KEYRINGS, "No client has a keyring yet.")


def _age(age: dict[str, Any]) -> str:
    if age["since"] is None:
        return "none"
    limit = f" of {age['limit_days']}" if age["limit_days"] else ""
    over = "  OVER THE LIMIT: strongroom keys rotate " + str(age["what"]) if age["over"] else ""
    return f"{output.moment(age['since'])} ({age['days']}{limit} days){over}"


def _rotation(rotations: list[dict[str, Any]]) -> str:
    if not rotations:
        return "none yet"
    newest = rotations[0]
    when = newest["finished_at"] or newest["started_at"]
    return f"{newest['what']}, {newest['state']}, {output.moment(when)}"


@keys.command("rotate")
def rotate(
    what: Annotated[
        What,
        typer.Argument(
            help="groups: the keys that wrap document keys; root: the root key;"
            " ledger: the ledger's signing key."
        ),
    ],
    client: Annotated[
        str, typer.Option("--client", metavar="SLUG", help="Only this client's groups.")
    ] = "",
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Change keys while the gateway serves. Interrupted, it goes on by itself."""
    data = ask(config, "keys.rotate", {"what": what.value, "client": client}).data
    if as_json:
        output.json_document(data)
        return
    if what is What.groups:
        output.say(f"{data['rewrapped']} document keys are wrapped under new groups.")
    elif what is What.root:
        output.say(
            f"{data['rewrapped']} keyrings are under the new root key {data['root_key']}."
            " Put a copy of it where the old one was kept. A former key file is kept beside it as *.old:"
            " remove it once `keys status` shows no copy behind."
        )
    else:
        output.say(f"The ledger is signed with a new key:\n{data['ledger_key']}")


copies.add_to(keys)
