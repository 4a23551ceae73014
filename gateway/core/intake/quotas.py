"""Quotas: how much one client may have stored, and how much room that leaves for the next document.

What counts is what takes room: documents that live, uploads that wait to be continued, and what is being
written now. Parts taken out of mails and archives count and are never refused: they come out of what was
accepted. The count is kept by triggers on the catalogue (migration 0004): reading it takes 10 µs whatever is
stored, and a change of a row about 15 µs more, where a sum over an index of 100,000 documents takes 11 ms
(measured). `findings` verifies it.

Refused is: where the size is known when a document is begun, there (`allow`); else the door stops at `room`;
and in the transaction that makes it durable, finally (`check`). Two uploads that begin at once may both be
given the same room: whoever comes second is refused at the end, and nothing of it is kept.

Leaves out: the least free space of the disk (`receive.begin` before, `gateway.process.free_space` while bytes
arrive).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select

from gateway.core.core import Core
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.errors import Refusal
from vault.catalogue.prepared import Prepared
from vault.catalogue.schema import clients, documents, usage
from vault.catalogue.states import KEPT, ClientState, DocumentState
from vault.catalogue.store import Transaction
from vault.check.store import Finding

MORE: Final = "ask your accountant for more"


@dataclass(frozen=True)
class Quota:
    """What a client may have: bytes in all, documents, bytes of one document. 0: no limit."""

    bytes: int
    files: int
    file_size: int


@dataclass(frozen=True)
class Standing:
    """A client's quota and what it keeps; `state` is the client's."""

    state: str
    quota: Quota
    bytes: int
    files: int


@dataclass(frozen=True)
class Allowance:
    """What a document may have: `room` bytes (None: as many as the door takes), and why no more."""

    room: int | None
    sentence: str = ""
    limited: bool = False  # whether its client has a quota at all


_STANDING: Final = Prepared(
    select(
        clients.c.state,
        clients.c.quota_bytes,
        clients.c.quota_files,
        clients.c.quota_file_size,
        func.coalesce(usage.c.bytes, 0).label("bytes"),
        func.coalesce(usage.c.files, 0).label("files"),
    )
    .select_from(clients)
    .outerjoin(usage, usage.c.client_id == clients.c.id)
    .where(clients.c.id == bindparam("client"))
)


def quota_of(core: Core, row: Any) -> Quota:
    """The quota of a client row: its own, else as configured."""
    configured = core.config.quota
    return Quota(
        configured.bytes if row.quota_bytes is None else row.quota_bytes,
        configured.files if row.quota_files is None else row.quota_files,
        row.quota_file_size or 0,
    )


def standing(core: Core, connection: Connection, client_id: str) -> Standing:
    """How a client stands (one indexed query; a client that is not there counts as closed)."""
    row = _STANDING.one_or_none(connection, {"client": client_id})
    if row is None:
        return Standing("closed", Quota(0, 0, 0), 0, 0)
    return Standing(row.state, quota_of(core, row), row.bytes, row.files)


# ── before: what is being written counts too ──


def enter(intake: Intake, upload: Upload) -> None:
    """Count an upload as being written until it is released."""
    mine = intake.receiving.setdefault(upload.client_id, {})
    mine[upload.document_id] = upload
    former = upload.release

    def release() -> None:
        former()
        mine.pop(upload.document_id, None)

    upload.release = release


@dataclass(frozen=True)
class UnderWay:
    """The uploads of a client that are open: their ids, and the bytes written so far."""

    documents: tuple[str, ...]
    bytes: int


def under_way(intake: Intake, client_id: str) -> UnderWay:
    """What is being written for a client (on the loop, where uploads are closed)."""
    uploads = intake.receiving.get(client_id, {})
    written = 0
    for upload in uploads.values():
        with contextlib.suppress(OSError):  # closed already, and not released yet
            written += os.fstat(upload.descriptor).st_size
    return UnderWay(tuple(uploads), written)


def kept(core: Core, connection: Connection, client_id: str, open_now: UnderWay) -> Standing:
    """How a client stands with what is being written counted, each upload once."""
    now = standing(core, connection, client_id)
    if not open_now.documents or not (now.quota.bytes or now.quota.files):
        return now
    # Those that were continued, or synced on the way, have a row already.
    rows, row_bytes = connection.execute(
        select(func.count(), func.coalesce(func.sum(documents.c.size), 0)).where(
            documents.c.id.in_(open_now.documents), documents.c.state.in_(KEPT)
        )
    ).one()
    return replace(
        now,
        bytes=now.bytes - row_bytes + open_now.bytes,
        files=now.files - rows + len(open_now.documents),
    )


def allow(
    core: Core, now: Standing, *, size: int | None = None, continued: Row[Any] | None = None
) -> Allowance:
    """The room for a document that is about to begin.

    Args:
        now: as `kept` gives it.
        size: its size in bytes, where the sender told it.
        continued: the partial document whose place it takes.

    Raises:
        Refusal("quota"): there is none, or not enough for `size`. Refusal("full"): the disk has not.
    """
    kept_bytes, kept_files = now.bytes, now.files
    if continued is not None:
        kept_bytes, kept_files = kept_bytes - continued.size, kept_files - 1
    allowance = _allow(now.quota, kept_bytes, kept_files, size)
    if size is not None:
        left = max(0, core.store.blobs.free_bytes() - core.config.store.minimum_free)
        if size > left:
            raise Refusal(
                "full", f"The gateway can take in {left} bytes now, and this file has {size}."
            )
    return allowance


async def admit(intake: Intake, client_id: str, *, size: int | None = None) -> Allowance:
    """`kept` and `allow` in one (raises as `allow`)."""
    core = intake.core
    open_now = under_way(intake, client_id)
    now = await core.read(lambda connection: kept(core, connection, client_id, open_now))
    return allow(core, now, size=size)


def _allow(quota: Quota, kept_bytes: int, kept_files: int, size: int | None) -> Allowance:
    """The decision: quota and what is kept in, room out (raises Refusal)."""
    if quota.files and kept_files >= quota.files:
        raise Refusal("quota", _too_many(quota, kept_files))
    allowance = Allowance(None, limited=bool(quota.files))
    if quota.file_size:
        allowance = Allowance(quota.file_size, _too_large(quota), limited=True)
    if quota.bytes:
        room = max(0, quota.bytes - kept_bytes)
        if allowance.room is None or room < allowance.room:
            allowance = Allowance(room, _too_much(quota, kept_bytes), limited=True)
    if allowance.room is not None and (allowance.room <= 0 or (size or 0) > allowance.room):
        raise Refusal("quota", allowance.sentence)
    return allowance


def _too_many(quota: Quota, files: int) -> str:
    return (
        f"This client may have {quota.files} documents here and has {files}, uploads under way counted;"
        f" nothing of this file was kept: {MORE}."
    )


def _too_large(quota: Quota) -> str:
    return f"A file here may have at most {quota.file_size} bytes; nothing of this one was kept."


def _too_much(quota: Quota, kept: int) -> str:
    return (
        f"This client may have {quota.bytes} bytes here and has {max(0, kept)}, uploads under way counted,"
        f" which leaves {max(0, quota.bytes - kept)}; nothing of this file was kept: {MORE}."
    )


# ── finally: in the transaction that makes a document durable ──


def require_room(core: Core, connection: Connection, upload: Upload, size: int) -> None:
    """Take in nothing for a client that has ended, nor beyond its quota (raises Refusal)."""
    now = standing(core, connection, upload.client_id)
    if now.state != ClientState.OPEN:
        raise Refusal("denied", "This client is closed; nothing is taken in for it any more.")
    if upload.channel == "part":
        return  # it comes out of what was accepted
    replaced = None
    if upload.resumed:
        replaced = connection.execute(
            select(documents.c.size).where(
                documents.c.id == upload.document_id, documents.c.state == DocumentState.PARTIAL
            )
        ).scalar()
    check(now, size, replaced)


def check(now: Standing, size: int, replaced: int | None = None) -> None:
    """Whether a document of `size` bytes still fits.

    Args:
        now: how its client stands in this transaction.
        replaced: size of the row it already has, if it was continued.

    Raises:
        Refusal("quota"): it does not.
    """
    quota = now.quota
    kept_bytes, kept_files = now.bytes, now.files
    if replaced is not None:
        kept_bytes, kept_files = kept_bytes - replaced, kept_files - 1
    if quota.file_size and size > quota.file_size:
        raise Refusal("quota", _too_large(quota))
    if quota.files and kept_files + 1 > quota.files:
        raise Refusal("quota", _too_many(quota, kept_files))
    if quota.bytes and kept_bytes + size > quota.bytes:
        raise Refusal("quota", _too_much(quota, kept_bytes))


# ── oversight ──


_SUMS: Final = (
    select(
        documents.c.client_id,
        func.sum(documents.c.size).label("bytes"),
        func.count().label("files"),
    )
    .where(documents.c.state.in_(KEPT))
    .group_by(documents.c.client_id)
)


def findings(connection: Connection) -> list[Finding]:
    """Clients whose count is not the sum of their rows."""
    right = {row.client_id: (row.bytes, row.files) for row in connection.execute(_SUMS)}
    said = {row.client_id: (row.bytes, row.files) for row in connection.execute(select(usage))}
    return [
        Finding(
            f"usage of client {client_id}",
            f"expected {right.get(client_id, (0, 0))[0]} bytes in {right.get(client_id, (0, 0))[1]}"
            f" documents, found {said.get(client_id, (0, 0))[0]} in {said.get(client_id, (0, 0))[1]}",
            "find out who changed the catalogue; as an officer,"
            " `strongroom check --acknowledge --as NAME --key FILE` counts anew",
        )
        for client_id in sorted({*right, *said})
        if right.get(client_id, (0, 0)) != said.get(client_id, (0, 0))
    ]


def recount(tx: Transaction) -> None:
    """Count all rows anew."""
    tx.connection.execute(delete(usage))
    tx.connection.execute(insert(usage).from_select(["client_id", "bytes", "files"], _SUMS))
