"""Certificates: what was seen after a destruction, bound to the ledger, printed and signed.

Promises: the claim level follows from the searches (`searches`) and from the state of every known copy, never
from a setting. The body is bound to the ledger before it is printed, so that a crash in between issues the
same certificate and no second one. When the last copy has caught up or expired, or a medium was sanitised, a
follow-up certificate says so; the first one stays as it is.
Leaves out: what a certificate states (`certificate_body`), and its form (`vault.certificate`).
"""

from __future__ import annotations

import asyncio
import base64
import functools
import math
import time
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, exists, select
from sqlalchemy.dialects.sqlite import insert

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.disposal import certificate_body, searches
from gateway.core.disposal.batch import Batch, as_it_is, load, remember, set_state
from gateway.core.disposal.disposal import Disposal
from vault.catalogue import ledger
from vault.catalogue.schema import (
    batches,
    certificates,
)
from vault.catalogue.states import BatchState
from vault.catalogue.store import Transaction
from vault.certificate.model import (
    BACKUP_UNREADABLE,
    CERTIFIED,
    DIGEST_FIELD,
    FORMAT,
    Body,
    Certificate,
    Check,
    LedgerProof,
    canonical,
    certificate_to_json,
    digest,
)
from vault.certificate.pdf.render_process import language_of, print_certificate
from vault.certificate.signing import SigningIdentity
from vault.keys import copies as keyring_copies
from vault.keys.open_keyrings import HOUSE
from vault.moments import stamp

SECRET_SIGNING: Final = "certificate-signing"  # noqa: S105  the name of a secret, not one
BACKUP_RETRY: Final = 3600.0  # seconds before backups are looked into again for one batch
SIGNING_MARGIN: Final = timedelta(days=180)  # a signer is replaced this long before it expires
COPY_PATIENCE: Final = 5.0  # seconds to wait for reachable keyring copies before certifying


async def await_copies(core: Core, owner: str) -> None:
    """Give reachable copies of the keyring a moment to follow, so that the claim can include them."""
    deadline = asyncio.get_running_loop().time() + COPY_PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        if not await core.read(lambda connection: keyring_copies.behind(connection, owner)):
            return
        await asyncio.sleep(0.2)


async def issue(disposal: Disposal, batch: Batch, checks: tuple[Check, ...]) -> str:
    """Certify a batch that was executed; safe to repeat, and the same certificate each time."""
    core = disposal.core

    def bind(tx: Transaction) -> Batch:
        now = as_it_is(tx.connection, batch)
        if now.progress.certified >= 0:
            return now
        body = certificate_body.first(core, tx.connection, now, checks, core.now())
        return _bind(core, tx, now, body)

    return await _publish(disposal, await core.write(bind))


def _bind(core: Core, tx: Transaction, batch: Batch, body: Body) -> Batch:
    """COMMIT POINT of a certificate: the ledger holds its digest, under a checkpoint."""
    certified = core.record(
        tx, CERTIFIED, batch.id, ACTOR_CORE, body.issued_at,
        **{DIGEST_FIELD: digest(body), "level": body.claim.level},
    )  # fmt: skip
    bound = base64.b64encode(canonical(body)).decode()
    batch = remember(tx, batch, certified=certified, body=bound)
    tx.ledger.sign_checkpoint(
        tx.connection, core.store.origin, core.store.ledger_key, body.issued_at
    )
    return batch


async def _publish(disposal: Disposal, batch: Batch) -> str:
    """Assemble, print and store the certificate whose body is bound; safe to repeat."""
    core, progress = disposal.core, batch.progress

    def assemble(connection: Connection) -> Certificate:
        proof, vkey = ledger.proof_of(connection, progress.certified, core.store.vkeys)
        return Certificate(
            format=FORMAT,
            body=progress.certificate,
            ledger=LedgerProof(
                origin=core.store.origin,
                vkey=vkey,
                entry=ledger.entry(connection, progress.certified),
                proof=proof,
            ),
        )

    certificate = await core.read(assemble)
    body = certificate.body
    document = certificate_to_json(certificate)
    identity = await signing_identity(disposal)
    printed = await asyncio.to_thread(
        print_certificate, certificate, language_of(progress.language), identity
    )

    def store(tx: Transaction) -> None:
        tx.connection.execute(
            insert(certificates).on_conflict_do_nothing(),
            {
                "id": body.certificate_id,
                "batch_id": batch.id,
                "client_id": batch.client_id,
                "issued_at": stamp(body.issued_at),
                "level": body.claim.level,
                "follows": body.follows,
                "document": document,
                "printed": printed,
            },
        )
        if batch.state != BatchState.DONE:
            set_state(tx, batch.id, BatchState.DONE, finished_at=stamp(core.now()))

    await core.write(store)
    log.info(
        "disposal certified",
        batch=batch.id,
        certificate=body.certificate_id,
        level=body.claim.level,
    )
    return body.certificate_id


