"""Receipts and notices as a kind of delivery: to the relay, and to webhooks (`gateway.core.outbound.outbox`).

Promises: a message keeps its id at every attempt, so that whoever gets it twice can tell. It counts as sent
once the relay has said 250, or a webhook 2xx. Refused for good, it ends at once; otherwise it is tried again
with growing delays and given up after `GIVE_UP`. Either is written down, and shown. A webhook gets its events
in the ledger's order: one that fails holds up those behind it. Finished messages are in memory only (memfd),
never on a disk.

What remains: if the courier dies before it could report the relay's 250, or that answer never comes, the same
message goes once more, under the same Message-ID (or `webhook-id`); SMTP has no way to ask.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, select, update

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.notices import composing
from gateway.core.notices.composing import Composed, Ended, Postponed
from gateway.core.notices.follow import add, attach
from gateway.core.notices.notices import RELAY, Notices
from gateway.core.notices.topics import RECEIPT
from gateway.core.outbound.outbox import DETAIL, Delivery, OfTable
from gateway.core.outbound.transfers import Refused
from gateway.core.steps import step
from vault.catalogue.schema import notice_documents, notices
from vault.catalogue.store import Transaction
from vault.errors import PlaceError, VaultError
from vault.moments import stamp

GIVE_UP: Final = timedelta(days=5)
KEEP: Final = timedelta(days=90)  # what is over, to be looked at
MINUTE: Final = timedelta(minutes=1)


class Messages(OfTable):
    """What the gateway says by itself."""

    name = "notice to"
    complaint = "notice not sent"

    def __init__(self, wing: Notices) -> None:
        super().__init__(wing.outbound, notices, wing.targets)
        self._wing = wing

    def next(self, connection: Connection, place: str, now: datetime | None) -> Delivery | None:
        """See `Kind.next`. Of a webhook's the first that waits, due or not, keeps the others waiting."""
        if place == RELAY:
            if self._is_capped(now):
                return None
            return self._urgent(connection, now) or super().next(connection, place, now)
        row = connection.execute(
            select(notices)
            .where(notices.c.target == place, notices.c.delivered_at.is_(None))
            .order_by(notices.c.number)
            .limit(1)
        ).one_or_none()
        if row is None or (now is not None and row.next_attempt_at > stamp(now)):
            return None
        return Delivery(place, row.attempts, row)

    def _urgent(self, connection: Connection, now: datetime | None) -> Delivery | None:
        """What can't wait goes before receipts that pile up: a relay gets so many a minute."""
        query = select(notices).where(
            notices.c.target == RELAY, notices.c.delivered_at.is_(None), notices.c.urgent
        )
        if now is not None:
            query = query.where(notices.c.next_attempt_at <= stamp(now))
        row = connection.execute(query.order_by(notices.c.number).limit(1)).one_or_none()
        return None if row is None else Delivery(RELAY, row.attempts, row)

    def _is_capped(self, now: datetime | None) -> bool:
        sent = self._wing.sent
        while now is not None and sent and now - sent[0] >= MINUTE:
            sent.popleft()
        return len(sent) >= self._wing.core.config.relay.max_per_minute

    async def deliver(self, delivery: Delivery) -> Composed:
        """See `Kind.deliver`."""
        core, row = self._wing.core, delivery.row
        now = core.now()
        composed = await core.read(lambda c: composing.compose(core, c, row, now))
        file = os.memfd_create("message", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(file), "wb") as written:
                written.write(composed.content)
            os.lseek(file, 0, os.SEEK_SET)
            with step("notice.send"):
                await self._wing.outbound.transfers.transfer(delivery.place, "send", row.id, file)
        finally:
            os.close(file)
        if delivery.place == RELAY:
            self._wing.sent.append(now)
        return composed

    def delivered(self, tx: Transaction, delivery: Delivery, seen: Composed, now: datetime) -> None:
        """See `Kind.delivered`. What came in meanwhile, or is still being inspected, gets one more."""
        with step("notice.record"):
            row = delivery.row
            self.end(tx, delivery, "sent", "", now)
            tx.connection.execute(
                update(notices)
                .where(notices.c.number == row.number)
                .values(recipient_index=seen.recipient_index)
            )
            if row.kind == RECEIPT:
                self._join(tx, row, seen, now)
                self._follow_up(tx, row, seen, now)
            elif row.account_id is not None:
                events = tx.connection.execute(
                    select(notices.c.events).where(notices.c.number == row.number)
                ).scalar_one()
                if events > row.events:
                    again = now + (timedelta(hours=1) if row.urgent else timedelta(days=1))
                    more = {"account_id": row.account_id, "urgent": row.urgent}
                    add(tx, RELAY, row.kind, now, again, events=events - row.events, **more)

    def _join(self, tx: Transaction, row: Any, seen: Composed, now: datetime) -> None:
        """Answers that were in this one are over; what they were about counts as told by it."""
        if not seen.joined:
            return
        own = set(
            tx.connection.execute(
                select(notice_documents.c.document_id).where(
                    notice_documents.c.number == row.number
                )
            ).scalars()
        )
        attach(tx, row.number, sorted(set(seen.documents) - own))
        others = tx.connection.execute(
            select(notices).where(notices.c.number.in_(seen.joined))
        ).all()
        for other in others:
            self.end(tx, Delivery(RELAY, other.attempts, other), "joined", f"in {row.id}", now)

    def _follow_up(self, tx: Transaction, row: Any, seen: Composed, now: datetime) -> None:
        ids = set(
            tx.connection.execute(
                select(notice_documents.c.document_id).where(
                    notice_documents.c.number == row.number
                )
            ).scalars()
        )
        of_client = {"client_id": row.client_id, "message_id": row.message_id}
        if pending := sorted(each for each, waits in seen.documents.items() if waits):
            number = add(tx, RELAY, RECEIPT, now, now + composing.LOOK_AGAIN, **of_client)
            attach(tx, number, pending, told=True)
        if added := sorted(ids - set(seen.documents)):
            gather = timedelta(minutes=self._wing.core.config.relay.digest_minutes)
            number = add(tx, RELAY, RECEIPT, now, now + gather, **of_client, entry=row.entry)
            attach(tx, number, added)

    def failed(
        self, tx: Transaction, delivery: Delivery, error: VaultError, now: datetime, again: datetime
    ) -> None:
        """See `Kind.failed`."""
        row = delivery.row
        if isinstance(error, Postponed):
            tx.connection.execute(
                update(notices)
                .where(notices.c.number == row.number, notices.c.delivered_at.is_(None))
                .values(next_attempt_at=stamp(error.until), failure=str(error)[:DETAIL])
            )
        elif isinstance(error, Ended):
            self.end(tx, delivery, error.outcome, str(error), now)
        elif isinstance(error, Refused):
            self.end(tx, delivery, "refused", str(error), now)
        else:
            self._put_off(tx, delivery, error, again)
        self._give_up(tx, delivery.place, now)

    def _put_off(
        self, tx: Transaction, delivery: Delivery, error: VaultError, again: datetime
    ) -> None:
        """Try it again later; what is due before that, too, if the place failed. Nothing is due any
        earlier."""
        row = delivery.row
        waits = (notices.c.target == row.target, notices.c.delivered_at.is_(None))
        later = {"attempts": row.attempts + 1, "next_attempt_at": stamp(again)}
        tx.connection.execute(
            update(notices)
            .where(*waits, notices.c.number == row.number)
            .values(failure=str(error)[:DETAIL], **later)
        )
        if isinstance(error, PlaceError):
            tx.connection.execute(
                update(notices)
                .where(
                    *waits,
                    notices.c.attempts <= row.attempts,
                    notices.c.next_attempt_at < stamp(again),
                )
                .values(later)
            )

    def hasten(self, tx: Transaction, place: str, now: datetime) -> None:
        """See `Kind.hasten`. What gathers goes on gathering."""
        tx.connection.execute(
            update(notices)
            .where(
                notices.c.target == place,
                notices.c.delivered_at.is_(None),
                notices.c.attempts > 0,
            )
            .values(next_attempt_at=stamp(now))
        )

    def end(
        self, tx: Transaction, delivery: Delivery, outcome: str, why: str, now: datetime
    ) -> None:
        """It is over: write down how, in the row and in the ledger."""
        row = delivery.row
        done = tx.connection.execute(
            update(notices)
            .where(notices.c.number == row.number, notices.c.delivered_at.is_(None))
            .values(delivered_at=stamp(now), outcome=outcome, failure=why[:DETAIL])
        )
        if done.rowcount:
            self._wing.core.record(
                tx, "notice.ended", row.id, ACTOR_CORE, now,
                outcome=outcome, about=row.kind, target=row.target,
            )  # fmt: skip

    def _give_up(self, tx: Transaction, place: str, now: datetime) -> None:
        """End whatever a place has not taken in all the time it is tried for."""
        old = (
            notices.c.target == place,
            notices.c.delivered_at.is_(None),
            notices.c.created_at < stamp(now - GIVE_UP),
        )
        done = tx.connection.execute(
            update(notices).where(*old).values(delivered_at=stamp(now), outcome="given-up")
        )
        if done.rowcount:
            self._wing.core.record(
                tx, "notices.given-up", place, ACTOR_CORE, now, count=done.rowcount
            )

    def complain(self, place: str, error: VaultError) -> None:
        """See `Kind.complain`; what waits or is not to be sent is no failure."""
        if not isinstance(error, Postponed | Ended):
            log.error(self.complaint, place=place, detail=str(error))


def prune(core: Core, tx: Transaction, now: datetime) -> None:
    """Forget what has been over for long; give up what nothing carries any more.

    That is, what waits for a target that is not in the configuration: others are given up when they fail.
    """
    done = tx.connection.execute(
        update(notices)
        .where(
            notices.c.delivered_at.is_(None),
            notices.c.created_at < stamp(now - 2 * GIVE_UP),
        )
        .values(delivered_at=stamp(now), outcome="given-up")
    )
    if done.rowcount:
        core.record(tx, "notices.given-up", "store", ACTOR_CORE, now, count=done.rowcount)
    old = select(notices.c.number).where(
        notices.c.delivered_at.is_not(None), notices.c.delivered_at < stamp(now - KEEP)
    )
    tx.connection.execute(delete(notice_documents).where(notice_documents.c.number.in_(old)))
    tx.connection.execute(
        delete(notices).where(
            notices.c.delivered_at.is_not(None), notices.c.delivered_at < stamp(now - KEEP)
        )
    )
