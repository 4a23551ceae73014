"""Telling backups of groups that have ended: a kind of delivery (`gateway.core.outbound.outbox`).

Promises: what `vault.backup.format.request_amendment` noted is delivered, and stays visible in `strongroom
status` until it is. Its content is the catalogue's when it is delivered, sealed while it is read. Leaves out
what an amendment says (`vault.backup.amendments`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from gateway.core.core import Core, log
from gateway.core.outbound import marker
from gateway.core.outbound.backup.target import secret_of, store_id
from gateway.core.outbound.files import scratch
from gateway.core.outbound.outbound import Outbound
from gateway.core.outbound.outbox import LONGEST_DELAY, Delivery, Rows
from vault.backup import amendments
from vault.backup import format as backup_format
from vault.catalogue.schema import backup_amendments
from vault.catalogue.store import Transaction
from vault.errors import VaultError

ROWS = Rows(backup_amendments)


class Amendments:
    """What the targets of the configuration have to be told."""

    name = "amendment to"
    longest_delay = LONGEST_DELAY

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._targets = [target.name for target in outbound.core.config.backup.targets]

    def due(self, connection: Connection, now: datetime) -> Iterable[str]:
        """See `Kind.due`."""
        return ROWS.due(connection, self._targets, now)

    def next(self, connection: Connection, place: str, now: datetime | None) -> Delivery | None:
        """See `Kind.next`."""
        return ROWS.next(connection, place, now)

    async def deliver(self, delivery: Delivery) -> None:
        """See `Kind.deliver`."""
        outbound, core, target = self._outbound, self._outbound.core, delivery.place
        secret = await secret_of(core)
        name = backup_format.amendment_name(delivery.row.id)
        await marker.expect(outbound, target, marker.BACKUP)
        with scratch(core) as file:
            await asyncio.to_thread(_seal, core, delivery.row, file.fileno(), secret, name)
            await outbound.transfers.transfer(target, "put", name, file.fileno())

    def delivered(self, tx: Transaction, delivery: Delivery, _seen: Any, now: datetime) -> None:
        """See `Kind.delivered`."""
        ROWS.delivered(tx.connection, delivery.row, now)

    def failed(
        self,
        tx: Transaction,
        delivery: Delivery,
        error: VaultError,
        _now: datetime,
        again: datetime,
    ) -> None:
        """See `Kind.failed`."""
        ROWS.failed(tx.connection, delivery.row, error, again)

    def complain(self, place: str, error: VaultError) -> None:
        """See `Kind.complain`."""
        log.error("backup not told of ended groups", target=place, reason=str(error))


def _seal(core: Core, row: Row[Any], fd: int, secret: bytes, name: str) -> None:
    writer = backup_format.ObjectWriter(fd, secret, store_id(core), name)
    for piece in amendments.lines(
        core.store.catalogue.read,
        number=row.id,
        store_id=store_id(core),
        target=row.target,
        groups=msgspec.json.decode(row.groups, type=list[str]),
        now=core.now(),
    ):
        writer.write(piece)
    writer.finish()
