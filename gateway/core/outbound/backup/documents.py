"""Single documents from a backup: the sealed file of one that is missing or damaged in the store comes back.

Promises, for each document, in this order:
1. Only one that lives comes back. A destroyed one has no key: its bytes at the target are noise, and are not
   fetched.
2. A stored file that is whole is never touched: it is read to its end first.
3. What the target holds is fetched into a file without a name, and read to its end with the document's living
   key: it has the size and the SHA-256 of what was received, or nothing is changed.
4. COMMIT POINT: it takes the damaged one's name. That one is kept aside until the file in its place was read
   back and has the very bytes that were examined; then it goes.
5. `document.restored` is an entry of the ledger.

It works while the gateway serves; then inspectors do the reading, as for fixity (`gateway.core.reading`).
A crash before 4 leaves the damaged one, after 4 the whole one, perhaps without entry.

Leaves out everything else of a backup (`vault.backup.restore`): rows, keys and the ledger come back only as a
whole.
"""

from __future__ import annotations

import asyncio
import os
from typing import IO, Any, Final

import msgspec
from sqlalchemy import Connection, Row

from gateway.core.core import Core, log
from gateway.core.outbound import marker
from gateway.core.outbound.backup.target import target_of
from gateway.core.outbound.files import fetch
from gateway.core.outbound.outbound import Outbound
from gateway.core.reading import NotRead, Reader
from gateway.errors import Refusal
from vault.backup import format as backup_format
from vault.catalogue import queries
from vault.catalogue.states import STORED, DocumentState
from vault.crypto.sealed import sealed_size
from vault.errors import (
    BlobMissing,
    IntegrityError,
    PlaceError,
    PlaceMissing,
    StorageFailed,
    StorageFull,
    VaultError,
)

RESTORED: Final = "restored"
REFUSED: Final = "refused"


class Outcome(msgspec.Struct):
    """What became of one document: `restored` or `refused`; what was found in the store, or why not."""

    id: str
    outcome: str
    detail: str


async def restore(
    outbound: Outbound, reader: Reader, ids: list[str], name: str, actor: str
) -> list[Outcome]:
    """Bring back the sealed files of documents from a backup's target, one after the other.

    Args:
        reader: who reads documents.
        ids: whole ids.
        name: the target's; "" for the only one.

    Raises:
        Refusal: no such target, it can't be reached, it is another store's, or nobody reads documents.
        StorageFull, StorageFailed: the store can't be written to.
    """
    target = target_of(outbound.core, name).name
    try:
        if not await marker.look(outbound, target, marker.BACKUP):
            raise Refusal(
                "failed",
                f"target {target}: expected its marker, found none (is it mounted?)",
            )
        return [await _restore(outbound, reader, document_id, target, actor) for document_id in ids]
    except (PlaceError, IntegrityError, NotRead) as error:
        raise Refusal("failed", str(error)) from error


async def _restore(
    outbound: Outbound, reader: Reader, document_id: str, target: str, actor: str
) -> Outcome:
    try:
        found = await _mend(outbound, reader, document_id, target, actor)
    except (PlaceError, NotRead, StorageFull, StorageFailed):
        raise
    except Refusal as refusal:
        return Outcome(document_id, REFUSED, refusal.message)
    except VaultError as error:
        return Outcome(document_id, REFUSED, f"document {document_id}: {error}")
    log.warning("document restored", document=document_id, target=target, found=found)
    return Outcome(document_id, RESTORED, found)


async def _mend(
    outbound: Outbound, reader: Reader, document_id: str, target: str, actor: str
) -> str:
    """Bring one back; returns what was found in its place."""
    core = outbound.core
    blobs = core.store.blobs
    # 1. It lives, and its key opens: else nothing that could be fetched would be it.
    row = await core.read(lambda c: _living(c, document_id))
    core.store.custody.open_metadata(row)
    # 2. What is stored is not it.
    found = await _damage(core, reader, row)
    # 3. What the target holds is.
    try:
        file = await fetch(outbound, target, backup_format.blob_name(row.id))
    except PlaceMissing:
        raise Refusal(
            "not_found", f"document {row.id}: expected its sealed file at {target}, found none"
        ) from None
    with file:
        await _expect_whole(reader, row, file, target)
        digest = await asyncio.to_thread(backup_format.digest_of, file.fileno())
        # 4. COMMIT POINT, while nothing is destroyed. 5. Read back; only then the damaged one goes.
        async with outbound.freeze.hold():
            await core.read(lambda c: _living(c, document_id))
            await asyncio.to_thread(blobs.replace, row.id, file.fileno())
            if await asyncio.to_thread(_digest_stored, core, row.id) != digest:
                raise IntegrityError(
                    "expected the bytes just put in its place, found others; what was there before is kept as"
                    f" blobs/spool/{row.id}.damaged",
                    kind="chunk",
                )
            await asyncio.to_thread(blobs.forget_damaged, row.id)
            await core.write(
                lambda tx: core.record(
                    tx, "document.restored", row.id, actor, core.now(), target=target, found=found
                )
            )
    return found


def _living(connection: Connection, document_id: str) -> Row[Any]:
    """The row of a document that is stored (raises Refusal)."""
    row = queries.document(connection, document_id)
    if row is None:
        raise Refusal("not_found", f"document {document_id}: expected one, found none")
    if row.state == DocumentState.DESTROYED:
        raise Refusal(
            "invalid",
            f"document {row.id}: expected one that lives, found it destroyed: its key is nowhere, and"
            " nothing brings it back",
        )
    if row.state not in STORED:
        raise Refusal(
            "invalid", f"document {row.id}: expected one that is stored, found it {row.state}"
        )
    return row


async def _damage(core: Core, reader: Reader, row: Row[Any]) -> str:
    """What is wrong with the stored file (raises Refusal: nothing is; NotRead)."""
    try:
        found = await asyncio.to_thread(core.store.blobs.size, row.id)
    except BlobMissing:
        return "missing"
    if found != sealed_size(row.size):
        return "damaged"
    try:
        whole = await reader(row)
    except NotRead:
        raise
    except IntegrityError:
        return "damaged"
    if whole:
        raise Refusal(
            "invalid",
            f"document {row.id}: expected its stored file missing or damaged, found it whole;"
            " nothing was changed",
        )
    return "damaged"


async def _expect_whole(reader: Reader, row: Row[Any], file: IO[bytes], target: str) -> None:
    """What was fetched is the document, to its last byte (raises Refusal, NotRead)."""
    subject = f"document {row.id}: its sealed file at {target}"
    size = os.fstat(file.fileno()).st_size
    if size != sealed_size(row.size):
        raise Refusal("failed", f"{subject}: expected {sealed_size(row.size)} bytes, found {size}")
    try:
        whole = await reader(row, file.fileno())
    except IntegrityError as error:
        raise Refusal("failed", f"{subject}: {error}") from error
    if not whole:
        raise Refusal("failed", f"{subject}: expected the bytes that were received, found others")


def _digest_stored(core: Core, document_id: str) -> bytes:
    descriptor = core.store.blobs.open(document_id)
    try:
        return backup_format.digest_of(descriptor)
    finally:
        os.close(descriptor)
