"""What a client sees: `/inbox/` (write; lists what was received) and `/receipts/`.

What was handed in can't be read back, changed or removed; the same name again is a new version, and the
listing shows the newest. It is listed for `sftp.inbox_days`; the receipts stay. A file under a temporary
name (`journey.temporary`) is not handed in before it is renamed; until then it may be continued, sent again
or removed. Folders of the inbox are the client's own, their names sealed like its documents'; there are at
most `MOST_FOLDERS`, and the ledger has an entry, without the name, for each that is made or removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update
from sqlalchemy.sql import ColumnElement

from gateway.core.core import stamp
from gateway.core.intake import partial, quotas, receipts, receive, temporary
from gateway.core.intake.partial import TEMPORARY
from gateway.core.intake.upload import Upload
from gateway.core.views.base import (
    DROP_MODE,
    IS_FOLDER,
    NO_FACTS,
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
from gateway.wire.messages import Entry, Page, Room
from vault.catalogue import queries
from vault.catalogue.schema import clients, documents, folders
from vault.catalogue.states import STORED, DocumentState
from vault.catalogue.store import Transaction
from vault.certificate.receipt import Receipt, Same
from vault.crypto.wrapping import blind_index, open_record, seal_record
from vault.errors import KeyUnavailable
from vault.ids import new_id, oldest_at
from vault.keys.keyring import Keyring
from vault.keys.secret_names import SECRET_INDEX, SECRET_PROFILE

PURPOSE_FOLDER: Final = "folder-name"
FOLDERS: Final = "f"  # cursor of a listing: folders after this id, then documents
DOCUMENTS: Final = "d"
KEEPS_NAME: Final = "What was handed in keeps its name; who sent it can change it for ten minutes."
STAYS: Final = "What was handed in stays; ask your accountant if it was a mistake."
NO_CHANGE: Final = "Receipts can be read, and nothing else can be done with them."
MOST_FOLDERS: Final = 10_000  # of one client: each is a row for good, and none counts as a document
RECEIPTS_AT_ONCE: Final = PAGE // len(receipts.KINDS)
BELOW_INBOX: Final = "Files are handed in below /inbox."


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
            kind, stated = await self._receipt(path[1])
            return plain_file(path[1], receipts.size(self.core, stated, kind), stated.state_since)
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
            kind, stated = await self._receipt(path[1])
            return memory_file(receipts.render(self.core, stated, kind))
        if path and path[0] == "inbox":
            if (await self.stat(path)).folder:
                raise Refusal("failed", IS_FOLDER)
            raise Refusal("denied", "What was handed in can't be read back; see /receipts.")
        raise Refusal("not_found", NOT_FOUND)

    async def begin_upload(
        self, path: tuple[str, ...], *, resume: bool, size: int | None = None
    ) -> tuple[Upload, int]:
        if len(path) < 2 or path[0] != "inbox":
            raise Refusal("denied", BELOW_INBOX)
        *parents, name = path[1:]

        open_now = quotas.under_way(self.intake, self.client_id)

        def look(connection: Connection) -> tuple[str | None, Row[Any] | None, quotas.Standing]:
            folder_id = self._folder_id(connection, tuple(parents))
            if self._find_folder(connection, folder_id, name) is not None:
                raise Refusal("exists", "There is a folder of this name.")
            newest = self._newest(connection, folder_id, name)
            now = quotas.kept(self.core, connection, self.client_id, open_now)
            return folder_id, newest, now

        # What a client sees of a name is its newest version: only that one can be continued.
        folder_id, newest, now = await self.core.read(look)
        waiting = (
            newest
            if resume and newest is not None and newest.state == DocumentState.PARTIAL
            else None
        )
        allowance = quotas.allow(self.core, now, size=size, continued=waiting)
        upload = {
            "client_id": self.client_id,
            "channel": "sftp",
            "name": name,
            "path": "/".join(path[1:]),
            "folder_id": folder_id,
            "submitter": self.account.id,
            "room": allowance.room,
            "too_large": allowance.sentence,
        }
        if waiting is not None:
            if waiting.reason == TEMPORARY:
                return await temporary.continue_from(self.intake, waiting, **upload), 0
            resumed = await partial.resume(self.intake, waiting, **upload)
            return resumed, resumed.resumed_size
        if resume and newest is not None:
            upload["replaces"] = newest.size
        return await receive.begin(self.core, self.core.now(), **upload), 0

    async def make_folder(self, path: tuple[str, ...]) -> None:
        if len(path) < 2 or path[0] != "inbox":
            raise Refusal("denied", "Folders are made below /inbox.")
        now = self.core.now()

        def work(tx: Transaction) -> None:
            parent = self._folder_id(tx.connection, path[1:-1])
            name = path[-1]
            if self._find_folder(tx.connection, parent, name) is not None:
                raise Refusal("exists", "There is a folder of this name.")
            if self._newest(tx.connection, parent, name) is not None:
                raise Refusal("exists", "There is a file of this name; what was handed in stays.")
            there = tx.connection.execute(
                select(func.count())
                .select_from(folders)
                .where(folders.c.client_id == self.client_id)
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
            self.core.record(
                tx, "folder.made", folder_id, self.account.id, now, client=self.client_id
            )

        await self.core.write(work)

    async def remove(self, path: tuple[str, ...], *, is_folder: bool) -> None:
        if len(path) < 2 or path[0] != "inbox":
            await self.stat(path)
            raise Refusal("denied", NO_CHANGE if len(path) > 1 else READ_ONLY)
        if not is_folder:
            waiting = await self.core.read(lambda c: self._waiting(c, path[1:]))
            if waiting is not None:
                await temporary.drop(self.intake, waiting.id, self.account.id)
                return
            if (await self.stat(path)).folder:
                raise Refusal("failed", IS_FOLDER)
            raise Refusal("denied", STAYS)
        if not (await self.stat(path)).folder:
            raise Refusal("denied", STAYS)
        now = self.core.now()

        def work(tx: Transaction) -> None:
            folder_id = self._folder_id(tx.connection, path[1:])
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
            self.core.record(
                tx, "folder.removed", folder_id, self.account.id, now, client=self.client_id
            )

        await self.core.write(work)

    async def rename(
        self, old: tuple[str, ...], new: tuple[str, ...], facts: Mapping[str, str] = NO_FACTS
    ) -> str:
        """Hand in a file that waits under a temporary name, or give one just sent its final name."""
        entry = await self.stat(old)
        if len(old) < 2 or old[0] != "inbox":
            raise Refusal("denied", NO_CHANGE if len(old) > 1 else READ_ONLY)
        if entry.folder:
            raise Refusal("denied", "A folder keeps its name; make another one.")
        if len(new) < 2 or new[0] != "inbox":
            raise Refusal("denied", BELOW_INBOX)

        def look(connection: Connection) -> tuple[Row[Any] | None, Row[Any] | None, str | None]:
            waiting = self._waiting(connection, old[1:])
            sent = None
            if waiting is None:
                sent = self._newest(connection, self._folder_id(connection, old[1:-1]), old[-1])
                if sent is None or not temporary.may_rename(self.core, sent, self.account.id):
                    raise Refusal("denied", KEEPS_NAME)
            folder_id = self._folder_id(connection, new[1:-1])
            if self._find_folder(connection, folder_id, new[-1]) is not None:
                raise Refusal("exists", "There is a folder of this name.")
            return waiting, sent, folder_id

        waiting, sent, folder_id = await self.core.read(look)
        if temporary.is_temporary(new[-1]):
            raise Refusal(
                "unsupported", "This is a temporary name, too; a file is renamed to its final name."
            )
        to = temporary.Destination(new[-1], "/".join(new[1:]), folder_id, facts)
        if waiting is not None:
            return await temporary.hand_in(self.intake, waiting.id, self.account.id, to)
        assert sent is not None
        await temporary.rename(self.core, sent.id, self.account.id, to)
        return ""

    async def room(self) -> Room:
        """The client's quota where it has one, within what the disk has."""
        disk = await super().room()
        now = await self.core.read(lambda c: quotas.standing(self.core, c, self.client_id))
        total, free, files, files_free = disk.total, disk.free, disk.files, disk.files_free
        if now.quota.bytes:
            total = now.quota.bytes
            free = min(free, max(0, total - now.bytes))
        if now.quota.files:
            files = now.quota.files
            files_free = min(files_free, max(0, files - now.files))
        return Room(total, free, files, files_free)

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
        index = self.core.store.custody.name_index(self.client_id, name)
        return [*self._in_folder(folder_id), documents.c.name_index == index]

    def _listed(self) -> list[ColumnElement[bool]]:
        """What of a client's documents is listed: partial uploads, and what was received lately."""
        since = self.core.now() - timedelta(days=self.core.config.sftp.inbox_days)
        return [
            documents.c.state.in_([*STORED, DocumentState.PARTIAL]),
            documents.c.received_at >= stamp(since),
            # An upload may have begun long before it was received, but not longer than it can be continued:
            # from this id on the index gives what is listed, however much lies before it.
            documents.c.id
            >= oldest_at(since - timedelta(hours=self.core.config.retention.partial_hours, days=1)),
        ]

    def _newest(self, connection: Connection, folder_id: str | None, name: str) -> Row[Any] | None:
        """The row that a client sees of a name, whole or partial."""
        return connection.execute(
            select(documents)
            .where(*self._named(folder_id, name), *self._listed()[:2])
            # An expression, so that the few of this name are found and sorted: in the order of its index the
            # whole folder would be searched for them.
            .order_by(documents.c.id.concat("").desc())
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
        return newest if newest is not None and newest.state == DocumentState.PARTIAL else None

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
            plain_file(self.metadata(row).name, row.size, row.received_at)
            for row in rows
            if row.id in newest
        )
        return page(entries, DOCUMENTS + rows[-1].id if len(rows) == PAGE else "")

    def _receipts_page(self, connection: Connection, cursor: str) -> Page:
        # First their ids, which an index has: of 100,000 documents a page takes 50 ms, with whole rows 120.
        ids = connection.execute(
            select(documents.c.id)
            .where(
                documents.c.client_id == self.client_id,
                documents.c.state.in_(STORED),
                documents.c.id > cursor,
            )
            .order_by(documents.c.id)
            .limit(RECEIPTS_AT_ONCE)
        ).scalars()
        rows = connection.execute(
            select(documents).where(documents.c.id.in_(list(ids))).order_by(documents.c.id)
        ).all()
        entries = []
        for row, stated in zip(rows, self._facts(connection, rows), strict=True):
            for kind in receipts.KINDS:
                size = receipts.size(self.core, stated, kind)
                entries.append(plain_file(receipts.file_name(row, kind), size, row.state_since))
        return page(entries, rows[-1].id if len(rows) == RECEIPTS_AT_ONCE else "")

    def _facts(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Receipt]:
        """What the receipts of some documents state."""
        slug = queries.slug_of(connection, self.client_id)
        same = {
            row.id: Same(document=row.id, received_at=row.received_at)
            for row in connection.execute(
                select(documents.c.id, documents.c.received_at).where(
                    documents.c.id.in_([row.same_as for row in rows if row.same_as])
                )
            )
        }
        return [
            receipts.facts(self.core, row, self.metadata(row), slug, same.get(row.same_as))
            for row in rows
        ]

    async def _receipt(self, name: str) -> tuple[receipts.Kind, Receipt]:
        """A receipt by its name, which says the day, too (raises Refusal)."""
        named = receipts.document_of(name)
        if named is None:
            raise Refusal("not_found", NOT_FOUND)
        document_id, kind = named

        def look(connection: Connection) -> Receipt | None:
            row = connection.execute(
                select(documents).where(
                    documents.c.id == document_id,
                    documents.c.client_id == self.client_id,
                    documents.c.state.in_(STORED),
                )
            ).one_or_none()
            if row is None or receipts.file_name(row, kind) != name:
                return None
            return self._facts(connection, [row])[0]

        stated = await self.core.read(look)
        if stated is None:
            raise Refusal("not_found", NOT_FOUND)
        return kind, stated
