"""`strongroom keys`: what keys there are and how old, and changing them.

Promises: no key is shown, only identifiers, ages and public keys.
Leaves out: copies of keyrings (`copies`), whose commands join this group.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from gateway.cli.commands import copies
from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command
from gateway.cli.support.options import argument, flag, new_group, option
from gateway.cli.support.output import Column

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
    host = "host"


@command(keys, act="keys.status")
def status(ask: Ask) -> Shown:
    """Show the keys with their ages and limits, the keyrings, and copies that are behind."""
    data = ask()

    def show() -> None:
        output.details(
            {
                "root_key": data["root_key"],
                "ledger_key": data["ledger_key"],
                **{f"{each['what']}_in_use_since": _age(each) for each in data["ages"]},
                "last_rotation": _rotation(data["rotations"]),
                **_host(data["host"]),
                "copies": data["copies"],
                "copies_behind": data["copies_behind"],
            }
        )
        output.say()
        output.table(data["keyrings"], _KEYRINGS, "No client has a keyring yet.")

    return Shown(data, show)


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


@command(keys, act="keys.rotate")
def rotate(
    ask: Ask,
    what: What = argument(
        None,
        "groups: the keys that wrap document keys; root: the root key;"
        " ledger: the ledger's signing key; host: the SSH host keys.",
    ),
    client: str = option("--client", "Only this client's groups.", metavar="SLUG"),
    at_once: bool = flag(
        "--at-once", "Host keys: use the new ones now, though clients don't know them yet."
    ),
) -> Shown:
    """Change keys while the gateway serves. Interrupted, it goes on by itself."""
    data = ask(what=what.value, client=client, at_once=at_once)
    return Shown(data, lambda: _show_rotated(what, data))


def _show_rotated(what: What, data: dict[str, Any]) -> None:
    if what is What.host:
        output.details(_host(data))
        output.say(
            "Tell clients the new fingerprints (`strongroom keys host`)."
            if data["change_at"] is None
            else "OpenSSH clients learn the new keys when they log in; tell the others their fingerprints."
        )
    elif what is What.groups:
        output.say(f"{data['rewrapped']} document keys are wrapped under new groups.")
    elif what is What.root:
        output.say(
            f"{data['rewrapped']} keyrings are under the new root key {data['root_key']}."
            " Put a copy of it where the old one was kept. A former key file is kept beside it as *.old:"
            " remove it once `keys status` shows no copy behind."
        )
    else:
        output.say(f"The ledger is signed with a new key:\n{data['ledger_key']}")


def _host(host: dict[str, Any]) -> dict[str, Any]:
    """The host keys as lines of a record."""
    shown = {
        "host_keys_in_use_since": output.moment(host["since"]),
        "host_keys": [f"{each['type']} {each['fingerprint']}" for each in host["in_use"]],
    }
    if host["announced"]:
        shown["host_keys_from"] = output.moment(host["change_at"])
        shown["host_keys_announced"] = [
            f"{each['type']} {each['fingerprint']}" for each in host["announced"]
        ]
    return shown


@command(keys, act="keys.host")
def host(ask: Ask) -> Shown:
    """Show the SSH host keys: fingerprints to tell clients, and lines for a known_hosts file."""
    data = ask()

    def show() -> None:
        output.details(_host(data))
        output.say()
        output.say(
            "# known_hosts: put the server's name before each, [name]:port for a port other than 22"
        )
        for each in (*data["in_use"], *data["announced"]):
            output.say(each["line"])

    return Shown(data, show)


copies.add_to(keys)
