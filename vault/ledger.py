"""The ledger: what happened, in an order nobody can rewrite unseen.

An RFC 6962 Merkle tree (SHA-256) over entries. An entry is written in the same transaction as what it
records, so there is no act without its entry and no entry without its act. Checkpoints (C2SP
tlog-checkpoint, an Ed25519 signed note) state size and root; a copy of one kept elsewhere exposes a
rewritten, truncated or forked history. The ledger never resets itself: a contradiction is an error.

An entry is canonical JSON (keys sorted, no spaces, UTF-8):
`{"actor","at","facts","kind","seq","subject","v":1}`. Actors and subjects are opaque identifiers; facts
are states, classes, counts and salted commitments. No entry holds a name, a number of a document or a
plain digest, and a commitment's salt dies with the document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, insert, select

from vault.catalogue.schema import checkpoints, ledger_entries, ledger_nodes
from vault.errors import VaultError
from vault.merkle import Frontier, inclusion_proof, leaf_hash
from vault.note import Checkpoint, encode_proof, sign_note, verify_note

VERSION: Final = 1
COMMITMENT_SALT: Final = 32

_encode = msgspec.json.Encoder(order="sorted").encode
Facts = Mapping[str, str | int | bool | list[str] | None]


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


def commitment(salt: bytes, digest: bytes) -> str:
    """A salted commitment to a document's SHA-256, hex: SHA-256(salt || digest)."""
    return hashlib.sha256(salt + digest).hexdigest()


class Ledger:
    """The ledger of an open catalogue: its tree's frontier in memory, the rest in tables.

    `append` belongs to the writing thread and to the transaction it is called in. The rest reads.
    """

    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier

    @classmethod
    def load(cls, connection: Connection) -> Ledger:
        """Rebuild the frontier from the stored nodes.

        Raises:
            LedgerError: entries and nodes do not fit together.
        """
        size = _size(connection)
        frontier = Frontier.from_nodes(size, lambda level, idx: _node(connection, level, idx))
        return cls(frontier)

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
        seq = self._frontier.size
        entry = _encode(
            LedgerEntry(
                actor=actor,
                at=at.isoformat(timespec="microseconds"),
                facts=dict(facts or {}),
                kind=kind,
                seq=seq,
                subject=subject,
                v=VERSION,
            )
        )
        nodes = self._frontier.append(leaf_hash(entry))
        connection.execute(insert(ledger_entries), {"seq": seq, "entry": entry})
        connection.execute(
            insert(ledger_nodes),
            [{"level": level, "idx": idx, "hash": value} for level, idx, value in nodes],
        )
        return seq

    def sign_checkpoint(
        self, connection: Connection, origin: str, key: Ed25519PrivateKey, at: datetime
    ) -> str | None:
        """Sign and store a checkpoint of the present tree, unless one of this size is there.

        Returns:
            The signed note, or None if nothing came since the last.
        """
        size = self._frontier.size
        newest = connection.execute(select(func.max(checkpoints.c.size))).scalar()
        if size == 0 or newest == size:
            return None
        if newest is not None and newest > size:
            raise LedgerError(f"ledger: expected at least {newest} entries, found {size}")
        text = Checkpoint(origin, size, self._frontier.root(), ()).encode()
        note = sign_note(text, origin, key)
        connection.execute(
            insert(checkpoints),
            {"size": size, "signed_at": at.isoformat(timespec="microseconds"), "note": note},
        )
        return note


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def _size(connection: Connection) -> int:
    newest = connection.execute(select(func.max(ledger_entries.c.seq))).scalar()
    return 0 if newest is None else int(newest) + 1


def _node(connection: Connection, level: int, idx: int) -> bytes:
    value = connection.execute(
        select(ledger_nodes.c.hash).where(ledger_nodes.c.level == level, ledger_nodes.c.idx == idx)
    ).scalar()
    if value is None:
        raise LedgerError(f"ledger: expected node {level}/{idx}, found none")
    return bytes(value)


def entry(connection: Connection, seq: int) -> bytes:
    """The stored bytes of entry `seq` (raises LedgerError if there is none)."""
    value = connection.execute(
        select(ledger_entries.c.entry).where(ledger_entries.c.seq == seq)
    ).scalar()
    if value is None:
        raise LedgerError(f"ledger: expected entry {seq}, found none")
    return bytes(value)


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
            yield bytes(data)
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


