"""One-time codes and passwords given to an account that is there: enrolment anew, and a new password.

Promises: the former secret ends with the act, and so do the account's live sessions: the one who holds the
old secret may be the reason. For an officer an officer signs, as for a new key: a password or code must not
be a way around.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pyotp
from sqlalchemy import Connection, update

from gateway.core.admin.accounts import check_password, enrolment
from gateway.core.admin.context import Context, account_row
from gateway.core.admin.officers import check_not_officer, check_officer_makers
from gateway.core.admin.register import ADMIN, ByName, act
from gateway.core.admin.second_officer import who_enrols
from gateway.core.login import accounts as identity
from gateway.core.login import passwords
from gateway.errors import Refusal
from vault.catalogue.schema import accounts
from vault.catalogue.states import AccountState
from vault.catalogue.store import Transaction


class Password(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `account.password`; an empty one takes the password away."""

    name: str
    password: str


@act("account.totp", (*ADMIN, "officer"))
async def totp(context: Context, arguments: ByName) -> dict[str, Any]:
    """Enrol a one-time code, in the place of one that was enrolled before."""
    core = context.core
    await _check(context, arguments.name)
    secret = pyotp.random_base32()

    def work(tx: Transaction) -> str:
        row = account_row(tx.connection, arguments.name)
        tx.connection.execute(
            update(accounts)
            .where(accounts.c.id == row.id)
            # The steps used so far were those of the old secret.
            .values(
                totp=identity.seal_totp(core, row.id, secret),
                totp_last_step=None,
                secrets_by=who_enrols(context, tx.connection),
            )
        )
        core.record(
            tx, "account.code_enrolled", row.id, context.actor, context.now,
            again=row.totp is not None,
        )  # fmt: skip
        return str(row.id)

    context.wings.logins.end_sessions(await core.write(work))
    return {"name": arguments.name, "totp_uri": enrolment(arguments.name, secret)}


@act("account.password", (*ADMIN, "officer"))
async def password(context: Context, arguments: Password) -> dict[str, Any]:
    """Give an account another password, or take it away."""
    core = context.core
    await _check(context, arguments.name)
    check_password(arguments.password)
    hashed = (
        await asyncio.to_thread(passwords.hash_password, arguments.password)
        if arguments.password
        else None
    )

    def work(tx: Transaction) -> str:
        row = account_row(tx.connection, arguments.name)
        tx.connection.execute(
            update(accounts)
            .where(accounts.c.id == row.id)
            .values(password_hash=hashed, secrets_by=who_enrols(context, tx.connection))
        )
        core.record(
            tx, "account.password_changed", row.id, context.actor, context.now,
            password=hashed is not None,
        )  # fmt: skip
        return str(row.id)

    context.wings.logins.end_sessions(await core.write(work))
    return {"name": arguments.name, "password": hashed is not None}


async def _check(context: Context, name: str) -> None:
    """Refuse to set the factors of an account to someone who may not (raises Refusal)."""

    def look(connection: Connection) -> None:
        row = account_row(connection, name)
        if row.state != AccountState.ACTIVE:
            raise Refusal("invalid", f"account {name}: expected it active, found it {row.state}")
        if row.role != "officer":
            check_not_officer(context, name)
            return
        own = context.account is not None and context.account.id == row.id
        if check_officer_makers(context, connection) and not own:
            raise Refusal(
                "denied",
                f"account {name}: expected its own signature, found another's; who lost every key gets a new"
                " one by two officers (`account key`), and sets this then",
            )

    await context.core.read(look)
