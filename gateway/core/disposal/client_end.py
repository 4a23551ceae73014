"""The end of a client (offboarding): nothing comes in any more, its sessions end, its keyring goes.

Promises: a client whose end is executed takes nothing in from the start of it; what came in since the end was
proposed stops it. Closing is one transaction with the end of its keyring. Leaves out: its documents, which go
like those of any batch (`execution`).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select, update

from gateway.core.core import Core
from gateway.core.disposal.batch import Batch
from gateway.core.login.logins import Logins
from gateway.errors import Refusal
from vault.catalogue.client_end import forget_client
from vault.catalogue.schema import accounts, clients, documents
from vault.catalogue.states import GONE, ClientState
from vault.catalogue.store import Transaction


def stop_intake(tx: Transaction, batch: Batch) -> None:
    """Stop a client's intake, and refuse if something came in since its end was proposed.

    Raises:
        Refusal: something has.
    """
    stored = tx.connection.execute(
        select(func.count())
        .select_from(documents)
        .where(documents.c.client_id == batch.client_id, documents.c.state.not_in(GONE))
    ).scalar_one()
    if stored != len(batch.register):
        raise Refusal(
            "locked",
            f"batch {batch.id}: expected the {len(batch.register)} documents of its register and no other"
            f" of this client, found {stored}; reject it and propose again",
        )
    tx.connection.execute(
        update(clients).where(clients.c.id == batch.client_id).values(state=ClientState.CLOSING)
    )


async def end_sessions(logins: Logins, client_id: str) -> None:
    """End the live sessions of a client's accounts."""
    theirs = await logins.core.read(
        lambda connection: (
            connection.execute(select(accounts.c.id).where(accounts.c.client_id == client_id))
            .scalars()
            .all()
        )
    )
    for account_id in theirs:
        logins.end_sessions(account_id)


def close(core: Core, tx: Transaction, batch: Batch, now: datetime) -> None:
    """Remove a client's keyring, name, addresses and indexes, inside a transaction."""
    closed = forget_client(tx.connection, batch.client_id)
    core.store.custody.end(tx.connection, batch.client_id, now)
    if closed:
        executor = str(batch.executor)
        core.record(tx, "client.closed", batch.client_id, executor, now, batch=batch.id)
        core.record(tx, "keyring.ended", batch.client_id, executor, now)
