"""The catalogue at rest: noticing that its file changed while nobody had the store open.

Promises: any changed, added or missing byte of a file between `seal` and the next `changes` is found,
also where SQLite itself would never look (free space inside its pages), and the finding says in which
blocks.

Leaves out: changes while the store is open (the ledger and `vault.check.store` are for those), and an older
file put back together with its own seal: a ledger checkpoint kept elsewhere exposes that.

Format, all in one file of mode 0600:
    "strongroom-at-rest-v1" LF || u64 size of the file || SHA-256 of each block of 16 KiB || tag(32)
    tag = HMAC-SHA-256(key, everything before it); the last block may be shorter
The key is derived from a secret of the house's keyring, so that who can write files can't make a seal.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

from vault.storage.durable import remove_durably, storage_error, write_durably

BLOCK: Final = 16 * 1024
"""Bytes that one digest covers."""
NAMED: Final = 10
"""Changed blocks that a finding names; further ones are counted."""

_PIECE: Final = 64 * BLOCK
_READERS: Final = 4
_MAGIC: Final = b"strongroom-at-rest-v1\n"
_HEAD: Final = len(_MAGIC) + 8
_DIGEST: Final = 32


def seal(file: Path, at: Path, key: bytes) -> None:
    """Write the seal of `file` to `at`, durably, under the 32-byte `key`.

    Raises:
        StorageFull, StorageFailed, StoreMissing: it can't be written, or there is no such directory.
    """
    try:
        with file.open("rb", buffering=0) as source:
            size = os.fstat(source.fileno()).st_size
            digests = list(_digests(source, size))
    except OSError as error:
        raise storage_error(error, "read", file) from error
    body = _MAGIC + struct.pack(">Q", size) + b"".join(digests)
    write_durably(at, body + hmac.digest(key, body, "sha256"))


def unseal(at: Path) -> None:
    """Take the seal away: the file is about to change (raises StorageFailed, StoreMissing)."""
    remove_durably(at)


def changes(file: Path, at: Path, key: bytes) -> str | None:
    """How `file` differs from its seal: one sentence, or None if it is as it was sealed.

    Without a seal nothing can be said (the store was not closed in order), and the answer is None.

    Raises:
        StorageFailed, StoreMissing: it can't be read or written, or there is no such directory.
    """
    try:
        sealed = at.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, "read", at) from error
    body, tag = sealed[:-_DIGEST], sealed[-_DIGEST:]
    if not hmac.compare_digest(hmac.digest(key, body, "sha256"), tag):
        return f"{at.name}: expected the seal that was written at the last closing, found another"
    size = struct.unpack(">Q", body[len(_MAGIC) : _HEAD])[0]
    try:
        with file.open("rb", buffering=0) as source:
            found = os.fstat(source.fileno()).st_size
            if found != size:
                return f"{file.name}: expected {size} bytes as at the last closing, found {found}"
            changed = [
                number
                for number, digest in enumerate(_digests(source, size))
                if digest != body[_HEAD + number * _DIGEST : _HEAD + (number + 1) * _DIGEST]
            ]
    except OSError as error:
        raise storage_error(error, "read", file) from error
    if changed:
        named = ", ".join(f"at {number * BLOCK}" for number in changed[:NAMED])
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        return (
            f"{file.name}: expected the bytes of the last closing, found others in {len(changed)}"
            f" blocks of {BLOCK} bytes ({named}{more})"
        )
    return None


def _digests(source: IO[bytes], size: int) -> Iterator[bytes]:
    """The digest of each block of the first `size` bytes, in order.

    Several threads read and hash: a start of the core waits for it, and a million documents are 3 GB.
    """

    def some(offset: int) -> list[bytes]:
        piece = memoryview(os.pread(source.fileno(), min(_PIECE, size - offset), offset))
        return [
            hashlib.sha256(piece[start : start + BLOCK]).digest()
            for start in range(0, len(piece), BLOCK)
        ]

    with ThreadPoolExecutor(_READERS, "at-rest") as pool:
        for digests in pool.map(some, range(0, size, _PIECE)):
            yield from digests


def block_is_whole(source: IO[bytes], body: bytes, number: int) -> bool:
    """Whether one block of a file agrees with the seal (`body`: the seal without its tag)."""
    start = _HEAD + number * _DIGEST
    source.seek(number * BLOCK)
    return hashlib.sha256(source.read(BLOCK)).digest() == body[start : start + _DIGEST]
