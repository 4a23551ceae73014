"""Wrapped keys and sealed records: bound to purpose, subject and group, or closed."""

import itertools

import pytest

from vault.crypto.wrapping import (
    WRAPPED_KEY,
    blind_index,
    derive_key,
    new_key,
    open_record,
    seal_record,
    unwrap_key,
    wrap_key,
)
from vault.errors import IntegrityError

KEY = bytes(range(32))
BOUND = {"purpose": "document", "subject": "doc-1", "group": "g-1"}


def test_a_wrapped_key_opens_only_for_what_it_was_wrapped_for():
    """Another purpose, subject, group or key closes it."""
    secret = new_key()
    wrapped = wrap_key(KEY, secret, **BOUND)
    assert len(wrapped) == WRAPPED_KEY == 61
    assert unwrap_key(KEY, wrapped, **BOUND) == secret
    for name in BOUND:
        with pytest.raises(IntegrityError) as caught:
            unwrap_key(KEY, wrapped, **(BOUND | {name: "another"}))
        assert caught.value.kind == "chunk"
    with pytest.raises(IntegrityError):
        unwrap_key(bytes(32), wrapped, **BOUND)


def test_moving_a_character_between_fields_is_noticed():
    """The encoding of the bound fields is unambiguous."""
    parts = [("ab", "c", ""), ("a", "bc", ""), ("", "abc", ""), ("a", "b", "c"), ("abc", "", "")]
    for sealed_for, asked_for in itertools.permutations(parts, 2):
        names = ("purpose", "subject", "group")
        wrapped = wrap_key(KEY, KEY, **dict(zip(names, sealed_for, strict=True)))
        with pytest.raises(IntegrityError):
            unwrap_key(KEY, wrapped, **dict(zip(names, asked_for, strict=True)))


def test_every_bit_flip_of_a_wrapped_key_is_refused():
    """The version byte answers with `format`, everything else with `chunk`."""
    wrapped = wrap_key(KEY, KEY, **BOUND)
    for bit in range(len(wrapped) * 8):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError) as caught:
            unwrap_key(KEY, bytes(changed), **BOUND)
        assert caught.value.kind == ("format" if bit < 8 else "chunk")


def test_a_wrapped_key_of_another_length_is_refused():
    """Cut or extended by any number of bytes."""
    wrapped = wrap_key(KEY, KEY, **BOUND)
    for other in [wrapped[:n] for n in range(len(wrapped))] + [wrapped + b"\0"]:
        with pytest.raises(IntegrityError) as caught:
            unwrap_key(KEY, other, **BOUND)
        assert caught.value.kind == "length"


@pytest.mark.parametrize("data", [b"", b"x", bytes(100_000)])
def test_a_record_opens_only_for_its_purpose_and_subject(data):
    """A record moved to another document is as good as lost."""
    sealed = seal_record(KEY, data, purpose="metadata", subject="doc-1")
    assert len(sealed) == len(data) + 29
    assert open_record(KEY, sealed, purpose="metadata", subject="doc-1") == data
    for purpose, subject in (("metadata", "doc-2"), ("facts", "doc-1")):
        with pytest.raises(IntegrityError):
            open_record(KEY, sealed, purpose=purpose, subject=subject)


def test_a_damaged_record_is_refused_with_its_class():
    """Cuts below the minimum are `length`, another version is `format`, the rest is `chunk`."""
    sealed = seal_record(KEY, b"data", purpose="p", subject="s")
    kinds = {"length": sealed[:28], "format": b"\x01" + sealed[1:], "chunk": sealed + b"\0"}
    for kind, changed in kinds.items():
        with pytest.raises(IntegrityError) as caught:
            open_record(KEY, changed, purpose="p", subject="s")
        assert caught.value.kind == kind


def test_a_wrapped_key_is_no_record_and_a_record_no_wrapped_key():
    """Even with the same key and fields the two formats do not pass for each other."""
    wrapped = wrap_key(derive_key(KEY, "record/p"), KEY, purpose="p", subject="s", group="")
    with pytest.raises(IntegrityError):
        open_record(KEY, b"\x02" + wrapped[1:], purpose="p", subject="s")


def test_sealing_twice_never_gives_the_same_bytes():
    """Equal keys or records cannot be recognised as equal."""
    assert wrap_key(KEY, KEY, **BOUND) != wrap_key(KEY, KEY, **BOUND)
    one, two = (seal_record(KEY, b"same", purpose="p", subject="s") for _ in range(2))
    assert one[1:13] != two[1:13]


@pytest.mark.parametrize("bad", [b"", bytes(31), bytes(33), bytes(16)])
def test_a_key_of_the_wrong_size_is_misuse(bad):
    """AES-128 by accident would pass unnoticed otherwise."""
    for call in (
        lambda: wrap_key(bad, KEY, **BOUND),
        lambda: wrap_key(KEY, bad, **BOUND),
        lambda: unwrap_key(bad, bytes(WRAPPED_KEY), **BOUND),
        lambda: seal_record(bad, b"", purpose="p", subject="s"),
        lambda: open_record(bad, bytes(40), purpose="p", subject="s"),
        lambda: derive_key(bad, "p"),
        lambda: blind_index(bad, "p", "v"),
    ):
        with pytest.raises(RuntimeError):
            call()


def test_derived_keys_differ_by_purpose_and_from_their_parent():
    """One leaked purpose key says nothing about the others."""
    keys = {derive_key(KEY, purpose) for purpose in ("", "a", "b", "record/a")} | {KEY}
    assert len(keys) == 5


def test_a_blind_index_meets_for_the_two_ways_of_writing_one_name():
    """Composed and decomposed forms are the same name to a person."""
    assert blind_index(KEY, "name", "Caf\u00e9") == blind_index(KEY, "name", "Cafe\u0301")
    assert blind_index(KEY, "name", "cafe") != blind_index(KEY, "name", "Cafe")
    assert len(blind_index(KEY, "name", "x")) == 16


def test_blind_indexes_differ_by_key_purpose_and_value():
    """The same value under another client's key or in another column is not linkable."""
    indexes = {
        blind_index(KEY, "name", "x"),
        blind_index(bytes(32), "name", "x"),
        blind_index(KEY, "email", "x"),
        blind_index(KEY, "namex", ""),
        blind_index(KEY, "name", "\udcff"),
        blind_index(KEY, "name", "\udcfe"),
    }
    assert len(indexes) == 6


def test_failures_name_the_purpose_and_never_the_subject():
    """Subjects may be names; they stay out of logs."""
    with pytest.raises(IntegrityError) as caught:
        open_record(KEY, bytes(2) + bytes(40), purpose="profile", subject="Herr Meier")
    assert "profile" in str(caught.value)
    assert "Meier" not in str(caught.value)
