"""What is put at places and fetched from them, as files without names in the store's folder.

Promises: nothing that was fetched outlives its use, and a place that was filled with something else does not
fill this disk where only a small thing is looked for (`head`). Leaves out judging what was fetched.
"""

from __future__ import annotations

import tempfile
from typing import IO

from gateway.core.core import Core
from gateway.core.outbound.outbound import Outbound
from gateway.wire.messages import TransferReport


def scratch(core: Core) -> IO[bytes]:
    """A file without a name, in the store's folder, for sealed bytes."""
    return tempfile.TemporaryFile(dir=core.store.path)


async def fetch(outbound: Outbound, target: str, name: str) -> IO[bytes]:
    """A small or sealed thing of a target in a nameless file (raises PlaceMissing, PlaceError)."""
    file = scratch(outbound.core)
    try:
        await outbound.transfers.transfer(target, "get", name, file.fileno())
    except BaseException:
        file.close()
        raise
    return file


async def head(outbound: Outbound, target: str, name: str, limit: int) -> bytes:
    """The first `limit` bytes of something small, at most 64 KiB (raises PlaceMissing, PlaceError)."""
    with scratch(outbound.core) as file:
        await outbound.transfers.transfer(target, "probe", name, file.fileno())
        file.seek(0)
        return file.read(limit)


async def probe(outbound: Outbound, target: str, name: str) -> TransferReport:
    """Size and digest of what lies at a target (raises PlaceMissing, PlaceError)."""
    with scratch(outbound.core) as file:
        return await outbound.transfers.transfer(target, "probe", name, file.fileno())


async def put_bytes(outbound: Outbound, target: str, name: str, data: bytes) -> None:
    """Put something small (raises PlaceError)."""
    with scratch(outbound.core) as file:
        file.write(data)
        file.flush()
        await outbound.transfers.transfer(target, "put", name, file.fileno())
