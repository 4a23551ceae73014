"""What each role sees over SFTP, and may do there.

- client: `/inbox/` (write; lists what was received), `/receipts/`
- accountant, archivist: `/clients/<client>/<fiscal year>/<record class>/<name>` (read), `/review/<client>/`
  (a file moved from there into a class folder is thereby classified)
- officer: `/disposal/<batch>/` (register, certificate)
- auditor: `/ledger/`, `/certificates/`

Every document that is opened is in the ledger before its descriptor leaves. What lies outside a view is
refused like what does not exist.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, exists, func, insert, select
from sqlalchemy.sql import ColumnElement

from gateway.core import receipts
from gateway.core.identity import Account
from gateway.core.journey import receive, review
from gateway.core.journey.judgement import UNJUDGED
from gateway.core.journey.lifecycle import READABLE, STORED, State
from gateway.core.journey.receive import Upload
from gateway.core.runtime import Core, stamp
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
    split,
    tagged,
    untag,
)
from gateway.errors import Refusal
from gateway.wire.messages import Entry, Page, Readable
from vault import ledger
from vault.catalogue.schema import batches, certificates, clients, documents, folders
from vault.catalogue.store import Transaction
from vault.ids import is_id, new_id
from vault.store import SECRET_INDEX, SECRET_PROFILE
from vault.wrapping import blind_index, open_record, seal_record

PURPOSE_FOLDER: Final = "folder-name"


def view_for(core: Core, account: Account) -> View:
    """The view of an account's role.

    Raises:
        Refusal: the role has nothing to see over SFTP.
    """
    kinds: dict[str, type[View]] = {
        "client": ClientView,
        "accountant": AccountantView,
        "archivist": AccountantView,
        "officer": OfficerView,
        "auditor": AuditorView,
    }
    kind = kinds.get(account.role)
    if kind is None:
        raise Refusal("denied", "This account has no files here.")
    return kind(core, account)


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
            partial = connection.execute(
                select(documents)
                .where(*self._named(folder_id, name), documents.c.state == State.PARTIAL)
                .order_by(documents.c.id.desc())
                .limit(1)
            ).one_or_none()
            return folder_id, partial

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
            return await receive.resume(self.core, partial, **upload), partial.size
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
            keyring = self.core.store.custody.keyring(self.client_id)
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

    def _folder_index(self, name: str) -> bytes:
        key = self.core.store.custody.keyring(self.client_id).secrets[SECRET_INDEX]
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
        profile = self.core.store.custody.keyring(self.client_id).secrets[SECRET_PROFILE]
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


class AccountantView(View):
    """The documents of the clients granted to the account."""

    async def stat(self, path: tuple[str, ...]) -> Entry:
        if len(path) == 0:
            return folder("/")
        if path in {("clients",), ("review",)}:
            return folder(path[0])
        return await self.core.read(lambda connection: self._entry(connection, path))

    async def entries(self, path: tuple[str, ...], cursor: str) -> Page:
        if not path:
            return page([folder("clients"), folder("review")])
        return await self.core.read(lambda connection: self._page(connection, path, cursor))

    async def open_read(self, path: tuple[str, ...]) -> Opened:
        row = await self.core.read(lambda connection: self._document(connection, path))
        if row.reason.startswith(UNJUDGED):
            raise Refusal(
                "denied",
                "This document could not be checked and is not opened for anyone yet;"
                " an officer can release it.",
            )
        core = self.core
        now = core.now()

        def work(tx: Transaction) -> Row[Any]:
            # Checked again where nothing can change any more: then recorded.
            current = tx.connection.execute(
                select(documents).where(documents.c.id == row.id, documents.c.state.in_(READABLE))
            ).one_or_none()
            if current is None or current.reason.startswith(UNJUDGED):
                raise Refusal("not_found", NOT_FOUND)
            core.record(tx, "document.opened", row.id, self.account.id, now)
            return current

        row = await core.write(work)
        key = core.store.custody.document_key(row)
        descriptor = await asyncio.to_thread(core.store.blobs.open, row.id)
        return Opened(Readable(size=row.size, key=key, document_id=row.id), descriptor)

    async def rename(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        if len(old) != 3 or old[0] != "review" or len(new) not in {4, 5} or new[0] != "clients":
            raise Refusal(
                "denied",
                "A file can be moved from /review/<client>/ into"
                " /clients/<client>/<fiscal year>/<record class>/, and nowhere else.",
            )
        if old[1] != new[1]:
            raise Refusal("denied", "A document stays with its client.")
        row = await self.core.read(lambda connection: self._document(connection, old))
        if row.reason.startswith(UNJUDGED):
            raise Refusal(
                "denied", "This document could not be checked; an officer can release it."
            )
        fiscal_year = review.parse_fiscal_year(new[2])
        await review.reclassify(self.core, row.id, new[3], fiscal_year, self.account.id)

    # ── inside ──

    def _client(self, connection: Connection, slug: str) -> Row[Any]:
        row = connection.execute(
            select(clients).where(clients.c.slug == slug, clients.c.state == "open")
        ).one_or_none()
        if row is None or row.id not in self.account.clients:
            raise Refusal("not_found", NOT_FOUND)
        return row

    def _entry(self, connection: Connection, path: tuple[str, ...]) -> Entry:
        name = path[-1]
        if path[0] == "review" and len(path) == 2:
            self._client(connection, path[1])
            return folder(name)
        if path[0] == "clients" and len(path) in {2, 3, 4}:
            client = self._client(connection, path[1])
            where = [documents.c.client_id == client.id, _filed()]
            if len(path) > 2:
                where.append(documents.c.fiscal_year == review.parse_fiscal_year(path[2]))
            if len(path) > 3:
                where.append(documents.c.record_class == path[3])
                # A known class is a folder even while it is empty: files are moved into it.
                if path[3] in self.core.rules.record_classes:
                    return folder(name)
            if len(path) == 2 or connection.execute(select(exists().where(*where))).scalar():
                return folder(name)
            if len(path) == 3:
                return folder(name)
            raise Refusal("not_found", NOT_FOUND)
        row = self._document(connection, path)
        return plain_file(name, row.size, row.received_at)

    def _page(self, connection: Connection, path: tuple[str, ...], cursor: str) -> Page:
        if path in {("clients",), ("review",)}:
            slugs = connection.execute(
                select(clients.c.slug)
                .where(clients.c.id.in_(self.account.clients), clients.c.state == "open")
                .order_by(clients.c.slug)
            ).scalars()
            return page(folder(slug) for slug in slugs)
        if path[0] not in {"clients", "review"} or len(path) < 2:
            raise Refusal("not_found", NOT_FOUND)
        client = self._client(connection, path[1])
        if path[0] == "review":
            if len(path) != 2:
                raise Refusal("not_found", NOT_FOUND)
            return self._documents_page(
                connection,
                [documents.c.client_id == client.id, documents.c.state == State.REVIEW],
                cursor,
            )
        mine = [documents.c.client_id == client.id, _filed()]
        if len(path) == 2:
            years = connection.execute(
                select(documents.c.fiscal_year).distinct().where(*mine).order_by("fiscal_year")
            ).scalars()
            return page(folder(str(year)) for year in years)
        mine.append(documents.c.fiscal_year == review.parse_fiscal_year(path[2]))
        if len(path) == 3:
            classes = connection.execute(
                select(documents.c.record_class).distinct().where(*mine).order_by("record_class")
            ).scalars()
            return page(folder(name) for name in classes)
        if len(path) == 4:
            mine.append(documents.c.record_class == path[3])
            return self._documents_page(connection, mine, cursor)
        raise Refusal("not_found", NOT_FOUND)

    def _documents_page(
        self, connection: Connection, where: list[ColumnElement[bool]], cursor: str
    ) -> Page:
        """Documents in order of arrival; the second and later ones of a name carry a tag."""
        older = documents.alias()
        repeated = exists().where(
            older.c.client_id == documents.c.client_id,
            older.c.name_index == documents.c.name_index,
            older.c.state.in_(READABLE),
            older.c.state.is_not_distinct_from(documents.c.state)
            | (
                older.c.state.in_([State.FILED, State.ARCHIVED])
                & documents.c.state.in_([State.FILED, State.ARCHIVED])
            ),
            older.c.fiscal_year.is_not_distinct_from(documents.c.fiscal_year),
            older.c.record_class.is_not_distinct_from(documents.c.record_class)
            | (documents.c.state == State.REVIEW),
            older.c.id < documents.c.id,
        )
        rows = connection.execute(
            select(documents, repeated.label("repeated"))
            .where(*where, documents.c.id > cursor)
            .order_by(documents.c.id)
            .limit(PAGE)
        ).all()
        entries = []
        for row in rows:
            name = self.metadata(row).name
            shown = tagged(name, row.id) if row.repeated else name
            entries.append(plain_file(shown, row.size, row.received_at))
        return page(entries, rows[-1].id if len(rows) == PAGE else "")

    def _document(self, connection: Connection, path: tuple[str, ...]) -> Row[Any]:
        """The document a path names (raises Refusal)."""
        if path and path[0] == "review" and len(path) == 3:
            client = self._client(connection, path[1])
            where = [documents.c.state == State.REVIEW]
        elif path and path[0] == "clients" and len(path) == 5:
            client = self._client(connection, path[1])
            where = [
                _filed(),
                documents.c.fiscal_year == review.parse_fiscal_year(path[2]),
                documents.c.record_class == path[3],
            ]
        else:
            raise Refusal("not_found", NOT_FOUND)
        where.append(documents.c.client_id == client.id)

        def find(name: str, ending: str = "") -> Row[Any] | None:
            return connection.execute(
                select(documents)
                .where(
                    *where,
                    documents.c.name_index == receive.name_index(self.core, client.id, name),
                    *([documents.c.id.like(f"%{ending}")] if ending else []),
                )
                .order_by(documents.c.id)
                .limit(1)
            ).one_or_none()

        row = find(path[-1])
        if row is None and (original := untag(path[-1])) is not None and original[1].isalnum():
            row = find(*original)
        if row is None:
            raise Refusal("not_found", NOT_FOUND)
        return row


def _filed() -> ColumnElement[bool]:
    return documents.c.state.in_([State.FILED, State.ARCHIVED])


class _GeneratedView(View):
    """A read-only view of folders whose files are made from the catalogue."""

    roots: tuple[str, ...] = ()

    async def stat(self, path: tuple[str, ...]) -> Entry:
        if not path:
            return folder("/")
        found = await self.entries(path[:-1], "")
        while True:
            for entry in found.entries:
                if entry.name == path[-1]:
                    return entry
            if not found.cursor:
                raise Refusal("not_found", NOT_FOUND)
            found = await self.entries(path[:-1], found.cursor)

    async def entries(self, path: tuple[str, ...], cursor: str) -> Page:
        if not path:
            return page(folder(name) for name in self.roots)
        return await self.core.read(lambda connection: self._page(connection, path, cursor))

    async def open_read(self, path: tuple[str, ...]) -> Opened:
        return memory_file(await self.core.read(lambda connection: self._content(connection, path)))

    def _page(self, connection: Connection, path: tuple[str, ...], cursor: str) -> Page:
        raise NotImplementedError

    def _content(self, connection: Connection, path: tuple[str, ...]) -> bytes:
        raise NotImplementedError


class OfficerView(_GeneratedView):
    """`/disposal/<batch>/`: the register to approve, and the certificate once there is one."""

    roots = ("disposal",)

    def _page(self, connection: Connection, path: tuple[str, ...], cursor: str) -> Page:
        if path == ("disposal",):
            rows = connection.execute(
                select(batches.c.id, batches.c.proposed_at)
                .where(batches.c.id > cursor)
                .order_by(batches.c.id)
                .limit(PAGE)
            ).all()
            return page(
                (folder(row.id, datetime.fromisoformat(row.proposed_at)) for row in rows),
                rows[-1].id if len(rows) == PAGE else "",
            )
        if len(path) == 2 and path[0] == "disposal":
            files = self._files(connection, path[1])
            return page(plain_file(name, len(data), when) for name, (data, when) in files.items())
        raise Refusal("not_found", NOT_FOUND)

    def _content(self, connection: Connection, path: tuple[str, ...]) -> bytes:
        if len(path) == 3 and path[0] == "disposal":
            found = self._files(connection, path[1]).get(path[2])
            if found is not None:
                return found[0]
        raise Refusal("not_found", NOT_FOUND)

    def _files(self, connection: Connection, batch_id: str) -> dict[str, tuple[bytes, str]]:
        row = (
            is_id(batch_id)
            and connection.execute(select(batches).where(batches.c.id == batch_id)).one_or_none()
        )
        if not row:
            raise Refusal("not_found", NOT_FOUND)
        files = {"register.json": (bytes(row.register), row.proposed_at)}
        for certificate in connection.execute(
            select(certificates).where(certificates.c.batch_id == batch_id)
        ):
            files["certificate.json"] = (bytes(certificate.document), certificate.issued_at)
            files["certificate.pdf"] = (bytes(certificate.printed), certificate.issued_at)
        return files


class AuditorView(_GeneratedView):
    """`/ledger/` and `/certificates/`; no document content."""

    roots = ("ledger", "certificates")

    def _page(self, connection: Connection, path: tuple[str, ...], cursor: str) -> Page:
        if path == ("ledger",):
            newest = self.core.newest_entry_time()
            when = stamp(newest) if newest else stamp(self.core.now())
            return page(
                plain_file(name, len(self._content(connection, ("ledger", name))), when)
                for name in ("checkpoint", "entries.jsonl", "ledger.vkey")
            )
        if path == ("certificates",):
            rows = connection.execute(
                select(
                    certificates.c.id,
                    certificates.c.issued_at,
                    func.length(certificates.c.document).label("document"),
                    func.length(certificates.c.printed).label("printed"),
                )
                .where(certificates.c.id > cursor)
                .order_by(certificates.c.id)
                .limit(PAGE)
            ).all()
            entries = []
            for row in rows:
                entries.append(plain_file(f"{row.id}.json", row.document, row.issued_at))
                entries.append(plain_file(f"{row.id}.pdf", row.printed, row.issued_at))
            return page(entries, rows[-1].id if len(rows) == PAGE else "")
        raise Refusal("not_found", NOT_FOUND)

    def _content(self, connection: Connection, path: tuple[str, ...]) -> bytes:
        if len(path) == 2 and path[0] == "ledger":
            if path[1] == "checkpoint":
                return (ledger.latest_checkpoint(connection) or "").encode()
            if path[1] == "entries.jsonl":
                return b"".join(entry + b"\n" for entry in ledger.entries(connection))
            if path[1] == "ledger.vkey":
                return self.core.store.vkey.encode() + b"\n"
        if len(path) == 2 and path[0] == "certificates":
            certificate_id, _, kind = path[1].partition(".")
            columns = {"json": certificates.c.document, "pdf": certificates.c.printed}
            if kind in columns:
                found = connection.execute(
                    select(columns[kind]).where(certificates.c.id == certificate_id)
                ).scalar()
                if found is not None:
                    return bytes(found)
        raise Refusal("not_found", NOT_FOUND)


__all__ = ["AccountantView", "AuditorView", "ClientView", "OfficerView", "split", "view_for"]
