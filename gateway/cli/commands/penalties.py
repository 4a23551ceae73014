"""`strongroom penalty`: sources that logins fail from, and lifting what they got for it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.support import output, signing
from gateway.cli.support.connection import ask
from gateway.cli.support.options import As, ConfigPath, Json, Key, new_group
from gateway.cli.support.output import Column

group = new_group("Penalties: sources that logins fail from.")

_COLUMNS = (
    Column("source", "SOURCE"),
    Column("since", "SINCE", output.moment),
    Column("until", "UNTIL", output.moment),
    Column("events", "EVENTS"),
)


@group.command("list")
def list_all(config: ConfigPath = None, as_json: Json = False) -> None:
    """List the sources whose penalty stands, and what for."""
    data = ask(config, "penalty.list").data
    output.listing(data, as_json, _COLUMNS, "No source is penalised.")


@group.command("lift")
def lift(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="An address, or a source as it is listed.")
    ],
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Lift a source's penalty, and give back the guesses it used up."""
    data = ask(config, "penalty.lift", {"source": source}, signing.person(as_name, key)).data
    output.outcome(data, as_json, f"{output.plain(data['source'])} starts anew.")
