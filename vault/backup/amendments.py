"""Amendments: what a backup must be told once groups of keys have ended.

Promises: an older snapshot with the amendments applied has, for every document that lives, a
wrapping that opens with the keys of today, and a tombstone for every one that was destroyed. Memory does not
depend on how many documents a group had: lines are made and read one page at a time.

Leaves out: sealing and names (`vault.backup.format`), when one is due (`request_amendment` there),
and applying them (`vault.backup.restore`).

Rules: an amendment is lines of JSON, a head first. Its content is taken from the catalogue when it is
made, so that each line is as new as its head's ledger size, or newer; what happens between two pages brings
an amendment of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Integer, func, literal_column, select

from vault.catalogue import queries
from vault.catalogue.schema import (
    backup_amendments,
    documents,
    ledger_entries,
    tombstones,
    wrappings,
)
from vault.catalogue.states import ClientState
from vault.crypto.sealed import SealedReader
from vault.errors import IntegrityError
from vault.moments import stamp

PAGE: Final = 1000
MAX_LINE: Final = 4096
"""Bytes of the longest line."""

_READ: Final = 1 << 20
# The index on groups ends in it: a page is found without looking at the pages before.
_ROW: Final = literal_column("wrappings.rowid", Integer)


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="head"):
    """The first line: `previous` is the number of the amendment before it for this target (0: none).

    What follows is as new as a catalogue of `ledger_size` entries, or newer.
    """

    number: int
    previous: int
    store: str
    target: str
    at: str
    ledger_size: int


class Wrapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="wrapping"):
    """A living document's present wrapping."""

    document: str
    group: str
    key: bytes


class Tombstone(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="tombstone"):
    """A document that was destroyed."""

    document: str
    client: str
    batch: str
    destroyed_at: str


class Closing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="closing"):
    """A client that has been closed: its keyring is gone."""

    client: str


Line = Head | Wrapping | Tombstone | Closing

_encode_line = msgspec.json.Encoder(order="sorted").encode
_decode_line: Callable[[bytes], Line] = msgspec.json.Decoder(Line).decode


def lines(
    read: Callable[[Callable[[Connection], Any]], Any],
    *,
    number: int,
    store_id: str,
    target: str,
    groups: Sequence[str],
    now: datetime,
) -> Iterator[bytes]:
    """The lines of an amendment, page by page, each page as the catalogue is when it is read.

    Args:
        read: runs a reading work (`Catalogue.read`).
        groups: the groups that ended.
    """
    # 1. The ledger's size first: what is read after it is as new, or newer.
    yield _line(read(lambda c: _head(c, number, store_id, target, now)))
    # 2. Every document that one of the groups ever wrapped: where its key is now, or that it is destroyed.
    for group_id in groups:
        last = 0
        while True:
            page, last = read(functools.partial(_members, group_id=group_id, after=last))
            if not last:
                break
            yield b"".join(_line(each) for each in page)
    # 3. The clients that are closed: their keyrings are gone.
    closed = read(lambda c: queries.client_ids(c, ClientState.CLOSED))
    yield b"".join(_line(Closing(client)) for client in closed)


def _head(connection: Connection, number: int, store: str, target: str, now: datetime) -> Head:
    newest = connection.execute(select(func.max(ledger_entries.c.seq))).scalar()
    previous = connection.execute(
        select(func.max(backup_amendments.c.id)).where(
            backup_amendments.c.target == target, backup_amendments.c.id < number
        )
    ).scalar()
    return Head(
        number, previous or 0, store, target, stamp(now), 0 if newest is None else newest + 1
    )


def _members(
    connection: Connection, *, group_id: str, after: int
) -> tuple[list[Wrapping | Tombstone], int]:
    """A page of the documents that a group ever wrapped, and the row it ended with (0: no more)."""
    rows = connection.execute(
        select(
            _ROW.label("row"),
            documents.c.id,
            documents.c.group_id,
            documents.c.wrapped_key,
            tombstones.c.client_id,
            tombstones.c.batch_id,
            tombstones.c.destroyed_at,
        )
        .select_from(wrappings)
        .join(documents, documents.c.id == wrappings.c.document_id)
        .outerjoin(tombstones, tombstones.c.document_id == documents.c.id)
        .where(wrappings.c.group_id == group_id, after < _ROW)
        .order_by(_ROW)
        .limit(PAGE)
    ).all()
    page: list[Wrapping | Tombstone] = []
    for row in rows:
        if row.batch_id is not None:
            page.append(Tombstone(row.id, row.client_id, row.batch_id, row.destroyed_at))
        elif row.wrapped_key is not None:
            page.append(Wrapping(row.id, row.group_id, bytes(row.wrapped_key)))
    return page, rows[-1].row if rows else 0


def read(reader: SealedReader, number: int, store_id: str) -> Iterator[Line]:
    """The lines of an opened amendment, its head first.

    Raises:
        IntegrityError: it does not open to its end, or is not this amendment.
    """
    subject = f"amendment {number}"
    first = True
    held = b""
    while piece := reader.read(_READ):
        *whole, held = (held + piece).split(b"\n")
        for data in whole:
            try:
                line = _decode_line(data)
            except msgspec.MsgspecError as error:
                raise IntegrityError(
                    f"{subject}: expected its lines, found other content", kind="format"
                ) from error
            if first != isinstance(line, Head):
                raise IntegrityError(f"{subject}: expected one head, first", kind="format")
            if isinstance(line, Head) and (line.number != number or line.store != store_id):
                raise IntegrityError(
                    f"{subject}: expected it to be of store {store_id}, found amendment"
                    f" {line.number} of {line.store}",
                    kind="header",
                )
            first = False
            yield line
        if len(held) > MAX_LINE:
            raise IntegrityError(f"{subject}: expected shorter lines", kind="length")
    if held or first:
        raise IntegrityError(f"{subject}: expected whole lines, found a part", kind="truncated")


def _line(line: Line) -> bytes:
    return _encode_line(line) + b"\n"
