"""Questions that more than one room asks the catalogue, each written once.

Promises: one statement each, inside the connection or transaction of whoever asks; a client comes as a
struct, a document as its row. What is asked for every document is built once: building a statement costs
three times its execution. Leaves out: writing (`lifecycle`, and whoever owns a table), questions of one room
alone, and what to say where nothing is found.

    client = queries.client_named(connection, "acme")
    for row in queries.documents_of(connection, ids).values(): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import Connection, Row, bindparam, select

from vault.catalogue.schema import accounts, batches, clients, documents
from vault.catalogue.states import ClientState

T = TypeVar("T")

PAGE: Final = 500
"""Ids in one SQL `IN` list."""


def pages(items: Sequence[T], length: int = PAGE) -> Iterator[Sequence[T]]:
    """Pieces short enough for an SQL `IN` list."""
    for start in range(0, len(items), length):
        yield items[start : start + length]


# ── documents ──

_DOCUMENT: Final = select(documents).where(documents.c.id == bindparam("document"))
_DOCUMENTS: Final = select(documents).where(documents.c.id.in_(bindparam("these", expanding=True)))


def document(connection: Connection, document_id: str) -> Row[Any] | None:
    """The row of a document; None: there is none of that id."""
    return connection.execute(_DOCUMENT, {"document": document_id}).one_or_none()


def documents_of(connection: Connection, ids: Sequence[str]) -> dict[str, Row[Any]]:
    """The rows of many documents, in the order of `ids`; those that are not there are left out."""
    found = {
        row.id: row
        for part in pages(ids)
        for row in connection.execute(_DOCUMENTS, {"these": list(part)})
    }
    return {each: found[each] for each in ids if each in found}


# ── clients ──


@dataclass(frozen=True, slots=True)
class Client:
    """A client's row. `profile` is sealed; a quota of None is as configured, 0 is no limit."""

    id: str
    slug: str
    state: ClientState
    jurisdiction: str
    entity_type: str
    fiscal_year_end: str  # MM-DD
    custody_role: Literal["record_copy", "working_copy"]
    profile: bytes
    created_at: str
    quota_bytes: int | None
    quota_files: int | None
    quota_file_size: int | None


_CLIENT: Final = select(clients).where(clients.c.id == bindparam("client"))
_NAMED: Final = select(clients).where(clients.c.slug == bindparam("slug"))


def _client(row: Row[Any]) -> Client:
    return Client(**{**row._mapping, "state": ClientState(row.state)})


def client(connection: Connection, client_id: str) -> Client:
    """A client that is there (raises NoResultFound)."""
    return _client(connection.execute(_CLIENT, {"client": client_id}).one())


def client_named(connection: Connection, slug: str) -> Client | None:
    """The client of that slug, in whatever state; None: there is none."""
    row = connection.execute(_NAMED, {"slug": slug}).one_or_none()
    return None if row is None else _client(row)


def slug_of(connection: Connection, client_id: str) -> str:
    """The slug of a client that is there (raises NoResultFound)."""
    return str(
        connection.execute(select(clients.c.slug).where(clients.c.id == client_id)).scalar_one()
    )


def slugs(connection: Connection) -> dict[str, str]:
    """Client id → slug, of all there ever were."""
    return {row.id: row.slug for row in connection.execute(select(clients.c.id, clients.c.slug))}


def client_ids(connection: Connection, *states: ClientState) -> list[str]:
    """The clients in one of these states, in the order of their ids."""
    return list(
        connection.execute(
            select(clients.c.id).where(clients.c.state.in_(states)).order_by(clients.c.id)
        ).scalars()
    )


def with_keyring(connection: Connection) -> list[str]:
    """The clients that have a keyring: all that are not closed, in the order of their ids."""
    return client_ids(connection, ClientState.OPEN, ClientState.CLOSING)


# ── accounts ──

_ACCOUNT: Final = select(accounts).where(accounts.c.name == bindparam("name"))


def account_named(connection: Connection, name: str) -> Row[Any] | None:
    """The account of that name, in whatever state; None: there is none."""
    return connection.execute(_ACCOUNT, {"name": name}).one_or_none()


def account_names(connection: Connection) -> dict[str, str]:
    """Account id → name, of all there ever were."""
    return {row.id: row.name for row in connection.execute(select(accounts.c.id, accounts.c.name))}


# ── batches ──


def batch(connection: Connection, batch_id: str) -> Row[Any] | None:
    """The row of a disposal batch; None: there is none of that id."""
    return connection.execute(select(batches).where(batches.c.id == batch_id)).one_or_none()
