"""Accounts: adding, listing, changing, renaming, disabling and enabling them.

A change that takes something away ends the account's live sessions: who may go on logs in again.
Leaves out: keys (`account_keys`), which clients an account may see (`grants`), and passwords and one-time
codes given later (`factors`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
import pyotp
from msgspec import Meta
from sqlalchemy import Connection, insert, select, update

from gateway.config.addresses import is_mail_address
from gateway.core.admin.account_keys import add_key, public
from gateway.core.admin.context import Context, account_row, client_row
from gateway.core.admin.officers import check_not_officer, check_officer_makers, check_other_officer
from gateway.core.admin.register import ADMIN, READERS, ByName, Nothing, act
from gateway.core.admin.second_officer import who_enrols
from gateway.core.disposal.signatures import signers_named
from gateway.core.login import accounts as identity
from gateway.core.login import limits as admission
from gateway.core.login import passwords
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import account_keys, accounts, grants
from vault.catalogue.states import AccountState, ClientState
from vault.catalogue.store import Transaction
from vault.ids import new_id
from vault.moments import stamp

NAME = r"^[a-z_][a-z0-9_.-]{0,31}\Z"
PASSWORD_MINIMUM = 12


class Add(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `account.add`. `keys` are public key lines; `totp` enrols a one-time code.

    `expires`, `networks` and `hours` are limits in the words of `gateway.core.login.limits`; empty: none.
    `email`: where it gets notices; empty: nowhere.
    """

    name: Annotated[str, Meta(pattern=NAME)]
    role: str
    client: str = ""
    keys: list[str] = []
    password: str = ""
    totp: bool = False
    expires: str = ""
    networks: list[str] = []
    hours: str = ""
    email: str = ""


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `account.change`, in the words of `Add`; None: as it is; empty: none any more."""

    name: str
    expires: str | None = None
    networks: list[str] | None = None
    hours: str | None = None
    email: str | None = None


class Rename(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `account.rename`."""

    name: str
    to: Annotated[str, Meta(pattern=NAME)]


@act("account.add", (*ADMIN, "officer"))
async def add(context: Context, arguments: Add) -> dict[str, Any]:
    """Add an account with at least one way to log in."""
    core = context.core
    if arguments.role not in identity.ROLES:
        raise Refusal(
            "invalid",
            f"role: expected one of {', '.join(identity.ROLES)}, found {arguments.role!r}",
        )
    if (arguments.role == "client") != bool(arguments.client):
        raise Refusal("invalid", "client: expected one for the role client and for no other")
    if not arguments.keys and not arguments.password:
        raise Refusal(
            "invalid", f"account {arguments.name}: expected a key or a password, found none"
        )
    check_password(arguments.password)
    limits = _limits(context, arguments.expires, arguments.networks, arguments.hours)
    _check_email(arguments.email)
    keys = [public(line) for line in arguments.keys]
    account_id = new_id(context.now)
    secret = pyotp.random_base32() if arguments.totp else None

    def work(tx: Transaction) -> bool:
        pending = False
        if arguments.role == "officer":
            pending = check_officer_makers(context, tx.connection)
            if pending and (arguments.password or arguments.totp or not arguments.keys):
                raise Refusal(
                    "denied",
                    f"account {arguments.name}: expected keys and nothing else for a further officer; it sets"
                    " its password and code itself, once a second officer has signed for a key",
                )
        else:
            check_not_officer(context, arguments.name)
        if tx.connection.execute(
            select(accounts.c.id).where(accounts.c.name == arguments.name)
        ).scalar():
            raise Refusal("exists", f"account {arguments.name}: expected a new one, found it there")
        check_never_signed(tx.connection, arguments.name, account_id)
        # Before this one is there: it may be the last founder.
        by = who_enrols(context, tx.connection)
        client_id = None
        if arguments.client:
            client = client_row(tx.connection, arguments.client)
            if client.state != ClientState.OPEN:
                raise Refusal("invalid", f"client {client.slug}: expected it open, found it closed")
            client_id = client.id
        tx.connection.execute(
            insert(accounts),
            {
                "id": account_id,
                "name": arguments.name,
                "role": arguments.role,
                "client_id": client_id,
                "state": AccountState.ACTIVE,
                "password_hash": passwords.hash_password(arguments.password)
                if arguments.password
                else None,
                "totp": identity.seal_totp(core, account_id, secret) if secret else None,
                "created_at": stamp(context.now),
                "secrets_by": by,
                "email": identity.seal_email(core, account_id, arguments.email)
                if arguments.email
                else None,
                **limits,
            },
        )
        for algorithm, blob in keys:
            add_key(
                tx,
                account_id,
                algorithm,
                blob,
                context,
                counts_from=None if pending else stamp(context.now),
                by=by,
            )
        core.record(
            tx,
            "account.added",
            account_id,
            context.actor,
            context.now,
            role=arguments.role,
            keys=len(keys),
            password=bool(arguments.password),
            code=arguments.totp,
        )
        return pending

    pending = await core.write(work)
    missing = admission.lacks(
        core.config.login.factors(arguments.role),
        keys=len(keys),
        password=bool(arguments.password),
        code=secret is not None,
    )
    answer: dict[str, Any] = {
        "id": account_id,
        "name": arguments.name,
        "role": arguments.role,
        "lacks": missing,
    }
    if pending:
        # Two officers make a third: one who signed for it alone would hold every key of it.
        answer["pending"] = "another officer signs `account key NAME --add FILE` for each key"
    if secret is not None:
        answer["totp_uri"] = enrolment(arguments.name, secret)
    return answer


