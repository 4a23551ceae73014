"""Executing an approved batch: nothing goes early, twice or by half.

Every document is checked again (state, rules, holds) inside the transaction that starts the execution, and
the whole batch is refused if one may not go. What follows is a sequence of steps, each safe to run again,
so that recovery after a crash is the same call:
    dispose.start     one transaction: checks, state EXECUTING, executor
    dispose.renew     every group that ever wrapped these documents' keys: survivors under a new group
    dispose.record    one transaction: rows lose key and metadata, tombstones, ledger: COMMIT POINT
    dispose.end-keys  the keyring loses the groups (new epoch); its registered copies must follow
    dispose.remove-blobs, dispose.truncate
    dispose.certify   what is gone is looked for; certificate, ledger entry, checkpoint
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, insert, select, update

from gateway.core.identity import Account
from gateway.core.journey import certify
from gateway.core.journey.certify import Progress, progress_of, remember
from gateway.core.journey.dispose import APPROVED, EXECUTING, decode_register, examine, load_batch
from gateway.core.journey.lifecycle import Event, State, next_state
from gateway.core.journey.steps import step
from gateway.core.runtime import ACTOR_CORE, Core, log, stamp
from gateway.errors import Refusal
from vault.catalogue.schema import (
    account_keys,
    accounts,
    approvals,
    batches,
    documents,
    tombstones,
)
from vault.catalogue.store import Transaction

TRUNCATE_ATTEMPTS: Final = 20


async def execute(core: Core, batch_id: str, account: Account) -> str:
    """Execute an approved batch; returns the certificate's id.

    Raises:
        Refusal: the wrong person, state or clock, or a document that may not go (a hold, say): then
            nothing at all was destroyed.
    """
    now = core.now()
    await asyncio.to_thread(core.disposal_clock, now)
    if account.role not in {"officer", "archivist"}:
        raise Refusal(
            "denied",
            f"account {account.name}: expected an officer or archivist, found {account.role}",
        )

    def start(tx: Transaction) -> None:
        batch = load_batch(tx.connection, batch_id)
        if batch.state != APPROVED:
            raise Refusal(
                "locked", f"batch {batch_id}: expected it APPROVED, found it {batch.state}"
            )
        signers = set(
            tx.connection.execute(
                select(approvals.c.account_id).where(approvals.c.batch_id == batch_id)
            ).scalars()
        )
        _check_approvers(core, tx, batch_id)
        if account.id in signers:
            raise Refusal(
                "denied",
                f"batch {batch_id}: expected someone who did not approve it, found {account.name}",
            )
        register = decode_register(batch.register)
        for entry in register:
            row = tx.connection.execute(
                select(documents).where(documents.c.id == entry.document_id)
            ).one()
            why_not, _ = examine(core, tx.connection, row, now)
            if why_not is not None:
                raise Refusal(
                    "locked", f"document {row.id}: expected it free to go, found {why_not}"
                )
        tx.connection.execute(
            update(batches)
            .where(batches.c.id == batch_id)
            .values(state=EXECUTING, executor=account.id, started_at=stamp(now))
        )
        core.record(tx, "disposal.started", batch_id, account.id, now, items=len(register))

    with _in_hand(
        core, batch_id
    ):  # before it is recorded: the job that resumes must not take it too
        with step("dispose.start"):
            await core.write(start)
        return await _finish(core, batch_id)


@contextlib.contextmanager
def _in_hand(core: Core, batch_id: str) -> Iterator[None]:
    """One execution of a batch at a time; whoever comes second is refused and takes nothing away."""
    if batch_id in core.executing:
        raise Refusal("locked", f"batch {batch_id}: expected nobody executing it, found it in hand")
    core.executing.add(batch_id)
    try:
        yield
    finally:
        core.executing.discard(batch_id)


def _check_approvers(core: Core, tx: Transaction, batch_id: str) -> None:
    """The approvals still stand: enough of them by officers who are active, with keys not taken back."""
    standing = tx.connection.execute(
        select(approvals.c.account_id)
        .join(accounts, accounts.c.id == approvals.c.account_id)
        .join(
            account_keys,
            (account_keys.c.account_id == approvals.c.account_id)
            & (account_keys.c.blob == approvals.c.key),
        )
        .where(
            approvals.c.batch_id == batch_id,
            approvals.c.decision == "approve",
            accounts.c.state == "active",
            account_keys.c.removed_at.is_(None),
        )
    ).all()
    wanted = core.config.disposal.approvals
    if len(standing) < wanted:
        raise Refusal(
            "locked",
            f"batch {batch_id}: expected {wanted} approvals by active officers, found {len(standing)};"
            " reject it and propose again",
        )


async def recover(core: Core) -> list[str]:
    """Finish every execution that a crash or a full disk interrupted; returns the certificates' ids."""
    unfinished = await core.read(
        lambda connection: list(
            connection.execute(select(batches.c.id).where(batches.c.state == EXECUTING)).scalars()
        )
    )
    done = []
    for batch_id in unfinished:
        if batch_id in core.executing:
            continue
        log.warning("disposal resumed", batch=batch_id)
        with _in_hand(core, batch_id):
            done.append(await _finish(core, batch_id))
    return done


