"""Whose a fetched message says to be, and for whom: what is left of its envelope in its header.

Promises: at most `ADDRESSES` addresses come out, in lower case, the surest first; nothing here raises on
what a stranger wrote. All of it is a claim: the core decides what it is worth.

Sources: RFC 5321, section 4.4 (Return-Path); Delivered-To, X-Original-To and X-Forwarded-To are what mail
servers add; RFC 5322, section 3.6.3 (To, Cc).
"""

from __future__ import annotations

import email
import email.policy
import email.utils
from collections.abc import Iterable
from itertools import islice
from typing import Final

from gateway.wire.messages.mailbox import ADDRESSES

_DELIVERED: Final = ("delivered-to", "x-original-to", "x-forwarded-to", "envelope-to", "to", "cc")
_LONGEST: Final = 512


def sender_of(header: bytes) -> str:
    """The envelope's sender, or From's where no server has noted it; "" for none."""
    message = email.message_from_bytes(header, policy=email.policy.compat32)
    for name in ("return-path", "from"):
        found = _addresses(message.get_all(name, []))
        if found:
            return found[0]
    return ""


def addresses_of(header: bytes) -> list[str]:
    """Whom the message says to be sent to."""
    message = email.message_from_bytes(header, policy=email.policy.compat32)
    found: dict[str, None] = {}
    for name in _DELIVERED:
        found |= dict.fromkeys(_addresses(message.get_all(name, [])))
    return list(found)[:ADDRESSES]


def _addresses(values: Iterable[object]) -> list[str]:
    texts = [str(value)[:8192] for value in islice(values, 20)]
    try:
        pairs = email.utils.getaddresses(texts)
    except (ValueError, TypeError, IndexError, AttributeError):
        return []
    return [
        address.lower()
        for _, address in pairs
        if "@" in address and len(address) <= _LONGEST and address.isprintable()
    ]
