"""The ledger's tree as static files: C2SP tlog-tiles, https://c2sp.org/tlog-tiles. Pure: no input, no output.

Promises: the names of all tiles and entry bundles that a tree of some size has, which of them came
into being between two sizes, and the form of a bundle. Any web server can serve them, and any client of the
specification can read entries from them and compute every proof.

Leaves out: where hashes and entries come from, where the files go, and the checkpoint beside them.

Rules:
1. A tile of level L holds up to 256 hashes of complete subtrees of 256^L entries: nodes of level 8 L of
   `vault.ledger.merkle`. A full one never changes. A partial one is named by its width, so that it never
   changes either: a later size has another name for it.
2. A bundle holds the entries whose hashes its tile of level 0 holds, each behind its length in two bytes: an
   entry has at most `MAX_ENTRY` bytes, and the ledger makes no longer one.
3. A partial tile may go once the full one is there, and not before: a checkpoint of its size may be held by
   somebody who comes to look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

HEIGHT: Final = 8
"""Levels of the tree that one tile spans."""
WIDTH: Final = 1 << HEIGHT
"""Hashes in a full tile, entries in a full bundle."""
MAX_ENTRY: Final = 0xFFFF
"""Bytes of the longest entry that a bundle can hold (uint16)."""
MAX_LEVEL: Final = 7
"""The highest level a tree of fewer than 2^63 entries has."""

_GROUP: Final = 1000


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile (`level` 0 to 7) or, with `level` None, one bundle of entries."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def partial(self) -> bool:
        """Whether it is not full."""
        return self.width < WIDTH

    @property
    def folder(self) -> str:
        """The folder of its partial forms, without a slash at the end."""
        return f"{self._full}.p"

    @property
    def path(self) -> str:
        """Its name below the prefix of the log: `tile/<L>/<N>[.p/<W>]`, or `tile/entries/…`."""
        return f"{self.folder}/{self.width}" if self.partial else self._full

    @property
    def _full(self) -> str:
        kind = "entries" if self.level is None else str(self.level)
        return f"tile/{kind}/{_index(self.index)}"

    @property
    def first(self) -> int:
        """The first entry of a bundle; of a tile: the index of its first node at level 8 L."""
        return self.index * WIDTH


def _index(index: int) -> str:
    """A number in groups of three digits, all but the last marked with an x."""
    rest, last = divmod(index, _GROUP)
    text = f"{last:03}"
    while rest:
        rest, group = divmod(rest, _GROUP)
        text = f"x{group:03}/{text}"
    return text


def full_between(old: int, new: int) -> Iterator[Tile]:
    """Full tiles and bundles of a tree of `new` entries that one of `old` does not have yet.

    In an order in which a tile comes behind the tiles that its hashes are roots of.

    Raises:
        RuntimeError: `old` is negative, or larger than `new`.
    """
    if not 0 <= old <= new:
        raise RuntimeError(f"tiles: expected sizes that grow from zero, found {old} and {new}")
    for level in range(MAX_LEVEL + 1):
        span = HEIGHT * (level + 1)
        if not new >> span:
            return
        for index in range(old >> span, new >> span):
            if level == 0:
                yield Tile(None, index)
            yield Tile(level, index)


def partials(size: int) -> Iterator[Tile]:
    """The partial tiles and the partial bundle of a tree of `size` entries; none of them is empty."""
    for level in range(MAX_LEVEL + 1):
        count = size >> HEIGHT * level
        if not count:
            return
        index, width = divmod(count, WIDTH)
        if width:
            if level == 0:
                yield Tile(None, index, width)
            yield Tile(level, index, width)


def bundle(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle: each entry behind its length (uint16, big-endian).

    Raises:
        RuntimeError: no entries, more than 256, or a longer one than `MAX_ENTRY`.
    """
    if not 1 <= len(entries) <= WIDTH or any(len(entry) > MAX_ENTRY for entry in entries):
        raise RuntimeError(
            f"bundle: expected 1 to {WIDTH} entries of at most {MAX_ENTRY} bytes, found others"
        )
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
