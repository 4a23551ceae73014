"""What accountants (and archivists) see of the clients granted to them.

`/clients/<client>/<fiscal year>/<record class>/<name>` to read, `/review/<client>/` with what needs a
decision, and `/review/<client>.txt` with what each of these waits for. An accountant moves a file from there
into a class folder, or from one class folder into another, and thereby classifies it; an archivist reads.
Promises: every document that is opened is in the ledger before its descriptor leaves. Those of restricted
classes are listed, and opened with an officer's approval (`gateway.core.filing.restricted`).
Leaves out: what classifying does to a document (`gateway.core.filing.review`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, Connection, Row, exists, select
from sqlalchemy.sql import ColumnElement

from gateway.core import reasons
from gateway.core.filing import restricted, review
from gateway.core.filing.review import EARLIEST_YEAR
from gateway.core.reasons import UNJUDGED
from gateway.core.views.base import (
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
    tagged,
    untag,
)
from gateway.errors import Refusal
from gateway.wire.messages import Entry, Page, Readable
from vault.catalogue.schema import clients, documents
from vault.catalogue.states import READABLE, ClientState, DocumentState
from vault.catalogue.store import Transaction
from vault.moments import stamp

MOVES: Final = (
    "A file is moved from /review/<client>/, or from another folder of the client, into"
    " /clients/<client>/<fiscal year>/<record class>/."
)
REASONS: Final = ".txt"  # no client's folder ends so: its name has no dot
MOST_REASONS: Final = 500
FILED: Final = (DocumentState.FILED, DocumentState.ARCHIVED)
_FILES: Final = frozenset({(3, ("review",)), (5, ("clients",))})


class AccountantView(View):
    """The documents of the clients granted to the account."""

    async def stat(self, path: tuple[str, ...]) -> Entry:
        if len(path) == 0:
            return folder("/")
        if path in {("clients",), ("review",)}:
            return folder(path[0])
        if (slug := _reasons_of(path)) is not None:
            text = await self.core.read(lambda connection: self._reasons(connection, slug))
            return plain_file(path[-1], len(text), stamp(self.core.now()))
        return await self.core.read(lambda connection: self._entry(connection, path))

    async def entries(self, path: tuple[str, ...], cursor: str) -> Page:
        if not path:
            return page([folder("clients"), folder("review")])
        return await self.core.read(lambda connection: self._page(connection, path, cursor))

    async def open_read(self, path: tuple[str, ...]) -> Opened:
        if (slug := _reasons_of(path)) is not None:
            return memory_file(
                await self.core.read(lambda connection: self._reasons(connection, slug))
            )
        row = await self.core.read(lambda connection: self._document(connection, path))
        if row.reason.startswith(UNJUDGED):
            raise Refusal(
                "denied",
                "This document could not be checked and is not opened for anyone yet;"
                " an officer can release it.",
            )
        core = self.core
        now = core.now()

        def work(tx: Transaction) -> tuple[Row[Any], restricted.Answer | None]:
            # Checked again where nothing can change any more: then recorded.
            current = tx.connection.execute(
                select(documents).where(documents.c.id == row.id, documents.c.state.in_(READABLE))
            ).one_or_none()
            if current is None or current.reason.startswith(UNJUDGED):
                raise Refusal("not_found", NOT_FOUND)
            facts = {}
            if restricted.restricted_by(core, tx.connection, current) is not None:
                answer = restricted.ask(core, tx, self.account.id, current, now)
                if answer.approval is None:
                    return current, answer
                facts["access"] = answer.approval
            core.record(tx, "document.opened", row.id, self.account.id, now, **facts)
            return current, None

        row, refused = await core.write(work)
        if refused is not None:
            raise Refusal("denied", refused.sentence)
        key = core.store.custody.document_key(row)
        descriptor = await asyncio.to_thread(core.store.blobs.open, row.id)
        return Opened(Readable(size=row.size, key=key, document_id=row.id), descriptor)

    async def rename(
        self, old: tuple[str, ...], new: tuple[str, ...], facts: Mapping[str, str] = NO_FACTS
    ) -> str:
        del facts  # a document keeps its name here
        if self.account.role != "accountant":
            raise Refusal("denied", "An archivist reads; an accountant or an officer classifies.")
        if (len(old), old[:1]) not in _FILES:
            await self.stat(old)
            raise Refusal("denied", f"Only files can be moved. {MOVES}")
        if len(new) not in {4, 5} or new[0] != "clients":
            await self.stat(old)
            raise Refusal("denied", MOVES)
        if old[1] != new[1]:
            await self.stat(old)
            raise Refusal("denied", "A document stays with its client.")
        row = await self.core.read(lambda connection: self._document(connection, old))
        if row.reason.startswith(UNJUDGED):
            raise Refusal(
                "denied", "This document could not be checked; an officer can release it."
            )
        name = self.metadata(row).name
        if len(new) == 5 and new[4] not in {name, old[-1]}:
            raise Refusal("denied", "A document keeps the name it was sent under.")
        fiscal_year = review.parse_fiscal_year(new[2])
        if new[3] not in self.core.rules.record_classes:
            known = ", ".join(sorted(self.core.rules.record_classes))
            raise Refusal("denied", f"There is no such record class. There are: {known}.")
        if not EARLIEST_YEAR <= fiscal_year <= self.core.now().year + 1:
            raise Refusal("denied", f"There is no fiscal year {fiscal_year} to file this under.")
        if row.batch_id is not None:
            raise Refusal(
                "locked", "This document is in a disposal batch; it stays until that is decided."
            )
        if row.state != DocumentState.REVIEW and (row.fiscal_year, row.record_class) == (
            fiscal_year,
            new[3],
        ):
            return ""
        await review.reclassify(self.core, row.id, new[3], fiscal_year, self.account.id)
        eligible_at = await self.core.read(
            lambda connection: connection.execute(
                select(documents.c.eligible_at).where(documents.c.id == row.id)
            ).scalar()
        )
        kept = f"until {eligible_at[:10]}" if eligible_at else "without a date to end"
        return f"Filed as {new[3]}, fiscal year {fiscal_year}; kept {kept}."

    async def make_folder(self, path: tuple[str, ...]) -> None:
        del path
        raise Refusal("denied", "The folders here are the fiscal years and record classes.")

    async def remove(self, path: tuple[str, ...], *, is_folder: bool) -> None:
        await self.stat(path)
        raise Refusal(
            "denied",
            READ_ONLY
            if is_folder
            else "Documents end by an approved disposal, once their time is over.",
        )

    # ── inside ──

    def _client(self, connection: Connection, slug: str) -> Row[Any]:
        row = connection.execute(
            select(clients).where(clients.c.slug == slug, clients.c.state == ClientState.OPEN)
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
                .where(clients.c.id.in_(self.account.clients), clients.c.state == ClientState.OPEN)
                .order_by(clients.c.slug)
            ).scalars()
            found = [folder(slug) for slug in slugs]
            if path == ("review",):
                now = stamp(self.core.now())
                waiting = connection.execute(
                    select(clients.c.slug)
                    .where(
                        clients.c.id.in_(self.account.clients),
                        clients.c.state == ClientState.OPEN,
                        exists().where(
                            documents.c.client_id == clients.c.id,
                            documents.c.state == DocumentState.REVIEW,
                        ),
                    )
                    .order_by(clients.c.slug)
                ).scalars()
                found += [
                    plain_file(slug + REASONS, len(self._reasons(connection, slug)), now)
                    for slug in waiting.all()
                ]
            return page(found)
        if path[0] not in {"clients", "review"} or len(path) < 2:
            raise Refusal("not_found", NOT_FOUND)
        client = self._client(connection, path[1])
        if path[0] == "review":
            if len(path) != 2:
                raise Refusal("not_found", NOT_FOUND)
            return self._documents_page(
                connection,
                [documents.c.client_id == client.id],
                [DocumentState.REVIEW],
                cursor,
            )
        mine = [documents.c.client_id == client.id]
        if len(path) == 2:
            years = _values(connection, documents.c.fiscal_year, mine)
            return page(folder(str(year)) for year in years)
        mine.append(documents.c.fiscal_year == review.parse_fiscal_year(path[2]))
        if len(path) == 3:
            classes = _values(connection, documents.c.record_class, mine)
            return page(folder(name) for name in classes)
        if len(path) == 4:
            mine.append(documents.c.record_class == path[3])
            return self._documents_page(connection, mine, FILED, cursor)
        raise Refusal("not_found", NOT_FOUND)

    def _reasons(self, connection: Connection, slug: str) -> bytes:
        """Why each document of a client is in review: for a person, in words."""
        client = self._client(connection, slug)
        rows = connection.execute(
            select(documents)
            .where(documents.c.client_id == client.id, documents.c.state == DocumentState.REVIEW)
            .order_by(documents.c.id)
            .limit(MOST_REASONS + 1)
        ).all()
        parts = [
            f"{slug}: {'nothing waits for a person' if not rows else 'what waits for a person'}\n"
        ]
        for row in rows[:MOST_REASONS]:
            metadata = self.metadata(row)
            sentence = reasons.sentences(row.reason, metadata.findings)
            lines = [
                metadata.name,
                f"  {row.id}, received {row.received_at[:10]}, {row.media_type}",
            ]
            lines.append(f"  {sentence.why}")
            if row.record_class:
                lines.append(f"  taken for: {row.record_class}, confidence {row.confidence:.2f}")
            if metadata.reasons:
                lines.append(f"  because of: {', '.join(metadata.reasons)}")
            lines += [f"  found: {each}" for each in metadata.findings]
            parts.append("\n".join(lines) + "\n")
        if len(rows) > MOST_REASONS:
            parts.append("and more: decide some of these first\n")
        return "\n".join(parts).encode()

    def _documents_page(
        self,
        connection: Connection,
        where: list[ColumnElement[bool]],
        states: Sequence[DocumentState],
        cursor: str,
    ) -> Page:
        """Documents in order of arrival; the second and later ones of a name carry a tag."""
        older = documents.alias()
        repeated = exists().where(
            older.c.client_id == documents.c.client_id,
            older.c.name_index == documents.c.name_index,
            older.c.state.in_(READABLE),
            older.c.state.is_not_distinct_from(documents.c.state)
            | (
                older.c.state.in_([DocumentState.FILED, DocumentState.ARCHIVED])
                & documents.c.state.in_([DocumentState.FILED, DocumentState.ARCHIVED])
            ),
            older.c.fiscal_year.is_not_distinct_from(documents.c.fiscal_year),
            older.c.record_class.is_not_distinct_from(documents.c.record_class)
            | (documents.c.state == DocumentState.REVIEW),
            older.c.id < documents.c.id,
        )
        # State by state, in the order of the index: for several at once all of the folder would be sorted.
        ids: list[str] = []
        for state in states:
            ids += connection.execute(
                select(documents.c.id)
                .where(*where, documents.c.state == state, documents.c.id > cursor)
                .order_by(documents.c.id)
                .limit(PAGE)
            ).scalars()
        rows = connection.execute(
            select(documents, repeated.label("repeated"))
            .where(documents.c.id.in_(sorted(ids)[:PAGE]))
            .order_by(documents.c.id)
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
            where = [documents.c.state == DocumentState.REVIEW]
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
                    documents.c.name_index == self.core.store.custody.name_index(client.id, name),
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


def _reasons_of(path: tuple[str, ...]) -> str | None:
    """The client if a path names its list of reasons; None: it is another path."""
    if len(path) == 2 and path[0] == "review" and path[1].endswith(REASONS):
        return path[1].removesuffix(REASONS)
    return None


def _filed() -> ColumnElement[bool]:
    return documents.c.state.in_(FILED)


def _values(
    connection: Connection, column: Column[Any], where: Sequence[ColumnElement[bool]]
) -> list[Any]:
    """The values that a column of the filed documents has, in order: a look into the index for each.

    Selecting them as distinct reads the index entries of all documents.
    """
    found: set[Any] = set()
    for state in FILED:
        wanted = [*where, documents.c.state == state]
        after = column.is_not(None)
        while (
            value := connection.execute(
                select(column).where(*wanted, after).order_by(column).limit(1)
            ).scalar()
        ) is not None:
            found.add(value)
            after = column > value
    return sorted(found)
