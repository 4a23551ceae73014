"""The store's clock: whether the time it is told can be believed, across restarts too.

Promises: nothing is destroyed, ended, removed or begun by a date while the clock stands where the store can't
explain it; intake and reading go on. A doubt outlives a restart and a corrected clock: an officer ends it, by
a signed act that names the time.

Leaves out: keeping the clock right (NTP does).

Rules:
1. The store remembers the newest time it was known right (the *mark*) and how long its ledger was then. It
   moves while the core runs without doubt, every minute, and when a store is opened without doubt.
2. A store without a mark takes the newest time that ledger, backups and publications hold.
3. At every start the clock may be ahead of that time by the longest absence that the configuration calls
   plausible, and may not be behind it by more than `TOLERANCE`. Else the clock is in doubt.
4. Entries that the ledger got after the mark must fit in the same way: a time does not become right because
   something was written under it.
5. While a core runs, its clock must keep step with the time since boot. Where it does not, nothing is
   disposed of until it does again, or the core is started anew and finds the time explained.
6. In doubt, what is counted in time but ends nothing of a client's (login penalties) goes by `steady`: the
   time last known right, and what has passed since.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from sqlalchemy import Connection, func, select

from gateway.errors import Refusal
from vault.backup import format as backup_format
from vault.catalogue import ledger, settings
from vault.catalogue.schema import backups, checkpoint_places
from vault.catalogue.store import Catalogue, Transaction

T = TypeVar("T")

TOLERANCE: Final = timedelta(minutes=10)
SETTING_MARK: Final = "clock.mark"
SETTING_DOUBT: Final = "clock.doubt"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_UPTIME: Final = Path("/proc/uptime")


class Mark(msgspec.Struct, frozen=True):
    """A time known right: when, how long the ledger was, and how long the machine had been up."""

    at: datetime
    size: int
    boot: str = ""
    uptime: float = 0.0


class Doubt(msgspec.Struct, frozen=True):
    """A clock that could not be explained: the newest time known right, the one found, and in which way."""

    known: datetime
    found: datetime
    why: str


def judge(
    now: datetime, known: datetime | None, written: datetime | None, absence: timedelta
) -> str | None:
    """Decide whether a time can be explained.

    Args:
        now: what the clock says.
        known: the newest time known right; None: the store is new.
        written: the newest time found written after that; None: nothing was.
        absence: the longest time for which nobody may have looked.

    Returns:
        Why it can't; None: it can.

    >>> from datetime import UTC
    >>> known = datetime(2026, 3, 1, tzinfo=UTC)
    >>> judge(datetime(2026, 3, 2, tzinfo=UTC), known, None, timedelta(days=30)) is None
    True
    >>> judge(datetime(2041, 3, 1, tzinfo=UTC), known, None, timedelta(days=30))
    'it is 5479 days ahead of the newest time known right'
    """
    if known is None:
        return None
    if now < known - TOLERANCE:
        return f"it is {_span(known - now)} behind the newest time known right"
    if now > known + absence:
        return f"it is {_span(now - known)} ahead of the newest time known right"
    if written is not None and written > known + absence:
        return f"an entry was written {_span(written - known)} after the newest time known right"
    if written is not None and now < written - TOLERANCE:
        return f"it is {_span(written - now)} behind the newest ledger entry"
    return None


def _span(delta: timedelta) -> str:
    if delta >= timedelta(days=2):
        return f"{delta.days} days"
    return f"{delta.total_seconds() / 3600:.1f} hours"


class StoreClock:
    """The clock of an open store."""

    def __init__(
        self, catalogue: Catalogue, read: Callable[[], datetime], absence: timedelta
    ) -> None:
        """Judge the clock, and keep the judgement in the store (raises VaultError)."""
        self._catalogue = catalogue
        self._read = read
        self.started = read()
        self._boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.moved: timedelta | None = None
        mark, written, doubt = catalogue.read(_evidence)
        if doubt is None:
            known = mark.at if mark is not None else written
            why = judge(self.started, known, written if mark is not None else None, absence)
            if why is not None and known is not None:
                doubt = Doubt(known, self.started, why)
        self.doubt = doubt
        if doubt is None:
            self.moved = _moved(mark, self.started)
            self.keep(self.started)
        else:
            catalogue.write(lambda tx: _put(tx.connection, SETTING_DOUBT, doubt))

    def drift(self, now: datetime) -> timedelta:
        """How far the clock has left the time that passed since the start; sleep is counted."""
        passed = time.clock_gettime(time.CLOCK_BOOTTIME) - self._boottime
        return (now - self.started) - timedelta(seconds=passed)

    def reason(self, now: datetime) -> str | None:
        """Why the clock is not believed now, and what to do; None: it is believed."""
        if self.doubt is not None:
            return (
                f"clock: expected a time that follows {self.doubt.known:%Y-%m-%d %H:%M}Z, found"
                f" {self.doubt.found:%Y-%m-%d %H:%M}Z ({self.doubt.why}); it says {now:%Y-%m-%d %H:%M}Z now."
                " Set it, then an officer signs `strongroom clock confirm`"
            )
        drift = self.drift(now)
        if abs(drift) > TOLERANCE:
            return (
                f"clock: expected {now - drift:%Y-%m-%d %H:%M}Z or close to it, found"
                f" {now:%Y-%m-%d %H:%M}Z (it jumped while the core runs). Set it and restart the core"
            )
        newest = self._newest_since_mark()
        if newest is not None and now < newest - TOLERANCE:
            return (
                f"clock: expected a time after the newest ledger entry ({newest:%Y-%m-%d %H:%M}Z),"
                f" found {now:%Y-%m-%d %H:%M}Z. Set it and restart the core"
            )
        return None

    def require(self, now: datetime) -> None:
        """Refuse what ends or removes anything while the clock is in doubt (raises Refusal)."""
        if (reason := self.reason(now)) is not None:
            raise Refusal("failed", f"{reason}; nothing is ended or removed before")

    def steady(self) -> datetime:
        """The time to count penalties by: the clock's, or the time last known right and what passed since."""
        now = self._read()
        if self.doubt is not None:
            passed = time.clock_gettime(time.CLOCK_BOOTTIME) - self._boottime
            return self.doubt.known + timedelta(seconds=passed)
        drift = self.drift(now)
        return now - drift if abs(drift) > TOLERANCE else now

    def keep(self, now: datetime) -> str | None:
        """Move the mark to now, if now is believed; why it is not, as `reason` says it."""
        reason = self.reason(now)
        if reason is None:
            self._catalogue.write(lambda tx: _keep(tx, now))
        return reason

    def confirm(self, tx: Transaction, now: datetime) -> None:
        """End the doubt: now is right. `confirmed` follows once it is durable."""
        _keep(tx, now)
        settings.drop(tx.connection, SETTING_DOUBT)

    def confirmed(self, now: datetime) -> None:
        """Begin to count from a confirmed time."""
        self.doubt = None
        self.moved = None
        self.started = now
        self._boottime = time.clock_gettime(time.CLOCK_BOOTTIME)

    def newest_entry(self) -> datetime | None:
        """When the newest committed ledger entry was written; None: there is none."""
        return self._catalogue.read(lambda connection: _entry_time(connection, 0))

    def _newest_since_mark(self) -> datetime | None:
        def newest(connection: Connection) -> datetime | None:
            mark = _get(connection, SETTING_MARK, Mark)
            return _entry_time(connection, mark.size if mark is not None else 0)

        return self._catalogue.read(newest)


