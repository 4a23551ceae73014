"""Copying sealed files to a backup's target: each once, and what is not needed there any more goes.

Promises: a file counts as copied once the courier has put all of it, and its row, with the SHA-256 of its
sealed bytes, is durable; a crash in between copies it again. A listing decides what is there, not a memory of
it. Leaves out reading back what is there (`gateway.core.outbound.backup.proof`).
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec
from sqlalchemy import Select, delete, insert, select

from gateway.core.core import log
from gateway.core.outbound.backup.target import listing
from gateway.core.outbound.outbound import Outbound
from vault.backup import format as backup_format
from vault.catalogue.schema import backup_blobs, documents
from vault.catalogue.states import STORED
from vault.catalogue.store import Transaction
from vault.errors import BlobMissing, PlaceError
from vault.moments import stamp

AT_ONCE: Final = 4  # sealed files under way at the same time
PAGE: Final = 200


class Copied(msgspec.Struct):
    """How much was copied, and the documents whose sealed file is not in the store."""

    blobs: int = 0
    size: int = 0
    missing: set[str] = msgspec.field(default_factory=set)

    def __iadd__(self, other: Copied) -> Self:
        self.blobs += other.blobs
        self.size += other.size
        self.missing |= other.missing
        return self


async def copy_missing(outbound: Outbound, target: str) -> Copied:
    """Copy every stored document's sealed file that the target lacks, page by page."""
    done = Copied()
    last = ""
    while ids := await outbound.core.read(
        lambda c, after=last: list(c.execute(lacking(target, after)).scalars())  # type: ignore[misc]
    ):
        done += await copy(outbound, target, ids)
        last = ids[-1]
    return done


def lacking(target: str, after: str) -> Select[str]:
    """A page of stored documents behind `after` whose sealed file the target is not known to hold."""
    there = (
        select(backup_blobs.c.document_id)
        .where(backup_blobs.c.target == target, backup_blobs.c.document_id == documents.c.id)
        .exists()
    )
    return (
        select(documents.c.id)
        .where(documents.c.id > after, documents.c.state.in_(STORED), ~there)
        .order_by(documents.c.id)
        .limit(PAGE)
    )


async def copy(outbound: Outbound, target: str, ids: Sequence[str]) -> Copied:
    """Copy some sealed files and record them; raises PlaceError (in a group) if one can't be."""
    core = outbound.core
    gate = asyncio.Semaphore(AT_ONCE)
    rows: list[dict[str, Any]] = []
    done = Copied()

    async def one(document_id: str) -> None:
        async with gate:
            try:
                descriptor = await asyncio.to_thread(core.store.blobs.open, document_id)
            except BlobMissing:
                done.missing.add(document_id)  # destroyed meanwhile, or for `check` to report
                return
            try:
                report = await outbound.transfers.transfer(
                    target, "put", backup_format.blob_name(document_id), descriptor, bulk=True
                )
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if report.size != size:
                raise PlaceError(
                    f"document {document_id}: expected {size} bytes put, found {report.size}"
                )
            rows.append(
                {
                    "target": target,
                    "document_id": document_id,
                    "size": size,
                    "sha256": report.sha256,
                    "stored_at": stamp(core.now()),
                }
            )
            done.blobs += 1
            done.size += size

    async with asyncio.TaskGroup() as group:
        for document_id in ids:
            group.create_task(one(document_id))
    if rows:
        # What was destroyed while it was copied is recorded too: the next listing removes it.
        await core.write(
            lambda tx: tx.connection.execute(insert(backup_blobs).prefix_with("OR REPLACE"), rows)
        )
    return done


async def reconcile(outbound: Outbound, target: str) -> None:
    """Compare a listing of the target with what it should hold; forget what is not there, whole.

    What belongs to no stored document is removed: it was destroyed, or copied by a run that died.
    """
    core = outbound.core
    there = await listing(outbound, target, backup_format.BLOBS)
    try:
        # 1. Recorded and not there (or of another size): to be copied again.
        last = ""
        while True:
            rows = await core.read(
                lambda c, after=last: c.execute(  # type: ignore[misc]
                    select(backup_blobs.c.document_id, backup_blobs.c.size)
                    .where(backup_blobs.c.target == target, backup_blobs.c.document_id > after)
                    .order_by(backup_blobs.c.document_id)
                    .limit(1000)
                ).all()
            )
            if not rows:
                break
            last = rows[-1].document_id
            lost = [
                row.document_id
                for row in rows
                if there.size(backup_format.blob_name(row.document_id)) != row.size
            ]
            if lost:
                log.warning("sealed files missing at target", target=target, files=len(lost))
                await core.write(lambda tx, which=lost: _forget(tx, target, which), background=True)  # type: ignore[misc]
        # 2. There and of no stored document.
        names = there.names()
        while page := list(itertools.islice(names, 500)):
            ids = {name.rpartition("/")[2]: name for name in page}
            living = set(
                await core.read(
                    lambda c, which=ids: c.execute(  # type: ignore[misc]
                        select(documents.c.id).where(
                            documents.c.id.in_(list(which)), documents.c.state.in_(STORED)
                        )
                    ).scalars()
                )
            )
            gone = [document_id for document_id in ids if document_id not in living]
            for document_id in gone:
                await outbound.transfers.transfer(target, "remove", ids[document_id])
            if gone:
                await core.write(lambda tx, which=gone: _forget(tx, target, which), background=True)  # type: ignore[misc]
    finally:
        there.close()


def _forget(tx: Transaction, target: str, ids: Sequence[str]) -> None:
    tx.connection.execute(
        delete(backup_blobs).where(
            backup_blobs.c.target == target, backup_blobs.c.document_id.in_(list(ids))
        )
    )
