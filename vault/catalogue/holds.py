"""Holds that are live: on one document, or on a whole client.

Promises: one way to ask whether something is held, for filing, examination, execution and proposals. Leaves
out: placing and releasing (`gateway.core.admin.holds`), and why (sealed).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, exists, select
from sqlalchemy.sql import ColumnElement

from vault.catalogue.schema import documents, holds

# Asked for each document of a batch.
_HOLDS_ON: Final = (
    select(holds.c.id)
    .where(
        holds.c.client_id == bindparam("client"),
        holds.c.released_at.is_(None),
        holds.c.document_id.is_(None) | (holds.c.document_id == bindparam("document")),
    )
    .order_by(holds.c.id)
)


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that is not released; without a document it is on the whole client."""

    id: str
    client_id: str
    document_id: str | None


def live(connection: Connection, client_ids: Collection[str]) -> list[Hold]:
    """The live holds of some clients, on documents and on the whole client, oldest first."""
    return [
        Hold(row.id, row.client_id, row.document_id)
        for row in connection.execute(
            select(holds.c.id, holds.c.client_id, holds.c.document_id)
            .where(holds.c.client_id.in_(client_ids), holds.c.released_at.is_(None))
            .order_by(holds.c.id)
        )
    ]


def on_document(connection: Connection, client_id: str, document_id: str) -> tuple[str, ...]:
    """The ids of the holds that keep a document, oldest first: its own and those of its whole client."""
    return tuple(
        connection.execute(_HOLDS_ON, {"client": client_id, "document": document_id}).scalars()
    )


def held() -> ColumnElement[bool]:
    """Whether a live hold is on the document of the row or on its client, for a WHERE over documents."""
    return exists().where(
        holds.c.client_id == documents.c.client_id,
        holds.c.released_at.is_(None),
        holds.c.document_id.is_(None) | (holds.c.document_id == documents.c.id),
    )
