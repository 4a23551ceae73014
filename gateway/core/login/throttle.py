"""What failed logins cost: two buckets of attempts and a clock of penalty time, all computable by hand.

An attempt is a password or a code; a signature of a registered key is none, and nothing here touches it.

    >>> delay_after(failures=3, penalised=False)
    1.6

Rules:
1. Each (source, account) has a bucket of 10 attempts; one comes back each minute.
2. Each source has a bucket of 200 attempts at accounts; one comes back every 10 seconds. An unknown user
   takes none of them: there is nothing to be found out.
3. Where the account logged in from that source in the last 30 days, its bucket is the trusted one: 100
   attempts, one back every 10 seconds, and rule 2 does not apply to it.
4. An attempt is looked at while each bucket that applies has one left. What is not looked at fails in the
   words and after the delay of what is. No bucket spans sources: nobody locks an account for its owner.
5. A right answer comes at once. A wrong one takes 0.2 s, twice that for each failure before it at that
   account from there, 4 s at most; at least 1 s while the source's penalty stands, but for trusted accounts.
6. A source has a penalty clock, OpenSSH's PerSourcePenalties (sshd_config(5)): each event adds seconds, to a
   maximum; what is less than 15 s is not a penalty yet.
7. A completed login empties the failures of its (source, account).

Leaves out: slowing down connections (the listener paces them) and checking passwords (`password_queue`).
Bounded: sources and buckets beyond a limit are forgotten, the least penalised first. Time is passed in,
aware UTC, and must be the clock's steady time.
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
ENFORCED: Final = timedelta(seconds=15)  # OpenSSH's min

DELAY: Final = 0.2  # seconds
DELAY_PENALISED: Final = 1.0
DELAY_MAX: Final = 4.0  # six attempts still fit into a login grace of 30 s

TRUST: Final = timedelta(days=30)
KEEP: Final = timedelta(days=1)  # a source or a bucket without news is forgotten; trust is kept
MAX_SOURCES: Final = 4096
MAX_BUCKETS: Final = 8192
UNKNOWN_USER: Final = "?"  # what stands for a name that no account has begins with it


@dataclass(frozen=True)
class Size:
    """How many attempts a bucket holds, and the seconds in which one comes back."""

    most: float
    seconds: float


ACCOUNT: Final = Size(10, 60)
TRUSTED: Final = Size(100, 10)  # SP 800-63B: at most 100 failures in a row
SOURCE: Final = Size(200, 10)


def refilled(left: float, size: Size, passed: timedelta) -> float:
    """The attempts in a bucket after some time. A clock that went back gives nothing and takes nothing."""
    return min(size.most, left + max(0.0, passed.total_seconds()) / size.seconds)


def delay_after(failures: int, *, penalised: bool) -> float:
    """Seconds that a wrong answer takes (rule 5)."""
    delay = min(DELAY_MAX, DELAY * 2.0 ** min(failures, 10))
    return max(delay, DELAY_PENALISED) if penalised else delay


def penalised_until(until: datetime, event: Event, now: datetime, longest: timedelta) -> datetime:
    """Where a source's penalty clock stands after an event (rule 6)."""
    return min(max(until, now) + timedelta(seconds=PENALTY[event]), now + longest)


@dataclass
class Source:
    """What one source did, and what it has left."""

    since: datetime
    until: datetime
    touched: datetime  # when `left` was last reckoned
    left: float = SOURCE.most
    events: Counter[str] = field(default_factory=Counter)


@dataclass
class Bucket:
    """What one source tried at one account."""

    touched: datetime
    left: float = ACCOUNT.most
    failures: int = 0
    trusted_at: datetime | None = None

    def trusted(self, now: datetime) -> bool:
        """Whether the account logged in rightly from this source lately."""
        return self.trusted_at is not None and now - self.trusted_at < TRUST


@dataclass(frozen=True)
class Ruling:
    """On one attempt: whether it is looked at, and how long a wrong answer takes, in seconds."""

    looked_at: bool
    delay: float
    trusted: bool = False
    failures: int = 0  # of that source at that account
    of_source: bool = False  # taken from the source's bucket as well


