"""The ledger: what happened, in an order nobody can rewrite unseen.

Promises: an RFC 6962 Merkle tree (SHA-256) over entries. An entry is written in the same transaction as
what it records, so there is no act without its entry and no entry without its act. Checkpoints (C2SP
tlog-checkpoint, an Ed25519 signed note) state size and root; a copy of one kept elsewhere exposes a
rewritten, truncated or forked history. The ledger never resets itself: a contradiction is an error.
Leaves out: verifying the whole of it (`vault.check.ledger`), and the tree's arithmetic (`vault.ledger`).

Rules: an entry is canonical JSON (keys sorted, no spaces, UTF-8):
`{"actor","at","facts","kind","seq","subject","v":1}`. Actors and subjects are opaque identifiers; facts
are states, classes, counts and salted commitments. No entry holds a name, a number of a document or a
plain digest, and a commitment's salt dies with the document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, bindparam, func, insert, select

from vault.catalogue.ledger_keys import verify_by_any
from vault.catalogue.prepared import Prepared
from vault.catalogue.schema import checkpoints, ledger_entries, ledger_nodes
from vault.errors import VaultError
from vault.ledger.merkle import Frontier, consistency_proof, inclusion_proof, leaf_hash
from vault.ledger.note import Checkpoint, cosign_note, encode_proof, sign_note
from vault.ledger.tiles import HEIGHT, MAX_ENTRY, Tile, bundle

VERSION: Final = 1
COMMITMENT_SALT: Final = 32
# Every act passes through these.
_INSERT_ENTRY: Final = Prepared(
    insert(ledger_entries).values(seq=bindparam("seq"), entry=bindparam("entry"))
)
_INSERT_NODE: Final = Prepared(
    insert(ledger_nodes).values(
        level=bindparam("level"), idx=bindparam("idx"), hash=bindparam("hash")
    )
)

encode_entry = msgspec.json.Encoder(order="sorted").encode
"""The one form of an entry: the leaf data of the tree."""
Facts = Mapping[str, str | int | bool | list[str] | None]


ADVICE: Final = (
    "Nothing more is written to it. Keep the store as it is, and find out who changed it (`strongroom ledger"
    " verify`); `strongroom backup restore` brings the newest backup back into another folder"
)


class LedgerError(VaultError):
    """The ledger contradicts itself, its checkpoints or a published one."""


class LedgerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry as decoded from its canonical JSON."""

    actor: str
    at: str
    facts: dict[str, Any]
    kind: str
    seq: int
    subject: str
    v: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What an entry is to say; its index is given when it is appended."""

    kind: str
    subject: str
    actor: str
    at: datetime
    facts: Facts


def commitment(salt: bytes, digest: bytes) -> str:
    """A salted commitment to a document's SHA-256, hex: SHA-256(salt || digest)."""
    return hashlib.sha256(salt + digest).hexdigest()


