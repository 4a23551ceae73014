"""The life of a document as one literal table. Nothing else changes a state.

```
RECEIVED ─▶ FILED ─▶ ARCHIVED ─▶ DESTROYED
   │  ├─▶ REVIEW ─▶ FILED
   │  └─▶ QUARANTINED ─▶ FILED (released by two officers) | DESTROYED (after its own period)
PARTIAL ─▶ RECEIVED | EXPIRED
```

Holds, restriction and membership of a batch are facts beside the state. A pair that is not in the table
is not a transition; asking for one is a mistake of the program or a request to be refused, and
`next_state` says which pair it was.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from vault.errors import VaultError


class State(StrEnum):
    """Where a document stands."""

    PARTIAL = "PARTIAL"  # an interrupted upload, resumable; not acknowledged
    RECEIVED = "RECEIVED"  # acknowledged and durable; not judged, visible to no reader
    REVIEW = "REVIEW"  # judged harmless or unreadable; a person must classify it
    QUARANTINED = "QUARANTINED"  # something was found in it, or a person rejected it
    FILED = "FILED"
    ARCHIVED = "ARCHIVED"
    DESTROYED = "DESTROYED"
    EXPIRED = "EXPIRED"  # a partial that nobody completed in time


class Event(StrEnum):
    """What can happen to a document."""

    COMPLETE = "complete"
    EXPIRE = "expire"
    FILE = "file"
    QUESTION = "question"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    REJECT = "reject"
    RECLASSIFY = "reclassify"
    ARCHIVE = "archive"
    DESTROY = "destroy"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.PARTIAL, Event.COMPLETE): State.RECEIVED,
    (State.PARTIAL, Event.EXPIRE): State.EXPIRED,
    (State.RECEIVED, Event.FILE): State.FILED,
    (State.RECEIVED, Event.QUESTION): State.REVIEW,
    (State.RECEIVED, Event.QUARANTINE): State.QUARANTINED,
    (State.REVIEW, Event.RECLASSIFY): State.FILED,
    (State.REVIEW, Event.REJECT): State.QUARANTINED,
    (State.QUARANTINED, Event.RELEASE): State.FILED,
    (State.QUARANTINED, Event.DESTROY): State.DESTROYED,
    (State.FILED, Event.RECLASSIFY): State.FILED,
    (State.FILED, Event.ARCHIVE): State.ARCHIVED,
    (State.FILED, Event.DESTROY): State.DESTROYED,
    (State.ARCHIVED, Event.RECLASSIFY): State.ARCHIVED,
    (State.ARCHIVED, Event.DESTROY): State.DESTROYED,
}

READABLE: Final = frozenset({State.FILED, State.ARCHIVED, State.REVIEW})
"""States in which an accountant may read a document: it has been judged."""

STORED: Final = frozenset(
    {State.RECEIVED, State.REVIEW, State.QUARANTINED, State.FILED, State.ARCHIVED}
)
"""States in which an acknowledged document is there, whole."""

DISPOSABLE: Final = frozenset({State.FILED, State.ARCHIVED, State.QUARANTINED})


class IllegalTransition(VaultError):
    """An event that a document in its state can't take."""


def next_state(state: State, event: Event) -> State:
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
