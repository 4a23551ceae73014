"""Errands: what the courier has to carry to other places, and what became of it.

Here: the sealed keyring file after each change, to every registered copy (`[[keyring.copies]]`), and its
removal there when a client's keyring ends; `vault.keys.copies` notes what is due and what was seen. The
courier gets sealed bytes and the name of a target, never a key. An errand carries the keyring as it is when
it is claimed, so several changes in a row cost one delivery. One that fails is tried again with growing
delays for as long as it takes; a place that fails once is not tried for its other errands in between. It
stays visible in `strongroom status`, and in the log at most hourly.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select, update

from gateway.core.core import ACTOR_CORE, Core, log, stamp
from gateway.wire.messages import Errand, ErrandReport
from vault.catalogue.schema import clients, copy_places, errands
from vault.catalogue.states import ClientState
from vault.catalogue.store import Transaction
from vault.errors import KeyUnavailable, VaultError
from vault.keys import copies
from vault.keys.copies import SUFFIX
from vault.keys.custody import HOUSE
from vault.keys.keyring import sealed_epoch

CLAIM_WAIT: Final = 20.0
LONGEST_DELAY: Final = timedelta(hours=1)
LOG_INTERVAL: Final = timedelta(hours=1)
_DETAIL: Final = 300


def prepare(core: Core) -> None:
    """Bring the register of places in step with the configuration, and note every copy that is not.

    Whenever a store is opened to be used, before anything else: a certificate lists the places of the
    register, and the configuration may name other ones than before. A crash, too, may have come between a
    keyring's new file and the note that its copies must follow. What waits is tried at once: whoever restarts
    may have mended the place.
    """
    now = core.now()
    sections = [
        (copy.name, copy.place(core.config.resolve), copy.keeps_days)
        for copy in core.config.keyring.copies
    ]

    def work(tx: Transaction) -> list[copies.Change]:
        changes = copies.register(tx.connection, sections, now)
        for change in changes:
            core.record(tx, change.kind, change.name, ACTOR_CORE, now)
        for name, _, _ in sections:
            fill = any(change.fill and change.name == name for change in changes)
            for owner in _out_of_step(core, tx.connection, name, fill=fill):
                copies.request(tx.connection, [name], owner, now)
        tx.connection.execute(
            update(errands)
            .where(errands.c.delivered_at.is_(None))
            .values(next_attempt_at=stamp(now))
        )
        return changes

    for change in core.store.catalogue.write(work):
        log.warning("keyring place", change=change.kind, place=change.name)


def _out_of_step(core: Core, connection: Connection, target: str, *, fill: bool) -> list[str]:
    """Whose copies at a place are not what they should be, and not noted yet (or all, to fill it)."""
    opened = set(
        connection.execute(
            select(clients.c.id).where(clients.c.state == ClientState.OPEN)
        ).scalars()
    )
    owners = {HOUSE, *opened}
    noted = {
        name.removesuffix(SUFFIX)
        for name in connection.execute(
            select(errands.c.name).where(
                errands.c.target == target, errands.c.delivered_at.is_(None)
            )
        ).scalars()
    }
    found = []
    for owner in sorted(owners):
        seen = copies.latest(connection, target, owner)
        try:
            epoch = sealed_epoch(core.store.custody.sealed_file(owner), owner)
        except (VaultError, OSError):
            continue  # `check` says so; nothing can be carried
        if (fill or owner not in noted) and (seen is None or seen.epoch != epoch):
            found.append(owner)
    # What lies there of clients that have been closed since has to go.
    gone = copies.owners_at(connection, target) - owners
    return found + sorted(owner for owner in gone if fill or owner not in noted)


class ErrandDesk:
    """Hands errands to the courier and takes its reports."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._targets = [copy.name for copy in core.config.keyring.copies]
        self._logged: dict[str, datetime] = {}

    async def claim(self) -> Errand | None:
        """The next errand due, or None after `CLAIM_WAIT` seconds."""
        deadline = asyncio.get_running_loop().time() + CLAIM_WAIT
        while True:
            self._core.errand_work.clear()
            row = await self._core.read(
                lambda connection: connection.execute(
                    select(errands)
                    .where(
                        errands.c.delivered_at.is_(None),
                        errands.c.next_attempt_at <= stamp(self._core.now()),
                        errands.c.target.in_(self._targets),
                    )
                    .order_by(errands.c.next_attempt_at, errands.c.id)
                    .limit(1)
                ).one_or_none()
            )
            if row is not None:
                return await self._errand(row)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(min(left, 1.0)):
                    await self._core.errand_work.wait()
            except TimeoutError:
                continue

    async def _errand(self, row: Row[Any]) -> Errand | None:
        owner = row.name.removesuffix(SUFFIX)

        def look(connection: Connection) -> tuple[bool, bool]:
            ended = connection.execute(
                select(clients.c.id).where(
                    clients.c.id == owner, clients.c.state == ClientState.CLOSED
                )
            ).scalar()
            return ended is not None, copies.delivered_to(connection, row.target)

        ended, known = await self._core.read(look)
        store = self._core.store.origin.rpartition("/")[2]
        if ended:
            return Errand(row.id, row.target, owner, None, store, known)  # so must its copies
        try:
            content = await asyncio.to_thread(self._opened, owner)
        except (VaultError, OSError) as error:
            # It should be there and does not open: its copies are the last good ones. Touch nothing.
            log.critical("keyring can't be opened", owner=owner, error=type(error).__name__)
            await self.report(
                ErrandReport(
                    row.id,
                    False,
                    f"keyring {owner}: expected one that opens, found none; its copies stay as they are",
                )
            )
            return None
        return Errand(row.id, row.target, owner, content, store, known)

    def _opened(self, owner: str) -> bytes:
        """A keyring's sealed file, which opened just now (raises VaultError, OSError)."""
        custody = self._core.store.custody
        while True:
            content = custody.sealed_file(owner)
            custody.keyrings.load(owner)  # from the disk, not what is remembered of it
            if custody.sealed_file(owner) == content:  # else it was replaced meanwhile
                return content

    async def report(self, report: ErrandReport) -> None:
        """Record how an errand ended."""
        now = self._core.now()

        def work(tx: Transaction) -> tuple[str, str] | None:
            row = tx.connection.execute(
                select(errands).where(errands.c.id == report.errand_id)
            ).one_or_none()
            if row is None:
                return None
            fault = self._fault(row, report)
            if fault is not None:
                _failed(tx.connection, row, fault, now)
                return row.target, fault
            self._delivered(tx, row, report, now)
            return None

        failed = await self._core.write(work)
        if failed is not None:
            self._complain(*failed, now)

    def _fault(self, row: Row[Any], report: ErrandReport) -> str | None:
        """Why an errand did not succeed; None: it did. A report is held against the keyring itself."""
        if not report.delivered:
            return report.detail[:_DETAIL] or "failed"
        owner = row.name.removesuffix(SUFFIX)
        try:
            content = self._core.store.custody.sealed_file(owner)
        except (KeyUnavailable, OSError):
            return None  # ended since; an errand for that is waiting
        epoch = sealed_epoch(content, owner)
        same = report.sha256 == hashlib.sha256(content).digest()
        if report.epoch > epoch or (report.epoch == epoch and not same):
            return f"{row.target}: expected epoch {epoch} of keyring {owner}, found another file"
        return None

    def _delivered(
        self, tx: Transaction, row: Row[Any], report: ErrandReport, now: datetime
    ) -> None:
        owner = row.name.removesuffix(SUFFIX)
        copies.record(tx.connection, row.target, owner, report.epoch, report.sha256.hex(), now)
        self._core.record(
            tx, "keyring.copied", owner, ACTOR_CORE, now, target=row.target, epoch=report.epoch
        )
        if row.delivered_at is not None:
            return  # superseded while it was under way: the next one follows
        tx.connection.execute(
            update(errands)
            .where(errands.c.id == row.id)
            .values(delivered_at=stamp(now), failure="")
        )
        # The last one says enough; the others would pile up.
        tx.connection.execute(
            delete(errands).where(
                errands.c.target == row.target,
                errands.c.name == row.name,
                errands.c.delivered_at.is_not(None),
                errands.c.id < row.id,
            )
        )
        # A place that answers again is not kept waiting with what else it lacks.
        tx.connection.execute(
            update(errands)
            .where(
                errands.c.target == row.target,
                errands.c.delivered_at.is_(None),
                errands.c.attempts > 0,
            )
            .values(next_attempt_at=stamp(now))
        )
        self._logged.pop(row.target, None)

    def _complain(self, target: str, fault: str, now: datetime) -> None:
        last = self._logged.get(target)
        if last is None or now - last >= LOG_INTERVAL:
            self._logged[target] = now
            log.error("keyring copy failed", place=target, detail=fault)


