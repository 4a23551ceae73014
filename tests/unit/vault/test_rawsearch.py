"""A raw search finds every pattern at every offset, and nothing that is not there."""

from __future__ import annotations

import os
import random

import pytest

from vault.storage import raw_search
from vault.storage.raw_search import SHORTEST, search

GENERATOR = random.Random(20261122)


def noise(count: int) -> bytes:
    return GENERATOR.randbytes(count)


@pytest.mark.parametrize("length", [SHORTEST, 32, 61, 200])
def test_a_pattern_is_found_at_every_alignment_and_at_both_ends(tmp_path, length):
    pattern = noise(length)
    file = tmp_path / "file"
    for before in (*range(40), 4096):
        for after in (0, 1, 7, 100):
            file.write_bytes(noise(before) + pattern + noise(after))
            assert search([file], [pattern]).found == (f"{file}: {before}",)


def test_a_pattern_is_found_across_every_edge_of_the_pieces_it_is_read_in(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_search, "_PIECE", 64)
    pattern = noise(61)
    file = tmp_path / "file"
    for before in range(300):
        file.write_bytes(bytes(before) + pattern + bytes(90))
        assert search([file], [pattern]).found == (f"{file}: {before}",)


def test_of_many_patterns_exactly_those_that_are_there_are_found(tmp_path):
    there = [noise(32) for _ in range(50)] + [noise(61) for _ in range(50)]
    absent = [noise(32) for _ in range(2000)]
    data = bytearray(noise(3_000_000))
    places = []
    for number, pattern in enumerate(there):
        at = 25_000 * number + GENERATOR.randrange(20_000)
        data[at : at + len(pattern)] = pattern
        places.append(at)
    file = tmp_path / "file"
    file.write_bytes(data)
    seen = search([file], there + absent)
    assert seen.found == tuple(f"{file}: {at}" for at in places)
    assert (seen.files, seen.size, seen.patterns) == (1, len(data), 2100)
    assert search([file], absent).found == ()


def test_a_pattern_that_is_one_byte_off_is_not_found(tmp_path):
    pattern = noise(61)
    changed = bytearray(pattern)
    changed[60] ^= 1
    file = tmp_path / "file"
    file.write_bytes(noise(1000) + changed + noise(1000))
    assert search([file], [pattern]).found == ()


def test_an_empty_or_vanished_file_holds_nothing_and_a_folder_is_refused(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    seen = search([tmp_path / "empty", tmp_path / "gone"], [noise(32)])
    assert (seen.files, seen.found) == (1, ())
    with pytest.raises(raw_search.StorageFailed, match="expected to read it"):
        search([tmp_path], [noise(32)])


def test_a_pattern_too_short_to_be_found_for_sure_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="at least"):
        search([tmp_path], [os.urandom(SHORTEST - 1)])
