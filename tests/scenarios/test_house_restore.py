"""A broken house keyring: every start names the command that brings it back, and the command works, on a store at rest."""

from __future__ import annotations

import re
import shutil

import pytest

from gateway.config import KeyringCopy
from gateway.core import main as core_main
from tests.scenarios.test_store_damage import CONFIG
from tests.support.house import START, House
from tests.unit.cli.here import Program
from vault.backup import house_keyring
from vault.keys.keyring import KeyringStore
from vault.keys.root import FileRootKey, create_root_key
from vault.store import Store


@pytest.fixture
async def closed(tmp_path, monkeypatch):
    """A closed store with a copy of its keyrings."""
    place = tmp_path / "copies"
    place.mkdir()
    (tmp_path / "i").mkdir()
    house = House(
        tmp_path / "i", **{"keyring.copies": [KeyringCopy(name="disk", directory=str(place))]}
    )
    await house.settle()
    await house.filed("a.xml", b"kept")
    await house.act("ledger.checkpoint")
    house.close()
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "i/vault/keyrings", place)
    (tmp_path / "i/config.toml").write_text(
        CONFIG + f'[[keyring.copies]]\nname = "disk"\ndirectory = "{place}"\n'
    )
    return tmp_path


@pytest.fixture
def program(closed, capsys, monkeypatch):
    async def served(_core):
        return None

    monkeypatch.setattr(core_main, "_serve", served)
    return Program(capsys, closed / "i/config.toml")


def kept(closed):
    return closed / "i/vault/keyrings/house.keyring"


def damage(closed, how: str) -> None:
    path = kept(closed)
    data = path.read_bytes()
    match how:
        case "changed":
            path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
        case "cut":
            path.write_bytes(data[:-30])
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
        case "all gone":
            shutil.rmtree(path.parent)


@pytest.mark.parametrize("how", ["changed", "cut", "empty", "gone"])
def test_every_start_names_the_command_and_the_command_brings_it_back(closed, program, how):
    damage(closed, how)
    for command in (["status"], ["check"], ["ledger", "verify"], ["client", "list"], ["core"]):
        done = program(*command)
        line = done.one_line(done.code)
        assert done.code in {1, 2}
        assert "keyring house: expected" in line
        named = re.search(r"`strongroom (keys restore house) house\.keyring`", line)[1].split()
    doctor = program("doctor")
    assert "strongroom keys restore house" in doctor.out
    done = program(*named, closed / "copies/house.keyring")
    assert done.code == 0, done.err
    assert "opens again" in done.out
    assert not (kept(closed).parent / house_keyring.BROKEN).exists()
    checked = program("check", "--read-data")
    assert checked.code == 0, checked.out
    assert program("core").code == 0
    exported = closed / "entries"
    assert program("ledger", "export", exported).code == 0
    assert '"keyring.restored"' in exported.read_text()
    assert program("keys", "copies").out.count("behind") == 1  # the copies follow


def test_with_the_whole_folder_gone_each_keyring_comes_back_by_the_commands_named(closed, program):
    damage(closed, "all gone")
    line = program("check").one_line(2)
    assert "`strongroom keys restore house house.keyring`" in line
    assert program("keys", "restore", "house", closed / "copies/house.keyring").code == 0
    findings = program("check", "--json").data["findings"]
    assert len(findings) == 2
    for finding in findings:
        command = re.search(r"`strongroom (keys restore \S+) (\S+)`", finding["action"])
        assert program(*command[1].split(), closed / "copies" / command[2]).code == 0
    assert program("check", "--read-data").code == 0


def test_one_that_opens_is_never_replaced(closed, program):
    before = kept(closed).read_bytes()
    line = program("keys", "restore", "house", closed / "copies/house.keyring").one_line(2)
    assert "found it whole" in line
    assert kept(closed).read_bytes() == before


def test_a_copy_that_is_not_good_changes_nothing(closed, program, tmp_path):
    good = (closed / "copies/house.keyring").read_bytes()
    root = FileRootKey.load(closed / "i/root.key")
    (tmp_path / "other").mkdir()
    (tmp_path / "foreign").mkdir()
    # Another store's under the same root key, one under another root key, damaged ones, a client's.
    Store.create(tmp_path / "other/vault", root, START, {}).close()
    another = create_root_key(str(tmp_path / "foreign/root.key"))
    KeyringStore(tmp_path / "foreign", another).create("house", {"accounts": bytes(32)})
    client = next(path for path in (closed / "copies").glob("*.keyring") if path.stem != "house")
    wrong = {
        "another store's": (tmp_path / "other/vault/keyrings/house.keyring").read_bytes(),
        "root key": (tmp_path / "foreign/house.keyring").read_bytes(),
        "tag": good[:-1] + bytes([good[-1] ^ 1]),
        "version 1 keyring": b"hello",
        "another owner": client.read_bytes(),
    }
    damage(closed, "changed")
    before = kept(closed).read_bytes()
    for said, content in wrong.items():
        file = tmp_path / "copy"
        file.write_bytes(content)
        done = program("keys", "restore", "house", file)
        assert said in done.one_line(done.code)
        assert done.code in {1, 2}
        assert kept(closed).read_bytes() == before
        assert not (kept(closed).parent / house_keyring.BROKEN).exists()


def test_while_a_store_is_open_nothing_is_restored(closed, program):
    store = Store.open(closed / "i/vault", FileRootKey.load(closed / "i/root.key"))
    try:
        damage(closed, "changed")
        line = program("keys", "restore", "house", closed / "copies/house.keyring").one_line(2)
        assert "another process" in line
    finally:
        store.close()


def test_a_store_that_does_not_open_with_it_keeps_the_broken_one_aside(
    closed, program, monkeypatch
):
    damage(closed, "changed")
    broken = kept(closed).read_bytes()
    monkeypatch.setattr(
        Store, "refresh_ledger_keys", lambda _store: (_ for _ in ()).throw(RuntimeError("injected"))
    )
    assert program("keys", "restore", "house", closed / "copies/house.keyring").code == 1
    assert (kept(closed).parent / house_keyring.BROKEN).read_bytes() == broken
