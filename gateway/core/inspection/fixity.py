"""Fixity: reading stored documents whole and comparing them with what was received.

Promises: a document counts as read only if every byte of it was decrypted and hashed. `daily` reads a
share of the store each day, in the order of the documents' ids and on from where the last run stopped, so
that after 1 / share days each one was read; what it saw is recorded (`fixity_runs`, and an entry of the
ledger). While the gateway serves, inspectors do the reading: this process carries no bytes of a document.

Leaves out: everything that can be checked without reading documents (`vault.check.store`).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, insert, select

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.inspection.claims import InspectionQueue
from gateway.core.reading import NoReader, NotRead, Reader
from vault.catalogue.schema import documents, fixity_runs
from vault.catalogue.states import STORED
from vault.catalogue.store import Transaction
from vault.check.store import RESTORE, Finding, put_back
from vault.crypto.sealed import SealedReader, document_context
from vault.errors import VaultError
from vault.ids import new_id
from vault.moments import stamp

PAGE: Final = 200
READERS_AT_ONCE: Final = 4
DAY: Final = timedelta(days=1)


@dataclass
class Reading:
    """What was read: documents and bytes, the last document in order, and the findings."""

    documents: int = 0
    size: int = 0
    upto: str = ""
    findings: list[Finding] = field(default_factory=list)
    interrupted: bool = False
    """Documents were not read although nothing is wrong with them: nobody was there to read them."""


async def read_everything(core: Core, queue: InspectionQueue | None) -> Reading:
    """Read every stored document; without a `queue` (no gateway runs), in this process.

    Ends with one finding about it where no inspector is there to read.
    """
    reader = reader_of(core, queue)
    reading = Reading()
    # A page that nobody was there to read comes again: without inspectors this would never end.
    while not reading.interrupted and (
        rows := await core.read(lambda c: _page(c, reading.upto, PAGE))
    ):
        await _read(core, reader, rows, reading)
    return reading


async def daily(core: Core, queue: InspectionQueue) -> Reading | None:
    """Read the day's share, unless it was read less than a day ago.

    Returns:
        What was read, or None: not due, or the share is 0.
    """
    share = core.config.fixity.share_per_day
    now = core.now()
    last = await core.read(_newest)
    if not share or (last and datetime.fromisoformat(last.started_at) > now - DAY):
        return None
    stored = await core.read(_stored)
    due = math.ceil(stored * share)
    reading = Reading(upto=last.upto if last else "")
    left = due
    while left > 0 and not reading.interrupted:
        few = min(left, PAGE)
        rows = await core.read(lambda c, few=few: _page(c, reading.upto, few))  # type: ignore[misc]
        if not rows:
            if not reading.upto:
                break
            reading.upto = ""  # round once more, from the beginning
            continue
        left -= len(rows)
        await _read(core, queue.fixity, rows, reading)
    if reading.interrupted and not reading.documents:
        # Nobody was there to read: not this day's run. The job comes again in minutes.
        log.error("fixity: nothing read", reason="no inspector asked for work")
        return reading
    await core.write(lambda tx: _record(core, tx, reading, now), background=True)
    for finding in reading.findings:
        log.critical("fixity", subject=finding.subject, problem=finding.problem)
    return reading


def _record(core: Core, tx: Transaction, reading: Reading, started: datetime) -> None:
    tx.connection.execute(
        insert(fixity_runs),
        {
            "id": new_id(started),
            "started_at": stamp(started),
            "finished_at": stamp(core.now()),
            "upto": reading.upto,
            "documents_read": reading.documents,
            "bytes_read": reading.size,
            "findings": msgspec.json.encode([asdict(each) for each in reading.findings]).decode(),
        },
    )
    core.record(
        tx, "store.fixity", "store", ACTOR_CORE, started,
        documents=reading.documents, findings=len(reading.findings),
    )  # fmt: skip


def last_run(connection: Connection) -> dict[str, Any] | None:
    """The newest run in words of `strongroom status`; None: there was none yet."""
    row = _newest(connection)
    if row is None:
        return None
    return {
        "at": row.started_at,
        "documents": row.documents_read,
        "bytes": row.bytes_read,
        "findings": msgspec.json.decode(row.findings),
    }


def _newest(connection: Connection) -> Row[Any] | None:
    return connection.execute(
        select(fixity_runs).order_by(fixity_runs.c.id.desc()).limit(1)
    ).one_or_none()


def _stored(connection: Connection) -> int:
    return connection.execute(
        select(func.count()).select_from(documents).where(documents.c.state.in_(STORED))
    ).scalar_one()


def _page(connection: Connection, after: str, count: int) -> Sequence[Row[Any]]:
    return connection.execute(
        select(documents)
        .where(documents.c.id > after, documents.c.state.in_(STORED))
        .order_by(documents.c.id)
        .limit(count)
    ).all()


async def _read(core: Core, reader: Reader, rows: Sequence[Row[Any]], reading: Reading) -> None:
    """Read a page of documents, a few at a time; what is wrong goes into `reading`."""
    gate = asyncio.Semaphore(READERS_AT_ONCE)

    async def one(row: Row[Any]) -> None:
        async with gate:
            if reading.interrupted:
                return
            try:
                whole = await reader(row)
            except NoReader as error:
                reading.interrupted = True
                reading.findings.append(
                    Finding(
                        f"document {row.id}",
                        str(error),
                        "start the inspectors (`strongroom inspect`)",
                    )
                )
                return
            except NotRead as error:
                # Its reader went away: a finding of its own, and the others are read all the same.
                reading.findings.append(
                    Finding(
                        f"document {row.id}", str(error), "run `strongroom check --read-data` again"
                    )
                )
                return
            except VaultError as error:
                if await _destroyed_meanwhile(core, row.id):
                    return
                action = await core.read(partial(_action, core, row))
                reading.findings.append(Finding(f"document {row.id}", str(error), action))
                return
            reading.documents += 1
            reading.size += row.size
            if not whole:
                reading.findings.append(
                    Finding(
                        f"document {row.id}",
                        "expected the bytes that were received, found others",
                        await core.read(partial(_action, core, row)),
                    )
                )

    await asyncio.gather(*(one(row) for row in rows))
    if not reading.interrupted:
        reading.upto = rows[-1].id


def _action(core: Core, row: Row[Any], connection: Connection) -> str:
    """What to do about a document that can't be read whole: restore its file, if its key opens."""
    try:
        core.store.custody.open_metadata(row)
    except VaultError:
        return RESTORE
    return put_back(connection, row.id)


