"""The formats as FORMAT.md has them, against a second implementation and its frozen vectors."""

import hashlib
import json

import pytest

from tests.vectors import generate
from vault.crypto.sealed import open_bytes
from vault.crypto.wrapping import blind_index, derive_key, open_record, unwrap_key
from vault.errors import IntegrityError

VECTORS = json.loads(generate.TARGET.read_text(encoding="utf-8"))


def rebuild(vector):
    """Return the sealed bytes of a valid vector too long to be kept in the file."""
    sealed = (
        bytes.fromhex(vector["sealed"])
        if "sealed" in vector
        else generate.seal(
            bytes.fromhex(vector["key"]),
            bytes.fromhex(vector["context"]),
            generate.plaintext(vector["plain_size"]),
        )
    )
    assert hashlib.sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert len(sealed) == vector["sealed_length"]
    return sealed


def test_the_vector_file_is_what_the_generator_makes():
    """A format change shows as a difference in this file, never silently."""
    assert generate.TARGET.read_text(encoding="utf-8") == generate.render()


@pytest.mark.parametrize("vector", VECTORS["sealed"], ids=lambda v: v["comment"])
def test_a_sealed_vector_opens_or_fails_with_its_class(vector):
    """Each vector gives its plaintext, or the kind of failure it names."""
    key, context = bytes.fromhex(vector["key"]), bytes.fromhex(vector["context"])
    sealed = rebuild(vector)
    if vector["result"] == "valid":
        assert open_bytes(key, context, sealed) == generate.plaintext(vector["plain_size"])
    else:
        with pytest.raises(IntegrityError) as caught:
            open_bytes(key, context, sealed)
        assert caught.value.kind == vector["kind"]


@pytest.mark.parametrize("vector", VECTORS["wrapped"], ids=lambda v: repr(v["purpose"]))
def test_a_wrapped_key_vector_unwraps(vector):
    """The layout of a wrapped key is the documented one."""
    key = unwrap_key(
        bytes.fromhex(vector["wrapping_key"]),
        bytes.fromhex(vector["wrapped"]),
        purpose=vector["purpose"],
        subject=vector["subject"],
        group=vector["group"],
    )
    assert key.hex() == vector["key"]


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda v: v["subject"])
def test_a_record_vector_opens(vector):
    """The layout of a sealed record is the documented one."""
    data = open_record(
        bytes.fromhex(vector["key"]),
        bytes.fromhex(vector["sealed"]),
        purpose=vector["purpose"],
        subject=vector["subject"],
    )
    assert data.hex() == vector["data"]


def test_derived_keys_and_blind_indexes_are_the_documented_ones():
    """Both are pure functions, so the vectors fix them completely."""
    for vector in VECTORS["derive"]:
        key = derive_key(bytes.fromhex(vector["key"]), vector["purpose"])
        assert key.hex() == vector["derived"]
    for vector in VECTORS["blind_index"]:
        index = blind_index(bytes.fromhex(vector["key"]), vector["purpose"], vector["value"])
        assert index.hex() == vector["index"]
