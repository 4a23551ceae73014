"""A root key on a token (SoftHSM2): nothing leaves it, what is erased is gone, and no PIN is ever shown."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, ObjectClass

from tests.support import softhsm
from vault.errors import (
    IntegrityError,
    KeyUnavailable,
    RootKeyRefused,
    StorageFailed,
    StoreExists,
    TokenFailed,
    VaultError,
)
from vault.keys import keyring as keyring_module
from vault.keys import pkcs11 as root_pkcs11
from vault.keys.keyring import KeyringStore
from vault.keys.pkcs11_address import parse
from vault.keys.root import FileRootKey, load_root_key

KEY = bytes(range(32))
BOUND = {"purpose": "keyring-epoch", "subject": "acme/7"}
NOW = "2026-11-22T08:00:00+00:00"


@pytest.fixture
def where(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return softhsm.address()


@pytest.fixture
def root(where):
    return root_pkcs11.create(where)


def session_of(root):
    """The token as whoever is logged in sees it, past everything this package does."""
    return root._connection._session


def objects_of(root) -> list:
    found = session_of(root).get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})
    return [each for each in found if root.id in each[Attribute.LABEL]]


# ── what can't leave ──


def test_a_key_object_can_be_neither_read_wrapped_out_changed_nor_copied(root):
    root.wrap(KEY, **BOUND)
    (key,) = objects_of(root)
    with pytest.raises(pkcs11.AttributeSensitive):
        key[Attribute.VALUE]
    with pytest.raises(pkcs11.PKCS11Error):
        key[Attribute.EXTRACTABLE] = True
    with pytest.raises(pkcs11.PKCS11Error):
        key[Attribute.LABEL] = "other"
    with pytest.raises(pkcs11.PKCS11Error):
        key.copy({Attribute.EXTRACTABLE: True, Attribute.TOKEN: False})
    wrapper = session_of(root).generate_key(
        KeyType.AES, 256, template={Attribute.WRAP: True, Attribute.TOKEN: False}
    )
    with pytest.raises(pkcs11.KeyUnextractable):
        wrapper.wrap_key(key)
    told = key.get_attributes([Attribute.NEVER_EXTRACTABLE, Attribute.LOCAL, Attribute.DERIVE])
    assert told == {
        Attribute.NEVER_EXTRACTABLE: True, Attribute.LOCAL: True, Attribute.DERIVE: False,
    }  # fmt: skip


def test_the_root_object_is_as_closed_and_does_not_give_its_value(root):
    session = session_of(root)
    (key,) = session.get_objects({Attribute.LABEL: root._address.object})
    with pytest.raises(pkcs11.AttributeSensitive):
        key[Attribute.VALUE]
    assert bytes(key[Attribute.ID]).hex() == root.id


def test_a_root_object_that_could_leave_the_token_is_refused(root):
    softer = softhsm.address("softer")
    session_of(root).generate_key(
        KeyType.AES, 256, label="softer", id=bytes(8), store=True,
        template={Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False},
    )  # fmt: skip
    with pytest.raises(RootKeyRefused, match=r"EXTRACTABLE.*NEVER_EXTRACTABLE.*SENSITIVE"):
        root_pkcs11.load(softer)


def test_two_objects_of_the_name_are_refused_rather_than_one_of_them_chosen(where, root):
    session_of(root).generate_key(
        KeyType.AES, 256, label=root._address.object, id=bytes(8), store=True
    )
    with pytest.raises(RootKeyRefused, match="found 2"):
        root_pkcs11.load(where)


def test_two_root_keys_on_one_token_neither_see_nor_end_each_others_keys(root):
    other = root_pkcs11.create(softhsm.address())
    mine, theirs = root.wrap(KEY, **BOUND), other.wrap(KEY, **BOUND)
    assert root.subjects("keyring-epoch") == other.subjects("keyring-epoch") == {"acme/7"}
    with pytest.raises(IntegrityError):
        root.unwrap(theirs, **BOUND)
    root.forget(**BOUND)
    assert root.subjects("keyring-epoch") == frozenset()
    assert other.unwrap(theirs, **BOUND) == KEY
    with pytest.raises(KeyUnavailable):
        root.unwrap(mine, **BOUND)


def test_erased_means_erased_for_whoever_has_the_token_the_pin_and_the_wrapped_key(root):
    wrapped = root.wrap(KEY, **BOUND)
    before = len(objects_of(root))
    root.forget(**BOUND)
    assert (before, len(objects_of(root))) == (1, 0)
    # Every key that is left on the token, tried on it.
    for key in session_of(root).get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY}):
        with pytest.raises(pkcs11.PKCS11Error):
            key.decrypt(
                wrapped[13:], mechanism=pkcs11.Mechanism.AES_GCM,
                mechanism_param=pkcs11.GCMParams(wrapped[1:13], root._bound(**BOUND), 128),
            )  # fmt: skip


def test_destroying_a_root_key_takes_its_objects_and_no_others(where, root):
    other = root_pkcs11.create(softhsm.address())
    kept = other.wrap(KEY, **BOUND)
    root.wrap(KEY, **BOUND)
    root.destroy()
    assert not root_pkcs11.exists(where)
    assert other.unwrap(kept, **BOUND) == KEY
    with pytest.raises(TokenFailed):
        root.subjects("keyring-epoch")


# ── sessions ──


def test_a_session_that_ended_is_opened_anew_and_nothing_is_taken_for_gone(root):
    wrapped = root.wrap(KEY, **BOUND)
    session_of(root).close()  # logs every session of this process out, too
    assert root.subjects("keyring-epoch") == {"acme/7"}
    session_of(root).close()
    assert root.unwrap(wrapped, **BOUND) == KEY


def test_a_session_that_was_logged_out_behind_our_back_finds_nothing_and_is_not_believed(root):
    """Private objects vanish with the login: an empty answer must not read as "erased"."""
    wrapped = root.wrap(KEY, **BOUND)
    session_of(root).token.open()  # keeps the token busy
    bystander = session_of(root).token.open(rw=True)
    session = session_of(root)
    session.close()
    root._connection._session = bystander  # alive, and not logged in
    assert list(bystander.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})) == []
    assert root.subjects("keyring-epoch") == {"acme/7"}
    assert root.unwrap(wrapped, **BOUND) == KEY


def test_a_module_that_was_started_anew_is_used_again(root):
    wrapped = root.wrap(KEY, **BOUND)
    pkcs11.lib(str(softhsm.MODULE)).reinitialize()
    assert root.unwrap(wrapped, **BOUND) == KEY


def test_a_root_object_that_is_gone_is_an_outage_and_no_answer_about_any_key(root):
    wrapped = root.wrap(KEY, **BOUND)
    (key,) = session_of(root).get_objects({Attribute.LABEL: root._address.object})
    key.destroy()
    for ask in (
        lambda: root.unwrap(wrapped, **BOUND),
        lambda: root.subjects("keyring-epoch"),
        lambda: root.forget(**BOUND),
        lambda: root.wrap(KEY, **BOUND),
    ):
        with pytest.raises(TokenFailed):
            ask()
    assert len(objects_of(root)) == 1


def test_a_failing_token_is_neither_damage_nor_absence(root, monkeypatch):
    """Modules name a false tag by their word for any failure: it is damage only if the key still works."""
    wrapped = root.wrap(KEY, **BOUND)

    class Broken:
        def decrypt(self, *_, **__):
            raise pkcs11.GeneralError

        def encrypt(self, *_, **__):
            raise pkcs11.DeviceError

    monkeypatch.setattr(root, "_find", lambda *_: {wrapped[1:13]: Broken()})
    with pytest.raises(TokenFailed, match="DeviceError"):
        root.unwrap(wrapped, **BOUND)
    monkeypatch.undo()
    assert root.unwrap(wrapped, **BOUND) == KEY


def test_an_object_that_was_not_destroyed_is_told(root, monkeypatch):
    wrapped = root.wrap(KEY, **BOUND)

    class Stubborn:
        def destroy(self):
            pass

    monkeypatch.setattr(root, "_find", lambda *_: {wrapped[1:13]: Stubborn()})
    with pytest.raises(TokenFailed, match="1 objects"):
        root.forget(**BOUND)


def test_loading_while_others_wrap_deadlocks_nobody(where, root):
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(6):
                again = root_pkcs11.load(where)
                bound = {"purpose": "t", "subject": f"{number}/1"}
                assert again.unwrap(root.wrap(KEY, **bound), **bound) == KEY
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


# ── addresses and PINs ──

GOOD = "pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p"


def test_an_address_is_read_as_rfc_7512_writes_it():
    found = parse(
        "pkcs11:object=root%20key;serial=00ff;type=secret-key;token=%E4%BF%9D%E9%99%A9"
        "?pin-source=/run/pin&module-path=/usr/lib/m.so"
    )
    assert (found.token, found.object, found.serial) == ("保险", "root key", "00ff")
    assert (found.module, found.pin_file) == ("/usr/lib/m.so", Path("/run/pin"))


@pytest.mark.parametrize(
    ("address", "word"),
    [
        (GOOD.replace("token=t;", ""), "token"),
        (GOOD.replace(";object=o", ""), "object"),
        (GOOD.replace("module-path=/m.so&", ""), "module-path"),
        (GOOD.replace("&pin-source=file:/p", ""), "pin-source"),
        (GOOD.replace("/m.so", "m.so"), "module-path"),
        (GOOD.replace("file:/p", "file:p"), "pin-source"),
        (GOOD.replace("file:/p", "|cat /p"), "pin-source"),
        (GOOD.replace("file:/p", "https://h/p"), "pin-source"),
        (GOOD.replace("token=t", "token="), "token"),
        (GOOD.replace("token=t", "token=" + "t" * 33), "token"),
        (GOOD.replace("token=t", "token=%00"), "token"),
        (GOOD.replace("token=t", "token=%ff"), "UTF-8"),
        (GOOD.replace("token=t", "token=t;token=u"), "twice"),
        (GOOD.replace("token=t", "tokn=t"), "something else"),
        (GOOD.replace("token=t", "token=t;type=private"), "type=secret-key"),
        (GOOD.replace("token=t", "token=t;"), "something else"),
        (GOOD + "&x-vendor=1", "something else"),
        (GOOD + "?more", "pin-source"),
        ("pkcs11:", "token"),
        ("pkcs12:token=t", "another address"),
    ],
)
def test_anything_else_is_refused_with_what_is_wrong_and_without_the_values(address, word):
    if address.endswith("?more"):
        assert parse(address).pin_file == Path("/p?more")  # RFC 7512: "?" may be part of a value
        return
    with pytest.raises(RootKeyRefused) as caught:
        parse(address)
    assert word in str(caught.value)
    assert "t" * 33 not in str(caught.value)


@pytest.mark.parametrize("part", ["&pin-value=4711-secret", ";pin-value=4711-secret"])
def test_a_pin_in_the_address_is_refused_and_not_repeated(part):
    address = GOOD + part if part.startswith("&") else GOOD.replace("?", part + "?")
    with pytest.raises(RootKeyRefused) as caught:
        load_root_key(address)
    assert "4711" not in str(caught.value)
    assert "pin-source" in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_pin_file_that_others_can_read_is_refused(tmp_path, mode):
    pin = tmp_path / "pin"
    pin.write_text(softhsm.PIN)
    pin.chmod(mode)
    with pytest.raises(RootKeyRefused, match=rf"PIN file .*{mode:04o}"):
        root_pkcs11.load(softhsm.address(pin=pin))


def test_a_pin_that_systemd_hands_over_may_be_readable_by_its_group(tmp_path, monkeypatch, where):
    root_pkcs11.create(where)
    pin = tmp_path / "pin"
    pin.write_text(softhsm.PIN)
    pin.chmod(0o440)
    theirs = softhsm.address(parse(where).object, pin=pin)
    with pytest.raises(RootKeyRefused):
        root_pkcs11.load(theirs)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert root_pkcs11.load(theirs).id == root_pkcs11.load(where).id


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\xfe", b"x" * 256, b"a\0b"])
def test_a_pin_file_with_anything_but_one_line_is_refused(tmp_path, content):
    pin = tmp_path / "pin"
    pin.write_bytes(content)
    pin.chmod(0o600)
    with pytest.raises(RootKeyRefused, match="one line"):
        root_pkcs11.load(softhsm.address(pin=pin))


def test_a_missing_pin_file_module_or_object_is_told_apart(tmp_path, where):
    with pytest.raises(KeyUnavailable, match="PIN file"):
        root_pkcs11.load(softhsm.address(pin=tmp_path / "none"))
    with pytest.raises(KeyUnavailable, match="module"):
        root_pkcs11.load(where.replace(str(softhsm.MODULE), "/usr/lib/none.so"))
    with pytest.raises(KeyUnavailable, match="module"):
        root_pkcs11.load(where.replace(str(softhsm.MODULE), __file__))
    with pytest.raises(KeyUnavailable, match="root object"):
        root_pkcs11.load(where)
    assert not root_pkcs11.exists(where)


def test_a_token_that_is_not_there_may_come_back_and_is_no_absence_of_a_key(where):
    with pytest.raises(TokenFailed, match="found 0"):
        root_pkcs11.load(where.replace(softhsm.TOKEN, "elsewhere"))


def test_a_serial_number_selects_the_token_or_none(where):
    root = root_pkcs11.create(where)
    serial = session_of(root).token.serial.decode()
    assert root_pkcs11.load(where.replace(";object", f";serial={serial};object")).id == root.id
    with pytest.raises(TokenFailed, match="found 0"):
        root_pkcs11.load(where.replace(";object", ";serial=none;object"))


def test_a_refused_pin_is_offered_once_and_appears_nowhere(tmp_path, monkeypatch):
    """Tokens lock themselves after a few: one process spends one try, however often it is asked."""
    pin = tmp_path / "pin"
    pin.write_text("wrong-4711")
    pin.chmod(0o600)
    address = softhsm.address(token=softhsm.OTHER, pin=pin)
    offered = []
    real = root_pkcs11._token

    def count(where):
        offered.append(where)
        return real(where)

    monkeypatch.setattr(root_pkcs11, "_token", count)
    for _ in range(3):
        with pytest.raises(RootKeyRefused, match="PIN") as caught:
            root_pkcs11.load(address)
        error: BaseException | None = caught.value
        while error is not None:
            assert "4711" not in repr(error)
            error = error.__cause__ or error.__context__
    assert len(offered) == 1
    # The right one, put into the file, is another matter.
    pin.write_text(softhsm.PIN)
    assert not root_pkcs11.exists(address)
    # And once it is logged in, a wrong one is not waved through.
    pin.write_text("wrong-4712")
    with pytest.raises(RootKeyRefused, match="PIN"):
        root_pkcs11.exists(address)
    assert len(offered) == 2


def test_a_root_object_is_never_made_over_another(where, root):
    with pytest.raises(StoreExists):
        root_pkcs11.create(where)
    assert root_pkcs11.load(where).id == root.id


def test_a_root_key_in_a_file_needs_no_library_of_tokens(tmp_path):
    FileRootKey.create(tmp_path / "root.key")
    code = (
        "import sys; from vault.keys.root import load_root_key;"
        f" load_root_key({str(tmp_path / 'root.key')!r}); sys.exit('pkcs11' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CREDENTIALS_DIRECTORY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False)
    assert done.returncode == 0


# ── keyrings under a token ──


@pytest.fixture
def store(tmp_path, root):
    (tmp_path / "keyrings").mkdir()
    return KeyringStore(tmp_path / "keyrings", root)


def again(store) -> KeyringStore:
    """As a restart opens it."""
    return KeyringStore(store._directory, store.root)


def test_a_save_that_drops_nothing_leaves_the_copies_of_before_open(store):
    """A copy that has not followed yet is behind, not noise: nothing in it was to be destroyed."""
    keyring = store.create("acme", {"index": KEY})
    old = store.path("acme").read_bytes()
    keyring.new_group("intake", "2026-11-22", NOW)
    store.save(keyring)
    assert store.epochs_left("acme") == (1, 2)
    new = store.path("acme").read_bytes()
    store.path("acme").write_bytes(old)
    assert again(store).load("acme").secrets["index"] == KEY
    store.path("acme").write_bytes(new)
    keyring.former_end()
    store.save(keyring)
    assert store.epochs_left("acme") == (3,)


def test_a_save_that_drops_something_ends_every_epoch_before_it_for_good(store):
    keyring = store.create("acme", {"index": KEY})
    old = store.path("acme").read_bytes()
    group = keyring.new_group("cohort", "FY2025/invoice", NOW)
    keyring.former_end()
    store.save(keyring)
    assert store.epochs_left("acme") == (2,)
    assert again(store).load("acme").group(group.id).key == group.key
    # The old file, back in its place, with the token: nothing.
    store.path("acme").write_bytes(old)
    with pytest.raises(KeyUnavailable):
        again(store).load("acme")


def test_an_older_file_in_the_place_of_the_newer_one_does_not_cost_the_newer_one_its_key(store):
    """Somebody restored a backup over the keyring: the copy of the newer file still opens."""
    keyring = store.create("acme", {})
    old = store.path("acme").read_bytes()
    keyring.former_end()
    store.save(keyring)
    new = store.path("acme").read_bytes()
    store.path("acme").write_bytes(old)
    with pytest.raises(KeyUnavailable):
        again(store).load("acme")
    store.path("acme").write_bytes(new)
    assert again(store).load("acme").epoch == 2


@pytest.mark.parametrize("stored", [False, True])
def test_a_crash_between_object_and_file_costs_no_key_and_leaves_none(store, monkeypatch, stored):
    """`stored`: whether the new file got into its place before the crash."""
    keyring = store.create("acme", {"index": KEY})
    keyring.former_end()
    real = keyring_module.write_durably

    def crash(path, data):
        if stored:
            real(path, data)
        raise StorageFailed("crash")

    monkeypatch.setattr(keyring_module, "write_durably", crash)
    with pytest.raises(StorageFailed):
        store.save(keyring)
    monkeypatch.undo()
    assert store.epochs_left("acme") == (1, 2)
    after = again(store)
    found = after.load("acme")
    assert found.epoch == (2 if stored else 1)
    assert found.secrets["index"] == KEY
    assert after.epochs_left("acme") == ((2,) if stored else (1, 2))
    found.former_end()
    after.save(found)
    assert after.epochs_left("acme") == (found.epoch,)
    assert len(objects_of(store.root)) == 1
    assert again(after).load("acme").secrets["index"] == KEY


def test_a_create_over_a_living_keyring_leaves_it_open(store):
    store.create("acme", {"index": KEY})
    with pytest.raises(StoreExists):
        store.create("acme", {})
    keyring = again(store).load("acme")
    assert keyring.secrets["index"] == KEY
    keyring.former_end()
    store.save(keyring)
    assert len(objects_of(store.root)) == 1


def test_a_destroyed_keyring_is_noise_in_every_copy(store):
    keyring = store.create("acme", {})
    store.create("acme-2", {"index": KEY})
    copies = [store.path("acme").read_bytes()]
    store.save(keyring)
    copies.append(store.path("acme").read_bytes())
    store.destroy("acme")
    store.destroy("acme")
    assert store.epochs_left("acme") == ()
    for each in copies:
        store.path("acme").write_bytes(each)
        with pytest.raises(KeyUnavailable):
            again(store).load("acme")
    assert again(store).load("acme-2").secrets["index"] == KEY


def test_a_keyring_is_not_removed_while_the_token_can_not_erase_its_key(store, monkeypatch):
    """With the file gone first, nobody would come back for the key on the token."""
    store.create("acme", {})

    def outage(**_):
        raise TokenFailed("no answer")

    monkeypatch.setattr(store.root, "forget", outage)
    with pytest.raises(TokenFailed):
        store.destroy("acme")
    monkeypatch.undo()
    assert store.owners() == ["acme"]
    store.destroy("acme")
    assert (store.owners(), store.epochs_left("acme")) == ([], ())


def test_a_keyring_read_just_before_it_was_replaced_is_read_again(store, monkeypatch):
    """The reader holds the old file's bytes when the writer erases the old epoch's key."""
    keyring = store.create("acme", {"index": KEY})
    real = keyring_module._read
    raced = []

    def read(path, owner):
        content = real(path, owner)
        if not raced:
            raced.append(owner)
            keyring.former_end()
            store.save(keyring)
        return content

    monkeypatch.setattr(keyring_module, "_read", read)
    reader = again(store)
    assert reader.load("acme").epoch == 2


def test_under_a_new_root_key_nothing_of_the_old_one_opens(store, tmp_path):
    keyring = store.create("acme", {"index": KEY})
    old, old_file = store.root, store.path("acme").read_bytes()
    new = root_pkcs11.create(softhsm.address())
    old.wrap(KEY, purpose="keyring-epoch", subject="acme/2")  # of a save that a crash cut short
    store.use_root(new)
    keyring.former_end()
    store.save(keyring)
    assert old.subjects("keyring-epoch") == frozenset()
    assert new.subjects("keyring-epoch") == {"acme/2"}
    store.path("acme").write_bytes(old_file)
    with pytest.raises(VaultError):
        KeyringStore(tmp_path / "keyrings", old, [new]).load("acme")
