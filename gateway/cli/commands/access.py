"""`strongroom access`: requests to open documents of restricted classes, and an officer's decision.

Promises: a decision is an officer's signed act (`--as`, `--key`).
Leaves out: which classes are restricted (`[access]` of the configuration).
"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, listing, sentence
from gateway.cli.support.options import REQUIRED, flag, new_group, option
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


@command(group, act="access.list")
def list_all(
    ask: Ask,
    decided: bool = flag("--all", "Also what is decided, lapsed or revoked."),
) -> Shown:
    """List the requests that wait for an officer, the oldest first."""
    return listing(ask(decided=decided), _COLUMNS, "No requests.")


@command(group, act="access.approve", signed=True)
def approve(
    ask: Ask,
    request: Request,
    hours: int = option(
        "--hours", "For how long (else access.hours of the configuration).", 0, metavar="N", min=0
    ),
    folder: bool = flag("--folder", "All of this client's documents of the class and fiscal year."),
) -> Shown:
    """Let the account that asked open the document, for a time."""
    data = ask(id=request, hours=hours, folder=folder)
    return sentence(
        data,
        f"Request {data['id']} waits: its account may be in the same hand as your key. Another officer"
        " signs the same within seven days, or one answers for the account (`account vouch`)."
        if data["waiting"]
        else f"Request {data['id']} approved for the {data['scope']} until {output.moment(data['until'])}.",
    )


@command(group, act="access.deny", signed=True)
def deny(
    ask: Ask,
    request: Request,
    reason: str = option("--reason", "A sentence for the one who asked (kept sealed).", REQUIRED),
) -> Shown:
    """Deny a request; whoever asked reads the reason at the next try."""
    data = ask(id=request, reason=reason)
    return sentence(data, f"Request {data['id']} denied.")


@command(group, act="access.revoke", signed=True)
def revoke(ask: Ask, request: Request) -> Shown:
    """Take an approval back and end the account's live sessions."""
    data = ask(id=request)
    return sentence(data, f"Request {data['id']} revoked; the account's live sessions are ended.")
