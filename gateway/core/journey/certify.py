"""Looking for what must be gone, and certifying what was seen.

Each search says what it looked for and what it found; the claim level follows from the searches and from
the state of every known copy, never from a setting. The certificate's body is bound to the ledger before it
is printed, so that a crash in between issues the same certificate and no second one.
"""

from __future__ import annotations

import asyncio
import base64
import mmap
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from gateway.core import mail
from gateway.core.journey.dispose import DONE
from gateway.core.runtime import ACTOR_CORE, Core, log, stamp
from vault import copies, ledger, sshsig
from vault.catalogue.schema import (
    accounts,
    approvals,
    batches,
    certificates,
    clients,
    documents,
)
from vault.catalogue.store import Transaction
from vault.certificate import (
    CERTIFIED,
    CIPHERTEXT_ABSENT,
    DIGEST_FIELD,
    FORMAT,
    KEY_ABSENT,
    LIMITS,
    Approval,
    Body,
    Certificate,
    Check,
    Copy,
    Executor,
    Gateway,
    LedgerProof,
    Outcome,
    RegisterEntry,
    canonical,
    certificate_to_json,
    claim_for,
    digest,
    make_claim,
)
from vault.certificate_print import language_of, print_certificate
from vault.ids import new_id

COPY_PATIENCE: Final = 5.0  # seconds to wait for reachable keyring copies before certifying
RAW_SCAN_LIMIT: Final = (
    4 * 1024**3
)  # bytes times patterns of the raw search, above it is not checked
CHECK_WRAPPED: Final = "wrapped-keys-absent-from-catalogue-files"
CHECK_JOURNAL: Final = "write-ahead-log-emptied"

_decode_body = msgspec.json.Decoder(Body).decode


class Progress(msgspec.Struct, forbid_unknown_fields=True):
    """What execution remembers between its steps (`batches.progress`)."""

    groups: list[str] = []
    entries: dict[str, int] = {}
    destroyed_at: str = ""
    body: str = ""  # the certificate's body, once the ledger holds its digest (base64)
    certified: int = -1  # index of that ledger entry


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
        if not await core.read(lambda connection: copies.behind(connection, owner)):
            return
        await asyncio.sleep(0.2)


def look(
    core: Core,
    batch: Row[Any],
    ids: list[str],
    progress: Progress,
    wrapped: list[bytes],
    emptied: bool,
) -> tuple[Check, ...]:
    """Look for everything that must be gone; each search reports what it saw."""
    keyring = core.store.custody.stored(batch.client_id)  # from disk, not from memory
    left = [group_id for group_id in progress.groups if group_id in keyring.groups]
    with_keys = core.store.catalogue.read(
        lambda connection: [
            document_id
            for document_id in ids
            if connection.execute(
                select(documents.c.wrapped_key).where(documents.c.id == document_id)
            ).scalar()
            is not None
        ]
    )
    stored = [document_id for document_id in ids if core.store.blobs.exists(document_id)]
    return (
        _check(
            KEY_ABSENT,
            not left and not with_keys,
            f"{len(progress.groups)} group keys looked for in the keyring (epoch {keyring.epoch}) and"
            f" {len(ids)} wrapped keys in the catalogue: {len(left)} and {len(with_keys)} found",
        ),
        _check(
            CIPHERTEXT_ABSENT,
            not stored,
            f"{len(ids)} sealed files looked for in the store: {len(stored)} found",
        ),
        _check(
            CHECK_JOURNAL, emptied, "the write-ahead log was truncated after the keys were erased"
        )
        if emptied
        else Check(name=CHECK_JOURNAL, result="not_checked", detail="a reader was in the way"),
        _raw_search(core, wrapped),
    )


def _check(name: str, passed: bool, detail: str) -> Check:
    return Check(name=name, result="passed" if passed else "failed", detail=detail)


def _raw_search(core: Core, wrapped: list[bytes]) -> Check:
    """Search the catalogue's files byte by byte for the wrapped keys that were erased."""
    files = [
        path for path in core.store.path.iterdir() if path.name.startswith("catalogue.sqlite3")
    ]
    size = sum(path.stat().st_size for path in files)
    if not wrapped or size * len(wrapped) > RAW_SCAN_LIMIT:
        why = (
            "execution was interrupted before" if not wrapped else "the catalogue is too large for"
        )
        return Check(name=CHECK_WRAPPED, result="not_checked", detail=f"{why} the raw search")
    found = 0
    for path in files:
        if path.stat().st_size == 0:
            continue
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            found += sum(data.find(pattern) >= 0 for pattern in wrapped)
    return _check(
        CHECK_WRAPPED,
        found == 0,
        f"{len(wrapped)} wrapped keys searched in {size} raw bytes of {len(files)} files: {found} found",
    )


