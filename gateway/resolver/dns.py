"""Questions to the DNS resolvers of the configuration, and to nobody else.

Promises: what has no such record or no such name is an empty list; whatever could not be found out is
`Later`, so that no failure of the network is taken for an answer. Answers are remembered as long as their
owner allows, at most `REMEMBERED` of them.

Leaves out: recursion and validation (DNSSEC): a resolver of the house's own does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdatatype
import dns.resolver

from gateway.config.addresses import server_address
from gateway.resolver.spf import Later, Type

REMEMBERED: Final = 4096
_PAYLOAD: Final = 1232  # bytes: what crosses any network unfragmented (DNS flag day 2020)


class Dns:
    """The resolvers, in the order they are asked."""

    def __init__(self, addresses: Sequence[str], timeout: float) -> None:
        """`timeout`: seconds until one is given up, all its repetitions counted."""
        # A type of record is imported when the first one comes, which a sandbox does not allow.
        dns.rdata.load_all_types()  # type: ignore[no-untyped-call]
        resolver = dns.asyncresolver.Resolver(configure=False)
        servers = [server_address(address) for address in addresses]
        resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
        resolver.lifetime = timeout * len(servers)
        resolver.timeout = timeout / 2
        resolver.cache = dns.resolver.LRUCache(REMEMBERED)
        resolver.use_edns(0, 0, _PAYLOAD)
        resolver.flags = dns.flags.RD
        self._resolver = resolver

    async def lookup(self, name: str, kind: Type) -> list[str]:
        """The values of a name's records, as `spf.Lookup` has them (raises Later)."""
        try:
            asked = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError):
            return []  # no name at all
        try:
            answer = await self._resolver.resolve(
                asked, kind, raise_on_no_answer=False, search=False
            )
        except dns.resolver.NXDOMAIN:
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Later(type(error).__name__) from error
        records = list(answer) if answer.rrset is not None else []
        if kind == "TXT":
            return [b"".join(record.strings).decode("latin-1") for record in records]
        if kind == "MX":
            records.sort(key=lambda record: record.preference)
            return [record.exchange.to_text(omit_final_dot=True) for record in records]
        if kind == "PTR":
            return [record.target.to_text(omit_final_dot=True) for record in records]
        return [record.address for record in records]
