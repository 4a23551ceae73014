"""Receiving: from the first byte to the acknowledgement.

Promise: what is acknowledged is durable. The order of a commit is
    1. the sealed file is synced and linked into the store, its folder synced (`receive.publish`);
    2. one transaction writes the row, the wrapping and the ledger entry: COMMIT POINT (`receive.record`);
    3. the door is told, and the spool's own name for the file goes.
A message that was stored before (`resends`) gets an entry and no row in step 2, and loses its file in step 3.
A crash before 2 leaves a spooled file without a row: it was never acknowledged, and `partial.sweep` removes
it. A crash after 2 leaves a spooled name of a recorded document: `partial.sweep` drops the name.

Leaves out: sealing and hashing (the doors do that), who may upload where (`gateway.core.views`), uploads
that broke off (`partial`), and what is whole but waits under a temporary name (`temporary`).
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import threading
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.intake import quotas, resends
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Fetched, Mail, Upload
from gateway.core.reasons import SENDER_WAITING
from gateway.core.steps import step, told
from gateway.errors import Refusal
from gateway.wire.messages import SHA256_SIZE
from vault.catalogue.ledger import COMMITMENT_SALT
from vault.catalogue.lifecycle import Event, add, change_state
from vault.catalogue.prepared import Prepared
from vault.catalogue.schema import documents, mailbox_messages, messages
from vault.catalogue.states import PROVEN, STORED, UNDECIDED, DocumentState
from vault.catalogue.store import Transaction
from vault.crypto.sealed import sealed_size
from vault.crypto.wrapping import new_key
from vault.errors import StorageFailed, StorageFull, VaultError
from vault.keys.custody import DocumentMetadata
from vault.moments import stamp

SMALL: Final = 4 * 1024 * 1024  # plaintext bytes of a document that is synced where it is recorded
FULL: Final = "The gateway has no room left for this file. Nothing of it was kept; try again later."


def begin(intake: Intake, now: datetime, **upload: Any) -> Upload:
    """An empty sealed file and a fresh key for a new document; quick, and syncs nothing.

    Args:
        upload: the fields of `Upload` that say where it comes from.

    Raises:
        Refusal("full"): less than `store.minimum_free` is left.
    """
    core = intake.core
    with step("receive.begin"):
        try:
            if core.store.blobs.free_bytes() < core.config.store.minimum_free:
                raise Refusal("full", FULL)
            document_id, descriptor = intake.spares.take(now)
        except StorageFull as error:
            raise Refusal("full", FULL) from error
    return Upload(document_id=document_id, key=new_key(), descriptor=descriptor, **upload)


async def stage(core: Core, upload: Upload, size: int, sha256: bytes) -> None:
    """Step 1 of a commit: the sealed file is whole, synced and in its place; not yet recorded.

    Raises:
        Refusal: what was written does not fit what was announced, or the disk is full; the upload is gone.
    """
    try:
        await asyncio.to_thread(_publish, core, upload, size, sha256)
    except (Refusal, VaultError) as error:
        await _take_back(core, upload, error)
        raise


def _publish(core: Core, upload: Upload, size: int, sha256: bytes) -> None:
    if len(sha256) != SHA256_SIZE or size < 0:
        raise Refusal("invalid", "The announced size or digest of this file is malformed.")
    with step("receive.publish"):
        written = core.store.blobs.publish(upload.document_id, upload.descriptor)
    upload.staged = True
    if written != sealed_size(size):
        raise Refusal(
            "failed",
            f"This file was not whole: expected {sealed_size(size)} sealed bytes, found {written}.",
        )


async def _take_back(core: Core, upload: Upload, error: Exception) -> None:
    """Nothing of an upload that failed is kept (raises Refusal in place of a full disk)."""
    if isinstance(error, StorageFailed):
        # Whether the row is there is not known now: the next start looks, and keeps or sweeps.
        upload.close()
    elif upload.staged:
        await unstage(core, upload)
    elif isinstance(error, Refusal | StorageFull):
        await discard(core, upload)
    else:
        upload.close()
    if isinstance(error, StorageFull):
        raise Refusal("full", FULL) from error


async def unstage(core: Core, upload: Upload) -> None:
    """Take back a staged upload that could not be recorded."""

    def undo() -> None:
        core.store.blobs.remove(upload.document_id)
        core.store.blobs.discard(upload.document_id)

    upload.close()
    await asyncio.to_thread(undo)
    await _forget(core, upload)


_SAME_BYTES: Final = Prepared(
    select(documents.c.id, documents.c.received_at)
    .where(
        documents.c.client_id == bindparam("client"),
        documents.c.digest_index == bindparam("content"),
        documents.c.state.in_(STORED),
    )
    # An expression, so that the few of these bytes are found and sorted, whatever index has the ids in order.
    .order_by(documents.c.id.concat(""))
    .limit(1)
)


def _same_bytes(tx: Transaction, upload: Upload, index: bytes) -> str | None:
    """The earliest document of the client with these bytes; whoever sent them now is told of it."""
    found = _SAME_BYTES.one_or_none(tx.connection, {"client": upload.client_id, "content": index})
    if found is None:
        return None
    upload.said = (
        f"Received. The same bytes came before, on {found.received_at[:10]}, as document {found.id};"
        " both are kept."
    )
    return str(found.id)


def record(
    core: Core, tx: Transaction, upload: Upload, size: int, sha256: bytes, now: datetime
) -> None:
    """Step 2 of a commit, inside a transaction: row, wrapping, ledger entry (raises Refusal)."""
    content = resends.content_index(core, upload)
    earlier = resends.first(core, tx, upload, content, sha256, now)
    if earlier is not None:
        upload.stored_as = earlier
        core.record(
            tx, "document.sent-again", earlier, upload.submitter or ACTOR_CORE, now,
            client=upload.client_id, channel=upload.channel,
        )  # fmt: skip
        if upload.mail is not None and upload.mail.fetched is not None:
            note_fetched(tx, upload.mail.fetched, earlier, now)
        return
    quotas.require_room(core, tx.connection, upload, size)
    salt = secrets.token_bytes(COMMITMENT_SALT)
    metadata = DocumentMetadata(
        name=upload.name,
        sha256=sha256,
        salt=salt,
        path=upload.path,
        sender=upload.sender,
        facts=upload.facts,
    )
    custody = core.store.custody
    keyed = custody.admit(
        tx.connection,
        upload.document_id,
        upload.client_id,
        upload.key,
        metadata,
        now,
        sender=upload.submitter or upload.sender,
    )
    if upload.lane is not None:  # a part goes in the turn of what it came out of
        keyed["lane"] = upload.lane
    columns = {
        **keyed,
        "same_as": _same_bytes(tx, upload, keyed["digest_index"]),
        "folder_id": upload.folder_id,
        "size": size,
        "received_at": stamp(core.received_time(now)),
        "reason": "",
        "next_attempt_at": stamp(now),
    }
    if upload.mail is not None and upload.mail.proof in UNDECIDED:
        # Nobody opens it before it is known whose it is (`inspection.proving`).
        columns |= {"reason": SENDER_WAITING, "next_attempt_at": None}
    if upload.resumed:
        change_state(tx.connection, [upload.document_id], Event.COMPLETE, stamp(now), **columns)
    else:
        insert_row(tx, upload, DocumentState.RECEIVED, now, columns)
    custody.remember(tx.connection, upload.document_id, keyed["group_id"], now)
    if upload.mail is not None:
        known = resends.indexes(core, tx, upload, upload.mail, content)
        _note_message(tx, upload, upload.mail, known, now)
        if upload.mail.fetched is not None:
            note_fetched(tx, upload.mail.fetched, upload.document_id, now)
    core.record(
        tx,
        "document.received",
        upload.document_id,
        upload.submitter or ACTOR_CORE,
        now,
        client=upload.client_id,
        channel=upload.channel,
        size=size,
        parent=upload.parent_id,
        commitment=metadata.commitment,
    )


_MESSAGE: Final = Prepared(
    insert(messages).values(
        {
            name: bindparam(name)
            for name in (
                "document_id",
                "client_id",
                "message_id_index",
                "content_index",
                "same_id_as",
                "proof",
                "proven_at",
                "attempts",
                "due_at",
            )
        }
    )
)


def note_fetched(
    tx: Transaction, fetched: Fetched, document_id: str | None, now: datetime, reason: str = ""
) -> None:
    """Write down what was decided about a message of a mailbox, inside the transaction that decides it."""
    decided = {"document_id": document_id, "reason": reason, "decided_at": stamp(now)}
    tx.connection.execute(
        upsert(mailbox_messages)
        .values(
            mailbox=fetched.mailbox,
            uidvalidity=fetched.uidvalidity,
            uid=fetched.uid,
            **decided,
        )
        .on_conflict_do_update(
            index_elements=["mailbox", "uidvalidity", "uid"],
            set_=decided,
            where=mailbox_messages.c.document_id.is_(None),  # what is stored stays stored
        )
    )


def _note_message(
    tx: Transaction, upload: Upload, mail: Mail, known: resends.Indexes, now: datetime
) -> None:
    _MESSAGE.execute(
        tx.connection,
        {
            "document_id": upload.document_id,
            "client_id": upload.client_id,
            "message_id_index": known.message_id,
            "content_index": known.content,
            "same_id_as": known.same_id_as,
            "proof": str(mail.proof),
            "proven_at": stamp(now) if mail.proof in PROVEN else None,
            "attempts": 0,
            "due_at": stamp(now) if mail.proof in UNDECIDED else None,
        },
    )


def insert_row(
    tx: Transaction,
    upload: Upload,
    state: DocumentState,
    now: datetime,
    columns: dict[str, Any],
) -> None:
    """Write the row of a new document inside a transaction."""
    add(
        tx.connection,
        state,
        stamp(now),
        {
            "id": upload.document_id,
            "client_id": upload.client_id,
            "parent_id": upload.parent_id,
            "folder_id": upload.folder_id,
            "channel": upload.channel,
            "submitter": upload.submitter,
            "depth": upload.depth,
            "attempts": 0,
            "confidence": 0.0,
            "confirmed": False,
            "restricted": False,
            **columns,
        },
    )


def commit(intake: Intake, upload: Upload, size: int, sha256: bytes) -> Future[None]:
    """Make an upload durable; once the future has its result, it may be acknowledged.

    A callback of the future runs on the thread that made it durable, so that an acknowledgement can leave
    from there. Called on the loop.

    Raises (in the future):
        Refusal: nothing was kept. VaultError: the store has failed; nothing was acknowledged.
    """
    core = intake.core
    now = core.now()
    loop, on = asyncio.get_running_loop(), threading.get_ident()
    answer: Future[None] = Future()

    def ready() -> None:
        _publish(core, upload, size, sha256)
        told("receive.record", "before")

    def work(tx: Transaction) -> None:
        record(core, tx, upload, size, sha256, now)

    def forget() -> None:
        if upload.stored_as:
            drop_resent(core, upload)
        else:
            forget_spooled(core, upload.document_id)

    def over(done: Future[None]) -> None:
        error = done.exception()
        if error is not None:
            loop.call_soon_threadsafe(_fail, intake, upload, error, answer)
            return
        # COMMIT POINT: from here on nothing may fail, for whatever fails takes the file back.
        told("receive.record", "after")
        if threading.get_ident() == on:
            _recorded(intake, upload)
        else:
            loop.call_soon_threadsafe(_recorded, intake, upload)
        answer.set_result(None)

    catalogue = core.store.catalogue
    if size <= SMALL:
        catalogue.submit(work, here=True, ready=ready, after=forget).add_done_callback(over)
        if not intake.flushing:
            # At the end of this turn of the loop, with whatever else it brings.
            intake.flushing = True
            loop.call_soon(_flush, intake)
    else:
        # Whoever syncs much keeps nobody else's transaction waiting.
        def large() -> None:
            ready()
            catalogue.submit(work, after=forget).result()

        intake.committing.submit(large).add_done_callback(over)
    return answer


def _flush(intake: Intake) -> None:
    intake.flushing = False
    intake.core.store.catalogue.run_here()


def _fail(intake: Intake, upload: Upload, error: BaseException, answer: Future[None]) -> None:
    intake.later(_failed(intake.core, upload, error, answer))


def _recorded(intake: Intake, upload: Upload) -> None:
    upload.close()
    if upload.mail is not None and upload.mail.proof in UNDECIDED:
        intake.unproven.set()
    intake.acknowledged()


async def _failed(core: Core, upload: Upload, error: BaseException, answer: Future[None]) -> None:
    """Take back an upload that was not recorded, then say so."""
    try:
        if isinstance(error, Exception):
            await _take_back(core, upload, error)
    except Exception as instead:  # noqa: BLE001  it is whoever waits that hears of it
        error = instead
    answer.set_exception(error)


async def settle(core: Core, upload: Upload) -> None:
    """Step 3 of a commit: the spool forgets the file."""
    upload.close()
    await asyncio.to_thread(forget_spooled, core, upload.document_id)


def forget_spooled(core: Core, document_id: str) -> None:
    """Drop the spooled name of a recorded document; if that fails, the next start does it."""
    try:
        core.store.blobs.settle(document_id)
    except VaultError as error:
        log.error("spooled name stays until the next start", document=document_id, error=str(error))


def drop_resent(core: Core, upload: Upload) -> None:
    """Drop the file of a message that was stored before; if that fails, the next start does it."""
    try:
        core.store.blobs.remove(upload.document_id)
        core.store.blobs.discard(upload.document_id)
    except VaultError as error:
        log.error(
            "file of a resent message stays until the next start",
            document=upload.document_id, error=str(error),
        )  # fmt: skip


async def discard(core: Core, upload: Upload) -> None:
    """Drop an upload, its bytes, and the row that a resumed one has."""
    upload.close()
    await asyncio.to_thread(core.store.blobs.discard, upload.document_id)
    await _forget(core, upload)


async def _forget(core: Core, upload: Upload) -> None:
    if not upload.resumed:
        return
    try:
        await core.write(functools.partial(expire_one, core, upload.document_id, core.now()))
    except StorageFull:
        # It has no file any more, so that nobody can continue it; its time will end it.
        log.warning("partial upload not ended: no room", document=upload.document_id)


def expire_one(core: Core, document_id: str, now: datetime, tx: Transaction) -> None:
    """`expire` as a work of its own."""
    expire(core, tx, document_id, now)


def expire(
    core: Core,
    tx: Transaction,
    document_id: str,
    now: datetime,
    actor: str = ACTOR_CORE,
    **facts: str,
) -> None:
    """End a PARTIAL document, inside a transaction: its row keeps neither key nor name."""
    changed = change_state(
        tx.connection,
        [document_id],
        Event.EXPIRE,
        stamp(now),
        where_possible=True,  # it was completed or ended meanwhile
        group_id=None,
        wrapped_key=None,
        sealed_metadata=None,
        name_index=None,
    )
    if changed:
        core.record(tx, "document.expired", document_id, actor, now, **facts)
