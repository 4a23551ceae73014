"""The sealed files of a restore: fetched from the backup's place into the blob store, several at once.

Promises: a sealed file gets its name only once its bytes are those that were copied; one that is there whole
is kept. A file that is missing or damaged at the place is reported and holds up none of the others.
Leaves out: which documents live (`replay`), and opening the files.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from sqlalchemy import Connection, select

from vault.backup import format as backup
from vault.catalogue.schema import backup_blobs, documents
from vault.catalogue.states import STORED
from vault.catalogue.store import Catalogue
from vault.errors import (
    IntegrityError,
    PlaceMissing,
    VaultError,
)
from vault.storage.blobs import LocalBlobStore
from vault.storage.durable import (
    write_all,
)
from vault.storage.places import Place

AT_ONCE: Final = 4
_PAGE: Final = 500


def fetch(
    open_place: Callable[[], Place],
    catalogue: Catalogue,
    blobs: LocalBlobStore,
    manifest: backup.Manifest,
    done: Callable[[str, str], None],
) -> None:
    """Fetch what is not there yet, several at once, page by page.

    Args:
        open_place: opens the backup's place; called once for each thread.
        catalogue: of the restored store: which documents live.
        manifest: of the backup: the sealed files that were copied after its catalogue.
        done: is told each document's id, and "" or why its sealed file is not there.

    Raises:
        PlaceError: the place can't be read.
        StorageFull, StorageFailed: the sealed files can't be written.
    """
    late = {each.document_id: (each.size, bytes.fromhex(each.sha256)) for each in manifest.late}
    places = [open_place() for _ in range(AT_ONCE)]
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for page in _pages(catalogue, manifest.target):
                work = [
                    (row.id, (row.size, bytes(row.sha256)) if row.sha256 else late.get(row.id))
                    for row in page
                ]
                shares = [work[start::AT_ONCE] for start in range(AT_ONCE)]
                share = functools.partial(_fetch_share, blobs)
                for part in list(pool.map(share, places, shares)):
                    for document_id, problem in part:
                        done(document_id, problem)
    finally:
        for place in places:
            place.close()


def _pages(catalogue: Catalogue, target: str) -> Iterator[Sequence[Any]]:
    last = ""

    def page(connection: Connection) -> Sequence[Any]:
        return connection.execute(
            select(documents.c.id, backup_blobs.c.size, backup_blobs.c.sha256)
            .outerjoin(
                backup_blobs,
                (backup_blobs.c.document_id == documents.c.id) & (backup_blobs.c.target == target),
            )
            .where(documents.c.id > last, documents.c.state.in_(STORED))
            .order_by(documents.c.id)
            .limit(_PAGE)
        ).all()

    while rows := catalogue.read(page):
        yield rows
        last = rows[-1].id


def _fetch_share(
    blobs: LocalBlobStore, place: Place, share: Iterable[tuple[str, tuple[int, bytes] | None]]
) -> list[tuple[str, str]]:
    """(document id, problem or "") of each."""
    done = []
    for document_id, expected in share:
        try:
            _fetch_blob(blobs, place, document_id, expected)
        except (PlaceMissing, IntegrityError) as error:
            done.append((document_id, f"its sealed file: {error}"))
        else:
            done.append((document_id, ""))
    return done


def _fetch_blob(
    blobs: LocalBlobStore, place: Place, document_id: str, expected: tuple[int, bytes] | None
) -> None:
    if expected is None:
        raise PlaceMissing(
            f"blob {document_id}: expected it recorded as copied, found that it was not"
        )
    size, digest = expected
    if blobs.exists(document_id):
        if _is_whole(blobs, document_id, size, digest):
            blobs.settle(document_id)
            return
        blobs.remove(document_id)
    blobs.discard(document_id)
    fd = blobs.begin(document_id)
    try:
        found = hashlib.sha256()
        offset = 0
        for piece in place.get(backup.blob_name(document_id)):
            found.update(piece)
            offset = write_all(fd, [piece], offset, f"blob {document_id}")
        if (offset, found.digest()) != (size, digest):
            raise IntegrityError(
                f"blob {document_id}: expected the {size} bytes that were copied,"
                f" found {offset} others",
                kind="chunk",
            )
        blobs.publish(document_id, fd)
    except VaultError:
        blobs.discard(document_id)
        raise
    finally:
        os.close(fd)
    blobs.settle(document_id)


def _is_whole(blobs: LocalBlobStore, document_id: str, size: int, digest: bytes) -> bool:
    if blobs.size(document_id) != size:
        return False
    fd = blobs.open(document_id)
    try:
        return backup.digest_of(fd) == digest
    finally:
        os.close(fd)
