"""App passwords: what a scanner or another device logs in with, to hand in mail and for nothing else.

Promises: one is made here, by chance alone, and shown once; what is kept is its argon2id and the first
characters, by which one of an account's many is found, so that a check costs one argon2id whatever there are.
Removing one ends what it could do and no other one.

Leaves out: the acts (`gateway.core.admin.app_passwords`), and the login (`submission`).

Its form: `SELECTOR` characters that say which one it is, then `SECRET` that are secret: 80 bits, which nobody
guesses through `throttle`. Only letters and digits that are not taken for each other, and lower case only: it
is typed on the panel of a device. Shown in groups of four; spaces and hyphens do not count.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select, update

from vault.catalogue.schema import app_passwords
from vault.catalogue.store import Transaction
from vault.moments import stamp

ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # 32: no l and 1, no o and 0
SELECTOR: Final = 4
SECRET: Final = 16
_GROUP: Final = 4

_FOUND: Final = select(app_passwords).where(
    app_passwords.c.account_id == bindparam("account"),
    app_passwords.c.selector == bindparam("selector"),
    app_passwords.c.removed_at.is_(None),
)


def generate() -> str:
    """A new one, without its hyphens."""
    return "".join(secrets.choice(ALPHABET) for _ in range(SELECTOR + SECRET))


def shown(password: str) -> str:
    """As people type it: in groups of four."""
    return "-".join(password[at : at + _GROUP] for at in range(0, len(password), _GROUP))


def plain(typed: str) -> str:
    """What was typed, as `generate` made it; "" for what can't be one."""
    found = typed.replace("-", "").replace(" ", "").lower()
    if len(found) != SELECTOR + SECRET or not set(found) <= set(ALPHABET):
        return ""
    return found


def find(connection: Connection, account_id: str, password: str) -> Row[Any] | None:
    """The app password of an account that `password` (in its plain form) would have to be."""
    wanted = {"account": account_id, "selector": password[:SELECTOR]}
    return connection.execute(_FOUND, wanted).one_or_none()


def use(tx: Transaction, row: Row[Any], at: Any) -> bool:
    """Note that one was used; whether it is still there."""
    done = tx.connection.execute(
        update(app_passwords)
        .where(app_passwords.c.id == row.id, app_passwords.c.removed_at.is_(None))
        .values(last_used_at=stamp(at))
    )
    return done.rowcount == 1
