"""Whether clamd is there: found out by the core itself, for its answer changes a policy.

Promises: `inspect.clamd = "auto"` becomes required once clamd has answered a PING of the core's own; the
catalogue remembers that across restarts, so that an antivirus which was once there can't be made to vanish.
No inspector's word counts: one that was taken over could say that clamd answered where there is none, and
nothing would be passed any more.

Leaves out: scanning, and what a scan's outcome means (`judgement`).

Rules: the core speaks over unix sockets only. Where the configuration names a TCP address, somebody wrote it
down, so that "auto" means required from the start.

Source: clamd(8), command `zPING`.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from sqlalchemy import Connection

from gateway.core.core import ACTOR_CORE, Core, log
from vault.catalogue import settings
from vault.catalogue.store import Transaction
from vault.moments import stamp

SETTING_CLAMD_SEEN: Final = "clamd_seen"
PATIENCE: Final = 5.0  # seconds
_PING: Final = b"zPING\0"
_PONG: Final = b"PONG\0"
_UNIX: Final = "unix:"

Policy = Literal["off", "optional", "required"]


def seen(connection: Connection) -> str | None:
    """Since when clamd has been required because it was there (ISO 8601), or None."""
    found = settings.value(connection, SETTING_CLAMD_SEEN)
    return None if found is None else str(found)


def policy(core: Core, since: str | None) -> Policy:
    """What a document needs of clamd now.

    Args:
        since: what `seen` says.
    """
    section = core.config.inspect
    if section.clamd != "auto":
        return section.clamd
    if not section.clamd_address.startswith(_UNIX):
        return "required"
    return "required" if since else "optional"


async def look(core: Core) -> None:
    """Ask whether clamd is there, until it was; from then on "auto" means required."""
    section = core.config.inspect
    if section.clamd != "auto" or not section.clamd_address.startswith(_UNIX):
        return
    if await core.read(seen) or not await answers(section.clamd_address.removeprefix(_UNIX)):
        return
    now = core.now()

    def work(tx: Transaction) -> None:
        if not seen(tx.connection):
            settings.put(tx.connection, SETTING_CLAMD_SEEN, stamp(now))
            core.record(tx, "scanner.adopted", "clamd", ACTOR_CORE, now)

    await core.write(work)
    log.info("clamd answers, and is required from now on")


async def answers(path: str) -> bool:
    """Whether clamd answers a PING at a unix socket."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(path, limit=len(_PONG))
            try:
                writer.write(_PING)
                return await reader.readexactly(len(_PONG)) == _PONG
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
