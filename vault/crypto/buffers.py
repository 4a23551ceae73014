"""Buffers that cost nothing before they are used.

A `bytearray` of a size is filled with zeros, and so every page of it is taken at once: a process per
connection, or an upload of a few kilobytes, would pay a millisecond for buffers that it never fills.
"""

from __future__ import annotations

import mmap


def untouched(size: int) -> memoryview:
    """A writable buffer of `size` zero bytes, whose pages are taken when they are first written to.

    Raises:
        OSError: there is no memory left for it.
    """
    return memoryview(mmap.mmap(-1, size))
