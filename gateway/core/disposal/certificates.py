"""Certificates: what was seen after a destruction, bound to the ledger, printed and signed.

The claim level follows from the searches (`verify`) and from the state of every known copy, never from a
setting. The body is bound to the ledger before it is printed, so that a crash in between issues the same
certificate and no second one. When the last copy has caught up or expired, or a medium was sanitised, a
follow-up certificate says so; the first one stays as it is.
"""

from __future__ import annotations

import asyncio
import base64
import math
import time
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, exists, select, update
from sqlalchemy.dialects.sqlite import insert

from gateway.core.core import ACTOR_CORE, Core, log, stamp
from gateway.core.disposal import searches
from gateway.core.disposal.signatures import approvals_of, sanitisations_of, witnesses_of
from gateway.core.keys import rotation
from gateway.core.login import recovery
from gateway.core.outbound.backup import places
from gateway.core.outbound.outbound import Outbound
from vault.catalogue import ledger, queries
from vault.catalogue.schema import (
    accounts,
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
    LEVELS,
    LIMITS,
    Body,
    Certificate,
    Check,
    Copy,
    Executor,
    Gateway,
    LedgerProof,
    Outcome,
    Recovery,
    RegisterEntry,
    canonical,
    certificate_to_json,
    claim_for,
    digest,
    make_claim,
)
from vault.certificate.pdf.render_process import language_of, print_certificate
from vault.certificate.signing import SigningIdentity
from vault.ids import new_id
from vault.keys import copies as keyring_copies
from vault.keys.custody import HOUSE

SECRET_SIGNING: Final = "certificate-signing"  # noqa: S105  the name of a secret, not one
BACKUP_RETRY: Final = 3600.0  # seconds before backups are looked into again for one batch
SIGNING_MARGIN: Final = timedelta(days=180)  # a signer is replaced this long before it expires
COPY_PATIENCE: Final = 5.0  # seconds to wait for reachable keyring copies before certifying

_decode_body = msgspec.json.Decoder(Body).decode


class Progress(msgspec.Struct, forbid_unknown_fields=True):
    """What execution remembers between its steps (`batches.progress`)."""

    groups: list[str] = []
    entries: dict[str, int] = {}
    destroyed_at: str = ""
    body: str = ""  # the certificate's body, once the ledger holds its digest (base64)
    certified: int = -1  # index of that ledger entry
    epoch: int = 0  # of the keyring, the first without these groups; 0: the keyring has ended
    language: str = ""  # the client's: its profile may end with the batch


def progress_of(connection: Connection, batch_id: str) -> Progress:
    text = connection.execute(
        select(batches.c.progress).where(batches.c.id == batch_id)
    ).scalar_one()
    return msgspec.json.decode(text, type=Progress)


def remember(connection: Connection, batch_id: str, progress: Progress) -> None:
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(progress=msgspec.json.encode(progress).decode())
    )


async def await_copies(core: Core, owner: str) -> None:
    """Give reachable copies of the keyring a moment to follow, so that the claim can include them."""
    deadline = asyncio.get_running_loop().time() + COPY_PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        if not await core.read(lambda connection: keyring_copies.behind(connection, owner)):
            return
        await asyncio.sleep(0.2)


async def issue(
    core: Core, batch: Row[Any], register: tuple[RegisterEntry, ...], checks: tuple[Check, ...]
) -> str:
    """Certify a batch that was executed; safe to repeat, and the same certificate each time."""

    def bind(tx: Transaction) -> None:
        progress = progress_of(tx.connection, batch.id)
        if progress.certified < 0:
            body = _body(core, tx.connection, batch, register, progress, checks, core.now())
            _bind(core, tx, batch.id, progress, body)

    await core.write(bind)
    return await _publish(core, batch)


def _bind(core: Core, tx: Transaction, batch_id: str, progress: Progress, body: Body) -> None:
    """COMMIT POINT of a certificate: the ledger holds its digest, under a checkpoint."""
    progress.certified = core.record(
        tx, CERTIFIED, batch_id, ACTOR_CORE, body.issued_at,
        **{DIGEST_FIELD: digest(body), "level": body.claim.level},
    )  # fmt: skip
    progress.body = base64.b64encode(canonical(body)).decode()
    remember(tx.connection, batch_id, progress)
    tx.ledger.sign_checkpoint(
        tx.connection, core.store.origin, core.store.ledger_key, body.issued_at
    )