def enrolment(name: str, secret: str) -> str:
    """The URI for an authenticator app. It is shown once, at enrolment; the store keeps it sealed."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="Strongroom")


def check_password(password: str) -> None:
    """Refuse a short password (raises Refusal); none at all is none."""
    if password and len(password) < PASSWORD_MINIMUM:
        raise Refusal("invalid", f"password: expected at least {PASSWORD_MINIMUM} characters")


def _check_email(email: str | None) -> None:
    """Refuse what is no address (raises Refusal); none at all is none."""
    if email and not is_mail_address(email):
        raise Refusal("invalid", "e-mail: expected an address like name@example.com, found another")


def _limits(
    context: Context, expires: str | None, networks: list[str] | None, hours: str | None
) -> dict[str, str | None]:
    """Limits as columns of the catalogue; those that stay as they are are left out (raises Refusal)."""
    found: dict[str, str | None] = {}
    subject = "expires"
    try:
        if expires is not None:
            zone = ZoneInfo(context.core.config.login.time_zone)
            found["expires_at"] = stamp(admission.parse_expiry(expires, zone)) if expires else None
        subject = "network"
        if networks is not None:
            found["networks"] = (
                json.dumps(admission.parse_addresses(networks)) if networks else None
            )
        subject = "hours"
        if hours is not None:
            if hours:
                admission.parse_hours(hours)
            found["hours"] = hours or None
    except admission.LimitError as error:
        raise Refusal("invalid", f"{subject}: {error}") from error
    return found


@act("account.change", (*ADMIN, "officer"))
async def change(context: Context, arguments: Change) -> dict[str, Any]:
    """Change an account's limits, and where it gets notices.

    With limits its live sessions end, so that the new ones hold at once.
    """
    limits = _limits(context, arguments.expires, arguments.networks, arguments.hours)
    _check_email(arguments.email)
    if not limits and arguments.email is None:
        raise Refusal(
            "invalid",
            "account change: expected an expiry, networks, hours or an e-mail address, found none",
        )

    def work(tx: Transaction) -> str:
        row = account_row(tx.connection, arguments.name)
        check_other_officer(context, tx.connection, row)
        values: dict[str, Any] = dict(limits)
        if arguments.email is not None:
            values["email"] = (
                identity.seal_email(context.core, row.id, arguments.email)
                if arguments.email
                else None
            )
        tx.connection.execute(update(accounts).where(accounts.c.id == row.id).values(**values))
        # The ledger holds no address: it says that it changed.
        context.core.record(
            tx, "account.changed", row.id, context.actor, context.now, limits=sorted(values)
        )
        return str(row.id)

    account_id = await context.core.write(work)
    if limits:
        context.wings.logins.end_sessions(account_id)
    row = await context.core.read(lambda c: account_row(c, arguments.name))
    return {
        "name": arguments.name,
        **shown_limits(row),
        "email": identity.open_email(context.core, row),
    }


def shown_limits(row: Any) -> dict[str, Any]:
    """An account's limits for people and scripts."""
    return {
        "expires_at": row.expires_at,
        "networks": json.loads(row.networks) if row.networks else [],
        "hours": row.hours or "",
    }


