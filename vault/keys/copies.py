"""Registered copies of keyrings: where they are, what each is known to hold, what a certificate may say.

Promises: every change of a keyring is noted, in the transaction that makes it, as a delivery to each
registered copy (`[[keyring.copies]]`; table `errands`), so that a copy can be behind but never forgotten.
The note holds the keyring's owner and the target's name; what is delivered is the sealed file as it is
then. Of several changes in a row the last one counts.
Leaves out: delivering (`gateway.core.outbound`).

Rules:
1. A place is remembered for ever (`copy_places`). Taken out of the configuration it is *withdrawn*: what lies
   there still opens what it held, until a person *settles* it (says that nothing is left there). A name that
   now means another place leaves the old one behind, withdrawn, under a name of its own with a `~`.
2. What a place holds is known by reading it back: epoch and digest, one row a delivery (`copy_states`).
   Epoch 0 (`REMOVED`): the copy was removed and found absent.
3. A group key is gone from a place once an epoch from after its end was read back there. A place that keeps
   what was replaced (`keeps_days`: snapshots, versions) holds it that much longer.
4. In doubt a copy is live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from vault.catalogue.schema import copy_places, copy_states, errands
from vault.moments import stamp

SUFFIX: Final = ".keyring"  # as in the store, so that a copy can be put back as it is
REMOVED: Final = 0
SUPERSEDED: Final = "superseded"
SETTLED: Final = "settled"
_FORMER: Final = "~"  # not in a configured name


@dataclass(frozen=True)
class CopyState:
    """What a certificate lists for one place. `expires`: until when what was replaced is kept there."""

    place: str
    name: str
    state: Literal["live", "expired", "destroyed"]
    expires: date | None


@dataclass(frozen=True)
class Change:
    """A change of the register: `kind` is that of its ledger entry, `name` its subject.

    `fill`: the place starts without what it should hold, so every keyring has to be carried there.
    """

    kind: Literal["keyring.place-registered", "keyring.place-withdrawn"]
    name: str
    fill: bool


# ── what has to be carried ──


def request(connection: Connection, targets: Sequence[str], owner: str, now: datetime) -> None:
    """Note that a keyring has changed (or ended) and that its copies must follow.

    A note that was open already is superseded; the new one keeps its beginning, so that "behind since" is
    when the copy fell behind and not when the keyring changed last.
    """
    for target in targets:
        waiting = (
            errands.c.target == target,
            errands.c.name == owner + SUFFIX,
            errands.c.delivered_at.is_(None),
        )
        since = connection.execute(
            select(errands.c.created_at).where(*waiting).order_by(errands.c.id).limit(1)
        ).scalar()
        connection.execute(
            update(errands).where(*waiting).values(delivered_at=stamp(now), failure=SUPERSEDED)
        )
        connection.execute(
            insert(errands),
            {
                "target": target,
                "name": owner + SUFFIX,
                "created_at": since or stamp(now),
                "attempts": 0,
                "next_attempt_at": stamp(now),
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
    """The registered targets whose copy of a keyring is older than the keyring."""
    withdrawn = select(copy_places.c.name).where(copy_places.c.withdrawn_at.is_not(None))
    return set(
        connection.execute(
            select(errands.c.target).where(
                errands.c.name == owner + SUFFIX,
                errands.c.delivered_at.is_(None),
                errands.c.target.not_in(withdrawn),
            )
        ).scalars()
    )


# ── places ──


def register(
    connection: Connection, places: Sequence[tuple[str, str, int]], now: datetime
) -> list[Change]:
    """Bring the register in step with the configuration.

    Args:
        places: name, place in words, and days for which it keeps what was replaced.

    Returns:
        What changed; the caller records each in the ledger and has new places filled.
    """
    changes: list[Change] = []
    known = {row.name: row for row in connection.execute(select(copy_places))}
    for name, place, keeps_days in places:
        row = known.get(name)
        if row is not None and row.place != place:
            # The name means another place now. The old one does not vanish by that.
            former = _retire(connection, row, now)
            if row.withdrawn_at is None:
                changes.append(Change("keyring.place-withdrawn", former, fill=False))
            row = None
        if row is None:
            connection.execute(
                insert(copy_places),
                {
                    "name": name,
                    "place": place,
                    "keeps_days": keeps_days,
                    "registered_at": stamp(now),
                },
            )
            changes.append(Change("keyring.place-registered", name, fill=True))
        elif row.withdrawn_at is not None:
            if row.settled_at is not None:
                # Nothing was left there, so what was known of it counts no more.
                connection.execute(delete(copy_states).where(copy_states.c.target == name))
            _change(
                connection,
                name,
                keeps_days=keeps_days,
                registered_at=stamp(now),
                withdrawn_at=None,
                settled_at=None,
                settled_by=None,
                statement=None,
            )
            changes.append(Change("keyring.place-registered", name, fill=True))
        elif row.keeps_days != keeps_days:
            _change(connection, name, keeps_days=keeps_days)
    configured = {name for name, _, _ in places}
    for name, row in known.items():
        if name not in configured and row.withdrawn_at is None:
            _change(connection, name, withdrawn_at=stamp(now))
            changes.append(Change("keyring.place-withdrawn", name, fill=False))
    return changes


def settle(connection: Connection, name: str, by: str, statement: bytes, now: datetime) -> None:
    """Note that a person says that nothing is left at a withdrawn place.

    Args:
        by: the account. statement: what was said, sealed.
    """
    _change(connection, name, settled_at=stamp(now), settled_by=by, statement=statement)
    connection.execute(
        update(errands)
        .where(errands.c.target == name, errands.c.delivered_at.is_(None))
        .values(delivered_at=stamp(now), failure=SETTLED)
    )


def _change(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(copy_places).where(copy_places.c.name == name).values(values))


def _retire(connection: Connection, row: Row[Any], now: datetime) -> str:
    """Give a place whose name is taken by another one a name of its own; returns it."""
    mark = _FORMER + now.strftime("%Y%m%dT%H%M%SZ")
    former = str(row.name)[: 64 - len(mark)] + mark
    connection.execute(
        update(copy_places)
        .where(copy_places.c.name == row.name)
        .values(name=former, withdrawn_at=row.withdrawn_at or stamp(now))
    )
    for table in (copy_states, errands):
        connection.execute(update(table).where(table.c.target == row.name).values(target=former))
    return former


# ── what is there ──


def delivered_to(connection: Connection, target: str) -> bool:
    """Whether a copy was ever seen at a place: then its marker must be there, too."""
    return (
        connection.execute(
            select(copy_states.c.id).where(copy_states.c.target == target).limit(1)
        ).scalar()
        is not None
    )


def record(
    connection: Connection, target: str, owner: str, epoch: int, digest: str, now: datetime
) -> None:
    """Note what was read back at a place: the keyring's epoch (or `REMOVED`) and the file's SHA-256 in hex.

    Rows that no certificate can need any more are dropped: those before the last one that is older than
    what the place keeps.
    """
    mine = (copy_states.c.target == target, copy_states.c.owner == owner)
    connection.execute(
        insert(copy_states),
        {
            "target": target,
            "owner": owner,
            "epoch": epoch,
            "digest": digest,
            "delivered_at": stamp(now),
        },
    )
    keeps = connection.execute(
        select(copy_places.c.keeps_days).where(copy_places.c.name == target)
    ).scalar()
    oldest = connection.execute(
        select(copy_states.c.id)
        .where(*mine, copy_states.c.delivered_at <= stamp(now - timedelta(days=(keeps or 0) + 1)))
        .order_by(copy_states.c.id.desc())
        .limit(1)
    ).scalar()
    if oldest is not None:
        connection.execute(delete(copy_states).where(*mine, copy_states.c.id < oldest))


def owners_at(connection: Connection, target: str) -> set[str]:
    """The owners whose keyrings lie at a place, as far as it is known."""
    last = (
        select(func.max(copy_states.c.id))
        .where(copy_states.c.target == target)
        .group_by(copy_states.c.owner)
    )
    return set(
        connection.execute(
            select(copy_states.c.owner).where(
                copy_states.c.id.in_(last), copy_states.c.epoch != REMOVED
            )
        ).scalars()
    )


def latest(connection: Connection, target: str, owner: str) -> Row[Any] | None:
    """The copy of a keyring that was last read back at a place."""
    return connection.execute(
        select(copy_states)
        .where(copy_states.c.target == target, copy_states.c.owner == owner)
        .order_by(copy_states.c.id.desc())
        .limit(1)
    ).one_or_none()


def newest_epoch(connection: Connection, owner: str) -> int:
    """The newest epoch of a keyring that was read back anywhere; 0: none was."""
    found = connection.execute(
        select(func.max(copy_states.c.epoch)).where(copy_states.c.owner == owner)
    ).scalar()
    return int(found or 0)


def good_copies(connection: Connection, owner: str) -> list[tuple[str, int]]:
    """The places where a copy of a keyring was read back last, and its epoch: the newest first."""
    rows = connection.execute(
        select(copy_states.c.target, func.max(copy_states.c.epoch).label("epoch"))
        .where(copy_states.c.owner == owner)
        .group_by(copy_states.c.target)
    )
    return sorted(((row.target, int(row.epoch)) for row in rows), key=lambda each: -each[1])


def table(
    connection: Connection,
    owner: str,
    now: datetime,
    *,
    epoch: int | None = None,
    erased_since: str | None = None,
) -> tuple[CopyState, ...]:
    """What a certificate lists for the keyring of `owner`, by place.

    Args:
        epoch: the first epoch without the keys in question; None: the present one (a copy has it when
            nothing is waiting to be carried there).
        erased_since: since then (ISO 8601; empty: always) keyrings have been saved under a token that has
            destroyed the epoch keys of former files, so that those open nothing wherever they lie. None:
            under a root key that can't forget.

    Returns:
        One entry for each place that held this keyring or may hold it. `live` without a date: it holds the
        keys, or may. `live` with one: its newest copy does not, and former ones are kept until then.
        `expired`: that day has passed. `destroyed`: nothing with the keys is left there.
    """
    found = []
    for place in connection.execute(select(copy_places).order_by(copy_places.c.name)):
        seen = connection.execute(
            select(copy_states)
            .where(copy_states.c.target == place.name, copy_states.c.owner == owner)
            .order_by(copy_states.c.id)
        ).all()
        waits = (
            connection.execute(
                select(errands.c.id)
                .where(
                    errands.c.target == place.name,
                    errands.c.name == owner + SUFFIX,
                    errands.c.delivered_at.is_(None),
                )
                .limit(1)
            ).scalar()
            is not None
        )
        if not seen and not waits:
            continue
        state, expires = _judge(
            place, seen, now, epoch=epoch, waits=waits, erased_since=erased_since
        )
        found.append(CopyState(place.place, place.name, state, expires))
    return tuple(found)


def _all_erased(
    place: Row[Any], seen: Sequence[Row[Any]], now: datetime, erased_since: str | None
) -> bool:
    """Whether every file that lies or lay there was saved under a token that has forgotten it."""
    if not erased_since:
        return erased_since is not None
    if not seen or seen[-1].delivered_at <= erased_since:
        return False  # what lies there may be from before the token
    kept = datetime.fromisoformat(erased_since) + timedelta(days=place.keeps_days)
    return place.keeps_days == 0 or kept < now


def _judge(
    place: Row[Any],
    seen: Sequence[Row[Any]],
    now: datetime,
    *,
    epoch: int | None,
    waits: bool,
    erased_since: str | None,
) -> tuple[Literal["live", "expired", "destroyed"], date | None]:
    """State and date of one place, from what was seen there."""
    if place.settled_at is not None or _all_erased(place, seen, now, erased_since):
        return "destroyed", None
    if epoch is None:
        # Without an epoch to compare with, only a place that is kept in step can be judged.
        followed = [] if waits or place.withdrawn_at is not None else list(seen[-1:])
    else:
        followed = [row for row in seen if row.epoch == REMOVED or row.epoch >= epoch]
        if seen and seen[-1] not in followed:
            followed = []  # what lies there now is older than what lay there before
    if not followed:
        return "live", None
    if place.keeps_days == 0:
        return "destroyed", None
    # The first of them replaced the last file with the keys.
    until = datetime.fromisoformat(followed[0].delivered_at) + timedelta(days=place.keeps_days)
    return ("expired" if until <= now else "live"), until.date()