async def _destroyed_meanwhile(core: Core, document_id: str) -> bool:
    """Whether a document that did not open was destroyed after the page was read."""
    state = await core.read(
        lambda c: c.execute(select(documents.c.state).where(documents.c.id == document_id)).scalar()
    )
    return state not in STORED


def reader_of(core: Core, queue: InspectionQueue | None) -> Reader:
    """The reader of documents: the inspectors of `queue`; None: no gateway runs, so this process reads."""
    return partial(_read_here, core) if queue is None else queue.fixity


async def _read_here(core: Core, row: Row[Any], descriptor: int | None = None) -> bool:
    """As `Reader`, in this process: only where no core runs, at the administrator's own command."""
    return await asyncio.to_thread(_read_sealed, core, row, descriptor)


def _read_sealed(core: Core, row: Row[Any], descriptor: int | None) -> bool:
    custody = core.store.custody
    metadata = custody.open_metadata(row)
    key, context = custody.document_key(row), document_context(row.id)
    opened = core.store.blobs.open(row.id) if descriptor is None else os.dup(descriptor)
    try:
        with SealedReader(opened, key, context) as reader:
            digest = hashlib.sha256()
            size = 0
            while data := reader.read(1 << 20):
                digest.update(data)
                size += len(data)
    finally:
        os.close(opened)
    return size == row.size and digest.digest() == metadata.sha256
