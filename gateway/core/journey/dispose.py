"""Disposition: proposed by the clock, approved by two people, executed by a third, verified, certified.

Promises: nothing goes early, twice or by half. What is approved is a register, fixed when the batch is
proposed; approvals are signatures over its digest. Execution checks every document again (state, rules,
holds) inside the transaction that starts it, and refuses the whole batch if one may not go.

Execution is a sequence of steps, each safe to run again, so that recovery after a crash is the same call:
    dispose.start     one transaction: checks, state EXECUTING, executor
    dispose.renew     every group that ever wrapped these documents' keys: survivors under a new group
    dispose.record    one transaction: rows lose key and metadata, tombstones, ledger: COMMIT POINT
    dispose.end-keys  the keyring loses the groups (new epoch); its registered copies must follow
    dispose.remove-blobs, dispose.truncate
    dispose.certify   what is gone is looked for; certificate, ledger entry, checkpoint
"""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Callable
from datetime import date, datetime
from importlib.metadata import version
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, exists, insert, select, update
from sqlalchemy.sql import ColumnElement

from gateway.core import errands, mail
from gateway.core.identity import Account
from gateway.core.journey import filing
from gateway.core.journey.lifecycle import DISPOSABLE, Event, State, next_state
from gateway.core.journey.steps import step
from gateway.core.runtime import ACTOR_CORE, Core, log, stamp
from gateway.errors import Refusal
from retention_rules.decision import is_due
from retention_rules.facts import Decision
from vault import ledger, sshsig
from vault.catalogue.schema import (
    account_keys,
    accounts,
    approvals,
    batches,
    certificates,
    clients,
    documents,
    holds,
    tombstones,
)
from vault.catalogue.schema import errands as errand_table
from vault.catalogue.store import Transaction
from vault.certificate import (
    APPROVAL_NAMESPACE,
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
    Text,
    approval_statement,
    canonical,
    certificate_to_json,
    claim_for,
    digest,
    make_claim,
    register_digest,
)
from vault.errors import KeyUnavailable
from vault.ids import new_id
from vault.ledger import commitment

PROPOSED: Final = "PROPOSED"
APPROVED: Final = "APPROVED"
EXECUTING: Final = "EXECUTING"
DONE: Final = "DONE"
REJECTED: Final = "REJECTED"
OPEN_STATES: Final = (PROPOSED, APPROVED, EXECUTING)

COPY_PATIENCE: Final = 15.0  # seconds to wait for reachable keyring copies before certifying
RAW_SCAN_LIMIT: Final = (
    4 * 1024**3
)  # bytes times patterns of the raw search, above it is not checked
QUARANTINED_CLASS: Final = "quarantined"
CHECK_WRAPPED: Final = "wrapped-keys-absent-from-catalogue-files"
CHECK_JOURNAL: Final = "write-ahead-log-emptied"

_decode_register = msgspec.json.Decoder(tuple[RegisterEntry, ...]).decode
_decode_body = msgspec.json.Decoder(Body).decode


class Progress(msgspec.Struct, forbid_unknown_fields=True):
    """What execution remembers between its steps (`batches.progress`)."""

    groups: list[str] = []
    entries: dict[str, int] = {}
    destroyed_at: str = ""
    body: str = ""  # the certificate's body, once the ledger holds its digest (base64)
    certified: int = -1  # index of that ledger entry


# ── proposing ────────────────────────────────────────────────────────────────────────────────────


async def propose(core: Core, actor: str, client_slug: str | None = None) -> list[str]:
    """Propose a batch per client of what is due now.

    Returns:
        The ids of the batches made.
    """
    now = core.now()
    await asyncio.to_thread(core.disposal_clock, now)

    def due_clients(connection: Connection) -> list[str]:
        where = [
            documents.c.state.in_(DISPOSABLE),
            documents.c.eligible_at <= stamp(now),
            documents.c.batch_id.is_(None),
            ~_held(),
        ]
        if client_slug is not None:
            where.append(clients.c.slug == client_slug)
        return list(
            connection.execute(
                select(documents.c.client_id)
                .distinct()
                .join(clients, clients.c.id == documents.c.client_id)
                .where(*where)
            ).scalars()
        )

    made = []
    for client_id in await core.read(due_clients):
        with step("dispose.propose"):
            batch_id = await core.write(_proposer(core, client_id, actor, now))
        if batch_id is not None:
            made.append(batch_id)
            log.info("disposal proposed", batch=batch_id)
    return made


