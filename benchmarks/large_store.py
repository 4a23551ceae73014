"""Stores with as many documents as wanted, made with the product's own sealing, keys and ledger.

Promises: rows, wrapped keys, sealed metadata, key groups and ledger entries are those a gateway would have
made, in cohorts of `COHORT`; the first `due` documents are due, the others' day has not come. Leaves out:
sealed files (`add_files` makes those that are to be destroyed), and what is measured.
"""

from __future__ import annotations

import os
import resource
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec
from sqlalchemy import insert, select

from gateway.core.core import Core
from vault.catalogue.ledger import Draft
from vault.catalogue.schema import documents, wrappings
from vault.catalogue.store import Transaction
from vault.crypto.wrapping import KeyWrapper, blind_index
from vault.ids import new_id
from vault.keys.custody import INDEX_NAME, PURPOSE_DOCUMENT
from vault.keys.secret_names import SECRET_INDEX
from vault.moments import stamp

COHORT = 50_000
FIRST_YEAR = 2025
NOTE = "demonstration-note"
LATER = "2099-01-01T00:00:00.000000+00:00"


def fill(core: Core, total: int, due: int) -> None:
    """Clone the only document of a store, which is filed and due, until there are `total`."""
    sample = core.store.catalogue.read(lambda c: c.execute(select(documents)).one())
    made, year = 1, FIRST_YEAR
    while made < total:
        count = min(COHORT, total - made)
        due_here = min(due, count)
        _cohort(core, sample, year, count, due_here)
        made, due, year = made + count, due - due_here, year + 1


def _cohort(core: Core, sample, year: int, count: int, due: int) -> None:
    custody, now = core.store.custody, core.now()
    metadata = custody.open_metadata(sample)
    index = custody.keyring(sample.client_id).secrets[SECRET_INDEX]

    def work(tx: Transaction) -> None:
        group = custody.cohort_group(tx.connection, sample.client_id, year, NOTE, now)
        wrapper = KeyWrapper(group.key, purpose=PURPOSE_DOCUMENT, group=group.id)
        rows, worn, drafts = [], [], []
        for number in range(count):
            document_id = new_id(now)
            key = secrets.token_bytes(32)
            own = msgspec.structs.replace(metadata, name=f"note-{year}-{number}.txt")
            rows.append({
                **sample._mapping, "id": document_id, "group_id": group.id, "fiscal_year": year,
                "wrapped_key": wrapper.wrap(key, document_id),
                "sealed_metadata": custody.seal_metadata(key, document_id, own),
                "name_index": blind_index(index, INDEX_NAME, own.name),
                "eligible_at": sample.eligible_at if number < due else LATER,
            })  # fmt: skip
            worn.append(
                {"document_id": document_id, "group_id": group.id, "wrapped_at": stamp(now)}
            )
            drafts.append(
                Draft("document.received", document_id, "core", now, {"commitment": "0" * 64})
            )
        tx.connection.execute(insert(documents), rows)
        tx.connection.execute(insert(wrappings), worn)
        tx.ledger.append_all(tx.connection, drafts)

    core.store.catalogue.write(work)


def due_now(core: Core) -> Sequence[str]:
    """The ids of the documents that are due, in the order of their arrival."""
    return core.store.catalogue.read(
        lambda c: (
            c.execute(
                select(documents.c.id)
                .where(documents.c.eligible_at <= stamp(core.now()))
                .order_by(documents.c.id)
            )
            .scalars()
            .all()
        )
    )


def add_files(core: Core, ids: Sequence[str]) -> None:
    """Give these documents sealed files, where they have none."""
    blobs = core.store.blobs
    for document_id in ids:
        if not blobs.exists(document_id):
            fd = blobs.begin(document_id)
            os.pwrite(fd, b"x" * 200, 0)
            blobs.publish(document_id, fd)
            blobs.settle(document_id)
            os.close(fd)


def resident(pid: int | str = "self") -> int:
    """Resident memory of a process now, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


class Peak:
    """The most memory this process held while a piece of work ran."""

    def __enter__(self) -> Self:
        self.before = self.most = resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.most = max(self.most, resident())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
