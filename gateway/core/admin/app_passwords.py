"""App passwords of a client's account: what its scanners and other devices hand in mail with.

Promises: one is generated here, shown in this one answer and kept as its argon2id; it opens nothing but the
submission of mail, whatever the account's own factors are. One that is removed ends with the act, and so do
the account's live sessions. Leaves out: the form of one (`core.login.app_passwords`), and the login with it.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, func, insert, select, update

from gateway.core.admin.context import Context, account_row
from gateway.core.admin.register import ADMIN, READERS, ByName, act
from gateway.core.login import app_passwords as form
from gateway.core.login import passwords
from gateway.errors import Refusal
from vault.catalogue.schema import app_passwords
from vault.catalogue.states import AccountState
from vault.catalogue.store import Transaction
from vault.ids import new_id
from vault.moments import stamp

MOST: Final = 50  # of one account

Label = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,64}\Z")]


class Labelled(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments that name an app password: its account, and the label of the device that has it."""

    name: str
    label: Label


@act("account.app-password.add", (*ADMIN, "officer"))
async def add(context: Context, arguments: Labelled) -> dict[str, Any]:
    """Generate a password for a device that sends mail for a client's account; it is shown once."""
    core = context.core
    password = form.generate()
    hashed = await asyncio.to_thread(passwords.hash_password, password)
    made = new_id(context.now)

    def work(tx: Transaction) -> None:
        row = account_row(tx.connection, arguments.name)
        if row.role != "client":
            raise Refusal(
                "invalid",
                f"account {row.name}: expected one of a client, whose documents mail becomes, found"
                f" the role {row.role}",
            )
        if row.state != AccountState.ACTIVE:
            raise Refusal("invalid", f"account {row.name}: expected it active, found {row.state}")
        if _live(tx.connection, row.id, arguments.label) is not None:
            raise Refusal(
                "exists",
                f"account {row.name}: expected a label that none of its app passwords has, found"
                f" {arguments.label!r} in use",
            )
        kept = tx.connection.execute(
            select(func.count())
            .select_from(app_passwords)
            .where(app_passwords.c.account_id == row.id, app_passwords.c.removed_at.is_(None))
        ).scalar_one()
        if kept >= MOST:
            raise Refusal(
                "invalid",
                f"account {row.name}: expected at most {MOST} app passwords, found {kept}",
            )
        taken = tx.connection.execute(
            select(app_passwords.c.id).where(
                app_passwords.c.account_id == row.id,
                app_passwords.c.selector == password[: form.SELECTOR],
            )
        ).scalar()
        if taken is not None:
            raise Refusal("busy", "app password: expected a new beginning, found one in use; again")
        tx.connection.execute(
            insert(app_passwords),
            {
                "id": made,
                "account_id": row.id,
                "selector": password[: form.SELECTOR],
                "label": arguments.label,
                "password_hash": hashed,
                "created_at": stamp(context.now),
                "created_by": "console" if context.account is None else context.account.id,
            },
        )
        core.record(
            tx, "account.app_password_added", row.id, context.actor, context.now,
            app_password=made,
        )  # fmt: skip

    await core.write(work)
    return {"name": arguments.name, "label": arguments.label, "password": form.shown(password)}


@act("account.app-password.list", READERS)
async def list_all(context: Context, arguments: ByName) -> list[dict[str, Any]]:
    """The app passwords of an account: their labels, their first characters, and when each was last used."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        row = account_row(connection, arguments.name)
        found = connection.execute(
            select(app_passwords)
            .where(app_passwords.c.account_id == row.id, app_passwords.c.removed_at.is_(None))
            .order_by(app_passwords.c.id)
        )
        return [
            {
                "id": each.id,
                "label": each.label,
                "begins": each.selector,
                "created_at": each.created_at,
                "created_by": each.created_by,
                "last_used_at": each.last_used_at,
            }
            for each in found
        ]

    return await context.core.read(look)


@act("account.app-password.remove", (*ADMIN, "officer"))
async def remove(context: Context, arguments: Labelled) -> dict[str, Any]:
    """Take a device's password away; the account's live sessions end."""

    def work(tx: Transaction) -> str:
        row = account_row(tx.connection, arguments.name)
        found = _live(tx.connection, row.id, arguments.label)
        if found is None:
            raise Refusal(
                "not_found",
                f"account {row.name}: expected an app password {arguments.label!r}, found none",
            )
        # The row stays: its beginning is never given again, and the ledger speaks of it.
        tx.connection.execute(
            update(app_passwords)
            .where(app_passwords.c.id == found)
            .values(removed_at=stamp(context.now), password_hash="")
        )
        context.core.record(
            tx, "account.app_password_removed", row.id, context.actor, context.now,
            app_password=found,
        )  # fmt: skip
        return str(row.id)

    context.wings.logins.end_sessions(await context.core.write(work))
    return {"name": arguments.name, "label": arguments.label}


def _live(connection: Connection, account_id: str, label: str) -> str | None:
    return connection.execute(
        select(app_passwords.c.id).where(
            app_passwords.c.account_id == account_id,
            app_passwords.c.label == label,
            app_passwords.c.removed_at.is_(None),
        )
    ).scalar()
