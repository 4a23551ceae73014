"""A keyring that does not open: one finding, good copies kept, and the command that brings it back."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import pytest

from gateway.config import KeyringCopy
from gateway.courier import transfers
from gateway.courier.transfers import beside
from gateway.errors import Refusal
from tests.support.house import House
from vault.catalogue.schema import clients
from vault.errors import StorageFailed, StoreMissing, VaultError, WrongRootKey
from vault.storage.places import DirectoryPlace


@pytest.fixture
async def house(tmp_path):
    (tmp_path / "house").mkdir()
    (tmp_path / "copies").mkdir()
    copy = KeyringCopy(name="disk", directory=str(tmp_path / "copies"))
    made = House(tmp_path / "house", **{"keyring.copies": [copy]})
    await made.settle()
    yield made
    with contextlib.suppress(OSError):  # some tests close it themselves
        await made.end()


def keyring_of(house, slug="acme") -> Path:
    client = house.core.store.catalogue.read(
        lambda c: c.execute(clients.select().where(clients.c.slug == slug)).one()
    )
    return house.core.store.custody.keyrings.path(client.id)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))


async def delivered(house) -> None:
    """What core and courier do for the copies that are due."""
    await beside(house.wings.outbound.transfers, house.config, house.deliver())


async def findings(house) -> list:
    return list((await house.act("check"))["findings"])


async def test_a_broken_keyring_is_one_finding_that_names_the_command_and_the_command_works(house):
    for number in range(3):
        await house.upload(f"/inbox/{number}.txt", b"note %d" % number)
    path = keyring_of(house)
    good = path.read_bytes()
    damage(path)
    house.restart()
    (found,) = await findings(house)
    assert found["subject"].startswith("keyring of client acme (")
    assert "3 documents" in found["problem"]
    assert "strongroom keys restore acme" in found["action"]
    last = (await house.act("status"))["check"]
    assert (last["findings"], last["subjects"]) == (1, [found["subject"]])
    wrong = bytearray(good)
    wrong[-1] ^= 1
    restore = base64.b64encode(bytes(wrong)).decode()
    refusal = await house.refused(house.act("keys.restore", client="acme", content=restore))
    assert refusal.code == "invalid"
    assert path.read_bytes() != good  # nothing was written
    restore = base64.b64encode(good).decode()
    done = await house.act("keys.restore", client="acme", content=restore)
    assert done["epoch"] > 1
    assert await findings(house) == []
    assert (await house.act("status"))["check"]["findings"] == 0
    refusal = await house.refused(house.act("keys.restore", client="acme", content=restore))
    assert "found it whole" in refusal.message


async def test_a_copy_that_is_too_old_for_a_living_group_is_refused(house):
    path = keyring_of(house)
    old = path.read_bytes()
    await house.upload("/inbox/a.txt", b"makes the day's group")
    damage(path)
    house.restart()
    content = base64.b64encode(old).decode()
    refusal = await house.refused(house.act("keys.restore", client="acme", content=content))
    assert "take a newer copy" in refusal.message


async def test_a_keyring_that_does_not_open_is_never_handed_to_the_courier(house):
    path = keyring_of(house)
    damage(path)
    await delivered(house)
    there = {each.name for each in (house.folder.parent / "copies").glob("*.keyring")}
    assert len(there) == 2  # the others are not kept waiting by it
    assert path.name not in there
    (behind,) = (await house.act("status"))["copies_behind"]
    assert "its copies stay as they are" in behind["failure"]


def test_a_missing_catalogue_beside_keyrings_does_not_advise_to_make_a_new_store(house):
    house.core.close()
    (house.folder / "vault/catalogue.sqlite3").unlink()
    with pytest.raises(StoreMissing, match="do not make a new store here"):
        house.open()
    (house.folder / "vault/catalogue.sqlite3").touch()


@pytest.mark.parametrize("keep", [0, 100, 5000, 40_000])
def test_a_cut_catalogue_is_said_plainly(house, keep):
    house.core.close()
    path = house.folder / "vault/catalogue.sqlite3"
    before = path.read_bytes()
    path.write_bytes(before[:keep])
    with pytest.raises(VaultError) as caught:
        house.open()
    assert "expected a catalogue" in str(caught.value)
    assert "strongroom backup restore" in str(caught.value)
    assert path.read_bytes() == before[:keep]  # kept as it was found


async def test_what_can_not_be_told_to_be_damaged_is_not_replaced(house, monkeypatch):
    """A disk that does not answer, or another root key, says nothing of the keyring."""

    path = keyring_of(house)
    before = path.read_bytes()
    content = base64.b64encode(before).decode()
    store = house.core.store.custody.keyrings
    for failure in (WrongRootKey("another root"), StorageFailed("no answer")):
        monkeypatch.setattr(store, "load", raising(failure))
        with pytest.raises((Refusal, StorageFailed)):
            await house.act("keys.restore", client="acme", content=content)
        assert path.read_bytes() == before
    monkeypatch.undo()
    house.core.store.catalogue.write(
        lambda tx: tx.connection.execute(clients.update().values(state="closing"))
    )
    damage(path)
    refusal = await house.refused(house.act("keys.restore", client="acme", content=content))
    assert "expected it open" in refusal.message


def raising(failure):
    def load(_owner):
        raise failure

    return load


async def test_an_older_copy_stays_until_the_new_one_was_read_back(house, monkeypatch):
    class Corrupting(DirectoryPlace):
        def put(self, name, pieces):
            super().put(name, [b"".join(pieces)[:-1] + b"?"] if "keyring" in name else pieces)

    copies = house.folder.parent / "copies"
    name = keyring_of(house).name
    (copies / name).write_bytes(b"the older copy")
    with monkeypatch.context() as patch:
        patch.setattr(transfers, "open_place", lambda *_: Corrupting(copies))
        await delivered(house)
    (behind,) = (await house.act("status"))["copies_behind"]
    assert "expected the bytes just written" in behind["failure"]
    assert (copies / name).read_bytes() == b"the older copy"
    house.clock.advance(hours=1)
    await delivered(house)
    assert (copies / name).read_bytes() == keyring_of(house).read_bytes()
    for slug in ("acme", "other"):
        await house.act("client.close", slug=slug)
    await delivered(house)
    assert {path.name for path in copies.iterdir()} == {"strongroom-copies.json", "house.keyring"}


async def test_a_place_that_was_begun_by_an_older_version_is_known_and_kept_as_it_is(house):
    """The marker as the first version that kept copies wrote it."""
    copies = house.folder.parent / "copies"
    store = house.core.store.origin.rpartition("/")[2]
    there = f'{{"store":"{store}","format":1}}\n'.encode()
    (copies / "strongroom-copies.json").write_bytes(there)
    await delivered(house)
    assert (await house.act("status"))["copies_behind"] == []
    assert len(list(copies.glob("*.keyring"))) == 3
    assert (copies / "strongroom-copies.json").read_bytes() == there


async def test_a_new_place_is_begun_as_an_older_version_expects_it(house):
    await delivered(house)
    store = house.core.store.origin.rpartition("/")[2]
    there = (house.folder.parent / "copies/strongroom-copies.json").read_bytes()
    assert there == f'{{"store":"{store}","format":1}}\n'.encode()
