"""`strongroom account app-password`: what the scanners of a client hand in mail with.

Promises: a password is generated, never chosen, and printed once, when it is added.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, listing, sentence
from gateway.cli.support.options import REQUIRED, new_group, option
from gateway.cli.support.output import Column

group = new_group("App passwords: what a client's scanners send mail with (SMTP only).")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]

_COLUMNS = (
    Column("label", "DEVICE"),
    Column("begins", "BEGINS"),
    Column("created_at", "SINCE", output.moment),
    Column("last_used_at", "LAST USED", output.moment),
)


@command(group, act="account.app-password.add", signed=True)
def add(
    ask: Ask,
    name: Name,
    label: str = option("--label", "Which device it is for.", REQUIRED, metavar="TEXT"),
) -> Shown:
    """Generate a password for a device; it is shown once, and good for sending mail only."""
    data = ask(name=name, label=label)

    def show() -> None:
        output.say(f"Password of {name} for {output.plain(label)}: {data['password']}")
        output.hint(
            "It is not shown again. User name and this password go into the device's SMTP settings; hyphens"
            " may be left out. It opens neither SFTP nor anything else."
        )

    return Shown(data, show)


@command(group, act="account.app-password.list")
def list_all(ask: Ask, name: Name) -> Shown:
    """List an account's app passwords, and when each was last used."""
    return listing(ask(name=name), _COLUMNS, f"Account {name} has no app passwords.")


@command(group, act="account.app-password.remove", signed=True)
def remove(
    ask: Ask,
    name: Name,
    label: str = option("--label", "Which device's.", REQUIRED, metavar="TEXT"),
) -> Shown:
    """Take a device's password away; nothing is taken from it any more."""
    return sentence(
        ask(name=name, label=label), f"{output.plain(label)} can't send for {name} any more."
    )
