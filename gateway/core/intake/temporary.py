"""Files under temporary names: whole and durable, but no documents until they are renamed.

Many programs send `name.filepart` (WinSCP), `name.part`, `name.tmp`, `.in.name` (lftp) or
`name.1a2b3c4d.partial` (rclone) and rename it once all of it is there. CLOSE of such a file keeps it: the
sealed file and its name are synced, and a PARTIAL row with the reason `temporary` is durable before the
reply. Nobody judges it, no receipt names it, no backup holds it, and it expires as other partials do. The
rename hands it in, in the order of every commit (`receive`):
    1. the sealed file is linked into the store (`receive.publish`);
    2. one transaction makes the row a received document with its final name: COMMIT POINT (`receive.record`);
    3. the spool's own name goes, and only then the door is told.
A crash before 2 leaves the file as it waited: `partial.sweep` takes the link back.

Its last chunk is sealed, so that it is never continued under its key: whoever adds to it begins a document
under a new key, into which the door seals the former bytes first (FORMAT.md, one index is sealed once).
The former file ends when its successor is durable and at least as long.

Other programs use temporary names that nobody can know (`name.1b4e28ba…`, `inprogress/name`): what they send
is a document at CLOSE, and the rename that follows within `RENAME_WITHIN`, by the same account, gives it its
name. Nothing else about it changes, but it never gets a name that would have been a finding.

Leaves out: which paths a client has (`gateway.core.views.client`).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Row, select, update

from gateway.core.core import Core
from gateway.core.intake import partial, quotas, receive
from gateway.core.intake.intake import Intake
from gateway.core.intake.partial import TEMPORARY
from gateway.core.intake.receive import FULL
from gateway.core.intake.upload import Upload
from gateway.core.steps import step
from gateway.errors import Refusal
from gateway.names import NAME_BYTES, opens_as_program
from gateway.wire.messages import SHA256_SIZE, Readable
from vault.catalogue import queries
from vault.catalogue.schema import documents
from vault.catalogue.states import STORED, DocumentState
from vault.catalogue.store import Transaction
from vault.crypto.sealed import CHUNK, sealed_size, whole_chunks
from vault.errors import BlobMissing, StorageFailed, StorageFull, VaultError
from vault.keys.custody import DocumentMetadata
from vault.moments import stamp

_TEMPORARY: Final = re.compile(
    r"""\.in\..+                                        # lftp: xfer:temp-file-name
    | .+\.(?:filepart|part|partial|tmp)                 # WinSCP, rclone and most others
    | .+\.rclone[-_.]?(?:part|partial|tmp|temp)         # tools around rclone
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)

RENAME_WITHIN: Final = timedelta(minutes=10)
GONE: Final = "This upload is no longer there; send it anew."
BUSY: Final = "This upload is in use by another connection, or not closed yet."
UNFINISHED: Final = (
    "This upload is not whole: send the rest of it or all of it again, then rename it."
)


@dataclass(frozen=True)
class Destination:
    """The name, path and folder that a rename gives; `facts` keep the path as it was sent."""

    name: str
    path: str
    folder_id: str | None
    facts: Mapping[str, str]


def is_temporary(name: str) -> bool:
    """Whether a file of this name waits for a rename."""
    return _TEMPORARY.fullmatch(name) is not None


async def keep(intake: Intake, upload: Upload, size: int, sha256: bytes) -> None:
    """Make a whole file durable under its temporary name; earlier ones of that name end.

    Raises:
        Refusal: it is not whole, the disk is full, the client has ended; nothing was kept.
        VaultError: the store has failed; nothing was promised.
    """
    core = intake.core
    if len(sha256) != SHA256_SIZE or os.fstat(upload.descriptor).st_size != sealed_size(size):
        await receive.discard(core, upload)
        raise Refusal("failed", "This file was not whole; send it again.")
    now = core.now()

    def work(tx: Transaction) -> list[str]:
        index = core.store.custody.name_index(upload.client_id, upload.name)
        ended = _supersede(intake, tx, upload, index, upload.folder_id, now)
        quotas.require_room(core, tx.connection, upload, size)
        metadata = DocumentMetadata(upload.name, sha256, salt=b"", path=upload.path)
        if upload.resumed:
            sealed = core.store.custody.seal_metadata(upload.key, upload.document_id, metadata)
            tx.connection.execute(
                update(documents)
                .where(
                    documents.c.id == upload.document_id, documents.c.state == DocumentState.PARTIAL
                )
                .values(sealed_metadata=sealed, size=size, state_since=stamp(now), reason=TEMPORARY)
            )
        else:
            partial.insert(core, tx, upload, size, metadata, TEMPORARY, now)
        return ended

    try:
        await asyncio.to_thread(core.store.blobs.secure, upload.document_id, upload.descriptor)
        ended = await core.write(work)
    except StorageFailed:
        upload.close()  # what is recorded is not known now: the next start looks
        raise
    except StorageFull as error:
        await receive.discard(core, upload)
        raise Refusal("full", FULL) from error
    except Exception:
        await receive.discard(core, upload)
        raise
    upload.close()
    await _discard_all(core, ended)


