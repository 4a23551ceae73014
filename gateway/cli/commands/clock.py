"""`strongroom clock`: whether the gateway believes its clock, and an officer's word that it is right."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli.support import output, signing
from gateway.cli.support.connection import ask
from gateway.cli.support.options import As, ConfigPath, Json, Key, new_group

group = new_group("The clock: whether it is believed, and confirming it.")


@group.command("show")
def show(config: ConfigPath = None, as_json: Json = False) -> None:
    """Show whether the clock is believed, and why not."""
    data = ask(config, "clock.show").data
    if as_json:
        output.json_document(data)
        return
    output.details(data)


@group.command("confirm")
def confirm(
    reason: Annotated[
        str, typer.Option(help="Why the clock stood elsewhere, or how the time was checked.")
    ],
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Say, as an officer, that the clock is right now: disposal, rotation and pruning go on."""
    arguments = {"now": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason}
    data = ask(config, "clock.confirm", arguments, signing.person(as_name, key)).data
    output.outcome(data, as_json, f"The clock is right: {output.moment(data['now'])}.")
