"""The catalogue: group commit, isolation of works, what a failed commit does, the schema's history."""

from __future__ import annotations

import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, insert, select, text, update

from vault.catalogue import ledger, store
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


def held_up(catalogue):
    """Have the writing thread wait, so that what is submitted meanwhile waits together; call to let it go on."""
    begun, go_on = threading.Event(), threading.Event()

    def work(_tx):
        begun.set()
        assert go_on.wait(10)

    catalogue.submit(work)
    assert begun.wait(10)
    return go_on.set


def test_the_background_lets_go_first_whom_somebody_waits_for(catalogue, monkeypatch):
    monkeypatch.setattr(store, "BACKGROUND_SECONDS", 60.0)
    order: list[str] = []
    let_go = held_up(catalogue)
    waiting = [
        catalogue.submit(lambda _tx, what=what: order.append(what), background=what.startswith("b"))
        for what in ["b1", "f1", "b2", "f2"]
    ]
    let_go()
    for each in waiting:
        each.result(10)
    assert order == ["f1", "f2", "b1", "b2"]


def test_the_background_does_not_wait_for_ever(catalogue, monkeypatch):
    monkeypatch.setattr(store, "BACKGROUND_SECONDS", 0.05)
    done = catalogue.submit(lambda _tx: "done", background=True)
    ends = time.monotonic() + 10
    while not done.done():  # somebody waits at any time
        assert time.monotonic() < ends
        catalogue.submit(lambda _tx: time.sleep(0.001))
        catalogue.submit(lambda _tx: time.sleep(0.001)).result(10)
    assert done.result() == "done"


def test_a_group_of_the_background_stops_for_whom_somebody_waits_for(catalogue):
    order: list[int] = []
    asked: list = []

    def work(number):
        def run(_tx):
            order.append(number)
            if number == 2:
                asked.append(catalogue.submit(lambda _tx: order.append(100)))

        return run

    let_go = held_up(catalogue)
    background = [catalogue.submit(work(number), background=True) for number in range(6)]
    let_go()
    for each in background:
        each.result(10)
    asked[0].result(10)
    assert order == [0, 1, 2, 100, 3, 4, 5]


@pytest.mark.parametrize("together", [False, True])
def test_what_could_not_be_made_ready_is_not_recorded_and_the_others_are(catalogue, together):
    def broken():
        raise ValueError("no bytes")

    after: list[str] = []
    let_go = held_up(catalogue) if together else (lambda: None)
    bad = catalogue.submit(put("bad"), ready=broken, after=lambda: after.append("bad"))
    good = catalogue.submit(put("good"), ready=lambda: None, after=lambda: after.append("good"))
    let_go()
    with pytest.raises(ValueError, match="no bytes"):
        bad.result(10)
    good.result(10)
    assert keys(catalogue) == {"good"}
    catalogue.write(lambda _tx: None)
    assert after == ["good"]
    assert catalogue.ledger.size == 1


def test_what_is_left_to_do_afterwards_may_fail_and_others_go_on(catalogue):
    def broken():
        raise OSError("stderr is closed")

    catalogue.submit(put("a"), after=broken).result(10)
    catalogue.submit(put("b"), here=True, after=broken)
    catalogue.run_here()
    assert catalogue.submit(put("c")).result(10) == 2
    assert keys(catalogue) == {"a", "b", "c"}


def test_a_loop_does_not_run_what_was_not_brought_for_it(catalogue):
    ran: list[str] = []
    let_go = held_up(catalogue)
    done = catalogue.submit(lambda _tx: ran.append(threading.current_thread().name))
    let_go()
    catalogue.run_here()
    done.result(10)
    assert ran == ["catalogue-writer"]


def test_what_is_made_ready_is_so_before_the_transaction(catalogue):
    order: list[str] = []
    catalogue.submit(lambda _tx: order.append("work"), ready=lambda: order.append("ready")).result(
        10
    )
    assert order == ["ready", "work"]


def test_a_loop_runs_what_waits_itself_and_leaves_it_where_that_is_slow(catalogue, monkeypatch):
    ran: list[str] = []

    def work(_tx):
        ran.append(threading.current_thread().name)

    here = threading.current_thread().name
    done = catalogue.submit(work, here=True)
    assert not done.done()
    catalogue.run_here()
    assert (done.done(), ran) == (True, [here])
    monkeypatch.setattr(store, "SLOW", 0.0)
    catalogue.submit(work, here=True)
    catalogue.run_here()  # takes longer than nothing
    done = catalogue.submit(work, here=True)
    catalogue.run_here()
    done.result(10)
    assert ran == [here, here, "catalogue-writer"]
    let_go = held_up(catalogue)
    done = catalogue.submit(work, here=True)
    catalogue.run_here()  # somebody is at it: not waited for
    assert not done.done()
    let_go()
    done.result(10)
    assert ran[-1] == "catalogue-writer"


def test_works_of_a_loop_and_of_threads_keep_one_ledger(catalogue):
    def from_threads(number):
        return catalogue.write(put(f"t{number}"))

    with ThreadPoolExecutor(4) as pool:
        threads = pool.map(from_threads, range(200))
        mine = []
        for number in range(200):
            mine.append(catalogue.submit(put(f"l{number}"), here=True))
            catalogue.run_here()
        seqs = sorted([*threads, *(each.result(10) for each in mine)])
    assert seqs == list(range(400))
    with catalogue._readers.connect() as connection:
        assert ledger.Ledger.load(connection).fault == ""


def test_a_glance_sees_one_state_and_what_was_committed_before_it(catalogue):
    catalogue.write(put("a"))

    def look(connection):
        before = keys_of(connection)
        catalogue.write(put("b"))
        return before, keys_of(connection)

    assert catalogue.glance(look) == ({"a"}, {"a"})
    assert catalogue.glance(keys_of) == {"a", "b"}
    with pytest.raises(VaultError):
        catalogue.glance(lambda c: c.execute(text("DELETE FROM settings")))
    assert catalogue.glance(keys_of) == {"a", "b"}
    assert catalogue.truncate_journal()  # it holds nothing up


def keys_of(connection):
    return set(connection.execute(select(settings.c.key)).scalars())
