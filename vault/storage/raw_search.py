"""Searching files for bytes that must not be in them any more.

Promises: every occurrence of any of the patterns, at any offset of any of the files, is found. Memory
depends on the number of patterns, not on the size of the files.

Leaves out: why the bytes must not be there, and what a file system or a drive keeps beneath the files.

How: tens of thousands of keys are looked for in gigabytes, so trying each everywhere is out of the question.
Whatever the offset of a pattern of at least `SHORTEST` bytes, one of the 8-byte words that start at a
multiple of `STRIDE` in the file lies wholly inside it. So all words that could lie there are put into a
set, only each second word of a file is looked up, and a hit is compared byte by byte. Keys are random: a
word that is hit by chance is one in 2^40.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vault.errors import StorageFailed

WORD: Final = 8
STRIDE: Final = 3 * WORD
SHORTEST: Final = STRIDE + WORD - 1
"""Bytes of the shortest pattern that can't slip through."""

_PIECE: Final = 4 << 20


@dataclass(frozen=True)
class RawSearch:
    """What was searched and found: files and bytes read, patterns looked for, places where one is."""

    files: int
    size: int
    patterns: int
    found: tuple[str, ...]
    """`path: offset` of each occurrence, at most `LIMIT` of them."""


LIMIT: Final = 100


def search(paths: Iterable[Path], patterns: Sequence[bytes]) -> RawSearch:
    """Look for every one of `patterns` in the bytes of every one of `paths`.

    A file that vanishes meanwhile is one without them.

    Raises:
        RuntimeError: a pattern is shorter than `SHORTEST`.
        StorageFailed: a file can't be read.
    """
    if any(len(pattern) < SHORTEST for pattern in patterns):
        raise RuntimeError(f"raw search: expected patterns of at least {SHORTEST} bytes")
    known = frozenset(patterns)
    lengths = sorted({len(pattern) for pattern in known})
    words = frozenset(
        int.from_bytes(pattern[start : start + WORD], sys.byteorder)
        for pattern in known
        for start in range(STRIDE)
    )
    reach = lengths[-1] if lengths else 0
    files = size = 0
    found: list[str] = []
    for path in paths:
        try:
            with path.open("rb", buffering=0) as file:
                files += 1
                offset = 0
                carried = b""
                while piece := file.read(_PIECE):
                    size += len(piece)
                    # What is carried over starts at a multiple of STRIDE, so that offsets stay aligned.
                    data = carried + piece
                    start = offset - len(carried)
                    if words:
                        found += (
                            f"{path}: {start + at}" for at in _hits(data, known, lengths, words)
                        )
                    offset += len(piece)
                    keep = (start + max(len(data) - reach - STRIDE, 0)) // STRIDE * STRIDE
                    carried = data[max(keep - start, 0) :]
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StorageFailed(f"{path}: expected to read it, found {error.strerror}") from error
    return RawSearch(files, size, len(known), tuple(dict.fromkeys(found))[:LIMIT])


def _hits(
    data: bytes, known: frozenset[bytes], lengths: Sequence[int], words: frozenset[int]
) -> list[int]:
    """Offsets in `data`, whose first byte is at a multiple of STRIDE, at which a pattern stands."""
    whole = len(data) // WORD * WORD
    view = memoryview(data)[:whole].cast("Q")[:: STRIDE // WORD]
    if words.isdisjoint(view):
        return []
    hits = set()
    for number, word in enumerate(view):
        if word not in words:
            continue
        for before in range(STRIDE):
            at = number * STRIDE - before
            if at >= 0 and any(data[at : at + length] in known for length in lengths):
                hits.add(at)
    return sorted(hits)
