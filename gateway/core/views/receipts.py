"""Receipts as a client reads them: one in each form for every document that was received.

Leaves out: what a receipt states and how it is written (`gateway.core.intake.receipts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from gateway.core.core import Core
from gateway.core.intake import receipts
from gateway.core.views.base import (
    NOT_FOUND,
    PAGE,
    page,
    plain_file,
)
from gateway.errors import Refusal
from gateway.wire.messages import Page
from vault.catalogue import queries
from vault.catalogue.schema import documents
from vault.catalogue.states import STORED
from vault.certificate.receipt import Receipt, Same

RECEIPTS_AT_ONCE: Final = PAGE // len(receipts.KINDS)


class Receipts:
    """The receipts of one client."""

    def __init__(self, core: Core, client_id: str) -> None:
        self.core = core
        self.client_id = client_id

    def page(self, connection: Connection, cursor: str) -> Page:
        """A page of the list of receipts."""
        # First their ids, which an index has: of 100,000 documents a page takes 50 ms, with whole rows 120.
        ids = connection.execute(
            select(documents.c.id)
            .where(
                documents.c.client_id == self.client_id,
                documents.c.state.in_(STORED),
                documents.c.id > cursor,
            )
            .order_by(documents.c.id)
            .limit(RECEIPTS_AT_ONCE)
        ).scalars()
        rows = connection.execute(
            select(documents).where(documents.c.id.in_(list(ids))).order_by(documents.c.id)
        ).all()
        entries = []
        for row, stated in zip(rows, self._facts(connection, rows), strict=True):
            for kind in receipts.KINDS:
                size = receipts.size(self.core, stated, kind)
                entries.append(plain_file(receipts.file_name(row, kind), size, row.state_since))
        return page(entries, rows[-1].id if len(rows) == RECEIPTS_AT_ONCE else "")

    async def named(self, name: str) -> tuple[receipts.Kind, Receipt]:
        """A receipt by its file name, with the day in it (raises Refusal)."""
        named = receipts.document_of(name)
        if named is None:
            raise Refusal("not_found", NOT_FOUND)
        document_id, kind = named

        def look(connection: Connection) -> Receipt | None:
            row = connection.execute(
                select(documents).where(
                    documents.c.id == document_id,
                    documents.c.client_id == self.client_id,
                    documents.c.state.in_(STORED),
                )
            ).one_or_none()
            if row is None or receipts.file_name(row, kind) != name:
                return None
            return self._facts(connection, [row])[0]

        stated = await self.core.read(look)
        if stated is None:
            raise Refusal("not_found", NOT_FOUND)
        return kind, stated

    def _facts(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Receipt]:
        """What the receipts of some documents state."""
        slug = queries.slug_of(connection, self.client_id)
        same = {
            row.id: Same(document=row.id, received_at=row.received_at)
            for row in connection.execute(
                select(documents.c.id, documents.c.received_at).where(
                    documents.c.id.in_([row.same_as for row in rows if row.same_as])
                )
            )
        }
        inside: dict[str, list[Row[Any]]] = {}
        for part in connection.execute(
            select(documents)
            .where(
                documents.c.client_id == self.client_id,
                documents.c.parent_id.in_([row.id for row in rows]),
            )
            .order_by(documents.c.id)
        ):
            inside.setdefault(part.parent_id, []).append(part)
        return [
            receipts.facts(
                self.core,
                row,
                self.core.store.custody.open_metadata(row),
                slug,
                same.get(row.same_as),
                inside.get(row.id, ()),
            )
            for row in rows
        ]