def proof_of(connection: Connection, seq: int, vkey: str) -> str:
    """An offline inclusion proof of entry `seq` (C2SP tlog-proof) under the newest checkpoint.

    Raises:
        LedgerError: no checkpoint covers the entry yet.
    """
    note = latest_checkpoint(connection, at_least=seq + 1)
    if note is None:
        raise LedgerError(f"ledger: expected a checkpoint over entry {seq}, found none yet")
    size = Checkpoint.parse(verify_note(note, vkey)).size
    path = inclusion_proof(seq, size, lambda level, idx: _node(connection, level, idx))
    return encode_proof(seq, path, note, None)


@dataclass(frozen=True)
class LedgerReport:
    """What `verify` found: entries read, checkpoints checked, and every contradiction in words."""

    size: int
    root: str
    checkpoints: int
    findings: tuple[str, ...]


def verify(
    connection: Connection, vkey: str, origin: str, against: tuple[str, ...] = ()
) -> LedgerReport:
    """Recompute the whole tree from its entries and hold it against every checkpoint.

    Args:
        vkey: the ledger's verifier key.
        origin: the ledger's name in its checkpoints.
        against: signed checkpoints kept elsewhere.

    The steps: (1) every entry is there, canonical, and states its own index; (2) the stored nodes are
    those of the entries; (3) every checkpoint is signed and its root is the root of its prefix;
    (4) so are those kept elsewhere, and none is larger than the ledger.
    """
    findings: list[str] = []
    wanted: dict[int, list[tuple[str, bytes]]] = {}
    total = _size(connection)

    def expect(label: str, note: str) -> None:
        try:
            checkpoint = Checkpoint.parse(verify_note(note, vkey))
        except VaultError as error:
            findings.append(f"{label}: expected a checkpoint signed by the ledger's key: {error}")
            return
        if checkpoint.origin != origin:
            findings.append(f"{label}: expected origin {origin}, found {checkpoint.origin}")
        elif checkpoint.size > total:
            findings.append(
                f"{label}: expected at least {checkpoint.size} entries, found {total}:"
                " the ledger was cut or restored from an older copy"
            )
        else:
            wanted.setdefault(checkpoint.size, []).append((label, checkpoint.root))

    signed = connection.execute(
        select(checkpoints.c.size, checkpoints.c.note).order_by(checkpoints.c.size)
    ).all()
    for size, note in signed:
        expect(f"checkpoint {size}", note)
    for number, note in enumerate(against, 1):
        expect(f"checkpoint given ({number})", note)

    frontier = Frontier()
    stored_nodes = connection.execute(select(func.count()).select_from(ledger_nodes)).scalar_one()
    seen_nodes = 0
    try:
        for data in entries(connection):
            seq = frontier.size
            try:
                decoded = msgspec.json.decode(data, type=LedgerEntry)
            except msgspec.DecodeError:
                findings.append(f"entry {seq}: expected canonical JSON, found something else")
            else:
                if decoded.seq != seq or _encode(decoded) != data:
                    findings.append(f"entry {seq}: expected its own index in canonical form")
            nodes = frontier.append(leaf_hash(data))
            seen_nodes += len(nodes)
            for level, idx, value in nodes:
                stored = connection.execute(
                    select(ledger_nodes.c.hash).where(
                        ledger_nodes.c.level == level, ledger_nodes.c.idx == idx
                    )
                ).scalar()
                if stored is None or bytes(stored) != value:
                    findings.append(f"entry {seq}: expected tree node {level}/{idx} of its content")
            for label, root in wanted.pop(frontier.size, ()):
                if frontier.root() != root:
                    findings.append(f"{label}: expected the root of the entries before it")
    except LedgerError as error:
        findings.append(str(error))
    if seen_nodes != stored_nodes:
        findings.append(f"tree: expected {seen_nodes} nodes, found {stored_nodes}")
    for leftover in wanted.values():
        findings.extend(f"{label}: expected its entries, found a gap" for label, _root in leftover)
    return LedgerReport(frontier.size, frontier.root().hex(), len(signed), tuple(findings))
