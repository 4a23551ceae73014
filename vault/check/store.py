"""Checking a store: every invariant between catalogue, keyrings, sealed files and ledger.

Promises: it reads and never repairs. Each finding names what is affected, what is wrong and what to do.
It works on an open store, while the gateway serves, and touches nothing that serving needs. What is found
wrong is looked at again before it is said: a document may have been destroyed, and a group made, that
very moment. A row goes before its sealed file and its keys do, and comes after them, so that what is wrong
with a row that is still the same is wrong.

Leaves out: reading the documents themselves (`read_data` of the caller does that, in a process that may).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select

from vault.catalogue import ledger, queries
from vault.catalogue.ledger import commitment
from vault.catalogue.schema import (
    backup_blobs,
    batches,
    certificates,
    clients,
    deposited_passwords,
    documents,
    groups,
    tombstones,
    wrappings,
)
from vault.catalogue.states import STORED, ClientState, DocumentState
from vault.certificate.verify import verify_certificate
from vault.check import ledger as ledger_check
from vault.crypto.sealed import sealed_size
from vault.errors import IntegrityError, VaultError
from vault.keys import copies, deposited
from vault.keys.open_keyrings import HOUSE
from vault.store import Store

_PAGE: Final = 1000


@dataclass(frozen=True)
class Finding:
    """One broken invariant: what is affected, what is wrong, what to do about it."""

    subject: str
    problem: str
    action: str


@dataclass
class Report:
    """What a check saw: how much of what, and the findings."""

    documents: int = 0
    blobs: int = 0
    groups: int = 0
    ledger_entries: int = 0
    certificates: int = 0
    findings: list[Finding] | None = None


RESTORE: Final = (
    "bring it back from the newest backup with `strongroom backup restore`, into another folder; keep this"
    " one, and do not destroy the backup"
)
TELL: Final = (
    "keep the store as it is and find out who changed it; `strongroom backup restore` brings the newest"
    " backup back into another folder"
)


def put_back(connection: Connection, document_id: str) -> str:
    """What to do about a missing or damaged sealed file whose document's key opens."""
    places = list(
        connection.execute(
            select(backup_blobs.c.target)
            .where(backup_blobs.c.document_id == document_id)
            .order_by(backup_blobs.c.stored_at.desc(), backup_blobs.c.target)
        ).scalars()
    )
    if not places:
        return (
            "no backup is known to hold it, so there is nothing to restore it from: keep this disk, and look"
            f" for the file {document_id} on it and in other copies of the store"
        )
    others = f" (or from {', '.join(places[1:])})" if places[1:] else ""
    return f"`strongroom document restore {document_id} --from {places[0]}`{others}"


CHANGED: Final = (
    "find out who or what changed it; bring the newest backup back into another folder with"
    " `strongroom backup restore`, or, as an officer, go on with `strongroom check --acknowledge --as NAME"
    " --key FILE`"
)


def check(store: Store) -> Report:
    """Check everything but the documents' bytes, in numbered steps."""
    report = Report(findings=[])
    findings = report.findings
    assert findings is not None
    # 0. The catalogue's file as it was closed last, and as SQLite sees it.
    if store.changed_at_rest is not None:
        findings.append(Finding("catalogue", store.changed_at_rest, CHANGED))
    try:
        faults = store.catalogue.read(_integrity)
    except IntegrityError:
        faults = "so many faults in it that they can't be counted"
    if not faults:
        _rows_and_files(store, report, findings)
        return report
    findings.append(Finding("catalogue", f"expected a whole database, found {faults}", RESTORE))
    try:
        _rows_and_files(store, report, findings)
    except VaultError as error:
        findings.append(Finding("catalogue", f"the rest can't be looked at: {error}", RESTORE))
    return report