def _failed(connection: Connection, row: Row[Any], fault: str, now: datetime) -> None:
    """Put off this errand and, for as long, whatever else waits for its place."""
    delay = min(timedelta(seconds=1) * 2 ** min(row.attempts, 20), LONGEST_DELAY)
    open_ones = (errands.c.target == row.target, errands.c.delivered_at.is_(None))
    connection.execute(
        update(errands).where(*open_ones, errands.c.id == row.id).values(failure=fault)
    )
    connection.execute(
        update(errands)
        .where(*open_ones, errands.c.attempts <= row.attempts)
        .values(attempts=row.attempts + 1, next_attempt_at=stamp(now + delay))
    )


def overdue(core: Core) -> list[dict[str, Any]]:
    """Places that lack something: which, since when, how much, and why; and those a person must settle."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        waiting = connection.execute(
            select(
                errands.c.target,
                func.min(errands.c.created_at).label("since"),
                func.count().label("waiting"),
                func.max(errands.c.failure).label("failure"),
            )
            .where(
                errands.c.delivered_at.is_(None),
                errands.c.target.not_in(
                    select(copy_places.c.name).where(copy_places.c.withdrawn_at.is_not(None))
                ),
            )
            .group_by(errands.c.target)
        ).all()
        withdrawn = connection.execute(
            select(copy_places.c.name, copy_places.c.withdrawn_at)
            .where(copy_places.c.withdrawn_at.is_not(None), copy_places.c.settled_at.is_(None))
            .order_by(copy_places.c.name)
        ).all()
        return [dict(row._mapping) for row in waiting] + [
            {
                "target": row.name,
                "since": row.withdrawn_at,
                "waiting": 0,
                "failure": "withdrawn from the configuration: `strongroom keys settle` when nothing is"
                " left there",
            }
            for row in withdrawn
        ]

    return core.store.catalogue.read(look)
