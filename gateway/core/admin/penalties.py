"""Penalties of failed logins: who has one, and lifting it.

Promises: the ledger names no source: an address is a person's. It says that a penalty was lifted, and by
whom.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.admin.context import Context
from gateway.core.admin.register import ADMIN, READERS, Nothing, act
from gateway.core.login.logins import Logins
from gateway.errors import Refusal
from gateway.process.sources import source_of
from vault.moments import stamp


class Lift(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `penalty.lift`: an address, or a source as it is listed."""

    source: str


def standing(logins: Logins) -> list[dict[str, Any]]:
    """The sources whose penalty stands: since when, until when, and for what."""
    return [
        {
            "source": name,
            "since": stamp(source.since),
            "until": stamp(source.until),
            "events": dict(sorted(source.events.items())),
        }
        for name, source in logins.records.penalties.penalised(logins.core.clock.steady())
    ]


@act("penalty.list", READERS)
async def list_all(context: Context, arguments: Nothing) -> list[dict[str, Any]]:
    """All penalties that stand."""
    del arguments
    return standing(context.wings.logins)


@act("penalty.lift", ADMIN)
async def lift(context: Context, arguments: Lift) -> dict[str, Any]:
    """Forget what a source did, its used up attempts included."""
    core = context.core
    text = arguments.source
    source = text if "/" in text else source_of(text)
    if not context.wings.logins.records.penalties.forgive(source):
        raise Refusal("not_found", f"penalty {text[:64]}: expected a source with one, found none")
    await context.wings.logins.records.flush(core, core.clock.steady())
    await core.write(
        lambda tx: core.record(tx, "login.penalty_lifted", "login", context.actor, context.now)
    )
    return {"source": source, "lifted": True}