def _rows_and_files(store: Store, report: Report, findings: list[Finding]) -> None:
    # 1. The ledger, whole.
    result = ledger_check.verify_store(store)
    report.ledger_entries = result.size
    findings.extend(Finding("ledger", finding, TELL) for finding in result.findings)
    # 2. Each document: row, key, metadata, sealed file, its first ledger entry.
    broken = _broken_keyrings(store)
    findings.extend(broken.values())
    store.catalogue.read(lambda c: _documents(store, c, report, findings, broken))
    # 3. Sealed files that no row knows.
    spooled = set(store.blobs.spooled())
    unknown: dict[str, str | None] = {}
    for blob_id in store.blobs.stored():
        report.blobs += 1
        known = store.catalogue.read(
            lambda c, which=blob_id: c.execute(  # type: ignore[misc]
                select(documents.c.state).where(documents.c.id == which)
            ).scalar()
        )
        # One that is spooled, too, is being received: it has its row when it leaves the spool.
        if known not in STORED and blob_id not in spooled:
            unknown[blob_id] = known
    findings.extend(
        Finding(
            f"blob {blob_id}",
            f"expected a document that lives, found {unknown[blob_id] or 'none'}",
            f"{_nobodys(store)}`rm {store.blobs.path(blob_id)}`",
        )
        for blob_id in _strays(store, unknown)
    )
    # 4. Keyrings and groups.
    _groups(store, report, findings, broken)
    # 5. Tombstones: nothing is both destroyed and there.
    for document_id, state in store.catalogue.read(
        lambda c: c.execute(
            select(tombstones.c.document_id, documents.c.state)
            .join(documents, documents.c.id == tombstones.c.document_id)
            .where(documents.c.state != DocumentState.DESTROYED)
        ).all()
    ):
        findings.append(
            Finding(f"document {document_id}", f"expected DESTROYED, found {state}", TELL)
        )
    # 6. Passwords that clients deposited.
    findings.extend(store.catalogue.read(lambda c: list(_passwords(store, c, broken))))
    # 7. Certificates.
    for row in store.catalogue.read(
        lambda c: c.execute(select(certificates.c.id, certificates.c.document)).all()
    ):
        report.certificates += 1
        verified = verify_certificate(bytes(row.document), store.vkeys, origin=store.origin)
        if not verified.passed:
            failed = next(step for step in verified.steps if not step.passed)
            findings.append(
                Finding(f"certificate {row.id}", f"{failed.name}: {failed.detail}", TELL)
            )


def _passwords(store: Store, connection: Connection, broken: Container[str]) -> Iterator[Finding]:
    """Deposited passwords that do not open with their client's keyring."""
    for row in connection.execute(select(deposited_passwords)):
        if row.client_id in broken:
            continue
        try:
            deposited.open_deposited(store.custody, row)
        except VaultError as error:
            slug = queries.slug_of(connection, row.client_id)
            yield Finding(
                f"password {row.id}",
                str(error),
                f"`strongroom client password remove {slug} {row.id}`, and deposit it again",
            )


def _broken_keyrings(store: Store) -> dict[str, Finding]:
    """Client id → the one finding about its keyring, which does not open."""

    opened = select(clients.c.id, clients.c.slug).where(clients.c.state != ClientState.CLOSED)
    found = {}
    for row in store.catalogue.read(lambda c: c.execute(opened.order_by(clients.c.id)).all()):
        try:
            try:
                store.custody.stored(row.id)
            except VaultError:
                # Keyrings change on the writing thread only: between two transactions they are at rest.
                store.catalogue.write(lambda _tx, who=row.id: store.custody.stored(who))  # type: ignore[misc]
        except VaultError as error:
            found[row.id] = store.catalogue.read(partial(broken_keyring, row, error))
    return found


def broken_keyring(row: Any, error: VaultError, connection: Connection) -> Finding:
    """The finding of a client's keyring that does not open (`row` has its id and slug)."""
    behind = connection.execute(
        select(func.count())
        .select_from(documents)
        .where(documents.c.client_id == row.id, documents.c.state.in_(STORED))
    ).scalar_one()
    places = [f"{place} (epoch {epoch})" for place, epoch in copies.good_copies(connection, row.id)]
    return Finding(
        f"keyring of client {row.slug} ({row.id})",
        f"{error}; {behind} documents open with nothing else; copies were last read back at:"
        f" {', '.join(places) or 'no place (none is registered)'}",
        _fetch(row.id, row.slug),
    )


