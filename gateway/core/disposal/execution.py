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
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, or_, select, update

from gateway.core.core import ACTOR_CORE, Core, log, stamp
from gateway.core.disposal import certificates, searches
from gateway.core.disposal.batch import SCOPE_CLIENT, decode_register, load_batch
from gateway.core.disposal.certificates import Progress, progress_of, remember
from gateway.core.disposal.eligibility import Examination
from gateway.core.disposal.searches import Remains
from gateway.core.intake import recipients
from gateway.core.keys import rotation
from gateway.core.login.accounts import Account
from gateway.core.outbound.outbound import Outbound
from gateway.core.steps import step
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.ledger import Draft
from vault.catalogue.schema import (
    account_keys,
    accounts,
    approvals,
    batches,
    clients,
    documents,
)
from vault.catalogue.states import GONE, AccountState, BatchState, ClientState
from vault.catalogue.store import Transaction
from vault.catalogue.tombstones import erase
from vault.certificate.model import RegisterEntry
from vault.errors import StorageFailed, VaultError

TRUNCATE_ATTEMPTS: Final = 20


class Held(Refusal):
    """A hold came while an execution ran, before its commit point: nothing was destroyed."""

    def __init__(self, batch_id: str, holds: list[str]) -> None:
        super().__init__(
            "locked",
            f"batch {batch_id}: expected no hold, found {', '.join(holds)}; nothing was destroyed, and"
            " the batch is withdrawn",
        )
        self.holds = holds


async def execute(core: Core, outbound: Outbound, batch_id: str, account: Account) -> str:
    """Execute an approved batch; returns the certificate's id.

    Raises:
        Refusal: the wrong person, state or clock, or a document that may not go (a hold, say): then
            nothing at all was destroyed.
    """
    now = core.now()
    await asyncio.to_thread(core.clock.require, now)
    if account.role not in {"officer", "archivist"}:
        raise Refusal(
            "denied",
            f"account {account.name}: expected an officer or archivist, found {account.role}",
        )

    examined = Examination(core, now)

    def look(connection: Connection) -> None:
        register = decode_register(load_batch(connection, batch_id).register)
        examined.look(connection, _rows(connection, register))

    def start(tx: Transaction) -> None:
        batch = load_batch(tx.connection, batch_id)
        if batch.state != BatchState.APPROVED:
            raise Refusal(
                "locked",
                f"batch {batch_id}: expected it APPROVED, found it {batch.state}",
            )
        signers = set(
            tx.connection.execute(
                select(approvals.c.account_id).where(approvals.c.batch_id == batch_id)
            ).scalars()
        )
        _check_approvers(core, tx, batch_id, now)
        if account.id in signers:
            raise Refusal(
                "denied",
                f"batch {batch_id}: expected someone who did not approve it, found {account.name}",
            )
        register = decode_register(batch.register)
        for row, why_not, _ in examined.again(tx.connection, _rows(tx.connection, register)):
            if why_not is not None:
                raise Refusal(
                    "locked", f"document {row.id}: expected it free to go, found {why_not}"
                )
        if batch.scope == SCOPE_CLIENT:
            _stop_intake(tx, batch, len(register))
        tx.connection.execute(
            update(batches)
            .where(batches.c.id == batch_id)
            .values(state=BatchState.EXECUTING, executor=account.id, started_at=stamp(now))
        )
        core.record(tx, "disposal.started", batch_id, account.id, now, items=len(register))

    await core.read(look)
    with _in_hand(
        core, batch_id
    ):  # before it is recorded: the job that resumes must not take it too
        with step("dispose.start"):
            await core.write(start)
        await _end_sessions(core, batch_id)
        return await _finish(core, outbound, batch_id)


def _rows(connection: Connection, register: Sequence[RegisterEntry]) -> list[Row[Any]]:
    """The documents of a register, in its order."""
    found = queries.documents_of(connection, [entry.document_id for entry in register])
    return [found[entry.document_id] for entry in register]


async def _end_sessions(core: Core, batch_id: str) -> None:
    """The sessions of a client that is being ended end with it."""

    def theirs(connection: Connection) -> list[str]:
        batch = load_batch(connection, batch_id)
        if batch.scope != SCOPE_CLIENT:
            return []
        return list(
            connection.execute(
                select(accounts.c.id).where(accounts.c.client_id == batch.client_id)
            ).scalars()
        )

    for account_id in await core.read(theirs):
        core.end_sessions(account_id)


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


