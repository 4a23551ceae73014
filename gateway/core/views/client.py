"""What a client sees: `/inbox/` (write; lists what was received) and `/receipts/`.

What was handed in can't be read back, changed or removed; the same name again is a new version, and the
listing shows the newest. Folders of the inbox are the client's own, their names sealed like its documents'.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, exists, insert, select
from sqlalchemy.sql import ColumnElement

from gateway.core import receipts
from gateway.core.journey import receive
from gateway.core.journey.lifecycle import STORED, State
from gateway.core.journey.receive import Upload
from gateway.core.runtime import stamp
from gateway.core.tree import (
    DROP_MODE,
    NOT_FOUND,
    PAGE,
    READ_ONLY,
    Opened,
    View,
    folder,
    memory_file,
    page,
    plain_file,
)
from gateway.errors import Refusal
from gateway.wire.messages import Entry, Page
from vault.catalogue.schema import documents, folders
from vault.catalogue.store import Transaction
from vault.errors import KeyUnavailable
from vault.ids import new_id
from vault.keyring import Keyring
from vault.store import SECRET_INDEX, SECRET_PROFILE
from vault.wrapping import blind_index, open_record, seal_record

PURPOSE_FOLDER: Final = "folder-name"


class ClientView(View):
    """A client's own inbox and receipts."""

    @property
    def client_id(self) -> str:
        assert self.account.client_id is not None
        return self.account.client_id

    async def stat(self, path: tuple[str, ...]) -> Entry:
        if not path:
            return folder("/")
        if path == ("inbox",):
            return folder("inbox", mode=DROP_MODE)
        if path == ("receipts",):
            return folder("receipts")
        if path[0] == "inbox":
            return await self.core.read(lambda connection: self._inbox_entry(connection, path[1:]))
        if path[0] == "receipts" and len(path) == 2:
            row = await self._receipt_row(path[1])
            data = receipts.render(self.core, row, self.metadata(row))
            return plain_file(path[1], len(data), row.state_since)
        raise Refusal("not_found", NOT_FOUND)

    async def entries(self, path: tuple[str, ...], cursor: str) -> Page:
        if not path:
            return page([folder("inbox", mode=DROP_MODE), folder("receipts")])
        if path[0] == "inbox":
            return await self.core.read(
                lambda connection: self._inbox_page(connection, path[1:], cursor)
            )
        if path == ("receipts",):
            return await self.core.read(lambda connection: self._receipts_page(connection, cursor))
        raise Refusal("not_found", NOT_FOUND)

    async def open_read(self, path: tuple[str, ...]) -> Opened:
        if len(path) == 2 and path[0] == "receipts":
            row = await self._receipt_row(path[1])
            return memory_file(receipts.render(self.core, row, self.metadata(row)))
        if path and path[0] == "inbox":
            await self.stat(path)
            raise Refusal("denied", "What was handed in can't be read back; see /receipts.")
        raise Refusal("not_found", NOT_FOUND)

    async def begin_upload(self, path: tuple[str, ...], *, resume: bool) -> tuple[Upload, int]:
        if len(path) < 2 or path[0] != "inbox":
            raise Refusal("denied", "Files are handed in below /inbox.")
        *parents, name = path[1:]

        def look(connection: Connection) -> tuple[str | None, Row[Any] | None]:
            folder_id = self._folder_id(connection, tuple(parents))
            if self._find_folder(connection, folder_id, name) is not None:
                raise Refusal("exists", "There is a folder of this name.")
            newest = connection.execute(
                select(documents)
                .where(
                    *self._named(folder_id, name),
                    documents.c.state.in_([*STORED, State.PARTIAL]),
                )
                .order_by(documents.c.id.desc())
                .limit(1)
            ).one_or_none()
            # What a client sees of a name is its newest version: only that one can be continued.
            partial = newest is not None and newest.state == State.PARTIAL
            return folder_id, newest if partial else None

        folder_id, partial = await self.core.read(look)
        upload = {
            "client_id": self.client_id,
            "channel": "sftp",
            "name": name,
            "path": "/".join(path[1:]),
            "folder_id": folder_id,
            "submitter": self.account.id,
        }
        if resume and partial is not None:
            resumed = await receive.resume(self.core, partial, **upload)
            return resumed, resumed.resumed_size
        return await receive.begin(self.core, self.core.now(), **upload), 0

    async def make_folder(self, path: tuple[str, ...]) -> None:
        if len(path) < 2 or path[0] != "inbox":
            raise Refusal("denied", READ_ONLY)
        now = self.core.now()

        def work(tx: Transaction) -> None:
            parent = self._folder_id(tx.connection, path[1:-1])
            name = path[-1]
            if self._find_folder(tx.connection, parent, name) is not None:
                raise Refusal("exists", "There is a folder of this name.")
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

        await self.core.write(work)

    async def remove(self, path: tuple[str, ...], *, is_folder: bool) -> None:
        if len(path) < 2 or path[0] != "inbox":
            raise Refusal("denied", READ_ONLY)
        if not is_folder:
            await self.stat(path)
            raise Refusal(
                "denied", "What was handed in stays; ask your accountant if it was a mistake."
            )

        def work(tx: Transaction) -> None:
            folder_id = self._folder_id(tx.connection, path[1:])
            used = tx.connection.execute(
                select(
                    exists().where(documents.c.folder_id == folder_id)
                    | exists().where(folders.c.parent_id == folder_id)
                )
            ).scalar()
            if used:
                raise Refusal("failed", "This folder is not empty.")
            tx.connection.execute(delete(folders).where(folders.c.id == folder_id))

        await self.core.write(work)

    async def rename(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        del new
        await self.stat(old)
        raise Refusal("denied", "What was handed in keeps its name.")

    # ── inside ──

    def _keyring(self) -> Keyring:
        """The client's keys (raises Refusal once the client has ended)."""
        try:
            return self.core.store.custody.keyring(self.client_id)
        except KeyUnavailable as error:
            raise Refusal(
                "denied", "This client is closed; nothing is taken in for it any more."
            ) from error

    def _folder_index(self, name: str) -> bytes:
        key = self._keyring().secrets[SECRET_INDEX]
        return blind_index(key, PURPOSE_FOLDER, name)

    def _find_folder(
        self, connection: Connection, parent: str | None, name: str
    ) -> Row[Any] | None:
        return connection.execute(
            select(folders).where(
                folders.c.client_id == self.client_id,
                folders.c.parent_id.is_(None) if parent is None else folders.c.parent_id == parent,
                folders.c.name_index == self._folder_index(name),
            )
        ).one_or_none()

    def _folder_id(self, connection: Connection, path: tuple[str, ...]) -> str | None:
        """The id of a folder below the inbox; None for the inbox itself (raises Refusal)."""
        current: str | None = None
        for name in path:
            found = self._find_folder(connection, current, name)
            if found is None:
                raise Refusal("not_found", NOT_FOUND)
            current = found.id
        return current

    def _in_folder(self, folder_id: str | None) -> list[ColumnElement[bool]]:
        return [
            documents.c.client_id == self.client_id,
            documents.c.channel == "sftp",
            documents.c.folder_id.is_(None)
            if folder_id is None
            else documents.c.folder_id == folder_id,
        ]

    def _named(self, folder_id: str | None, name: str) -> list[ColumnElement[bool]]:
        index = receive.name_index(self.core, self.client_id, name)
        return [*self._in_folder(folder_id), documents.c.name_index == index]

    def _inbox_entry(self, connection: Connection, path: tuple[str, ...]) -> Entry:
        *parents, name = path
        folder_id = self._folder_id(connection, tuple(parents))
        found = self._find_folder(connection, folder_id, name)
        if found is not None:
            return folder(name, datetime.fromisoformat(found.created_at), DROP_MODE)
        row = connection.execute(
            select(documents.c.size, documents.c.received_at)
            .where(*self._named(folder_id, name), documents.c.state.in_([*STORED, State.PARTIAL]))
            .order_by(documents.c.id.desc())
            .limit(1)
        ).one_or_none()
        if row is None:
            raise Refusal("not_found", NOT_FOUND)
        return plain_file(name, row.size, row.received_at)

    def _inbox_page(self, connection: Connection, path: tuple[str, ...], cursor: str) -> Page:
        """Folders first (they are few), then documents; of one name the newest."""
        folder_id = self._folder_id(connection, path)
        entries: list[Entry] = []
        profile = self._keyring().secrets[SECRET_PROFILE]
        if not cursor:
            for row in connection.execute(
                select(folders).where(
                    folders.c.client_id == self.client_id,
                    folders.c.parent_id.is_(None)
                    if folder_id is None
                    else folders.c.parent_id == folder_id,
                )
            ):
                name = open_record(
                    profile, row.name, purpose=PURPOSE_FOLDER, subject=row.id
                ).decode()
                entries.append(folder(name, datetime.fromisoformat(row.created_at), DROP_MODE))
        newer = documents.alias()
        rows = connection.execute(
            select(documents)
            .where(
                *self._in_folder(folder_id),
                documents.c.state.in_([*STORED, State.PARTIAL]),
                documents.c.id > cursor,
                ~exists().where(
                    newer.c.client_id == documents.c.client_id,
                    newer.c.name_index == documents.c.name_index,
                    newer.c.channel == "sftp",
                    newer.c.folder_id.is_not_distinct_from(documents.c.folder_id),
                    newer.c.state.in_([*STORED, State.PARTIAL]),
                    newer.c.id > documents.c.id,
                ),
            )
            .order_by(documents.c.id)
            .limit(PAGE)
        ).all()
        entries.extend(
            plain_file(self.metadata(row).name, row.size, row.received_at) for row in rows
        )
        return page(entries, rows[-1].id if len(rows) == PAGE else "")

    def _receipts_page(self, connection: Connection, cursor: str) -> Page:
        rows = connection.execute(
            select(documents)
            .where(
                documents.c.client_id == self.client_id,
                documents.c.state.in_(STORED),
                documents.c.id > cursor,
            )
            .order_by(documents.c.id)
            .limit(PAGE)
        ).all()
        entries = [
            plain_file(
                receipts.file_name(row),
                len(receipts.render(self.core, row, self.metadata(row))),
                row.state_since,
            )
            for row in rows
        ]
        return page(entries, rows[-1].id if len(rows) == PAGE else "")

    async def _receipt_row(self, name: str) -> Row[Any]:
        document_id = receipts.document_of(name)
        if document_id is None:
            raise Refusal("not_found", NOT_FOUND)
        row = await self.core.read(
            lambda connection: connection.execute(
                select(documents).where(
                    documents.c.id == document_id,
                    documents.c.client_id == self.client_id,
                    documents.c.state.in_(STORED),
                )
            ).one_or_none()
        )
        if row is None:
            raise Refusal("not_found", NOT_FOUND)
        return row