def _fetch(client_id: str, slug: str) -> str:
    return (
        f"fetch {client_id}.keyring from one of the places of copies (`strongroom keys copies`), the newest"
        f" first, and run `strongroom keys restore {slug} {client_id}.keyring`"
    )


def _nobodys(store: Store) -> str:
    """A warning about a sealed file that no row knows: what to consider before it is removed."""
    if store.changed_at_rest is None:
        return "nothing here opens it or needs it: "
    return "the catalogue changed, and may be older than this: keep it until that is settled; else "


def _integrity(connection: Connection) -> str:
    """How many faults SQLite itself finds (PRAGMA integrity_check), in our words; "": none."""
    rows = connection.exec_driver_sql("PRAGMA integrity_check(100)").all()
    faults = sum(row[0] != "ok" for row in rows)
    return f"{faults} faults in it" if faults else ""


def _received(connection: Connection) -> dict[str, str]:
    """Document id → commitment, from the ledger's entries of receipt."""
    found: dict[str, str] = {}
    try:
        for data in ledger.entries(connection):
            if b'"document.received"' in data:
                entry = msgspec.json.decode(data, type=ledger.LedgerEntry)
                if entry.kind == "document.received":
                    found[entry.subject] = str(entry.facts.get("commitment", ""))
    except (ledger.LedgerError, msgspec.DecodeError, UnicodeDecodeError):
        return found  # step 1 has said so
    return found


def _documents(
    store: Store,
    connection: Connection,
    report: Report,
    findings: list[Finding],
    broken: Container[str],
) -> None:
    received = _received(connection)
    for row in _rows(connection):
        report.documents += row.state in STORED
        if row.client_id in broken:
            continue  # said once, of the keyring
        found = _document(store, connection, received, row)
        if found:
            # As of this moment, not of the beginning of the check.
            findings.extend(store.catalogue.read(partial(_still, store, received, row.id)))


def _still(
    store: Store, received: dict[str, str], document_id: str, connection: Connection
) -> list[Finding]:
    """What is wrong with a document, by its row as it is now."""
    row = connection.execute(select(documents).where(documents.c.id == document_id)).one()
    return _document(store, connection, received, row)


def _strays(store: Store, unknown: Iterable[str]) -> list[str]:
    """The sealed files that belong to no living document, checked a second time, in their order."""

    def look(blob_id: str, connection: Connection) -> bool:
        row = connection.execute(
            select(documents.c.state, batches.c.id.label("batch"), batches.c.finished_at)
            .outerjoin(tombstones, tombstones.c.document_id == documents.c.id)
            .outerjoin(batches, batches.c.id == tombstones.c.batch_id)
            .where(documents.c.id == blob_id)
        ).one_or_none()
        if row is not None and row.state == DocumentState.DESTROYED:
            # Until its batch is finished the file is still being removed; a tombstone that a restore brought
            # has no batch here, and nobody removes anything for it.
            return row.batch is None or row.finished_at is not None
        return row is None or row.state not in STORED

    # In this order: what leaves the spool has its row by then, what a row gave up has no file by then.
    spooled = set(store.blobs.spooled())
    suspects = [
        blob_id
        for blob_id in unknown
        if blob_id not in spooled and store.catalogue.read(partial(look, blob_id))
    ]
    if not suspects:
        return []
    wanted = set(suspects)
    there = {blob_id for blob_id in store.blobs.stored() if blob_id in wanted}  # wherever they lie
    return [blob_id for blob_id in suspects if blob_id in there]


