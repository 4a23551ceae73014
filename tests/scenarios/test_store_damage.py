"""A store that can't be opened, or whose ledger was cut, is told in one line: what is there, missing, to be done.

Each kind of damage is tried with everything that opens a store. None answers in the database's words, none with
"an unexpected error", and no damaged file is changed by looking at it.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.core import main as core_main
from tests.scenarios.test_backup_drill import content, drill
from tests.support.house import House
from tests.unit.cli.here import Program
from vault.catalogue.ledger import LedgerError

__all__ = ["drill"]  # a fixture

OPENING = (["status"], ["check"], ["ledger", "verify"], ["keys", "status"], ["core"])
FOREIGN = re.compile(
    "sqlite[ _]|malformed|no such|is not a database|already exists|revision|unique|constraint|traceback"
    "|transaction to commit|Error:|unexpected error",
    re.IGNORECASE,
)
CONFIG = '[retention]\npacks = ["cn", "demo"]\n[inspect]\nclamd = "off"\n[store]\nroot_key = "root.key"\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed(tmp_path_factory):
    """A store of two clients and some documents, closed, and another one's catalogue."""
    folder = tmp_path_factory.mktemp("closed")
    for name in ("store", "other"):
        (folder / name).mkdir()
        house = House(folder / name)
        await house.settle()
        for number in range(3):
            await house.filed(f"{number}.xml", b"%d" % number)
        await house.act("ledger.checkpoint")
        await house.filed("last.xml", b"last")
        await house.act("ledger.checkpoint")
        house.close()
        (folder / name / "config.toml").write_text(CONFIG)
    return folder


@pytest.fixture
def store(closed, tmp_path):
    shutil.copytree(closed / "store", tmp_path / "i")
    return tmp_path / "i"


@pytest.fixture
def program(store, capsys, monkeypatch):
    async def served(_core):
        return None

    monkeypatch.setattr(core_main, "_serve", served)
    return Program(capsys, store / "config.toml")


def rewritten(change):
    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage


def executed(*statements: str):
    def damage(path: Path) -> None:
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return damage


def another_database(path: Path) -> None:
    path.unlink()
    executed("CREATE TABLE letters (a)")(path)


def zeroed(first: int, last: int):
    return rewritten(lambda data: data[:first] + bytes(last - first) + data[last:])


CLOSED_DOORS = {
    "empty": (rewritten(lambda data: b""), "an empty file"),
    **{
        f"cut to {kept}": (
            rewritten(lambda data, kept=kept: data[:kept]),
            f"the first {kept} bytes",
        )
        for kept in (1, 15, 16, 99)
    },
    **{
        f"cut to {kept}": (
            rewritten(lambda data, kept=kept: data[:kept]),
            rf"{kept} of its \d+ bytes: its end was cut off",
        )
        for kept in (100, 512, 4095, 4096, 4097, 40_000)
    },
    "without its last byte": (rewritten(lambda data: data[:-1]), "its end was cut off"),
    "without its last page": (rewritten(lambda data: data[:-4096]), "its end was cut off"),
    "text": (rewritten(lambda data: b"hello\n" * 99), "a file of 594 bytes that is none"),
    "noise": (
        rewritten(lambda data: b"SQLite format 3\0" + os.urandom(9000)),
        "that can't be read|beginning is damaged|its end was cut off",
    ),
    "zeroes in its head": (zeroed(16, 4096), "beginning is damaged"),
    "zeroes in its pages": (zeroed(4096, 80_000), "parts that can't be read"),
    "another program's": (another_database, "a database without any of its tables"),
    "no version table": (executed("DROP TABLE alembic_version"), "table alembic_version"),
    "no version": (executed("DELETE FROM alembic_version"), "without its version"),
    "a later version": (
        executed("UPDATE alembic_version SET version_num = '9999'"),
        "install the one that wrote it",
    ),
    "another format": (
        executed("UPDATE settings SET value = '2' WHERE key = 'format'"),
        "install the software that wrote it",
    ),
    "no settings": (executed("DELETE FROM settings"), "its setting format and 3 others"),
    **{
        f"no setting {key}": (
            executed(f"DELETE FROM settings WHERE key = '{key}'"),
            f"without its setting {key}",
        )
        for key in ("origin", "root_key_id", "store_id", "format")
    },
    **{
        f"no table {name}": (
            executed("PRAGMA foreign_keys = OFF", f"DROP TABLE {name}"),
            f"without its table {name}",
        )
        for name in ("settings", "documents", "clients", "ledger_entries", "ledger_nodes")
    },
    "no checkpoints": (executed("DROP TABLE checkpoints"), "without its table checkpoints"),
    "gone": (Path.unlink, "found none beside blobs/objects and keyrings"),
    "blobs gone": (
        lambda path: shutil.rmtree(path.parent / "blobs"),
        "the sealed files of all documents",
    ),
}


