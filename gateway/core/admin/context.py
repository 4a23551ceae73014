"""What an act is given, and the lookups that several acts share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from gateway.core.core import Core
from gateway.core.inspection.claims import InspectionQueue
from gateway.core.login.accounts import Account
from gateway.core.wings import Wings
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import documents


@dataclass(frozen=True)
class Context:
    """An act's surroundings. `account` None: the console. `queue` None: no inspectors (no core runs)."""

    wings: Wings
    now: datetime
    actor: str
    account: Account | None
    queue: InspectionQueue | None

    @property
    def core(self) -> Core:
        """The core that the act is done in."""
        return self.wings.core

    async def note_reading(self, act: str, subject: str, **facts: Any) -> None:
        """Write down that names or senders were read, before they are handed out.

        Args:
            subject: the one document or client; "store" for those of all clients.
            facts: what was asked for, and how many there were; one entry however many that is.
        """
        await self.core.write(
            lambda tx: self.core.record(
                tx, "metadata.read", subject, self.actor, self.now, act=act, **facts
            )
        )


ALL: Final = "store"
"""The subject of a reading that is not of one client."""


def client_row(connection: Connection, slug: str) -> queries.Client:
    """A client by slug (raises Refusal)."""
    found = queries.client_named(connection, slug)
    if found is None:
        raise Refusal("not_found", f"client {slug}: expected one, found none")
    return found


def account_row(connection: Connection, name: str) -> Row[Any]:
    """An account by name (raises Refusal)."""
    row = queries.account_named(connection, name)
    if row is None:
        raise Refusal("not_found", f"account {name}: expected one, found none")
    return row


def document_row(connection: Connection, document_id: str) -> Row[Any]:
    """A document by id, or by the unique end of one (raises Refusal)."""
    wanted = document_id.upper()
    rows = connection.execute(
        select(documents).where(documents.c.id == wanted)
        if len(wanted) >= 26
        else select(documents).where(documents.c.id.endswith(wanted, autoescape=True)).limit(2)
    ).all()
    if len(rows) != 1 or len(wanted) < 6:
        found = "several" if len(rows) > 1 else "none"
        raise Refusal("not_found", f"document {document_id}: expected one, found {found}")
    return rows[0]
