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
import struct
from pathlib import Path
from typing import IO, Final

from vault.storage.durable import remove_durably, storage_error, write_durably

BLOCK: Final = 16 * 1024
"""Bytes that one digest covers."""
NAMED: Final = 10
"""Changed blocks that a finding names; further ones are counted."""

_MAGIC: Final = b"strongroom-at-rest-v1\n"
_HEAD: Final = len(_MAGIC) + 8
_DIGEST: Final = 32


def seal(file: Path, at: Path, key: bytes) -> None:
    """Write the seal of `file` to `at`, durably, under the 32-byte `key`.

    Raises:
        StorageFull, StorageFailed, StoreMissing: it can't be written, or there is no such directory.
    """
    digests = []
    size = 0
    try:
        with file.open("rb") as source:
            while block := source.read(BLOCK):
                size += len(block)
                digests.append(hashlib.sha256(block).digest())
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
        with file.open("rb") as source:
            changed = [
                number
                for number in range((len(body) - _HEAD) // _DIGEST)
                if not block_is_whole(source, body, number)
            ]
        found = file.stat().st_size
    except OSError as error:
        raise storage_error(error, "read", file) from error
    if found != size:
        return f"{file.name}: expected {size} bytes as at the last closing, found {found}"
    if changed:
        named = ", ".join(f"at {number * BLOCK}" for number in changed[:NAMED])
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        return (
            f"{file.name}: expected the bytes of the last closing, found others in {len(changed)}"
            f" blocks of {BLOCK} bytes ({named}{more})"
        )
    return None


def block_is_whole(source: IO[bytes], body: bytes, number: int) -> bool:
    """Whether one block of a file agrees with the seal (`body`: the seal without its tag)."""
    start = _HEAD + number * _DIGEST
    source.seek(number * BLOCK)
    return hashlib.sha256(source.read(BLOCK)).digest() == body[start : start + _DIGEST]
