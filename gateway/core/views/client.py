"""What a client sees: `/inbox/` (write; lists what was received) and `/receipts/`.

What was handed in can't be read back, changed or removed; the same name again is a new version, and the
listing shows the newest. A file under a temporary name (`journey.temporary`) is not handed in before it is
renamed; until then it may be continued, sent again or removed. Folders of the inbox are the client's own,
their names sealed like its documents'.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, exists, func, insert, select
from sqlalchemy.sql import ColumnElement

from gateway.core import receipts
from gateway.core.journey import receive, temporary
from gateway.core.journey.lifecycle import STORED, State
from gateway.core.journey.receive import TEMPORARY, Upload
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
FOLDERS: Final = "f"  # cursor of a listing: folders after this id, then documents
DOCUMENTS: Final = "d"
KEEPS_NAME: Final = "What was handed in keeps its name."


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
            return folder_id, self._newest(connection, folder_id, name)

        # What a client sees of a name is its newest version: only that one can be continued.
        folder_id, newest = await self.core.read(look)
        upload = {
            "client_id": self.client_id,
            "channel": "sftp",
            "name": name,
            "path": "/".join(path[1:]),
            "folder_id": folder_id,
            "submitter": self.account.id,
        }
        if resume and newest is not None and newest.state != State.PARTIAL:
            upload["replaces"] = newest.size
        elif resume and newest is not None:
            if newest.reason == TEMPORARY:
                return await temporary.continue_from(self.core, newest, **upload), 0
            resumed = await receive.resume(self.core, newest, **upload)
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
            waiting = await self.core.read(lambda c: self._waiting(c, path[1:]))
            if waiting is not None:
                await temporary.drop(self.core, waiting.id, self.account.id)
                return
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
        """Hand in a file that waits under a temporary name; nothing else can be renamed."""
        await self.stat(old)
        if len(old) < 2 or old[0] != "inbox":
            raise Refusal("denied", READ_ONLY)
        if len(new) < 2 or new[0] != "inbox":
            raise Refusal("denied", "Files are handed in below /inbox.")

        def look(connection: Connection) -> tuple[Row[Any] | None, str | None]:
            waiting = self._waiting(connection, old[1:])
            if waiting is None:
                return None, None
            folder_id = self._folder_id(connection, new[1:-1])
            if self._find_folder(connection, folder_id, new[-1]) is not None:
                raise Refusal("exists", "There is a folder of this name.")
            return waiting, folder_id

        waiting, folder_id = await self.core.read(look)
        if waiting is None:
            raise Refusal("denied", KEEPS_NAME)
        if temporary.is_temporary(new[-1]):
            raise Refusal(
                "unsupported", "This is a temporary name, too; a file is renamed to its final name."
            )
        await temporary.hand_in(
            self.core, waiting.id, new[-1], "/".join(new[1:]), folder_id, self.account.id
        )

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

    def _newest(self, connection: Connection, folder_id: str | None, name: str) -> Row[Any] | None:
        """The row that a client sees of a name, whole or partial."""
        return connection.execute(
            select(documents)
            .where(*self._named(folder_id, name), documents.c.state.in_([*STORED, State.PARTIAL]))
            .order_by(documents.c.id.desc())
            .limit(1)
        ).one_or_none()

    def _waiting(self, connection: Connection, path: tuple[str, ...]) -> Row[Any] | None:
        """The partial that a temporary name below the inbox shows; None for anything else."""
        *parents, name = path
        if not temporary.is_temporary(name):
            return None
        folder_id = self._folder_id(connection, tuple(parents))
        if self._find_folder(connection, folder_id, name) is not None:
            return None
        newest = self._newest(connection, folder_id, name)
        return newest if newest is not None and newest.state == State.PARTIAL else None

    def _inbox_entry(self, connection: Connection, path: tuple[str, ...]) -> Entry:
        *parents, name = path
        folder_id = self._folder_id(connection, tuple(parents))
        found = self._find_folder(connection, folder_id, name)
        if found is not None:
            return folder(name, datetime.fromisoformat(found.created_at), DROP_MODE)
        row = self._newest(connection, folder_id, name)
        if row is None:
            raise Refusal("not_found", NOT_FOUND)
        return plain_file(name, row.size, row.received_at)

    def _inbox_page(self, connection: Connection, path: tuple[str, ...], cursor: str) -> Page:
        """Folders first, then documents; of one name the newest."""
        folder_id = self._folder_id(connection, path)
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
                documents.c.state.in_([*STORED, State.PARTIAL]),
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
                    documents.c.state.in_([*STORED, State.PARTIAL]),
                    documents.c.name_index.in_([row.name_index for row in rows]),
                )
                .group_by(documents.c.name_index)
            ).scalars()
        )
        entries.extend(
            plain_file(self.metadata(row).name, row.size, row.received_at)
            for row in rows
            if row.id in newest
        )
        return page(entries, DOCUMENTS + rows[-1].id if len(rows) == PAGE else "")

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
