"""A house whose root key is on a token: everything works, and what was destroyed is erased there."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from gateway.cli.commands import doctor
from gateway.config import load
from gateway.core.disposal import searches
from gateway.core.opening import open_core
from gateway.errors import ConfigurationError
from gateway.install import create
from tests.support import softhsm
from tests.support.house import House
from tests.unit.cli.here import Program
from vault.certificate.verify import verify_certificate
from vault.errors import KeyUnavailable, TokenFailed, VaultError, WrongRootKey
from vault.keys import pkcs11
from vault.keys.keyring import KeyringStore
from vault.keys.open_keyrings import HOUSE
from vault.keys.root import FileRootKey, load_root_key
from vault.store import Store

NOTE = "demonstration-note"
PURPOSE = "keyring-epoch"


@pytest.fixture
def where(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return softhsm.address()


@pytest.fixture
async def token_house(tmp_path, where):
    made = House(tmp_path, root_key=where)
    await made.settle()
    yield made
    await made.end()


def _store(house, **changes):
    return msgspec.structs.replace(
        house.config, store=msgspec.structs.replace(house.config.store, **changes)
    )


def reopen(house, **changes) -> None:
    """A restart under a changed configuration, by the way the core opens."""
    house.core.close()
    if changes:
        house.config = _store(house, **changes)
    house.core = open_core(house.config, house.clock)


async def whole(house) -> None:
    assert (await house.act("check", read_data=True))["findings"] == []


async def destroyed(house) -> dict:
    """The certificate's body."""
    (batch,) = await house.act("disposal.propose")
    for officer in ("officer1", "officer2"):
        await house.approve(batch["id"], officer)
    done = await house.act("disposal.execute", by="officer3", id=batch["id"])
    shown = await house.act("certificate.show", id=done["certificate"])
    assert verify_certificate(shown["json"].encode(), shown["vkey"]).passed
    return json.loads(shown["json"])["body"]


def keyring_files(house) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (house.folder / "vault/keyrings").iterdir()}


async def test_a_destroyed_document_is_noise_for_whoever_has_every_old_file_and_the_token(
    token_house, where, tmp_path
):
    house = token_house
    client = (await house.act("client.show", slug="acme"))["id"]
    await house.filed("kept.xml", b"kept")
    await house.filed("gone.txt", b"gone", record_class=NOTE)
    before = keyring_files(house)
    body = await destroyed(house)
    checks = {each["name"]: each["result"] for each in body["checks"]}
    assert checks[searches.CHECK_ERASED] == "passed"
    assert "failed" not in checks.values()
    assert await house.read("/clients/acme/2025/invoice/kept.xml") == b"kept"
    await whole(house)
    # The thief: the old keyring files, the token, its PIN. The client's opens nothing any more.
    stolen = tmp_path / "stolen"
    stolen.mkdir()
    for name, content in before.items():
        (stolen / name).write_bytes(content)
    theirs = KeyringStore(stolen, load_root_key(where))
    with pytest.raises(KeyUnavailable):
        theirs.load(client)
    assert theirs.epochs_left(client) == (house.core.store.custody.keyring(client).epoch,)


async def test_a_former_epoch_left_on_the_token_fails_the_certificates_check(token_house):
    """The check looks at the token, not at what this process believes it has done there."""
    house = token_house
    client = (await house.act("client.show", slug="acme"))["id"]
    await house.filed("gone.txt", b"gone", record_class=NOTE)
    custody = house.core.store.custody
    assert [c.result for c in searches._erased(house.core, client, custody.keyring(client))] == [
        "passed"
    ]
    # Something was dropped: no epoch from before may be left.
    custody.keyring(client).former_end()
    house.core.store.catalogue.write(lambda tx: custody.save(tx.connection, client, house.clock()))
    custody.keyrings.root.wrap(bytes(32), purpose=PURPOSE, subject=f"{client}/1")
    (check,) = searches._erased(house.core, client, custody.keyring(client))
    assert check.result == "failed"


async def test_groups_root_and_signing_key_change_and_everything_stays_readable(token_house):
    house = token_house
    await house.filed("a.xml", b"a")
    house.clock.advance(seconds=1)
    for what in ("groups", "ledger"):
        await house.act("keys.rotate", what=what)
    old = house.core.store.custody.keyrings.root
    refusal = await house.refused(house.act("keys.rotate", what="root"))
    assert "next_root_key" in str(refusal)
    following = softhsm.address()  # its object is made by the rotation
    reopen(house, next_root_key=following)
    answer = await house.act("keys.rotate", what="root")
    assert answer["root_key"] == pkcs11.load(following).id != old.id
    assert old.subjects(PURPOSE) == frozenset()
    reopen(house)  # both configured
    reopen(house, root_key=following, next_root_key="")
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
    assert len(load_root_key(following).subjects(PURPOSE)) == 3  # acme, other and the house
    await whole(house)


