"""The catalogue: group commit, isolation of works, what a failed commit does, the schema's history."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, insert, select, text, update

from vault.catalogue.schema import REVISION, ledger_keys, metadata, settings
from vault.catalogue.store import Catalogue
from vault.check import ledger as ledger_check
from vault.errors import StoreExists, StoreMissing, VaultError
from vault.ledger.note import verifier_key

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def catalogue(tmp_path):
    made = Catalogue.create(tmp_path / "c.sqlite3")
    yield made
    made.close()


def put(key, value="v"):
    def work(tx):
        tx.connection.execute(insert(settings), {"key": key, "value": value})
        return tx.ledger.append(tx.connection, kind="test.put", subject=key, actor="test", at=NOW)

    return work


def keys(catalogue):
    return set(catalogue.read(lambda c: c.execute(select(settings.c.key)).scalars().all()))


def test_the_migrations_make_exactly_the_schema_of_the_code(catalogue):
    def difference(connection):
        return compare_metadata(MigrationContext.configure(connection), metadata)

    assert catalogue.read(difference) == []


def test_a_catalogue_of_the_newest_schema_is_opened_without_looking_at_migrations(catalogue):
    """The revision that the code names is the one that all migrations together end in."""
    version = text("SELECT version_num FROM alembic_version")
    assert catalogue.read(lambda c: c.execute(version).scalars().all()) == [REVISION]


def test_creating_never_replaces_and_opening_never_creates(tmp_path):
    with pytest.raises(StoreMissing):
        Catalogue.open(tmp_path / "c.sqlite3")
    assert list(tmp_path.iterdir()) == []
    Catalogue.create(tmp_path / "c.sqlite3").close()
    with pytest.raises(StoreExists):
        Catalogue.create(tmp_path / "c.sqlite3")


def test_a_file_that_is_no_catalogue_is_refused_with_its_name(tmp_path):
    path = tmp_path / "c.sqlite3"
    path.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(VaultError, match=r"c\.sqlite3: expected a catalogue"):
        Catalogue.open(path)


def test_every_file_of_it_is_private_and_the_settings_that_durability_needs_are_on(catalogue):
    catalogue.write(put("a"))
    for path in catalogue.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path

    def pragmas(tx):
        return [
            tx.connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
        ]

    assert catalogue.write(pragmas) == ["wal", 2, 1, 1]


def test_a_work_that_raises_takes_back_its_own_changes_and_nobody_elses(catalogue):
    gate = threading.Event()

    def hold(tx):
        gate.wait(10)  # so that everything below is committed as one group
        return put("first")(tx)

    def fail(tx):
        put("half")(tx)
        raise ValueError("on purpose")

    first = catalogue.submit(hold)
    bad = catalogue.submit(fail)
    good = catalogue.submit(put("good"))
    gate.set()
    assert (first.result(), good.result()) == (0, 1)
    with pytest.raises(ValueError, match="on purpose"):
        bad.result()
    assert keys(catalogue) == {"first", "good"}
    assert catalogue.ledger.size == 2
    origin, key = "o", _key()
    report = catalogue.read(
        lambda c: ledger_check.verify(c, verifier_key(origin, key.public_key()), origin)
    )
    assert report.findings == ()


def _key():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate()


def test_a_broken_constraint_is_the_matter_of_its_own_work(catalogue):
    catalogue.write(put("a"))
    futures = [catalogue.submit(put(key)) for key in ("a", "b", "a", "c")]
    outcomes = [future.exception() for future in futures]
    assert [outcome is None for outcome in outcomes] == [False, True, False, True]
    assert keys(catalogue) == {"a", "b", "c"}


def test_many_threads_write_and_every_index_is_given_once(catalogue):
    with ThreadPoolExecutor(16) as pool:
        given = list(pool.map(lambda n: catalogue.write(put(f"k{n:03}")), range(200)))
    assert sorted(given) == list(range(200))
    assert catalogue.ledger.size == 200


def test_readers_see_what_is_committed_and_cannot_write(catalogue):
    catalogue.write(put("a"))
    with pytest.raises(VaultError):
        catalogue.read(lambda c: c.execute(insert(settings), {"key": "x", "value": "y"}))
    assert keys(catalogue) == {"a"}


def test_a_full_disk_fails_everyone_in_the_transaction_and_keeps_what_was_there(catalogue):
    """SQLite's own limit on pages stands in for the disk: the error is the same SQLITE_FULL."""
    catalogue.write(put("a"))
    from vault.errors import StorageFull

    catalogue.write(lambda tx: tx.connection.execute(text("PRAGMA max_page_count=1")))
    size = catalogue.ledger.size
    with pytest.raises(StorageFull, match="disk full"):
        catalogue.write(put("b", "x" * 1_000_000))
    assert catalogue.ledger.size == size
    catalogue.write(lambda tx: tx.connection.execute(text("PRAGMA max_page_count=1000000")))
    catalogue.write(put("c"))
    assert keys(catalogue) == {"a", "c"}


def test_after_truncating_the_journal_no_file_holds_what_was_overwritten(catalogue):
    secret = os.urandom(48).hex()
    catalogue.write(put("a", secret))
    files = [catalogue.path, catalogue.path.with_name(catalogue.path.name + "-wal")]
    assert any(secret.encode() in path.read_bytes() for path in files)
    catalogue.write(lambda tx: tx.connection.execute(settings.update().values(value="gone")))
    assert catalogue.truncate_journal()
    assert not any(secret.encode() in path.read_bytes() for path in files if path.exists())


def test_a_work_given_up_by_its_asker_does_not_end_the_writing_thread(catalogue):
    """A core that stops cancels what waits; whatever comes after is still written."""
    gate = threading.Event()
    started = threading.Event()

    def slow(tx):
        started.set()
        gate.wait(10)
        return put("slow")(tx)

    running = catalogue.submit(slow)
    waiting = catalogue.submit(put("given-up"))
    started.wait(10)
    last = catalogue.submit(put("last"))
    assert not running.cancel()  # it has begun: its result will come
    assert last.cancel()
    gate.set()
    running.result(10)
    catalogue.write(put("after"))
    found = keys(catalogue)
    assert {"slow", "after"} <= found
    assert "last" not in found
    assert waiting.done()


def test_a_version_grows_with_what_was_committed_to_its_table_and_with_nothing_else(catalogue):
    """Whoever keeps what it read knows by it when to read again."""

    def number():
        return catalogue.version(settings, ledger_keys)

    first = number()
    catalogue.write(put("a"))
    second = number()
    assert second > first
    catalogue.write(lambda tx: tx.connection.execute(select(settings)).all())
    assert number() == second
    with pytest.raises(RuntimeError, match="given up"):
        catalogue.write(put_and_raise)
    assert number() == second
    assert catalogue.version(ledger_keys) == 0
    catalogue.write(lambda tx: tx.connection.execute(update(settings).values(value="w")))
    third = number()
    assert third > second
    catalogue.write(lambda tx: tx.connection.execute(delete(settings)))
    assert number() > third


def put_and_raise(tx):
    put("b")(tx)
    raise RuntimeError("given up")
