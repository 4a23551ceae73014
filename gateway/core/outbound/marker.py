"""Markers: the small file that says whose a place is.

Promises: nothing is written to a place before its marker was read and is this store's. A place that had one
and has none is not the place it was (an empty mount point, a wiped bucket).

Rule: backups and keyring copies may share a folder, so each has a marker of a name and content of its own.
Both are as they have always been: a place that was begun by an older version is known by them, and the other
way round. `content` is the only place that knows the difference.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.core import Core
from gateway.core.outbound.files import head, put_bytes
from gateway.core.outbound.outbound import Outbound
from vault.backup import format as backup_format
from vault.errors import IntegrityError, PlaceError, PlaceMissing

BACKUP: Final = backup_format.MARKER
COPIES: Final = "strongroom-copies.json"
_LIMIT: Final = 4096


def content(core: Core, name: str) -> bytes:
    """What the marker of that name holds at a place of this store."""
    store = core.store.origin.rpartition("/")[2]
    if name == BACKUP:
        return backup_format.marker(store.upper())
    return msgspec.json.encode({"store": store, "format": 1}) + b"\n"


async def look(outbound: Outbound, target: str, name: str) -> bool:
    """Whether the marker is there and this store's; False: there is none at all.

    Raises:
        IntegrityError: it is another store's, or damaged. PlaceError: it can't be read.
    """
    try:
        found = await head(outbound, target, name, _LIMIT)
    except PlaceMissing:
        return False
    if found != content(outbound.core, name):
        store = outbound.core.store.origin.rpartition("/")[2]
        raise IntegrityError(
            f"target {target}: expected the marker of store {store}, found another store's or a damaged"
            f" one ({name})",
            kind="header",
        )
    return True


async def expect(outbound: Outbound, target: str, name: str, *, begun: bool = True) -> None:
    """As `look`, before something is written there; a place that was not `begun` before is marked now.

    Raises:
        PlaceError: the marker is not this store's, can't be read, or, where it was begun, is not there.
    """
    try:
        there = await look(outbound, target, name)
    except IntegrityError as error:
        raise PlaceError(str(error)) from error
    if there:
        return
    if begun:
        raise PlaceError(
            f"target {target}: expected its marker {name} as it was before, found none; is it mounted, and"
            " the same place?"
        )
    await begin(outbound, target, name)


async def begin(outbound: Outbound, target: str, name: str) -> None:
    """Mark a place as this store's (raises PlaceError)."""
    await put_bytes(outbound, target, name, content(outbound.core, name))
