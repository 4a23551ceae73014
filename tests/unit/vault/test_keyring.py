"""Keyring files: what brings keys back, what must not, and which files are refused."""

import json

import pytest

from vault.errors import (
    IntegrityError,
    KeyUnavailable,
    StorageFailed,
    StoreExists,
    StoreMissing,
    VaultError,
    WrongRootKey,
)
from vault.keys.keyring import KeyringStore
from vault.keys.root import FileRootKey

NOW = "2026-11-22T10:00:00+00:00"
MAGIC = b"strongroom-keyring-v1\n"


@pytest.fixture
def store(tmp_path):
    (tmp_path / "keyrings").mkdir()
    return KeyringStore(tmp_path / "keyrings", FileRootKey(bytes(range(32))))


def test_a_keyring_comes_back_as_it_was_saved(store):
    """Groups, secrets and epoch, byte for byte."""
    keyring = store.create("acme", {"index": b"\x00\xff" * 16, "profile": b""})
    assert keyring.epoch == 1
    day = keyring.new_group("intake", "2026-11-22", NOW)
    cohort = keyring.new_group("cohort", "FY2025/invoice", NOW)
    assert day.key != cohort.key
    assert day.id != cohort.id
    store.save(keyring)
    loaded = store.load("acme")
    assert loaded == keyring
    assert loaded.epoch == 2
    assert loaded.group(day.id) == day
    assert loaded.secrets == {"index": b"\x00\xff" * 16, "profile": b""}


def test_a_dropped_group_is_in_no_file_of_the_store_any_more(store):
    """After the save its key cannot be had from what is on disk, even with the root key."""
    keyring = store.create("acme", {})
    group = keyring.new_group("cohort", "FY2025/invoice", NOW)
    store.save(keyring)
    keyring.drop_group(group.id)
    store.save(keyring)
    with pytest.raises(KeyUnavailable, match=group.id):
        store.load("acme").group(group.id)
    with pytest.raises(KeyUnavailable):
        keyring.drop_group(group.id)
    assert [entry.name for entry in store.path("acme").parent.iterdir()] == ["acme.keyring"]


def test_an_old_copy_of_the_file_still_opens_the_old_groups(store):
    """This is why every copy has to be rewritten: the format cannot prevent it."""
    keyring = store.create("acme", {})
    group = keyring.new_group("cohort", "FY2025/invoice", NOW)
    store.save(keyring)
    copy = store.path("acme").read_bytes()
    keyring.drop_group(group.id)
    store.save(keyring)
    store.path("acme").write_bytes(copy)
    revived = store.load("acme")
    assert revived.group(group.id).key == group.key
    assert revived.epoch < keyring.epoch


def test_every_save_is_sealed_anew(store):
    """Two epochs of the same keyring share neither epoch key nor ciphertext."""
    keyring = store.create("acme", {"index": bytes(32)})
    before = store.path("acme").read_bytes()
    store.save(keyring)
    after = store.path("acme").read_bytes()
    assert json.loads(before.split(b"\n")[1])["key"] != json.loads(after.split(b"\n")[1])["key"]
    assert before[-40:] != after[-40:]


def test_a_stale_keyring_in_memory_cannot_replace_a_newer_one(store):
    """It could bring back a group that has been ended meanwhile."""
    store.create("acme", {})
    one, two = store.load("acme"), store.load("acme")
    store.save(one)
    with pytest.raises(RuntimeError, match="epoch 1"):
        store.save(two)
    assert store.load("acme").epoch == 2


def test_a_destroyed_keyring_does_not_come_back_by_a_late_save(store):
    """Whoever still holds it in memory cannot write it again."""
    keyring = store.create("acme", {"index": bytes(32)})
    store.destroy("acme")
    store.destroy("acme")
    with pytest.raises(KeyUnavailable):
        store.save(keyring)
    with pytest.raises(KeyUnavailable):
        store.load("acme")
    assert list(store.path("acme").parent.iterdir()) == []


def test_leftovers_of_a_crashed_save_go_with_the_next_opening_and_with_the_keyring(
    store, monkeypatch
):
    """They hold every key of the keyring."""
    directory = store.path("acme").parent

    def crash(*_):
        raise SystemExit

    def crashed_save(owner):
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.replace", crash)
            with pytest.raises(SystemExit):
                store.save(store.load(owner))

    for owner in ("acme", "beta"):
        store.create(owner, {})
        crashed_save(owner)
    assert len(list(directory.iterdir())) == 4
    store.destroy("acme")
    assert len(list(directory.iterdir())) == 2
    KeyringStore(directory, FileRootKey(bytes(32)))
    assert [entry.name for entry in directory.iterdir()] == ["beta.keyring"]


def test_a_failed_save_keeps_the_stored_epoch(store, monkeypatch):
    """The old file stays whole, and the keyring knows that it was not saved."""
    keyring = store.create("acme", {})
    before = store.path("acme").read_bytes()

    def fail(_):
        raise OSError(5, "injected")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(StorageFailed):
            store.save(keyring)
    assert keyring.epoch == 1
    assert store.path("acme").read_bytes() == before


