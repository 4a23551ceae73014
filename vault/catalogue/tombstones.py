"""Tombstones: what is left of a destroyed document, and the one change of a row that makes it so.

Promises: after `erase` the rows hold no key, no metadata and no index, and a tombstone says when and in which
batch they were destroyed. Execution and restore call the same function, so that what a restore replays is
what was done. The caller's transaction decides whether it happens, and appends the ledger entries.

Leaves out: whether a document may go, the keys of its groups, and its sealed file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, update
from sqlalchemy.dialects.sqlite import insert

from vault.catalogue.schema import documents, tombstones
from vault.catalogue.store import Transaction

DESTROYED: Final = "DESTROYED"

_ERASE: Final = (
    update(documents)
    .where(documents.c.id == bindparam("document_id"))
    .values(
        state=DESTROYED,
        state_since=bindparam("destroyed_at"),
        destroyed_at=bindparam("destroyed_at"),
        reason="",
        group_id=None,
        wrapped_key=None,
        sealed_metadata=None,
        name_index=None,
        digest_index=None,
        same_as=None,
    )
)


def erase(tx: Transaction, stones: Sequence[Mapping[str, Any]]) -> None:
    """Take key, metadata and indexes out of rows, and put tombstones in.

    Args:
        stones: `document_id`, `client_id`, `batch_id`, `destroyed_at` (ISO 8601) of each. One that is there
            already stays as it is.
    """
    if not stones:
        return
    tx.connection.execute(_ERASE, [dict(stone) for stone in stones])
    tx.connection.execute(
        insert(tombstones).on_conflict_do_nothing(), [dict(stone) for stone in stones]
    )
