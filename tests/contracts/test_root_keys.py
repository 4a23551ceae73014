"""What every root key keeps, in a file, as a credential of the service, or on a token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import softhsm
from vault.crypto.wrapping import WRAPPED_KEY
from vault.errors import IntegrityError, KeyUnavailable, StoreExists, VaultError
from vault.keys import pkcs11
from vault.keys.root import (
    CREDENTIAL,
    CredentialRootKey,
    FileRootKey,
    create_root_key,
    load_root_key,
)

KEY = bytes(range(32))
BOUND = {"purpose": "keyring-epoch", "subject": "acme/7"}
GONE = (IntegrityError, KeyUnavailable)


@pytest.fixture(params=["file", "credential", "token"])
def provider(request, tmp_path, monkeypatch):
    """Its kind, where the root key is (as a configuration says it), and how another one is made."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    if request.param == "token":
        where, other = softhsm.address(), softhsm.address()
    else:
        (tmp_path / "credentials").mkdir()
        where = str(tmp_path / "credentials" / CREDENTIAL)
        other = str(tmp_path / "other.key")
    create_root_key(where)
    if request.param == "credential":
        Path(where).chmod(0o440)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    return request.param, where, other


@pytest.fixture
def root(provider):
    return load_root_key(provider[1])


def test_the_provider_is_the_one_that_is_meant(provider, root):
    kinds = {"file": FileRootKey, "credential": CredentialRootKey}
    assert type(root) is kinds.get(provider[0], pkcs11.TokenRootKey)


def test_what_was_wrapped_opens_again_also_after_a_new_start(provider, root):
    wrapped = root.wrap(KEY, **BOUND)
    assert len(wrapped) == WRAPPED_KEY
    assert KEY not in wrapped
    assert root.unwrap(wrapped, **BOUND) == KEY
    assert load_root_key(provider[1]).unwrap(wrapped, **BOUND) == KEY


@pytest.mark.parametrize(
    "other",
    [
        {"purpose": "keyring-epoch", "subject": "acme/8"},
        {"purpose": "keyring-epoch", "subject": "acm/7"},
        {"purpose": "keyring-epoch", "subject": "acme/"},
        {"purpose": "keyring-epoch", "subject": "acme"},
        {"purpose": "keyring-epoch", "subject": "keyring-epoch acme/7"},
        {"purpose": "keyring", "subject": "acme/7"},
        {"purpose": "keyring-epoch acme", "subject": "7"},
    ],
)
def test_it_opens_for_its_own_purpose_and_subject_only(root, other):
    wrapped = root.wrap(KEY, **BOUND)
    root.wrap(KEY, **other)  # that there is something for the other does not help
    with pytest.raises(GONE):
        root.unwrap(wrapped, **other)


@pytest.mark.parametrize("position", [0, 1, 12, 13, 44, 45, 60])
def test_a_changed_byte_anywhere_is_damage_and_not_absence(root, position):
    wrapped = bytearray(root.wrap(KEY, **BOUND))
    wrapped[position] ^= 1
    with pytest.raises(IntegrityError):
        root.unwrap(bytes(wrapped), **BOUND)


@pytest.mark.parametrize("length", [0, 1, 13, 60, 62])
def test_another_length_is_damage(root, length):
    wrapped = (root.wrap(KEY, **BOUND) + b"\0")[:length]
    with pytest.raises(IntegrityError) as caught:
        root.unwrap(wrapped, **BOUND)
    assert caught.value.kind == "length"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_a_key_can_be_wrapped(root, length):
    with pytest.raises(RuntimeError) as caught:
        root.wrap(bytes(length), **BOUND)
    assert not isinstance(caught.value, VaultError)
    assert root.subjects("keyring-epoch") in {None, frozenset()}


def test_the_id_is_public_stable_and_its_own(provider, root):
    assert int(root.id, 16) >= 0
    assert len(root.id) == 16
    assert load_root_key(provider[1]).id == root.id
    assert create_root_key(provider[2]).id != root.id


def test_another_root_key_opens_nothing_of_it(provider, root):
    wrapped = root.wrap(KEY, **BOUND)
    other = create_root_key(provider[2])
    other.wrap(KEY, **BOUND)
    with pytest.raises(GONE):
        other.unwrap(wrapped, **BOUND)


def test_wrapping_twice_for_one_subject_leaves_both_open(root):
    """A crash may lose the second before it is stored: then the first one is what counts."""
    first, second = root.wrap(KEY, **BOUND), root.wrap(bytes(32), **BOUND)
    assert first[1:] != second[1:]
    assert root.unwrap(first, **BOUND) == KEY
    assert root.unwrap(second, **BOUND) == bytes(32)


def test_forgetting_may_be_repeated_and_touches_nothing_else(root):
    kept = {
        subject: root.wrap(KEY, purpose="keyring-epoch", subject=subject)
        for subject in ("acme/6", "acme/70", "acme-2/7", "other/7")
    }
    wrapped = root.wrap(KEY, **BOUND)
    root.forget(**BOUND)
    root.forget(**BOUND)
    for subject, each in kept.items():
        assert root.unwrap(each, purpose="keyring-epoch", subject=subject) == KEY
    if root.subjects("keyring-epoch") is None:  # it can't forget, and says so
        assert root.unwrap(wrapped, **BOUND) == KEY
    else:
        assert root.subjects("keyring-epoch") == set(kept)
        with pytest.raises(KeyUnavailable):
            root.unwrap(wrapped, **BOUND)


def test_forgetting_all_but_one_wrapping_keeps_exactly_that_one(root):
    first, second = root.wrap(KEY, **BOUND), root.wrap(KEY, **BOUND)
    root.forget(**BOUND, but=second)
    assert root.unwrap(second, **BOUND) == KEY
    if root.subjects("keyring-epoch") is not None:
        with pytest.raises(IntegrityError):
            root.unwrap(first, **BOUND)


def test_subjects_are_listed_by_purpose_and_by_what_they_are_below(root):
    for subject in ("acme/1", "acme/2", "acme", "acme/x/3", "acmes/1", "other/1"):
        root.wrap(KEY, purpose="keyring-epoch", subject=subject)
    root.wrap(KEY, purpose="else", subject="acme/9")
    if root.subjects("keyring-epoch") is None:
        assert root.subjects("keyring-epoch", "acme") is None
        return
    assert root.subjects("keyring-epoch", "acme") == {"acme", "acme/1", "acme/2"}
    assert root.subjects("keyring-epoch") == {
        "acme/1", "acme/2", "acme", "acme/x/3", "acmes/1", "other/1",
    }  # fmt: skip
    assert root.subjects("else") == {"acme/9"}
    assert root.subjects("nothing") == frozenset()


def test_it_is_used_from_many_threads_at_once(root):
    def work(number: int) -> bool:
        subject = f"client{number % 4}/{number}"
        key = bytes([number]) * 32
        wrapped = root.wrap(key, purpose="keyring-epoch", subject=subject)
        opened = root.unwrap(wrapped, purpose="keyring-epoch", subject=subject)
        if number % 2:
            root.forget(purpose="keyring-epoch", subject=subject)
        return opened == key

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(48)))
    left = root.subjects("keyring-epoch")
    assert left is None or len(left) == 24


def test_a_second_one_is_never_made_over_the_first(provider):
    with pytest.raises(StoreExists):
        create_root_key(provider[1])
