"""What officers and auditors see: files made from the catalogue, no document content.

Officers: `/disposal/<batch>/` with the register to approve (JSON, whose digest is signed, and the same as a
table) and the newest certificate once there is one (JSON and PDF).
Auditors: `/ledger/` and `/certificates/`. In `/ledger/`: `checkpoint` (the newest), `ledger.vkey` (the
present verifier key), `ledger.vkeys` (all, the oldest first: what `--vkey` takes), `hand-over-<entry>` (the
note by which a key named the next), and the entries in files of ten thousand, so that no reading needs memory
for the whole history.
"""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from gateway.core.disposal.batch import decode_register
from gateway.core.views.base import (
    NOT_FOUND,
    PAGE,
    Opened,
    View,
    folder,
    memory_file,
    page,
    plain_file,
)
from gateway.errors import Refusal
from gateway.wire.messages import Entry, Page
from vault.catalogue import ledger, ledger_keys, queries
from vault.catalogue.schema import batches, certificates, ledger_entries
from vault.certificate.model import RegisterEntry
from vault.ids import is_id
from vault.moments import stamp

ENTRIES_IN_FILE: Final = 10_000
FILES_AT_ONCE: Final = 10  # in one page: the entries of each are measured
_ENTRIES: Final = re.compile(r"entries-(\d{12})\.jsonl")


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
        row = is_id(batch_id) and queries.batch(connection, batch_id)
        if not row:
            raise Refusal("not_found", NOT_FOUND)
        files = {
            "register.json": (bytes(row.register), row.proposed_at),
            "register.csv": (_table(bytes(row.register)), row.proposed_at),
        }
        for certificate in connection.execute(
            select(certificates)
            .where(certificates.c.batch_id == batch_id)
            .order_by(certificates.c.id)
        ):
            files["certificate.json"] = (bytes(certificate.document), certificate.issued_at)
            files["certificate.pdf"] = (bytes(certificate.printed), certificate.issued_at)
        return files


def _table(register: bytes) -> bytes:
    """A register as CSV (RFC 4180) with a line of titles; the byte order mark is for spreadsheet programs."""
    made = io.StringIO(newline="")
    writer = csv.DictWriter(made, RegisterEntry.__struct_fields__)
    writer.writeheader()
    writer.writerows(msgspec.to_builtins(entry) for entry in decode_register(register))
    return made.getvalue().encode("utf-8-sig")


class AuditorView(_GeneratedView):
    """`/ledger/` and `/certificates/`; no document content."""

    roots = ("ledger", "certificates")

    def _page(self, connection: Connection, path: tuple[str, ...], cursor: str) -> Page:
        if path == ("ledger",):
            return self._ledger_page(connection, int(cursor or 0))
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

    def _ledger_page(self, connection: Connection, start: int) -> Page:
        newest = self.core.clock.newest_entry()
        when = stamp(newest) if newest else stamp(self.core.now())
        size = ledger.size_of(connection)
        entries = []
        if start == 0:
            entries = [
                plain_file(name, len(text), when)
                for name, text in self._ledger_files(connection).items()
            ]
        stop = min(size, start + FILES_AT_ONCE * ENTRIES_IN_FILE)
        for first in range(start, stop, ENTRIES_IN_FILE):
            length = connection.execute(
                select(func.sum(func.length(ledger_entries.c.entry) + 1)).where(
                    ledger_entries.c.seq >= first,
                    ledger_entries.c.seq < first + ENTRIES_IN_FILE,
                )
            ).scalar_one()
            entries.append(plain_file(f"entries-{first:012}.jsonl", int(length), when))
        return page(entries, str(stop) if stop < size else "")

    def _ledger_files(self, connection: Connection) -> dict[str, bytes]:
        """What lies in `/ledger/` beside the entries."""
        keys = ledger_keys.load(connection)
        vkeys = [key.vkey for key in keys] or [self.core.store.vkeys[0]]
        texts = {
            "checkpoint": ledger.latest_checkpoint(connection) or "",
            "ledger.vkey": f"{vkeys[-1]}\n",
            "ledger.vkeys": "".join(f"{vkey}\n" for vkey in vkeys),
            **{f"hand-over-{key.since:012}": key.handover for key in keys if key.handover},
        }
        return {name: text.encode() for name, text in texts.items()}

    def _content(self, connection: Connection, path: tuple[str, ...]) -> bytes:
        if len(path) == 2 and path[0] == "ledger":
            if (match := _ENTRIES.fullmatch(path[1])) is not None:
                first = int(match[1])
                if first % ENTRIES_IN_FILE == 0:
                    some = ledger.entries(connection, first, first + ENTRIES_IN_FILE)
                    return b"".join(entry + b"\n" for entry in some)
            if (text := self._ledger_files(connection).get(path[1])) is not None:
                return text
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