def _document(
    store: Store, connection: Connection, received: dict[str, str], row: Row[Any]
) -> list[Finding]:
    """What is wrong with one document: row, key, metadata, sealed file, its first ledger entry."""
    subject = f"document {row.id}"
    found: list[Finding] = []
    if row.state == DocumentState.DESTROYED:
        gone = connection.execute(
            select(tombstones.c.document_id).where(tombstones.c.document_id == row.id)
        ).scalar()
        if row.wrapped_key is not None or row.sealed_metadata is not None or gone is None:
            found.append(Finding(subject, "expected nothing but a tombstone, found remains", TELL))
    if row.state not in STORED:
        return found
    if row.id not in received:
        found.append(Finding(subject, "expected an entry of its receipt, found none", TELL))
    try:
        metadata = store.custody.open_metadata(row)
    except VaultError as error:
        found.append(Finding(subject, f"its key or metadata does not open: {error}", RESTORE))
    else:
        if received.get(row.id) not in {None, commitment(metadata.salt, metadata.sha256)}:
            found.append(
                Finding(subject, "expected the digest the ledger commits to, found another", TELL)
            )
    try:
        size = store.blobs.size(row.id)
    except VaultError as error:
        found.append(Finding(subject, f"its sealed file: {error}", put_back(connection, row.id)))
    else:
        if size != sealed_size(row.size):
            found.append(
                Finding(
                    subject,
                    f"expected a sealed file of {sealed_size(row.size)} bytes, found {size}",
                    put_back(connection, row.id),
                )
            )
    remembered = connection.execute(
        select(wrappings.c.group_id)
        .join(groups, groups.c.id == wrappings.c.group_id)
        .where(
            wrappings.c.document_id == row.id,
            wrappings.c.group_id == row.group_id,
            groups.c.ended_at.is_(None),
        )
    ).scalar()
    if remembered is None:
        found.append(
            Finding(
                subject, "expected its group alive and among its wrappings, found it not so", TELL
            )
        )
    return found


def _rows(connection: Connection) -> Iterator[Row[Any]]:
    last = ""
    while True:
        rows = connection.execute(
            select(documents).where(documents.c.id > last).order_by(documents.c.id).limit(_PAGE)
        ).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].id


def _groups(store: Store, report: Report, findings: list[Finding], broken: Container[str]) -> None:
    closed = set(store.catalogue.read(lambda c: queries.client_ids(c, ClientState.CLOSED)))
    owners = set(store.custody.owners())  # first: a keyring goes before its client's row is closed
    known = set(store.catalogue.read(queries.with_keyring))
    findings.extend(
        Finding(
            f"keyring {owner}",
            "expected a client that is open, found none",
            "restart the gateway, which ends the keyring of a client that was closed"
            if owner in closed
            else f"{_nobodys(store)}`rm {store.custody.keyrings.path(owner)}`",
        )
        for owner in sorted((owners - {HOUSE} - known) & set(store.custody.owners()))
    )
    for client_id in sorted(each for each in known if each not in broken):
        found, living = store.catalogue.read(lambda c, who=client_id: _groups_of(store, c, who))  # type: ignore[misc]
        if found:
            # Keyrings change on the writing thread only: between two transactions both are at rest.
            found, living = store.catalogue.write(
                lambda tx, who=client_id: _groups_of(store, tx.connection, who)  # type: ignore[misc]
            )
        report.groups += living
        findings.extend(found)


def _groups_of(store: Store, connection: Connection, client_id: str) -> tuple[list[Finding], int]:
    """How a client's keyring and its rows contradict each other; and how many groups live."""
    subject = f"keyring of client {client_id}"
    row = connection.execute(
        select(clients.c.state, clients.c.slug).where(clients.c.id == client_id)
    ).one_or_none()
    if row is None or row.state == ClientState.CLOSED:
        return [], 0  # that very moment
    slug = row.slug
    living = set(
        connection.execute(
            select(groups.c.id).where(
                groups.c.client_id == client_id, groups.c.dropped_at.is_(None)
            )
        ).scalars()
    )
    try:
        present = set(store.custody.stored(client_id).groups)
    except VaultError as error:
        return [Finding(subject, str(error), "look again: it opened a moment ago")], 0
    return [
        *(
            Finding(subject, f"expected group {group_id}, found none", _fetch(client_id, slug))
            for group_id in sorted(living - present)
        ),
        *(
            Finding(
                subject,
                f"expected no group {group_id}, found its key",
                "restart the gateway: it drops keys without a living group",
            )
            for group_id in sorted(present - living)
        ),
    ], len(living)
