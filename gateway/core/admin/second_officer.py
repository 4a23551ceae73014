"""Acts that take two officers: the first signature is kept, and the act is done with the second.

Promises: nobody releases a hold or what inspection closed, and nobody opens a restricted document, alone.
Both officers sign the very same act with the very same arguments; the second signature has to come within
`WAITS`, and the first counts only while its officer is active. Until then `status` shows what waits, and the
ledger has both signatures.

Leaves out: approvals of a disposal batch, which are signed over its register (`core.disposal`), and the
enrolment of officers' keys (`account_keys`).
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select

from gateway.core.admin.context import Context
from gateway.core.login import recovery
from gateway.errors import Refusal
from vault.catalogue.schema import account_keys, accounts, second_signatures
from vault.catalogue.states import AccountState
from vault.catalogue.store import Transaction
from vault.certificate import enrolment as certificate_enrolment
from vault.moments import stamp

WAITS: Final = timedelta(days=7)
CONSOLE: Final = certificate_enrolment.CONSOLE  # in `account_keys.enrolled_by`


def signed(
    context: Context, tx: Transaction, act: str, arguments: msgspec.Struct, subject: str
) -> str | None:
    """The account id of another officer who has signed the same act: then it may be done now.

    Args:
        subject: the id that the act is about, for those who look what waits.

    Returns:
        None: this is the first signature, kept from now on.

    Raises:
        Refusal: no officer signs, or the one that signed first signs again.
    """
    account = context.account
    if account is None or account.role != "officer":
        raise Refusal("denied", f"act {act}: expected the signatures of two officers, found none")
    digest = hashlib.sha256(
        msgspec.json.encode([act, arguments], order="deterministic")
    ).hexdigest()
    same = (second_signatures.c.act == act) & (second_signatures.c.digest == digest)
    tx.connection.execute(
        delete(second_signatures).where(second_signatures.c.signed_at < stamp(context.now - WAITS))
    )
    found = tx.connection.execute(
        select(second_signatures.c.account_id, accounts.c.name)
        .join(accounts, accounts.c.id == second_signatures.c.account_id)
        .where(same, accounts.c.role == "officer", accounts.c.state == AccountState.ACTIVE)
    ).all()
    others = [row.account_id for row in found if row.account_id != account.id]
    if others:
        tx.connection.execute(delete(second_signatures).where(same))
        return str(others[0])
    if found:
        raise Refusal(
            "exists",
            f"act {act} on {subject}: expected another officer to sign it, found {account.name} again",
        )
    tx.connection.execute(
        insert(second_signatures),
        {
            "act": act,
            "digest": digest,
            "account_id": account.id,
            "subject": subject,
            "arguments": msgspec.json.encode(arguments).decode(),
            "signed_at": stamp(context.now),
        },
    )
    context.core.record(tx, "act.signed", subject, context.actor, context.now, act=act)
    return None


class TwoOfficers:
    """Permission for an act, inside its transaction; `waiting` tells afterwards whether it is missing."""

    def __init__(self, context: Context, act: str, arguments: msgspec.Struct) -> None:
        self._context = context
        self._act = act
        self._arguments = arguments
        self.waiting = False

    def __call__(self, tx: Transaction, row: Row[Any]) -> bool:
        """Whether both have signed for this row (raises Refusal)."""
        first = signed(self._context, tx, self._act, self._arguments, row.id)
        self.waiting = first is None
        return not self.waiting


def waiting(connection: Connection, now: datetime) -> list[dict[str, Any]]:
    """What waits for a second officer, the oldest first."""
    rows = connection.execute(
        select(second_signatures, accounts.c.name)
        .join(accounts, accounts.c.id == second_signatures.c.account_id)
        .where(second_signatures.c.signed_at >= stamp(now - WAITS))
        .order_by(second_signatures.c.signed_at)
    )
    return [
        {
            "act": row.act,
            "subject": row.subject,
            "arguments": msgspec.json.decode(row.arguments),
            "signed_by": row.name,
            "signed_at": row.signed_at,
            "until": stamp(datetime.fromisoformat(row.signed_at) + WAITS),
        }
        for row in rows
    ]


def who_enrols(context: Context, connection: Connection) -> str:
    """Who answers for a key, password or code given now; "" before there were enough officers.

    An officer who signs for another one then is not asked for a second: the console could do it unsigned.
    """
    if not recovery.founded(connection):
        return ""
    if context.account is not None and context.account.role == "officer":
        return context.account.id
    return CONSOLE


def may_be_one_hand(connection: Connection, account_id: str, officer_id: str) -> bool:
    """Whether an officer, alone or with the console, may also hold this account.

    So it may if a way to log in was given to it by the console, or by this very officer; an officer's own
    account was made by two, unless a recovery that nobody has reviewed gave it its key.
    """
    row = connection.execute(select(accounts).where(accounts.c.id == account_id)).one()
    if row.role == "officer":
        return recovery.unreviewed(connection, account_id)
    makers = set(
        connection.execute(
            select(account_keys.c.enrolled_by).where(
                account_keys.c.account_id == account_id, account_keys.c.removed_at.is_(None)
            )
        ).scalars()
    )
    if row.password_hash is not None or row.totp is not None:
        makers.add(row.secrets_by)
    return bool(makers & {CONSOLE, officer_id})
