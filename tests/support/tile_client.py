"""A client of C2SP tlog-tiles that shares no code with the product: RFC 6962 as it is defined, recursively."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def tree(hashes: list[bytes]) -> bytes:
    """MTH over leaf hashes (RFC 6962, 2.1)."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + tree(hashes[:split]) + tree(hashes[split:])).digest()


def name(kind: str, index: int, width: int) -> str:
    digits = f"{index:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"tile/{kind}/{path}" + (f".p/{width}" if width < 256 else "")


def read_log(fetch: Callable[[str], bytes]) -> list[bytes]:
    """All entries of a published log; asserts that its tiles and its checkpoint's root are theirs."""
    size, root = fetch("checkpoint").decode().split("\n")[1:3]
    total = int(size)
    entries: list[bytes] = []
    for index in range(-(-total // 256)):
        width = min(256, total - index * 256)
        data = fetch(name("entries", index, width))
        for _ in range(width):
            length = int.from_bytes(data[:2], "big")
            entries.append(data[2 : 2 + length])
            data = data[2 + length :]
        assert data == b""
    hashes = [leaf(entry) for entry in entries]
    assert base64.b64encode(tree(hashes)).decode() == root
    level, span = 0, 1
    while total // span:
        count = total // span
        expected = [tree(hashes[n * span : (n + 1) * span]) for n in range(count)]
        for index in range(-(-count // 256)):
            part = expected[index * 256 : (index + 1) * 256]
            assert fetch(name(str(level), index, len(part))) == b"".join(part)
        level, span = level + 1, span * 256
    return entries
