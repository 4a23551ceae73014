"""Custody of document keys: which group wraps them, when they move, and when a group ends.

Promises:
- A document key exists wrapped under exactly one group at a time; the catalogue remembers every group
  that ever wrapped it (`wrappings`), because old backups keep the old wrapping.
- A group key is on disk (keyring saved) before anything wrapped under it can be committed, and it is
  dropped only after every document that still lives in it has moved and its new wrapping was verified.
- What arrives is wrapped under the client's intake group of the day; filed, it moves to the cohort of its
  fiscal year and record class.

Rule: keyrings change on the catalogue's writing thread only (inside a work), so that no two changes can
race and every change sees the one before it.

One module, although it is long: wrapping, moving and the end of groups are one account of each key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from vault.catalogue import queries
from vault.catalogue.ledger import commitment
from vault.catalogue.prepared import Prepared
from vault.catalogue.schema import documents, groups, wrappings
from vault.crypto.wrapping import (
    KeyWrapper,
    blind_index,
    blind_number,
    open_record,
    seal_record,
    unwrap_key,
    wrap_key,
)
from vault.errors import IntegrityError, KeyUnavailable
from vault.keys import copies
from vault.keys.keyring import GroupKey, KeyringStore
from vault.keys.open_keyrings import OpenKeyrings
from vault.keys.secret_names import SECRET_INDEX
from vault.moments import stamp

PURPOSE_DOCUMENT: Final = "document"
PURPOSE_METADATA: Final = "document-metadata"
INDEX_NAME: Final = "document-name"
INDEX_DIGEST: Final = "document-digest"
INDEX_MESSAGE: Final = "message-id"
INDEX_CONTENT: Final = "message-content"
MOVE_PAGE: Final = 5000  # keys re-wrapped in one transaction: about a quarter of a second

# What every document passes through is built once: building a statement costs three times its execution.
_OPEN_GROUP: Final = Prepared(
    select(groups.c.id).where(
        groups.c.client_id == bindparam("client"),
        groups.c.kind == bindparam("kind"),
        groups.c.label == bindparam("label"),
        groups.c.closed_at.is_(None),
        groups.c.ended_at.is_(None),
    )
)
_REMEMBER: Final = Prepared(
    insert_or(wrappings)
    .values({name: bindparam(name) for name in ("document_id", "group_id", "wrapped_at")})
    .on_conflict_do_nothing()
)
_MOVE: Final = (
    update(documents)
    .where(documents.c.id == bindparam("document"))
    .values(group_id=bindparam("group"), wrapped_key=bindparam("wrapped"))
)


class DocumentMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is personal about a document, sealed under its own key.

    `salt` is the salt of its commitments in the ledger; `path` the name as sent, below the inbox. `findings`
    are what inspection had to say against it, `reasons` why it was taken for its class: codes, whole, where
    the row has one, cut short. `ignored` is what was found inside and became no document ("rule: name").
    """

    name: str
    sha256: bytes
    salt: bytes
    path: str = ""
    sender: str = ""
    facts: dict[str, str] = msgspec.field(default_factory=dict)
    findings: list[str] = msgspec.field(default_factory=list)
    reasons: list[str] = msgspec.field(default_factory=list)
    ignored: list[str] = msgspec.field(default_factory=list)

    @property
    def commitment(self) -> str:
        """What the ledger has of the content: a salted digest, which tells nobody what it is of."""
        return commitment(self.salt, self.sha256)


_encode = msgspec.msgpack.encode
_decode_metadata = msgspec.msgpack.Decoder(DocumentMetadata).decode


class Rewrapping:
    """Moves wrapped document keys from one group to another, and sees that each opens again.

    Every key of a large group passes here, so the two ciphers are set up once.
    """

    def __init__(self, source: GroupKey, target: GroupKey) -> None:
        self._source = KeyWrapper(source.key, purpose=PURPOSE_DOCUMENT, group=source.id)
        self._target = KeyWrapper(target.key, purpose=PURPOSE_DOCUMENT, group=target.id)

    def __call__(self, document_id: str, wrapped: bytes) -> bytes:
        """The key of `document_id`, wrapped anew (raises IntegrityError)."""
        key = self._source.unwrap(wrapped, document_id)
        again = self._target.wrap(key, document_id)
        if self._target.unwrap(again, document_id) != key:
            raise IntegrityError(f"document {document_id}: expected its key back", kind="format")
        return again