def _check_approvers(core: Core, tx: Transaction, batch_id: str, now: datetime) -> None:
    """The approvals still stand: enough of them by officers who are active, with keys not taken back."""
    standing = tx.connection.execute(
        select(approvals.c.account_id, approvals.c.key)
        .join(batches, batches.c.id == approvals.c.batch_id)
        .join(accounts, accounts.c.id == approvals.c.account_id)
        .join(
            account_keys,
            (account_keys.c.account_id == approvals.c.account_id)
            & (account_keys.c.blob == approvals.c.key),
        )
        .where(
            approvals.c.batch_id == batch_id,
            approvals.c.decision == "approve",
            accounts.c.state == AccountState.ACTIVE,
            accounts.c.role == "officer",
            or_(accounts.c.expires_at.is_(None), accounts.c.expires_at > stamp(now)),
            account_keys.c.removed_at.is_(None),
            account_keys.c.counts_from <= batches.c.proposed_at,
        )
    ).all()
    wanted = core.config.disposal.approvals
    # People are counted, and so are keys: whichever is fewer.
    people = min(
        len({row.account_id for row in standing}), len({bytes(row.key) for row in standing})
    )
    if people < wanted:
        raise Refusal(
            "locked",
            f"batch {batch_id}: expected {wanted} approvals by active officers, found {people};"
            " reject it and propose again",
        )


async def recover(core: Core, outbound: Outbound) -> list[str]:
    """Finish every execution that a crash or a full disk interrupted; returns the certificates' ids."""
    unfinished = await core.read(
        lambda connection: list(
            connection.execute(
                select(batches.c.id).where(batches.c.state == BatchState.EXECUTING)
            ).scalars()
        )
    )
    done = []
    for batch_id in unfinished:
        if batch_id in core.executing:
            continue
        log.warning("disposal resumed", batch=batch_id)
        try:
            with _in_hand(core, batch_id):
                done.append(await _finish(core, outbound, batch_id))
        except StorageFailed:
            raise
        except (VaultError, Refusal) as error:  # it comes again, and stops no other
            log.error("disposal not finished", batch=batch_id, error=str(error))
    return done


async def _finish(core: Core, outbound: Outbound, batch_id: str) -> str:
    """Everything after `dispose.start`; safe to run again from the beginning, once at a time."""
    batch = await core.read(lambda connection: load_batch(connection, batch_id))
    register = decode_register(batch.register)
    ids = [entry.document_id for entry in register]
    async with core.keys_lock:
        return await _destroy(core, outbound, batch, register, ids)


async def _destroy(
    core: Core,
    outbound: Outbound,
    batch: Row[Any],
    register: tuple[RegisterEntry, ...],
    ids: list[str],
) -> str:
    custody = core.store.custody
    now = core.now()
    whole_client = batch.scope == SCOPE_CLIENT

    # 1. Survivors of every group that ever wrapped one of these keys move to a new group. What is filed or
    #    reclassified meanwhile may add a group: the commit point looks again.
    remains = Remains()
    while True:
        groups = await core.read(lambda connection: custody.living_groups(connection, ids))
        with step("dispose.renew"):
            for group_id in groups:
                await _empty(core, batch.id, group_id, now)

        # 2. COMMIT POINT: the documents are destroyed from here on.
        with step("dispose.record"):
            try:
                done = await core.write(
                    lambda tx, known=groups: _record(core, tx, batch, ids, known, core.now())  # type: ignore[misc]
                )
            except Held as held:
                await core.write(
                    lambda tx, found=held.holds: _withdraw(core, tx, batch, found)  # type: ignore[misc]
                )
                raise
        if done is not None:
            remains = done
            break

    # 3. The keys: after this no key that ever wrapped them exists in the keyring. Backups are told first
    #    what became of the survivors, or they could not be restored.
    progress = await core.read(lambda connection: progress_of(connection, batch.id))
    with step("dispose.end-keys"):
        await core.write(lambda tx: rotation.end_groups(core, tx, progress.groups, now))
        await rotation.await_amendments(core)

        def end(tx: Transaction) -> None:
            if whole_client:
                _close_client(core, tx, batch, now)
                rotation.tell_backups(core, tx, [], now)
            else:
                custody.drop_keys(tx.connection, batch.client_id, progress.groups, now)
                progress.epoch = custody.keyring(batch.client_id).epoch
                remember(tx.connection, batch.id, progress)
            for start in range(0, len(progress.groups), rotation.ENTRY_GROUPS):
                part = progress.groups[start : start + rotation.ENTRY_GROUPS]
                core.record(tx, "groups.ended", batch.id, ACTOR_CORE, now, groups=part)

        await core.write(end)

    # 4. The sealed files.
    with step("dispose.remove-blobs"):
        await asyncio.to_thread(core.store.blobs.remove_all, ids)

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
        await certificates.await_copies(core, batch.client_id)
        # The backups first: what is fetched from them lies in the store's folder for a moment.
        seen = await searches.look_into_backups(
            outbound, batch.client_id, ids, progress.destroyed_at
        )
        checks = await asyncio.to_thread(searches.look, core, batch, ids, remains, emptied)
        return await certificates.issue(core, batch, register, (*checks, *seen))


