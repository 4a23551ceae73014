"""What lasts of logins: penalties across restarts, and the account of failures in the ledger.

Promises: an attempt costs no write of its own. What changed is written at most once a second, in one
transaction; failures are entered in the ledger as counts, once a minute. What could not be written is
written with the next. The ledger names accounts by id and no source at all: an address is a person's. The
log has account and source, on the first failure of a source at an account and then each time their number
has doubled.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, tuple_

from gateway.config import LoginSection
from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.login.algorithm_mismatches import Mismatches
from gateway.core.login.throttle import UNKNOWN_USER, Bucket, Source, Throttle
from gateway.process.sources import parse_networks, source_of
from vault.catalogue.queries import PAGE, pages
from vault.catalogue.schema import login_lanes, login_sources
from vault.catalogue.store import Transaction
from vault.moments import stamp

ENTRY_SECONDS: Final = 60.0
MAX_TALLY: Final = 64  # accounts and reasons told apart in a minute; the rest is counted together
UNKNOWN: Final = "unknown"


class LoginRecords:
    """The penalties of a core, and what is still to be written of them."""

    def __init__(self, section: LoginSection) -> None:
        self.penalties = Throttle(
            timedelta(seconds=section.max_penalty), parse_networks(section.exempt)
        )
        self.mismatches = Mismatches()
        self._tally: Counter[tuple[str, str]] = Counter()
        self._entered: datetime | None = None
        self._writing: asyncio.Future[None] | None = None

    def load(self, connection: Connection) -> None:
        """Take up what an earlier process remembered."""
        for row in connection.execute(select(login_sources)):
            self.penalties.sources[row.source] = Source(
                _moment(row.since),
                _moment(row.until),
                _moment(row.touched_at),
                row.budget,
                Counter(json.loads(row.events)),
            )
        for row in connection.execute(select(login_lanes)):
            self.penalties.buckets[row.source, row.account_id] = Bucket(
                _moment(row.touched_at),
                row.budget,
                row.failures,
                _moment(row.trusted_at) if row.trusted_at else None,
            )

    def failed(self, peer: str, account_id: str | None, why: str, count: int | None = None) -> None:
        """Count a failed login, and say so in the log if its number is a power of two.

        Args:
            count: its number at that account from that source; None: that of the reason there, this minute.
        """
        who = account_id or UNKNOWN
        key = (who, why)
        if key not in self._tally and len(self._tally) >= MAX_TALLY:
            key = (UNKNOWN, "many")
        self._tally[key] += 1
        if count is None:
            count = self._tally[key]
        if count & (count - 1) == 0:
            log.warning(
                "login failed", account=who, source=source_of(peer), why=why, failures=count
            )

    async def flush(self, core: Core, now: datetime, *, last: bool = False) -> None:
        """Write what changed since the last time; counts for the ledger once a minute, or at the end."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])  # of a flush that was cancelled
        book = self.penalties
        book.forget(now)
        sources, book.changed_sources = book.changed_sources, set()
        buckets, book.changed_buckets = book.changed_buckets, set()
        # An unknown user's is not worth a row: after a restart it begins anew.
        buckets = {key for key in buckets if not key[1].startswith(UNKNOWN_USER)}
        tally: Counter[tuple[str, str]] = Counter()
        if self._entered is None:
            self._entered = now
        entered = self._entered
        if self._tally and (last or now - self._entered >= timedelta(seconds=ENTRY_SECONDS)):
            tally, self._tally, self._entered = self._tally, Counter(), now
        if not (sources or buckets or tally):
            return
        source_rows = [
            _source_row(name, book.sources[name]) for name in sources if name in book.sources
        ]
        bucket_rows = [
            _bucket_row(key, book.buckets[key]) for key in buckets if key in book.buckets
        ]

        def work(tx: Transaction) -> None:
            for part in pages(sorted(sources)):
                tx.connection.execute(delete(login_sources).where(login_sources.c.source.in_(part)))
            for pairs in pages(sorted(buckets), PAGE // 2):
                tx.connection.execute(
                    delete(login_lanes).where(
                        tuple_(login_lanes.c.source, login_lanes.c.account_id).in_(pairs)
                    )
                )
            if source_rows:
                tx.connection.execute(insert(login_sources), source_rows)
            if bucket_rows:
                tx.connection.execute(insert(login_lanes), bucket_rows)
            for (who, why), count in sorted(tally.items()):
                core.record(tx, "login.failed", who, ACTOR_CORE, now, why=why, count=count)

        def put_back(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                return
            book.changed_sources |= sources
            book.changed_buckets |= buckets
            if tally:
                self._tally += tally
                self._entered = entered

        # Whoever is cancelled here leaves a write behind that may yet succeed: its own end tells.
        self._writing = asyncio.ensure_future(core.write(work))
        self._writing.add_done_callback(put_back)
        await asyncio.shield(self._writing)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _source_row(name: str, source: Source) -> dict[str, Any]:
    return {
        "source": name,
        "until": stamp(source.until),
        "since": stamp(source.since),
        "touched_at": stamp(source.touched),
        "budget": source.left,
        "reserve": 0.0,  # of an earlier version's rules
        "events": json.dumps(source.events),
    }


def _bucket_row(key: tuple[str, str], bucket: Bucket) -> dict[str, Any]:
    return {
        "source": key[0],
        "account_id": key[1],
        "failures": bucket.failures,
        "budget": bucket.left,
        "touched_at": stamp(bucket.touched),
        "trusted_at": stamp(bucket.trusted_at) if bucket.trusted_at else None,
    }
