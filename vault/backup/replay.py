"""Replaying, on a restored catalogue, what happened after its backup was made.

Promises: after `apply` of every amendment and `reconcile`, each document of the catalogue either lives and
its wrapped key opens with the keyrings at hand, or is destroyed with a tombstone, or was named as a problem.
A destroyed row has lost key and metadata as in a destruction, with an entry in the ledger that says it was
replayed.

Leaves out: sealed files, and believing anything (`vault.backup.restore` has verified what comes
here). A proof of a backup calls the same functions on a copy of its catalogue
(`gateway.core.outbound.backup.proof`).

Rules: a wrapping that opens is never replaced; a group that is in no keyring has ended; a group that an
amendment names gets its row from the keyring, which knows kind and label. A client is closed only if an
amendment says so: without its keyring it stays open, and each of its documents is named. A destruction that
the backup saw begun is not gone on with: its batch comes back rejected.

One module, although it is long: what an amendment ends is remembered and used when the rows are reconciled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, exists, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from vault.backup import format as backup_format
from vault.backup import readable
from vault.backup.amendments import Closing, Head, Line, Tombstone, Wrapping
from vault.catalogue import ledger_keys, queries
from vault.catalogue.client_end import forget_client
from vault.catalogue.ledger_keys import LedgerKey
from vault.catalogue.lifecycle import Event, change_state
from vault.catalogue.schema import (
    backup_amendments,
    backups,
    batches,
    clients,
    documents,
    groups,
    rotations,
    settings,
    wrappings,
)
from vault.catalogue.states import (
    OPEN_BATCHES,
    STORED,
    BatchState,
    ClientState,
    DocumentState,
    RotationState,
)
from vault.catalogue.store import Catalogue, Transaction
from vault.catalogue.tombstones import erase
from vault.keys.keyring import GroupKey, KeyringStore
from vault.keys.open_keyrings import HOUSE
from vault.moments import stamp

ACTOR: Final = "restore"
_SCOPE_CLIENT: Final = "client"
_PAGE: Final = 1000
_GONE: Final[dict[str, Any]] = {
    "group_id": None,
    "wrapped_key": None,
    "sealed_metadata": None,
    "name_index": None,
    "digest_index": None,
}


class Replay:
    """One restored catalogue and the keyrings of today. `destroyed`: documents destroyed by a replay."""

    def __init__(
        self,
        catalogue: Catalogue,
        keys: KeyringStore,
        target: str,
        problem: Callable[[str, str], None],
        now: datetime,
    ) -> None:
        """`target`: the backup's; `problem(subject, what)` is told what can't be brought back."""
        self._catalogue = catalogue
        self._problem = problem
        self._now = now
        self._stamp = stamp(now)
        self._groups: dict[str, tuple[str, GroupKey]] = {}
        self._epochs: dict[str, int] = {}
        for owner in keys.owners():
            keyring = keys.load(owner)
            self._epochs[owner] = keyring.epoch
            if owner != HOUSE:
                for group in keyring.groups.values():
                    self._groups[group.id] = (owner, group)
        self._batches: set[str] = set()
        self._handed_over: str | None = None
        self.destroyed = 0
        self.owners: set[str] = set()
        """Clients that are not closed, once `reconcile` is done."""
        # The highest number that the backup knew to have been delivered to its place.
        self.known_amendment: int = catalogue.read(
            lambda c: (
                c.execute(
                    select(func.max(backup_amendments.c.id)).where(
                        backup_amendments.c.target == target,
                        backup_amendments.c.delivered_at.is_not(None),
                    )
                ).scalar()
                or 0
            )
        )

    # ── amendments ──

    def apply_all(
        self,
        manifest: backup_format.Manifest,
        numbers: Sequence[int],
        opened: Callable[[int], AbstractContextManager[Iterator[Line]]],
    ) -> int:
        """Apply what the amendments say that the backup's catalogue does not know.

        Args:
            numbers: those that lie at the place, in their order.
            opened: gives the lines of one.

        Returns:
            How many were applied.
        """
        applied = 0
        for number in numbers:
            with opened(number) as lines:
                head = next(lines)
                assert isinstance(head, Head)  # reading sees to it
                if head.target != manifest.target or head.ledger_size < manifest.ledger_size:
                    continue  # the catalogue knows more than it says
                if head.previous > self.known_amendment and head.previous not in numbers:
                    self._problem(
                        f"amendment {head.previous}",
                        "expected it at the place, found none: what was destroyed then can't be told",
                    )
                self.apply(lines)
                applied += 1
        return applied

    def apply(self, lines: Iterable[Line]) -> None:
        """Apply the lines of an amendment behind its head."""
        page: list[Line] = []
        for line in lines:
            page.append(line)
            if len(page) == _PAGE:
                self._apply_page(page)
                page = []
        self._apply_page(page)

    def _apply_page(self, page: Sequence[Line]) -> None:
        def work(tx: Transaction) -> None:
            for line in page:
                match line:
                    case Wrapping():
                        self._rewrap(tx.connection, line)
                    case Tombstone():
                        self._destroy(tx, line)
                    case Closing():
                        self._close(tx, line)

        self._catalogue.write(work)

    def _rewrap(self, connection: Connection, line: Wrapping) -> None:
        if line.group not in self._groups:
            return  # ended as well: a later amendment says where the key went
        row = connection.execute(
            select(documents.c.state, documents.c.group_id).where(documents.c.id == line.document)
        ).one_or_none()
        if row is None or row.state not in STORED or row.group_id in self._groups:
            return
        self._ensure_group(connection, line.group)
        connection.execute(
            update(documents)
            .where(documents.c.id == line.document)
            .values(group_id=line.group, wrapped_key=line.key)
        )
        connection.execute(
            insert_or(wrappings).on_conflict_do_nothing(),
            {"document_id": line.document, "group_id": line.group, "wrapped_at": self._stamp},
        )

    def _ensure_group(self, connection: Connection, group_id: str) -> None:
        owner, group = self._groups[group_id]
        connection.execute(
            insert_or(groups).on_conflict_do_nothing(),
            {
                "id": group.id,
                "client_id": owner,
                "kind": group.kind,
                "label": group.label,
                "created_at": group.created_at,
            },
        )

    def _destroy(self, tx: Transaction, line: Tombstone) -> None:
        row = queries.document(tx.connection, line.document)
        if row is None or row.state == DocumentState.DESTROYED:
            return  # it came after the backup, or went before it
        if row.batch_id is not None:
            self._batches.add(row.batch_id)
        erase(
            tx,
            [line.document],
            client=row.client_id,
            batch=line.batch,
            destroyed_at=line.destroyed_at,
            replayed=True,
        )
        self._record(
            tx,
            "document.destroyed",
            line.document,
            batch=line.batch,
            record_class=row.record_class,
            rule=row.rule,
            replayed=True,
        )
        self.destroyed += 1

    def _close(self, tx: Transaction, line: Closing) -> None:
        if forget_client(tx.connection, line.client):
            self._record(tx, "client.closed", line.client, replayed=True)
            # A batch that was to end it has been carried out, with documents in it or without.
            self._batches.update(
                tx.connection.execute(
                    select(batches.c.id).where(
                        batches.c.client_id == line.client, batches.c.state.in_(OPEN_BATCHES)
                    )
                ).scalars()
            )

    # ── the store as it is now ──

    def reconcile(
        self,
        manifest: backup_format.Manifest,
        manifest_digest: str,
        root_id: str,
        vkey: str,
        highest: int,
    ) -> None:
        """Bring the rows in step with keyrings, root key and place.

        Args:
            root_id: the root key's public id.
            vkey: the verifier key of the ledger key in the house's keyring.
            highest: the highest number of an amendment at the place: none is given twice.
        """
        self._catalogue.write(self._uploads)
        self._catalogue.write(self._end_groups)
        self._catalogue.write(self._reject_batches)
        self._catalogue.write(
            lambda tx: self._own_rows(tx.connection, manifest, manifest_digest, root_id, highest)
        )
        self._catalogue.write(lambda tx: self._ledger_key(tx.connection, manifest, vkey))
        self.owners = set(self._catalogue.read(queries.with_keyring))
        self.examine()
        self._catalogue.write(self._bring_back_groups)

    def examine(self) -> None:
        """Name what the keyrings do not open: clients without one, copies that are too old, documents."""
        self._catalogue.read(
            lambda c: readable.keyrings(c, self._epochs, self._groups, self._problem)
        )
        readable.documents_open(self._catalogue, self._groups, self._problem)

    def _uploads(self, tx: Transaction) -> None:
        """End interrupted uploads: they were never acknowledged, and their files are in no backup."""
        for document_id in tx.connection.execute(
            select(documents.c.id).where(documents.c.state == DocumentState.PARTIAL)
        ).scalars():
            change_state(tx.connection, [document_id], Event.EXPIRE, self._stamp, **_GONE)
            self._record(tx, "document.expired", document_id, replayed=True)

    def _end_groups(self, tx: Transaction) -> None:
        ended: dict[str, list[str]] = {}
        known: dict[str, list[str]] = {}
        for row in tx.connection.execute(
            select(groups.c.id, groups.c.client_id, groups.c.ended_at).where(
                groups.c.dropped_at.is_(None)
            )
        ):
            if row.id not in self._groups:
                target = ended if row.ended_at is None else known
                target.setdefault(row.client_id, []).append(row.id)
        for client_id, ids in ended.items():
            for start in range(0, len(ids), _PAGE):
                part = ids[start : start + _PAGE]
                tx.connection.execute(
                    update(groups)
                    .where(groups.c.id.in_(part))
                    .values(ended_at=self._stamp, dropped_at=self._stamp)
                )
                self._record(tx, "groups.ended", client_id, groups=part, replayed=True)
        for ids in known.values():
            for start in range(0, len(ids), _PAGE):
                tx.connection.execute(
                    update(groups)
                    .where(groups.c.id.in_(ids[start : start + _PAGE]))
                    .values(dropped_at=self._stamp)
                )

    def _bring_back_groups(self, tx: Transaction) -> None:
        """Bring back groups whose key is in a keyring after all: it has to be dropped again."""
        held = tx.connection.execute(
            select(groups.c.id).where(groups.c.dropped_at.is_not(None))
        ).scalars()
        back = [group_id for group_id in held if group_id in self._groups]
        for start in range(0, len(back), _PAGE):
            tx.connection.execute(
                update(groups)
                .where(groups.c.id.in_(back[start : start + _PAGE]))
                .values(dropped_at=None)
            )

    def _reject_batches(self, tx: Transaction) -> None:
        """Reject batches that were executed after the backup: nothing is left to be decided.

        Nor is one gone on with that was under way then: what it was to destroy is proposed again.
        """
        living = (
            exists()
            .where(documents.c.batch_id == batches.c.id, documents.c.state.in_(STORED))
            .correlate(batches)
        )
        self._batches.update(
            tx.connection.execute(
                select(batches.c.id).where(batches.c.state == BatchState.EXECUTING, living)
            ).scalars()
        )
        for batch_id in sorted(self._batches):
            changed = tx.connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.state.in_(OPEN_BATCHES))
                .values(state=BatchState.REJECTED, finished_at=self._stamp)
            )
            tx.connection.execute(
                update(documents).where(documents.c.batch_id == batch_id).values(batch_id=None)
            )
            if changed.rowcount:
                self._record(tx, "disposal.rejected", batch_id, replayed=True)
                # The end of a client that has not come: it is as it was before.
                tx.connection.execute(
                    update(clients)
                    .where(
                        clients.c.state == ClientState.CLOSING,
                        clients.c.id.in_(
                            select(batches.c.client_id).where(
                                batches.c.id == batch_id, batches.c.scope == _SCOPE_CLIENT
                            )
                        ),
                    )
                    .values(state=ClientState.OPEN)
                )

    def _own_rows(
        self,
        connection: Connection,
        manifest: backup_format.Manifest,
        digest: str,
        root_id: str,
        highest: int,
    ) -> None:
        connection.execute(
            update(settings).where(settings.c.key == "root_key_id").values(value=root_id)
        )
        # In its own catalogue a backup is still being made; left so, the next run would clear it away.
        connection.execute(
            update(backups)
            .where(backups.c.id == manifest.backup)
            .values(
                state=backup_format.DONE,
                finished_at=manifest.created_at,
                ledger_size=manifest.ledger_size,
                documents=manifest.documents,
                manifest_digest=digest,
            )
        )
        connection.execute(
            update(backups)
            .where(backups.c.state == backup_format.RUNNING)
            .values(state=backup_format.FAILED, finished_at=self._stamp, failure="interrupted")
        )
        newest = connection.execute(select(func.max(backup_amendments.c.id))).scalar() or 0
        if highest > newest:
            connection.execute(
                insert(backup_amendments),
                {
                    "id": highest,
                    "target": manifest.target,
                    "created_at": self._stamp,
                    "groups": "[]",
                    "attempts": 0,
                    "delivered_at": self._stamp,
                    "failure": "restored",
                },
            )
        # What was being rotated is in step with the keyrings now; what is too old falls due again.
        connection.execute(
            update(rotations)
            .where(rotations.c.state == RotationState.RUNNING)
            .values(state=RotationState.DONE, finished_at=self._stamp)
        )

    def _ledger_key(
        self, connection: Connection, manifest: backup_format.Manifest, vkey: str
    ) -> None:
        """Note a ledger key that came after the backup: the entry of the restore introduces it."""
        known = ledger_keys.load(connection)
        present = known[-1].vkey if known else manifest.vkey
        if present == vkey:
            return
        if not known:
            ledger_keys.store(connection, [LedgerKey(0, present, "")], self._now)
        self._handed_over = vkey

    def record(self, manifest: backup_format.Manifest) -> None:
        """Write into the ledger, and the settings, that this store is a restored one."""

        def work(tx: Transaction) -> None:
            more = {"vkey": self._handed_over} if self._handed_over else {}
            at = self._record(
                tx,
                "store.restored",
                manifest.store,
                backup=manifest.backup,
                ledger_size=manifest.ledger_size,
                **more,
            )
            if self._handed_over:
                ledger_keys.store(tx.connection, [LedgerKey(at, self._handed_over, "")], self._now)
            tx.connection.execute(
                delete(settings).where(settings.c.key == backup_format.SETTING_RESTORED)
            )
            tx.connection.execute(
                insert(settings),
                {"key": backup_format.SETTING_RESTORED, "value": str(manifest.ledger_size)},
            )

        self._catalogue.write(work)

    def _record(self, tx: Transaction, kind: str, subject: str, **facts: Any) -> int:
        return tx.ledger.append(
            tx.connection, kind=kind, subject=subject, actor=ACTOR, at=self._now, facts=facts
        )


def remove_unknown(folder: Path, keys: KeyringStore, owners: set[str]) -> list[str]:
    """Remove the copied keyrings of clients that the catalogue does not know as open; returns whose."""
    unknown = [owner for owner in keys.owners() if owner not in {HOUSE, *owners}]
    for owner in unknown:
        if keys.path(owner).parent != folder:
            raise RuntimeError(f"keyring {owner}: expected it in {folder}")
        keys.destroy(owner)
    return unknown