async def secure(intake: Intake, upload: Upload) -> int:
    """Make the whole chunks of an open upload survive a crash; returns their plaintext size in bytes.

    Raises:
        VaultError: the medium failed or is full; the upload is gone, for a failed sync is final.
        Refusal: the client's quota is used up, or the client has ended; the upload is gone as well.
    """
    core = intake.core
    size = (whole_chunks(os.fstat(upload.descriptor).st_size) or 0) * CHUNK
    earlier = upload.predecessor
    if not size or (earlier is not None and earlier.size > size):
        return 0  # nothing that could be continued, or less than what can be continued already
    if not upload.resumed:
        _claim(
            intake, upload.document_id, upload
        )  # before there is a row that others could continue
    try:
        await asyncio.to_thread(core.store.blobs.secure, upload.document_id, upload.descriptor)
        await partial.record(core, upload, size)
    except (VaultError, Refusal):
        await receive.discard(core, upload)
        raise
    upload.resumed = True
    return size


async def continue_from(intake: Intake, row: Row[Any], **upload: Any) -> Upload:
    """Begin a document with the bytes of a file that waits; the door seals them anew.

    Raises:
        Refusal: someone else is at it, or there is no room.
    """
    core = intake.core
    intake.take(row.id, BUSY)
    try:
        begun = receive.begin(intake, core.now(), **upload)
    except BaseException:
        intake.give_back(row.id)
        raise
    begun.predecessor = row
    begun.release = lambda: intake.give_back(row.id)
    return begun


async def predecessor(core: Core, upload: Upload) -> tuple[Readable, int]:
    """What an upload continues: the reply and a descriptor (the caller closes it).

    Raises:
        Refusal: it continues nothing, or its file is gone.
    """
    row = upload.predecessor
    if row is None:
        raise Refusal("not_found", GONE)
    key = core.store.custody.document_key(row)
    try:
        descriptor = await asyncio.to_thread(core.store.blobs.reopen, row.id)
    except BlobMissing as error:
        raise Refusal("not_found", GONE) from error
    # Never written again, whoever holds the descriptor: its last index is used.
    try:
        readable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(descriptor)
    return Readable(row.size, key, row.id), readable


async def hand_in(
    intake: Intake,
    document_id: str,
    submitter: str,
    to: Destination,
) -> str:
    """Make a file that waits a received document under its final name, durable on return.

    Returns:
        What the one who sent it is told besides, or "".

    Raises:
        Refusal: it is not whole, in use, or gone; or it can't be recorded now, and goes on waiting.
        VaultError: the store has failed; nothing was acknowledged.
    """
    core = intake.core
    row = await _take(intake, document_id)
    try:
        if row.reason != TEMPORARY:
            raise Refusal("failed", UNFINISHED)
        metadata = core.store.custody.open_metadata(row)
        key = core.store.custody.document_key(row)
        try:
            descriptor = await asyncio.to_thread(core.store.blobs.reopen, row.id)
        except BlobMissing as error:
            now = core.now()
            await core.write(lambda tx: receive.expire(core, tx, row.id, now))
            raise Refusal("not_found", GONE) from error
        upload = Upload(
            document_id=row.id, client_id=row.client_id, key=key, descriptor=descriptor,
            channel="sftp", name=to.name, path=to.path, folder_id=to.folder_id, submitter=submitter,
            resumed=True, facts=dict(to.facts),
        )  # fmt: skip
        try:
            ended = await _record(intake, upload, row, metadata.sha256)
        finally:
            upload.close()
        await asyncio.to_thread(receive.forget_spooled, core, row.id)
        await _discard_all(core, ended)
    finally:
        intake.give_back(document_id)
    intake.arrived.set()
    return upload.said


def may_rename(core: Core, row: Row[Any], account_id: str) -> bool:
    """Whether a received document still may get another name from an account."""
    age = core.now() - datetime.fromisoformat(row.received_at)
    return (
        row.state in STORED
        and row.submitter == account_id
        and row.batch_id is None  # its name may be in a register that officers sign
        and age <= RENAME_WITHIN
    )


