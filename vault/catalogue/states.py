"""The states of documents, clients, accounts, batches, rotations and requests for access; what proves mail.

Promises: each word is spelt here and nowhere else; the database stores these very strings. Leaves out: how a
document gets from one state to another (`vault.catalogue.lifecycle`), and the states of backups, which their
format names (`vault.backup.format`).

>>> DocumentState.FILED in STORED, DocumentState.PARTIAL in STORED
(True, False)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class DocumentState(StrEnum):
    """The state of a document."""

    PARTIAL = "PARTIAL"  # an interrupted upload, resumable; not acknowledged
    RECEIVED = "RECEIVED"  # acknowledged and durable; not judged, visible to no reader
    REVIEW = "REVIEW"  # judged harmless or unreadable; a person must classify it
    QUARANTINED = "QUARANTINED"  # something was found in it, or a person rejected it
    FILED = "FILED"
    ARCHIVED = "ARCHIVED"
    DESTROYED = "DESTROYED"
    EXPIRED = "EXPIRED"  # a partial that nobody completed in time


READABLE: Final = frozenset({DocumentState.FILED, DocumentState.ARCHIVED, DocumentState.REVIEW})
"""States in which an accountant may read a document: it has been judged."""

STORED: Final = frozenset(
    {
        DocumentState.RECEIVED,
        DocumentState.REVIEW,
        DocumentState.QUARANTINED,
        DocumentState.FILED,
        DocumentState.ARCHIVED,
    }
)
"""States in which an acknowledged document is there, whole."""

KEPT: Final = frozenset({*STORED, DocumentState.PARTIAL})
"""States that take room: they count against a client's quota."""

GONE: Final = frozenset({DocumentState.DESTROYED, DocumentState.EXPIRED})
"""States from which there is no way back: no key, no name, no bytes."""

DISPOSABLE: Final = frozenset(
    {DocumentState.FILED, DocumentState.ARCHIVED, DocumentState.QUARANTINED}
)
"""States from which a document may be destroyed."""


class ClientState(StrEnum):
    """The state of a client."""

    OPEN = "open"
    CLOSING = "closing"  # its end is being executed: nothing comes in, its keys still live
    CLOSED = "closed"  # its keyring is gone, and with it its name, addresses and indexes


class AccountState(StrEnum):
    """The state of an account: whether it may log in."""

    ACTIVE = "active"
    DISABLED = "disabled"


class BatchState(StrEnum):
    """How far a disposal batch has come."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    EXECUTING = "EXECUTING"
    DONE = "DONE"
    REJECTED = "REJECTED"


OPEN_BATCHES: Final = (BatchState.PROPOSED, BatchState.APPROVED, BatchState.EXECUTING)
"""States of a batch that is still to be decided or carried out: its documents are in no other."""


class RotationState(StrEnum):
    """How far the change of a key has come."""

    RUNNING = "running"
    DONE = "done"


class AccessState(StrEnum):
    """The state of a request to open restricted documents."""

    WAITING = "waiting"
    APPROVED = "approved"
    DENIED = "denied"
    REVOKED = "revoked"
    LAPSED = "lapsed"


class Proof(StrEnum):
    """What showed that a message comes from whom it says."""

    NONE = "none"  # nothing was asked for
    SUBMISSION = "submission"  # the sender logged in
    TAG = "tag"  # a secret in the address it was sent to
    SPF = "spf"  # the sending host is one of its domain's (RFC 7208), and From is of that domain
    DKIM = "dkim"  # its domain signed it (RFC 6376), and From is of that domain
    UPSTREAM = "upstream"  # the one configured host that hands mail on says so (RFC 8601)
    WAITING = "waiting"  # not judged yet: the domain's records could not be had
    FAILED = "failed"  # nothing of what its client asks for
    PERSON = "person"  # two officers took it all the same


PROVEN: Final = frozenset({Proof.SUBMISSION, Proof.TAG, Proof.SPF, Proof.DKIM, Proof.UPSTREAM})
"""Whoever sent such a message may be answered."""

UNDECIDED: Final = frozenset({Proof.WAITING, Proof.FAILED})
"""A message that came with it is not opened until it is judged, and then only if it is proven."""
