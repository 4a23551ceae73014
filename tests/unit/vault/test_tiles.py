"""Tiles of the ledger: names, which there are at a size, which are new between two, and the form of a bundle.

The facts about names and counts are those of the specification (c2sp.org/tlog-tiles) and of the path tests of
transparency-dev/tessera (api/layout/paths_test.go).
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.ledger.tiles import MAX_ENTRY, Tile, bundle, full_between, partials

SIZES = [1, 2, 255, 256, 257, 511, 512, 65535, 65536, 65537, 70000]


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(0, 0, 255), "tile/0/000.p/255"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(5, 1234067), "tile/5/x001/x234/067"),  # the specification's example
        (Tile(None, 0), "tile/entries/000"),
        (Tile(None, 256), "tile/entries/256"),
        (Tile(None, 1234067, 8), "tile/entries/x001/x234/067.p/8"),
        (Tile(None, 123456789), "tile/entries/x123/x456/789"),  # tessera
        (Tile(None, 123456789000), "tile/entries/x123/x456/x789/000"),  # tessera
        (Tile(1, 1000000), "tile/1/x001/x000/000"),
    ],
)
def test_a_name_is_that_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path


def of(size: int) -> set[str]:
    return {tile.path for tile in (*full_between(0, size), *partials(size))}


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    full = list(full_between(0, 70000))
    assert sum(tile.level == 0 for tile in full) == 273
    assert sum(tile.level is None for tile in full) == 273
    assert sum(tile.level == 1 for tile in full) == 1
    assert len(full) == 547
    assert {(tile.level, tile.width) for tile in partials(70000)} == {
        (None, 112), (0, 112), (1, 17), (2, 1),
    }  # fmt: skip


def test_a_tree_of_256_has_a_full_tile_and_one_above_it_of_width_1() -> None:
    assert of(256) == {"tile/0/000", "tile/entries/000", "tile/1/000.p/1"}


def test_an_empty_tree_has_no_tile() -> None:
    assert of(0) == set()


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_exactly_the_tiles_of_the_formula(size: int) -> None:
    """`floor(s / 256**l)` hashes at level l, 256 to a tile, the rest in a partial one, none of it empty."""
    expected = set()
    level, count = 0, size
    while count:
        for kind in [level, None] if level == 0 else [level]:
            expected |= {Tile(kind, index).path for index in range(count // 256)}
            if count % 256:
                expected.add(Tile(kind, count // 256, count % 256).path)
        level, count = level + 1, count // 256
    assert of(size) == expected


@given(st.lists(st.integers(0, 200_000), min_size=2, max_size=5).map(sorted))
def test_what_is_new_in_steps_is_what_is_new_at_once_and_nothing_twice(sizes: list[int]) -> None:
    at_once = list(full_between(sizes[0], sizes[-1]))
    steps = [tile for old, new in itertools.pairwise(sizes) for tile in full_between(old, new)]
    assert len(set(at_once)) == len(at_once)
    assert sorted(tile.path for tile in steps) == sorted(tile.path for tile in at_once)
    there = {tile.path for tile in full_between(0, sizes[0])}
    assert there.isdisjoint(tile.path for tile in at_once)
    assert there | {tile.path for tile in at_once} == {t.path for t in full_between(0, sizes[-1])}


def test_sizes_that_shrink_are_misuse() -> None:
    for old, new in ((2, 1), (-1, 1)):
        with pytest.raises(RuntimeError, match="sizes that grow"):
            list(full_between(old, new))


def test_a_bundle_is_each_entry_behind_its_length() -> None:
    assert (
        bundle([b"", b"ab", b"c" * 256]) == b"\x00\x00" + b"\x00\x02ab" + b"\x01\x00" + b"c" * 256
    )
    longest = bundle([b"x" * MAX_ENTRY])
    assert longest[:2] == b"\xff\xff"
    assert len(longest) == 2 + 65535


@pytest.mark.parametrize("entries", [[], [b""] * 257, [b"x" * (MAX_ENTRY + 1)]])
def test_what_no_bundle_can_hold_is_refused(entries: list[bytes]) -> None:
    with pytest.raises(RuntimeError, match="bundle"):
        bundle(entries)
