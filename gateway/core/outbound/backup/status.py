"""What is known of backups, for `strongroom status` and `doctor`.

Leaves out looking at the targets (`gateway.core.outbound.backup.proof`): all of this is in the catalogue.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from gateway.config import BackupTarget
from gateway.core.clock import TOLERANCE
from gateway.core.core import Core
from gateway.core.outbound.backup import places
from gateway.core.outbound.backup.run import RETRY
from gateway.core.outbound.outbox import waiting
from vault.backup import format as backup_format
from vault.catalogue import settings
from vault.catalogue.schema import backup_amendments, backups
from vault.moments import stamp


def status(core: Core) -> dict[str, Any]:
    """For `strongroom status`: each target's newest backup and what it waits for; the last restore.

    Returns:
        `targets`: name, newest (id), made_at, verified_at, overdue, failure (of the newest run, if it
        failed), amendments_behind and behind_since, from_the_future (backups made under a
        clock that was ahead: id and started_at; they don't count as newest); `former`: names of
        places in use no more that hold backups; `restored_at_size`: the ledger's size in the backup
        this store was restored from, or None.
    """

    def look(connection: Connection) -> dict[str, Any]:
        return {
            "targets": [
                _state(connection, each, core.now()) for each in core.config.backup.targets
            ],
            "former": places.former_places(connection, core.config, core.now()),
            "restored_at_size": restored_at_size(connection),
        }

    return core.store.catalogue.read(look)


def restored_at_size(connection: Connection) -> int | None:
    """How many ledger entries the backup had that this store was last restored from; None: never."""
    value = settings.value(connection, backup_format.SETTING_RESTORED)
    return None if value is None else int(value)


def _state(connection: Connection, target: BackupTarget, now: datetime) -> dict[str, Any]:
    rows = select(backups).where(backups.c.target == target.name).order_by(backups.c.id.desc())
    done = rows.where(backups.c.state == backup_format.DONE)
    horizon = stamp(now + TOLERANCE)
    newest = connection.execute(done.where(backups.c.started_at <= horizon).limit(1)).one_or_none()
    future = connection.execute(done.where(backups.c.started_at > horizon)).all()
    last = connection.execute(rows.limit(1)).one_or_none()
    behind = waiting(connection, backup_amendments).get(target.name)
    made = newest.finished_at if newest is not None else None
    age = None if newest is None else now - datetime.fromisoformat(newest.started_at)
    # One run may fail and come again before anybody is told.
    patience = timedelta(hours=target.every_hours) + 2 * RETRY
    return {
        "name": target.name,
        "newest": newest.id if newest is not None else None,
        "made_at": made,
        "verified_at": newest.verified_at if newest is not None else None,
        "overdue": bool(target.every_hours) and (age is None or age > patience),
        "failure": last.failure if last is not None and last.state == backup_format.FAILED else "",
        "amendments_behind": behind.count if behind else 0,
        "behind_since": behind.since if behind else None,
        "from_the_future": [{"id": row.id, "started_at": row.started_at} for row in future],
    }
