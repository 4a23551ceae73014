"""Moments as the catalogue stores them.

Promises: what was stored can be compared as text. Leaves out: reading them (`datetime.fromisoformat`).

>>> from datetime import timedelta, timezone
>>> stamp(datetime(2026, 3, 1, 8, tzinfo=timezone(timedelta(hours=8))))
'2026-03-01T00:00:00.000000+00:00'
"""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(moment: datetime) -> str:
    """A moment (aware) in UTC, to the microsecond, always of the same length (ISO 8601)."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