def _held() -> ColumnElement[bool]:
    """Whether a live hold is on the document or its client."""
    return exists().where(
        holds.c.client_id == documents.c.client_id,
        holds.c.released_at.is_(None),
        holds.c.document_id.is_(None) | (holds.c.document_id == documents.c.id),
    )


def _proposer(
    core: Core, client_id: str, actor: str, now: datetime
) -> Callable[[Transaction], str | None]:
    def work(tx: Transaction) -> str | None:
        rows = tx.connection.execute(
            select(documents)
            .where(
                documents.c.client_id == client_id,
                documents.c.state.in_(DISPOSABLE),
                documents.c.eligible_at <= stamp(now),
                documents.c.batch_id.is_(None),
                ~_held(),
            )
            .order_by(documents.c.eligible_at, documents.c.id)
            .limit(core.config.disposal.max_batch)
        ).all()
        register = []
        for row in rows:
            why_not, entry = _examine(core, tx.connection, row, now)
            if why_not is None and entry is not None:
                register.append(entry)
        if not register:
            return None
        batch_id = new_id(now)
        tx.connection.execute(
            insert(batches),
            {
                "id": batch_id,
                "client_id": client_id,
                "state": PROPOSED,
                "proposed_at": stamp(now),
                "proposed_by": actor,
                "register": canonical(register),
                "register_digest": register_digest(register),
                "progress": "{}",
            },
        )
        for entry in register:
            tx.connection.execute(
                update(documents)
                .where(documents.c.id == entry.document_id)
                .values(batch_id=batch_id)
            )
        core.record(
            tx,
            "disposal.proposed",
            batch_id,
            actor,
            now,
            client=client_id,
            items=len(register),
            register=register_digest(register),
        )
        return batch_id

    return work


def _examine(
    core: Core, connection: Connection, row: Row[Any], now: datetime
) -> tuple[str | None, RegisterEntry | None]:
    """Whether a document may go now, decided afresh: (why not, its register entry)."""
    if State(row.state) not in DISPOSABLE:
        return f"its state is {row.state}", None
    live = filing.live_holds(connection, row.client_id, row.id)
    if live:
        return f"a hold is on it ({', '.join(live)})", None
    try:
        metadata = core.store.custody.open_metadata(row)
    except KeyUnavailable:
        return "its key is gone already", None
    common = {
        "document_id": row.id,
        "fiscal_year": row.fiscal_year,
        "size": row.size,
        "commitment": commitment(metadata.salt, metadata.sha256),
    }
    client = connection.execute(select(clients).where(clients.c.id == row.client_id)).one()
    received_on = filing.local_day(datetime.fromisoformat(row.received_at), client.jurisdiction)
    if row.state == State.QUARANTINED:
        due = datetime.fromisoformat(row.eligible_at) if row.eligible_at else None
        if due is None or due > now:
            return "its quarantine has not ended", None
        days = core.config.retention.quarantine_days
        return None, RegisterEntry(
            **common,
            record_class=QUARANTINED_CLASS,
            title=Text(en="Quarantined document", zh="隔离文件"),
            received_on=received_on,
            rule=filing.QUARANTINE_RULE,
            legal_basis="The house's own rule for documents that were refused",
            trigger="quarantined",
            trigger_on=datetime.fromisoformat(row.state_since).date(),
            period=f"P{days}D",
            retained_until=due,
            eligible_at=due,
        )
    decision = filing.evaluate(core, connection, row)
    if not is_due(decision, now):
        return "; ".join(decision.blocked_by) or "; ".join(
            decision.reasons
        ) or "it is not due", None
    return None, _entry(core, row, decision, received_on, common)


def _entry(
    core: Core, row: Row[Any], decision: Decision, received_on: date, common: dict[str, Any]
) -> RegisterEntry:
    """The register entry of a document that the rules let go."""
    governing = next(rule for rule in decision.applied if rule.rule == decision.governing)
    known = core.rules.record_classes[row.record_class]
    assert governing.trigger is not None
    assert governing.trigger_on is not None
    assert governing.until is not None
    assert decision.eligible_at is not None
    return RegisterEntry(
        **common,
        record_class=row.record_class,
        title=Text(en=known.title_en, zh=known.title_zh),
        received_on=received_on,
        rule=governing.rule,
        legal_basis=governing.citation,
        trigger=governing.trigger,
        trigger_on=governing.trigger_on,
        period=governing.period or "P0D",
        retained_until=governing.until,
        eligible_at=decision.eligible_at,
    )


