"""Notices: what the gateway said by itself, and a test of the ways it says it.

Leaves out: what is said, to whom and when (`core.notices`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import select

from gateway.core.admin.context import Context, account_row
from gateway.core.admin.register import ADMIN, READERS, act
from gateway.core.notices import follow, listing
from gateway.core.notices.kind import Messages
from gateway.core.notices.notices import RELAY
from gateway.core.notices.topics import TEST
from gateway.core.outbound import outbox
from gateway.core.outbound.outbox import Delivery
from gateway.errors import Refusal
from gateway.wire.messages import AdminAnswer
from vault.catalogue.schema import notices
from vault.catalogue.store import Transaction


class List(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `notice.list`; `state` "": all."""

    state: Literal["", "waiting", "sent", "refused", "given-up", "withheld", "joined", "moot"] = ""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class Test(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `notice.test`. `target`: `relay` or `webhook:<name>`; `account`: who gets the mail."""

    target: str
    account: str = ""


@act("notice.list", READERS)
async def list_all(context: Context, arguments: List) -> list[dict[str, Any]]:
    """What was sent, waits or failed, the newest first."""
    return await context.core.read(lambda c: listing.listed(c, arguments.state, arguments.limit))


@act("notice.test", ADMIN)
async def test(context: Context, arguments: Test) -> AdminAnswer:
    """Send a test notice now; how that went. What fails is not tried again."""
    core, wing = context.core, context.wings.notices
    target = arguments.target
    if context.queue is None:
        raise Refusal("busy", "notice test: expected a running gateway, found the store at rest")
    if target not in wing.targets:
        raise Refusal(
            "not_found",
            f"notice test: expected one of {', '.join(wing.targets) or 'none (nothing is configured)'},"
            f" found {target!r}",
        )
    account_id = None
    if target == RELAY:
        row = await core.read(lambda c: account_row(c, arguments.account))
        if row.email is None:
            raise Refusal(
                "invalid",
                f"account {row.name}: expected an address (`strongroom account change {row.name} --email"
                " …`), found none",
            )
        account_id = row.id

    def note(tx: Transaction) -> Any:
        number = follow.add(tx, target, TEST, context.now, context.now, account_id=account_id)
        core.record(tx, "notice.tested", target, context.actor, context.now)
        return tx.connection.execute(select(notices).where(notices.c.number == number)).one()

    kind = Messages(wing)
    async with context.wings.outbound.in_progress.turn(kind.name, target):
        waiting = await core.write(note)
        delivery = Delivery(target, 0, waiting)
        error = await outbox.attempt(context.wings.outbound, kind, delivery)
        if error is not None:
            await core.write(lambda tx: kind.end(tx, delivery, "given-up", str(error), core.now()))
    (shown,) = [
        each
        for each in await core.read(lambda c: listing.listed(c, "", 1000))
        if each["id"] == waiting.id
    ]
    return AdminAnswer(shown, 0 if shown["state"] == "sent" else 1)
