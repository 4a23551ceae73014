"""What a client sees: `/inbox/` (write; lists what was received) and `/receipts/`.

What was handed in can't be read back, changed or removed; the same name again is a new version, and the
listing shows the newest. It is listed for `sftp.inbox_days`; the receipts stay. A file under a temporary
name (`intake.temporary`) is not handed in before it is renamed; until then it may be continued, sent again
or removed.
Leaves out: where the catalogue has them (`inbox`, `receipts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Row

from gateway.core.intake import partial, quotas, receipts, receive, temporary
from gateway.core.intake.intake import Intake
from gateway.core.intake.partial import TEMPORARY
from gateway.core.intake.upload import Upload
from gateway.core.login.accounts import Account
from gateway.core.views.base import (
    DROP_MODE,
    IS_FOLDER,
    NO_FACTS,
    NOT_FOUND,
    READ_ONLY,
    Opened,
    View,
    folder,
    memory_file,
    page,
    plain_file,
)
from gateway.core.views.inbox import Inbox
from gateway.core.views.receipts import Receipts
from gateway.errors import Refusal
from gateway.wire.messages import Entry, Page, Room
from vault.catalogue.states import DocumentState
from vault.catalogue.store import Transaction

KEEPS_NAME: Final = "What was handed in keeps its name; who sent it can change it for ten minutes."
STAYS: Final = "What was handed in stays; ask your accountant if it was a mistake."
NO_CHANGE: Final = "Receipts can be read, and nothing else can be done with them."
BELOW_INBOX: Final = "Files are handed in below /inbox."


class ClientView(View):
    """A client's own inbox and receipts."""

    def __init__(self, intake: Intake, account: Account) -> None:
        super().__init__(intake, account)
        self._inbox = Inbox(self.core, self.client_id)
        self._receipts = Receipts(self.core, self.client_id)

    @property
    def client_id(self) -> str:
        assert self.account.client_id is not None
        return self.account.client_id

    async def stat(self, path: tuple[str, ...]) -> Entry:
        entry = self.glimpse(path)
        if entry is not None:
            return entry
        kind, stated = await self._receipts.named(path[1])
        return plain_file(path[1], receipts.size(self.core, stated, kind), stated.state_since)

    def glimpse(self, path: tuple[str, ...]) -> Entry | None:
        if not path:
            return folder("/")
        if path == ("inbox",):
            return folder("inbox", mode=DROP_MODE)
        if path == ("receipts",):
            return folder("receipts")
        if path[0] == "inbox":
            return self.core.glance(lambda connection: self._inbox.entry(connection, path[1:]))
        if path[0] == "receipts" and len(path) == 2:
            return None
        raise Refusal("not_found", NOT_FOUND)

    async def entries(self, path: tuple[str, ...], cursor: str) -> Page:
        if not path:
            return page([folder("inbox", mode=DROP_MODE), folder("receipts")])
        if path[0] == "inbox":
            return await self.core.read(
                lambda connection: self._inbox.page(connection, path[1:], cursor)
            )
        if path == ("receipts",):
            return await self.core.read(lambda connection: self._receipts.page(connection, cursor))
        raise Refusal("not_found", NOT_FOUND)

    async def open_read(self, path: tuple[str, ...]) -> Opened:
        if len(path) == 2 and path[0] == "receipts":
            kind, stated = await self._receipts.named(path[1])
            return memory_file(receipts.render(self.core, stated, kind))
        if path and path[0] == "inbox":
            if (await self.stat(path)).folder:
                raise Refusal("failed", IS_FOLDER)
            raise Refusal("denied", "What was handed in can't be read back; see /receipts.")
        raise Refusal("not_found", NOT_FOUND)

    async def begin_upload(
        self, path: tuple[str, ...], *, resume: bool, size: int | None = None
    ) -> tuple[Upload, int]:
        waiting, upload = self._place(path, resume=resume, size=size)
        if waiting is None:
            return receive.begin(self.intake, self.core.now(), **upload), 0
        if waiting.reason == TEMPORARY:
            return await temporary.continue_from(self.intake, waiting, **upload), 0
        resumed = await partial.resume(self.intake, waiting, **upload)
        return resumed, resumed.resumed_size

    def glimpse_or_place(self, path: tuple[str, ...]) -> Entry | dict[str, Any] | None:
        if len(path) < 2 or path[0] != "inbox" or temporary.is_temporary(path[-1]):
            return self.glimpse(path)

        def look(connection: Connection) -> Entry | tuple[str | None, quotas.Standing]:
            found = self._inbox.look(connection, path[1:])
            if found.entry is not None:
                return found.entry
            return found.folder_id, quotas.standing(self.core, connection, self.client_id)

        found = self.core.glance(look)
        if isinstance(found, Entry):
            return found
        folder_id, now = found
        try:
            allowance = quotas.allow(self.core, now)
        except Refusal as refusal:
            raise Refusal("not_found", NOT_FOUND) from refusal
        if allowance.limited:
            # What is being written counts for a quota, and one that is only perhaps written must not.
            raise Refusal("not_found", NOT_FOUND)
        return self._fields(path, folder_id, allowance)

    def begin_now(
        self, path: tuple[str, ...], *, resume: bool, size: int | None = None
    ) -> Upload | None:
        waiting, upload = self._place(path, resume=resume, size=size)
        return receive.begin(self.intake, self.core.now(), **upload) if waiting is None else None

    def _place(
        self, path: tuple[str, ...], *, resume: bool, size: int | None
    ) -> tuple[Row[Any] | None, dict[str, Any]]:
        """The partial that an upload to `path` continues, if any, and its fields (raises Refusal)."""
        if len(path) < 2 or path[0] != "inbox":
            raise Refusal("denied", BELOW_INBOX)
        *parents, name = path[1:]
        open_now = quotas.under_way(self.intake, self.client_id)

        def look(connection: Connection) -> tuple[str | None, Row[Any] | None, quotas.Standing]:
            folder_id = self._inbox.folder_id(connection, tuple(parents))
            if self._inbox.find_folder(connection, folder_id, name) is not None:
                raise Refusal("exists", "There is a folder of this name.")
            newest = self._inbox.newest(connection, folder_id, name)
            now = quotas.kept(self.core, connection, self.client_id, open_now)
            return folder_id, newest, now

        # What a client sees of a name is its newest version: only that one can be continued.
        folder_id, newest, now = self.core.glance(look)
        waiting = (
            newest
            if resume and newest is not None and newest.state == DocumentState.PARTIAL
            else None
        )
        allowance = quotas.allow(self.core, now, size=size, continued=waiting)
        upload = self._fields(path, folder_id, allowance)
        if waiting is None and resume and newest is not None:
            upload["replaces"] = newest.size
        return waiting, upload

    def _fields(
        self, path: tuple[str, ...], folder_id: str | None, allowance: quotas.Allowance
    ) -> dict[str, Any]:
        return {
            "client_id": self.client_id,
            "channel": "sftp",
            "name": path[-1],
            "path": "/".join(path[1:]),
            "folder_id": folder_id,
            "submitter": self.account.id,
            "room": allowance.room,
            "too_large": allowance.sentence,
        }

    async def make_folder(self, path: tuple[str, ...]) -> None:
        if len(path) < 2 or path[0] != "inbox":
            raise Refusal("denied", "Folders are made below /inbox.")
        now = self.core.now()

        def work(tx: Transaction) -> None:
            self._inbox.make_folder(tx, path[1:], self.account.id, now)

        await self.core.write(work)

    async def remove(self, path: tuple[str, ...], *, is_folder: bool) -> None:
        if len(path) < 2 or path[0] != "inbox":
            await self.stat(path)
            raise Refusal("denied", NO_CHANGE if len(path) > 1 else READ_ONLY)
        if not is_folder:
            waiting = await self.core.read(lambda c: self._inbox.waiting(c, path[1:]))
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
            self._inbox.remove_folder(tx, path[1:], self.account.id, now)

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
            waiting = self._inbox.waiting(connection, old[1:])
            sent = None
            if waiting is None:
                sent = self._inbox.newest(
                    connection, self._inbox.folder_id(connection, old[1:-1]), old[-1]
                )
                if sent is None or not temporary.may_rename(self.core, sent, self.account.id):
                    raise Refusal("denied", KEEPS_NAME)
            folder_id = self._inbox.folder_id(connection, new[1:-1])
            if self._inbox.find_folder(connection, folder_id, new[-1]) is not None:
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