def test_creating_twice_is_refused_and_changes_nothing(store):
    """A second `init` must not orphan every document of a client."""
    store.create("acme", {"index": bytes(32)})
    before = store.path("acme").read_bytes()
    with pytest.raises(StoreExists):
        store.create("acme", {})
    assert store.path("acme").read_bytes() == before


def test_another_root_key_is_named_as_such(store):
    """It is a configuration fault and not damage; both ids are public."""
    store.create("acme", {})
    other = FileRootKey(bytes(32))
    with pytest.raises(WrongRootKey, match=other.id):
        KeyringStore(store.path("acme").parent, other).load("acme")


def test_a_root_key_that_only_claims_the_id_does_not_open_anything(store):
    """The id in the header is a hint; the wrapping decides."""
    store.create("acme", {})

    class Impostor(FileRootKey):
        id = FileRootKey(bytes(range(32))).id

    with pytest.raises(IntegrityError):
        KeyringStore(store.path("acme").parent, Impostor(bytes(32))).load("acme")


def test_a_keyring_file_of_another_owner_is_refused(store):
    """Neither renamed, nor with its header rewritten, does one client's keyring pass for another's."""
    store.create("acme", {})
    data = store.path("acme").read_bytes()
    store.path("beta").write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        store.load("beta")
    assert caught.value.kind == "header"
    store.path("beta").write_bytes(data.replace(b'"owner":"acme"', b'"owner":"beta"'))
    with pytest.raises(IntegrityError) as caught:
        store.load("beta")
    assert caught.value.kind == "chunk"


def test_an_old_epoch_cannot_be_renumbered(store):
    """The number is bound to the wrapped key and to the body."""
    store.create("acme", {})
    data = store.path("acme").read_bytes()
    store.path("acme").write_bytes(data.replace(b'"epoch":1', b'"epoch":2'))
    with pytest.raises(IntegrityError) as caught:
        store.load("acme")
    assert caught.value.kind == "chunk"


def test_every_changed_byte_and_every_cut_of_a_keyring_file_is_refused(store):
    """There is no byte that does not matter, and nothing may follow."""
    keyring = store.create("acme", {"index": bytes(32)})
    keyring.new_group("intake", "2026-11-22", NOW)
    store.save(keyring)
    path = store.path("acme")
    data = path.read_bytes()
    for at in range(len(data)):
        for changed in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            path.write_bytes(changed)
            with pytest.raises((IntegrityError, WrongRootKey)):
                store.load("acme")
    path.write_bytes(data + b"\0")
    with pytest.raises(IntegrityError):
        store.load("acme")
    path.write_bytes(data)
    assert store.load("acme") == keyring


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"epoch":1', b'{ "epoch":1'),
        (b'"epoch":1', b'"epoch":01'),
        (b'"epoch":1', b'"epoch":1.0'),
        (b'"epoch":1', b'"epoch":0'),
        (b'"epoch":1', b'"epoch":-1'),
        (b'{"epoch":1', b'{"epoch":1,"epoch":1'),
        (b'{"epoch":1', b'{"extra":1,"epoch":1'),
        (b'"key":"', b'"key":"A'),
        (b'"epoch":1,', b""),
        (MAGIC, b"strongroom-keyring-v2\n"),
        (MAGIC, b"strongroom-keyring-v1\r\n"),
        (MAGIC, MAGIC + b"\n"),
        (MAGIC, b""),
    ],
)
def test_a_header_in_any_other_form_is_refused(store, old, new):
    """One keyring has one representation."""
    store.create("acme", {})
    path = store.path("acme")
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(IntegrityError) as caught:
        store.load("acme")
    assert caught.value.kind == "format"


@pytest.mark.parametrize(
    "owner", ["", ".", "..", "a/b", "../a", "a.b", "-a", "a b", "a\n", "é", "a" * 65, "a\0"]
)
def test_an_owner_of_which_a_path_could_be_made_is_refused(store, owner):
    """Owners are ids; the file name is one path component."""
    for call in (store.path, store.load, store.destroy, lambda name: store.create(name, {})):
        with pytest.raises(VaultError):
            call(owner)
    assert store.owners() == []


def test_owners_lists_the_stored_keyrings_and_nothing_else(store):
    """Strange files in the directory are not owners."""
    for owner in ("house", "acme", "01JD0000000000000000000000"):
        store.create(owner, {})
    directory = store.path("x").parent
    for name in ("note.txt", ".keyring", "a b.keyring", ".acme.keyring.0123456789abcdef.tmp"):
        (directory / name).write_bytes(b"")
    assert store.owners() == ["01JD0000000000000000000000", "acme", "house"]


def test_a_missing_store_is_not_created(tmp_path):
    """The daemon refuses; only `init` makes directories."""
    with pytest.raises(StoreMissing):
        KeyringStore(tmp_path / "gone", FileRootKey(bytes(32)))
    assert not (tmp_path / "gone").exists()


def test_keys_do_not_show_in_representations(store):
    """A keyring in a traceback or a log line reveals no key."""
    keyring = store.create("acme", {"index": b"SECRETSECRETSECRETSECRETSECRET!!"})
    group = keyring.new_group("intake", "2026-11-22", NOW)
    text = repr(keyring) + repr(group) + repr(store)
    assert "SECRET" not in text
    assert repr(group.key)[2:-1] not in text
    assert group.id in text