class Throttle:
    """All sources and buckets. Not thread-safe: it belongs to the core's loop."""

    def __init__(self, longest: timedelta, exempt: Iterable[Network] = ()) -> None:
        """`longest`: how long a penalty lasts after its last event, at most; `exempt` is not counted."""
        self._longest = longest
        self._exempt = tuple(exempt)
        self._pepper = secrets.token_bytes(16)
        self.sources: dict[str, Source] = {}
        self.buckets: dict[tuple[str, str], Bucket] = {}
        self.changed_sources: set[str] = set()
        self.changed_buckets: set[tuple[str, str]] = set()

    def unknown_user(self, name: str) -> str:
        """What stands for a name that no account has: never the name, which could be a mistyped secret."""
        return UNKNOWN_USER + blake2b(name.encode(), key=self._pepper, digest_size=12).hexdigest()

    def attempt(self, peer: str, account: str, now: datetime) -> Ruling:
        """Rule on an attempt at an account (its id, or `unknown_user`), and take it from the buckets."""
        if within(peer, self._exempt):
            return Ruling(looked_at=True, delay=DELAY, trusted=True)
        name = source_of(peer)
        bucket, source = self._bucket(name, account, now), self._source(name, now)
        trusted = bucket.trusted(now)
        bucket.left = refilled(bucket.left, TRUSTED if trusted else ACCOUNT, now - bucket.touched)
        source.left = refilled(source.left, SOURCE, now - source.touched)
        bucket.touched = source.touched = now
        delay = delay_after(
            bucket.failures, penalised=not trusted and source.until - now > ENFORCED
        )
        if bucket.left < 1 or (not trusted and source.left < 1):
            return Ruling(False, delay, trusted, bucket.failures)
        of_source = not trusted and not account.startswith(UNKNOWN_USER)
        bucket.left -= 1
        source.left -= of_source
        self.changed_buckets.add((name, account))
        return Ruling(True, delay, trusted, bucket.failures, of_source)

    def give_back(self, peer: str, account: str, ruling: Ruling) -> None:
        """An attempt that was to be looked at was not, after all, or was right: it cost nothing."""
        name = source_of(peer)
        bucket, source = self.buckets.get((name, account)), self.sources.get(name)
        if not ruling.looked_at or within(peer, self._exempt):
            return
        if bucket is not None:
            bucket.left += 1
            self.changed_buckets.add((name, account))
        if source is not None and ruling.of_source:
            source.left += 1

    def wrong(self, peer: str, account: str, now: datetime) -> int:
        """An attempt was wrong, or not looked at. Returns how many were, of that source at that account."""
        if within(peer, self._exempt):
            return 1
        name = source_of(peer)
        bucket = self._bucket(name, account, now)
        bucket.failures += 1
        self.changed_buckets.add((name, account))
        self.note(peer, "failed", now)
        return bucket.failures

    def right(self, peer: str, account: str, now: datetime) -> None:
        """A login is complete: the account is trusted there from now on, and its failures are forgiven."""
        name = source_of(peer)
        bucket = self._bucket(name, account, now)
        bucket.left = TRUSTED.most
        if bucket.failures or bucket.trusted_at is None or now - bucket.trusted_at > KEEP:
            bucket.failures, bucket.trusted_at, bucket.touched = 0, now, now
            self.changed_buckets.add((name, account))  # else nothing that would be worth a write

    def note(self, peer: str, event: Event, now: datetime) -> None:
        """Add an event to a source's penalty clock."""
        if within(peer, self._exempt):
            return
        name = source_of(peer)
        source = self._source(name, now)
        source.events[event] += 1
        source.until = penalised_until(source.until, event, now, self._longest)
        self.changed_sources.add(name)

    def forgive(self, source: str) -> bool:
        """Forget what a source did; trust of accounts there stays. Returns whether there was anything."""
        gone = self.sources.pop(source, None)
        if gone is not None:
            self.changed_sources.add(source)
        found = gone is not None and bool(gone.events)
        for key, bucket in list(self.buckets.items()):
            if key[0] == source and bucket.failures:
                found = True
                self.changed_buckets.add(key)
                if bucket.trusted_at is None:
                    del self.buckets[key]
                else:
                    bucket.failures, bucket.left = 0, TRUSTED.most
        return found

    def penalised(self, now: datetime) -> list[tuple[str, Source]]:
        """The sources whose penalty stands, the longest first."""
        found = [(name, s) for name, s in self.sources.items() if s.until - now > ENFORCED]
        return sorted(found, key=lambda each: each[1].until, reverse=True)

    def forget(self, now: datetime) -> None:
        """Drop what is over: sources and buckets without news for a day, trust that ran out."""
        self._drop_sources(
            [name for name, s in self.sources.items() if now - max(s.until, s.touched) > KEEP]
        )
        self._drop_buckets(
            [k for k, b in self.buckets.items() if now - b.touched > KEEP and not b.trusted(now)]
        )

    def _bucket(self, name: str, account: str, now: datetime) -> Bucket:
        if (name, account) not in self.buckets:
            if len(self.buckets) >= MAX_BUCKETS:
                # Those that know least: without trust, the oldest first. An eighth, so that it is rare.
                known = self.buckets
                oldest = sorted(
                    known, key=lambda key: (known[key].trusted(now), known[key].touched)
                )
                self._drop_buckets(oldest[: MAX_BUCKETS // 8])
            self.buckets[name, account] = Bucket(now)
        return self.buckets[name, account]

    def _source(self, name: str, now: datetime) -> Source:
        if name not in self.sources:
            if len(self.sources) >= MAX_SOURCES:
                self.forget(now)
            if len(self.sources) >= MAX_SOURCES:
                mildest = sorted(self.sources, key=lambda name: self.sources[name].until)
                self._drop_sources(mildest[: MAX_SOURCES // 8])
            self.sources[name] = Source(now, now, now)
        return self.sources[name]

    def _drop_sources(self, names: Iterable[str]) -> None:
        for name in names:
            del self.sources[name]
            self.changed_sources.add(name)

    def _drop_buckets(self, keys: Iterable[tuple[str, str]]) -> None:
        for key in keys:
            del self.buckets[key]
            self.changed_buckets.add(key)
