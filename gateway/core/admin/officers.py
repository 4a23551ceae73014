"""Who may act on an account: on an officer's account only another officer, once there are enough.

Leaves out: acts that take the signatures of two officers (`second_officer`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from gateway.core.admin.context import Context
from gateway.core.login import recovery
from gateway.errors import Refusal


def check_not_officer(context: Context, name: str) -> None:
    """Refuse an officer an account that is no officer's: those are the console's and the administrator's."""
    if context.account is not None and context.account.role == "officer":
        raise Refusal("denied", f"account {name}: expected an officer's, as an officer signs")


def check_other_officer(context: Context, connection: Connection, row: Any) -> None:
    """Refuse an act on an officer's account unless another officer signs it (raises Refusal)."""
    if row.role != "officer":
        check_not_officer(context, row.name)
        return
    check_officer_makers(context, connection)
    if context.account is not None and context.account.id == row.id:
        raise Refusal(
            "denied", f"account {row.name}: expected another officer to sign, found its own"
        )


def check_officer_makers(context: Context, connection: Connection) -> bool:
    """Refuse the console what only an officer may do, once there were enough officers.

    Otherwise who holds the console could make the officers that dual control needs. The console makes the
    first officers; with the third this ends for ever, as accounts are never removed and disabled ones count.

    Returns:
        Whether it has ended.

    Raises:
        Refusal: it has, and no officer signs.
    """
    ended = recovery.founded(connection)
    if ended and (context.account is None or context.account.role != "officer"):
        raise Refusal(
            "denied",
            "officer: expected the signature of one, as there are or were enough to begin with;"
            " sign it with --as NAME --signing-key FILE",
        )
    return ended
