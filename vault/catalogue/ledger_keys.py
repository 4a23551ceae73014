"""The keys that sign the ledger's checkpoints, and how one hands over to the next.

Promises: a reader who trusts the first key can follow to the present one with nothing but the ledger. A
hand-over is an entry of the ledger that holds a note signed by the old key, naming the new one and the
size of the tree; the checkpoint over that entry is signed by both. From then on only the new key counts.

Leaves out: where private keys live (the house's keyring), when to change them, and whether to believe a
chain of keys (`vault.check.ledger` says what it takes).

Rules:
1. The hand-over note (C2SP signed-note, by the old key) is four lines: `strongroom ledger key hand-over v1`,
   `origin <origin>`, `size <entries before the hand-over's own>`, `key <new verifier key>`.
2. Key number n signs checkpoints larger than the index of the entry that introduced it, up to and with the
   one over the next hand-over's entry.
3. A store restored from a backup made before a change of keys has lost the hand-over. The entry of its
   restore then introduces the present key: there is no note of the key before, and that one signs no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, insert, select

from vault.catalogue.schema import ledger_keys
from vault.ledger.note import NoteError, sign_note, verify_note
from vault.moments import stamp

CHANGED: Final = "ledger.key-changed"
"""The kind of the ledger entry that holds a hand-over."""
HANDOVER_FIELD: Final = "handover"
"""Where: in that entry's `facts`."""
RESTORED_FIELD: Final = "vkey"
"""In the `facts` of a restore's entry: the key that it introduces (rule 3)."""

_MAGIC: Final = "strongroom ledger key hand-over v1"


@dataclass(frozen=True)
class LedgerKey:
    """One verifier key: checkpoints larger than `since` may be signed by it."""

    since: int
    vkey: str
    handover: str
    """The note that introduced it; empty for the first, and for one that came with a restore (rule 3)."""


def handover_note(origin: str, size: int, new_vkey: str, old: Ed25519PrivateKey) -> str:
    """The note by which the key `old` names its successor when the ledger has `size` entries."""
    text = f"{_MAGIC}\norigin {origin}\nsize {size}\nkey {new_vkey}\n"
    return sign_note(text, origin, old)


def read_handover(note: str, origin: str, size: int, old_vkey: str) -> str:
    """The successor that a hand-over note names.

    Args:
        size: the index of the entry that holds it.

    Raises:
        NoteError: not signed by `old_vkey`, or not a hand-over of this ledger at this place.
    """
    text = verify_note(note, old_vkey)
    head = f"{_MAGIC}\norigin {origin}\nsize {size}\nkey "
    rest = text.removeprefix(head)
    if rest == text or rest.count("\n") != 1:
        raise NoteError("hand-over: expected one of this ledger at this place, found another text")
    return rest.rstrip("\n")


def load(connection: Connection) -> tuple[LedgerKey, ...]:
    """All keys in order; empty while the first one is in use."""
    rows = connection.execute(select(ledger_keys).order_by(ledger_keys.c.since)).all()
    return tuple(LedgerKey(row.since, row.vkey, row.handover) for row in rows)


def newest_since(connection: Connection) -> str | None:
    """When the present key took over (ISO 8601); None: it is the first."""
    value = connection.execute(select(func.max(ledger_keys.c.added_at))).scalar()
    return None if value is None else str(value)


def store(connection: Connection, keys: Sequence[LedgerKey], at: datetime) -> None:
    """Remember keys that were introduced."""
    connection.execute(
        insert(ledger_keys),
        [
            {
                "since": key.since,
                "vkey": key.vkey,
                "handover": key.handover,
                "added_at": stamp(at),
            }
            for key in keys
        ],
    )


def signers(keys: Sequence[LedgerKey], size: int) -> tuple[str, ...]:
    """The verifier keys by which a checkpoint of `size` entries may be signed.

    The one over a hand-over's entry is signed by both, and either will do; the one over a restore's by the
    new one only.
    """
    found = [
        key.vkey
        for key, following in zip(keys, (*keys[1:], None), strict=True)
        if size > key.since
        and (following is None or size <= following.since + bool(following.handover))
    ]
    return tuple(found)


def files(keys: Sequence[LedgerKey], vkey: str) -> dict[str, str]:
    """The keys as files, beside a published ledger, by their names; a line or a note each.

    `0` holds the first verifier key, and `<since>` the hand-over that introduced a later one or, where a
    restore did (rule 3), its bare verifier key: nobody before vouches for that one.

    Args:
        keys: as `load` has them.
        vkey: the present key, which is the first one while `keys` is empty.
    """
    if not keys:
        return {"0": f"{vkey}\n"}
    return {str(key.since): key.handover or f"{key.vkey}\n" for key in keys}


def verify_by_any(note: str, vkeys: Sequence[str]) -> tuple[str, str]:
    """The text of a note signed by one of `vkeys`, and that key (raises NoteError)."""
    failure = NoteError("note: expected a known key to verify it, found none")
    for vkey in vkeys:
        try:
            return verify_note(note, vkey), vkey
        except NoteError as error:
            failure = error
    raise failure
