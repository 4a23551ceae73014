"""`strongroom init`: an installation in a folder that has none.

Promises: it makes everything or nothing, and never touches an installation that is there.
Leaves out: how it is made (`gateway.install`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command
from gateway.cli.support.options import argument, flag, option
from gateway.install import create, demonstration, tour


@command(None, "init", offline=True)
def init(
    ask: Ask,
    folder: Path = argument("DIR", "A folder without an installation."),
    demo: bool = flag("--demo", "With a demonstration client, accounts, keys and samples."),
    root_key: str = option(
        "--root-key",
        "Make the root key on a token (RFC 7512); else it is a file in DIR.",
        metavar="pkcs11:…",
    ),
) -> Shown:
    """Make an installation: configuration, root key, empty vault."""
    del ask
    path = create.create(folder, datetime.now(UTC), demo=demo, root_key=root_key)
    data = {
        "configuration": str(path),
        "root_key": root_key or str(folder / create.ROOT_KEY),
        "store": str(folder / create.STORE),
        "demonstration": str(folder / demonstration.FOLDER) if demo else None,
    }

    def show() -> None:
        output.details({name: value for name, value in data.items() if value is not None})
        output.say()
        output.say(
            "The root key is on the token: if that is lost, nothing in the store can be read."
            if root_key
            else "Copy the root key to a safe place now: without it nothing in the store can be read."
        )
        output.say(f"Next: {tour.program()} run -c {tour.shown(path)}")

    return Shown(data, show)