@act("account.list", READERS)
async def list_all(context: Context, arguments: Nothing) -> list[dict[str, Any]]:
    """All accounts, their keys' fingerprints and what they may see."""
    del arguments

    def look(connection: Any) -> list[dict[str, Any]]:
        names = queries.slugs(connection)
        login = context.core.config.login
        found = []
        for row in connection.execute(select(accounts).order_by(accounts.c.name)):
            keys = list(
                connection.execute(
                    select(account_keys.c.fingerprint).where(
                        account_keys.c.account_id == row.id, account_keys.c.removed_at.is_(None)
                    )
                ).scalars()
            )
            granted = connection.execute(
                select(grants.c.client_id).where(grants.c.account_id == row.id)
            ).scalars()
            found.append(
                {
                    "id": row.id,
                    "name": row.name,
                    "role": row.role,
                    "state": row.state,
                    "client": names.get(row.client_id, ""),
                    "keys": keys,
                    "password": row.password_hash is not None,
                    "totp": row.totp is not None,
                    "clients": sorted(names[client_id] for client_id in granted),
                    **shown_limits(row),
                    "notices": row.email is not None,
                    "lacks": admission.lacks(
                        login.factors(row.role),
                        keys=len(keys),
                        password=row.password_hash is not None,
                        code=row.totp is not None,
                    ),
                }
            )
        return found

    return await context.core.read(look)


@act("account.disable", ADMIN)
async def disable(context: Context, arguments: ByName) -> dict[str, Any]:
    """Disable an account: no further login, and its sessions end. A disabled officer still counts as one."""

    def work(tx: Transaction) -> str:
        row = account_row(tx.connection, arguments.name)
        tx.connection.execute(
            update(accounts).where(accounts.c.id == row.id).values(state=AccountState.DISABLED)
        )
        context.core.record(tx, "account.disabled", row.id, context.actor, context.now)
        return str(row.id)

    context.wings.logins.end_sessions(await context.core.write(work))
    return {"name": arguments.name, "state": AccountState.DISABLED}


@act("account.enable", (*ADMIN, "officer"))
async def enable(context: Context, arguments: ByName) -> dict[str, Any]:
    """Enable a disabled account again; an officer's takes another officer's signature."""

    def work(tx: Transaction) -> None:
        row = account_row(tx.connection, arguments.name)
        check_other_officer(context, tx.connection, row)
        changed = tx.connection.execute(
            update(accounts)
            .where(accounts.c.id == row.id, accounts.c.state == AccountState.DISABLED)
            .values(state=AccountState.ACTIVE)
        )
        if not changed.rowcount:
            raise Refusal("invalid", f"account {row.name}: expected it disabled, found it active")
        context.core.record(tx, "account.enabled", row.id, context.actor, context.now)

    await context.core.write(work)
    return {"name": arguments.name, "state": AccountState.ACTIVE}


@act("account.rename", (*ADMIN, "officer"))
async def rename(context: Context, arguments: Rename) -> dict[str, Any]:
    """Give an account another name to log in and sign with; all else is kept by its id and stays."""

    def work(tx: Transaction) -> str:
        row = account_row(tx.connection, arguments.name)
        check_other_officer(context, tx.connection, row)
        if tx.connection.execute(
            select(accounts.c.id).where(accounts.c.name == arguments.to)
        ).scalar():
            raise Refusal("exists", f"account {arguments.to}: expected a new name, found it in use")
        check_never_signed(tx.connection, arguments.to, row.id)
        tx.connection.execute(
            update(accounts).where(accounts.c.id == row.id).values(name=arguments.to)
        )
        context.core.record(tx, "account.renamed", row.id, context.actor, context.now)
        return str(row.id)

    account_id = await context.core.write(work)
    context.wings.logins.end_sessions(account_id)
    return {"id": account_id, "name": arguments.to}


def check_never_signed(connection: Connection, name: str, account_id: str) -> None:
    """Refuse a name that another account has signed under: in a certificate a name is one person's."""
    if signers_named(connection, name) - {account_id}:
        raise Refusal(
            "exists",
            f"account {name}: expected a name that nobody else has signed under, found one of an account that"
            " was renamed",
        )
