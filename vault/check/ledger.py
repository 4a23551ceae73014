"""Verifying a whole ledger: recompute the tree and hold it against everything that was ever signed.

Promises: every entry that was altered, dropped, added or moved, every tree node that is not that of its
entries, and every checkpoint, kept here or elsewhere, that is not of this history is found and named. It
reads in pages: memory does not depend on the size of the ledger.

Leaves out: what the entries say. It never repairs: a ledger that contradicts itself stays as it is.

Steps: (1) every entry is there, canonical, and states its own index; (2) the stored nodes are those of the
entries; (3) each change of the signing key is vouched for, and the last key is ours; (4) every checkpoint is
signed by the key of its time, and its root is the root of its prefix; (5) so are those kept elsewhere, and
none is larger than the ledger. A ledger that was restored from a backup says so in an entry of its own; a
checkpoint of the history that was lost with it is reported as that.

Why a chain of keys is believed. All of it lies in the catalogue, and who can write there can make keys of his
own, entries, hand-overs signed by them, and checkpoints. What he can't do is sign with the key that lies
sealed in the house's keyring. So everything hangs on that key, and on nothing the catalogue says about it:
1. "Ours" is what the keyring holds (`verify_store`), not the last key of the catalogue.
2. The checkpoint of exactly the size of each change (the index of its entry, plus one) must be there, signed
   by the new key. An honest change signs it in the transaction that records it, an honest restore before
   anybody is served. So our key vouches for the entry that introduced it and for all before it: for the key
   before as well, which vouches in the same way for its own beginning.
   A chain forged to end in our key lacks this one checkpoint: a gateway that is started on a forged
   catalogue writes entries of its own before it signs, and a command where none runs signs nothing while the
   seal of the closed catalogue (`vault.storage.at_rest`) is found broken.
3. After a restore from a backup older than a change of keys there is no hand-over: `store.restored` names the
   new key (`vkey`). Nothing but rule 2 vouches for it, so it is held to it like any other, it must be another
   key than the one before, and the restore is told (`restored`), for somebody to remember that there was one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, select

from vault.catalogue import ledger_keys
from vault.catalogue.ledger import LedgerEntry, LedgerError, encode_entry, entries, root_at, size_of
from vault.catalogue.ledger_keys import LedgerKey
from vault.catalogue.schema import checkpoints, ledger_nodes
from vault.errors import VaultError
from vault.keys.open_keyrings import HOUSE
from vault.keys.secret_names import SECRET_LEDGER, SECRET_NEXT_LEDGER
from vault.ledger.merkle import Frontier, leaf_hash
from vault.ledger.note import Checkpoint, verifier_key, verify_note
from vault.store import Store

RESTORED: Final = "store.restored"
"""The kind of the entry by which a restored store says what it was restored from."""

_PAGE: Final = 2000
_NO_CHECKPOINT: Final = "expected a signed checkpoint, found another text"


@dataclass(frozen=True)
class LedgerReport:
    """What `verify` found: entries read, checkpoints checked, and every contradiction in words."""

    size: int
    root: str
    checkpoints: int
    findings: tuple[str, ...]
    restored: tuple[str, ...] = ()
    """One line for each time the store was restored from a backup."""


@dataclass(frozen=True)
class _Wanted:
    """A signed checkpoint that waits for the tree to reach its size."""

    label: str
    note: str
    checkpoint: Checkpoint | None


@dataclass
class _State:
    """What is known so far while the entries pass."""

    origin: str
    total: int
    keys: list[LedgerKey]
    sizes: set[int]
    """Sizes at which a checkpoint kept elsewhere stands."""
    findings: list[str] = field(default_factory=list)
    restored: list[tuple[int, str]] = field(default_factory=list)
    """(entries that the backup had, what is said of it) of each restore."""
    frontier: Frontier = field(default_factory=Frontier)
    roots: dict[int, bytes] = field(default_factory=dict)
    nodes: int = 0
    checkpoints: int = 0

    def examine(self, wanted: _Wanted) -> None:
        """Hold a checkpoint against the history."""
        problem = self._problem(wanted)
        if problem:
            self.findings.append(f"{wanted.label}: {problem}")

    def _problem(self, wanted: _Wanted) -> str:
        found = wanted.checkpoint
        if found is None:
            return _NO_CHECKPOINT
        problem = _contradiction(
            wanted.note, found, self.origin, self.total, self.keys, self.roots.get
        )
        return problem and problem + _lost(self.restored, found.size)


def _contradiction(
    note: str,
    checkpoint: Checkpoint,
    origin: str,
    total: int,
    keys: Sequence[LedgerKey],
    root_of: Callable[[int], bytes | None],
) -> str:
    """How a checkpoint contradicts a history of `total` entries; empty: it does not."""
    if checkpoint.origin != origin:
        return f"expected origin {origin}, found {checkpoint.origin}"
    try:
        ledger_keys.verify_by_any(note, ledger_keys.signers(keys, checkpoint.size))
    except VaultError as error:
        return f"expected a checkpoint signed by the ledger's key: {error}"
    if checkpoint.size > total:
        return (
            f"expected at least {checkpoint.size} entries, found {total}:"
            " the ledger was cut or restored from an older copy"
        )
    if root_of(checkpoint.size) != checkpoint.root:
        return (
            f"expected the root of the first {checkpoint.size} entries, found another:"
            " history was rewritten or forked"
        )
    return ""


def _lost(restored: Sequence[tuple[int, str]], size: int) -> str:
    """The restores that explain a checkpoint of this size of another history; empty: none."""
    told = [text for kept, text in restored if size > kept]
    return f" ({'; '.join(told)})" if told else ""


_decode = msgspec.json.Decoder(LedgerEntry).decode


def verify(
    connection: Connection, vkey: str, origin: str, against: Sequence[str] = ()
) -> LedgerReport:
    """Recompute the whole tree from its entries and hold it against every checkpoint.

    Args:
        vkey: the ledger's present verifier key.
        origin: the ledger's name in its checkpoints.
        against: signed checkpoints kept elsewhere.
    """
    stored = ledger_keys.load(connection)
    given = [
        _Wanted(f"checkpoint given ({number})", note, _peek(note))
        for number, note in enumerate(against, 1)
    ]
    state = _State(
        origin=origin,
        total=size_of(connection),
        keys=[LedgerKey(0, stored[0].vkey if stored else vkey, "")],
        sizes={each.checkpoint.size for each in given if each.checkpoint is not None},
    )

    # 1 and 2: entries and nodes. 3: hand-overs, and 4: our own checkpoints, as they come.
    try:
        page: list[bytes] = []
        for data in entries(connection):
            page.append(data)
            if len(page) == _PAGE:
                _take(connection, state, page)
                page = []
        _take(connection, state, page)
    except LedgerError as error:
        state.findings.append(str(error))
    beyond = _own(connection, state.frontier.size, None)
    state.checkpoints += len(beyond)
    present = connection.execute(select(func.count()).select_from(ledger_nodes)).scalar_one()
    if state.nodes != present:
        state.findings.append(f"tree: expected {state.nodes} nodes, found {present}")
    if [key.vkey for key in state.keys] != ([key.vkey for key in stored] or [vkey]):
        state.findings.append("keys: expected those the ledger's hand-overs name, found others")
    state.findings += _unvouched(connection, state.keys)
    if state.keys[-1].vkey != vkey:
        state.findings.append("keys: expected the last hand-over to name our key, found another")

    # 5. Checkpoints larger than the ledger, and those kept elsewhere.
    for each in (*beyond, *given):
        state.examine(each)
    return LedgerReport(
        state.frontier.size,
        state.frontier.root().hex(),
        state.checkpoints,
        tuple(state.findings),
        tuple(text for _, text in state.restored),
    )


def _own(connection: Connection, after: int, upto: int | None) -> list[_Wanted]:
    """Our own checkpoints larger than `after` and not larger than `upto`."""
    where = [checkpoints.c.size > after]
    if upto is not None:
        where.append(checkpoints.c.size <= upto)
    rows = connection.execute(
        select(checkpoints.c.size, checkpoints.c.note).where(*where).order_by(checkpoints.c.size)
    )
    notes = [(row.size, row.note if isinstance(row.note, str) else "") for row in rows]
    return [_Wanted(f"checkpoint {size}", note, _peek(note)) for size, note in notes]


def _peek(note: str) -> Checkpoint | None:
    """Read an unverified note, only to know where to look."""
    try:
        return Checkpoint.parse(note.rpartition("\n\n")[0] + "\n")
    except VaultError:
        return None


def _take(connection: Connection, state: _State, page: list[bytes]) -> None:
    """One page of entries: each in its form, the tree nodes that come with them, the checkpoints in it."""
    frontier = state.frontier
    own = _own(connection, frontier.size, frontier.size + len(page))
    sizes = state.sizes.union(each.checkpoint.size for each in own if each.checkpoint is not None)
    fresh: list[tuple[int, int, bytes]] = []
    for data in page:
        seq = frontier.size
        try:
            decoded = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            state.findings.append(f"entry {seq}: expected canonical JSON, found something else")
        else:
            if decoded.seq != seq or encode_entry(decoded) != data:
                state.findings.append(f"entry {seq}: expected its own index in canonical form")
            if decoded.kind == ledger_keys.CHANGED:
                _hand_over(state, decoded)
            elif decoded.kind == RESTORED:
                _restoration(state, decoded)
        fresh += frontier.append(leaf_hash(data))
        if frontier.size in sizes:
            state.roots[frontier.size] = frontier.root()
    state.nodes += len(fresh)
    for level, nodes in groupby(sorted(fresh, key=itemgetter(0)), key=itemgetter(0)):
        _compare(connection, state, level, {index: value for _, index, value in nodes})
    state.checkpoints += len(own)
    for each in own:
        state.examine(each)
        if each.checkpoint is not None and each.checkpoint.size not in state.sizes:
            state.roots.pop(each.checkpoint.size, None)


def _compare(connection: Connection, state: _State, level: int, expected: dict[int, bytes]) -> None:
    """Hold the nodes of one level, whose indices follow one another, against those stored."""
    found = {
        row.idx: row.hash
        for row in connection.execute(
            select(ledger_nodes.c.idx, ledger_nodes.c.hash).where(
                ledger_nodes.c.level == level,
                ledger_nodes.c.idx.between(min(expected), max(expected)),
            )
        )
    }
    if found != expected:
        state.findings += (
            f"tree: expected node {level}/{index} of its entries, found "
            + ("another" if index in found else "none")
            for index, value in expected.items()
            if found.get(index) != value
        )


def _hand_over(state: _State, entry: LedgerEntry) -> None:
    note = str(entry.facts.get(ledger_keys.HANDOVER_FIELD, ""))
    try:
        new = ledger_keys.read_handover(note, state.origin, entry.seq, state.keys[-1].vkey)
    except VaultError as error:
        state.findings.append(f"entry {entry.seq}: {error}")
    else:
        state.keys.append(LedgerKey(entry.seq, new, note))


def _restoration(state: _State, entry: LedgerEntry) -> None:
    state.restored.append(_told(entry))
    vkey = entry.facts.get(ledger_keys.RESTORED_FIELD)
    if vkey is None:
        return
    if vkey == state.keys[-1].vkey or not str(vkey).startswith(f"{state.origin}+"):
        state.findings.append(
            f"entry {entry.seq}: expected a restore to name another key of this ledger, found {vkey}"
        )
        return
    state.keys.append(LedgerKey(entry.seq, str(vkey), ""))


def _told(entry: LedgerEntry) -> tuple[int, str]:
    """The entries that the backup of a restore had, and the restore in words."""
    kept = entry.facts.get("ledger_size")
    changed = (
        "; the ledger's key was changed in between, and that change is not in it either"
        if ledger_keys.RESTORED_FIELD in entry.facts
        else ""
    )
    return kept if isinstance(kept, int) else entry.seq, (
        f"entry {entry.seq}: the store was restored on {entry.at} from backup"
        f" {entry.facts.get('backup', 'unknown')}, made at {kept or 'unknown'}"
        f" entries; what happened between that backup and the restore is not in this ledger{changed}"
    )


def _unvouched(connection: Connection, keys: Sequence[LedgerKey]) -> list[str]:
    """Changes of the key whose own checkpoint the new key has not signed (docstring of the module)."""
    findings = []
    for key in keys[1:]:
        size = key.since + 1
        note = connection.execute(
            select(checkpoints.c.note).where(checkpoints.c.size == size)
        ).scalar()
        try:
            if note is None:
                raise LedgerError("found none")
            verify_note(str(note), key.vkey)
        except VaultError as error:
            findings.append(
                f"keys: expected a checkpoint of {size} entries, over the change of the signing key,"
                f" signed by the new one: {error}"
            )
    return findings


# ── one store, one checkpoint ────────────────────────────────────────────────────────────────────


def verify_store(store: Store, against: Sequence[str] = ()) -> LedgerReport:
    """`verify` the ledger of an open store by the key in its house keyring, whatever the catalogue says."""
    own = own_keys(store)
    vkey = store.vkey if store.vkey in own else own[0]
    return store.catalogue.read(lambda c: verify(c, vkey, store.origin, against))


def own_keys(store: Store) -> list[str]:
    """The verifier keys of the signing keys in the house's keyring: one, or two during a change."""
    secrets = store.custody.keyring(HOUSE).secrets
    return [
        verifier_key(store.origin, Ed25519PrivateKey.from_private_bytes(secrets[name]).public_key())
        for name in (SECRET_LEDGER, SECRET_NEXT_LEDGER)
        if name in secrets
    ]