async def test_a_root_key_moves_from_a_file_to_a_token_and_back(tmp_path, where):
    house = House(tmp_path)
    await house.settle()
    await house.filed("a.xml", b"a")
    old = FileRootKey.load(tmp_path / "root.key")
    reopen(house, next_root_key=where)
    await house.act("keys.rotate", what="root")
    reopen(house, root_key=where, next_root_key="")
    house.core.close()
    with pytest.raises(WrongRootKey):
        Store.open(tmp_path / "vault", old)
    house.core = open_core(house.config, house.clock)
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
    # And back: into a file that the rotation makes.
    on_token = house.core.store.custody.keyrings.root
    reopen(house, next_root_key="again.key")
    house.clock.advance(seconds=1)
    await house.act("keys.rotate", what="root")
    assert on_token.subjects(PURPOSE) == frozenset()
    reopen(house, root_key="again.key", next_root_key="")
    assert (tmp_path / "again.key").stat().st_mode & 0o777 == 0o600
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
    await whole(house)
    house.close()


async def test_a_closed_client_leaves_nothing_on_the_token(token_house):
    house = token_house
    client = (await house.act("client.show", slug="other"))["id"]
    custody = house.core.store.custody
    assert custody.epochs_left(client) == (1,)
    house.core.store.catalogue.write(lambda tx: custody.end(tx.connection, client, house.clock()))
    assert custody.epochs_left(client) == ()
    assert len(custody.epochs_left(HOUSE)) == 1


async def test_an_outage_of_the_token_fails_what_needs_it_and_passes(token_house, monkeypatch):
    house = token_house
    await house.filed("a.xml", b"a")
    house.clock.advance(seconds=1)

    def away(address):
        raise TokenFailed("no answer")

    custody = house.core.store.custody
    custody.keyrings.root._connection._session.close()
    monkeypatch.setattr(pkcs11, "_token", away)
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"  # keys are in memory
    with pytest.raises(VaultError):
        await house.act("keys.rotate", what="groups")
    monkeypatch.undo()
    house.restart()
    from gateway.core.keys import rotation

    await rotation.resume(house.wings.keys)
    assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
    await whole(house)


# ── installing, and looking ──


@pytest.fixture
def quick_keys(monkeypatch):
    """An RSA host key takes seconds; these tests need none."""
    monkeypatch.setattr(create.ssh_keys, "new_host_keys", dict)


@pytest.mark.usefixtures("quick_keys")
def test_an_installation_is_made_with_its_root_key_on_a_token(tmp_path, where, capsys):
    made = Program(capsys).json("init", tmp_path / "here", "--root-key", where)
    assert made["root_key"] == where
    folder = tmp_path / "here"
    assert {path.name for path in folder.iterdir()} == {"config.toml", "vault", "run"}
    config = load(folder / "config.toml")
    assert config.root_key == where
    Store.open(config.store_path, load_root_key(where)).close()
    assert softhsm.PIN not in (folder / "config.toml").read_text()
    found = doctor.examine(config, datetime.now(UTC))
    assert [each for each in found if each.subject == "root key"] == []
    # A second installation on the same object is refused, and leaves the first one whole.
    done = Program(capsys)("init", tmp_path / "there", "--root-key", where)
    assert "found one" in done.one_line(2)
    assert not (tmp_path / "there").exists()
    Store.open(config.store_path, load_root_key(where)).close()


@pytest.mark.usefixtures("quick_keys")
def test_an_installation_that_fails_leaves_nothing_on_the_token(tmp_path, where, monkeypatch):
    def fail(*_, **__):
        raise ConfigurationError("late")

    monkeypatch.setattr(create, "create_durably", fail)
    with pytest.raises(ConfigurationError, match="late"):
        create.create(tmp_path / "here", datetime.now(UTC), root_key=where)
    assert not pkcs11.exists(where)
    assert not (tmp_path / "here").exists()


def test_another_kind_of_root_key_can_not_be_asked_for_at_the_start(tmp_path, capsys):
    done = Program(capsys)("init", tmp_path / "here", "--root-key", "/somewhere/root.key")
    assert "pkcs11:" in done.one_line(2)
    assert not (tmp_path / "here").exists()


def test_a_pin_in_the_address_is_refused_before_anything_is_made(tmp_path, where, capsys):
    done = Program(capsys)("init", tmp_path / "here", "--root-key", f"{where}&pin-value=4711")
    assert "4711" not in done.one_line(2)
    assert not (tmp_path / "here").exists()


@pytest.mark.usefixtures("quick_keys")
def test_the_doctor_says_that_a_token_does_not_answer(tmp_path, where):
    path = create.create(tmp_path / "here", datetime.now(UTC), root_key=where)
    text = path.read_text()
    for key, subject in (("root_key", "root key"), ("next_root_key", "next root key")):
        wrong = where.replace(softhsm.TOKEN, "unplugged")
        line = f'root_key = "{where}"'
        assert line in text
        path.write_text(
            text.replace(where, wrong)
            if key == "root_key"
            else text.replace(line, f'{line}\nnext_root_key = "{wrong}"')
        )
        found = doctor.examine(load(path), datetime.now(UTC))
        (finding,) = [each for each in found if each.subject == subject]
        assert finding.level == "problem"
        assert "unplugged" in finding.what
        assert "found 0" in finding.what