async def _empty(core: Core, batch_id: str, group_id: str, now: datetime) -> None:
    """Close a group and move everything out of it that does not leave with the batch."""
    custody = core.store.custody
    await core.write(lambda tx: custody.close_group(tx.connection, group_id, now))
    while await core.write(
        lambda tx: custody.move_survivors(tx.connection, group_id, now, leaving=batch_id)
    ):
        pass


def _record(
    core: Core,
    tx: Transaction,
    batch: Row[Any],
    ids: list[str],
    groups: list[str],
    now: datetime,
) -> Remains | None:
    """Rows lose key and metadata.

    Returns:
        What was taken out of them, for the search after; None: a group has come in since the survivors moved,
        and nothing was done.

    Raises:
        Refusal: a hold was placed since the execution began.
    """
    progress = progress_of(tx.connection, batch.id)
    if progress.entries:
        return Remains()
    _check_holds(tx, batch, ids)
    if not set(core.store.custody.living_groups(tx.connection, ids)) <= set(groups):
        return None
    remains = searches.gather(core, tx.connection, batch.client_id, ids, groups)
    drafts: list[Draft] = []
    for part in queries.pages(ids):
        rows = {
            row.id: row
            for row in tx.connection.execute(
                select(
                    documents.c.id, documents.c.state, documents.c.record_class, documents.c.rule
                ).where(documents.c.id.in_(part))
            )
        }
        for document_id in part:
            row = rows[document_id]
            facts = {"batch": batch.id, "record_class": row.record_class, "rule": row.rule}
            drafts.append(Draft("document.destroyed", document_id, batch.executor, now, facts))
        erase(tx, part, client=batch.client_id, batch=batch.id, destroyed_at=stamp(now))
    indices = tx.ledger.append_all(tx.connection, drafts)
    remember(
        tx.connection,
        batch.id,
        Progress(
            groups=groups,
            entries=dict(zip(ids, indices, strict=True)),
            destroyed_at=stamp(now),
            language=_language(core, tx, batch.client_id),
        ),
    )
    return remains


def _check_holds(tx: Transaction, batch: Row[Any], ids: list[str]) -> None:
    """Up to the commit point a hold stops everything, also one placed while the execution runs."""
    leaving = {None, *ids}
    live = queries.live_holds(tx.connection, [batch.client_id])
    found = [hold.id for hold in live if hold.document_id in leaving]
    if found:
        raise Held(batch.id, found)


def _withdraw(core: Core, tx: Transaction, batch: Row[Any], found: list[str]) -> None:
    """Give a batch up before its commit point: nothing of it was destroyed."""
    now = core.now()
    tx.connection.execute(
        update(batches)
        .where(batches.c.id == batch.id)
        .values(state=BatchState.REJECTED, finished_at=stamp(now))
    )
    tx.connection.execute(
        update(documents).where(documents.c.batch_id == batch.id).values(batch_id=None)
    )
    tx.connection.execute(
        update(clients)
        .where(clients.c.id == batch.client_id, clients.c.state == ClientState.CLOSING)
        .values(state=ClientState.OPEN)
    )
    core.record(tx, "disposal.withdrawn", batch.id, ACTOR_CORE, now, holds=found)


def _language(core: Core, tx: Transaction, client_id: str) -> str:
    row = queries.client(tx.connection, client_id)
    return recipients.open_profile(core, row).language


def _stop_intake(tx: Transaction, batch: Row[Any], items: int) -> None:
    """Nothing comes in for a client from here on, and nothing has come in since its end was proposed."""
    stored = tx.connection.execute(
        select(func.count())
        .select_from(documents)
        .where(documents.c.client_id == batch.client_id, documents.c.state.not_in(GONE))
    ).scalar_one()
    if stored != items:
        raise Refusal(
            "locked",
            f"batch {batch.id}: expected the {items} documents of its register and no other of this"
            f" client, found {stored}; reject it and propose again",
        )
    tx.connection.execute(
        update(clients).where(clients.c.id == batch.client_id).values(state=ClientState.CLOSING)
    )


def _close_client(core: Core, tx: Transaction, batch: Row[Any], now: datetime) -> None:
    """The end of a client: its keyring goes whole, and with it its name, addresses and indexes."""
    closed = tx.connection.execute(
        update(clients)
        .where(clients.c.id == batch.client_id, clients.c.state != ClientState.CLOSED)
        .values(state=ClientState.CLOSED, profile=b"")
    )
    core.store.custody.end(tx.connection, batch.client_id, now)
    if closed.rowcount:
        core.record(tx, "client.closed", batch.client_id, batch.executor, now, batch=batch.id)
        core.record(tx, "keyring.ended", batch.client_id, batch.executor, now)
