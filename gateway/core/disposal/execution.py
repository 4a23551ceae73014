"""Executing an approved batch: nothing is destroyed early, twice, or only in part.

Promises: every document is checked again (state, rules, holds) inside the transaction that starts the
execution, and the whole batch is refused if one may not be destroyed.
Leaves out: proposing and approving (`proposal`), and what the certificate says (`certificate_body`).

Rules: a sequence of steps, each safe to run again, so that recovery after a crash is the same call:
    dispose.start     one transaction: checks, state EXECUTING, executor
    dispose.renew     every group that ever wrapped these documents' keys: survivors under a new group
    dispose.record    one transaction: rows lose key and metadata, tombstones, ledger: COMMIT POINT
    dispose.end-keys  the keyring loses the groups (new epoch); its registered copies must follow
    dispose.remove-blobs, dispose.truncate
    dispose.certify   what is gone is looked for; certificate, ledger entry, checkpoint
"""

from __future__ import annotations

import asyncio
import functools
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, or_, select

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.disposal import certificates, client_end, searches
from gateway.core.disposal.batch import Batch, as_it_is, load, remember, set_state, withdraw
from gateway.core.disposal.disposal import Disposal
from gateway.core.disposal.eligibility import Examination
from gateway.core.disposal.searches import Remains
from gateway.core.intake import recipients
from gateway.core.key_groups import Frozen
from gateway.core.keys import groups
from gateway.core.login.accounts import Account
from gateway.core.steps import step
from gateway.errors import Refusal
from vault.catalogue import holds as live_holds
from vault.catalogue import queries
from vault.catalogue.ledger import Draft
from vault.catalogue.schema import (
    account_keys,
    accounts,
    approvals,
    batches,
)
from vault.catalogue.states import AccountState, BatchState
from vault.catalogue.store import Transaction
from vault.catalogue.tombstones import erase
from vault.errors import StorageFailed, VaultError
from vault.moments import stamp

TRUNCATE_ATTEMPTS: Final = 20
EXECUTION: Final = "execution of batch"


class Held(Refusal):
    """A hold came while an execution ran, before its commit point: nothing was destroyed."""

    def __init__(self, batch_id: str, holds: list[str]) -> None:
        super().__init__(
            "locked",
            f"batch {batch_id}: expected no hold, found {', '.join(holds)}; nothing was destroyed, and"
            " the batch is withdrawn",
        )
        self.holds = holds


async def execute(disposal: Disposal, batch_id: str, account: Account) -> str:
    """Execute an approved batch; returns the certificate's id.

    Raises:
        Refusal: the wrong person, state or clock, or a document that may not go (a hold, say): then
            nothing at all was destroyed.
    """
    core = disposal.core
    now = core.now()
    await asyncio.to_thread(core.clock.require, now)
    if account.role not in {"officer", "archivist"}:
        raise Refusal(
            "denied",
            f"account {account.name}: expected an officer or archivist, found {account.role}",
        )

    with disposal.in_progress.claim(EXECUTION, batch_id):
        # Before it is recorded: the job that resumes must not take it too.
        await _start(disposal, batch_id, account, now)
        certificate = await _finish(disposal, batch_id)
    assert certificate is not None  # nobody else could have finished it
    return certificate


async def _start(disposal: Disposal, batch_id: str, account: Account, now: datetime) -> None:
    """Check all of it once more and record that it begins; what was read for that is let go of on return.

    Raises:
        Refusal: see `execute`.
    """
    core = disposal.core
    examined = Examination(core, now)

    def look(connection: Connection) -> None:
        examined.look(connection, _rows(connection, load(connection, batch_id)))

    def start(tx: Transaction) -> Batch:
        batch = load(tx.connection, batch_id)
        if batch.state != BatchState.APPROVED:
            raise Refusal(
                "locked", f"batch {batch_id}: expected it APPROVED, found it {batch.state}"
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
        for row, why_not, _ in examined.again(tx.connection, _rows(tx.connection, batch)):
            if why_not is not None:
                raise Refusal(
                    "locked", f"document {row.id}: expected it free to go, found {why_not}"
                )
        if batch.whole_client:
            client_end.stop_intake(tx, batch)
        set_state(tx, batch_id, BatchState.EXECUTING, executor=account.id, started_at=stamp(now))
        core.record(tx, "disposal.started", batch_id, account.id, now, items=len(batch.register))
        return batch

    await core.read(look)
    with step("dispose.start"):
        batch = await core.write(start)
    if batch.whole_client:
        await client_end.end_sessions(disposal.logins, batch.client_id)


def _rows(connection: Connection, batch: Batch) -> list[Row[Any]]:
    """The documents of a register, in its order."""
    found = queries.documents_of(connection, batch.ids)
    return [found[document_id] for document_id in batch.ids]


def _check_approvers(core: Core, tx: Transaction, batch_id: str, now: datetime) -> None:
    """Check that enough approvals still count: by active officers, with keys not removed."""
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


async def recover(disposal: Disposal) -> list[str]:
    """Finish every execution that a crash or a full disk interrupted; returns the certificates' ids."""
    # Their ids only: each is read when its turn has come, as others may have been finished until then.
    unfinished = await disposal.core.read(
        lambda connection: list(
            connection.execute(
                select(batches.c.id).where(batches.c.state == BatchState.EXECUTING)
            ).scalars()
        )
    )
    done = []
    for batch_id in unfinished:
        if disposal.in_progress.has(EXECUTION, batch_id):
            continue
        log.warning("disposal resumed", batch=batch_id)
        try:
            with disposal.in_progress.claim(EXECUTION, batch_id):
                certificate = await _finish(disposal, batch_id)
        except StorageFailed:
            raise
        except (VaultError, Refusal) as error:  # it comes again, and stops no other
            log.error("disposal not finished", batch=batch_id, error=str(error))
        else:
            if certificate is not None:
                done.append(certificate)
    return done


async def _finish(disposal: Disposal, batch_id: str) -> str | None:
    """Everything after `dispose.start`; safe to run again from the beginning, once at a time.

    Returns:
        The certificate's id; None: it was finished or withdrawn meanwhile.
    """
    async with disposal.keys.freeze.hold() as frozen:
        batch = await disposal.core.read(lambda connection: load(connection, batch_id))
        if batch.state != BatchState.EXECUTING:
            return None
        return await _destroy(disposal, frozen, batch)


async def _destroy(disposal: Disposal, frozen: Frozen, batch: Batch) -> str:
    core, keys = disposal.core, disposal.keys
    custody = core.store.custody
    now = core.now()
    ids = batch.ids

    # 1 and 2. Survivors leave the groups; then the documents are destroyed.
    batch, remains = await _erase(core, batch, now)

    # 3. The keys: after this no key that ever wrapped them exists in the keyring. Backups are told first
    #    what became of the survivors, or they could not be restored.
    ended = batch.progress.groups
    with step("dispose.end-keys"):
        await core.write(lambda tx: groups.end_groups(core, tx, ended, now))
        await groups.await_amendments(keys)

        def end(tx: Transaction) -> Batch:
            left = batch
            if batch.whole_client:
                client_end.close(core, tx, batch, now)
                groups.notify_backups(core, tx, [], now)
            else:
                custody.drop_keys(tx.connection, batch.client_id, ended, now)
                left = remember(tx, batch, epoch=custody.keyring(batch.client_id).epoch)
            for start in range(0, len(ended), groups.ENTRY_GROUPS):
                part = ended[start : start + groups.ENTRY_GROUPS]
                core.record(tx, "groups.ended", batch.id, ACTOR_CORE, now, groups=part)
            return left

        batch = await core.write(end)

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
            disposal.outbound, frozen, batch.client_id, ids, batch.progress.destroyed_at
        )
        checks = await asyncio.to_thread(searches.look, core, batch, remains, emptied)
        return await certificates.issue(disposal, batch, (*checks, *seen))


