"""Who is connected: caps in all and per source, and what is under way when the door closes.

Promises: at most `limit` connections, at most `MAX_PER_SOURCE` from one source; `drained` is set once no
connection is left. Leaves out: sockets; a connection is any object with `end_when_idle`.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from typing import Any, Final, Protocol

MAX_PER_SOURCE: Final = 16


class Guest(Protocol):
    """A connection, as the door sees it. All of this happens on one event loop."""

    def end_when_idle(self) -> None:
        """End now, or after the transaction that is under way."""

    def cut(self) -> None:
        """End now, whatever is under way; nothing unfinished is kept."""


def source_of(address: tuple[Any, ...]) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 /64 (one customer's usual share)."""
    try:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return str(address[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


class Connections:
    """The open connections of the door."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._guests: dict[Guest, str] = {}
        self._sources: Counter[str] = Counter()
        self._drained = asyncio.Event()
        self._drained.set()
        self.closing = False

    def __len__(self) -> int:
        return len(self._guests)

    def admit(self, guest: Guest, source: str) -> str:
        """Count a new connection in; returns "" or why it may not stay."""
        if self.closing:
            return "the service is going down"
        if len(self._guests) >= self._limit:
            return "too many connections"
        if self._sources[source] >= MAX_PER_SOURCE:
            return "too many connections from one source"
        self._guests[guest] = source
        self._sources[source] += 1
        self._drained.clear()
        return ""

    def release(self, guest: Guest) -> None:
        """Count a connection out; harmless for one that was not admitted."""
        source = self._guests.pop(guest, None)
        if source is None:
            return
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        if not self._guests:
            self._drained.set()

    async def close(self, patience: float) -> None:
        """Admit nobody any more, let transactions finish for `patience` seconds, cut the rest."""
        self.closing = True
        for guest in list(self._guests):
            guest.end_when_idle()
        try:
            async with asyncio.timeout(patience):
                await self._drained.wait()
        except TimeoutError:
            for guest in list(self._guests):
                guest.cut()
            # Ended transports tell their protocols in the next turn of the loop.
            await asyncio.sleep(0)
