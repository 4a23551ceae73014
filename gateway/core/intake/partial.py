"""Partial documents: uploads that are not whole, or wait for their name. Parked, continued, let go.

An upload whose connection broke is parked as PARTIAL if its sealed file ends on a chunk boundary: then it
can be continued under the same key without sealing a chunk index twice. Else its bytes go. What nobody
continues within `retention.partial_hours` goes, too.

Leaves out: files under temporary names (`temporary`), which are whole and only wait to be renamed, and how
an upload begins and is committed (`receive`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from gateway.core.core import Core, log
from gateway.core.intake import quotas, receive
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.errors import Refusal
from vault.catalogue import queries
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState
from vault.catalogue.store import Transaction
from vault.crypto.sealed import CHUNK, sealed_size, whole_chunks
from vault.errors import BlobMissing, VaultError
from vault.keys.custody import DocumentMetadata
from vault.moments import stamp

INTERRUPTED: Final = "interrupted"  # reason of one that ends on a chunk boundary
CLOSING_WAIT: Final = 2.0  # seconds that the process of a broken connection has to end
CLOSING_LOOK: Final = 0.02
TEMPORARY: Final = "temporary"  # reason of one that is whole and waits for its name


async def park(core: Core, upload: Upload) -> bool:
    """Keep an interrupted upload as PARTIAL if it can be continued safely.

    Returns:
        Whether it was kept.
    """
    length = os.fstat(upload.descriptor).st_size
    chunks = whole_chunks(length)
    earlier = upload.predecessor
    if not chunks or upload.channel != "sftp" or (earlier and earlier.size > chunks * CHUNK):
        # What it continued, if longer, stays and can be continued again.
        await receive.discard(core, upload)
        return False
    try:
        await record(core, upload, chunks * CHUNK)
    except Exception as error:  # noqa: BLE001  the folder it was for may be gone, say: nothing is kept then
        if not isinstance(error, VaultError | Refusal):
            log.warning("upload was not parked", error=type(error).__name__)
        await receive.discard(core, upload)
        return False
    upload.close()
    return True


async def record(core: Core, upload: Upload, size: int) -> None:
    """Write the row of an upload that is not whole; what it continued has ended with that."""
    now = core.now()
    earlier = upload.predecessor

    def work(tx: Transaction) -> None:
        if earlier is not None:
            receive.expire(core, tx, earlier.id, now)
        quotas.require_room(core, tx.connection, upload, size)
        if upload.resumed:
            tx.connection.execute(
                update(documents)
                .where(
                    documents.c.id == upload.document_id, documents.c.state == DocumentState.PARTIAL
                )
                .values(size=size, state_since=stamp(now))
            )
            return
        metadata = DocumentMetadata(name=upload.name, sha256=b"", salt=b"", path=upload.path)
        insert(core, tx, upload, size, metadata, INTERRUPTED, now)

    await core.write(work)
    if earlier is not None:
        upload.predecessor = None
        await asyncio.to_thread(core.store.blobs.discard, earlier.id)


def insert(
    core: Core,
    tx: Transaction,
    upload: Upload,
    size: int,
    metadata: DocumentMetadata,
    reason: str,
    now: datetime,
) -> None:
    """Write a PARTIAL row inside a transaction, its key wrapped and the wrapping remembered."""
    custody = core.store.custody
    keyed = custody.admit(
        tx.connection, upload.document_id, upload.client_id, upload.key, metadata, now
    )
    # What it holds is not whole: nobody finds it by its content yet.
    keyed.pop("digest_index", None)
    columns = {
        **keyed,
        "size": size,
        "received_at": stamp(core.received_time(now)),
        "reason": reason,
    }
    receive.insert_row(tx, upload, DocumentState.PARTIAL, now, columns)
    custody.remember(tx.connection, upload.document_id, keyed["group_id"], now)


async def resume(intake: Intake, row: Any, **upload: Any) -> Upload:
    """Continue a PARTIAL document; one connection at a time.

    What counts is the file: an upload that a crash cut off may have more whole chunks than were recorded.

    Raises:
        Refusal: its bytes are gone or torn (then it expires), or someone else is continuing it.
    """
    intake.take(row.id, "This upload is being continued by another connection.")
    try:
        return await _resume(intake, row, upload)
    except BaseException:
        intake.give_back(row.id)
        raise


async def _resume(intake: Intake, row: Any, upload: dict[str, Any]) -> Upload:
    core = intake.core
    key = core.store.custody.document_key(row)
    try:
        await _expect_closed(core, row.id)
        descriptor = await asyncio.to_thread(core.store.blobs.reopen, row.id)
    except VaultError as error:
        if isinstance(error, BlobMissing):
            await core.write(functools.partial(receive.expire_one, core, row.id, core.now()))
        raise Refusal(
            "not_found", "The interrupted upload is no longer there; send it anew."
        ) from error
    chunks = whole_chunks(os.fstat(descriptor).st_size)
    if not chunks:
        os.close(descriptor)
        await core.write(functools.partial(receive.expire_one, core, row.id, core.now()))
        await asyncio.to_thread(core.store.blobs.discard, row.id)
        raise Refusal("not_found", "The interrupted upload was torn; send it anew.")
    return Upload(
        document_id=row.id,
        key=key,
        descriptor=descriptor,
        resumed=True,
        resumed_size=chunks * CHUNK,
        release=lambda: intake.give_back(row.id),
        **upload,
    )


async def _expect_closed(core: Core, document_id: str) -> None:
    """See that the process which wrote the file has let go of it: its last chunks may still be on their way.

    Two that seal under one key would use one chunk index twice (raises Refusal, BlobMissing).
    """
    deadline = time.monotonic() + CLOSING_WAIT
    while await asyncio.to_thread(core.store.blobs.is_spool_open, document_id):
        if time.monotonic() > deadline:
            raise Refusal("busy", "This upload is still open elsewhere; try again in a moment.")
        await asyncio.sleep(CLOSING_LOOK)


async def expire_due(intake: Intake, now: datetime) -> int:
    """Let go of interrupted uploads that nobody continued; returns how many."""
    core = intake.core
    limit = stamp(now - timedelta(hours=core.config.retention.partial_hours))
    due = await core.read(
        lambda connection: list(
            connection.execute(
                select(documents.c.id)
                .where(documents.c.state == DocumentState.PARTIAL, documents.c.state_since < limit)
                .limit(1000)
            ).scalars()
        )
    )
    for document_id in due:
        if intake.taken(document_id):
            continue
        await core.write(functools.partial(receive.expire_one, core, document_id, now))
        await asyncio.to_thread(core.store.blobs.discard, document_id)
    return len(due)


def _row_of(document_id: str, connection: Connection) -> Row[Any] | None:
    return queries.document(connection, document_id)


def _sweep_partial(core: Core, document_id: str, row: Row[Any]) -> int:
    """Bring a PARTIAL row and its file into step; one that was finished or torn can't be continued."""
    blobs = core.store.blobs
    descriptor = blobs.reopen(document_id)
    length = os.fstat(descriptor).st_size
    os.close(descriptor)
    chunks = whole_chunks(length)
    if row.reason == TEMPORARY and length == sealed_size(row.size):
        blobs.remove(document_id)  # linked by a rename that was not recorded: it waits again
        return 0
    if chunks and not blobs.exists(document_id):
        core.store.catalogue.write(
            lambda tx: tx.connection.execute(
                update(documents)
                .where(documents.c.id == document_id, documents.c.state == DocumentState.PARTIAL)
                .values(size=chunks * CHUNK)
            )
        )
        return 0
    core.store.catalogue.write(functools.partial(receive.expire_one, core, document_id, core.now()))
    blobs.remove(document_id)
    blobs.discard(document_id)
    return 1


def sweep(core: Core) -> int:
    """At start: put right what a crash left in the spool; returns how many files were touched."""
    touched = 0
    for document_id in list(core.store.blobs.spooled()):
        row = core.store.catalogue.read(functools.partial(_row_of, document_id))
        if row is not None and row.state == DocumentState.PARTIAL:
            touched += _sweep_partial(core, document_id, row)
            continue
        touched += 1
        if row is None or row.state == DocumentState.EXPIRED:
            # Never acknowledged: the link in the store (if it came to that) goes before the spooled name.
            with contextlib.suppress(VaultError):
                core.store.blobs.remove(document_id)
            core.store.blobs.discard(document_id)
        else:
            core.store.blobs.settle(document_id)
    if touched:
        log.info("spool swept", files=touched)
    return touched