# ── approving ────────────────────────────────────────────────────────────────────────────────────


def load_batch(connection: Connection, batch_id: str) -> Row[Any]:
    """A batch row (raises Refusal)."""
    row = connection.execute(select(batches).where(batches.c.id == batch_id)).one_or_none()
    if row is None:
        raise Refusal("not_found", f"batch {batch_id}: expected one, found none")
    return row


def statement_for(connection: Connection, batch: Row[Any], account: Account, decision: str) -> str:
    """The text an approver signs for a batch."""
    slug = connection.execute(
        select(clients.c.slug).where(clients.c.id == batch.client_id)
    ).scalar_one()
    return approval_statement(
        batch_id=batch.id,
        client=slug,
        register_digest=batch.register_digest,
        items=len(_decode_register(batch.register)),
        decision=decision,  # type: ignore[arg-type]
        account=account.name,
        role=account.role,
    )


async def decide(core: Core, batch_id: str, account: Account, decision: str, signature: str) -> str:
    """Record an officer's signed approval or rejection; returns the batch's state after it.

    Raises:
        Refusal: not an officer, the batch is not open for it, or the signature is not this account's.
    """
    if account.role != "officer":
        raise Refusal(
            "denied", f"account {account.name}: expected an officer, found {account.role}"
        )
    now = core.now()

    def work(tx: Transaction) -> str:
        batch = load_batch(tx.connection, batch_id)
        if batch.state not in {PROPOSED, APPROVED}:
            raise Refusal("locked", f"batch {batch_id}: expected it open, found it {batch.state}")
        if batch.state == APPROVED and decision == "approve":
            raise Refusal(
                "exists", f"batch {batch_id}: expected approvals wanted, found it approved"
            )
        statement = statement_for(tx.connection, batch, account, decision)
        try:
            line = sshsig.verify(signature, statement.encode(), APPROVAL_NAMESPACE)
        except sshsig.SignatureError as error:
            raise Refusal("denied", f"approval of batch {batch_id}: {error}") from error
        blob = base64.b64decode(line.split()[1])
        owner = tx.connection.execute(
            select(account_keys.c.account_id).where(
                account_keys.c.account_id == account.id,
                account_keys.c.fingerprint == sshsig.fingerprint(blob),
                account_keys.c.removed_at.is_(None),
            )
        ).scalar()
        if owner is None:
            raise Refusal(
                "denied",
                f"approval of batch {batch_id}: expected a key of {account.name}, found another",
            )
        earlier = tx.connection.execute(
            select(approvals).where(approvals.c.batch_id == batch_id)
        ).all()
        if any(row.account_id == account.id for row in earlier):
            raise Refusal(
                "exists", f"batch {batch_id}: expected one decision per person, found a second"
            )
        if any(bytes(row.key) == blob for row in earlier):
            raise Refusal(
                "denied", f"batch {batch_id}: expected distinct keys, found one used twice"
            )
        tx.connection.execute(
            insert(approvals),
            {
                "batch_id": batch_id,
                "account_id": account.id,
                "role": account.role,
                "decision": decision,
                "statement": statement.encode(),
                "signature": signature,
                "key": blob,
                "signed_at": stamp(now),
            },
        )
        core.record(
            tx,
            f"disposal.{decision}d" if decision == "approve" else "disposal.rejected",
            batch_id,
            account.id,
            now,
            register=batch.register_digest,
        )
        if decision == "reject":
            tx.connection.execute(
                update(documents).where(documents.c.batch_id == batch_id).values(batch_id=None)
            )
            state = REJECTED
        else:
            given = sum(row.decision == "approve" for row in earlier) + 1
            state = APPROVED if given >= core.config.disposal.approvals else PROPOSED
        tx.connection.execute(update(batches).where(batches.c.id == batch_id).values(state=state))
        return state

    with step("dispose.approve"):
        return await core.write(work)


# ── executing ────────────────────────────────────────────────────────────────────────────────────


