"""A 7z with a password opens with it and with no other, and damage is never taken for content.

The samples were made with py7zr 1.1.4 for this test: a text, a short one and an empty one, password abc123.
"""

from __future__ import annotations

import base64
import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inspect import inspection
from gateway.inspect.document import Document, Limits, Unreadable
from gateway.inspect.formats import archive_stream, seven_zip
from gateway.inspect.scan import yara
from tests.support.parts import Parts
from tests.unit.inspect.test_archives import made

RULES = yara.RuleSet.load()
TEXT = b"Invoice 1\n" * 5
SAMPLES = {
    "copy": (
        "N3q8ryccAASeCnRNAAEAAAAAAAAqAAAAAAAAAALYJh/B7rYFo3Fy0xcq4VFmU7QRdFt6izj5JE4qFIpMbW+p1fZc"
        "8xDCAxCBCdgTu6pdBXJxDKVd2ZIn5CaTpolJP9vjrTHW8h1XkyA+e+/6/jkLgFhjpl/mYeiVXcuwM8r/A2GSdtBI"
        "6P/gCYOcBYi7vclldpvQ00TDPVwpP7Uu0XtnY7TkoU6lqoHJVfhpp4dHSygyyjBnH2rRlZFSMMkq8jPCCzFvXKbN"
        "aAt50QWTThKOCmBT0NBc4tsriStvqQLd3e/7KDWebSPgma9Zrb+SEpBgvig9NF5zBkObojVL4Qk96pmgA0tPBs8P"
        "yh2AAvHNCZ76gya3tgLpL1MmMFI5XBn3FwZAAQmAwAAHCwEAASQG8QcBElMP6CGb2RX7N7qDZdiFT9ZahQyAswAA"
    ),
    "lzma": (
        "N3q8ryccAAS3faZwvAAAAAAAAAAWAAAAAAAAAEDENv4XNJU9owKQ3LZOIGWA9C1HkPUFKyIZQ44/2JVYB0WJ5eAA"
        "ugCUXQAAgTMHrg/QDv4Rg0/QVetsCekiTGGiRtmJL3OTO1JNNTOPwmLZdHA944rYAQFqonUYrZU3R0jdFZfYCQ1n"
        "aZRi33IVs3VUGRQC0agt1WJU1wT4X3I7lWRV/hNHSRR3THvGSDmI7OkhWsOqapSXrJeJnJbMQoU+thCe6SuQKFuD"
        "BT65LIHGw7rQy3yEEVqCU3bEAAAAABcGIAEJgJwABwsBAAEhIQEYDIC7AAA="
    ),
    "lzma2-names": (
        "N3q8ryccAATSr2h74AAAAAAAAAAqAAAAAAAAAMe4NHztM/wgnMQvoRb+L44V0E7O9fM/N6tYOeg3BafMCoWteymC"
        "PCcjTX9JtkoC28TEjbIJOTlzZHGhtp+Ab0cTQKuRJTKYXeP3Wasc7nYc7Gxf7S4Daq7guup9iVoFstKCX0lQtlV7"
        "eBCiytv7BcHk7HZoInYfBqSwGOn3knUBriKb6jdZ2DILmOjfAQANi+z6xitBfW8VIWwJ6nDZ88uPeO1bMEVckrfq"
        "n9pmPlC3gLJQB5mEvRmdL6WjuNpC7HXwhdWFhNXtFq4mpJsfio1BB18i0rTR+J36K7zZXdDi21j9CBcGIAEJgMAA"
        "BwsBAAEkBvEHARJTDwzGK+yjRz8rTir8LjYuPgIMgLMAAA=="
    ),
    "lzma2": (
        "N3q8ryccAATQM0lDuAAAAAAAAAAWAAAAAAAAAH/ZFCRZaJGXc6mqPI2wt7/HuVFe0gWY1VWYejjRdt7PKBbFX+AA"
        "sgCQXQAAgTMHrg/QDv4UDOC7Fky7WnMORSvaAXKvrGVdY+Tm0OVUMbD7TGfqcA8L4gKEaMLJJFyokEZqORxjXrF+"
        "QtG59W9Pib3lDKO9ZbowjfQXwi9580GA9K3g9RageZ+NTGMHqEshZ9Tw8COtyUScYgI5q9nUFDI4Z3wKaksz6n4x"
        "v/l9jQfZE3XpGruJCCAAAAAAFwYgAQmAmAAHCwEAASEhARgMgLMAAA=="
    ),
}


