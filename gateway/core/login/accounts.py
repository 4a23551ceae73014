"""Who someone is: accounts, their factors, and what proves them.

Promises:
- An unknown account, a disabled one and a wrong secret are told apart by nobody outside, neither by
  the answer nor by the work done for it (a password check always costs one argon2id).
- A factor counts only after its proof: a probe with an unsigned key marks nothing.
- A one-time code is good once (RFC 6238, section 5.2).

Leaves out: which factors a role takes and where and when an account may log in (`admission`), and what a
wrong attempt costs (`throttle`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Final

import pyotp
from sqlalchemy import Connection, Row, bindparam, or_, select, update

from gateway.core.core import Core
from gateway.core.login import ssh_keys
from vault.catalogue.schema import account_keys, accounts, grants
from vault.catalogue.states import AccountState
from vault.catalogue.store import Transaction
from vault.crypto.wrapping import open_record, seal_record
from vault.keys.open_keyrings import HOUSE
from vault.keys.secret_names import SECRET_ACCOUNTS

ROLES: Final = ("client", "accountant", "officer", "archivist", "auditor", "admin")
PURPOSE_TOTP: Final = "account-totp"
PURPOSE_EMAIL: Final = "account-email"
MSG_USERAUTH_REQUEST: Final = 50  # RFC 4252
TOTP_WINDOW: Final = 1  # steps of 30 s a client's clock may be off

# Built once: building a statement costs three times its execution, and every login passes here.
_ACTIVE: Final = select(accounts).where(
    accounts.c.name == bindparam("name"), accounts.c.state == AccountState.ACTIVE
)
_GRANTED: Final = select(grants.c.client_id).where(grants.c.account_id == bindparam("account"))
_KEY: Final = select(account_keys.c.blob).where(
    account_keys.c.account_id == bindparam("account"),
    account_keys.c.fingerprint == bindparam("fingerprint"),
    account_keys.c.removed_at.is_(None),
    account_keys.c.counts_from.is_not(None),  # else a second officer has yet to sign for it
)

NOBODY: Final = ""
"""The id that no account has, for questions that are asked all the same."""

_NOBODY: Final[Any] = SimpleNamespace(id=NOBODY, name="", role="", client_id=None)


@dataclass(frozen=True)
class Account:
    """An account as loaded from the catalogue. `clients` are the ids it may see."""

    id: str
    name: str
    role: str
    client_id: str | None
    clients: frozenset[str] = frozenset()


@dataclass
class Proof:
    """What one connection has proven so far, and by what: it must be so still when the login is recorded."""

    user: str | None = None
    key: bytes | None = None  # the blob of the key that signed
    password_hash: str | None = None  # of the password that was right
    totp: bytes | None = None  # the sealed secret that a code was right for
    failures: int = 0

    @property
    def first_factor(self) -> str | None:
        """The first factor's method, once there is one."""
        if self.key is not None:
            return "publickey"
        return None if self.password_hash is None else "password"


def load_account(connection: Connection, name: str) -> Row[Any] | None:
    """The active account of that name, or None."""
    return connection.execute(_ACTIVE, {"name": name}).one_or_none()


def describe(connection: Connection, row: Row[Any]) -> Account:
    """An account with the clients it may see."""
    granted = connection.execute(_GRANTED, {"account": row.id}).scalars()
    seen = {row.client_id} if row.client_id else set()
    return Account(row.id, row.name, row.role, row.client_id, frozenset(seen | set(granted)))


def current_account(connection: Connection, name: str) -> Account | None:
    """The active account of that name with what it may see now, or None."""
    row = load_account(connection, name)
    return describe(connection, row) if row is not None else None


def look_up(connection: Connection, name: str) -> tuple[Row[Any] | None, Account | None]:
    """The active account of that name, as its row and with what it may see.

    For a name that no account has the same is asked, so that the time tells nobody which names there are.
    """
    row = load_account(connection, name)
    account = describe(connection, _NOBODY if row is None else row)
    return row, None if row is None else account