async def rename(
    core: Core,
    document_id: str,
    submitter: str,
    to: Destination,
) -> None:
    """Give a document that was just received its final name and folder, durable on return.

    Raises:
        Refusal: it is gone, its time is over, or the new name is one that inspection would have found.
    """
    now = core.now()

    def work(tx: Transaction) -> None:
        row = queries.document(tx.connection, document_id)
        if row is None or not may_rename(core, row, submitter):
            raise Refusal("not_found", GONE)
        custody = core.store.custody
        former = custody.open_metadata(row)
        if opens_as_program(to.name) and not opens_as_program(former.name):
            raise Refusal("denied", "A document here can't be renamed to a program.")
        kept = {key: value for key, value in former.facts.items() if key != NAME_BYTES}
        metadata = msgspec.structs.replace(
            former, name=to.name, path=to.path, facts={**kept, **to.facts}
        )
        tx.connection.execute(
            update(documents)
            .where(documents.c.id == document_id)
            .values(
                sealed_metadata=custody.seal_metadata(
                    custody.document_key(row), document_id, metadata
                ),
                name_index=core.store.custody.name_index(row.client_id, to.name),
                folder_id=to.folder_id,
            )
        )
        core.record(tx, "document.renamed", document_id, submitter, now, client=row.client_id)

    await core.write(work)


async def _record(intake: Intake, upload: Upload, row: Row[Any], sha256: bytes) -> list[str]:
    """Steps 1 and 2 of handing in; whatever fails before the commit point leaves the file waiting."""
    core = intake.core
    now = core.now()

    def work(tx: Transaction) -> list[str]:
        ended = _supersede(intake, tx, upload, row.name_index, row.folder_id, now)
        receive.record(core, tx, upload, row.size, sha256, now)
        return ended

    try:
        with step("receive.publish"):
            written = await asyncio.to_thread(
                core.store.blobs.publish, upload.document_id, upload.descriptor
            )
        if written != sealed_size(row.size):
            raise Refusal("failed", UNFINISHED)
        with step("receive.record"):
            return await core.write(work)
    except StorageFailed:
        raise  # whether the row is there is not known now: the next start looks
    except StorageFull as error:
        await asyncio.to_thread(core.store.blobs.remove, upload.document_id)
        raise Refusal(
            "full", "The gateway has no room left. The file is kept; rename it again later."
        ) from error
    except Exception:
        await asyncio.to_thread(core.store.blobs.remove, upload.document_id)
        raise


async def drop(intake: Intake, document_id: str, actor: str) -> None:
    """End what waits or was interrupted under a temporary name, for the client that sent it.

    Raises:
        Refusal: it is in use or gone.
    """
    core = intake.core
    row = await _take(intake, document_id)
    try:
        now = core.now()
        await core.write(lambda tx: receive.expire(core, tx, row.id, now, actor))
        await asyncio.to_thread(core.store.blobs.discard, row.id)
    finally:
        intake.give_back(document_id)


async def _take(intake: Intake, document_id: str) -> Row[Any]:
    """Claim a PARTIAL and read its row; the caller gives the claim back (raises Refusal)."""
    core = intake.core
    intake.take(document_id, BUSY)
    try:
        row = await core.read(
            lambda connection: connection.execute(
                select(documents).where(
                    documents.c.id == document_id, documents.c.state == DocumentState.PARTIAL
                )
            ).one_or_none()
        )
        if row is None:
            raise Refusal("not_found", GONE)
    except BaseException:
        intake.give_back(document_id)
        raise
    return row


def _claim(intake: Intake, document_id: str, upload: Upload) -> None:
    """While an upload is open, nobody else continues, renames or ends its row."""
    intake.take(document_id, BUSY)
    former = upload.release

    def release() -> None:
        former()
        intake.give_back(document_id)

    upload.release = release


def _supersede(
    intake: Intake,
    tx: Transaction,
    upload: Upload,
    index: bytes,
    folder_id: str | None,
    now: datetime,
) -> list[str]:
    """End the other partials of one name in one folder, inside a transaction; returns their ids."""
    core = intake.core
    earlier = upload.predecessor
    found = tx.connection.execute(
        select(documents.c.id).where(
            documents.c.client_id == upload.client_id,
            documents.c.name_index == index,
            documents.c.folder_id.is_not_distinct_from(folder_id),
            documents.c.state == DocumentState.PARTIAL,
            documents.c.channel == "sftp",
            documents.c.id != upload.document_id,
        )
    ).scalars()
    ended = [
        each
        for each in found
        if not intake.taken(each) or (earlier is not None and each == earlier.id)
    ]
    for each in ended:
        receive.expire(core, tx, each, now)
    return ended


async def _discard_all(core: Core, document_ids: list[str]) -> None:
    for document_id in document_ids:
        await asyncio.to_thread(core.store.blobs.discard, document_id)
