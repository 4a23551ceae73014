"""The register of places that hold backups: those of the configuration, and those in use no more.

All of it is in the catalogue; no place is looked at. What is done at one target is `target`'s and `run`'s.

Promises: a place that was replaced (`backup run --fresh`) or taken out of the configuration is not forgotten
by that: its sealed copies lie there, as far as anyone knows, so it stays on the list until an officer settles
it, or, where it was replaced, until the newest backup there is older than the target keeps any.

Leaves out looking into former places: one without a section in the configuration can't be reached.

Rule: a row of `backups` names its place. A replaced one gets a name of its own, with a `~`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select, update

from gateway.config import Config
from gateway.core.core import Core
from gateway.errors import Refusal
from vault.backup import format as backup_format
from vault.catalogue.schema import backups
from vault.catalogue.store import Transaction

_FORMER: Final = "~"  # not in a configured name


def places_with_backups(connection: Connection, config: Config, now: datetime) -> list[str]:
    """The names of all places that hold sealed copies, as far as anyone knows, in order."""
    keeps = {target.name: target.keep_days for target in config.backup.targets}
    found = []
    for row in connection.execute(
        select(backups.c.target, func.max(backups.c.started_at).label("newest"))
        .where(backups.c.state == backup_format.DONE)
        .group_by(backups.c.target)
        .order_by(backups.c.target)
    ):
        days = keeps.get(row.target.partition(_FORMER)[0])
        over = days is not None and now >= datetime.fromisoformat(row.newest) + timedelta(days=days)
        if row.target in keeps or not over:
            found.append(row.target)
    return found


def former_places(connection: Connection, config: Config, now: datetime) -> list[str]:
    """Those of them that are in use no more."""
    used = {target.name for target in config.backup.targets}
    return [name for name in places_with_backups(connection, config, now) if name not in used]


def replace(connection: Connection, target: str) -> None:
    """Another place takes a target's name: what was backed up at the old one gets a name of its own."""
    known = set(connection.execute(select(backups.c.target).distinct()).scalars())
    number = 1
    while f"{target}{_FORMER}{number}" in known:
        number += 1
    connection.execute(
        update(backups)
        .where(backups.c.target == target, backups.c.state == backup_format.DONE)
        .values(target=f"{target}{_FORMER}{number}")
    )


async def settle(core: Core, name: str, actor: str) -> None:
    """Take an officer's word that nothing is left at a place in use no more; a ledger entry says so.

    Raises:
        Refusal: there is no such place, or it is in use.
    """

    def work(tx: Transaction) -> None:
        if name in {target.name for target in core.config.backup.targets}:
            raise Refusal(
                "invalid",
                f"backup place {name}: expected it replaced (`backup run --fresh`) or taken out of the"
                " configuration first, found it in use",
            )
        settled = tx.connection.execute(
            update(backups)
            .where(backups.c.target == name, backups.c.state == backup_format.DONE)
            .values(state=backup_format.REMOVED)
        )
        if not settled.rowcount:
            raise Refusal("not_found", f"backup place {name}: expected one, found none")
        core.record(tx, "backup.place-settled", name, actor, core.now(), backups=settled.rowcount)

    await core.write(work)