async def execute(core: Core, batch_id: str, account: Account) -> str:
    """Execute an approved batch; returns the certificate's id.

    Raises:
        Refusal: the wrong person, state or clock, or a document that may not go (a hold, say): then
            nothing at all was destroyed.
    """
    now = core.now()
    await asyncio.to_thread(core.disposal_clock, now)
    if account.role not in {"officer", "archivist"}:
        raise Refusal(
            "denied",
            f"account {account.name}: expected an officer or archivist, found {account.role}",
        )

    def start(tx: Transaction) -> None:
        batch = load_batch(tx.connection, batch_id)
        if batch.state != APPROVED:
            raise Refusal(
                "locked", f"batch {batch_id}: expected it APPROVED, found it {batch.state}"
            )
        signers = set(
            tx.connection.execute(
                select(approvals.c.account_id).where(approvals.c.batch_id == batch_id)
            ).scalars()
        )
        if account.id in signers:
            raise Refusal(
                "denied",
                f"batch {batch_id}: expected someone who did not approve it, found {account.name}",
            )
        register = _decode_register(batch.register)
        for entry in register:
            row = tx.connection.execute(
                select(documents).where(documents.c.id == entry.document_id)
            ).one()
            why_not, _ = _examine(core, tx.connection, row, now)
            if why_not is not None:
                raise Refusal(
                    "locked", f"document {row.id}: expected it free to go, found {why_not}"
                )
        tx.connection.execute(
            update(batches)
            .where(batches.c.id == batch_id)
            .values(state=EXECUTING, executor=account.id, started_at=stamp(now))
        )
        core.record(tx, "disposal.started", batch_id, account.id, now, items=len(register))

    with step("dispose.start"):
        await core.write(start)
    return await finish(core, batch_id)


async def recover(core: Core) -> list[str]:
    """Finish every execution that a crash interrupted; returns the certificates' ids."""
    unfinished = await core.read(
        lambda connection: list(
            connection.execute(select(batches.c.id).where(batches.c.state == EXECUTING)).scalars()
        )
    )
    done = []
    for batch_id in unfinished:
        log.warning("disposal resumed", batch=batch_id)
        done.append(await finish(core, batch_id))
    return done


async def finish(core: Core, batch_id: str) -> str:
    """Everything after `dispose.start`; safe to run again from the beginning."""
    batch = await core.read(lambda connection: load_batch(connection, batch_id))
    register = _decode_register(batch.register)
    ids = [entry.document_id for entry in register]
    custody = core.store.custody
    now = core.now()

    # 1. Survivors of every group that ever wrapped one of these keys move to a new group.
    groups = await core.read(lambda connection: custody.living_groups(connection, ids))
    with step("dispose.renew"):
        leaving = set(ids)
        for group_id in groups:
            await core.write(
                functools.partial(_renew, core, batch.client_id, group_id, leaving, now)
            )

    # 2. COMMIT POINT: the documents are destroyed from here on.
    with step("dispose.record"):
        wrapped = await core.write(lambda tx: _record(core, tx, batch, ids, groups, core.now()))

    # 3. The keys: after this no key that ever wrapped them exists in the keyring.
    progress = await core.read(lambda connection: _progress(connection, batch_id))
    with step("dispose.end-keys"):

        def end(tx: Transaction) -> None:
            custody.end_groups(tx.connection, batch.client_id, progress.groups, now)
            errands.request_copies(core, tx, batch.client_id, now)
            core.record(tx, "groups.ended", batch_id, ACTOR_CORE, now, groups=list(progress.groups))

        await core.write(end)
        core.errand_work.set()

    # 4. The sealed files.
    with step("dispose.remove-blobs"):
        await asyncio.to_thread(_remove_blobs, core, ids)

    # 5. What the database's journal still holds of the old rows.
    with step("dispose.truncate"):
        emptied = await asyncio.to_thread(core.store.catalogue.truncate_journal)

    # 6. Look for all of it, and certify what was seen.
    with step("dispose.certify"):
        await _await_copies(core, batch.client_id)
        checks = await asyncio.to_thread(_look, core, batch, ids, progress, wrapped, emptied)
        return await _certify(core, batch, register, checks)


def _renew(
    core: Core, client_id: str, group_id: str, leaving: set[str], now: datetime, tx: Transaction
) -> None:
    core.store.custody.renew(tx.connection, client_id, group_id, leaving, now)


