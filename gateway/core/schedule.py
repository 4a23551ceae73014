"""What the core does by the clock: APScheduler ticks, the catalogue says what is due.

Promises: late ticks run (`misfire_grace_time=None`), missed ones once (`coalesce`), a
job never overlaps itself, and a failing job is logged and comes again. What ends, removes or begins
anything by a date rests while the clock is in doubt (`clock`).
Leaves out: every decision: a job asks its wing what is due.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlalchemy import Connection, or_, select

from gateway.core.core import ACTOR_CORE, log
from gateway.core.disposal import certificates, execution, proposal
from gateway.core.filing import restricted
from gateway.core.inspection import fixity, scanner
from gateway.core.inspection.claims import InspectionQueue
from gateway.core.intake import partial, pressure
from gateway.core.keys import groups, rotation
from gateway.core.login import host_keys, limits, recovery
from gateway.core.notices import conditions, follow
from gateway.core.notices import kind as notices_kind
from gateway.core.outbound import outbox
from gateway.core.outbound.backup import run as backup_run
from gateway.core.outbound.kinds import kinds
from gateway.core.wings import Wings
from gateway.errors import Refusal
from vault.catalogue.schema import accounts
from vault.catalogue.store import Transaction
from vault.errors import VaultError

CHECKPOINT_SECONDS: Final = 1.0
HOUSEKEEPING_SECONDS: Final = 600.0
CLOCK_SECONDS: Final = 60.0
RESUME_SECONDS: Final = 60.0
ROTATION_SECONDS: Final = 3600.0
FOLLOW_UP_SECONDS: Final = 60.0
FIXITY_SECONDS: Final = 900.0
DELIVERY_SECONDS: Final = 1.0
BACKUP_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 1.0
LOGINS_SECONDS: Final = 1.0
HOST_KEYS_SECONDS: Final = 60.0
NOTICE_SECONDS: Final = 1.0
CONDITION_SECONDS: Final = 60.0
PRESSURE_SECONDS: Final = 2.0
SCANNER_SECONDS: Final = 15.0
RECOVERY_SECONDS: Final = 60.0


async def checkpoint(wings: Wings) -> None:
    """Sign a checkpoint if anything came since the last."""
    core = wings.core

    def work(tx: Transaction) -> None:
        tx.ledger.sign_checkpoint(
            tx.connection, core.store.origin, core.store.ledger_key, core.now()
        )

    if core.store.catalogue.ledger.size != wings.outbound.checkpointed:
        size = core.store.catalogue.ledger.size
        await core.write(work)
        wings.outbound.checkpointed = size


async def propose(wings: Wings) -> None:
    """Propose what has fallen due."""
    try:
        await proposal.propose(wings.core, ACTOR_CORE)
    except Refusal as refusal:
        log.error("nothing proposed", reason=refusal.message)


async def housekeeping(wings: Wings) -> None:
    """Expire interrupted uploads and old requests; end intake groups that nothing lives in any more."""
    core = wings.core
    now = core.now()
    await partial.expire_due(wings.intake, now)
    await core.write(lambda tx: notices_kind.prune(core, tx, now), background=True)
    await restricted.lapse(core, now)
    today = now.date().isoformat()
    custody = core.store.custody
    async with wings.freeze.hold() as frozen:
        empty = await core.read(
            lambda connection: [
                group_id for _, group_id in custody.empty_intake_groups(connection, today)
            ]
        )
        if empty:
            await groups.finish_group_end(wings.keys, frozen, empty, now)
        else:
            await groups.drop_ended(wings.keys, frozen, now)


async def look_for_scanner(wings: Wings) -> None:
    """Find out whether clamd is there."""
    await scanner.look(wings.core)


async def make_room(wings: Wings) -> None:
    """End uploads that wait to be continued while the disk is nearly full."""
    await pressure.relieve(wings.intake)


async def rotate_keys(wings: Wings) -> None:
    """Go on with rotations that were begun, and begin those that are due by age."""
    core = wings.core
    await rotation.resume(wings.keys)
    for kind in await rotation.due(core):
        await rotation.run(wings.keys, await rotation.start(core, kind, ACTOR_CORE))


async def back_up(wings: Wings) -> None:
    """Run the backups that are due."""
    await backup_run.due(wings.outbound)


async def deliver(wings: Wings) -> None:
    """Bring the places elsewhere what they are to have, and say what is to be said."""
    everything = (*kinds(wings.outbound), notices_kind.Messages(wings.notices))
    await outbox.due(wings.outbound, everything)


async def note_notices(wings: Wings) -> None:
    """Note what has to be said of what the ledger has had since."""
    await follow.follow(wings.notices)


async def watch_conditions(wings: Wings) -> None:
    """Enter in the ledger what is behind or near its end."""
    await conditions.watch(wings.notices)


async def follow_up(wings: Wings) -> None:
    """Certify anew where a claim has risen."""
    await certificates.follow_up(wings.disposal)


async def watch_sessions(wings: Wings) -> None:
    """End the sessions of accounts that may not be logged in any more: expired, or out of hours."""
    core = wings.core
    now, zone = core.now(), ZoneInfo(core.config.login.time_zone)
    ids = list(wings.logins.live)
    if not ids:
        return

    def look(connection: Connection) -> list[str]:
        rows = connection.execute(
            select(accounts).where(
                accounts.c.id.in_(ids),
                or_(accounts.c.expires_at.is_not(None), accounts.c.hours.is_not(None)),
            )
        )
        return [row.id for row in rows if limits.admits(row, now, zone, None) is not None]

    for account_id in await core.read(look):
        log.info("sessions ended by the account's limits", account=account_id)
        wings.logins.end_sessions(account_id)


async def write_logins(wings: Wings) -> None:
    """Write what changed of penalties; count failures in the ledger."""
    await wings.logins.records.flush(wings.core, wings.core.clock.steady())


async def change_host_keys(wings: Wings) -> None:
    """Put announced host keys to use once their day has come."""
    await host_keys.due(wings.logins.host_keys)


async def resume_disposal(wings: Wings) -> None:
    """Finish destructions that a crash or a full disk interrupted."""
    await execution.recover(wings.disposal)


async def keep_time(wings: Wings) -> None:
    """Remember that the clock is right, or say that it is not."""
    if (reason := await asyncio.to_thread(wings.core.clock.keep, wings.core.now())) is not None:
        log.critical("nothing is ended or removed", reason=reason)


async def announce_recovery(wings: Wings) -> None:
    """Say that a recovered quorum has begun to count."""
    await recovery.announce(wings.core)


def start(wings: Wings, queue: InspectionQueue) -> AsyncIOScheduler:
    """Start the ticks on the running loop."""

    async def read_share(wings: Wings) -> None:
        await fixity.daily(wings.core, queue)

    scheduler = AsyncIOScheduler(
        timezone="UTC",
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )

    def add(
        job: Callable[[Wings], Awaitable[None]],
        seconds: float,
        *,
        at_once: bool = False,
        dated: bool = False,
    ) -> None:
        more: dict[str, Any] = (
            {"next_run_time": datetime.now(scheduler.timezone)} if at_once else {}
        )
        scheduler.add_job(
            _guarded(_dated(job) if dated else job),
            "interval",
            seconds=seconds,
            args=[wings],
            id=job.__name__,
            **more,
        )

    add(checkpoint, CHECKPOINT_SECONDS)
    add(keep_time, CLOCK_SECONDS, at_once=True)
    add(propose, wings.core.config.retention.propose_interval, at_once=True, dated=True)
    add(housekeeping, HOUSEKEEPING_SECONDS, at_once=True, dated=True)
    add(resume_disposal, RESUME_SECONDS, at_once=True)
    add(rotate_keys, ROTATION_SECONDS, at_once=True, dated=True)
    add(follow_up, FOLLOW_UP_SECONDS, at_once=True, dated=True)
    add(announce_recovery, RECOVERY_SECONDS, at_once=True, dated=True)
    add(read_share, FIXITY_SECONDS)
    add(watch_sessions, WATCH_SECONDS, dated=True)
    add(write_logins, LOGINS_SECONDS)
    add(make_room, PRESSURE_SECONDS, at_once=True)
    add(look_for_scanner, SCANNER_SECONDS, at_once=True)
    add(change_host_keys, HOST_KEYS_SECONDS, at_once=True, dated=True)
    config = wings.core.config
    said = bool(wings.notices.targets)
    if said or config.keyring.copies or config.backup.targets or config.ledger.places:
        add(deliver, DELIVERY_SECONDS)
    if said:
        add(note_notices, NOTICE_SECONDS)
        add(watch_conditions, CONDITION_SECONDS)
    if config.backup.targets:
        add(back_up, BACKUP_SECONDS)
    scheduler.add_listener(
        lambda event: log.error("job missed or failed", job=event.job_id),
        EVENT_JOB_MISSED | EVENT_JOB_ERROR,
    )
    scheduler.start()
    return scheduler


def _dated(job: Callable[[Wings], Awaitable[None]]) -> Callable[[Wings], Awaitable[None]]:
    """A job that ends, removes or begins something by a date: it rests while the clock is in doubt."""

    @functools.wraps(job)
    async def run(wings: Wings) -> None:
        if await asyncio.to_thread(wings.core.clock.reason, wings.core.now()) is None:
            await job(wings)

    return run


def _guarded(job: Callable[[Wings], Awaitable[None]]) -> Callable[[Wings], Awaitable[None]]:
    """A job whose failure is logged by subject and does not end it."""

    async def run(wings: Wings) -> None:
        try:
            await job(wings)
        except (VaultError, Refusal) as error:
            log.error("job failed", job=job.__name__, error=str(error))

    return run
