"""A lost quorum, and its recovery: who can still sign, what was recovered, and what proves the root key.

Promises: what is found here is found from the catalogue alone. A proof is made with the root key where its
holder has it, over one act at one moment; the key never travels, and the proof opens nothing.

Leaves out: the acts (`admin.recovery`), and whether an officer may act this very minute (`signed`).

Rules:
1. An officer can sign who is active, not expired, and has a key whose waiting period is over. The hours of
   the day are not looked at: a quorum is not lost at night.
2. A recovery runs until its key counts; until then any officer may object. It stands from then on, until
   two other officers have reviewed it. Taking its key away later does not make it undone.
3. The proof is the SHA-256 of the statement, wrapped under the root key for the purpose `quorum-recovery`
   (FORMAT.md, section 3): whoever has the root key, or the token and its PIN, can make it and nobody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, exists, func, or_, select, update

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import account_keys, accounts, recoveries
from vault.catalogue.states import AccountState
from vault.catalogue.store import Transaction
from vault.errors import IntegrityError, KeyUnavailable
from vault.keys.root import RootKey
from vault.moments import stamp

QUORUM: Final = 2
FOUNDERS: Final = 3
"""Officers that the console may make; with the third the beginner's rule ends."""
PURPOSE: Final = "quorum-recovery"


def statement(*, name: str, key: str, officer: str, at: datetime) -> bytes:
    """What the holder of the root key agrees to: a key line for an account, with this officer, now."""
    return msgspec.json.encode(
        {
            "account": name,
            "at": stamp(at),
            "key": key,
            "officer": officer,
            "purpose": "strongroom/v1/quorum-recovery",
        },
        order="deterministic",
    )


def prove(root: RootKey, text: bytes, name: str) -> bytes:
    """The proof (61 bytes) that the root key's holder agrees to a statement about account `name`.

    A token keeps an object for it until `forget`. Raises TokenFailed, RootKeyRefused.
    """
    return root.wrap(hashlib.sha256(text).digest(), purpose=PURPOSE, subject=name)


def forget(root: RootKey, name: str) -> None:
    """Take away what a token kept for proofs about this account (raises TokenFailed)."""
    root.forget(purpose=PURPOSE, subject=name)


def check_proof(root: RootKey, proof: bytes, text: bytes, name: str) -> None:
    """Whether a proof is of this root key and of this statement.

    Raises:
        Refusal: it is not. TokenFailed: the token does not answer.
    """
    try:
        agreed = root.unwrap(proof, purpose=PURPOSE, subject=name)
    except (IntegrityError, KeyUnavailable) as error:
        raise Refusal(
            "denied",
            "recovery: expected a proof made with this store's root key, found none;"
            " its holder gives it with --root-key",
        ) from error
    if agreed != hashlib.sha256(text).digest():
        raise Refusal(
            "denied", "recovery: expected the root key's proof of this very act, found another's"
        )


def signers(connection: Connection, now: datetime) -> list[str]:
    """The ids of the officers who can sign (rule 1)."""
    at = stamp(now)
    return list(
        connection.execute(
            select(accounts.c.id)
            .where(
                accounts.c.role == "officer",
                accounts.c.state == AccountState.ACTIVE,
                or_(accounts.c.expires_at.is_(None), accounts.c.expires_at > at),
                exists().where(
                    account_keys.c.account_id == accounts.c.id,
                    account_keys.c.removed_at.is_(None),
                    account_keys.c.counts_from <= at,
                ),
            )
            .order_by(accounts.c.name)
        ).scalars()
    )


def founded(connection: Connection) -> bool:
    """Whether there are or were enough officers, so that the console makes none any more."""
    ever = connection.execute(
        select(func.count()).select_from(accounts).where(accounts.c.role == "officer")
    ).scalar_one()
    return int(ever) >= FOUNDERS


def lost(connection: Connection, now: datetime) -> bool:
    """Whether there was a quorum, and fewer than two officers can sign."""
    return founded(connection) and len(signers(connection, now)) < QUORUM


