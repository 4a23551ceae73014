"""What failed logins cost: per source, and per source and account, growing, capped and remembered.

The model is OpenSSH's PerSourcePenalties (sshd_config(5)), made kind to an office behind one address:

- A signature of a registered key is not a guess: nothing here applies to it. A right password or code is
  answered at once if it is looked at; wrong answers are what is slow.
- Guesses are counted in lanes, one for each source and account. A lane has a budget of guesses that comes
  back slowly; beyond it, guesses are not looked at and fail. No count spans sources, so that no stranger
  can lock an account for its owner: he can only use up what his own address may try.
- An account that logged in rightly from a source in the last 30 days has a wide lane there, which the
  source's other failures do not touch. All narrow lanes of a source share one more budget. When that is
  spent, a reserve is left for accounts (not for names that none has) that hardly anybody guessed at from
  there: the first three guesses at each are looked at, as far as the reserve goes. So a first password from
  an address that guesses a lot is refused unseen only once that very account was guessed at from there, or
  the reserve is spent as well.
- A source collects penalty time (a failed login, silence, a login grace used up, nonsense), up to a cap.
  While it lasts, its wrong answers take at least a second.

What is not looked at is refused in the words and after the delay of what is; only who waits in a long queue
of checks (`guesses`) can take longer than that delay, which tells those that were looked at from the rest.

Leaves out: slowing down connections (the listener does) and the work of checking (`guesses`). Bounded:
sources and lanes beyond a limit are forgotten, the least penalised first. Time is passed in, aware UTC.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final, Literal

from gateway.process.sources import Network, source_of, within

Event = Literal["failed", "silent", "grace", "nonsense"]

# Seconds of penalty. OpenSSH: authfail 5, noauth 1, grace-exceeded 10; a protocol error is no crash (90).
PENALTY: Final[dict[Event, float]] = {"failed": 5.0, "silent": 1.0, "grace": 10.0, "nonsense": 10.0}
ENFORCED: Final = timedelta(seconds=15)  # less than this is not a penalty yet (OpenSSH's min)

NARROW: Final = 10.0  # guesses at once, at an account that has not logged in from there
NARROW_BACK: Final = 1 / 60  # guesses that come back each second
WIDE: Final = 100.0  # the same where it has (SP 800-63B: at most 100 failures in a row)
WIDE_BACK: Final = 1 / 10
SHARED: Final = 200.0  # all narrow lanes of a source together
SHARED_BACK: Final = 1 / 10
RESERVE: Final = 48.0  # once those are spent: guesses at accounts that hardly had any
RESERVE_BACK: Final = 1 / 120
RESERVE_FAILURES: Final = 3
TRUST: Final = timedelta(days=30)

DELAY: Final = 0.2  # seconds until the first wrong answer; it doubles with each failure of the lane
DELAY_PENALISED: Final = 1.0
DELAY_MAX: Final = 4.0  # six attempts still fit into a login grace of 30 s

MAX_SOURCES: Final = 4096
MAX_LANES: Final = 8192
STRANGER: Final = "?"  # what stands for a name that no account has begins with it
KEEP: Final = timedelta(days=1)  # a source or a narrow lane without news is forgotten


@dataclass
class Source:
    """What one source has on its account."""

    since: datetime
    until: datetime
    touched: datetime  # when its budgets were last reckoned
    budget: float = SHARED
    reserve: float = RESERVE
    events: Counter[str] = field(default_factory=Counter)


@dataclass
class Lane:
    """What one source tried at one account."""

    touched: datetime
    budget: float = NARROW
    failures: int = 0
    trusted: datetime | None = None

    def wide(self, now: datetime) -> bool:
        """Whether the account logged in rightly from this source lately."""
        return self.trusted is not None and now - self.trusted < TRUST


@dataclass(frozen=True)
class Ruling:
    """On one guess: whether it is looked at, and how long a wrong answer takes, in seconds."""

    looked_at: bool
    delay: float
    trusted: bool = False
    failures: int = 0
    reserved: bool = False  # taken off the reserve


class Penalties:
    """All sources and lanes. Not thread-safe: it belongs to the core's loop."""

    def __init__(self, maximum: timedelta, exempt: Iterable[Network] = ()) -> None:
        """`maximum`: the longest a penalty lasts after its last event."""
        self._maximum = maximum
        self._exempt = tuple(exempt)
        self._pepper = secrets.token_bytes(16)
        self.sources: dict[str, Source] = {}
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.changed_sources: set[str] = set()
        self.changed_lanes: set[tuple[str, str]] = set()

    def stranger(self, name: str) -> str:
        """What stands for a name that no account has: never the name, which could be a mistyped secret."""
        return STRANGER + blake2b(name.encode(), key=self._pepper, digest_size=12).hexdigest()

    def guess(self, peer: str, account: str, now: datetime) -> Ruling:
        """Rule on a guess at an account (its id, or `stranger`), and take it off the budgets."""
        if within(peer, self._exempt):
            return Ruling(looked_at=True, delay=DELAY, trusted=True)
        name = source_of(peer)
        lane = self._lane(name, account, now)
        wide = lane.wide(now)
        lane.budget = _refilled(
            lane.budget, now - lane.touched, *((WIDE, WIDE_BACK) if wide else (NARROW, NARROW_BACK))
        )
        lane.touched = now
        source = self.sources.get(name)
        delay = min(DELAY_MAX, DELAY * 2 ** min(lane.failures, 10))
        if not wide and source is not None:
            passed = now - source.touched
            source.budget = _refilled(source.budget, passed, SHARED, SHARED_BACK)
            source.reserve = _refilled(source.reserve, passed, RESERVE, RESERVE_BACK)
            source.touched = now
            if source.until - now > ENFORCED:
                delay = max(delay, DELAY_PENALISED)
        reserved = not wide and source is not None and source.budget < 1
        if lane.budget < 1 or (reserved and not self._reserve(source, lane, account)):
            return Ruling(False, delay, wide, lane.failures)
        lane.budget -= 1
        if reserved and source is not None:
            source.reserve -= 1
        elif not wide and source is not None:
            source.budget -= 1
        self.changed_lanes.add((name, account))
        return Ruling(True, delay, wide, lane.failures, reserved)

    @staticmethod
    def _reserve(source: Source | None, lane: Lane, account: str) -> bool:
        """Whether a guess may be taken off the reserve. Many at once are counted by the lane's budget."""
        return (
            source is not None
            and source.reserve >= 1
            and not account.startswith(STRANGER)
            and lane.failures < RESERVE_FAILURES
            and lane.budget > NARROW - RESERVE_FAILURES
        )

    def give_back(self, peer: str, account: str, ruling: Ruling) -> None:
        """A guess that was to be looked at was not: put it back on the budgets."""
        name = source_of(peer)
        lane, source = self.lanes.get((name, account)), self.sources.get(name)
        if not ruling.looked_at or within(peer, self._exempt) or lane is None:
            return
        lane.budget += 1
        self.changed_lanes.add((name, account))
        if source is None or ruling.trusted:
            return
        if ruling.reserved:
            source.reserve = min(RESERVE, source.reserve + 1)
        else:
            source.budget = min(SHARED, source.budget + 1)
        self.changed_sources.add(name)

    def wrong(self, peer: str, account: str, now: datetime) -> int:
        """A guess was wrong, or not looked at. Returns how many were, on its lane."""
        if within(peer, self._exempt):
            return 1
        name = source_of(peer)
        lane = self._lane(name, account, now)
        lane.failures += 1
        self.changed_lanes.add((name, account))
        self.note(peer, "failed", now)
        return lane.failures

    def right(self, peer: str, account: str, now: datetime) -> None:
        """A login is complete: the lane is wide from now on, and its failures are forgiven."""
        name = source_of(peer)
        lane = self._lane(name, account, now)
        if lane.failures == 0 and lane.wide(now) and lane.trusted and lane.trusted > now - KEEP:
            lane.budget = WIDE
            return  # nothing that would be worth a write
        lane.failures, lane.budget, lane.trusted, lane.touched = 0, WIDE, now, now
        self.changed_lanes.add((name, account))

    def note(self, peer: str, event: Event, now: datetime) -> None:
        """Add an event to a source's account."""
        if within(peer, self._exempt):
            return
        name = source_of(peer)
        source = self.sources.get(name)
        if source is None:
            self._make_room(now)
            source = self.sources[name] = Source(now, now, now)
        source.events[event] += 1
        source.until = min(
            max(source.until, now) + timedelta(seconds=PENALTY[event]), now + self._maximum
        )
        self.changed_sources.add(name)

    def forgive(self, source: str) -> bool:
        """Forget what a source did; lanes it is trusted in stay. Returns whether there was anything."""
        found = self.sources.pop(source, None) is not None
        if found:
            self.changed_sources.add(source)
        for key, lane in list(self.lanes.items()):
            if key[0] == source and lane.failures:
                found = True
                self.changed_lanes.add(key)
                if lane.trusted is None:
                    del self.lanes[key]
                else:
                    lane.failures, lane.budget = 0, WIDE
        return found

    def penalised(self, now: datetime) -> list[tuple[str, Source]]:
        """The sources whose penalty stands, the longest first."""
        found = [(name, s) for name, s in self.sources.items() if s.until - now > ENFORCED]
        return sorted(found, key=lambda each: each[1].until, reverse=True)

    def forget(self, now: datetime) -> None:
        """Drop what is over: sources and narrow lanes without news for a day, trust that ran out."""
        for name, source in list(self.sources.items()):
            if now - source.until > KEEP:
                del self.sources[name]
                self.changed_sources.add(name)
        for key, lane in list(self.lanes.items()):
            if now - lane.touched > KEEP and not lane.wide(now):
                del self.lanes[key]
                self.changed_lanes.add(key)

    def _lane(self, name: str, account: str, now: datetime) -> Lane:
        lane = self.lanes.get((name, account))
        if lane is None:
            if len(self.lanes) >= MAX_LANES:
                # Those that know least: narrow ones, the oldest first. An eighth, so that it is rare.
                oldest = sorted(
                    self.lanes, key=lambda key: (self.lanes[key].wide(now), self.lanes[key].touched)
                )
                for key in oldest[: MAX_LANES // 8]:
                    del self.lanes[key]
                    self.changed_lanes.add(key)
            lane = self.lanes[name, account] = Lane(now)
        return lane

    def _make_room(self, now: datetime) -> None:
        if len(self.sources) < MAX_SOURCES:
            return
        self.forget(now)
        if len(self.sources) >= MAX_SOURCES:
            mildest = sorted(self.sources, key=lambda name: self.sources[name].until)
            for name in mildest[: MAX_SOURCES // 8]:
                del self.sources[name]
                self.changed_sources.add(name)


def _refilled(budget: float, passed: timedelta, most: float, per_second: float) -> float:
    # A clock that went back gives nothing and takes nothing.
    return min(most, budget + max(0.0, passed.total_seconds()) * per_second)
