"""One secret that somebody tries: whether it is looked at, and what it costs if it was wrong.

Promises: every door asks here, so that a guess costs the same wherever it is made, and what a source did at
one door counts at the others. Leaves out: the rules (`throttle`), and what a right secret gives.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Row

from gateway.core.login.logins import Logins
from gateway.core.login.throttle import Ruling


async def weigh(
    logins: Logins,
    *,
    peer: str,
    user: str,
    row: Row[Any] | None,
    kind: str,
    look: Callable[[Ruling], Awaitable[bool | None]],
) -> float | None:
    """Look at a secret if the throttle lets it be looked at.

    Args:
        row: the active account of the name `user`, if there is one.
        kind: what the secret is, for the log and the ledger.
        look: whether it is right; None: too many wait, and nobody looked.

    Returns:
        None: it was right. Else how many seconds it still takes until that may be said.
    """
    begun = time.monotonic()
    steady = logins.core.clock.steady()
    records = logins.records
    account_id = row.id if row is not None else None
    who = account_id or records.penalties.unknown_user(user)
    ruling = records.penalties.attempt(peer, who, steady)
    right: bool | None = False
    if ruling.looked_at:
        right = await look(ruling)
    if right is not False:
        records.penalties.give_back(peer, who, ruling)
    if right:
        return None
    if right is None:
        records.failed(peer, account_id, "busy")
    else:
        count = records.penalties.wrong(peer, who, steady)
        records.failed(peer, account_id, kind, count)
    return ruling.delay - (time.monotonic() - begun)
