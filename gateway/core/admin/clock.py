"""The clock in doubt: what is known of it, and the officer's word that it is right.

Promises: the word is a signed act that names the time, so that a signature made for one moment confirms no
other.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.core.admin.context import Context
from gateway.core.admin.register import OFFICER, READERS, Nothing, act
from gateway.core.clock import TOLERANCE
from gateway.core.core import Core, log
from gateway.errors import Refusal
from vault.catalogue.store import Transaction
from vault.moments import stamp


class Confirm(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `clock.confirm`: the time that is said to be right, with its offset, and why."""

    now: datetime
    reason: Annotated[str, Meta(min_length=1, max_length=500)]


def state(core: Core, now: datetime) -> dict[str, Any]:
    """What is known of the clock.

    Returns:
        `believed`; `reason` (why not; empty); `known` (the newest time known right, where it is in doubt);
        `moved_hours` (how much further it went than the machine while the core was down; None: no more than
        it may, or not known).
    """
    reason = core.clock.reason(now)
    doubt, moved = core.clock.doubt, core.clock.moved
    return {
        "believed": reason is None,
        "reason": reason or "",
        "known": stamp(doubt.known) if doubt is not None else None,
        "moved_hours": round(moved.total_seconds() / 3600, 1) if moved is not None else None,
    }


@act("clock.show", READERS)
async def show(context: Context, arguments: Nothing) -> dict[str, Any]:
    """Whether the clock is believed, and why not."""
    del arguments
    data = await asyncio.to_thread(state, context.core, context.now)
    return data | {"now": stamp(context.now)}


@act("clock.confirm", OFFICER)
async def confirm(context: Context, arguments: Confirm) -> dict[str, Any]:
    """Take an officer's word that the clock is right."""
    core, now = context.core, context.now
    if arguments.now.tzinfo is None or abs(arguments.now - now) > TOLERANCE:
        raise Refusal(
            "invalid",
            f"clock: expected the gateway's time to be confirmed ({stamp(now)}), found"
            f" {arguments.now.isoformat()}",
        )
    if await asyncio.to_thread(core.clock.reason, now) is None:
        raise Refusal("invalid", "clock: expected one in doubt, found it believed")

    def work(tx: Transaction) -> None:
        doubt = core.clock.doubt
        core.record(
            tx,
            "clock.confirmed",
            "clock",
            context.actor,
            now,
            known=stamp(doubt.known) if doubt is not None else stamp(core.clock.started),
            found=stamp(doubt.found) if doubt is not None else stamp(now),
            reason=len(arguments.reason),
        )
        core.clock.confirm(tx, now)

    await core.write(work)
    core.clock.confirmed(now)
    log.warning("the clock was confirmed", by=context.actor, now=stamp(now))
    return {"now": stamp(now), "believed": True}
