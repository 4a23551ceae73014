"""Whether an account may be logged in here and now: its role's factors, and its own limits.

Pure decisions: facts in, a reason out. Promises: a limit that can't be read admits nobody. Leaves out: what
proves who someone is (`accounts`), and who asks: the login, and every second the watch over live sessions.

Limits of one account, each optional:
- expiry: an instant; a day means the end of that day in the firm's time zone;
- networks: addresses it may come from;
- hours: `Mon-Fri 08:00-19:00, Sat 09:00-12:00` by the firm's clock. A span that ends before it begins goes on
  into the next day; 24:00 is the end of a day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from gateway.config import Factors
from gateway.process.sources import Network, parse_networks, within

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES: Final = 24 * 60
MAX_NETWORKS: Final = 32
MAX_SPANS: Final = 14
_SPAN: Final = re.compile(r"([A-Z][a-z]{2})(?:-([A-Z][a-z]{2}))? (\d\d):(\d\d)-(\d\d):(\d\d)")

Reason = Literal["expired", "network", "hours"]


class LimitError(ValueError):
    """A limit is not what it should be; the text says expected and found."""


@dataclass(frozen=True)
class Span:
    """Days of the week (0 is Monday) and minutes of the day, the end excluded."""

    days: frozenset[int]
    start: int
    end: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether a minute of a weekday lies in it."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        yesterday = (weekday - 1) % 7
        return (weekday in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


@dataclass(frozen=True)
class Limits:
    """What one account is bound to."""

    expires_at: datetime | None = None
    networks: tuple[Network, ...] = ()
    hours: tuple[Span, ...] = ()


# ── factors ──────────────────────────────────────────────────────────────────────────────────────


def wants_code(policy: Factors) -> bool:
    """Whether a policy asks for a one-time code even of those who enrolled none."""
    return policy.endswith("+code")


def takes_password(policy: Factors) -> bool:
    """Whether a password is a first factor under a policy."""
    return policy.startswith("any")


def lacks(policy: Factors, *, keys: int, password: bool, code: bool) -> list[str]:
    """What an account must still have before it can log in, in words; empty: nothing."""
    missing = []
    if not keys and not (password and takes_password(policy)):
        missing.append("a key or a password" if takes_password(policy) else "a key")
    if wants_code(policy) and not code:
        missing.append("a one-time code")
    return missing


# ── limits ───────────────────────────────────────────────────────────────────────────────────────


def refusal(limits: Limits, now: datetime, zone: ZoneInfo, peer: str | None) -> Reason | None:
    """Why an account may not be logged in now; None: it may.

    Args:
        peer: where it comes from; None leaves its networks out (a session that was let in before).
    """
    if limits.expires_at is not None and now >= limits.expires_at:
        return "expired"
    if limits.networks and peer is not None and not within(peer, limits.networks):
        return "network"
    if limits.hours:
        local = now.astimezone(zone)
        minute = local.hour * 60 + local.minute
        if not any(span.holds(local.weekday(), minute) for span in limits.hours):
            return "hours"
    return None


def parse_expiry(text: str, zone: ZoneInfo) -> datetime:
    """An expiry: a day (its end in `zone`), or an instant with its offset (raises LimitError)."""
    try:
        if len(text) == 10:
            day = date.fromisoformat(text) + timedelta(days=1)
            return datetime.combine(day, time(), zone).astimezone(UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise LimitError(f"expected a day like 2027-03-31, found {text[:40]!r}") from error
    if moment.tzinfo is None:
        raise LimitError(f"expected a time with its offset, found {text[:40]!r}")
    return moment.astimezone(UTC)


def parse_hours(text: str) -> tuple[Span, ...]:
    """Allowed hours, as `Mon-Fri 08:00-19:00, Sat 09:00-12:00` (raises LimitError)."""
    spans = [_span(part.strip()) for part in re.split(r"[,;]", text)]
    if len(spans) > MAX_SPANS:
        raise LimitError(f"expected at most {MAX_SPANS} spans, found {len(spans)}")
    return tuple(spans)


def _span(text: str) -> Span:
    match = _SPAN.fullmatch(re.sub(r"\s+", " ", text))
    if match is None or match[1] not in DAYS or (match[2] or match[1]) not in DAYS:
        raise LimitError(f"expected hours like `Mon-Fri 08:00-19:00`, found {text[:40]!r}")
    first, last = DAYS.index(match[1]), DAYS.index(match[2] or match[1])
    days = frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))
    start, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (3, 5))
    minutes_are_right = int(match[4]) < 60 and int(match[6]) < 60
    if not minutes_are_right or start >= DAY_MINUTES or end > DAY_MINUTES or start == end:
        raise LimitError(f"expected times from 00:00 to 24:00, found {text[:40]!r}")
    return Span(days, start, end)


def parse_addresses(texts: Sequence[str]) -> list[str]:
    """Networks in their canonical form (raises LimitError)."""
    if len(texts) > MAX_NETWORKS:
        raise LimitError(f"expected at most {MAX_NETWORKS} networks, found {len(texts)}")
    try:
        return [str(network) for network in parse_networks(texts)]
    except ValueError as error:
        raise LimitError(f"expected a network like 192.0.2.0/24, found {error}") from error


def limits_of(row: Any) -> Limits:
    """The limits of a row of `accounts`, as this module wrote them (raises LimitError)."""
    try:
        return Limits(
            datetime.fromisoformat(row.expires_at) if row.expires_at else None,
            parse_networks(json.loads(row.networks)) if row.networks else (),
            parse_hours(row.hours) if row.hours else (),
        )
    except ValueError as error:
        raise LimitError(f"account {row.id}: expected readable limits, found others") from error


def admits(row: Any, now: datetime, zone: ZoneInfo, peer: str | None) -> Reason | None:
    """`refusal` for a row of `accounts`; limits that can't be read count as expired."""
    try:
        return refusal(limits_of(row), now, zone, peer)
    except LimitError:
        return "expired"
