"""`strongroom account`: who may log in, as what, and for whom.

Promises: a password is asked for on the terminal (twice) or read as one line from standard input. It is
never taken from an argument, which every user of the machine could read.
Leaves out: recovering a lost quorum (`recovery`), whose commands join this group.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gateway.cli.commands import app_passwords, recovery
from gateway.cli.support import enrolment, output, signing
from gateway.cli.support.command import Ask, Shown, command, listing, record, sentence
from gateway.cli.support.options import REQUIRED, SigningKey, flag, new_group, option
from gateway.cli.support.output import Column
from gateway.errors import ConfigurationError

group = new_group("Accounts: who may log in, as what, and for whom.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]
Client = Annotated[str, typer.Option("--client", metavar="SLUG", help="Which client.")]

Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="DAY", help="Last day it may log in; `never` lifts it."),
]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", metavar="CIDR", help="Where it may come from; repeatable; `any` lifts it."
    ),
]
Hours = Annotated[
    str | None,
    typer.Option(
        "--hours",
        metavar="HOURS",
        help='When it may log in, as "Mon-Fri 08:00-19:00, Sat 09:00-12:00"; `any` lifts it.',
    ),
]

Email = Annotated[
    str | None,
    typer.Option(
        "--email", metavar="ADDRESS", help="Where it gets notices (kept sealed); `none` lifts it."
    ),
]

_COLUMNS = (
    Column("name", "NAME"),
    Column("role", "ROLE"),
    Column("state", "STATE"),
    Column("client", "CLIENT"),
    Column("clients", "MAY SEE"),
    Column("password", "PASSWORD"),
    Column("totp", "CODE"),
    Column("keys", "KEYS"),
    Column("expires_at", "EXPIRES", output.moment),
    Column("networks", "FROM"),
    Column("hours", "HOURS"),
    Column("notices", "NOTICES"),
    Column("lacks", "CAN'T LOG IN WITHOUT"),
)


@command(group, act="account.add", signed=True, key=SigningKey)
def add(
    ask: Ask,
    name: Name,
    role: Literal["client", "accountant", "officer", "archivist", "auditor", "admin"] = option(
        "--role", "What the account may do.", REQUIRED
    ),
    client: str = option("--client", "For the role client: whose it is.", metavar="SLUG"),
    key: list[Path] | None = option(
        "--key", "A public key (.pub) of it; repeatable.", None, metavar="FILE"
    ),
    password: bool = flag("--password", "Ask for a password (or read a line of input)."),
    totp: bool = flag("--totp", "Enrol a one-time code; it is shown once, to be scanned."),
    expires: Expires = None,
    network: Networks = None,
    hours: Hours = None,
    email: Email = None,
) -> Shown:
    """Add an account with at least one way to log in."""
    arguments = {
        "name": name,
        "role": role,
        "client": client,
        "keys": [signing.public_key(path) for path in key or []],
        "password": _new_password() if password else "",
        "totp": totp,
        **{key: value for key, value in _limits(expires, network, hours).items() if value},
        "email": email or "",
    }
    data = ask(**arguments)

    def show() -> None:
        output.say(f"Account {name} ({role}) added.")
        if "totp_uri" in data:
            enrolment.show(data["totp_uri"])
        if data["lacks"]:
            output.hint(
                f"It can't log in over SFTP yet: its role takes {' and '.join(data['lacks'])}"
                " (`strongroom account key`, `account password`, `account totp`)."
            )

    return Shown(data, show)


@command(group, act="account.change", signed=True)
def change(
    ask: Ask,
    name: Name,
    expires: Expires = None,
    network: Networks = None,
    hours: Hours = None,
    email: Email = None,
) -> Shown:
    """Change when and from where an account may log in (its live sessions end), or where it gets notices."""
    changed = dict(_limits(expires, network, hours))
    if email is not None:
        changed["email"] = "" if email == "none" else email
    if not changed:
        raise ConfigurationError(
            "account change: expected --expires, --network, --hours or --email"
        )
    data = ask(name=name, **changed)
    return record(
        data,
        {
            "account": data["name"],
            "expires": output.moment(data["expires_at"]) if data["expires_at"] else "never",
            "from": data["networks"] or "anywhere",
            "hours": data["hours"] or "any",
            "notices": data["email"] or "none",
        },
    )


@command(group, act="account.totp", signed=True)
def totp(ask: Ask, name: Name) -> Shown:
    """Enrol a one-time code, or enrol it anew: the former one ends."""
    data = ask(name=name)
    return Shown(data, lambda: enrolment.show(data["totp_uri"]))


@command(group, act="account.password", signed=True)
def password(
    ask: Ask,
    name: Name,
    remove: bool = flag("--remove", "Take the password away."),
) -> Shown:
    """Give an account another password (asked for, or a line of input); its live sessions end."""
    new = "" if remove else _new_password()
    if not remove and not new:
        raise ConfigurationError("password: expected one, found an empty line")
    data = ask(name=name, password=new)
    return sentence(data, f"Account {name} has {'a new' if data['password'] else 'no'} password.")


@command(group, act="account.list")
def list_all(ask: Ask) -> Shown:
    """List the accounts, their keys and what they may see."""
    return listing(ask(), _COLUMNS, "No accounts yet; `strongroom account add` adds one.")


@command(group, act="account.disable", signed=True)
def disable(ask: Ask, name: Name) -> Shown:
    """Disable an account: no further login."""
    return sentence(ask(name=name), f"Account {name} disabled.")


@command(group, act="account.enable", signed=True)
def enable(ask: Ask, name: Name) -> Shown:
    """Enable a disabled account again; an officer's takes another officer's signature."""
    return sentence(ask(name=name), f"Account {name} is active again.")


@command(group, act="account.key", signed=True)
def change_key(
    ask: Ask,
    name: Name,
    add_file: Path | None = option("--add", "A public key (.pub) to add.", None, metavar="FILE"),
    remove: str = option("--remove", "The fingerprint to remove.", metavar="SHA256:…"),
) -> Shown:
    """Add a public key to an account, or remove one."""
    if (add_file is None) == (not remove):
        raise ConfigurationError(
            "account key: expected --add FILE or --remove SHA256:…, one of them"
        )
    added = signing.public_key(add_file) if add_file is not None else ""
    data = ask(name=name, add=added, remove=remove)
    done = "removed from" if remove else "added to"
    return sentence(data, f"Key {output.plain(data['fingerprint'])} {done} {name}.")


@command(group, act="account.rename", signed=True)
def rename(
    ask: Ask,
    name: Name,
    to: str = option("--to", "Its new name.", REQUIRED, metavar="NAME"),
) -> Shown:
    """Give an account another name to log in and sign with (an officer's: another officer signs)."""
    data = ask(name=name, to=to)
    return sentence(data, f"Account {name} is now {data['name']}.")


@command(group, act="account.vouch", signed=True)
def vouch(ask: Ask, name: Name) -> Shown:
    """Answer, as an officer, for whose hands an account's keys, password and code are in."""
    return sentence(ask(name=name), f"You answer for account {name}.")


@command(group, act="account.grant", signed=True)
def grant(ask: Ask, name: Name, client: Client) -> Shown:
    """Let an accountant, archivist or officer see a client's documents."""
    data = ask(name=name, client=client)
    return sentence(data, f"Account {name} may now see the documents of {client}.")


@command(group, act="account.revoke", signed=True)
def revoke(ask: Ask, name: Name, client: Client) -> Shown:
    """Take a grant back."""
    return sentence(
        ask(name=name, client=client),
        f"Account {name} may no longer see the documents of {client}.",
    )


def _limits(expires: str | None, networks: list[str] | None, hours: str | None) -> dict[str, Any]:
    """What was said of limits; what lifts one is empty, what was not said is left out."""
    found: dict[str, Any] = {}
    if expires is not None:
        found["expires"] = "" if expires == "never" else expires
    if networks:
        found["networks"] = [] if networks == ["any"] else networks
    if hours is not None:
        found["hours"] = "" if hours == "any" else hours
    return found


def _new_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("New password: ")
    if getpass.getpass("Once more: ") != first:
        raise ConfigurationError("password: expected the same twice")
    return first


recovery.add_to(group)
group.add_typer(app_passwords.group, name="app-password")
