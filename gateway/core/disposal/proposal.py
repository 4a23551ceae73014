"""Proposing and approving destruction: a register is fixed, and two people sign for it.

Promises: what is approved is a register (销毁清册), made when the batch is proposed and never changed;
approvals are signatures with the officers' own keys over a statement that names its digest. One person, one
decision, one key. Leaves out: executing it (`execution`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, insert, select

from gateway.core.core import Core, log
from gateway.core.disposal.batch import (
    SCOPE_CLIENT,
    SCOPE_DOCUMENTS,
    Batch,
    free_documents,
    insert_new,
    load,
    set_state,
)
from gateway.core.disposal.eligibility import Examination
from gateway.core.login import accounts, enrolments
from gateway.core.login.accounts import Account
from gateway.core.login.signed import verify_signed
from gateway.core.steps import step
from gateway.errors import Refusal
from vault.catalogue import holds as live_holds
from vault.catalogue import queries
from vault.catalogue.schema import approvals, clients, documents
from vault.catalogue.states import DISPOSABLE, GONE, BatchState, ClientState
from vault.catalogue.store import Transaction
from vault.certificate.statements import APPROVAL_NAMESPACE, approval_statement
from vault.moments import stamp


async def propose(
    core: Core, actor: str, client_slug: str | None = None, chosen: Sequence[str] = ()
) -> list[str]:
    """Propose a batch per client of what is due now.

    Args:
        client_slug: of this client only.
        chosen: these documents only.

    Returns:
        The ids of the batches made.
    """
    now = core.now()
    await asyncio.to_thread(core.clock.require, now)

    def due_clients(connection: Connection) -> list[str]:
        where = [
            documents.c.state.in_(DISPOSABLE),
            documents.c.eligible_at <= stamp(now),
            documents.c.batch_id.is_(None),
            ~live_holds.held(),
        ]
        if client_slug is not None:
            where.append(clients.c.slug == client_slug)
        if chosen:
            where.append(documents.c.id.in_(chosen))
        return list(
            connection.execute(
                select(documents.c.client_id)
                .distinct()
                .join(clients, clients.c.id == documents.c.client_id)
                .where(*where)
            ).scalars()
        )

    made = []
    for client_id in await core.read(due_clients):
        examined = Examination(core, now)
        due = _due(core, client_id, now, chosen)
        await core.read(lambda c, look=examined.look, due=due: look(c, c.execute(due).all()))  # type: ignore[misc]
        with step("dispose.propose"):
            batch_id = await core.write(_proposer(core, client_id, actor, now, due, examined))
        if batch_id is not None:
            made.append(batch_id)
            log.info("disposal proposed", batch=batch_id)
    return made


async def propose_end(core: Core, actor: str, client_slug: str) -> str:
    """Propose the end of a client (offboarding): every document of it, and with them its keyring.

    Returns:
        The batch's id.

    Raises:
        Refusal: a document may not go, or is in another batch, or there are more than one batch takes.
    """
    now = core.now()
    await asyncio.to_thread(core.clock.require, now)

    examined = Examination(core, now)

    def look(connection: Connection) -> None:
        client_id = connection.execute(
            select(clients.c.id).where(clients.c.slug == client_slug)
        ).scalar()
        if client_id is not None:
            examined.look(connection, connection.execute(_of_client(core, client_id)).all())

    def work(tx: Transaction) -> str:
        client = queries.client_named(tx.connection, client_slug)
        if client is None or client.state != ClientState.OPEN:
            raise Refusal(
                "not_found", f"client {client_slug}: expected one that is open, found none"
            )
        rows = tx.connection.execute(_of_client(core, client.id)).all()
        if not rows:
            raise Refusal(
                "invalid",
                f"client {client_slug}: expected documents, found none; `client close` ends it",
            )
        if len(rows) > core.config.disposal.max_batch:
            raise Refusal(
                "full",
                f"client {client_slug}: expected at most {core.config.disposal.max_batch} documents,"
                " found more; dispose of some first",
            )
        register = []
        for row, reason, entry in examined.again(tx.connection, rows):
            why_not = reason
            if row.batch_id is not None:
                why_not = f"it is in batch {row.batch_id}"
            if why_not is not None or entry is None:
                raise Refusal(
                    "locked",
                    f"client {client_slug}: expected every document free to go, found {row.id}:"
                    f" {why_not}",
                )
            register.append(entry)
        return insert_new(core, tx, client.id, actor, now, register, SCOPE_CLIENT)

    await core.read(look)
    with step("dispose.propose"):
        batch_id = await core.write(work)
    log.info("end of a client proposed", batch=batch_id)
    return batch_id


def _of_client(core: Core, client_id: str) -> Select[Any]:
    """All documents left of a client; at most one more than a batch can hold."""
    return (
        select(documents)
        .where(documents.c.client_id == client_id, documents.c.state.not_in(GONE))
        .order_by(documents.c.eligible_at, documents.c.id)
        .limit(core.config.disposal.max_batch + 1)
    )


def _due(core: Core, client_id: str, now: datetime, chosen: Sequence[str]) -> Select[Any]:
    """The documents of a client that may be proposed now."""
    where = [
        documents.c.client_id == client_id,
        documents.c.state.in_(DISPOSABLE),
        documents.c.eligible_at <= stamp(now),
        documents.c.batch_id.is_(None),
        ~live_holds.held(),
    ]
    if chosen:
        where.append(documents.c.id.in_(chosen))
    return (
        select(documents)
        .where(*where)
        .order_by(documents.c.eligible_at, documents.c.id)
        .limit(core.config.disposal.max_batch)
    )


def _proposer(
    core: Core,
    client_id: str,
    actor: str,
    now: datetime,
    due: Select[Any],
    examined: Examination,
) -> Callable[[Transaction], str | None]:
    def work(tx: Transaction) -> str | None:
        register = [
            entry
            for _, why_not, entry in examined.again(tx.connection, tx.connection.execute(due).all())
            if why_not is None and entry is not None
        ]
        if not register:
            return None
        return insert_new(core, tx, client_id, actor, now, register, SCOPE_DOCUMENTS)

    return work


def statement_for(connection: Connection, batch: Batch, account: Account, decision: str) -> str:
    """The text an approver signs for a batch."""
    return approval_statement(
        batch_id=batch.id,
        client=queries.slug_of(connection, batch.client_id),
        register_digest=batch.register_digest,
        items=len(batch.register),
        scope=batch.scope,  # type: ignore[arg-type]  # the schema's two words
        decision=decision,  # type: ignore[arg-type]
        account=account.name,
        role=account.role,
    )


async def decide(core: Core, batch_id: str, account: Account, decision: str, signature: str) -> str:
    """Record an officer's signed approval or rejection; returns the batch's state after it.

    Raises:
        Refusal: not an officer, the batch is not open for it, or the signature is not this account's.
    """
    if account.role != "officer":
        raise Refusal(
            "denied", f"account {account.name}: expected an officer, found {account.role}"
        )
    now = core.now()
    if decision == "approve":
        await asyncio.to_thread(core.clock.require, now)

    def work(tx: Transaction) -> str:
        batch = load(tx.connection, batch_id)
        if batch.state not in {BatchState.PROPOSED, BatchState.APPROVED}:
            raise Refusal("locked", f"batch {batch_id}: expected it open, found it {batch.state}")
        if batch.state == BatchState.APPROVED and decision == "approve":
            raise Refusal(
                "exists", f"batch {batch_id}: expected approvals wanted, found it approved"
            )
        statement = statement_for(tx.connection, batch, account, decision)
        _, blob = verify_signed(
            tx.connection,
            name=account.name,
            statement=statement.encode(),
            signature=signature,
            namespace=APPROVAL_NAMESPACE,
            subject=f"approval of batch {batch_id}",
            now=now,
            zone=ZoneInfo(core.config.login.time_zone),
        )
        added = accounts.counts_from(tx.connection, account.id, blob)
        if added > batch.proposed_at:
            raise Refusal(
                "denied",
                f"approval of batch {batch_id}: expected a key that counted before {batch.proposed_at},"
                f" when it was proposed, found one of {added}",
            )
        earlier = tx.connection.execute(
            select(approvals).where(approvals.c.batch_id == batch_id)
        ).all()
        if any(row.account_id == account.id for row in earlier):
            raise Refusal(
                "exists", f"batch {batch_id}: expected one decision per person, found a second"
            )
        if any(bytes(row.key) == blob for row in earlier):
            raise Refusal(
                "denied", f"batch {batch_id}: expected distinct keys, found one used twice"
            )
        tx.connection.execute(
            insert(approvals),
            {
                "batch_id": batch_id,
                "account_id": account.id,
                "role": account.role,
                "decision": decision,
                "statement": statement.encode(),
                "signature": signature,
                "key": blob,
                "signed_at": stamp(now),
                "enrolment": enrolments.stated(tx.connection, account.id, blob),
            },
        )
        core.record(
            tx,
            f"disposal.{decision}d" if decision == "approve" else "disposal.rejected",
            batch_id,
            account.id,
            now,
            register=batch.register_digest,
        )
        if decision == "reject":
            free_documents(tx, batch_id)
            state = BatchState.REJECTED
        else:
            given = sum(row.decision == "approve" for row in earlier) + 1
            state = (
                BatchState.APPROVED
                if given >= core.config.disposal.approvals
                else BatchState.PROPOSED
            )
        set_state(tx, batch_id, state)
        return state

    with step("dispose.approve"):
        return await core.write(work)
