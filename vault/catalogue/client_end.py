"""The end of a client in the catalogue: what is known of it besides its documents goes.

Promises: one statement of it, for a closing, a disposal and a replay. Leaves out: its keyring, without which
what a backup still holds of this is noise (`vault.keys.custody`), and the ledger's entry.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, update

from vault.catalogue.schema import clients, deposited_passwords
from vault.catalogue.states import ClientState


def forget_client(connection: Connection, client_id: str) -> bool:
    """Close a client, with its name, addresses and deposited passwords; False: it was closed already."""
    closed = connection.execute(
        update(clients)
        .where(clients.c.id == client_id, clients.c.state != ClientState.CLOSED)
        .values(state=ClientState.CLOSED, profile=b"")
    )
    connection.execute(
        delete(deposited_passwords).where(deposited_passwords.c.client_id == client_id)
    )
    return closed.rowcount > 0
