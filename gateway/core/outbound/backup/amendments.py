"""Telling backups of groups that have ended: a kind of delivery (`gateway.core.outbound.outbox`).

Promises: what `vault.backup.format.request_amendment` noted is delivered, and stays visible in `strongroom
status` until it is. Its content is the catalogue's when it is delivered, sealed while it is read. Leaves out
what an amendment says (`vault.backup.amendments`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from sqlalchemy import Row

from gateway.core.core import Core
from gateway.core.outbound import marker
from gateway.core.outbound.backup.target import secret_of, store_id
from gateway.core.outbound.files import scratch
from gateway.core.outbound.outbound import Outbound
from gateway.core.outbound.outbox import Delivery, OfTable
from vault.backup import amendments
from vault.backup import format as backup_format
from vault.catalogue.schema import backup_amendments


class Amendments(OfTable):
    """What the targets of the configuration have to be told."""

    name = "amendment to"
    complaint = "backup not told of ended groups"

    def __init__(self, outbound: Outbound) -> None:
        targets = [target.name for target in outbound.core.config.backup.targets]
        super().__init__(outbound, backup_amendments, targets)

    async def deliver(self, delivery: Delivery) -> None:
        """See `Kind.deliver`."""
        core, target = self.outbound.core, delivery.place
        secret = await secret_of(core)
        name = backup_format.amendment_name(delivery.row.id)
        await marker.expect(self.outbound, target, marker.BACKUP)
        with scratch(core) as file:
            await asyncio.to_thread(_seal, core, delivery.row, file.fileno(), secret, name)
            await self.outbound.transfers.transfer(target, "put", name, file.fileno())


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