@pytest.mark.parametrize("kind", CLOSED_DOORS)
def test_a_store_that_can_not_be_opened_is_told_in_one_line_with_what_to_do(store, program, kind):
    damage, found = CLOSED_DOORS[kind]
    path = store / "vault" / "catalogue.sqlite3"
    damage(path)
    before = path.read_bytes() if path.exists() else None
    for command in OPENING:
        done = program(*command)
        line = done.one_line(done.code)
        assert done.code in {1, 2}
        assert re.search(found, line), line
        assert "expected" in line
        assert "`strongroom backup restore`" in line or "install" in line
        assert not FOREIGN.search(line), line
    done = program("doctor", "--json")
    assert done.code == 1
    problems = [each for each in done.data if each["level"] == "problem"]
    assert problems
    assert not FOREIGN.search(str(problems)), problems
    if kind != "another program's":
        assert (path.read_bytes() if path.exists() else None) == before


def test_the_catalogue_of_another_store_is_told_as_that(closed, store, program):
    shutil.copy(closed / "other/vault/catalogue.sqlite3", store / "vault/catalogue.sqlite3")
    for command in OPENING:
        line = program(*command).one_line(2)
        assert "expected the catalogue of the keyrings beside it" in line
        assert "another store's" in line
        assert "`strongroom backup restore`" in line


def test_another_root_key_is_told_as_that(closed, store, program):
    shutil.copy(closed / "other/root.key", store / "root.key")
    for command in OPENING:
        line = program(*command).one_line(2)
        assert "expected root key" in line
        assert "store.root_key" in line


NEWEST = "(SELECT max(seq) FROM ledger_entries)"
CUTS = {
    "the last entry": (
        executed(f"DELETE FROM ledger_entries WHERE seq = {NEWEST}"),
        r"expected \d+ entries, as its newest checkpoint says, found \d+: its end was cut off",
    ),
    "five entries": (
        executed(f"DELETE FROM ledger_entries WHERE seq > {NEWEST} - 5"),
        "its end was cut off",
    ),
    "all entries": (executed("DELETE FROM ledger_entries"), r"found 0: its end was cut off"),
    "entries and checkpoints": (
        executed(f"DELETE FROM ledger_entries WHERE seq > {NEWEST} - 5", "DELETE FROM checkpoints"),
        r"as its tree says, found \d+: its end was cut off",
    ),
    "entries and nodes": (
        executed(
            f"DELETE FROM ledger_entries WHERE seq > {NEWEST} - 5",
            f"DELETE FROM ledger_nodes WHERE level = 0 AND idx > {NEWEST}",
        ),
        "as its newest checkpoint says",
    ),
    "the first entry": (
        executed("DELETE FROM ledger_entries WHERE seq = 0"),
        "expected it from entry 0, found it from entry 1",
    ),
    "all nodes": (executed("DELETE FROM ledger_nodes"), "expected a tree over"),
    "upper nodes": (
        executed("DELETE FROM ledger_nodes WHERE level > 0"),
        r"expected node \d+/\d+ of its tree, found none",
    ),
    "nodes that are no bytes": (
        executed("UPDATE ledger_nodes SET hash = 'text'"),
        r"expected bytes as node \d+/\d+, found str",
    ),
}


