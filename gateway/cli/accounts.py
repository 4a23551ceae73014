"""`strongroom account`: add, list, disable, key, grant, revoke.

A password is asked for on the terminal (twice) or read as one line from standard input: never taken from
an argument, which every user of the machine could read.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway.cli import output, signing
from gateway.cli.connection import ask
from gateway.cli.options import As, ConfigPath, Json, Key, SigningKey, new_group
from gateway.cli.output import Column
from gateway.errors import ConfigurationError

group = new_group("Accounts: who may log in, as what, and for whom.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]
Client = Annotated[str, typer.Option("--client", metavar="SLUG", help="Which client.")]

_KEY_LIMIT = 64 * 1024
_COLUMNS = (
    Column("name", "NAME"),
    Column("role", "ROLE"),
    Column("state", "STATE"),
    Column("client", "CLIENT"),
    Column("clients", "MAY SEE"),
    Column("password", "PASSWORD"),
    Column("totp", "CODE"),
    Column("keys", "KEYS"),
)


@group.command("add")
def add(
    name: Name,
    role: Annotated[
        Literal["client", "accountant", "officer", "archivist", "auditor", "admin"],
        typer.Option("--role", help="What the account may do."),
    ],
    client: Annotated[
        str, typer.Option("--client", metavar="SLUG", help="For the role client: whose it is.")
    ] = "",
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="A public key (.pub) of it; repeatable."),
    ] = None,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password (or read a line of input).")
    ] = False,
    totp: Annotated[
        bool, typer.Option("--totp", help="Enrol a one-time code; its URI is shown once.")
    ] = False,
    config: ConfigPath = None,
    as_name: As = "",
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Add an account with at least one way to log in."""
    arguments = {
        "name": name,
        "role": role,
        "client": client,
        "keys": [public_key(path) for path in key or []],
        "password": _new_password() if password else "",
        "totp": totp,
    }
    data = ask(config, "account.add", arguments, signing.person(as_name, signing_key)).data
    if as_json:
        output.json_document(data)
        return
    output.say(f"Account {name} ({role}) added.")
    if "totp_uri" in data:
        output.say("Enrol this one-time code now; it is not shown again:")
        output.say(data["totp_uri"])


@group.command("list")
def list_all(config: ConfigPath = None, as_json: Json = False) -> None:
    """List the accounts, their keys and what they may see."""
    data = ask(config, "account.list").data
    if as_json:
        output.json_document(data)
    else:
        output.table(data, _COLUMNS, "No accounts yet; `strongroom account add` adds one.")


@group.command("disable")
def disable(
    name: Name, config: ConfigPath = None, as_name: As = "", key: Key = None, as_json: Json = False
) -> None:
    """Disable an account: no further login."""
    data = ask(config, "account.disable", {"name": name}, signing.person(as_name, key)).data
    if as_json:
        output.json_document(data)
    else:
        output.say(f"Account {name} disabled.")


@group.command("key")
def change_key(
    name: Name,
    add_file: Annotated[
        Path | None, typer.Option("--add", metavar="FILE", help="A public key (.pub) to add.")
    ] = None,
    remove: Annotated[
        str, typer.Option("--remove", metavar="SHA256:…", help="The fingerprint to remove.")
    ] = "",
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Add a public key to an account, or remove one."""
    if (add_file is None) == (not remove):
        raise ConfigurationError(
            "account key: expected --add FILE or --remove SHA256:…, one of them"
        )
    arguments = {
        "name": name,
        "add": public_key(add_file) if add_file is not None else "",
        "remove": remove,
    }
    data = ask(config, "account.key", arguments, signing.person(as_name, key)).data
    if as_json:
        output.json_document(data)
    else:
        done = "removed from" if remove else "added to"
        output.say(f"Key {output.plain(data['fingerprint'])} {done} {name}.")


@group.command("grant")
def grant(
    name: Name,
    client: Client,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Let an accountant, archivist or officer see a client's documents."""
    arguments = {"name": name, "client": client}
    data = ask(config, "account.grant", arguments, signing.person(as_name, key)).data
    if as_json:
        output.json_document(data)
    else:
        output.say(f"Account {name} may now see the documents of {client}.")


@group.command("revoke")
def revoke(
    name: Name,
    client: Client,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Take a grant back."""
    arguments = {"name": name, "client": client}
    data = ask(config, "account.revoke", arguments, signing.person(as_name, key)).data
    if as_json:
        output.json_document(data)
    else:
        output.say(f"Account {name} may no longer see the documents of {client}.")


def public_key(path: Path) -> str:
    """The one public key line of a file (raises ConfigurationError)."""
    text = output.read_text(path, _KEY_LIMIT)
    if "PRIVATE KEY" in text:
        # It would travel to the core and be refused there; better that it never leaves.
        raise ConfigurationError(
            f"{path}: expected a public key (its .pub file), found a private key"
        )
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise ConfigurationError(f"{path}: expected one public key line, found {len(lines)}")
    return lines[0].strip()


def _new_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("New password: ")
    if getpass.getpass("Once more: ") != first:
        raise ConfigurationError("password: expected the same twice, found two different ones")
    return first
