"""Errands: what the courier has to carry to other places, and what became of it.

Here: the sealed keyring file after each change, to every registered copy (`[[keyring.copies]]`), and its
removal there when a client's keyring ends; `vault.copies` notes what is due. The courier gets sealed bytes
and the name of a target, never a key. An errand carries the keyring as it is when it is claimed, so
several changes in a row cost one delivery; one that fails is tried again with growing delays for as long as
it takes, and stays visible in `strongroom status`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Row, func, select, update

from gateway.core.runtime import ACTOR_CORE, Core, log, stamp
from gateway.wire.messages import Errand, ErrandReport
from vault.catalogue.schema import clients, errands
from vault.catalogue.store import Transaction
from vault.copies import SUFFIX
from vault.errors import VaultError

CLAIM_WAIT: Final = 20.0
LONGEST_DELAY: Final = timedelta(hours=1)


class ErrandDesk:
    """Hands errands to the courier and takes its reports."""

    def __init__(self, core: Core) -> None:
        self._core = core

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
        ended = await self._core.read(
            lambda connection: connection.execute(
                select(clients.c.id).where(clients.c.id == owner, clients.c.state == "closed")
            ).scalar()
        )
        if ended is not None:
            return Errand(row.id, row.target, row.name, None)  # so must its copies
        try:
            content = await asyncio.to_thread(self._core.store.custody.sealed_file, owner)
        except (VaultError, OSError) as error:
            # A keyring that should be there and is not: its copies are the last ones. Touch nothing.
            log.critical("keyring can't be read", owner=owner, error=type(error).__name__)
            await self.report(
                ErrandReport(
                    row.id, False, f"keyring {owner}: expected it in the store, found none"
                )
            )
            return None
        return Errand(row.id, row.target, row.name, content)

    async def report(self, report: ErrandReport) -> None:
        """Record how an errand ended."""
        now = self._core.now()

        def work(tx: Transaction) -> None:
            row = tx.connection.execute(
                select(errands).where(errands.c.id == report.errand_id)
            ).one_or_none()
            if row is None or row.delivered_at is not None:
                return
            if report.delivered:
                values: dict[str, Any] = {"delivered_at": stamp(now), "failure": ""}
                self._core.record(
                    tx,
                    "keyring.copied",
                    row.name.removesuffix(SUFFIX),
                    ACTOR_CORE,
                    now,
                    target=row.target,
                )
            else:
                delay = min(timedelta(seconds=1) * 2 ** min(row.attempts, 20), LONGEST_DELAY)
                values = {
                    "attempts": row.attempts + 1,
                    "next_attempt_at": stamp(now + delay),
                    "failure": report.detail[:200],
                }
            tx.connection.execute(update(errands).where(errands.c.id == row.id).values(values))

        await self._core.write(work)
        if not report.delivered:
            log.error("keyring copy failed", errand=report.errand_id, detail=report.detail[:200])


def overdue(core: Core) -> list[dict[str, Any]]:
    """Errands that are not delivered: which target is behind, since when, and why."""
    rows = core.store.catalogue.read(
        lambda connection: connection.execute(
            select(
                errands.c.target,
                func.min(errands.c.created_at).label("since"),
                func.count().label("waiting"),
                func.max(errands.c.failure).label("failure"),
            )
            .where(errands.c.delivered_at.is_(None))
            .group_by(errands.c.target)
        ).all()
    )
    return [dict(row._mapping) for row in rows]
