"""Where a connection comes from, as far as limits and penalties are concerned.

Promises: the doors and the core use the same words. One source is one IPv4 address or one IPv6 /64: what
a single host, or a household, has at its disposal (an IPv6 host may choose among 2^64 addresses of its
network). One network is an IPv4 /24 or an IPv6 /56: what is cheap to have many sources in.
Leaves out: what a source may do (`gateway.core.login.throttle`, `gateway.doors`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

IPV6_PREFIX: Final = 64
NETWORK_PREFIXES: Final = {4: 24, 6: 56}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of a peer as text; an IPv4 address mapped into IPv6 as IPv4. None: it is no address."""
    try:
        ip = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def source_of(peer: str) -> str:
    """The source that an address counts for: an IPv4 address, or an IPv6 /64; other text as it is."""
    ip = address_of(peer)
    if ip is None:
        return peer[:64]
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
    return str(ip)


def network_of(peer: str) -> str:
    """The network that an address counts for: an IPv4 /24, or an IPv6 /56; other text as it is."""
    ip = address_of(peer)
    if ip is None:
        return peer[:64]
    return str(ipaddress.ip_network((ip, NETWORK_PREFIXES[ip.version]), strict=False))


def within(peer: str, networks: Iterable[Network]) -> bool:
    """Whether a peer's address lies in one of the networks."""
    ip = address_of(peer)
    return ip is not None and any(ip in network for network in networks)


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks as `192.0.2.0/24`, `2001:db8::/64` or a single address (raises ValueError)."""
    return tuple(ipaddress.ip_network(text.strip()) for text in texts)