class Custody(OpenKeyrings):
    """The keyrings of a store, open in memory, and the document keys that they wrap."""

    def __init__(
        self,
        keyrings: KeyringStore,
        targets: Sequence[str] = (),
        reread: Callable[[str], Row[Any] | None] | None = None,
    ) -> None:
        """`targets`: names of the registered copies, which must follow every change.

        `reread` gives a document's row as it is now: between a reader's look at the row and its use of the
        key the document may have moved to another group, and the old one ended.
        """
        super().__init__(keyrings, targets)
        self._reread = reread

    # ── groups ──

    def intake_group(self, connection: Connection, client_id: str, now: datetime) -> GroupKey:
        """The client's intake group of the day, made if need be."""
        return self._group(connection, client_id, "intake", now.date().isoformat(), now)

    def cohort_group(
        self,
        connection: Connection,
        client_id: str,
        fiscal_year: int,
        record_class: str,
        now: datetime,
    ) -> GroupKey:
        """The cohort of a fiscal year and record class: what falls due together."""
        return self._group(connection, client_id, "cohort", f"FY{fiscal_year}/{record_class}", now)

    def _group(
        self, connection: Connection, client_id: str, kind: Any, label: str, now: datetime
    ) -> GroupKey:
        wanted = {"client": client_id, "kind": kind, "label": label}
        found = _OPEN_GROUP.scalar(connection, wanted)
        if found is not None:
            return self.keyring(client_id).group(found)
        return self._new_group(connection, client_id, kind, label, now)

    def _new_group(
        self, connection: Connection, client_id: str, kind: Any, label: str, now: datetime
    ) -> GroupKey:
        # The key is durable before its row, and the row before anything wrapped under it. A crash in
        # between leaves a key without a row, which `reconcile` drops.
        at = stamp(now)
        group = self.keyring(client_id).new_group(kind, label, at)
        self.save(connection, client_id, now)
        connection.execute(
            insert(groups),
            {
                "id": group.id,
                "client_id": client_id,
                "kind": kind,
                "label": label,
                "created_at": at,
            },
        )
        return group

    # ── documents ──

    def wrap(self, document_id: str, key: bytes, group: GroupKey) -> dict[str, Any]:
        """Wrap a document key under a group, and see that it opens again.

        Returns:
            The columns to store with the document. Once its row is there, `remember` the group.
        """
        wrapped = wrap_key(
            group.key, key, purpose=PURPOSE_DOCUMENT, subject=document_id, group=group.id
        )
        if (
            unwrap_key(
                group.key, wrapped, purpose=PURPOSE_DOCUMENT, subject=document_id, group=group.id
            )
            != key
        ):
            raise IntegrityError(f"document {document_id}: expected its key back", kind="format")
        return {"group_id": group.id, "wrapped_key": wrapped}

    def remember(
        self, connection: Connection, document_id: str, group_id: str, now: datetime
    ) -> None:
        """Record that a group has wrapped a document's key."""
        _REMEMBER.execute(
            connection,
            {
                "document_id": document_id,
                "group_id": group_id,
                "wrapped_at": stamp(now),
            },
        )

    def document_key(self, row: Row[Any]) -> bytes:
        """The key of a document row (needs id, client_id, group_id, wrapped_key).

        Raises:
            KeyUnavailable: the document, its group or its client's keyring has ended.
        """
        if row.wrapped_key is None or row.group_id is None:
            raise KeyUnavailable(f"document {row.id}: expected a key, found none (destroyed)")
        try:
            group = self.keyring(row.client_id).group(row.group_id)
        except KeyUnavailable:
            now = self._reread(row.id) if self._reread is not None else None
            if now is None or now.wrapped_key is None or now.group_id == row.group_id:
                raise
            row = now
            group = self.keyring(row.client_id).group(row.group_id)
        return unwrap_key(
            group.key,
            row.wrapped_key,
            purpose=PURPOSE_DOCUMENT,
            subject=row.id,
            group=group.id,
        )

    def admit(
        self,
        connection: Connection,
        document_id: str,
        client_id: str,
        key: bytes,
        metadata: DocumentMetadata,
        now: datetime,
        *,
        sender: str | None = None,
    ) -> dict[str, Any]:
        """Take the key of a new document into custody: wrapped under the intake group of the day.

        Args:
            sender: who sent it, where the number that stands for them is wanted.

        Returns:
            Every column that depends on a key: the wrapped key and its group, the sealed metadata, the blind
            indexes of its name and, where its digest is known, of its content, and the sender's number (which
            does not tell who it is). Once its row is there, `remember` the group.
        """
        group = self.intake_group(connection, client_id, now)
        columns = {
            **self.wrap(document_id, key, group),
            "sealed_metadata": self.seal_metadata(key, document_id, metadata),
            "name_index": self.name_index(client_id, metadata.name),
        }
        if metadata.sha256:
            columns["digest_index"] = self.digest_index(client_id, metadata.sha256)
        if sender is not None:
            columns["lane"] = blind_number(self._index_key(client_id), sender)
        return columns

    def name_index(self, client_id: str, name: str) -> bytes:
        """The blind index of a document's name, by which only its client's keyring finds it."""
        return blind_index(self._index_key(client_id), INDEX_NAME, name)

    def digest_index(self, client_id: str, sha256: bytes) -> bytes:
        """The blind index of a document's content."""
        return blind_index(self._index_key(client_id), INDEX_DIGEST, sha256.hex())

    def message_index(self, client_id: str, message_id: str) -> bytes | None:
        """The blind index of a message's Message-ID (RFC 5322, section 3.6.4); None for one without."""
        if not message_id:
            return None
        return blind_index(self._index_key(client_id), INDEX_MESSAGE, message_id)

    def content_index(
        self, client_id: str, content: bytes, sender: str, recipients: str, submitter: str
    ) -> bytes:
        """The blind index of what a message says, who sent it and to which addresses."""
        value = json.dumps([content.hex(), sender, recipients, submitter])
        return blind_index(self._index_key(client_id), INDEX_CONTENT, value)

    def _index_key(self, client_id: str) -> bytes:
        return self.keyring(client_id).secrets[SECRET_INDEX]

    def seal_metadata(self, key: bytes, document_id: str, metadata: DocumentMetadata) -> bytes:
        """Seal a document's personal metadata under its key."""
        return seal_record(key, _encode(metadata), purpose=PURPOSE_METADATA, subject=document_id)

    def open_metadata(self, row: Row[Any]) -> DocumentMetadata:
        """The personal metadata of a document row (raises as `document_key`)."""
        if row.sealed_metadata is None:
            raise KeyUnavailable(f"document {row.id}: expected metadata, found none (destroyed)")
        data = open_record(
            self.document_key(row), row.sealed_metadata, purpose=PURPOSE_METADATA, subject=row.id
        )
        return _decode_metadata(data)

    def move(
        self, connection: Connection, row: Row[Any], group: GroupKey, now: datetime
    ) -> dict[str, Any]:
        """Re-wrap a document's key under another group; returns the columns to store."""
        columns = self.wrap(row.id, self.document_key(row), group)
        self.remember(connection, row.id, group.id, now)
        return columns

    # ── the end of groups ──

    def living_groups(self, connection: Connection, document_ids: Sequence[str]) -> list[str]:
        """Every group that ever wrapped one of these documents' keys and whose key is not dropped yet."""
        found: set[str] = set()
        for part in queries.pages(document_ids):
            found.update(
                connection.execute(
                    select(wrappings.c.group_id)
                    .distinct()
                    .join(groups, groups.c.id == wrappings.c.group_id)
                    .where(wrappings.c.document_id.in_(part), groups.c.dropped_at.is_(None))
                ).scalars()
            )
        return sorted(found)

    def close_group(self, connection: Connection, group_id: str, now: datetime) -> None:
        """The group takes nothing more from here on: it is about to end."""
        connection.execute(
            update(groups)
            .where(groups.c.id == group_id, groups.c.closed_at.is_(None))
            .values(closed_at=stamp(now))
        )

    def move_survivors(
        self, connection: Connection, group_id: str, now: datetime, *, leaving: str = ""
    ) -> int:
        """Move up to `MOVE_PAGE` documents out of a closed group, verifying each new wrapping.

        They go to the open group of the same kind and label, which is made if need be. Call it, one
        transaction each, until it returns 0. The old group stays in the keyring until `drop_keys`, so that a
        crash in between loses nothing.

        Args:
            leaving: a batch whose documents do not move, because they end with the group.

        Returns:
            How many were moved; 0: nothing stays in the group that is to survive it.

        Raises:
            RuntimeError: the group is open, so that documents would come in behind the mover.
        """
        old = connection.execute(select(groups).where(groups.c.id == group_id)).one()
        if old.closed_at is None:
            raise RuntimeError(f"group {group_id}: expected it closed, found it open")
        wanted = [documents.c.group_id == group_id]
        if leaving:
            wanted.append(documents.c.batch_id.is_(None) | (documents.c.batch_id != leaving))
        rows = connection.execute(
            select(documents.c.id, documents.c.wrapped_key).where(*wanted).limit(MOVE_PAGE)
        ).all()
        if not rows:
            return 0
        source = self.keyring(old.client_id).group(group_id)
        target = self._group(connection, old.client_id, old.kind, old.label, now)
        at = stamp(now)
        rewrap = Rewrapping(source, target)
        moved = [
            {"document": row.id, "group": target.id, "wrapped": rewrap(row.id, row.wrapped_key)}
            for row in rows
        ]
        _REMEMBER.execute_all(
            connection,
            [
                {"document_id": each["document"], "group_id": target.id, "wrapped_at": at}
                for each in moved
            ],
        )
        connection.execute(_MOVE, moved)
        return len(moved)

    def end_groups(self, connection: Connection, group_ids: Iterable[str], now: datetime) -> None:
        """Record that groups have ended; their keys go with `drop_keys`, once this is committed.

        In between, what this transaction shares with others (documents moving out) may still be rolled
        back, and then needs the keys.

        Raises:
            RuntimeError: a living document is still wrapped under one of them.
        """
        for part in queries.pages(list(group_ids)):
            left = connection.execute(
                select(documents.c.id).where(documents.c.group_id.in_(part)).limit(1)
            ).scalar()
            if left is not None:
                raise RuntimeError(f"group: expected no document left in it, found {left}")
            connection.execute(
                update(groups)
                .where(groups.c.id.in_(part), groups.c.ended_at.is_(None))
                .values(ended_at=stamp(now))
            )

    def drop_keys(
        self, connection: Connection, client_id: str, group_ids: Iterable[str], now: datetime
    ) -> None:
        """Drop the keys of groups whose end is committed: the keyring is rewritten under a new epoch key.

        Run in a transaction of its own, after that of `end_groups`. Safe to repeat: the copies are asked to
        follow each time, because a crash may have lost the request.

        Raises:
            RuntimeError: one of them has not ended.
        """
        ids = list(group_ids)
        for part in queries.pages(ids):
            alive = connection.execute(
                select(groups.c.id)
                .where(groups.c.id.in_(part), groups.c.ended_at.is_(None))
                .limit(1)
            ).scalar()
            if alive is not None:
                raise RuntimeError(
                    f"group {alive}: expected its end to be recorded, found it alive"
                )
        keyring = self.keyring(client_id)
        present = [group_id for group_id in ids if group_id in keyring.groups]
        if present:
            for group_id in present:
                keyring.drop_group(group_id)
            self.save(connection, client_id, now)
        else:
            copies.request(connection, self._targets, client_id, now)
        for part in queries.pages(ids):
            connection.execute(
                update(groups)
                .where(groups.c.id.in_(part), groups.c.dropped_at.is_(None))
                .values(dropped_at=stamp(now))
            )

    def groups_to_drop(self, connection: Connection) -> list[tuple[str, str]]:
        """(client id, group id) of groups that have ended and whose keys are still in a keyring."""
        return [
            (row.client_id, row.id)
            for row in connection.execute(
                select(groups.c.client_id, groups.c.id).where(
                    groups.c.ended_at.is_not(None), groups.c.dropped_at.is_(None)
                )
            )
        ]

    def every_group(self, connection: Connection, document_ids: Sequence[str]) -> list[str]:
        """Every group that ever wrapped one of these documents' keys."""
        found: set[str] = set()
        for part in queries.pages(document_ids):
            found.update(
                connection.execute(
                    select(wrappings.c.group_id).distinct().where(wrappings.c.document_id.in_(part))
                ).scalars()
            )
        return sorted(found)

    def empty_intake_groups(self, connection: Connection, today: str) -> list[tuple[str, str]]:
        """(client id, group id) of past intake groups that nothing lives in any more."""
        occupied = select(documents.c.id).where(documents.c.group_id == groups.c.id).exists()
        return [
            (row.client_id, row.id)
            for row in connection.execute(
                select(groups.c.client_id, groups.c.id).where(
                    groups.c.kind == "intake",
                    groups.c.ended_at.is_(None),
                    groups.c.label < today,
                    ~occupied,
                )
            )
        ]

    def reconcile(self, connection: Connection, client_id: str, now: datetime) -> list[str]:
        """Drop keys that a crash, or an older file, left without a living row; returns their group ids.

        Keys of groups that have ended are not dropped here: `groups_to_drop` says which, and whoever
        ends them makes sure first that backups know what became of the survivors.
        """
        keyring = self.keyring(client_id)
        known = set(
            connection.execute(
                select(groups.c.id).where(
                    groups.c.client_id == client_id, groups.c.dropped_at.is_(None)
                )
            ).scalars()
        )
        stray = [group_id for group_id in keyring.groups if group_id not in known]
        for group_id in stray:
            keyring.drop_group(group_id)
        if stray:
            self.save(connection, client_id, now)
        return stray