def _evidence(connection: Connection) -> tuple[Mark | None, datetime | None, Doubt | None]:
    mark = _get(connection, SETTING_MARK, Mark)
    written = _entry_time(connection, mark.size if mark is not None else 0)
    if mark is None:
        known = [written] if written is not None else []
        for column, where in (
            (backups.c.started_at, backups.c.state == backup_format.DONE),
            (checkpoint_places.c.delivered_at, checkpoint_places.c.delivered_at.is_not(None)),
        ):
            at = connection.execute(select(func.max(column)).where(where)).scalar()
            known += [datetime.fromisoformat(at)] if at is not None else []
        written = max(known, default=None)
    return mark, written, _get(connection, SETTING_DOUBT, Doubt)


def _entry_time(connection: Connection, after: int) -> datetime | None:
    """When the newest committed entry was written; None: there is none from index `after` on."""
    # The reader counts for itself: the writer's own count takes in what is not committed yet.
    size = ledger.size_of(connection)
    data = ledger.entry(connection, size - 1) if size > after else None
    if data is None:
        return None
    return datetime.fromisoformat(msgspec.json.decode(data, type=ledger.LedgerEntry).at)


def _keep(tx: Transaction, now: datetime) -> None:
    # The entries of this transaction are not counted: they, too, were written at a time that is known right,
    # and whoever confirms a time after wrong ones leaves those behind.
    boot, uptime = _machine()
    _put(tx.connection, SETTING_MARK, Mark(now, ledger.size_of(tx.connection), boot, uptime))


def _machine() -> tuple[str, float]:
    """The boot this is, and its age in seconds. From /proc: no library stands between."""
    try:
        return _BOOT_ID.read_text().strip(), float(_UPTIME.read_text().split()[0])
    except (OSError, ValueError):
        return "", 0.0


def _moved(mark: Mark | None, now: datetime) -> timedelta | None:
    """How much further the clock went since the mark than the machine did; None: no more than it may."""
    boot, uptime = _machine()
    if mark is None or not boot or boot != mark.boot:
        return None
    moved = (now - mark.at) - timedelta(seconds=uptime - mark.uptime)
    return moved if abs(moved) > TOLERANCE else None


def _get(connection: Connection, key: str, kind: type[T]) -> T | None:
    text = settings.value(connection, key)
    return None if text is None else msgspec.json.decode(text, type=kind)


def _put(connection: Connection, key: str, value: Mark | Doubt) -> None:
    settings.put(connection, key, msgspec.json.encode(value).decode())
