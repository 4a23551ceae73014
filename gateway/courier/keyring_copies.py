"""Delivering a keyring's copy: the right place, the whole file, read back; or removed and found absent.

The order: 1 the marker (is this the place it was?), 2 the file under another name, read back, and only then
in the place of the older copy, 3 read back again, compared, its epoch taken from its clear head. A place that
was delivered to before and has no marker is not that place any more (an empty mount point, a wiped bucket),
and one with another store's marker never was ours: nothing is written there. What is reported is what was
seen, not what was sent.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec

from gateway.wire.messages import Errand, ErrandReport
from vault.errors import PlaceError, PlaceMissing
from vault.keys.keyring import sealed_epoch
from vault.storage.places import Place

MARKER: Final = "strongroom-copies.json"
SUFFIX: Final = ".keyring"
NEXT: Final = ".next"  # what is to replace a copy, until it was read back
_MARKER_LIMIT: Final = 4096


class Marker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies at every place with copies: whose they are."""

    store: str
    format: Literal[1] = 1


def deliver(errand: Errand, place: Place) -> ErrandReport:
    """Write or remove one copy, and see that it is so.

    Raises:
        VaultError: it is not so; PlaceError: it may be if it is tried again.
    """
    # 1. The place.
    expect_marker(place, errand.store, known=errand.known)
    name = errand.owner + SUFFIX
    if errand.content is None:
        for each in (name, name + NEXT):
            place.remove(each)
            if _read(place, each) is not None:
                raise PlaceError(f"copy {each}: expected it to be gone, found it still there")
        return ErrandReport(errand.errand_id, True)
    # 2. The file, beside the older one first: that one is replaced once this one was read back.
    place.put(name + NEXT, [errand.content])
    if _read(place, name + NEXT) != errand.content:
        raise PlaceError(f"copy {name}: expected the bytes just written, found others")
    place.put(name, [errand.content])
    # 3. What is there now.
    found = _read(place, name)
    if found != errand.content:
        raise PlaceError(f"copy {name}: expected the bytes just written, found others")
    place.remove(name + NEXT)
    return ErrandReport(
        errand.errand_id,
        True,
        epoch=sealed_epoch(found, errand.owner),
        sha256=hashlib.sha256(found).digest(),
    )


def expect_marker(place: Place, store: str, *, known: bool) -> None:
    """See that a place is this store's; mark one that is new (raises PlaceError)."""
    raw = _read(place, MARKER, _MARKER_LIMIT)
    if raw is None:
        if known:
            raise PlaceError(
                f"marker {MARKER}: expected it there as it was before, found none; is it mounted, and"
                " the same place?"
            )
        place.put(MARKER, [msgspec.json.encode(Marker(store)) + b"\n"])
        raw = _read(place, MARKER, _MARKER_LIMIT)
    try:
        marker = msgspec.json.decode(raw or b"", type=Marker)
    except msgspec.MsgspecError as error:
        raise PlaceError(f"marker {MARKER}: expected a store's id, found other content") from error
    if marker.store != store:
        raise PlaceError(f"marker {MARKER}: expected store {store}, found another store's place")


def _read(place: Place, name: str, limit: int | None = None) -> bytes | None:
    """What a place holds under a name; None: nothing. Longer than `limit`: the beginning."""
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in place.get(name):
            pieces.append(piece)
            size += len(piece)
            if limit is not None and size > limit:
                break
    except PlaceMissing:
        return None
    return b"".join(pieces)