def examine(connection: Connection, note: str, vkey: str, origin: str) -> tuple[int, str]:
    """Hold one checkpoint against the stored nodes: in logarithmic time, unless it contradicts.

    Args:
        note: a checkpoint as it was found somewhere.
        vkey: the ledger's key while it had only one.

    Returns:
        Its size, and what it says that is not of this history, in words; empty: nothing. The size of what
        contradicts is worth nothing.

    Raises:
        LedgerError: the ledger contradicts itself.
    """
    checkpoint = _peek(note)
    if checkpoint is None:
        return 0, _NO_CHECKPOINT
    problem = _contradiction(
        note,
        checkpoint,
        origin,
        size_of(connection),
        ledger_keys.load(connection) or (LedgerKey(0, vkey, ""),),
        lambda size: root_at(connection, size),
    )
    if problem:
        problem += _lost(_restores(connection), checkpoint.size)
    return checkpoint.size, problem


def _restores(connection: Connection) -> list[tuple[int, str]]:
    """Every restore that the ledger tells of. It reads the whole ledger."""
    kind = f'"{RESTORED}"'.encode()
    found = []
    for data in entries(connection):
        if kind in data:
            decoded = _decode(data)
            if decoded.kind == RESTORED:
                found.append(_told(decoded))
    return found