async def _finish(core: Core, batch_id: str) -> str:
    """Everything after `dispose.start`; safe to run again from the beginning, once at a time."""
    batch = await core.read(lambda connection: load_batch(connection, batch_id))
    register = decode_register(batch.register)
    ids = [entry.document_id for entry in register]
    custody = core.store.custody
    now = core.now()

    # 1. Survivors of every group that ever wrapped one of these keys move to a new group.
    groups = await core.read(lambda connection: custody.living_groups(connection, ids))
    with step("dispose.renew"):
        leaving = set(ids)
        for group_id in groups:
            await core.write(
                functools.partial(_renew, core, batch.client_id, group_id, leaving, now)
            )

    # 2. COMMIT POINT: the documents are destroyed from here on.
    with step("dispose.record"):
        wrapped = await core.write(lambda tx: _record(core, tx, batch, ids, groups, core.now()))

    # 3. The keys: after this no key that ever wrapped them exists in the keyring.
    progress = await core.read(lambda connection: progress_of(connection, batch_id))
    with step("dispose.end-keys"):
        await core.write(lambda tx: custody.end_groups(tx.connection, progress.groups, now))

        def end(tx: Transaction) -> None:
            custody.drop_keys(tx.connection, batch.client_id, progress.groups, now)
            core.record(tx, "groups.ended", batch_id, ACTOR_CORE, now, groups=list(progress.groups))

        await core.write(end)
        core.errand_work.set()

    # 4. The sealed files.
    with step("dispose.remove-blobs"):
        await asyncio.to_thread(_remove_blobs, core, ids)

    # 5. What the database's journal still holds of the old rows.
    with step("dispose.truncate"):
        emptied = False
        for _ in range(TRUNCATE_ATTEMPTS):
            emptied = await asyncio.to_thread(core.store.catalogue.truncate_journal)
            if emptied:
                break
            await asyncio.sleep(0.5)  # a reader is in the way: listings are short

    # 6. Look for all of it, and certify what was seen.
    with step("dispose.certify"):
        await certify.await_copies(core, batch.client_id)
        checks = await asyncio.to_thread(certify.look, core, batch, ids, progress, wrapped, emptied)
        return await certify.issue(core, batch, register, checks)


def _renew(
    core: Core, client_id: str, group_id: str, leaving: set[str], now: datetime, tx: Transaction
) -> None:
    core.store.custody.renew(tx.connection, client_id, group_id, leaving, now)


def _record(
    core: Core,
    tx: Transaction,
    batch: Row[Any],
    ids: list[str],
    groups: list[str],
    now: datetime,
) -> list[bytes]:
    """Rows lose key and metadata; returns the wrapped keys that were there, for the search after."""
    progress = progress_of(tx.connection, batch.id)
    if progress.entries:
        return []
    wrapped: list[bytes] = []
    entries: dict[str, int] = {}
    for document_id in ids:
        row = tx.connection.execute(select(documents).where(documents.c.id == document_id)).one()
        state = next_state(State(row.state), Event.DESTROY)
        if row.wrapped_key is not None:
            wrapped.append(bytes(row.wrapped_key))
        tx.connection.execute(
            update(documents)
            .where(documents.c.id == document_id)
            .values(
                state=state,
                state_since=stamp(now),
                destroyed_at=stamp(now),
                reason="",
                group_id=None,
                wrapped_key=None,
                sealed_metadata=None,
                name_index=None,
                digest_index=None,
            )
        )
        tx.connection.execute(
            insert(tombstones),
            {
                "document_id": document_id,
                "client_id": batch.client_id,
                "batch_id": batch.id,
                "destroyed_at": stamp(now),
            },
        )
        entries[document_id] = core.record(
            tx,
            "document.destroyed",
            document_id,
            batch.executor,
            now,
            batch=batch.id,
            record_class=row.record_class,
            rule=row.rule,
        )
    remember(
        tx.connection,
        batch.id,
        Progress(groups=groups, entries=entries, destroyed_at=stamp(now)),
    )
    return wrapped


def _remove_blobs(core: Core, ids: list[str]) -> None:
    for document_id in ids:
        core.store.blobs.remove(document_id)
        core.store.blobs.discard(document_id)
