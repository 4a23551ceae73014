"""Keyrings of clients that do not open: what an administrator is told, and how to restore one.

Promises: an act that fails for that reason ends in one line with the finding of `check` for it, the copies
that were read back last, and the command. At the doors nothing of it is said: clients can't mend it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from gateway.core.core import Core
from vault.catalogue.schema import clients
from vault.catalogue.states import ClientState
from vault.check.store import broken_keyring
from vault.errors import IntegrityError, KeyUnavailable, VaultError


async def explain(core: Core, error: VaultError) -> str:
    """What failed, in words for an administrator."""
    if error.owner is None:
        return str(error)
    return await core.read(partial(_explain, error))


def _explain(error: VaultError, connection: Connection) -> str:
    row = connection.execute(
        select(clients.c.id, clients.c.slug).where(
            clients.c.id == error.owner, clients.c.state != ClientState.CLOSED
        )
    ).one_or_none()
    if row is None:
        return str(error)  # it has ended, as it should
    finding = broken_keyring(row, error, connection)
    return f"{finding.subject}: {finding.problem}; {finding.action}"


def look(core: Core, connection: Connection) -> list[dict[str, Any]]:
    """Open every client's keyring file now; those that do not open, as `known` gives them."""
    found = []
    for row in connection.execute(
        select(clients.c.id, clients.c.slug)
        .where(clients.c.state != ClientState.CLOSED)
        .order_by(clients.c.slug)
    ):
        try:
            core.store.custody.keyrings.load(row.id)  # not the one that was opened before
        except (IntegrityError, KeyUnavailable) as error:
            found.append({"client": row.slug, "problem": str(error)})
    return found


def known(core: Core, connection: Connection) -> list[dict[str, Any]]:
    """Clients whose keyring did not open when it was needed last: `client` and `problem`."""
    seen = dict(core.store.custody.broken)
    return [
        {"client": row.slug, "problem": seen[row.id]}
        for row in connection.execute(
            select(clients.c.id, clients.c.slug)
            .where(clients.c.id.in_(list(seen)), clients.c.state != ClientState.CLOSED)
            .order_by(clients.c.slug)
        )
    ]
