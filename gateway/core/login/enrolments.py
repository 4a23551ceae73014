"""How a key came to the account that signs with it, put down at the moment it signs.

Promises: what a certificate states of a key is what was so when it signed, whatever became of the key and
its account since; so every certificate of a batch states the same.

Leaves out: who may enrol a key (`admin.account_keys`), and what a verifier makes of it
(`vault.certificate.enrolment`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, select

from gateway.core.login import ssh_keys
from vault.catalogue.schema import account_keys, accounts
from vault.certificate.enrolment import CONSOLE, FOUNDING, ROOT_KEY, Enroller, Enrolment

UNKNOWN: Final = "unknown"
"""In `account_keys.enrolled_by`, of a key that was given before it was kept who gives one."""


def enrolment_of(connection: Connection, account_id: str, blob: bytes) -> Enrolment | None:
    """The enrolment of a key that an account has, and that counts or has yet to; None: not known."""
    row = connection.execute(
        select(account_keys).where(
            account_keys.c.account_id == account_id,
            account_keys.c.fingerprint == ssh_keys.fingerprint(blob),
            account_keys.c.counts_from.is_not(None),
        )
    ).one()
    if row.enrolled_by == UNKNOWN:
        return None
    return Enrolment(
        account_id=account_id,
        fingerprint=row.fingerprint,
        added_at=datetime.fromisoformat(row.added_at),
        counts_from=datetime.fromisoformat(row.counts_from),
        enrolled_by=_enrolled_by(connection, row.enrolled_by),
        together_with=ROOT_KEY if ROOT_KEY in row.enrolled_by.split(",") else UNSET,
    )


def _enrolled_by(
    connection: Connection, text: str
) -> Literal["founding", "console"] | tuple[Enroller, ...]:
    """Who answered for a key, from `account_keys.enrolled_by`: ids by comma, `console`, or nothing."""
    if text == CONSOLE:
        return CONSOLE
    ids = [each for each in text.split(",") if each not in {"", ROOT_KEY}]
    if not ids:
        return FOUNDING
    names = {
        row.id: row.name
        for row in connection.execute(
            select(accounts.c.id, accounts.c.name).where(accounts.c.id.in_(ids))
        )
    }
    return tuple(Enroller(account=names[each], account_id=each) for each in ids)


def stated(connection: Connection, account_id: str, blob: bytes) -> str | None:
    """The enrolment of a key as it is kept beside the signature (`approvals`, `sanitisations`)."""
    found = enrolment_of(connection, account_id, blob)
    return None if found is None else msgspec.json.encode(found).decode()
