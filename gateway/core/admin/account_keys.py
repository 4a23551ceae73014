"""Public keys of accounts: adding and removing one, who answers for it, and those that do not count yet.

Rules: a key belongs to one account. Once there are three officers, a key of an officer is signed for by its
owner or by two other officers, and counts after `disposal.key_waiting_hours`.
Leaves out: how a recovery gives a key (`recovery`), and what an officer signs with it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, or_, select, update

from gateway.core.admin.context import Context, account_row
from gateway.core.admin.officers import check_not_officer, check_officer_makers
from gateway.core.admin.register import ADMIN, OFFICER, ByName, act
from gateway.core.admin.second_officer import CONSOLE, who_enrols
from gateway.core.core import Core
from gateway.core.login import recovery, ssh_keys
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import account_keys, accounts
from vault.catalogue.store import Transaction
from vault.moments import stamp


class Key(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `account.key`: a public key line to add, or a fingerprint to remove."""

    name: str
    add: str = ""
    remove: str = ""


@act("account.vouch", OFFICER)
async def vouch(context: Context, arguments: ByName) -> dict[str, Any]:
    """An officer states that the keys, password and code of an account are with the right person."""

    def work(tx: Transaction) -> None:
        row = account_row(tx.connection, arguments.name)
        if row.role == "officer":
            raise Refusal(
                "invalid",
                f"account {row.name}: expected one that is no officer's, found an officer",
            )
        assert context.account is not None  # `OFFICER` above: nobody else comes here
        tx.connection.execute(
            update(account_keys)
            .where(
                account_keys.c.account_id == row.id,
                account_keys.c.removed_at.is_(None),
                account_keys.c.enrolled_by == CONSOLE,
            )
            .values(enrolled_by=context.account.id)
        )
        tx.connection.execute(
            update(accounts)
            .where(accounts.c.id == row.id, accounts.c.secrets_by == CONSOLE)
            .values(secrets_by=context.account.id)
        )
        context.core.record(tx, "account.vouched", row.id, context.actor, context.now)

    await context.core.write(work)
    return {"name": arguments.name, "vouched": True}


@act("account.key", (*ADMIN, "officer"))
async def key(context: Context, arguments: Key) -> dict[str, Any]:
    """Add a public key to an account, or remove one (then its sessions end)."""
    if bool(arguments.add) == bool(arguments.remove):
        raise Refusal("invalid", "account key: expected one key to add or one to remove")
    added = public(arguments.add) if arguments.add else None

    def work(tx: Transaction) -> tuple[str, str, str | None]:
        row = account_row(tx.connection, arguments.name)
        counts: str | None = stamp(context.now)
        more: dict[str, Any] = {}
        if row.role != "officer":
            check_not_officer(
                context, row.name
            )  # he could log in as anyone, and approve its requests
        if added is not None:
            if row.role == "officer" and check_officer_makers(context, tx.connection):
                assert context.account is not None
                mark, counts = _enrol(tx, row, *added, context, context.account.id)
                more = {"counts_from": counts or ""}
            else:
                by = who_enrols(context, tx.connection)
                mark = add_key(tx, row.id, *added, context, counts_from=counts, by=by)
            kind = "account.key_added" if counts else "account.key_pending"
        else:
            mark = arguments.remove
            _check_removal(context, tx.connection, row, mark)
            changed = tx.connection.execute(
                update(account_keys)
                .where(
                    account_keys.c.account_id == row.id,
                    account_keys.c.fingerprint == mark,
                    account_keys.c.removed_at.is_(None),
                )
                .values(removed_at=stamp(context.now))
            )
            if changed.rowcount != 1:
                raise Refusal("not_found", f"key {mark}: expected one of {row.name}, found none")
            # One that a recovery gave and that does not count yet: taking it away is an objection.
            recovery.end(context.core, tx, row.id, context.actor, context.now, mark)
            kind = "account.key_removed"
        context.core.record(tx, kind, row.id, context.actor, context.now, fingerprint=mark, **more)
        return row.id, mark, counts

    account_id, fingerprint, counts = await context.core.write(work)
    if arguments.remove:
        context.wings.logins.end_sessions(account_id)
        return {"name": arguments.name, "fingerprint": fingerprint}
    return {"name": arguments.name, "fingerprint": fingerprint, "counts_from": counts}