@pytest.mark.parametrize("kind", CUTS)
def test_a_ledger_that_was_cut_is_looked_at_and_nobody_is_served_with_it(store, program, kind):
    damage, found = CUTS[kind]
    damage(store / "vault" / "catalogue.sqlite3")
    line = program("core").one_line(1)
    assert re.search(found, line), line
    assert "`strongroom backup restore`" in line
    status = program("status")
    assert status.code == 0
    assert re.search(found, re.sub(r"\s+", " ", status.out)), status.out
    assert "NOT WHOLE" in status.out
    assert "CHANGED WHILE IT WAS CLOSED" in status.out
    for command in (["check"], ["check", "--read-data"], ["ledger", "verify"]):
        done = program(*command)
        assert done.code == 1
        assert "ledger" in done.out.lower()
        assert "expected" in done.out
        assert not FOREIGN.search(done.out + done.err), done.out + done.err
        assert done.err == ""
    assert "strongroom backup restore" in program("check").out
    doctor = program("doctor")
    assert doctor.code == 1
    assert re.search(found, doctor.out)
    # Nothing can be written down: whatever would be, is refused in one line, with the reason.
    line = program("client", "add", "later", "--name", "Later Ltd").one_line(1)
    assert re.search(found, line), line


SUBTLE = {
    "an entry in the middle": executed("DELETE FROM ledger_entries WHERE seq = 5"),
    "an entry of text": executed("UPDATE ledger_entries SET entry = 'abc' WHERE seq = 3"),
    "an empty entry": executed("UPDATE ledger_entries SET entry = x'' WHERE seq = 3"),
    "the last node": executed(
        "DELETE FROM ledger_nodes WHERE level = 0 AND idx = (SELECT min(idx) FROM ledger_nodes WHERE level = 0)"
    ),
    "a checkpoint of text": executed("UPDATE checkpoints SET note = 'hello'"),
    "a checkpoint of bytes": executed("UPDATE checkpoints SET note = x'ff00'"),
}


@pytest.mark.parametrize("kind", SUBTLE)
def test_what_only_a_whole_reading_shows_is_a_finding_with_what_to_do(store, program, kind):
    SUBTLE[kind](store / "vault" / "catalogue.sqlite3")
    for command in (["check"], ["check", "--read-data"], ["ledger", "verify"]):
        done = program(*command)
        assert (done.code, done.err) == (1, "")
        assert "expected" in done.out
        assert not FOREIGN.search(done.out), done.out


def test_a_page_that_can_not_be_read_is_one_finding_and_the_rest_is_looked_at(store, program):
    path = store / "vault" / "catalogue.sqlite3"
    connection = sqlite3.connect(path)
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'certificates'"
    ).fetchone()
    connection.close()
    zeroed((page - 1) * 4096, page * 4096)(path)
    done = program("check")
    assert (done.code, done.err) == (1, "")
    assert re.search(r"expected a whole database, found (\d+|so many) faults in it", done.out)
    assert "strongroom backup restore" in done.out
    assert not FOREIGN.search(done.out), done.out


async def test_no_backup_is_made_of_a_ledger_that_was_cut_and_the_newest_one_brings_it_back(
    drill, tmp_path
):
    await drill.filed("a.xml", b"kept")
    await drill.act("ledger.checkpoint")
    made = await drill.back_up()
    drill.core.close()
    CUTS["five entries"][0](drill.folder / "vault" / "catalogue.sqlite3")
    drill.open()
    with pytest.raises(LedgerError, match="its end was cut off"):
        await drill.back_up()
    assert [path.name for path in (drill.place / "snapshots").iterdir()] == [made["backup"]]
    there = drill.restored(tmp_path / "elsewhere")
    assert await there.is_whole()
    assert await content(there, "a.xml") == b"kept"
    there.close()
