"""The ledger in its tables: any rewritten, dropped, added or reordered entry shows; so does a cut."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, insert, update

from vault.catalogue import ledger
from vault.catalogue.schema import checkpoints, ledger_entries, ledger_nodes
from vault.catalogue.store import Catalogue
from vault.check import ledger as ledger_check
from vault.ledger.merkle import leaf_hash
from vault.ledger.note import verifier_key, verify_proof

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ORIGIN = "strongroom.invalid/test"
KEY = Ed25519PrivateKey.generate()
VKEY = verifier_key(ORIGIN, KEY.public_key())


@pytest.fixture
def catalogue(tmp_path):
    made = Catalogue.create(tmp_path / "c.sqlite3")
    for number in range(13):
        made.write(
            lambda tx, n=number: tx.ledger.append(
                tx.connection, kind="test.entry", subject=f"s{n}", actor="a", at=NOW, facts={"n": n}
            )
        )
        if number in {4, 9}:
            sign(made)
    yield made
    made.close()


def sign(catalogue):
    return catalogue.write(lambda tx: tx.ledger.sign_checkpoint(tx.connection, ORIGIN, KEY, NOW))


def verify(catalogue, *against, vkey=VKEY):
    return catalogue.read(lambda c: ledger_check.verify(c, vkey, ORIGIN, against))


def test_an_honest_ledger_verifies(catalogue):
    sign(catalogue)
    report = verify(catalogue)
    assert (report.size, report.checkpoints, report.findings) == (13, 3, ())


def _alter(tx):
    entry = msgspec.json.decode(ledger.entry(tx.connection, 3), type=ledger.LedgerEntry)
    other = msgspec.json.Encoder(order="sorted").encode(
        msgspec.structs.replace(entry, subject="someone else")
    )
    tx.connection.execute(
        update(ledger_entries).where(ledger_entries.c.seq == 3).values(entry=other)
    )


def _alter_with_nodes(tx):
    """The forger also recomputes every node of the tree."""
    _alter(tx)
    from vault.ledger.merkle import Frontier

    tx.connection.execute(delete(ledger_nodes))
    frontier = Frontier()
    for data in ledger.entries(tx.connection):
        for level, idx, value in frontier.append(leaf_hash(data)):
            tx.connection.execute(insert(ledger_nodes), {"level": level, "idx": idx, "hash": value})


def _swap(tx):
    a, b = ledger.entry(tx.connection, 5), ledger.entry(tx.connection, 6)
    for seq, data in ((5, b), (6, a)):
        tx.connection.execute(
            update(ledger_entries).where(ledger_entries.c.seq == seq).values(entry=data)
        )


def _drop(tx):
    tx.connection.execute(delete(ledger_entries).where(ledger_entries.c.seq == 7))


def _cut(tx):
    tx.connection.execute(delete(ledger_entries).where(ledger_entries.c.seq >= 8))
    tx.connection.execute(delete(checkpoints).where(checkpoints.c.size > 8))


def _add(tx):
    tx.connection.execute(
        insert(ledger_entries),
        {"seq": 13, "entry": ledger.entry(tx.connection, 12)},
    )


def _forge_checkpoint(tx):
    note = ledger.latest_checkpoint(tx.connection)
    tx.connection.execute(
        update(checkpoints).values(note=note.replace(ORIGIN, "strongroom.invalid/other", 1))
    )


@pytest.mark.parametrize(
    "tampering", [_alter, _alter_with_nodes, _swap, _drop, _cut, _add, _forge_checkpoint]
)
def test_every_kind_of_tampering_is_found(catalogue, tampering):
    catalogue.write(tampering)
    assert verify(catalogue).findings


def test_a_history_rewritten_with_all_its_checkpoints_shows_against_one_kept_elsewhere(catalogue):
    kept = catalogue.read(ledger.latest_checkpoint)

    def rewrite(tx):
        _alter_with_nodes(tx)
        tx.connection.execute(delete(checkpoints))

    catalogue.write(rewrite)
    assert verify(catalogue).findings == ()  # by itself it looks whole: hence copies elsewhere
    assert "root" in verify(catalogue, kept).findings[0]


def test_a_ledger_cut_short_shows_against_one_kept_elsewhere(catalogue):
    sign(catalogue)
    kept = catalogue.read(ledger.latest_checkpoint)

    def cut(tx):
        tx.connection.execute(delete(ledger_entries).where(ledger_entries.c.seq >= 8))
        tx.connection.execute(delete(checkpoints).where(checkpoints.c.size > 8))
        from vault.ledger.merkle import Frontier

        tx.connection.execute(delete(ledger_nodes))
        frontier = Frontier()
        for data in ledger.entries(tx.connection):
            for level, idx, value in frontier.append(leaf_hash(data)):
                tx.connection.execute(
                    insert(ledger_nodes), {"level": level, "idx": idx, "hash": value}
                )

    catalogue.write(cut)
    assert verify(catalogue).findings == ()
    assert "cut or restored" in verify(catalogue, kept).findings[0]


def test_another_key_verifies_nothing(catalogue):
    other = verifier_key(ORIGIN, Ed25519PrivateKey.generate().public_key())
    assert verify(catalogue, vkey=other).findings


def test_every_entry_has_a_proof_that_verifies_offline_and_for_no_other_entry(catalogue):
    sign(catalogue)
    for seq in range(13):
        text, signer = catalogue.read(lambda c, s=seq: ledger.proof_of(c, s, [VKEY]))
        assert signer == VKEY
        data = catalogue.read(lambda c, s=seq: ledger.entry(c, s))
        found = verify_proof(text, leaf_hash(data), VKEY, ORIGIN)
        assert (found.index, found.checkpoint.size) == (seq, 13)
        with pytest.raises(ledger.VaultError):
            verify_proof(text, leaf_hash(data + b" "), VKEY, ORIGIN)


def test_an_entry_no_checkpoint_covers_has_no_proof_yet(catalogue):
    with pytest.raises(ledger.LedgerError, match="entry 12"):
        catalogue.read(lambda c: ledger.proof_of(c, 12, [VKEY]))


def test_nothing_new_makes_no_new_checkpoint_and_a_restart_continues_the_tree(catalogue):
    assert sign(catalogue) is not None
    assert sign(catalogue) is None
    again = ledger.Ledger.load
    reloaded = catalogue.read(again)
    assert reloaded.size == 13
    assert reloaded.mark().root() == catalogue.ledger.mark().root()


def test_a_commitment_is_bound_to_salt_and_digest():
    one = ledger.commitment(b"s" * 32, b"d" * 32)
    assert one != ledger.commitment(b"t" * 32, b"d" * 32)
    assert one != ledger.commitment(b"s" * 32, b"e" * 32)
