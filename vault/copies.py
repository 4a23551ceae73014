"""Registered copies of keyrings: which are behind.

Every change of a keyring is noted, in the transaction that makes it, as an errand to each registered copy
(`[[keyring.copies]]`), so that a copy can be behind but never forgotten. The note holds the keyring's owner
and the target's name; what is carried is the sealed file as it is when it is carried. Of several changes
in a row the last one counts. Carrying is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, insert, select, update

from vault.catalogue.schema import errands

SUFFIX: Final = ".keyring"  # as in the store, so that a copy can be put back as it is
SUPERSEDED: Final = "superseded"


def request(connection: Connection, targets: Sequence[str], owner: str, now: datetime) -> None:
    """Note that a keyring has changed (or ended) and that its copies must follow."""
    stamp = now.isoformat(timespec="microseconds")
    for target in targets:
        connection.execute(
            update(errands)
            .where(
                errands.c.target == target,
                errands.c.name == owner + SUFFIX,
                errands.c.delivered_at.is_(None),
            )
            .values(delivered_at=stamp, failure=SUPERSEDED)
        )
        connection.execute(
            insert(errands),
            {
                "target": target,
                "name": owner + SUFFIX,
                "created_at": stamp,
                "attempts": 0,
                "next_attempt_at": stamp,
                "failure": "",
            },
        )


def request_missing(
    connection: Connection, targets: Sequence[str], owners: Iterable[str], now: datetime
) -> None:
    """Note what a newly registered copy has never been given."""
    for owner in owners:
        for target in targets:
            known = connection.execute(
                select(errands.c.id)
                .where(errands.c.target == target, errands.c.name == owner + SUFFIX)
                .limit(1)
            ).scalar()
            if known is None:
                request(connection, [target], owner, now)


def behind(connection: Connection, owner: str) -> set[str]:
    """The targets whose copy of a keyring is older than the keyring."""
    return set(
        connection.execute(
            select(errands.c.target).where(
                errands.c.name == owner + SUFFIX, errands.c.delivered_at.is_(None)
            )
        ).scalars()
    )