class Ledger:
    """The ledger of an open catalogue: its tree's frontier in memory, the rest in tables.

    `append` belongs to the writing thread and to the transaction it is called in. The rest reads.
    """

    def __init__(self, frontier: Frontier, fault: str = "") -> None:
        """`fault`: what is plainly missing of it; then it can be looked at, and nothing is appended."""
        self._frontier = frontier
        self.fault = fault

    @classmethod
    def load(cls, connection: Connection) -> Ledger:
        """Rebuild the frontier from the stored nodes; what is plainly missing is its `fault`."""
        size = size_of(connection)
        fault = _fault(connection, size)
        if not fault:
            try:
                return cls(
                    Frontier.from_nodes(size, lambda level, idx: _node(connection, level, idx))
                )
            except LedgerError as error:
                fault = f"{error} {ADVICE}"
        return cls(Frontier(), fault)

    def expect_whole(self) -> None:
        """Refuse a ledger of which something is plainly missing (raises LedgerError)."""
        if self.fault:
            raise LedgerError(self.fault)

    @property
    def size(self) -> int:
        """Entries so far, those of a running transaction included."""
        return self._frontier.size

    def mark(self) -> Frontier:
        """What `reset` needs to forget a transaction that was rolled back."""
        return self._frontier.copy()

    def reset(self, mark: Frontier) -> None:
        """Return to a mark, after its transaction or savepoint was rolled back."""
        self._frontier = mark.copy()

    def append(
        self,
        connection: Connection,
        *,
        kind: str,
        subject: str,
        actor: str,
        at: datetime,
        facts: Facts | None = None,
    ) -> int:
        """Append an entry in the running transaction.

        Args:
            kind: what happened, `noun.verb`.
            subject, actor: opaque identifiers.
            at: when, aware UTC.
            facts: nothing that names or confirms (module docstring).

        Returns:
            The entry's index in the tree.
        """
        return self.append_all(connection, [Draft(kind, subject, actor, at, facts or {})])[0]

    def append_all(self, connection: Connection, drafts: Sequence[Draft]) -> range:
        """Append entries in the running transaction, in order; returns their indices in the tree.

        Raises:
            LedgerError: an entry would be longer than a bundle of entries can hold (`vault.ledger.tiles`).
        """
        self.expect_whole()
        first = self._frontier.size
        rows: list[dict[str, Any]] = []
        nodes: list[dict[str, Any]] = []
        for seq, draft in enumerate(drafts, first):
            entry = encode_entry(
                LedgerEntry(
                    actor=draft.actor,
                    at=draft.at.isoformat(timespec="microseconds"),
                    facts=dict(draft.facts),
                    kind=draft.kind,
                    seq=seq,
                    subject=draft.subject,
                    v=VERSION,
                )
            )
            if len(entry) > MAX_ENTRY:
                raise LedgerError(
                    f"entry {draft.kind} of {draft.subject}: expected at most {MAX_ENTRY} bytes,"
                    f" found {len(entry)}"
                )
            rows.append({"seq": seq, "entry": entry})
            nodes += (
                {"level": level, "idx": idx, "hash": value}
                for level, idx, value in self._frontier.append(leaf_hash(entry))
            )
        if rows:
            _INSERT_ENTRY.execute_all(connection, rows)
            _INSERT_NODE.execute_all(connection, nodes)
        return range(first, self._frontier.size)

    def sign_checkpoint(
        self,
        connection: Connection,
        origin: str,
        key: Ed25519PrivateKey,
        at: datetime,
        successor: Ed25519PrivateKey | None = None,
    ) -> str | None:
        """Sign and store a checkpoint of the present tree, unless one of this size is there.

        Args:
            successor: signs too: the checkpoint over a hand-over's entry.

        Returns:
            The signed note, or None if nothing came since the last.
        """
        self.expect_whole()
        size = self._frontier.size
        newest = connection.execute(select(func.max(checkpoints.c.size))).scalar()
        if size == 0 or newest == size:
            return None
        if newest is not None and newest > size:
            raise LedgerError(f"ledger: expected at least {newest} entries, found {size}")
        text = Checkpoint(origin, size, self._frontier.root(), ()).encode()
        note = sign_note(text, origin, key)
        if successor is not None:
            note = cosign_note(note, origin, successor)
        connection.execute(
            insert(checkpoints),
            {"size": size, "signed_at": at.isoformat(timespec="microseconds"), "note": note},
        )
        return note


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def size_of(connection: Connection) -> int:
    """How many entries the ledger has, as this connection sees it."""
    newest = connection.execute(select(func.max(ledger_entries.c.seq))).scalar()
    return 0 if newest is None else int(newest) + 1


def _node(connection: Connection, level: int, idx: int) -> bytes:
    value = connection.execute(
        select(ledger_nodes.c.hash).where(ledger_nodes.c.level == level, ledger_nodes.c.idx == idx)
    ).scalar()
    if value is None:
        raise LedgerError(f"ledger: expected node {level}/{idx} of its tree, found none.")
    return _bytes(value, f"node {level}/{idx}")


def _bytes(value: Any, subject: str) -> bytes:
    """A stored value that has to be bytes (raises LedgerError)."""
    if not isinstance(value, bytes):
        raise LedgerError(f"ledger: expected bytes as {subject}, found {type(value).__name__}")
    return value


def _fault(connection: Connection, size: int) -> str:
    """What is missing at first sight of a ledger of `size` entries; "": nothing. Quick at any size."""
    first = connection.execute(select(func.min(ledger_entries.c.seq))).scalar()
    if size and first != 0:
        return f"ledger: expected it from entry 0, found it from entry {first}. {ADVICE}"
    last = connection.execute(
        select(func.max(ledger_nodes.c.idx)).where(ledger_nodes.c.level == 0)
    ).scalar()
    leaves = 0 if last is None else int(last) + 1
    signed = connection.execute(select(func.max(checkpoints.c.size))).scalar() or 0
    if (most := max(leaves, signed)) > size:
        says = "its newest checkpoint" if signed == most else "its tree"
        return f"ledger: expected {most} entries, as {says} says, found {size}: its end was cut off. {ADVICE}"
    if leaves < size:
        return f"ledger: expected a tree over its {size} entries, found one over {leaves}. {ADVICE}"
    return ""


