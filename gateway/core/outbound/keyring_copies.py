"""Copies of keyrings at registered places (`[[keyring.copies]]`): a kind of delivery.

The sealed keyring file goes to every registered place after each change, and is removed there when a client's
keyring ends. `vault.keys.copies` notes what is due and what was seen; the table of what is due is called
`errands`. What is delivered is the keyring as it is then, so several changes in a row cost one delivery.

Promises: no key leaves the core, only sealed bytes. A copy counts as delivered once it was read back and is
what was sent; an older copy stays until then. What is written down is what was seen.

Leaves out: trying again (`gateway.core.outbound.outbox`), and what a certificate says of copies.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, select, update

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.outbound import marker
from gateway.core.outbound.files import probe, put_bytes
from gateway.core.outbound.outbound import Outbound
from gateway.core.outbound.outbox import Delivery, OfTable, waiting
from vault.catalogue.schema import clients, copy_places, errands
from vault.catalogue.states import ClientState
from vault.catalogue.store import Transaction
from vault.errors import KeyUnavailable, PlaceError, PlaceMissing, VaultError
from vault.keys import copies
from vault.keys.copies import SUFFIX
from vault.keys.keyring import sealed_epoch
from vault.keys.open_keyrings import HOUSE
from vault.moments import stamp

NEXT: Final = ".next"  # what is to replace a copy, until it was read back


@dataclass(frozen=True)
class Seen:
    """What was read back at a place: a keyring's epoch (or `copies.REMOVED`), and its SHA-256 in hex."""

    epoch: int
    digest: str


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
            continue  # `check` says so; nothing can be delivered
        if (fill or owner not in noted) and (seen is None or seen.epoch != epoch):
            found.append(owner)
    # What lies there of clients that have been closed since has to go.
    gone = copies.owners_at(connection, target) - owners
    return found + sorted(owner for owner in gone if fill or owner not in noted)


class KeyringCopies(OfTable):
    """The sealed keyring files that the places of the configuration are to have, or are to have no more."""

    name = "keyring copy to"
    complaint = "keyring copy failed"

    def __init__(self, outbound: Outbound) -> None:
        self._targets = {copy.name: copy.target for copy in outbound.core.config.keyring.copies}
        super().__init__(outbound, errands, self._targets)

    async def deliver(self, delivery: Delivery) -> Seen:
        """See `Kind.deliver`; returns what was read back.

        The order: 1 is this the place it was, and does the keyring open; 2 the file under another name, read
        back; 3 only then in the place of the older copy, and read back again.
        """
        core, target = self.outbound.core, self._targets[delivery.place]
        owner = delivery.row.name.removesuffix(SUFFIX)

        def look(connection: Connection) -> tuple[bool, bool]:
            ended = connection.execute(
                select(clients.c.id).where(
                    clients.c.id == owner, clients.c.state == ClientState.CLOSED
                )
            ).scalar()
            return ended is not None, copies.delivered_to(connection, delivery.place)

        ended, known = await core.read(look)
        # 1. The keyring and the place.
        content = None if ended else await asyncio.to_thread(_opened, core, owner)
        await marker.expect(self.outbound, target, marker.COPIES, begun=known)
        name = owner + SUFFIX
        if content is None:
            for each in (name, name + NEXT):
                await self._remove(target, each)
            return Seen(copies.REMOVED, "")
        # 2. and 3.
        for each in (name + NEXT, name):
            await put_bytes(self.outbound, target, each, content)
            there = await probe(self.outbound, target, each)
            if there.sha256 != hashlib.sha256(content).digest():
                raise PlaceError(
                    f"{delivery.place}: copy {name}: expected the bytes just written, found others"
                )
        await self.outbound.transfers.transfer(target, "remove", name + NEXT)
        return Seen(sealed_epoch(content, owner), there.sha256.hex())

    async def _remove(self, target: str, name: str) -> None:
        await self.outbound.transfers.transfer(target, "remove", name)
        try:
            await probe(self.outbound, target, name)
        except PlaceMissing:
            return
        raise PlaceError(f"copy {name}: expected it to be gone, found it still there")

    def delivered(self, tx: Transaction, delivery: Delivery, seen: Seen, now: datetime) -> None:
        """See `Kind.delivered`."""
        row, owner = delivery.row, delivery.row.name.removesuffix(SUFFIX)
        copies.record(tx.connection, row.target, owner, seen.epoch, seen.digest, now)
        self.outbound.core.record(
            tx, "keyring.copied", owner, ACTOR_CORE, now, target=row.target, epoch=seen.epoch
        )
        super().delivered(tx, delivery, seen, now)
        # The last one says enough; the others would pile up.
        tx.connection.execute(
            delete(errands).where(
                errands.c.target == row.target,
                errands.c.name == row.name,
                errands.c.delivered_at.is_not(None),
                errands.c.id < row.id,
            )
        )


def _opened(core: Core, owner: str) -> bytes:
    """A keyring's sealed file, which opened just now (raises VaultError).

    One that is missing or does not open though its client is there is no reason to touch its copies: they are
    the last good ones.
    """
    custody = core.store.custody
    try:
        while True:
            content = custody.sealed_file(owner)
            custody.keyrings.load(owner)  # from the disk, not what is remembered of it
            if custody.sealed_file(owner) == content:  # else it was replaced meanwhile
                return content
    except (VaultError, OSError) as error:
        log.critical("keyring can't be opened", owner=owner, error=type(error).__name__)
        raise KeyUnavailable(
            f"keyring {owner}: expected one that opens, found none; its copies stay as they are"
        ) from error


def overdue(core: Core) -> list[dict[str, Any]]:
    """Places that lack something: which, since when, how much, and why; and those a person must settle."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        withdrawn = connection.execute(
            select(copy_places.c.name, copy_places.c.withdrawn_at, copy_places.c.settled_at)
            .where(copy_places.c.withdrawn_at.is_not(None))
            .order_by(copy_places.c.name)
        ).all()
        gone = {row.name for row in withdrawn}
        found = [
            {"target": name, "since": each.since, "waiting": each.count, "failure": each.failure}
            for name, each in waiting(connection, errands).items()
            if name not in gone
        ]
        found += [
            {
                "target": row.name,
                "since": row.withdrawn_at,
                "waiting": 0,
                "failure": "withdrawn from the configuration: `strongroom keys settle` when nothing is"
                " left there",
            }
            for row in withdrawn
            if row.settled_at is None
        ]
        return found

    return core.store.catalogue.read(look)
