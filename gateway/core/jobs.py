"""What the core does by the clock: APScheduler ticks, the catalogue says what is due.

The scheduler is only a tick. Late ticks run (`misfire_grace_time=None`), missed ones once (`coalesce`), a
job never overlaps itself, and a failing job is logged and comes again. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from gateway.core.journey import destroy, dispose, receive
from gateway.core.runtime import ACTOR_CORE, Core, log
from gateway.errors import Refusal
from vault.catalogue.store import Transaction
from vault.errors import VaultError

CHECKPOINT_SECONDS: Final = 1.0
HOUSEKEEPING_SECONDS: Final = 600.0
RESUME_SECONDS: Final = 60.0


async def checkpoint(core: Core) -> None:
    """Sign a checkpoint if anything came since the last."""

    def work(tx: Transaction) -> None:
        tx.ledger.sign_checkpoint(
            tx.connection, core.store.origin, core.store.ledger_key, core.now()
        )

    if core.store.catalogue.ledger.size != core.checkpointed:
        size = core.store.catalogue.ledger.size
        await core.write(work)
        core.checkpointed = size


async def propose(core: Core) -> None:
    """Propose what has fallen due."""
    try:
        await dispose.propose(core, ACTOR_CORE)
    except Refusal as refusal:
        log.error("nothing proposed", reason=refusal.message)


async def housekeeping(core: Core) -> None:
    """Expire interrupted uploads; end intake groups that nothing lives in any more."""
    now = core.now()
    await receive.expire_partials(core, now)
    today = now.date().isoformat()
    custody = core.store.custody

    def end_empty(tx: Transaction) -> dict[str, list[str]]:
        by_client: dict[str, list[str]] = {}
        for client_id, group_id in custody.empty_intake_groups(tx.connection, today):
            by_client.setdefault(client_id, []).append(group_id)
        for client_id, ids in by_client.items():
            custody.end_groups(tx.connection, ids, now)
            core.record(tx, "groups.ended", client_id, ACTOR_CORE, now, groups=ids)
        return by_client

    ended = await core.write(end_empty)

    def drop(tx: Transaction) -> None:
        for client_id, ids in ended.items():
            custody.drop_keys(tx.connection, client_id, ids, now)

    await core.write(drop)


async def resume_disposal(core: Core) -> None:
    """Finish destructions that a crash or a full disk interrupted."""
    await destroy.recover(core)


def start(core: Core) -> AsyncIOScheduler:
    """Start the ticks on the running loop."""
    scheduler = AsyncIOScheduler(
        timezone="UTC",
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )

    def add(
        job: Callable[[Core], Awaitable[None]], seconds: float, *, at_once: bool = False
    ) -> None:
        more: dict[str, Any] = (
            {"next_run_time": datetime.now(scheduler.timezone)} if at_once else {}
        )
        scheduler.add_job(
            _guarded(job), "interval", seconds=seconds, args=[core], id=job.__name__, **more
        )

    add(checkpoint, CHECKPOINT_SECONDS)
    add(propose, core.config.retention.propose_interval, at_once=True)
    add(housekeeping, HOUSEKEEPING_SECONDS, at_once=True)
    add(resume_disposal, RESUME_SECONDS, at_once=True)
    scheduler.add_listener(
        lambda event: log.error("job missed or failed", job=event.job_id),
        EVENT_JOB_MISSED | EVENT_JOB_ERROR,
    )
    scheduler.start()
    return scheduler


def _guarded(job: Callable[[Core], Awaitable[None]]) -> Callable[[Core], Awaitable[None]]:
    """A job whose failure is logged by subject and does not end it."""

    async def run(core: Core) -> None:
        try:
            await job(core)
        except VaultError as error:
            log.error("job failed", job=job.__name__, error=str(error))

    return run