def entry(connection: Connection, seq: int) -> bytes:
    """The stored bytes of entry `seq` (raises LedgerError if there is none)."""
    value = connection.execute(
        select(ledger_entries.c.entry).where(ledger_entries.c.seq == seq)
    ).scalar()
    if value is None:
        raise LedgerError(f"ledger: expected entry {seq}, found none")
    return _bytes(value, f"entry {seq}")


def entries(connection: Connection, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Stored entries from `start` to before `stop`, in order, in bounded memory."""
    position = start
    while stop is None or position < stop:
        limit = 1000 if stop is None else min(1000, stop - position)
        rows = connection.execute(
            select(ledger_entries.c.seq, ledger_entries.c.entry)
            .where(ledger_entries.c.seq >= position)
            .order_by(ledger_entries.c.seq)
            .limit(limit)
        ).all()
        if not rows:
            return
        for seq, data in rows:
            if seq != position:
                raise LedgerError(f"ledger: expected entry {position}, found {seq}")
            yield _bytes(data, f"entry {position}")
            position += 1


def latest_checkpoint(connection: Connection, at_least: int = 0) -> str | None:
    """The newest signed checkpoint covering at least `at_least` entries, or None."""
    value = connection.execute(
        select(checkpoints.c.note)
        .where(checkpoints.c.size >= at_least)
        .order_by(checkpoints.c.size.desc())
        .limit(1)
    ).scalar()
    return None if value is None else str(value)


def proof_of(
    connection: Connection, seq: int, vkeys: Sequence[str], *, with_entry: bool = False
) -> tuple[str, str]:
    """An offline inclusion proof of entry `seq` (C2SP tlog-proof) under the newest checkpoint.

    Args:
        vkeys: the ledger's keys, one of which has signed.
        with_entry: whether the proof's extra data is the entry itself.

    Returns:
        The proof, and which of `vkeys` has signed its checkpoint.

    Raises:
        LedgerError: no checkpoint covers the entry yet.
        NoteError: none of `vkeys` has signed it.
    """
    note = latest_checkpoint(connection, at_least=seq + 1)
    if note is None:
        raise LedgerError(f"ledger: expected a checkpoint over entry {seq}, found none yet")
    text, vkey = verify_by_any(note, vkeys)
    size = Checkpoint.parse(text).size
    path = inclusion_proof(seq, size, lambda level, idx: _node(connection, level, idx))
    extra = entry(connection, seq) if with_entry else None
    return encode_proof(seq, path, note, extra), vkey


def consistency_of(connection: Connection, old: int, new: int) -> list[bytes]:
    """The proof that the tree of `old` entries is a prefix of that of `new` (RFC 6962, 2.1.2).

    Raises:
        LedgerError: the ledger has fewer than `new` entries, or `old` is larger than `new`.
    """
    size = size_of(connection)
    if not 0 <= old <= new <= size:
        raise LedgerError(f"ledger: expected sizes up to {size}, found {old} and {new}")
    return consistency_proof(old, new, lambda level, idx: _node(connection, level, idx))


def root_at(connection: Connection, size: int) -> bytes:
    """The root of the first `size` entries, from the stored nodes: a number logarithmic in `size`.

    Raises:
        LedgerError: the ledger has fewer entries.
    """
    if size > size_of(connection):
        raise LedgerError(f"ledger: expected {size} entries, found {size_of(connection)}")
    return Frontier.from_nodes(size, lambda level, idx: _node(connection, level, idx)).root()


def tile_bytes(connection: Connection, tile: Tile) -> bytes:
    """The bytes of a tile or bundle (`vault.ledger.tiles`).

    Raises:
        LedgerError: the ledger has fewer entries, or one that no bundle can hold.
    """
    if tile.level is not None:
        level = HEIGHT * tile.level
        rows = connection.execute(
            select(ledger_nodes.c.hash)
            .where(
                ledger_nodes.c.level == level,
                ledger_nodes.c.idx >= tile.first,
                ledger_nodes.c.idx < tile.first + tile.width,
            )
            .order_by(ledger_nodes.c.idx)
        ).scalars()
        found = [bytes(value) for value in rows]
    else:
        found = list(entries(connection, tile.first, tile.first + tile.width))
    if len(found) != tile.width:
        raise LedgerError(
            f"{tile.path}: expected {tile.width} nodes or entries, found {len(found)}"
        )
    if tile.level is not None:
        return b"".join(found)
    if any(len(each) > MAX_ENTRY for each in found):
        raise LedgerError(f"{tile.path}: expected entries of at most {MAX_ENTRY} bytes, found more")
    return bundle(found)
