"""`strongroom keys copies`, `restore` and `settle`: copies of keyrings, and what became of old ones.

Promises: a client's keyring comes back by an act of the core. The system's own comes back while no core
runs, as none can start without it.
Leaves out: carrying copies (`gateway.core.outbound`, `gateway.courier`).
"""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import typer

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, listing, sentence
from gateway.cli.support.connection import connect, expect_owner
from gateway.cli.support.options import REQUIRED, argument, option
from gateway.cli.support.output import Column
from gateway.config import Config
from gateway.errors import ConfigurationError
from gateway.process import service

_HOUSE: Final = "house"
_PLACES = (
    Column("name", "NAME"),
    Column("state", "STATE"),
    Column("delivered_at", "LAST SEEN", output.moment),
    Column("waiting", "WAITING", right=True),
    Column("behind_since", "BEHIND SINCE", output.moment),
    Column("failure", "WHY"),
    Column("place", "PLACE"),
)


@command(None, act="keys.copies")
def list_copies(ask: Ask) -> Shown:
    """List every place that holds or held copies of the keyrings, and what is behind, since when and why."""
    return listing(ask(), _PLACES, "No copies are registered ([[keyring.copies]]).")


@command(None, act="keys.settle", signed=True)
def settle(
    ask: Ask,
    name: str = argument("NAME", "The place, as `keys copies` names it."),
    statement: str = option(
        "--statement", "What became of the copies there, and how you know.", REQUIRED
    ),
) -> Shown:
    """State that nothing is left at a place that was taken out of the configuration (an officer's act)."""
    data = ask(name=name, statement=statement)
    return sentence(
        data, f"Place {data['name']} settled: certificates list it as destroyed from now on."
    )


@command(None, act="keys.restore", signed=True)
def restore(
    ask: Ask,
    client: str = argument("CLIENT", "The client's short name, or `house`."),
    file: Path = argument(
        "FILE",
        "A copy of its keyring, fetched from a place that `check` names.",
        exists=True,
        dir_okay=False,
    ),
) -> Shown:
    """Bring back a keyring that does not open from a registered copy: a client's, or the house's.

    The house's comes back while no core runs, by the store's owner: `keys restore house house.keyring`.
    """
    content = file.read_bytes()
    if client == _HOUSE and _is_houses(ask.config, content):
        return _restore_house(ask.config, content)
    data = ask(client=client, content=base64.b64encode(content).decode())
    return sentence(
        data,
        f"The keyring of {data['client']} opens again (epoch {data['epoch']},"
        f" {data['groups']} groups); its copies follow.",
    )


def _is_houses(config: Config, content: bytes) -> bool:
    """Whether that is meant, and not a client of this name; a file that is no keyring is said to be none."""
    from vault.errors import IntegrityError
    from vault.keys.keyring import sealed_epoch

    try:
        sealed_epoch(content, _HOUSE)
    except IntegrityError:
        channel = connect(config)
        if channel is not None:
            channel.close()
            return False
    return True


def _restore_house(config: Config, content: bytes) -> Shown:
    """Without that keyring no core can start, so nobody else is asked."""
    channel = connect(config)
    if channel is not None:
        channel.close()
        raise ConfigurationError(
            "keyring house: expected no core running, found one; it has that keyring open"
        )
    from gateway.core.keys import root as root_keys
    from vault.backup import house_keyring

    expect_owner(config)
    service.forbid_core_dumps()
    root, following = root_keys.load(config)
    keyring = house_keyring.restore(
        config.store_path,
        root,
        content,
        datetime.now(UTC),
        f"console:{os.getuid()}",
        [copy.name for copy in config.keyring.copies],
        following,
    )
    data = {"client": _HOUSE, "epoch": keyring.epoch, "groups": 0}
    return sentence(
        data,
        f"The keyring of the house opens again (epoch {keyring.epoch}), and the store with it; its copies"
        " follow when the core runs.",
    )


def add_to(keys: typer.Typer) -> None:
    """Give the group `keys` these commands."""
    keys.command("copies")(list_copies)
    keys.command("restore")(restore)
    keys.command("settle")(settle)