def running(connection: Connection, now: datetime) -> Sequence[Row[Any]]:
    """Recoveries whose key does not count yet, and that nobody objected to."""
    return _those(connection, recoveries.c.counts_from > stamp(now))


def standing(connection: Connection, now: datetime) -> Sequence[Row[Any]]:
    """Recoveries that count and that nobody has reviewed, the oldest first."""
    return _those(
        connection, recoveries.c.counts_from <= stamp(now), recoveries.c.reviewed_at.is_(None)
    )


def _those(connection: Connection, *where: Any) -> Sequence[Row[Any]]:
    return connection.execute(
        select(recoveries, accounts.c.name)
        .join(accounts, accounts.c.id == recoveries.c.account_id)
        .where(recoveries.c.ended_at.is_(None), *where)
        .order_by(recoveries.c.counts_from, recoveries.c.id)
    ).all()


def unreviewed(connection: Connection, account_id: str) -> bool:
    """Whether an account's way to act came from a recovery that nobody has reviewed, counting yet or not."""
    return (
        connection.execute(
            select(recoveries.c.id).where(
                recoveries.c.account_id == account_id,
                recoveries.c.ended_at.is_(None),
                recoveries.c.reviewed_at.is_(None),
            )
        ).first()
        is not None
    )


def end(
    core: Core, tx: Transaction, account_id: str, actor: str, now: datetime, fingerprint: str = ""
) -> Row[Any] | None:
    """End the running recovery of an account: its key goes, and the account if it was made for it.

    Args:
        fingerprint: only one that gave this key.

    Returns:
        What was ended; None: nothing ran.
    """
    found = [
        row
        for row in running(tx.connection, now)
        if row.account_id == account_id and fingerprint in {"", row.fingerprint}
    ]
    if not found:
        return None
    (row,) = found
    tx.connection.execute(
        update(recoveries)
        .where(recoveries.c.id == row.id)
        .values(ended_at=stamp(now), ended_by=actor)
    )
    tx.connection.execute(
        update(account_keys)
        .where(
            account_keys.c.account_id == account_id,
            account_keys.c.fingerprint == row.fingerprint,
            account_keys.c.removed_at.is_(None),
        )
        .values(removed_at=stamp(now))
    )
    if row.made:
        tx.connection.execute(
            update(accounts).where(accounts.c.id == account_id).values(state=AccountState.DISABLED)
        )
    core.record(
        tx, "quorum.recovery_cancelled", account_id, actor, now,
        fingerprint=row.fingerprint, counts_from=row.counts_from,
    )  # fmt: skip
    log.warning("the recovery of a quorum was cancelled", account=account_id, by=actor)
    return row


async def announce(core: Core) -> None:
    """Say once, in log and ledger, that a recovery has begun to count."""
    now = core.now()

    def work(tx: Transaction) -> list[Row[Any]]:
        due = [row for row in standing(tx.connection, now) if row.announced_at is None]
        for row in due:
            tx.connection.execute(
                update(recoveries).where(recoveries.c.id == row.id).values(announced_at=stamp(now))
            )
            core.record(
                tx, "quorum.recovery_counts", row.account_id, ACTOR_CORE, now,
                fingerprint=row.fingerprint, counts_from=row.counts_from,
            )  # fmt: skip
        return due

    def waits(connection: Connection) -> bool:
        return any(row.announced_at is None for row in standing(connection, now))

    if await core.read(waits):
        for row in await core.write(work):
            log.warning(
                "a recovered quorum counts from now on; two other officers review it",
                account=row.account_id,
                counts_from=row.counts_from,
            )


def state(connection: Connection, now: datetime) -> dict[str, Any]:
    """The quorum for people and scripts: how many can sign, and which recoveries run or wait for review."""
    able = len(signers(connection, now))
    names = queries.account_names(connection)
    return {
        "can_sign": able,
        "lost": lost(connection, now),
        "recoveries": [
            {
                "name": row.name,
                "fingerprint": row.fingerprint,
                "begun_at": row.begun_at,
                "begun_by": names[row.begun_by],
                "counts_from": row.counts_from,
                "counts": row.counts_from <= stamp(now),
            }
            for row in (*running(connection, now), *standing(connection, now))
        ],
    }
