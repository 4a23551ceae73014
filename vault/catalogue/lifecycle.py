"""The life of a document as one literal table, and the only function that changes a document's state.

```
RECEIVED ─▶ FILED ─▶ ARCHIVED ─▶ DESTROYED
   │  ├─▶ REVIEW ─▶ FILED, or RECEIVED once more to be opened with a password
   │  └─▶ QUARANTINED ─▶ FILED (released by two officers) | DESTROYED (after its own period)
   └────◀── a message whose sender proved nothing, and that two officers take all the same
PARTIAL ─▶ RECEIVED | EXPIRED
```

Promises: `documents.state` is written by `add` and `change_state` alone (tests/unit/vault/test_lifecycle.py
looks for any other writer), and only along the table. The database itself compares: a row is changed only
while it stands where the event may happen. Leaves out: holds, restriction and membership of a batch, which
are facts beside the state; ledger entries, which the caller appends in the same transaction.

Rules:
1. A pair of state and event that is not in the table is no transition: `IllegalTransition` says which.
2. A restore repeats destructions that came after the backup (`replayed`). The document may stand anywhere
   then, for the backup may be older than its filing.

>>> next_state(DocumentState.REVIEW, Event.RECLASSIFY)
<DocumentState.FILED: 'FILED'>
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Update, bindparam, case, insert, select, update

from vault.catalogue.prepared import Prepared
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState
from vault.errors import VaultError


class Event(StrEnum):
    """What can happen to a document."""

    COMPLETE = "complete"
    EXPIRE = "expire"
    FILE = "file"
    QUESTION = "question"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    ADMIT = "admit"
    REJECT = "reject"
    RECLASSIFY = "reclassify"
    UNLOCK = "unlock"
    ARCHIVE = "archive"
    DESTROY = "destroy"


TRANSITIONS: Final[dict[tuple[DocumentState, Event], DocumentState]] = {
    (DocumentState.PARTIAL, Event.COMPLETE): DocumentState.RECEIVED,
    (DocumentState.PARTIAL, Event.EXPIRE): DocumentState.EXPIRED,
    (DocumentState.RECEIVED, Event.FILE): DocumentState.FILED,
    (DocumentState.RECEIVED, Event.QUESTION): DocumentState.REVIEW,
    (DocumentState.RECEIVED, Event.QUARANTINE): DocumentState.QUARANTINED,
    (DocumentState.REVIEW, Event.RECLASSIFY): DocumentState.FILED,
    (DocumentState.REVIEW, Event.UNLOCK): DocumentState.RECEIVED,
    (DocumentState.REVIEW, Event.REJECT): DocumentState.QUARANTINED,
    (DocumentState.QUARANTINED, Event.RELEASE): DocumentState.FILED,
    (DocumentState.QUARANTINED, Event.ADMIT): DocumentState.RECEIVED,
    (DocumentState.QUARANTINED, Event.DESTROY): DocumentState.DESTROYED,
    (DocumentState.FILED, Event.RECLASSIFY): DocumentState.FILED,
    (DocumentState.FILED, Event.ARCHIVE): DocumentState.ARCHIVED,
    (DocumentState.FILED, Event.DESTROY): DocumentState.DESTROYED,
    (DocumentState.ARCHIVED, Event.RECLASSIFY): DocumentState.ARCHIVED,
    (DocumentState.ARCHIVED, Event.DESTROY): DocumentState.DESTROYED,
}


BEGINNINGS: Final = frozenset({DocumentState.PARTIAL, DocumentState.RECEIVED})
"""States that a document can come into being with."""

REPLAYED: Final[dict[tuple[DocumentState, Event], DocumentState]] = {
    (state, Event.DESTROY): DocumentState.DESTROYED
    for state in DocumentState
    if state is not DocumentState.DESTROYED
}
"""What a restore may repeat (rule 2)."""


class IllegalTransition(VaultError):
    """An event that a document in its state can't take."""


def next_state(state: DocumentState, event: Event) -> DocumentState:
    """The state after `event`.

    Raises:
        IllegalTransition: the table has no such pair.
    """
    following = TRANSITIONS.get((state, event))
    if following is None:
        allowed = ", ".join(sorted(e for s, e in TRANSITIONS if s == state)) or "nothing"
        raise IllegalTransition(
            f"document in state {state}: expected one of {allowed}, found {event}"
        )
    return following


def add(connection: Connection, state: DocumentState, at: str, columns: Mapping[str, Any]) -> None:
    """Write the row of a new document.

    Args:
        state: one of `BEGINNINGS`.
        at: now, as the catalogue stores it.
        columns: every other column.

    Raises:
        RuntimeError: no document begins in this state.
    """
    if state not in BEGINNINGS:
        raise RuntimeError(f"document: expected it to begin PARTIAL or RECEIVED, found {state}")
    row = {**columns, "state": str(state), "state_since": at}
    _addition(tuple(row)).execute(connection, row)


def change_state(
    connection: Connection,
    ids: Sequence[str],
    event: Event,
    at: str,
    *,
    replayed: bool = False,
    where_possible: bool = False,
    **columns: Any,
) -> int:
    """Change the state of documents, and with it other columns of their rows, inside a transaction.

    Args:
        ids: at most as many as an SQL `IN` list takes (500 is safe).
        at: now, as the catalogue stores it; becomes `state_since`.
        replayed: a restore repeats what happened after the backup (rule 2).
        where_possible: leave alone what stands where the event can't happen.
        columns: written in the same statement.

    Returns:
        How many documents changed.

    Raises:
        IllegalTransition: one of them can't take the event, or is not there; the transaction must not be
            committed then.
    """
    changed: int = connection.execute(
        _statement(event, replayed, tuple(columns)),
        {"ids": list(ids), "since": at, **{f"new_{name}": columns[name] for name in columns}},
    ).rowcount
    if changed == len(ids) or where_possible:
        return changed
    found = {
        row.id: DocumentState(row.state)
        for row in connection.execute(
            select(documents.c.id, documents.c.state).where(documents.c.id.in_(ids))
        )
    }
    if missing := [each for each in ids if each not in found]:
        raise IllegalTransition(f"document {missing[0]}: expected it in the catalogue, found none")
    # Those that did change stand at an end of the event now: the others are to blame first.
    ends = {end for (_, each), end in TRANSITIONS.items() if each is event}
    for state in sorted(found.values(), key=lambda each: each in ends):
        next_state(state, event)
    raise IllegalTransition(f"documents: expected each once, found {len(ids)} for {len(found)}")


@functools.cache
def _addition(columns: tuple[str, ...]) -> Prepared:
    return Prepared(insert(documents).values({name: bindparam(name) for name in columns}))


@functools.cache
def _statement(event: Event, replayed: bool, columns: tuple[str, ...]) -> Update:
    """The one UPDATE that writes a state; the columns' names are the program's own, so they are few."""
    table = REPLAYED if replayed else TRANSITIONS
    ways = {state: end for (state, each), end in table.items() if each is event}
    ends = set(ways.values())
    following: Any = (
        ends.pop()
        if len(ends) == 1
        else case(*((documents.c.state == state, end) for state, end in ways.items()))
    )
    return (
        update(documents)
        .where(
            documents.c.id.in_(bindparam("ids", expanding=True)),
            documents.c.state.in_(list(ways)),
        )
        .values(
            state=following,
            state_since=bindparam("since"),
            **{name: bindparam(f"new_{name}") for name in columns},
        )
    )
