"""The recovery of a lost quorum: the holder of the root key and one officer give another officer a key.

Promises: only where fewer than two officers can sign; only with a signature that counts and a proof of the
root key over this very act; and the key counts no earlier than `disposal.recovery_waiting_hours` later, for
batches proposed after that. Until then every officer may object, one that the console suspended too. From
then on every certificate says so, until two officers, neither of them the recovered one, have reviewed it.

Leaves out: what a lost quorum is and what the proof is made of (`gateway.core.login.recovery`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Row, insert, select, update

from gateway.core.admin.account_keys import add_key, public
from gateway.core.admin.accounts import NAME, check_never_signed
from gateway.core.admin.context import Context, account_row
from gateway.core.admin.register import OFFICER, ByName, Nothing, act
from gateway.core.admin.second_officer import signed
from gateway.core.clock import TOLERANCE
from gateway.core.core import log
from gateway.core.login import recovery
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import accounts, recoveries
from vault.catalogue.states import AccountState
from vault.catalogue.store import Transaction
from vault.certificate.enrolment import ROOT_KEY
from vault.ids import new_id
from vault.moments import stamp


class Recover(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `account.recover`: whose key, its public line, the moment, the proof (base64)."""

    name: Annotated[str, Meta(pattern=NAME)]
    key: str
    at: datetime
    proof: Annotated[str, Meta(max_length=200)]


class Reviewed(msgspec.Struct):
    """The argument that both officers sign at a review: ids of the open recoveries, by comma."""

    recoveries: str


@act("account.recover", OFFICER)
async def recover(context: Context, arguments: Recover) -> dict[str, Any]:
    """Begin the recovery of a lost quorum: a new officer, or a new key for one."""
    core, now, officer = context.core, context.now, context.account
    assert officer is not None  # only an officer may do this
    algorithm, blob = public(arguments.key)
    await asyncio.to_thread(core.clock.require, now)
    await core.read(lambda connection: _check_lost(connection, now))
    proof = await asyncio.to_thread(_checked_proof, context, arguments, officer.name)
    counts = stamp(now + core.config.disposal.recovery_waiting)

    def work(tx: Transaction) -> dict[str, Any]:
        connection = tx.connection
        _check_lost(connection, now)
        used = select(recoveries.c.id).where(recoveries.c.proof == proof)
        if connection.execute(used).first() is not None:
            raise Refusal("exists", "recovery: expected a new proof, found one that was used")
        row = queries.account_named(connection, arguments.name)
        account_id = row.id if row is not None else _new_officer(tx, arguments.name, now)
        if row is not None:
            _check_recoverable(row, officer.id)
        mark = add_key(
            tx,
            account_id,
            algorithm,
            blob,
            context,
            counts_from=counts,
            by=f"{officer.id},{ROOT_KEY}",
        )
        connection.execute(
            insert(recoveries),
            {
                "id": new_id(now),
                "account_id": account_id,
                "fingerprint": mark,
                "made": row is None,
                "begun_at": stamp(now),
                "begun_by": officer.id,
                "counts_from": counts,
                "proof": proof,
            },
        )
        core.record(
            tx, "quorum.recovery_begun", account_id, context.actor, now,
            fingerprint=mark, counts_from=counts, made=row is None,
            root_key=core.store.custody.keyrings.root.id,
        )  # fmt: skip
        return {"id": account_id, "name": arguments.name, "fingerprint": mark, "made": row is None}

    done = await core.write(work)
    log.warning(
        "the recovery of a quorum has begun", account=done["id"], by=context.actor,
        fingerprint=done["fingerprint"], counts_from=counts,
    )  # fmt: skip
    return {**done, "counts_from": counts}


def _check_lost(connection: Connection, now: datetime) -> None:
    """Refuse a recovery where no quorum is lost (raises Refusal)."""
    if not recovery.founded(connection):
        raise Refusal(
            "invalid",
            "recovery: expected three officers that are or were, found fewer; the console makes them",
        )
    if recovery.running(connection, now):
        raise Refusal("exists", "recovery: expected none under way, found one; `status` shows it")
    able = len(recovery.signers(connection, now))
    if able >= recovery.QUORUM:
        raise Refusal(
            "invalid",
            f"recovery: expected fewer than {recovery.QUORUM} officers who can sign, found {able}; two of"
            " them enrol a key (`account key`, `account add`)",
        )