def has_key(connection: Connection, account_id: str, blob: bytes) -> bool:
    """Whether this public key is registered for the account and not removed."""
    wanted = {"account": account_id, "fingerprint": ssh_keys.fingerprint(blob)}
    found = connection.execute(_KEY, wanted).scalar()
    return found is not None and bytes(found) == blob


def counts_from(connection: Connection, account_id: str, blob: bytes) -> str:
    """From when a registered key counts for what its owner signs, as the catalogue stores times."""
    return str(
        connection.execute(
            select(account_keys.c.counts_from).where(
                account_keys.c.account_id == account_id,
                account_keys.c.fingerprint == ssh_keys.fingerprint(blob),
                account_keys.c.counts_from.is_not(None),
            )
        ).scalar_one()
    )


def still_proves(connection: Connection, row: Row[Any], proof: Proof) -> bool:
    """Whether the account still has the factors of a proof, and no code has come to be wanted since."""
    if row.totp != proof.totp:
        return False
    if proof.key is not None:
        return has_key(connection, row.id, proof.key)
    return proof.password_hash is not None and row.password_hash == proof.password_hash


def login_statement(session_id: bytes, user: str, algorithm: str, blob: bytes) -> bytes:
    """What a user's key signs at login (RFC 4252, section 7)."""
    return (
        ssh_keys.string(session_id)
        + bytes([MSG_USERAUTH_REQUEST])
        + ssh_keys.string(user.encode())
        + ssh_keys.string(b"ssh-connection")
        + ssh_keys.string(b"publickey")
        + b"\x01"
        + ssh_keys.string(algorithm.encode())
        + ssh_keys.string(blob)
    )


def seal_totp(core: Core, account_id: str, secret: str) -> bytes:
    """Seal a TOTP secret for the catalogue."""
    key = core.store.custody.keyring(HOUSE).secrets[SECRET_ACCOUNTS]
    return seal_record(key, secret.encode(), purpose=PURPOSE_TOTP, subject=account_id)


def seal_email(core: Core, account_id: str, address: str) -> bytes:
    """Seal the address that an account gets notices at."""
    key = core.store.custody.keyring(HOUSE).secrets[SECRET_ACCOUNTS]
    return seal_record(key, address.encode(), purpose=PURPOSE_EMAIL, subject=account_id)


def open_email(core: Core, row: Row[Any]) -> str:
    """The address that an account gets notices at; "": it has none."""
    if row.email is None:
        return ""
    key = core.store.custody.keyring(HOUSE).secrets[SECRET_ACCOUNTS]
    return open_record(key, row.email, purpose=PURPOSE_EMAIL, subject=row.id).decode()


def find_step(core: Core, row: Row[Any], code: str, now: datetime) -> int | None:
    """The step (RFC 6238) that a one-time code is for, if it is right and unused; None: it is wrong.

    A reading work: a wrong code costs no write. `use_step` uses it up.
    """
    if row.totp is None:
        return None
    key = core.store.custody.keyring(HOUSE).secrets[SECRET_ACCOUNTS]
    secret = open_record(key, row.totp, purpose=PURPOSE_TOTP, subject=row.id).decode()
    totp = pyotp.TOTP(secret)
    current = int(now.timestamp()) // totp.interval
    for step in range(current - TOTP_WINDOW, current + TOTP_WINDOW + 1):
        if row.totp_last_step is not None and step <= row.totp_last_step:
            continue
        if pyotp.utils.strings_equal(code.strip(), totp.generate_otp(step)):
            return step
    return None


def use_step(tx: Transaction, row: Row[Any], step: int) -> bool:
    """Use a step up (inside a transaction, so that it can't be used twice); whether it was unused.

    A secret that was enrolled anew since the code was looked at takes no code of the old one.
    """
    done = tx.connection.execute(
        update(accounts)
        .where(
            accounts.c.id == row.id,
            accounts.c.totp == row.totp,
            or_(accounts.c.totp_last_step.is_(None), accounts.c.totp_last_step < step),
        )
        .values(totp_last_step=step)
    )
    return done.rowcount == 1