async def _erase(core: Core, batch: Batch, now: datetime) -> tuple[Batch, Remains]:
    """Steps 1 and 2; what was erased before a crash is erased.

    Raises:
        Held: a hold came; the batch is withdrawn, and nothing was destroyed.
    """
    custody = core.store.custody
    while True:
        # 1. Survivors of every group that ever wrapped one of these keys move to a new group. What is filed
        #    or reclassified meanwhile may add a group: the commit point looks again.
        living = await core.read(lambda connection: custody.living_groups(connection, batch.ids))
        with step("dispose.renew"):
            for group_id in living:
                await _empty(core, batch.id, group_id, now)

        # 2. COMMIT POINT: the documents are destroyed from here on.
        with step("dispose.record"):
            try:
                recorded = await core.write(
                    functools.partial(_record, core, batch=batch, living=living, now=core.now())
                )
            except Held as held:
                await core.write(
                    functools.partial(
                        withdraw, core, batch=batch, holds=held.holds, actor=ACTOR_CORE
                    )
                )
                raise
        if recorded is not None:
            return recorded


async def _empty(core: Core, batch_id: str, group_id: str, now: datetime) -> None:
    """Close a group and move out of it every document that is not of the batch."""
    custody = core.store.custody
    await core.write(lambda tx: custody.close_group(tx.connection, group_id, now))
    while await core.write(
        lambda tx: custody.move_survivors(tx.connection, group_id, now, leaving=batch_id)
    ):
        pass


def _record(
    core: Core, tx: Transaction, batch: Batch, living: list[str], now: datetime
) -> tuple[Batch, Remains] | None:
    """Rows lose key and metadata.

    Returns:
        The batch as it is then, and what was taken out of the rows, for the search after; None: a group has
        come in since the survivors moved, and nothing was done.

    Raises:
        Refusal: a hold was placed since the execution began.
    """
    batch = as_it_is(tx.connection, batch)
    if batch.progress.entries:  # before a crash
        return batch, Remains()
    _check_holds(tx, batch)
    if not set(core.store.custody.living_groups(tx.connection, batch.ids)) <= set(living):
        return None
    remains = searches.gather(core, tx.connection, batch.client_id, batch.ids, living)
    drafts: list[Draft] = []
    for part in queries.pages(batch.ids):
        rows = queries.documents_of(tx.connection, part)
        for document_id in part:
            row = rows[document_id]
            facts = {"batch": batch.id, "record_class": row.record_class, "rule": row.rule}
            drafts.append(Draft("document.destroyed", document_id, str(batch.executor), now, facts))
        erase(tx, part, client=batch.client_id, batch=batch.id, destroyed_at=stamp(now))
    indices = tx.ledger.append_all(tx.connection, drafts)
    client = queries.client(tx.connection, batch.client_id)
    recorded = remember(
        tx,
        batch,
        groups=living,
        entries=dict(zip(batch.ids, indices, strict=True)),
        destroyed_at=stamp(now),
        # Its profile may end with the batch.
        language=recipients.open_profile(core, client).language,
    )
    return recorded, remains


def _check_holds(tx: Transaction, batch: Batch) -> None:
    """Refuse if there is a hold, also one placed while the execution runs (up to the commit point)."""
    leaving = {None, *batch.ids}
    live = live_holds.live(tx.connection, [batch.client_id])
    found = [hold.id for hold in live if hold.document_id in leaving]
    if found:
        raise Held(batch.id, found)