async def issue(
    core: Core, batch: Row[Any], register: tuple[RegisterEntry, ...], checks: tuple[Check, ...]
) -> str:
    """Bind the certificate's body to the ledger, then issue it; both halves are safe to repeat."""

    def bind(tx: Transaction) -> Progress:
        progress = progress_of(tx.connection, batch.id)
        if progress.certified < 0:
            now = core.now()
            body = _body(core, tx.connection, batch, register, progress, checks, now)
            progress.certified = core.record(
                tx, CERTIFIED, batch.id, ACTOR_CORE, now,
                **{DIGEST_FIELD: digest(body), "level": body.claim.level},
            )  # fmt: skip
            progress.body = base64.b64encode(canonical(body)).decode()
            remember(tx.connection, batch.id, progress)
            tx.ledger.sign_checkpoint(tx.connection, core.store.origin, core.store.ledger_key, now)
        return progress

    progress = await core.write(bind)
    body = _decode_body(base64.b64decode(progress.body))

    def assemble(connection: Connection) -> tuple[Certificate, str]:
        certificate = Certificate(
            format=FORMAT,
            body=body,
            ledger=LedgerProof(
                origin=core.store.origin,
                vkey=core.store.vkey,
                entry=ledger.entry(connection, progress.certified),
                proof=ledger.proof_of(connection, progress.certified, core.store.vkey),
            ),
        )
        client = connection.execute(select(clients).where(clients.c.id == batch.client_id)).one()
        return certificate, mail.open_profile(core, client).language

    certificate, language = await core.read(assemble)
    document = certificate_to_json(certificate)
    printed = await asyncio.to_thread(print_certificate, certificate, language_of(language))

    def store(tx: Transaction) -> str:
        now = core.now()
        present = tx.connection.execute(
            select(certificates.c.id).where(certificates.c.id == body.certificate_id)
        ).scalar()
        if present is None:
            tx.connection.execute(
                insert(certificates),
                {
                    "id": body.certificate_id,
                    "batch_id": batch.id,
                    "client_id": batch.client_id,
                    "issued_at": stamp(body.issued_at),
                    "level": body.claim.level,
                    "document": document,
                    "printed": printed,
                },
            )
        tx.connection.execute(
            update(batches)
            .where(batches.c.id == batch.id)
            .values(state=DONE, finished_at=stamp(now))
        )
        return body.certificate_id

    certificate_id = await core.write(store)
    log.info(
        "disposal certified", batch=batch.id, certificate=certificate_id, level=body.claim.level
    )
    return certificate_id


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
    slug = connection.execute(
        select(clients.c.slug).where(clients.c.id == batch.client_id)
    ).scalar_one()
    signed = connection.execute(
        select(approvals)
        .where(approvals.c.batch_id == batch.id, approvals.c.decision == "approve")
        .order_by(approvals.c.signed_at)
    ).all()
    behind = copies.behind(connection, batch.client_id)
    registered = tuple(
        Copy(
            place=copy.directory,
            kind="keyring",
            state="live" if copy.name in behind else "destroyed",
            expires=None,
        )
        for copy in core.config.keyring.copies
    )
    destroyed_at = datetime.fromisoformat(progress.destroyed_at)
    executor, role = names[batch.executor]
    proposer = names.get(batch.proposed_by, (batch.proposed_by, ""))[0]
    return Body(
        certificate_id=new_id(now),
        issued_at=now,
        gateway=Gateway(
            origin=core.store.origin, software="strongroom", version=version("strongroom")
        ),
        client=slug,
        batch_id=batch.id,
        claim=make_claim(claim_for(checks, registered)),
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
        approvals=tuple(
            Approval(
                account=names[row.account_id][0],
                role=row.role,
                decision=row.decision,
                signed_at=datetime.fromisoformat(row.signed_at),
                fingerprint=sshsig.fingerprint(bytes(row.key)),
                statement=bytes(row.statement).decode(),
                signature=row.signature,
            )
            for row in signed
        ),
        executor=Executor(account=executor, role=role),
        proposed_by=proposer,
        proposed_at=datetime.fromisoformat(batch.proposed_at),
        executed_at=datetime.fromisoformat(batch.started_at),
        groups_ended=tuple(progress.groups),
        copies=registered,
        checks=checks,
        limits=LIMITS,
    )
