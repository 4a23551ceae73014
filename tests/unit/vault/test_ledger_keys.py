"""Which keys of a ledger are believed: honest changes and restores, and chains made by someone without our key."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert

from vault.catalogue import ledger, ledger_keys
from vault.catalogue.ledger_keys import LedgerKey
from vault.catalogue.schema import ledger_keys as keys_table
from vault.catalogue.store import Catalogue
from vault.check import ledger as ledger_check
from vault.ledger.note import Checkpoint, sign_note, verifier_key

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ORIGIN = "strongroom.invalid/test"
OLD, OURS, THEIRS = (Ed25519PrivateKey.generate() for _ in range(3))


def public(key: Ed25519PrivateKey) -> str:
    return verifier_key(ORIGIN, key.public_key())


@pytest.fixture
def catalogue(tmp_path):
    made = Catalogue.create(tmp_path / "c.sqlite3")
    yield made
    made.close()


def append(tx, kind: str = "test.entry", **facts) -> int:
    return tx.ledger.append(tx.connection, kind=kind, subject="s", actor="a", at=NOW, facts=facts)


def sign(tx, key, successor=None):
    return tx.ledger.sign_checkpoint(tx.connection, ORIGIN, key, NOW, successor)


def introduce(tx, first, key, *, restored: bool) -> None:
    """The entry by which `key` follows `first`, and the rows about it."""
    size = tx.ledger.size
    note = "" if restored else ledger_keys.handover_note(ORIGIN, size, public(key), first)
    if restored:
        append(tx, ledger_check.RESTORED, backup="B1", ledger_size=2, vkey=public(key))
    else:
        append(tx, ledger_keys.CHANGED, handover=note)
    keys = [LedgerKey(0, public(first), ""), LedgerKey(size, public(key), note)]
    ledger_keys.store(tx.connection, keys, NOW)


def history(catalogue, first, key, *, restored: bool, over) -> None:
    """Three entries, a change of keys, three more. `over` signs what is over the change."""

    def work(tx):
        for _ in range(3):
            append(tx)
        sign(tx, first)
        introduce(tx, first, key, restored=restored)
        over(tx)
        for _ in range(3):
            append(tx)
        sign(tx, key)

    catalogue.write(work)


def findings(catalogue, key=OURS, *against):
    return catalogue.read(lambda c: ledger_check.verify(c, public(key), ORIGIN, against)).findings


def test_a_restore_from_before_a_change_of_keys_is_accepted_and_told(catalogue):
    history(catalogue, OLD, OURS, restored=True, over=lambda tx: sign(tx, OURS))
    report = catalogue.read(lambda c: ledger_check.verify(c, public(OURS), ORIGIN))
    assert report.findings == ()
    (told,) = report.restored
    assert "entry 3: the store was restored" in told
    assert "backup B1, made at 2 entries" in told
    assert "key was changed" in told


def test_a_hand_over_is_accepted_with_the_checkpoint_that_both_keys_signed(catalogue):
    history(catalogue, OLD, OURS, restored=False, over=lambda tx: sign(tx, OLD, OURS))
    assert findings(catalogue) == ()


@pytest.mark.parametrize("restored", [True, False])
def test_a_chain_that_leads_away_from_our_key_is_found(catalogue, restored):
    history(catalogue, OURS, THEIRS, restored=restored, over=lambda tx: sign(tx, OURS, THEIRS))
    assert any("name our key" in each for each in findings(catalogue))


@pytest.mark.parametrize("restored", [True, False])
@pytest.mark.parametrize("over", [lambda tx: None, lambda tx: sign(tx, THEIRS)])
def test_a_chain_that_begins_with_a_false_key_and_ends_in_ours_lacks_our_signature(
    catalogue, restored, over
):
    """Forged while nobody looked; a gateway that opened it signs later checkpoints with our key."""
    history(catalogue, THEIRS, OURS, restored=restored, over=over)
    assert any("over the change of the signing key" in each for each in findings(catalogue))


def test_the_key_before_a_restore_does_not_sign_for_the_one_it_introduces(catalogue):
    history(catalogue, OLD, OURS, restored=True, over=lambda tx: sign(tx, OLD))
    found = findings(catalogue)
    assert any(each.startswith("checkpoint 4:") for each in found)
    assert any("over the change of the signing key" in each for each in found)


@pytest.mark.parametrize(
    "vkey", [public(OURS), "other.invalid/x+00000000+AAAA", 7], ids=["ours", "another", "no text"]
)
def test_a_restore_that_names_no_other_key_of_this_ledger_is_found(catalogue, vkey):
    def work(tx):
        append(tx)
        append(tx, ledger_check.RESTORED, backup="B1", ledger_size=1, vkey=vkey)
        sign(tx, OURS)

    catalogue.write(work)
    assert any("another key of this ledger" in each for each in findings(catalogue))


def test_a_key_that_only_the_table_knows_is_found(catalogue):
    history(catalogue, OLD, OURS, restored=False, over=lambda tx: sign(tx, OLD, OURS))
    catalogue.write(
        lambda tx: tx.connection.execute(
            insert(keys_table),
            {"since": 1, "vkey": public(THEIRS), "handover": "", "added_at": NOW.isoformat()},
        )
    )
    assert any("found others" in each for each in findings(catalogue))


def test_a_checkpoint_of_the_lost_time_is_reported_with_the_restore_that_lost_it(catalogue):
    other = Ed25519PrivateKey.generate()
    lost = sign_note(Checkpoint(ORIGIN, 5, b"r" * 32, ()).encode(), ORIGIN, OURS)
    unknown = sign_note(Checkpoint(ORIGIN, 5, b"r" * 32, ()).encode(), ORIGIN, other)
    history(catalogue, OLD, OURS, restored=True, over=lambda tx: sign(tx, OURS))
    for note, words in ((lost, "rewritten or forked"), (unknown, "signed by the ledger's key")):
        (found,) = findings(catalogue, OURS, note)
        assert words in found
        assert "restored on" in found
        size, problem = catalogue.read(
            lambda c, n=note: ledger_check.examine(c, n, public(OLD), ORIGIN)
        )
        assert size == 5
        assert words in problem
        assert "backup B1" in problem


def test_one_checkpoint_is_examined_as_a_whole_verification_would(catalogue):
    history(catalogue, OLD, OURS, restored=False, over=lambda tx: sign(tx, OLD, OURS))
    good = catalogue.read(ledger.latest_checkpoint)
    roots = {size: catalogue.read(lambda c, s=size: ledger.root_at(c, s)) for size in range(8)}

    def note(size, root, key=OURS, origin=ORIGIN):
        return sign_note(Checkpoint(origin, size, root, ()).encode(), origin, key)

    cases = {
        good: "",
        note(5, roots[5]): "",
        note(2, roots[2], OLD): "",
        note(2, roots[2], OURS): "signed by",  # before it was ours
        note(6, roots[6], OLD): "signed by",  # after it was replaced
        note(5, roots[4]): "rewritten or forked",
        note(8, roots[7]): "at least 8 entries, found 7",
        note(5, roots[5], OURS, "strongroom.invalid/other"): "expected origin",
        "nothing": "expected a signed checkpoint",
        "": "expected a signed checkpoint",
    }
    for text, words in cases.items():
        _, problem = catalogue.read(
            lambda c, t=text: ledger_check.examine(c, t, public(OLD), ORIGIN)
        )
        assert words in problem
        assert bool(problem) == bool(words)
        assert bool(findings(catalogue, OURS, text)) == bool(words)


def test_an_entry_too_long_for_a_bundle_is_refused_and_leaves_nothing(catalogue):
    catalogue.write(append)
    long = {"text": "x" * 65535}
    with pytest.raises(ledger.LedgerError, match="at most 65535 bytes"):
        catalogue.write(lambda tx: append(tx, **long))
    assert catalogue.ledger.size == 1
    frame = len(catalogue.read(lambda c: ledger.entry(c, 0))) + len('"text":""')
    catalogue.write(lambda tx: append(tx, text="x" * (65535 - frame)))
    assert len(catalogue.read(lambda c: ledger.entry(c, 1))) == 65535


# ── in a whole house ─────────────────────────────────────────────────────────────────────────────


async def test_the_key_is_the_keyring_s_whatever_the_catalogue_says(house):
    """Someone who can write to the catalogue, and not open the keyring, makes his own key the last one."""

    store = house.core.store
    before = await house.act("ledger.checkpoint")
    theirs = Ed25519PrivateKey.generate()
    vkey = verifier_key(store.origin, theirs.public_key())

    def forge(tx):
        size = append(tx, ledger_check.RESTORED, backup="B1", ledger_size=1, vkey=vkey)
        keys = [LedgerKey(0, before["vkey"], ""), LedgerKey(size, vkey, "")]
        ledger_keys.store(tx.connection, keys, NOW)
        tx.ledger.sign_checkpoint(tx.connection, store.origin, theirs, NOW)

    store.catalogue.write(forge)
    store.refresh_ledger_keys()
    assert store.vkey == vkey
    for act in ("ledger.verify", "check"):
        found = str((await house.act(act))["findings"])
        assert "expected the last hand-over to name our key" in found


async def test_without_a_core_nothing_is_signed_over_a_catalogue_that_was_changed(house):
    store = house.core.store
    await house.act("ledger.checkpoint")
    (store.path / "changed-at-rest").write_text("expected one file, found another\n")
    note = store.catalogue.read(ledger.latest_checkpoint)
    store.catalogue.write(append)
    assert (await house.act("ledger.checkpoint"))["checkpoint"] == note
    store.acknowledge_change()
    assert (await house.act("ledger.checkpoint"))["checkpoint"] != note
