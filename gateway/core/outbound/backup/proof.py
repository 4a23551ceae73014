"""Proving a backup: that what lies at a target is whole, and that it can be restored.

Promises: `verify` reads the backup as a restore would: marker, manifest and its signature, catalogue (it
opens, SQLite finds it whole, its ledger verifies and is a prefix of ours), a listing of every sealed file
with its size, the amendments, which are replayed on the catalogue as a restore does it, whereupon the wrapped
key of every living document is tried, and a sample of the sealed files read back, hashed and, while their
keys live, opened at both ends. Each finding says what is affected. It repairs nothing: the next run copies
what is missing.

Leaves out copies of the keyrings and the root key: they are in no backup, and the keys tried are our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from sqlalchemy import Connection, Row, select, update

from gateway.core.core import Core, log
from gateway.core.outbound import marker
from gateway.core.outbound.backup.copying import AT_ONCE
from gateway.core.outbound.backup.replay import Amendments, replay
from gateway.core.outbound.backup.snapshot import plain_snapshot
from gateway.core.outbound.backup.target import (
    BACKUP,
    Listing,
    listing,
    manifest_of,
    reason_of,
    secret_of,
    target_of,
)
from gateway.core.outbound.files import fetch, scratch
from gateway.core.outbound.outbound import Outbound
from gateway.errors import Refusal
from vault.backup import format as backup
from vault.catalogue.schema import (
    backup_amendments,
    backup_blobs,
    backups,
    documents,
    ledger_nodes,
)
from vault.catalogue.states import STORED
from vault.catalogue.store import Transaction, migrate
from vault.check import ledger as ledger_check
from vault.crypto.sealed import SealedReader, document_context
from vault.errors import IntegrityError, KeyUnavailable, PlaceError, PlaceMissing, VaultError
from vault.ledger.merkle import Frontier
from vault.ledger.note import Checkpoint, verify_note
from vault.moments import stamp

FINDINGS: Final = 1000  # findings that are listed; more are counted
ROUNDS: Final = 3  # amendments that were delivered while others were fetched are fetched as well
_PAGE: Final = 500


class Proof(msgspec.Struct):
    """What a verification saw."""

    backup: str
    target: str
    documents: int = 0
    amendments: int = 0
    sampled: int = 0
    opened: int = 0
    found: int = 0
    findings: list[dict[str, str]] = []

    def add(self, subject: str, problem: str) -> None:
        """Note a finding."""
        self.found += 1
        if len(self.findings) < FINDINGS:
            self.findings.append({"subject": subject, "problem": problem})


async def verify(
    outbound: Outbound, name: str, actor: str, backup_id: str = "", sample: float | None = None
) -> Proof:
    """Verify a backup; recorded, with a ledger entry.

    Args:
        name: the target's.
        backup_id: which; "": the newest that has a manifest.
        sample: per cent of the sealed files to read back; None: as configured.

    Raises:
        Refusal: the target can't be reached, or has no such backup.
    """
    core = outbound.core
    target = target_of(core, name)
    share = core.config.backup.verify_percent if sample is None else sample
    with outbound.in_progress.claim(BACKUP, target.name, "verification of the backup at"):
        try:
            proof = await _verify(outbound, target.name, backup_id.upper(), share)
        except PlaceError as error:
            raise Refusal("failed", str(error)) from error

        def record(tx: Transaction) -> None:
            now = core.now()
            if not proof.found:
                tx.connection.execute(
                    update(backups)
                    .where(backups.c.id == proof.backup)
                    .values(verified_at=stamp(now))
                )
            core.record(
                tx,
                "backup.failed" if proof.found else "backup.verified",
                proof.backup or target.name,
                actor,
                now,
                target=target.name,
                sampled=proof.sampled,
                findings=proof.found,
            )

        await core.write(record)
    if proof.found:
        log.error("backup is not whole", target=target.name, findings=proof.found)
    return proof


async def _verify(outbound: Outbound, target: str, backup_id: str, share: float) -> Proof:
    secret = await secret_of(outbound.core)
    proof = Proof(backup_id, target)
    # 1. The marker, and which backup.
    try:
        if not await marker.look(outbound, target, marker.BACKUP):
            proof.add("marker", f"expected {backup.MARKER}, found none")
    except IntegrityError as error:
        proof.add("marker", str(error))
    there = await listing(outbound, target, "")
    try:
        known = backup.backups_in(there.names())
        if not backup_id:
            if not known:
                raise Refusal("not_found", f"target {target}: expected a backup, found none")
            proof.backup = backup_id = known[-1]
        if backup_id not in known:
            raise Refusal("not_found", f"backup {backup_id}: expected it at {target}, found none")
        # 2. The manifest, and the catalogue it vouches for.
        try:
            manifest = await manifest_of(outbound, target, backup_id, secret)
        except IntegrityError as error:
            proof.add(f"manifest {backup_id}", str(error))
        else:
            proof.documents = manifest.documents
            # 3. The amendments, each to its end, and what a restore would make of all that.
            with Amendments(outbound, target, secret) as told:
                tried = await _amendments(outbound, target, there, told, proof)
                await _catalogue(outbound, target, manifest, secret, there, told, tried, proof)
                proof.amendments = len(told.numbers)
    finally:
        there.close()
    # 4. A sample of the sealed files.
    await _sample(outbound, target, share, proof)
    return proof


async def _catalogue(
    outbound: Outbound,
    target: str,
    manifest: backup.Manifest,
    secret: bytes,
    there: Listing,
    told: Amendments,
    tried: set[int],
    proof: Proof,
) -> None:
    core = outbound.core
    name = backup.catalogue_name(manifest.backup)
    try:
        file = await fetch(outbound, target, name)
    except PlaceMissing as error:
        proof.add(name, str(error))
        return
    with file:
        for left in reversed(range(ROUNDS)):
            async with outbound.freeze.hold() as frozen:
                # Where keys end, that lock is held: what backups know, and the keyrings, stand still now.
                delivered, waiting = await core.read(lambda c: _told(c, target))
                new = sorted(delivered - tried)
                if not new or not left:
                    for number, since in waiting:
                        proof.add(
                            f"amendment {number}",
                            f"expected it delivered, found that it waits since {since}: what"
                            " ended then can't be restored from this target",
                        )
                    with plain_snapshot(core, frozen, f"proof-{manifest.backup}") as plain:
                        await asyncio.to_thread(
                            _examine, core, file, manifest, secret, there, told, plain, proof
                        )
                    return
            await told.add(new, proof.add)
            tried.update(new)


def _examine(
    core: Core,
    file: IO[bytes],
    manifest: backup.Manifest,
    secret: bytes,
    there: Listing,
    told: Amendments,
    plain: Path,
    proof: Proof,
) -> None:
    """The catalogue of a backup, in numbered steps; stops where nothing behind can hold."""
    subject = f"catalogue {manifest.backup}"
    name = backup.catalogue_name(manifest.backup)
    # 1. Its sealed bytes are those of the manifest, and it opens.
    try:
        backup.open_catalogue(file.fileno(), plain, manifest, secret, name)
    except IntegrityError as error:
        proof.add(subject, str(error))
        return
    # 2. SQLite finds it whole, and this software can read it.
    with contextlib.closing(sqlite3.connect(plain)) as raw:
        answers = [row[0] for row in raw.execute("PRAGMA integrity_check(10)")]
    if answers != ["ok"]:
        proof.add(subject, f"expected a whole database, found: {'; '.join(answers)[:200]}")
        return
    migrate(plain)
    with backup.snapshot_connection(plain) as connection:
        # 3. Its ledger holds, ends at its checkpoint, and is the beginning of ours.
        report = ledger_check.verify(
            connection, manifest.vkey, core.store.origin, (manifest.checkpoint,)
        )
        for finding in report.findings:
            proof.add(subject, finding)
        checkpoint = Checkpoint.parse(verify_note(manifest.checkpoint, manifest.vkey))
        if report.size != manifest.ledger_size or checkpoint.size != manifest.ledger_size:
            proof.add(subject, f"expected {manifest.ledger_size} entries, found {report.size}")
        present = core.store.catalogue.read(lambda c: _root_at(c, checkpoint.size))
        if present != checkpoint.root:
            proof.add(subject, "expected its ledger to be the beginning of the present one")
        # 4. Every stored document in it lies at the target, unless it has been destroyed since.
        _files(core, connection, manifest, there, proof)
    # 5. Restored now, each living document in it would open.
    try:
        replay(core, plain, manifest, told, proof.add)
    except (IntegrityError, KeyUnavailable) as error:
        proof.add(subject, f"expected a restore to go through: {error}")


def _root_at(connection: Connection, size: int) -> bytes | None:
    """The root of our own tree when it had `size` leaves; None if it never had."""

    def node(level: int, index: int) -> bytes:
        return bytes(
            connection.execute(
                select(ledger_nodes.c.hash).where(
                    ledger_nodes.c.level == level, ledger_nodes.c.idx == index
                )
            ).scalar_one()
        )

    newest = connection.execute(
        select(ledger_nodes.c.idx)
        .where(ledger_nodes.c.level == 0)
        .order_by(ledger_nodes.c.idx.desc())
        .limit(1)
    ).scalar()
    if newest is None or size > newest + 1:
        return None
    return Frontier.from_nodes(size, node).root()


def _files(
    core: Core, snapshot: Connection, manifest: backup.Manifest, there: Listing, proof: Proof
) -> None:
    late = {each.document_id: each.size for each in manifest.late}
    last = ""
    while rows := snapshot.execute(
        select(documents.c.id, backup_blobs.c.size)
        .outerjoin(
            backup_blobs,
            (backup_blobs.c.document_id == documents.c.id)
            & (backup_blobs.c.target == manifest.target),
        )
        .where(documents.c.id > last, documents.c.state.in_(STORED))
        .order_by(documents.c.id)
        .limit(_PAGE)
    ).all():
        last = rows[-1].id
        wrong = {
            row.id: f"expected {_bytes(size)} at the target, found {_bytes(found)}"
            for row in rows
            if (size := row.size if row.size is not None else late.get(row.id))
            != (found := there.size(backup.blob_name(row.id)))
            or found is None
        }
        if not wrong:
            continue
        living = core.store.catalogue.read(
            lambda c, ids=list(wrong): set(  # type: ignore[misc]
                c.execute(
                    select(documents.c.id).where(
                        documents.c.id.in_(ids), documents.c.state.in_(STORED)
                    )
                ).scalars()
            )
        )
        for document_id in sorted(living):
            proof.add(f"document {document_id}", wrong[document_id])


def _bytes(size: int | None) -> str:
    return "nothing" if size is None else f"{size} bytes"


async def _amendments(
    outbound: Outbound, target: str, there: Listing, told: Amendments, proof: Proof
) -> set[int]:
    """Fetch those that are there, and name those that should be; returns all of them."""
    delivered, _ = await outbound.core.read(lambda c: _told(c, target))
    found = sorted(
        number for name in there.names() if (number := backup.amendment_number(name)) is not None
    )
    for number in sorted(delivered.difference(found)):
        proof.add(f"amendment {number}", "expected it at the target, found none")
    await told.add(found, proof.add)
    return delivered.union(found)


def _told(connection: Connection, target: str) -> tuple[set[int], list[tuple[int, str]]]:
    """The numbers of what has been delivered since the oldest backup, and what waits."""
    rows = connection.execute(
        select(
            backup_amendments.c.id,
            backup_amendments.c.created_at,
            backup_amendments.c.delivered_at,
        )
        .where(
            backup_amendments.c.target == target,
            backup_amendments.c.delivered_at.is_(None)
            | (backup_amendments.c.delivered_at >= _oldest_kept(connection, target)),
        )
        .order_by(backup_amendments.c.id)
    ).all()
    return (
        {row.id for row in rows if row.delivered_at is not None},
        [(row.id, row.created_at) for row in rows if row.delivered_at is None],
    )


def _oldest_kept(connection: Connection, target: str) -> str:
    started = connection.execute(
        select(backups.c.started_at)
        .where(backups.c.target == target, backups.c.state == backup.DONE)
        .order_by(backups.c.started_at)
        .limit(1)
    ).scalar()
    return started or ""


# ── sealed files ─────────────────────────────────────────────────────────────────────────────────


async def _sample(outbound: Outbound, target: str, share: float, proof: Proof) -> None:
    """Read some sealed files back: their bytes are those that were put, and they open at both ends."""
    chance = random.SystemRandom()
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(row: Row[Any]) -> None:
        async with gate:
            try:
                problem, opened = await _probe(outbound, target, row)
            except PlaceMissing as error:
                problem, opened = str(error), False
        proof.sampled += 1
        proof.opened += opened
        if problem:
            proof.add(f"document {row.id}", problem)

    last = ""
    while rows := await outbound.core.read(
        lambda c, after=last: c.execute(  # type: ignore[misc]
            select(documents, backup_blobs.c.size.label("sealed_size"), backup_blobs.c.sha256)
            .join(backup_blobs, backup_blobs.c.document_id == documents.c.id)
            .where(
                backup_blobs.c.target == target,
                backup_blobs.c.document_id > after,
                documents.c.state.in_(STORED),
            )
            .order_by(backup_blobs.c.document_id)
            .limit(_PAGE)
        ).all()
    ):
        last = rows[-1].id
        try:
            async with asyncio.TaskGroup() as group:
                for row in rows:
                    if share >= 100 or chance.random() * 100 < share:
                        group.create_task(one(row))
        except ExceptionGroup as errors:
            raise PlaceError(reason_of(errors)) from errors


async def _probe(outbound: Outbound, target: str, row: Row[Any]) -> tuple[str, bool]:
    """What is wrong with one file ("": nothing), and whether it was opened."""
    core = outbound.core
    with scratch(core) as file:
        report = await outbound.transfers.transfer(
            target, "probe", backup.blob_name(row.id), file.fileno(), bulk=True
        )
        if (report.size, report.sha256) != (row.sealed_size, bytes(row.sha256)):
            return "expected the sealed bytes that were put there, found others", False
        try:
            key = core.store.custody.document_key(row)
        except KeyUnavailable:
            return "", False  # destroyed since the page was read
        try:
            await asyncio.to_thread(_open_ends, file.fileno(), key, row.id)
        except VaultError as error:
            return f"expected it to open: {error}", False
    return "", True


def _open_ends(fd: int, key: bytes, document_id: str) -> None:
    # Opening authenticates the last chunk and the size; nothing that was read is looked at.
    with SealedReader(fd, key, document_context(document_id)) as reader:
        reader.read_at(0, 1)
