"""One connection's key exchanges, as far as the core takes part: freshness, and the host key's signature.

A session identifier is the hash of the first exchange (RFC 4253, sections 7.2 and 8), and a user's key signs
over it (RFC 4252, section 7). The core does not take a hash from a door: it takes what is hashed. In that
stands the server's KEXINIT with its cookie, which this core has drawn for this connection. Promises:

- A session identifier belongs to one connection to this core, for ever: what a user signed on one is worth
  nothing on another, nor after a restart. Nothing has to be remembered for that.
- Nothing is signed but the hash of an exchange that names the host key it is signed with.
- Until its login a connection has one signature; after it, few. RSA is computed on a thread.

Leaves out: the exchange itself, which the door does; so a door that was taken over can still use a login
that is made through it, on the connection it is made on.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from typing import Final

from gateway.core.login import ssh_keys
from gateway.core.login.ssh_keys import HostKeyPair, KeyFormatError
from gateway.errors import WireError
from gateway.wire.messages import SignExchange

COOKIE_SIZE: Final = 16  # RFC 4253, section 7.1
_KEXINIT: Final = b"\x14"
_PARTS: Final = (
    8  # V_C, V_S, I_C, I_S, K_S, the two halves of the exchange, K (RFC 8731, section 3)
)
_SERVER_INIT: Final = 3
_HOST_KEY: Final = 4

# Renewals of keys after a login: the largest document there is (16 GiB) takes 32 of them from a client that
# renews every 512 MiB (paramiko; others take 1 GiB or more), at whatever speed.
RENEWALS: Final = 60.0
RENEWALS_BACK: Final = 0.5  # a second


class Exchanges:
    """The exchanges of one connection."""

    def __init__(self) -> None:
        self.cookie = secrets.token_bytes(COOKIE_SIZE)
        self.session_id: bytes | None = None
        self.algorithm = ""  # the host key's, in the first exchange
        self._left = RENEWALS
        self._counted = time.monotonic()

    async def sign(self, pair: HostKeyPair, request: SignExchange, *, renewal: bool) -> bytes:
        """The signature of an exchange in SSH encoding.

        Args:
            renewal: whether a login came before; only then is there more than one.

        Raises:
            WireError: one too many, or no exchange that may be signed with this key here.
        """
        first = self.session_id is None
        if not first:
            self._renew(renewal)
        digest = _hash(request.transcript, pair.blob, self.cookie if first else None)
        if first:
            self.session_id, self.algorithm = digest, request.algorithm
        if pair.algorithm == "ssh-rsa":  # milliseconds; the other takes less than a thread would
            return await asyncio.to_thread(pair.sign, request.algorithm, digest)
        return pair.sign(request.algorithm, digest)

    def _renew(self, renewal: bool) -> None:
        if not renewal:
            raise WireError("key exchange: expected one before the login, found a second")
        now = time.monotonic()
        self._left = min(RENEWALS, self._left + (now - self._counted) * RENEWALS_BACK)
        self._counted = now
        if self._left < 1:
            raise WireError("key exchange: expected few of them, found too many")
        self._left -= 1


def _hash(transcript: bytes, host_key: bytes, cookie: bytes | None) -> bytes:
    """The exchange hash; all exchanges that are offered hash with SHA-256 (raises WireError)."""
    parts, rest = [], transcript
    try:
        for _ in range(_PARTS):
            part, rest = ssh_keys.take_string(rest)
            parts.append(part)
    except KeyFormatError as error:
        raise WireError(f"key exchange: expected {_PARTS} parts, found {len(parts)}") from error
    if rest or not parts[_SERVER_INIT].startswith(_KEXINIT):
        raise WireError("key exchange: expected our KEXINIT in its place, found something else")
    if not hmac.compare_digest(parts[_HOST_KEY], host_key):
        raise WireError("key exchange: expected the host key it is signed with, found another")
    if cookie is not None and parts[_SERVER_INIT][1 : 1 + COOKIE_SIZE] != cookie:
        raise WireError("key exchange: expected this connection's cookie, found another")
    return hashlib.sha256(transcript).digest()