def _record(
    core: Core,
    tx: Transaction,
    batch: Row[Any],
    ids: list[str],
    groups: list[str],
    now: datetime,
) -> list[bytes]:
    """Rows lose key and metadata; returns the wrapped keys that were there, for the search after."""
    progress = _progress(tx.connection, batch.id)
    if progress.entries:
        return []
    wrapped: list[bytes] = []
    entries: dict[str, int] = {}
    for document_id in ids:
        row = tx.connection.execute(select(documents).where(documents.c.id == document_id)).one()
        state = next_state(State(row.state), Event.DESTROY)
        if row.wrapped_key is not None:
            wrapped.append(bytes(row.wrapped_key))
        tx.connection.execute(
            update(documents)
            .where(documents.c.id == document_id)
            .values(
                state=state,
                state_since=stamp(now),
                destroyed_at=stamp(now),
                reason="",
                group_id=None,
                wrapped_key=None,
                sealed_metadata=None,
                name_index=None,
                digest_index=None,
            )
        )
        tx.connection.execute(
            insert(tombstones),
            {
                "document_id": document_id,
                "client_id": batch.client_id,
                "batch_id": batch.id,
                "destroyed_at": stamp(now),
            },
        )
        entries[document_id] = core.record(
            tx,
            "document.destroyed",
            document_id,
            batch.executor,
            now,
            batch=batch.id,
            record_class=row.record_class,
            rule=row.rule,
        )
    _remember(
        tx.connection,
        batch.id,
        Progress(groups=groups, entries=entries, destroyed_at=stamp(now)),
    )
    return wrapped


def _progress(connection: Connection, batch_id: str) -> Progress:
    text = connection.execute(
        select(batches.c.progress).where(batches.c.id == batch_id)
    ).scalar_one()
    return msgspec.json.decode(text, type=Progress)


def _remember(connection: Connection, batch_id: str, progress: Progress) -> None:
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(progress=msgspec.json.encode(progress).decode())
    )


def _remove_blobs(core: Core, ids: list[str]) -> None:
    for document_id in ids:
        core.store.blobs.remove(document_id)
        core.store.blobs.discard(document_id)


async def _await_copies(core: Core, owner: str) -> None:
    """Give reachable copies of the keyring a moment to follow, so that the claim can include them."""
    deadline = asyncio.get_running_loop().time() + COPY_PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        if not await core.read(lambda connection: _behind(connection, owner)):
            return
        await asyncio.sleep(0.2)


def _behind(connection: Connection, owner: str) -> dict[str, str]:
    """Targets whose copy of a keyring is older than the keyring: name → since."""
    rows = connection.execute(
        select(errand_table.c.target, errand_table.c.created_at).where(
            errand_table.c.name == owner + errands.SUFFIX, errand_table.c.delivered_at.is_(None)
        )
    )
    return {row.target: row.created_at for row in rows}


def _look(
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
        data = path.read_bytes()
        found += sum(pattern in data for pattern in wrapped)
    return _check(
        CHECK_WRAPPED,
        found == 0,
        f"{len(wrapped)} wrapped keys searched in {size} raw bytes of {len(files)} files: {found} found",
    )


# ── certifying ───────────────────────────────────────────────────────────────────────────────────


async def _certify(
    core: Core, batch: Row[Any], register: tuple[RegisterEntry, ...], checks: tuple[Check, ...]
) -> str:
    """Bind the certificate's body to the ledger, then issue it; both halves are safe to repeat."""

    def bind(tx: Transaction) -> Progress:
        progress = _progress(tx.connection, batch.id)
        if progress.certified < 0:
            now = core.now()
            body = _body(core, tx.connection, batch, register, progress, checks, now)
            progress.certified = core.record(
                tx, CERTIFIED, batch.id, ACTOR_CORE, now,
                **{DIGEST_FIELD: digest(body), "level": body.claim.level},
            )  # fmt: skip
            progress.body = base64.b64encode(canonical(body)).decode()
            _remember(tx.connection, batch.id, progress)
            tx.ledger.sign_checkpoint(tx.connection, core.store.origin, core.store.ledger_key, now)
        return progress

    progress = await core.write(bind)
    body = _decode_body(base64.b64decode(progress.body))

    def issue(connection: Connection) -> tuple[bytes, bytes]:
        from vault.certificate_pdf import (
            render_pdf,  # fonts and fpdf2 cost every start half a second
        )

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
        language = mail.open_profile(core, client).language
        printed = render_pdf(certificate, language if language in {"en", "zh"} else "both")  # type: ignore[arg-type]
        return certificate_to_json(certificate), printed

    document, printed = await core.read(issue)

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
    behind = _behind(connection, batch.client_id)
    copies = tuple(
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
        claim=make_claim(claim_for(checks, copies)),
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
        copies=copies,
        checks=checks,
        limits=LIMITS,
    )