def _check_recoverable(row: Row[Any], officer_id: str) -> None:
    """Refuse an existing account that can't be given a key by a recovery (raises Refusal)."""
    if row.role != "officer":
        raise Refusal(
            "invalid", f"account {row.name}: expected an officer or a new name, found {row.role}"
        )
    if row.id == officer_id:
        raise Refusal(
            "invalid", f"account {row.name}: expected another officer than the one who signs"
        )
    if row.state != AccountState.ACTIVE:
        raise Refusal(
            "invalid",
            f"account {row.name}: expected it active, found it {row.state}; the remaining officer signs"
            " `account enable` first",
        )


def _checked_proof(context: Context, arguments: Recover, officer: str) -> str:
    """The digest of a proof that was found right (raises Refusal, TokenFailed)."""
    if arguments.at.tzinfo is None or abs(arguments.at - context.now) > TOLERANCE:
        raise Refusal(
            "invalid",
            f"recovery: expected a proof made now ({stamp(context.now)}), found one of"
            f" {arguments.at.isoformat()}",
        )
    try:
        proof = base64.b64decode(arguments.proof, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            "invalid", "recovery: expected a proof in base64, found other text"
        ) from error
    text = recovery.statement(
        name=arguments.name, key=arguments.key, officer=officer, at=arguments.at
    )
    root = context.core.store.custody.keyrings.root
    recovery.check_proof(root, proof, text, arguments.name)
    return hashlib.sha256(proof).hexdigest()


def _new_officer(tx: Transaction, name: str, now: datetime) -> str:
    account_id = new_id(now)
    check_never_signed(tx.connection, name, account_id)
    tx.connection.execute(
        insert(accounts),
        {
            "id": account_id,
            "name": name,
            "role": "officer",
            "state": AccountState.ACTIVE,
            "created_at": stamp(now),
        },
    )
    return account_id


@act("account.cancel-recovery", OFFICER, suspended=True)
async def cancel(context: Context, arguments: ByName) -> dict[str, Any]:
    """Object to a recovery that does not count yet: it ends, with its key."""
    core = context.core

    def work(tx: Transaction) -> str:
        row = account_row(tx.connection, arguments.name)
        ended = recovery.end(core, tx, row.id, context.actor, context.now)
        if ended is None:
            raise Refusal(
                "not_found", f"account {row.name}: expected a recovery under way, found none"
            )
        return str(row.id)

    context.wings.logins.end_sessions(await core.write(work))
    return {"name": arguments.name, "cancelled": True}


@act("account.review-recovery", OFFICER)
async def review(context: Context, arguments: Nothing) -> dict[str, Any]:
    """State that the recoveries that count were in order: two officers, none of them recovered."""
    del arguments
    core, now = context.core, context.now
    account = context.account
    assert account is not None  # only an officer may do this

    def work(tx: Transaction) -> dict[str, Any]:
        found = recovery.standing(tx.connection, now)
        if not found:
            raise Refusal("not_found", "recovery: expected one to review, found none")
        if account.id in {row.account_id for row in found}:
            raise Refusal(
                "denied",
                f"account {account.name}: expected officers that were not recovered, found one that was",
            )
        ids = [row.id for row in found]
        first = signed(context, tx, "account.review-recovery", Reviewed(",".join(ids)), ids[0])
        names = [row.name for row in found]
        if first is None:
            return {"names": names, "reviewed_at": None, "waiting": True}
        tx.connection.execute(
            update(recoveries)
            .where(recoveries.c.id.in_(ids))
            .values(reviewed_at=stamp(now), reviewed_by=f"{first},{account.id}")
        )
        for row in found:
            core.record(
                tx, "quorum.recovery_reviewed", row.account_id, context.actor, now,
                also=first, fingerprint=row.fingerprint,
            )  # fmt: skip
        return {"names": names, "reviewed_at": stamp(now), "waiting": False}

    return await core.write(work)
