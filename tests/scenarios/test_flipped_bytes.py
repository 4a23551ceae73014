"""Every byte of a small store is flipped, one at a time; none is missed.

The store lies closed. What covers each file is driven directly, because a whole check for each of some hundred
thousand bytes would take days; a sample of the flips of every file then goes through the whole check.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from vault.crypto.chunked import CHUNK
from vault.crypto.sealed import SealedReader, document_context
from vault.errors import VaultError
from vault.keys.keyring import KeyringStore
from vault.keys.open_keyrings import HOUSE
from vault.keys.root import FileRootKey
from vault.storage import at_rest
from vault.store import _seal_key

GENERATOR = random.Random(3)


@pytest.fixture
async def closed(house):
    """A closed store with sealed files of no chunk, of a part of one, and of more than one."""

    await house.filed("empty.xml", b"")
    await house.filed("small.xml", b"small")
    await house.filed("large.xml", b"\0" * (CHUNK + 100))
    await house.upload("/inbox/waiting.xml", b"waiting")
    keys = {
        row.id: house.core.store.custody.document_key(row)
        for row in house.core.store.catalogue.read(_rows)
    }
    house.core.close()
    yield house, keys
    house.open()  # the fixture closes it


def _rows(connection):
    from sqlalchemy import select

    from vault.catalogue.schema import documents

    return connection.execute(select(documents)).all()


def flips(path: Path):
    """Flip a random bit of each byte of a file in turn, and put it back."""
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for position, value in enumerate(data):
            file.seek(position)
            file.write(bytes([value ^ 1 << GENERATOR.randrange(8)]))
            yield position
            file.seek(position)
            file.write(bytes([value]))
    assert path.read_bytes() == data


def test_no_flipped_byte_of_the_catalogue_is_missed(closed):
    house, _ = closed
    store = house.folder / "vault"
    key = _seal_key(KeyringStore(store / "keyrings", FileRootKey.load(house.folder / "root.key")))
    catalogue, seal = store / "catalogue.sqlite3", store / "catalogue.at-rest"
    body = seal.read_bytes()[:-32]
    assert at_rest.changes(catalogue, seal, key) is None
    missed = count = 0
    with catalogue.open("rb", buffering=0) as source:
        for position in flips(catalogue):
            count += 1
            missed += at_rest.block_is_whole(source, body, position // at_rest.BLOCK)
    assert missed == 0
    assert count == catalogue.stat().st_size > 100_000
    # The function that is asked looks at every one of these blocks.
    for block in range(0, count, at_rest.BLOCK):
        with catalogue.open("r+b") as file:
            file.seek(block)
            value = file.read(1)
            file.seek(block)
            file.write(bytes([value[0] ^ 1]))
        assert f"at {block}" in (at_rest.changes(catalogue, seal, key) or "")
        with catalogue.open("r+b") as file:
            file.seek(block)
            file.write(value)
    assert at_rest.changes(catalogue, seal, key) is None


def test_no_flipped_byte_of_its_seal_is_missed(closed):
    house, _ = closed
    store = house.folder / "vault"
    key = _seal_key(KeyringStore(store / "keyrings", FileRootKey.load(house.folder / "root.key")))
    seal = store / "catalogue.at-rest"
    missed = [
        position
        for position in flips(seal)
        if at_rest.changes(store / "catalogue.sqlite3", seal, key) is None
    ]
    assert missed == []


def test_no_flipped_byte_of_a_keyring_is_missed(closed):
    house, _ = closed
    root = FileRootKey.load(house.folder / "root.key")
    keyrings = KeyringStore(house.folder / "vault" / "keyrings", root)
    assert len(keyrings.owners()) == 3
    for owner in keyrings.owners():
        for position in flips(keyrings.path(owner)):
            assert not opens(lambda who=owner: keyrings.load(who)), f"{owner}: byte {position}"
    assert keyrings.load(HOUSE).epoch >= 1


def test_no_flipped_byte_of_a_sealed_file_is_missed(closed):
    house, keys = closed
    count = 0
    for path in (house.folder / "vault/blobs/objects").rglob("*"):
        if not path.is_file():
            continue
        for position in flips(path):
            count += 1
            assert not opens(lambda at=path: read_whole(at, keys[at.name])), f"byte {position}"
    assert count > CHUNK


def opens(read) -> bool:
    """Whether reading works; it may fail in the vault's own way only."""
    try:
        read()
    except VaultError:
        return False
    return True


def read_whole(path: Path, key: bytes) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    context = document_context(path.name)
    try:
        with SealedReader(descriptor, key, context) as reader:
            while reader.read(1 << 20):
                pass
    finally:
        os.close(descriptor)


async def test_a_sample_of_flips_in_every_file_is_found_by_the_check_and_said(closed, tmp_path):
    house, _ = closed
    store = house.folder / "vault"
    safe = tmp_path / "safe"
    shutil.copytree(store, safe)
    for path in sorted(safe.rglob("*")):
        if not path.is_file() or path.stat().st_size == 0:
            continue
        target = store / path.relative_to(safe)
        for _ in range(3):
            data = bytearray(path.read_bytes())
            position = GENERATOR.randrange(len(data))
            data[position] ^= 1 << GENERATOR.randrange(8)
            target.write_bytes(data)
            found = await _check(house)
            assert found, f"{target}: byte {position} was missed"
            shutil.rmtree(store)
            shutil.copytree(safe, store)
    assert await _check(house) == []


async def _check(house) -> list:
    """The findings of a check of the store as it lies, or what it says instead of opening."""
    try:
        house.open()
    except VaultError as error:
        return [str(error)]

    try:
        return (await house.act("check", read_data=True))["findings"]
    except Exception as error:  # a page of SQLite's that can't be read at all
        return [str(error)]
    finally:
        house.core.close()


async def test_a_change_at_rest_stays_until_an_officer_answers_for_it(house):
    await house.filed("a.xml")
    house.core.close()
    path = house.folder / "vault" / "catalogue.sqlite3"
    data = bytearray(path.read_bytes())
    # Free space of a page: SQLite itself would never notice.
    data[data.rindex(bytes(500)) + 250] ^= 1
    path.write_bytes(data)
    for _ in range(2):
        house.open()
        (finding,) = (await house.act("check"))["findings"]
        assert "expected the bytes of the last closing" in finding["problem"]
        house.core.close()
    house.open()
    refusal = await house.refused(house.act("check", acknowledge=True))
    assert refusal.code == "denied"
    assert (await house.act("check", by="officer1", acknowledge=True))["findings"] == []
    house.core.close()
    house.open()
    assert (await house.act("check"))["findings"] == []


async def test_a_store_that_was_not_closed_says_nothing_false(house):
    """After a crash there is no seal, and nothing to compare with."""

    await house.filed("a.xml")
    store = house.folder / "vault"
    assert not (store / "catalogue.at-rest").exists()
    copy = house.folder / "crashed"
    shutil.copytree(store, copy)
    house.core.close()
    shutil.rmtree(store)
    copy.rename(store)
    house.open()
    assert (await house.act("check", read_data=True))["findings"] == []
