"""`strongroom access`: who asks to open documents of restricted classes, and an officer's decision.

A decision is an officer's signed act (`--as`, `--key`); the console decides nothing.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.support import output, signing
from gateway.cli.support.connection import ask
from gateway.cli.support.options import As, ConfigPath, Json, Key, new_group
from gateway.cli.support.output import Column

group = new_group("Access to documents of restricted classes: requests, approvals, denials.")

Request = Annotated[str, typer.Argument(metavar="ID", help="The request's id.")]

_COLUMNS = (
    Column("id", "REQUEST"),
    Column("account", "ACCOUNT"),
    Column("client", "CLIENT"),
    Column("record_class", "CLASS"),
    Column("fiscal_year", "YEAR"),
    Column("name", "NAME"),
    Column("state", "STATE"),
    Column("scope", "SCOPE"),
    Column("requested_at", "ASKED", output.moment),
    Column("until", "UNTIL", output.moment),
)


@group.command("list")
def list_all(
    decided: Annotated[
        bool, typer.Option("--all", help="Also what is decided, lapsed or revoked.")
    ] = False,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """List the requests that wait for an officer, the oldest first."""
    data = ask(config, "access.list", {"decided": decided}).data
    output.listing(data, as_json, _COLUMNS, "No requests.")


@group.command("approve")
def approve(
    request: Request,
    hours: Annotated[
        int,
        typer.Option(
            "--hours",
            metavar="N",
            min=0,
            help="For how long (else access.hours of the configuration).",
        ),
    ] = 0,
    folder: Annotated[
        bool,
        typer.Option(
            "--folder", help="All of this client's documents of the class and fiscal year."
        ),
    ] = False,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Let the account that asked open the document, for a time."""
    arguments = {"id": request, "hours": hours, "folder": folder}
    data = ask(config, "access.approve", arguments, signing.person(as_name, key)).data
    output.outcome(
        data,
        as_json,
        f"Request {data['id']} waits: its account may be in the same hand as your key. Another officer"
        " signs the same within seven days, or one answers for the account (`account vouch`)."
        if data["waiting"]
        else f"Request {data['id']} approved for the {data['scope']} until {output.moment(data['until'])}.",
    )


@group.command("deny")
def deny(
    request: Request,
    reason: Annotated[
        str, typer.Option("--reason", help="A sentence for the one who asked (kept sealed).")
    ],
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Deny a request; whoever asked reads the reason at the next try."""
    arguments = {"id": request, "reason": reason}
    data = ask(config, "access.deny", arguments, signing.person(as_name, key)).data
    output.outcome(data, as_json, f"Request {data['id']} denied.")


@group.command("revoke")
def revoke(
    request: Request,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Take an approval back and end the account's live sessions."""
    data = ask(config, "access.revoke", {"id": request}, signing.person(as_name, key)).data
    output.outcome(
        data, as_json, f"Request {data['id']} revoked; the account's live sessions are ended."
    )
