"""Tombstones: what is left of a destroyed document, and the one change of a row that makes it so.

Promises: after `erase` the rows hold no key, no metadata and no index, and a tombstone says when and in which
batch they were destroyed. Execution and restore call the same function, so that what a restore replays is
what was done. The caller's transaction decides whether it happens, and appends the ledger entries.

Leaves out: whether a document may go, the keys of its groups, and its sealed file.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update
from sqlalchemy.dialects.sqlite import insert

from vault.catalogue.lifecycle import Event, change_state
from vault.catalogue.schema import messages, tombstones
from vault.catalogue.store import Transaction


def erase(
    tx: Transaction,
    ids: Sequence[str],
    *,
    client: str,
    batch: str,
    destroyed_at: str,
    replayed: bool = False,
) -> None:
    """Take key, metadata and indexes out of rows, and put tombstones in.

    Args:
        ids: documents of one client, in one batch; at most 500. A tombstone that is there already stays.
        destroyed_at: as the catalogue stores moments (ISO 8601).
        replayed: a restore repeats it.

    Raises:
        IllegalTransition: one of them may not be destroyed in its state.
    """
    change_state(
        tx.connection,
        ids,
        Event.DESTROY,
        destroyed_at,
        replayed=replayed,
        destroyed_at=destroyed_at,
        reason="",
        group_id=None,
        wrapped_key=None,
        sealed_metadata=None,
        name_index=None,
        digest_index=None,
        same_as=None,
    )
    tx.connection.execute(
        update(messages)
        .where(messages.c.document_id.in_(ids))
        .values(message_id_index=None, content_index=None, same_id_as=None)
    )
    tx.connection.execute(
        insert(tombstones).on_conflict_do_nothing(),
        [
            {
                "document_id": document_id,
                "client_id": client,
                "batch_id": batch,
                "destroyed_at": destroyed_at,
            }
            for document_id in ids
        ],
    )
