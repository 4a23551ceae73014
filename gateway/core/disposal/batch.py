"""A disposal batch: its register, how far its execution has come, and how it is given up.

Promises: a register is read once and passed on; state and progress are read again (`as_it_is`) in each
transaction that decides by them. What execution adds is written with `remember`, which gives the batch as it
is then. A state is written only from where it may come, and a register never changes after it was proposed.
Leaves out: who proposes and approves (`proposal`), and what is done (`execution`).

>>> Progress(groups=["G"]).certified
-1
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, bindparam, insert, select, update

from gateway.core.core import Core
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import batches, clients, documents
from vault.catalogue.states import BatchState, ClientState
from vault.catalogue.store import Transaction
from vault.certificate.model import Body, RegisterEntry, canonical, register_digest
from vault.ids import new_id
from vault.moments import stamp

SCOPE_DOCUMENTS: Final = "documents"
SCOPE_CLIENT: Final = "client"

decode_register = msgspec.json.Decoder(tuple[RegisterEntry, ...]).decode
"""A register as the catalogue keeps it."""
_decode_body = msgspec.json.Decoder(Body).decode


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What execution remembers between its steps (`batches.progress`)."""

    groups: list[str] = []
    entries: dict[str, int] = {}
    destroyed_at: str = ""
    body: str = ""  # the certificate's body, once the ledger holds its digest (base64)
    certified: int = -1  # index of that ledger entry
    epoch: int = 0  # of the keyring, the first without these groups; 0: the keyring has ended
    language: str = ""  # the client's: its profile may end with the batch

    @property
    def certificate(self) -> Body:
        """The certificate's body that the ledger holds the digest of."""
        return _decode_body(base64.b64decode(self.body))


@dataclass(frozen=True)
class Batch:
    """A batch as it was read. Times are strings, as the catalogue stores them."""

    id: str
    client_id: str
    scope: str
    state: BatchState
    proposed_at: str
    proposed_by: str
    canonical_register: bytes = field(repr=False)
    register_digest: str
    executor: str | None
    started_at: str | None
    progress: Progress

    @cached_property
    def register(self) -> tuple[RegisterEntry, ...]:
        """What was approved; decoded when it is first asked for (5 MB for 10,000 documents)."""
        return decode_register(self.canonical_register)

    @cached_property
    def ids(self) -> list[str]:
        """The ids of its documents, in the register's order."""
        return [entry.document_id for entry in self.register]

    @property
    def whole_client(self) -> bool:
        """Whether it ends its client (offboarding)."""
        return self.scope == SCOPE_CLIENT


def of_row(row: Row[Any]) -> Batch:
    """The batch of a row of `batches`."""
    return Batch(
        id=row.id,
        client_id=row.client_id,
        scope=row.scope,
        state=BatchState(row.state),
        proposed_at=row.proposed_at,
        proposed_by=row.proposed_by,
        canonical_register=bytes(row.register),
        register_digest=row.register_digest,
        executor=row.executor,
        started_at=row.started_at,
        progress=msgspec.json.decode(row.progress, type=Progress),
    )


def load(connection: Connection, batch_id: str) -> Batch:
    """A batch (raises Refusal)."""
    row = queries.batch(connection, batch_id)
    if row is None:
        raise Refusal("not_found", f"batch {batch_id}: expected one, found none")
    return of_row(row)


def as_it_is(connection: Connection, batch: Batch) -> Batch:
    """A batch whose state and progress are read again: others may have gone on with it meanwhile."""
    row = connection.execute(
        select(batches.c.state, batches.c.progress).where(batches.c.id == batch.id)
    ).one()
    return _changed(
        batch,
        state=BatchState(row.state),
        progress=msgspec.json.decode(row.progress, type=Progress),
    )


def _changed(batch: Batch, **changes: Any) -> Batch:
    """A batch with other state or progress; its register, which never changes, is not decoded again."""
    changed = replace(batch, **changes)
    changed.__dict__.update(
        {name: batch.__dict__[name] for name in ("register", "ids") if name in batch.__dict__}
    )
    return changed


def insert_new(
    core: Core,
    tx: Transaction,
    client_id: str,
    actor: str,
    now: datetime,
    register: Sequence[RegisterEntry],
    scope: str,
) -> str:
    """A proposed batch: its register is what is approved, and its documents are in no other."""
    batch_id = new_id(now)
    digest = register_digest(register)
    tx.connection.execute(
        insert(batches),
        {
            "id": batch_id,
            "client_id": client_id,
            "scope": scope,
            "state": BatchState.PROPOSED,
            "proposed_at": stamp(now),
            "proposed_by": actor,
            "register": canonical(register),
            "register_digest": digest,
            "progress": "{}",
        },
    )
    tx.connection.execute(
        update(documents)
        .where(documents.c.id == bindparam("document"))
        .values(batch_id=bindparam("batch")),
        [{"document": entry.document_id, "batch": batch_id} for entry in register],
    )
    core.record(
        tx, "disposal.proposed", batch_id, actor, now,
        client=client_id, scope=scope, items=len(register), register=digest,
    )  # fmt: skip
    return batch_id


def remember(tx: Transaction, batch: Batch, **changes: Any) -> Batch:
    """Write what execution has to remember, inside a transaction; returns the batch with it."""
    progress = msgspec.structs.replace(batch.progress, **changes)
    tx.connection.execute(
        update(batches)
        .where(batches.c.id == batch.id)
        .values(progress=msgspec.json.encode(progress).decode())
    )
    return _changed(batch, progress=progress)


# What a batch can become, from where.
_BEFORE: Final[dict[BatchState, tuple[BatchState, ...]]] = {
    BatchState.PROPOSED: (BatchState.PROPOSED,),
    BatchState.APPROVED: (BatchState.PROPOSED,),
    BatchState.EXECUTING: (BatchState.APPROVED,),
    BatchState.DONE: (BatchState.EXECUTING,),
    BatchState.REJECTED: (BatchState.PROPOSED, BatchState.APPROVED, BatchState.EXECUTING),
}


def set_state(tx: Transaction, batch_id: str, state: BatchState, **columns: Any) -> None:
    """Write a batch's state, inside a transaction.

    Raises:
        Refusal: it can't come there from where it stands.
    """
    changed = tx.connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.state.in_(_BEFORE[state]))
        .values(state=state, **columns)
    )
    if not changed.rowcount:
        found = load(tx.connection, batch_id).state
        raise Refusal(
            "locked", f"batch {batch_id}: expected one that can become {state}, found it {found}"
        )


def free_documents(tx: Transaction, batch_id: str) -> None:
    """Take the documents out of a batch that is not executed."""
    tx.connection.execute(
        update(documents).where(documents.c.batch_id == batch_id).values(batch_id=None)
    )


def withdraw(core: Core, tx: Transaction, batch: Batch, holds: list[str], actor: str) -> None:
    """End a batch before its commit point: nothing of it was destroyed."""
    now = core.now()
    set_state(tx, batch.id, BatchState.REJECTED, finished_at=stamp(now))
    free_documents(tx, batch.id)
    tx.connection.execute(
        update(clients)
        .where(clients.c.id == batch.client_id, clients.c.state == ClientState.CLOSING)
        .values(state=ClientState.OPEN)
    )
    core.record(tx, "disposal.withdrawn", batch.id, actor, now, holds=holds)