async def _publish(core: Core, batch: Row[Any]) -> str:
    """Assemble, print and store the certificate whose body is bound; safe to repeat."""

    def assemble(connection: Connection) -> tuple[Certificate, str]:
        progress = progress_of(connection, batch.id)
        proof, vkey = ledger.proof_of(connection, progress.certified, core.store.vkeys)
        certificate = Certificate(
            format=FORMAT,
            body=_decode_body(base64.b64decode(progress.body)),
            ledger=LedgerProof(
                origin=core.store.origin,
                vkey=vkey,
                entry=ledger.entry(connection, progress.certified),
                proof=proof,
            ),
        )
        return certificate, progress.language

    certificate, language = await core.read(assemble)
    body = certificate.body
    document = certificate_to_json(certificate)
    identity = await signing_identity(core)
    printed = await asyncio.to_thread(
        print_certificate, certificate, language_of(language), identity
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
        tx.connection.execute(
            update(batches)
            .where(batches.c.id == batch.id, batches.c.state != BatchState.DONE)
            .values(state=BatchState.DONE, finished_at=stamp(core.now()))
        )

    await core.write(store)
    log.info(
        "disposal certified",
        batch=batch.id,
        certificate=body.certificate_id,
        level=body.claim.level,
    )
    return body.certificate_id


async def signing_identity(core: Core) -> SigningIdentity:
    """The key and certificate that prints are signed with, made when they are first needed."""
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


async def follow_up(core: Core, outbound: Outbound, batch_id: str | None = None) -> list[str]:
    """Certify anew where a claim has risen, or where people have attested something since.

    A claim rises by itself when the last copy has caught up or expired.

    Args:
        batch_id: look at this batch only.

    Returns:
        The ids of the certificates issued.
    """
    if core.certifying.locked() and batch_id is None:
        return []
    async with core.certifying:
        return await _follow_up(core, outbound, batch_id)


async def _follow_up(core: Core, outbound: Outbound, batch_id: str | None) -> list[str]:
    def candidates(connection: Connection) -> list[Row[Any]]:
        if batch_id is not None:
            wanted = batches.c.id == batch_id
        elif not core.followed_up:
            wanted = (
                batches.c.state == BatchState.DONE
            )  # once after a start: what a crash left half stored
        else:
            wanted = batches.c.id.in_(
                select(certificates.c.batch_id).where(certificates.c.level.in_(("L0", "L1")))
            )
        return list(
            connection.execute(
                select(batches).where(batches.c.state == BatchState.DONE, wanted)
            ).all()
        )

    issued = []
    for batch in await core.read(candidates):
        newest = await core.read(lambda c, which=batch.id: newest_of(c, which))  # type: ignore[misc]
        if newest is None:
            continue
        unchecked = await _look_again(core, outbound, batch, newest)
        bound = await core.read(lambda c, which=batch.id: progress_of(c, which))  # type: ignore[misc]
        pending = _decode_body(base64.b64decode(bound.body)).certificate_id != newest.id
        if pending or await core.write(
            lambda tx, which=batch, old=newest, seen=unchecked: _raise(core, tx, which, old, seen)  # type: ignore[misc]
        ):
            issued.append(await _publish(core, batch))
    if batch_id is None:
        core.followed_up = True
    return issued


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


async def _look_again(
    core: Core, outbound: Outbound, batch: Row[Any], newest: Row[Any]
) -> tuple[Check, ...]:
    """Look into the backups where that was not possible before; at most hourly for a batch."""
    if newest.level not in {"L0", "L1"}:
        return ()
    progress = await core.read(lambda c: progress_of(c, batch.id))
    body = _decode_body(base64.b64decode(progress.body))
    missing = any(
        check.name == BACKUP_UNREADABLE and check.result == "not_checked" for check in body.checks
    )
    tried = outbound.searched.get(batch.id, -math.inf)
    if not missing or time.monotonic() < tried + BACKUP_RETRY:
        return ()
    outbound.searched[batch.id] = time.monotonic()
    kept = await searches.fetch_backups(outbound, progress.destroyed_at)
    try:
        async with core.keys_lock:
            return await searches.look_into_backups(
                outbound, batch.client_id, list(progress.entries), progress.destroyed_at, kept
            )
    finally:
        for each in kept.values():
            each.close()


def _raise(
    core: Core, tx: Transaction, batch: Row[Any], old: Row[Any], seen: tuple[Check, ...]
) -> bool:
    """Bind a follow-up if copies carry a higher claim now than they did, or someone has attested."""
    now = core.now()
    progress = progress_of(tx.connection, batch.id)
    body = _decode_body(base64.b64decode(progress.body))
    if body.certificate_id != old.id:
        return False
    copies = copies_listed(core, tx.connection, batch.client_id, now, progress.epoch)
    sanitised = sanitisations_of(tx.connection, batch.id)
    witnesses = witnesses_of(tx.connection, batch.id)
    fresh = {check.name: check for check in seen}
    checks = tuple(fresh.get(check.name, check) for check in body.checks)
    level = claim_for(checks, copies, sanitised)
    risen = LEVELS.index(level) > LEVELS.index(body.claim.level)
    attested = len(witnesses) > len(body.witnesses) or len(sanitised) > len(body.sanitisations)
    if not risen and not attested:
        return False
    # A claim once made stands: what is known of copies now is listed, and never lowers it.
    level = level if risen else body.claim.level
    raised = msgspec.structs.replace(
        body,
        certificate_id=new_id(now),
        follows=body.certificate_id,
        issued_at=now,
        claim=make_claim(level),
        checks=checks if risen else body.checks,
        copies=copies if claim_for(checks, copies, sanitised) == level else body.copies,
        witnesses=witnesses,
        sanitisations=sanitised,
        # What was stated once stays, reviewed or not: a follow-up takes nothing back.
        unreviewed_recovery=recovery_of(tx.connection, now)
        if body.unreviewed_recovery is UNSET
        else body.unreviewed_recovery,
    )
    _bind(core, tx, batch.id, progress, raised)
    return True


def copies_listed(
    core: Core, connection: Connection, client_id: str, now: datetime, epoch: int
) -> tuple[Copy, ...]:
    """Every known copy: of the client's keyring, and of its sealed bytes in backups."""
    erased = None
    if core.store.custody.epochs_left(client_id) is not None:
        # Files from before the token are under a root key that forgets nothing.
        erased = rotation.root_since(connection) or ""
    keyrings = (
        Copy(place=each.place, kind="keyring", state=each.state, expires=each.expires)
        for each in keyring_copies.table(
            connection, client_id, now, epoch=epoch or None, erased_since=erased
        )
    )
    configured = {
        target.name: target.place(core.config.resolve) for target in core.config.backup.targets
    }
    # Sealed bytes and wrapped keys under groups that have ended: there is no key to them any more.
    sealed = (
        Copy(place=configured.get(name, name), kind="backup", state="keyless", expires=None)
        for name in places.places_with_backups(connection, core.config, now)
    )
    return (*keyrings, *sealed)


def _body(
    core: Core,
    connection: Connection,
    batch: Row[Any],
    register: tuple[RegisterEntry, ...],
    progress: Progress,
    checks: tuple[Check, ...],
    now: datetime,
) -> Body:
    """The certificate's body, from what was approved and what was seen."""
    names = {
        row.id: (row.name, row.role)
        for row in connection.execute(select(accounts.c.id, accounts.c.name, accounts.c.role))
    }
    slug = queries.slug_of(connection, batch.client_id)
    copies = copies_listed(core, connection, batch.client_id, now, progress.epoch)
    sanitised = sanitisations_of(connection, batch.id)
    destroyed_at = datetime.fromisoformat(progress.destroyed_at)
    executor, role = names[batch.executor]
    proposer = names.get(batch.proposed_by, (batch.proposed_by, ""))[0]
    return Body(
        certificate_id=new_id(now),
        follows=None,
        issued_at=now,
        gateway=Gateway(
            origin=core.store.origin, software="strongroom", version=version("strongroom")
        ),
        client=slug,
        batch_id=batch.id,
        scope=batch.scope,
        claim=make_claim(claim_for(checks, copies, sanitised)),
        register=register,
        register_digest=batch.register_digest,
        outcomes=tuple(
            Outcome(
                document_id=entry.document_id,
                result="destroyed",
                destroyed_at=destroyed_at,
                ledger_index=progress.entries[entry.document_id],
            )
            for entry in register
        ),
        approvals=approvals_of(connection, batch.id),
        witnesses=witnesses_of(connection, batch.id),
        executor=Executor(account=executor, role=role),
        proposed_by=proposer,
        proposed_at=datetime.fromisoformat(batch.proposed_at),
        executed_at=datetime.fromisoformat(batch.started_at),
        groups_ended=tuple(progress.groups),
        copies=copies,
        checks=checks,
        sanitisations=sanitised,
        limits=LIMITS,
        unreviewed_recovery=recovery_of(connection, now),
    )


def recovery_of(connection: Connection, now: datetime) -> Recovery | UnsetType:
    """The recovery of a lost quorum that stands unreviewed, as certificates state it."""
    found = recovery.standing(connection, now)
    if not found:
        return UNSET
    return Recovery(
        since=datetime.fromisoformat(found[0].counts_from),
        accounts=tuple(dict.fromkeys(row.name for row in found)),
    )
