"""A client's inbox as the catalogue has it: its folders, and the newest document of each name.

Folders of the inbox are the client's own, their names sealed like its documents'; there are at most
`MOST_FOLDERS`, and the ledger has an entry, without the name, for each that is made or removed.
Leaves out: what is answered to a client that asks (`client`), and taking documents in (`core.intake`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.sql import ColumnElement

from gateway.core.core import Core
from gateway.core.intake import temporary
from gateway.core.views.base import (
    DROP_MODE,
    NOT_FOUND,
    PAGE,
    folder,
    page,
    plain_file,
)
from gateway.errors import Refusal
from gateway.wire.messages import Entry, Page
from vault.catalogue.prepared import Prepared
from vault.catalogue.schema import clients, documents, folders
from vault.catalogue.states import STORED, DocumentState
from vault.catalogue.store import Transaction
from vault.crypto.wrapping import blind_index, open_record, seal_record
from vault.errors import KeyUnavailable
from vault.ids import new_id, oldest_at
from vault.keys.keyring import Keyring
from vault.keys.secret_names import SECRET_INDEX, SECRET_PROFILE
from vault.moments import stamp

PURPOSE_FOLDER: Final = "folder-name"
FOLDERS: Final = "f"  # cursor of a listing: folders after this id, then documents
DOCUMENTS: Final = "d"
MOST_FOLDERS: Final = 10_000  # of one client: each is a row for good, and none counts as a document
_LISTED: Final = [*STORED, DocumentState.PARTIAL]


def _folder_statement(*, top: bool) -> Prepared:
    """The folder of a name in another, or in the inbox itself (`top`)."""
    return Prepared(
        select(folders).where(
            folders.c.client_id == bindparam("client"),
            folders.c.parent_id.is_(None) if top else folders.c.parent_id == bindparam("parent"),
            folders.c.name_index == bindparam("name"),
        )
    )


def _newest_statement(*, top: bool) -> Prepared:
    """The newest listed document of a name in a folder, or in the inbox itself (`top`)."""
    return Prepared(
        select(documents)
        .where(
            documents.c.client_id == bindparam("client"),
            documents.c.channel == "sftp",
            documents.c.folder_id.is_(None)
            if top
            else documents.c.folder_id == bindparam("folder"),
            documents.c.name_index == bindparam("name"),
            documents.c.state.in_(_LISTED),
            documents.c.received_at >= bindparam("since"),
        )
        # An expression, so that the few of this name are found and sorted: in the order of its index the
        # whole folder would be searched for them.
        .order_by(documents.c.id.concat("").desc())
        .limit(1)
    )


_FOLDER: Final = {top: _folder_statement(top=top) for top in (False, True)}
_NEWEST: Final = {top: _newest_statement(top=top) for top in (False, True)}


@dataclass(frozen=True)
class Found:
    """The folder that a path lies in (None: the inbox itself), and what is there (None: nothing)."""

    folder_id: str | None
    entry: Entry | None


class Inbox:
    """The inbox of one client. Paths are those below it, as names; a name opens with the client's keys."""

    def __init__(self, core: Core, client_id: str) -> None:
        self.core = core
        self.client_id = client_id

    def find_folder(self, connection: Connection, parent: str | None, name: str) -> Row[Any] | None:
        """The row of a folder by its name; `parent` None: it lies in the inbox itself."""
        wanted = {
            "client": self.client_id,
            "parent": parent,
            "name": self._folder_index(name),
        }
        found: Row[Any] | None = _FOLDER[parent is None].one_or_none(connection, wanted)
        return found

    def folder_id(self, connection: Connection, path: tuple[str, ...]) -> str | None:
        """The id of a folder below the inbox; None for the inbox itself (raises Refusal)."""
        current: str | None = None
        for name in path:
            found = self.find_folder(connection, current, name)
            if found is None:
                raise Refusal("not_found", NOT_FOUND)
            current = found.id
        return current

    def newest(self, connection: Connection, folder_id: str | None, name: str) -> Row[Any] | None:
        """The row that a client sees of a name, whole or partial."""
        wanted = {
            "client": self.client_id,
            "folder": folder_id,
            "name": self.core.store.custody.name_index(self.client_id, name),
            "since": stamp(self._since()),
        }
        found: Row[Any] | None = _NEWEST[folder_id is None].one_or_none(connection, wanted)
        return found

    def waiting(self, connection: Connection, path: tuple[str, ...]) -> Row[Any] | None:
        """The partial that a temporary name below the inbox shows; None for anything else."""
        *parents, name = path
        if not temporary.is_temporary(name):
            return None
        folder_id = self.folder_id(connection, tuple(parents))
        if self.find_folder(connection, folder_id, name) is not None:
            return None
        newest = self.newest(connection, folder_id, name)
        return newest if newest is not None and newest.state == DocumentState.PARTIAL else None

    def entry(self, connection: Connection, path: tuple[str, ...]) -> Entry:
        """The entry of a folder or document below the inbox (raises Refusal)."""
        found = self.look(connection, path).entry
        if found is None:
            raise Refusal("not_found", NOT_FOUND)
        return found

    def look(self, connection: Connection, path: tuple[str, ...]) -> Found:
        """What a path below the inbox leads to (raises Refusal: its folder is not there)."""
        *parents, name = path
        folder_id = self.folder_id(connection, tuple(parents))
        found = self.find_folder(connection, folder_id, name)
        if found is not None:
            made = datetime.fromisoformat(found.created_at)
            return Found(folder_id, folder(name, made, DROP_MODE))
        row = self.newest(connection, folder_id, name)
        if row is None:
            return Found(folder_id, None)
        return Found(folder_id, plain_file(name, row.size, row.received_at))

    def page(self, connection: Connection, path: tuple[str, ...], cursor: str) -> Page:
        """Folders first, then documents; of one name the newest."""
        folder_id = self.folder_id(connection, path)
        entries: list[Entry] = []
        profile = self._keyring().secrets[SECRET_PROFILE]
        last = cursor[1:]
        if not cursor.startswith(DOCUMENTS):
            below = connection.execute(
                select(folders)
                .where(
                    folders.c.client_id == self.client_id,
                    folders.c.parent_id.is_(None)
                    if folder_id is None
                    else folders.c.parent_id == folder_id,
                    folders.c.id > last,
                )
                .order_by(folders.c.id)
                .limit(PAGE)
            ).all()
            for row in below:
                name = open_record(
                    profile, row.name, purpose=PURPOSE_FOLDER, subject=row.id
                ).decode()
                entries.append(folder(name, datetime.fromisoformat(row.created_at), DROP_MODE))
            if len(below) == PAGE:
                return page(entries, FOLDERS + below[-1].id)
            last = ""
        rows = connection.execute(
            select(documents)
            .where(
                *self._in_folder(folder_id),
                *self._listed(),
                documents.c.id > last,
            )
            .order_by(documents.c.id)
            .limit(PAGE)
        ).all()
        # By the names of this page, not in one query: that took a time quadratic in the folder's size.
        newest = set(
            connection.execute(
                select(func.max(documents.c.id))
                .where(
                    *self._in_folder(folder_id),
                    *self._listed(),
                    documents.c.name_index.in_([row.name_index for row in rows]),
                )
                .group_by(documents.c.name_index)
            ).scalars()
        )
        entries.extend(
            plain_file(self.core.store.custody.open_metadata(row).name, row.size, row.received_at)
            for row in rows
            if row.id in newest
        )
        return page(entries, DOCUMENTS + rows[-1].id if len(rows) == PAGE else "")

    def make_folder(self, tx: Transaction, path: tuple[str, ...], by: str, now: datetime) -> None:
        """Make a folder; `by` is the account that did (raises Refusal)."""
        parent = self.folder_id(tx.connection, path[:-1])
        name = path[-1]
        if self.find_folder(tx.connection, parent, name) is not None:
            raise Refusal("exists", "There is a folder of this name.")
        if self.newest(tx.connection, parent, name) is not None:
            raise Refusal("exists", "There is a file of this name; what was handed in stays.")
        there = tx.connection.execute(
            select(func.count()).select_from(folders).where(folders.c.client_id == self.client_id)
        ).scalar_one()
        if there >= MOST_FOLDERS:
            raise Refusal(
                "quota",
                f"There are {there} folders in this inbox, and there can be no more; remove some that"
                " are empty.",
            )
        keyring = self._keyring()
        folder_id = new_id(now)
        tx.connection.execute(
            insert(folders),
            {
                "id": folder_id,
                "client_id": self.client_id,
                "parent_id": parent,
                "name": seal_record(
                    keyring.secrets[SECRET_PROFILE],
                    name.encode(),
                    purpose=PURPOSE_FOLDER,
                    subject=folder_id,
                ),
                "name_index": self._folder_index(name),
                "created_at": stamp(now),
            },
        )
        self.core.record(tx, "folder.made", folder_id, by, now, client=self.client_id)

    def remove_folder(self, tx: Transaction, path: tuple[str, ...], by: str, now: datetime) -> None:
        """Remove an empty folder; `by` is the account that did (raises Refusal)."""
        folder_id = self.folder_id(tx.connection, path)
        inside = documents.c.folder_id == folder_id
        if tx.connection.execute(
            select(
                exists().where(inside, *self._listed())
                | exists().where(folders.c.parent_id == folder_id)
            )
        ).scalar():
            raise Refusal("failed", "This folder is not empty.")
        # What it held and is no longer listed, or no longer there, does not need it: a document keeps the
        # path it was sent under in its own metadata.
        tx.connection.execute(update(documents).where(inside).values(folder_id=None))
        tx.connection.execute(delete(folders).where(folders.c.id == folder_id))
        assert folder_id is not None  # the inbox itself is no such path
        self.core.record(tx, "folder.removed", folder_id, by, now, client=self.client_id)

    # ── inside ──

    def _keyring(self) -> Keyring:
        """The client's keys (raises Refusal once the client has ended, VaultError if they don't open)."""
        try:
            return self.core.store.custody.keyring(self.client_id)
        except KeyUnavailable as error:
            if self.core.store.catalogue.read(self._is_open):
                raise  # lost, which is another thing than ended
            raise Refusal(
                "denied", "This client is closed; nothing is taken in for it any more."
            ) from error

    def _is_open(self, connection: Connection) -> bool:
        wanted = select(clients.c.state).where(clients.c.id == self.client_id)
        return connection.execute(wanted).scalar() == "open"

    def _folder_index(self, name: str) -> bytes:
        key = self._keyring().secrets[SECRET_INDEX]
        return blind_index(key, PURPOSE_FOLDER, name)

    def _in_folder(self, folder_id: str | None) -> list[ColumnElement[bool]]:
        return [
            documents.c.client_id == self.client_id,
            documents.c.channel == "sftp",
            documents.c.folder_id.is_(None)
            if folder_id is None
            else documents.c.folder_id == folder_id,
        ]

    def _since(self) -> datetime:
        """What was received before is not listed any more."""
        return self.core.now() - timedelta(days=self.core.config.sftp.inbox_days)

    def _listed(self) -> list[ColumnElement[bool]]:
        """The conditions for a document to be listed: a partial upload, or one received lately."""
        since = self._since()
        return [
            documents.c.state.in_(_LISTED),
            documents.c.received_at >= stamp(since),
            # An upload may have begun long before it was received, but not longer than it can be continued:
            # from this id on the index gives what is listed, however much lies before it.
            documents.c.id
            >= oldest_at(since - timedelta(hours=self.core.config.retention.partial_hours, days=1)),
        ]