def sample(name):
    return base64.b64decode(SAMPLES[name])


def document(data, depth=0):
    return Document("d", io.BytesIO(data), len(data), "papers.7z", "sftp", depth)


def read(data, password="abc123"):
    return [
        (entry.name.decode(), b"".join(content))
        for entry, content in seven_zip.SevenZip(document(data), password).files()
    ]


def inspect(data, passwords=(), **limits):
    parts = Parts()
    verdict = inspection.inspect(
        document(data), Limits(**limits), parts, rules=RULES, clamd=None, passwords=passwords
    )
    return verdict, parts


@pytest.mark.parametrize("name", SAMPLES)
def test_the_right_password_opens_it_byte_for_byte(name):
    assert read(sample(name)) == [("x/发票.txt", TEXT), ("b.txt", b"second"), ("empty.txt", b"")]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("password", ["", "abc124", "ABC123", "密码"])
def test_another_does_not(name, password):
    with pytest.raises(Unreadable) as caught:
        read(sample(name), password)
    assert caught.value.reason in {"encrypted", "malformed"}


@pytest.mark.parametrize("name", SAMPLES)
def test_it_is_locked_without_one_and_comes_apart_with_it(name):
    archive_stream.preload()
    verdict, parts = inspect(sample(name), ["wrong"])
    assert (verdict.lock, verdict.unreadable, parts.taken) == ("7z", "encrypted", [])
    verdict, parts = inspect(sample(name), ["wrong", "abc123"])
    assert parts.taken == [("发票.txt", TEXT), ("b.txt", b"second"), ("empty.txt", b"")]
    assert (verdict.lock, verdict.unreadable, verdict.opened_with) == ("", "", 1)
    assert verdict.classification.record_class == "correspondence"


def test_a_7z_without_a_lock_is_read_as_before_when_passwords_are_there():
    verdict, parts = inspect(made("7zip", ("a.txt", TEXT)), ["abc123"])
    assert parts.taken == [("a.txt", TEXT)]
    assert verdict.opened_with == -1


@pytest.mark.parametrize("limits", [{"max_parts": 1}, {"max_expand_bytes": 20}])
def test_limits_hold_behind_a_lock(limits):
    assert inspect(sample("lzma2"), ["abc123"], **limits)[0].unreadable == "over_limit"


def test_a_password_that_takes_for_ever_to_check_is_not_checked():
    with pytest.raises(Unreadable) as caught:
        seven_zip._aes_properties(bytes([0x3F]))
    assert caught.value.reason == "over_limit"


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_cut_is_refused(name):
    data = sample(name)
    for cut in range(1, len(data), 7):
        with pytest.raises(Unreadable):
            read(data[:-cut])


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_what_was_changed_is_refused_or_gives_what_was_there(name, changes):
    data = bytearray(sample(name))
    for at, byte in changes:
        data[at % len(data)] = byte
    try:
        found = read(bytes(data))
    except Unreadable:
        return
    assert {content for _, content in found} <= {TEXT, b"second", b""}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_a_header_of_anything_ends_in_a_refusal_or_in_files(data):
    import struct
    import zlib

    start = struct.pack("<QQI", 0, len(data), zlib.crc32(data))
    whole = seven_zip.MAGIC + b"\0\4" + struct.pack("<I", zlib.crc32(start)) + start + data
    with contextlib.suppress(Unreadable):
        read(whole)