def _check_removal(context: Context, connection: Connection, row: Any, mark: str) -> None:
    """Refuse the removal of an officer's key by someone who may not remove it (raises Refusal).

    One that counts takes an officer's signature: else the console ended a quorum, where it may suspend only.
    One that does not count yet anybody may remove.
    """
    if row.role != "officer":
        return
    counts = connection.execute(
        select(account_keys.c.fingerprint).where(
            account_keys.c.account_id == row.id,
            account_keys.c.fingerprint == mark,
            account_keys.c.removed_at.is_(None),
            account_keys.c.counts_from <= stamp(context.now),
        )
    ).first()
    if counts is not None:
        check_officer_makers(context, connection)


def _enrol(
    tx: Transaction, row: Any, algorithm: str, blob: bytes, context: Context, signer: str
) -> tuple[str, str | None]:
    """Add an officer's key once there are three officers: its owner signs, or two others do.

    Returns:
        Its fingerprint, and from when it counts; None: another officer has yet to sign for it.
    """
    waiting = timedelta(hours=context.core.config.disposal.key_waiting_hours)
    counts: str | None = stamp(context.now + waiting)
    if signer == row.id:
        return add_key(tx, row.id, algorithm, blob, context, counts_from=counts, by=signer), counts
    mark = ssh_keys.fingerprint(blob)
    pending = tx.connection.execute(
        select(account_keys.c.enrolled_by).where(
            account_keys.c.account_id == row.id,
            account_keys.c.fingerprint == mark,
            account_keys.c.removed_at.is_(None),
            account_keys.c.counts_from.is_(None),
        )
    ).scalar()
    if pending is None:
        return add_key(tx, row.id, algorithm, blob, context, counts_from=None, by=signer), None
    if pending == signer:
        raise Refusal(
            "exists", f"key {mark}: expected another officer to sign for it, found the same one"
        )
    first = tx.connection.execute(
        select(accounts.c.state).where(accounts.c.id == pending, accounts.c.role == "officer")
    ).scalar()
    if first != "active":
        # The first signer is no officer any more: this is the first signature that counts.
        counts, pending = None, None
    tx.connection.execute(
        update(account_keys)
        .where(account_keys.c.account_id == row.id, account_keys.c.fingerprint == mark)
        .values(counts_from=counts, enrolled_by=f"{pending},{signer}" if pending else signer)
    )
    return mark, counts


async def enrolments(core: Core, now: datetime) -> list[dict[str, Any]]:
    """Keys of officers that do not count yet: the notice that all officers see in `status`."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        names = queries.account_names(connection)
        rows = connection.execute(
            select(account_keys)
            .join(accounts, accounts.c.id == account_keys.c.account_id)
            .where(
                accounts.c.role == "officer",
                account_keys.c.removed_at.is_(None),
                or_(account_keys.c.counts_from.is_(None), account_keys.c.counts_from > stamp(now)),
            )
            .order_by(account_keys.c.added_at)
        )
        return [
            {
                "name": names[row.account_id],
                "fingerprint": row.fingerprint,
                "counts_from": row.counts_from,
                "enrolled_by": [
                    names.get(each, each) for each in row.enrolled_by.split(",") if each
                ],
            }
            for row in rows
        ]

    return await core.read(look)


def public(line: str) -> tuple[str, bytes]:
    """Algorithm and blob of a public key line (raises Refusal)."""
    try:
        return ssh_keys.parse_public(line)
    except ssh_keys.KeyFormatError as error:
        raise Refusal("invalid", str(error)) from error


def add_key(
    tx: Transaction,
    account_id: str,
    algorithm: str,
    blob: bytes,
    context: Context,
    *,
    counts_from: str | None,
    by: str = "",
) -> str:
    """Add a public key to an account; returns its fingerprint (raises Refusal: an account has it)."""
    mark = ssh_keys.fingerprint(blob)
    owner = tx.connection.execute(
        select(account_keys.c.account_id).where(
            account_keys.c.fingerprint == mark, account_keys.c.removed_at.is_(None)
        )
    ).scalar()
    if owner is not None:
        # One key, one person: or two approvals could be one hand.
        raise Refusal("exists", f"key {mark}: expected one that no account has, found it in use")
    # One that was taken back and is given again has its row already.
    again = tx.connection.execute(
        update(account_keys)
        .where(account_keys.c.account_id == account_id, account_keys.c.fingerprint == mark)
        .values(
            added_at=stamp(context.now),
            removed_at=None,
            counts_from=counts_from,
            enrolled_by=by,
        )
    )
    if again.rowcount:
        return mark
    tx.connection.execute(
        insert(account_keys),
        {
            "account_id": account_id,
            "fingerprint": mark,
            "algorithm": algorithm,
            "blob": blob,
            "added_at": stamp(context.now),
            "counts_from": counts_from,
            "enrolled_by": by,
        },
    )
    return mark