async def signing_identity(disposal: Disposal) -> SigningIdentity:
    """The key and certificate that prints are signed with, made when they are first needed."""
    core = disposal.core
    now = core.now()
    custody = core.store.custody
    present = custody.keyring(HOUSE).secrets.get(SECRET_SIGNING)
    if present is not None:
        identity = SigningIdentity.load(present)
        if identity.certificate.not_valid_after_utc > now + SIGNING_MARGIN:
            return identity
    # Up to a second of arithmetic: not on the writing thread.
    made = await asyncio.to_thread(SigningIdentity.create, core.store.origin, now)

    def keep(tx: Transaction) -> None:
        custody.keyring(HOUSE).secrets[SECRET_SIGNING] = made.encode()
        custody.save(tx.connection, HOUSE, now)
        core.record(
            tx, "signer.made", core.store.origin.rpartition("/")[2], ACTOR_CORE, now,
            fingerprint=made.fingerprint,
        )  # fmt: skip

    await core.write(keep)
    return made


async def follow_up(disposal: Disposal, batch_id: str | None = None) -> list[str]:
    """Certify anew where a claim has risen, or where people have attested something since.

    A claim rises by itself when the last copy has caught up or expired.

    Args:
        batch_id: look at this batch only.

    Returns:
        The ids of the certificates issued.
    """
    if disposal.certifying.locked() and batch_id is None:
        return []
    async with disposal.certifying:
        return await _follow_up(disposal, batch_id)


async def _follow_up(disposal: Disposal, batch_id: str | None) -> list[str]:
    core = disposal.core

    def candidates(connection: Connection) -> list[str]:
        if batch_id is not None:
            wanted = batches.c.id == batch_id
        elif not disposal.followed_up:  # once after a start: what a crash left half stored
            wanted = batches.c.state == BatchState.DONE
        else:
            wanted = batches.c.id.in_(
                select(certificates.c.batch_id).where(certificates.c.level.in_(("L0", "L1")))
            )
        return list(
            connection.execute(
                select(batches.c.id).where(batches.c.state == BatchState.DONE, wanted)
            ).scalars()
        )

    issued = []
    for each in await core.read(candidates):
        batch = await core.read(functools.partial(load, batch_id=each))
        newest = await core.read(functools.partial(newest_of, batch_id=each))
        if newest is None:
            continue
        seen = await _look_again(disposal, batch, newest)
        bound: Batch | None = batch
        if (
            batch.progress.certificate.certificate_id == newest.id
        ):  # none is bound and not stored yet
            bound = await core.write(functools.partial(_raise, core, batch=batch, seen=seen))
        if bound is not None:
            issued.append(await _publish(disposal, bound))
    if batch_id is None:
        disposal.followed_up = True
    return issued


def _raise(core: Core, tx: Transaction, batch: Batch, seen: tuple[Check, ...]) -> Batch | None:
    """Bind a follow-up if there is something new to state."""
    batch = as_it_is(tx.connection, batch)
    body = certificate_body.raised(core, tx.connection, batch, seen, core.now())
    return None if body is None else _bind(core, tx, batch, body)


def newest_of(connection: Connection, batch_id: str) -> Any:
    """Id and level of the newest certificate of a batch, the one that no other follows; or None."""
    later = certificates.alias()
    return connection.execute(
        select(certificates.c.id, certificates.c.level)
        .where(
            certificates.c.batch_id == batch_id,
            ~exists().where(later.c.batch_id == batch_id, later.c.follows == certificates.c.id),
        )
        .order_by(certificates.c.id.desc())
        .limit(1)
    ).one_or_none()


async def _look_again(disposal: Disposal, batch: Batch, newest: Row[Any]) -> tuple[Check, ...]:
    """Look into the backups where that was not possible before; at most hourly for a batch."""
    if newest.level not in {"L0", "L1"}:
        return ()
    outbound, progress = disposal.outbound, batch.progress
    missing = any(
        check.name == BACKUP_UNREADABLE and check.result == "not_checked"
        for check in progress.certificate.checks
    )
    tried = disposal.searched.get(batch.id, -math.inf)
    if not missing or time.monotonic() < tried + BACKUP_RETRY:
        return ()
    disposal.searched[batch.id] = time.monotonic()
    kept = await searches.fetch_backups(outbound, progress.destroyed_at)
    try:
        async with disposal.keys.freeze.hold() as frozen:
            return await searches.look_into_backups(
                outbound,
                frozen,
                batch.client_id,
                list(progress.entries),
                progress.destroyed_at,
                kept,
            )
    finally:
        for each in kept.values():
            each.close()
