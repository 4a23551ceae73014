"""What was said, what waits and what failed: for `strongroom notice list`, `status` and `doctor`.

Promises: whom something goes to is shown by account or client, never by an address.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, select

from gateway.core.notices.notices import Notices
from vault.catalogue import queries
from vault.catalogue.schema import notices
from vault.moments import stamp

LATE: Final = timedelta(hours=1)
RECENT: Final = timedelta(days=7)
FAILED: Final = ("refused", "given-up")


def listed(connection: Connection, which: str, limit: int) -> list[dict[str, Any]]:
    """Notices, the newest first.

    Args:
        which: "waiting", an outcome, or "" for all.
    """
    query = select(notices).order_by(notices.c.number.desc()).limit(limit)
    if which == "waiting":
        query = query.where(notices.c.delivered_at.is_(None))
    elif which:
        query = query.where(notices.c.outcome == which)
    names, slugs = queries.account_names(connection), queries.slugs(connection)
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "urgent": bool(row.urgent),
            "target": row.target,
            "to": names.get(row.account_id) or slugs.get(row.client_id) or row.target,
            "state": row.outcome or "waiting",
            "created_at": row.created_at,
            "attempts": row.attempts,
            "next_attempt_at": row.next_attempt_at if row.delivered_at is None else None,
            "ended_at": row.delivered_at,
            "failure": row.failure,
        }
        for row in connection.execute(query)
    ]


def state(wing: Notices, connection: Connection) -> dict[str, Any]:
    """What is behind and what failed of late, for each target of the configuration, and others that wait."""
    now = wing.core.now()
    waiting = {
        row.target: row
        for row in connection.execute(
            select(
                notices.c.target,
                func.count().label("count"),
                func.min(notices.c.next_attempt_at).label("due"),
                func.max(notices.c.attempts).label("attempts"),
                func.max(notices.c.failure).label("failure"),
            )
            .where(notices.c.delivered_at.is_(None))
            .group_by(notices.c.target)
        )
    }
    failed = {
        row.target: row
        for row in connection.execute(
            select(
                notices.c.target,
                func.count().label("count"),
                func.max(notices.c.delivered_at).label("last"),
                func.max(notices.c.failure).label("failure"),
            )
            .where(notices.c.outcome.in_(FAILED), notices.c.delivered_at > stamp(now - RECENT))
            .group_by(notices.c.target)
        )
    }
    targets = sorted({*wing.targets, *waiting})
    return {
        "targets": [
            _target(wing, each, waiting.get(each), failed.get(each), now) for each in targets
        ]
    }


def _target(wing: Notices, name: str, waiting: Any, failed: Any, now: datetime) -> dict[str, Any]:
    overdue = waiting is not None and waiting.due < stamp(now - LATE)
    return {
        "target": name,
        "configured": name in wing.targets,
        "waiting": waiting.count if waiting is not None else 0,
        "behind": bool(waiting is not None and (waiting.attempts or overdue)),
        "failure": waiting.failure if waiting is not None else "",
        "failed": failed.count if failed is not None else 0,
        "failed_last": failed.last if failed is not None else None,
        "failed_why": failed.failure if failed is not None else "",
    }
