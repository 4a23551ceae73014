"""One connection's login: host key, factors, limits, and what a failure costs.

A login binds a connection to one account for good; user signatures are verified here, over the session
identifier that no other connection ever has (`key_exchange`; RFC 4252, section 7). Promises:

- Who is refused hears the same words, whether the account is unknown or disabled, the secret wrong or not
  looked at (these after the same time, too), or the account not allowed here and now. The log and the
  ledger know. A key that is offered costs the same questions for a name that no account has.
- A right login is answered at once: delays are on wrong answers, and on what is not looked at (`throttle`).
- A factor counts only after its proof; a password that the role's policy does not take is never right.

Leaves out: what follows a login (`sessions`).
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from gateway.core.login import accounts as identity
from gateway.core.login import host_keys, limits, passwords, ssh_keys
from gateway.core.login.accounts import Account, Proof
from gateway.core.login.attempts import weigh
from gateway.core.login.key_exchange import Exchanges
from gateway.core.login.logins import Logins
from gateway.core.login.ssh_keys import HostKeyPair
from gateway.core.login.throttle import Ruling
from gateway.errors import WireError
from gateway.process.sources import source_of
from gateway.wire.messages import (
    AuthenticateCode,
    AuthenticateKey,
    AuthenticatePassword,
    AuthenticationResult,
    Farewell,
    Greet,
    Greeting,
    HostKey,
    ProveHostKeys,
    SignExchange,
)
from vault.catalogue.schema import account_keys, accounts, grants

KEY_DELAY: Final = (
    0.2  # seconds: a wrong key is no attempt of `throttle`, but need not be answered at once
)
MAX_PROOFS: Final = 4  # per connection; a client asks once

Attempt = AuthenticateKey | AuthenticatePassword | AuthenticateCode


class Login:
    """The login of one connection of the sftp door."""

    def __init__(self, logins: Logins) -> None:
        core = logins.core
        self._core = core
        self._logins = logins
        self._serving = dict(logins.host_keys.serving)
        self._announced: list[HostKeyPair] = logins.host_keys.announced
        self._exchanges = Exchanges()
        self._proofs = 0
        self._zone = ZoneInfo(core.config.login.time_zone)
        self._noted = False
        self._seen: tuple[int, Row[Any] | None, Account | None] | None = None
        self._asked: tuple[tuple[int, str, bytes], bool] | None = None
        self.peer = ""
        self.proof = Proof()
        self.complete = False

    def greet(self, request: Greet) -> Greeting:
        """The host keys for a connection from `peer`."""
        self.peer = request.peer[:64]
        return Greeting(
            [HostKey(pair.algorithm, pair.blob) for pair in self._serving.values()],
            self._core.config.sftp.login_grace,
            self._exchanges.cookie,
            [HostKey(pair.algorithm, pair.blob) for pair in self._announced],
        )

    async def sign(self, request: SignExchange) -> bytes:
        """The host key's signature over a key exchange (raises WireError)."""
        pair = self._serving.get(ssh_keys.SIGNATURE_ALGORITHMS.get(request.algorithm, ""))
        if pair is None:
            raise WireError("key exchange: expected an algorithm of a host key, found another")
        return await self._exchanges.sign(pair, request, renewal=self.complete)

    async def prove(self, request: ProveHostKeys) -> list[bytes]:
        """Proof of possession of announced host keys, for a client that is logged in."""
        exchanges = self._exchanges
        if not self.complete or exchanges.session_id is None or self._proofs >= MAX_PROOFS:
            raise WireError("host key proof: expected it after a login, and seldom")
        self._proofs += 1
        return await asyncio.to_thread(
            host_keys.prove,
            self._announced,
            exchanges.session_id,
            request.blobs,
            exchanges.algorithm,
        )

    async def attempt(self, request: Attempt) -> AuthenticationResult | Account:
        """Check one factor; the account once all factors are proven and its limits hold."""
        if self.complete or self._exchanges.session_id is None:
            raise WireError("login: expected one after the key exchange, found it out of order")
        if self.proof.failures >= self._core.config.sftp.max_attempts:
            raise WireError("login: expected fewer attempts on one connection, found too many")
        if self.proof.user not in {None, request.user}:
            raise WireError("login: expected one user per connection, found a second")
        self.proof.user = request.user
        row, _ = await self._look()
        if isinstance(request, AuthenticateKey):
            return await self._key(request, row)
        password = isinstance(request, AuthenticatePassword)
        stored: str | None = None
        if password and row is not None and self._takes_password(row):
            stored = row.password_hash
        now = self._core.now()

        async def look(ruling: Ruling) -> bool | None:
            if isinstance(request, AuthenticatePassword):
                return await self._logins.passwords.check(
                    lambda: passwords.check_password(stored, request.password),
                    source=source_of(self.peer),
                    trusted=ruling.trusted,
                    failures=ruling.failures,
                )
            if row is not None and self.proof.first_factor is not None:
                return await self._code(row, request.code, now)
            return False

        wait = await weigh(
            self._logins,
            peer=self.peer,
            user=request.user,
            row=row,
            kind="password" if password else "code",
            look=look,
        )
        if wait is None:
            if password:
                self.proof.key, self.proof.password_hash = None, stored
            return await self._proven(row)
        self._noted = True
        return await self._failed(wait)

    def close(self, farewell: Farewell | None) -> None:
        """The connection ended: what it cost its source, if it never logged in."""
        if self.complete or self._noted or not self.peer:
            return
        event = "silent" if farewell is None else farewell.reason
        if farewell is not None and farewell.mismatch is not None:
            # An old program, and no attack: it costs what leaving without a word costs.
            event = "silent"
            self._logins.records.mismatches.note(self.peer, farewell.mismatch, self._core.now())
        self._logins.records.penalties.note(self.peer, event, self._core.clock.steady())

    def admitted(self, row: Row[Any], now: datetime) -> str | None:
        """Why the account of a row may not log in from here now; None: it may."""
        return limits.admits(row, now, self._zone, self.peer)

    # ── what is known of the account, as long as nothing of it changes ──

    async def _look(self) -> tuple[Row[Any] | None, Account | None]:
        """The active account that this connection speaks of, as its row and with what it may see."""
        catalogue, user = self._core.store.catalogue, self.proof.user
        version = catalogue.version(accounts, grants)
        if self._seen is None or self._seen[0] != version:
            assert user is not None
            self._seen = (version, *await self._core.read(lambda c: identity.look_up(c, user)))
        return self._seen[1:]

    async def _registered(self, account_id: str, blob: bytes) -> bool:
        """Whether a key is one of the account's; a client asks twice, first without a signature."""
        version = self._core.store.catalogue.version(account_keys)
        question = (version, account_id, blob)
        if self._asked is None or self._asked[0] != question:
            has_key = await self._core.read(lambda c: identity.has_key(c, account_id, blob))
            self._asked = question, has_key
        return self._asked[1]

    # ── factors ──

    async def _key(
        self, request: AuthenticateKey, row: Row[Any] | None
    ) -> AuthenticationResult | Account:
        begun = time.monotonic()
        # Asked also for a name that no account has: an answer's time must not tell which names there are.
        known = await self._registered(identity.NOBODY if row is None else row.id, request.key)
        usable = known and row is not None and request.algorithm in ssh_keys.SIGNATURE_ALGORITHMS
        if request.signature is None:
            if usable:
                return AuthenticationResult("acceptable")
            # An unsigned probe is how clients look for the right key: it is no attempt.
            return AuthenticationResult("failed")
        session_id = self._exchanges.session_id
        assert session_id is not None
        statement = identity.login_statement(
            session_id, request.user, request.algorithm, request.key
        )
        if usable and ssh_keys.verify(request.algorithm, request.key, request.signature, statement):
            self.proof.key, self.proof.password_hash = request.key, None
            return await self._proven(row)
        return await self._failed(KEY_DELAY - (time.monotonic() - begun))

    async def _code(self, row: Row[Any], code: str, now: datetime) -> bool:
        step = await asyncio.to_thread(identity.find_step, self._core, row, code, now)
        if step is None:
            return False
        used = step
        right = await self._core.write(lambda tx: identity.use_step(tx, row, used))
        if right:
            self.proof.totp = row.totp
        return right

    def _takes_password(self, row: Row[Any]) -> bool:
        return limits.takes_password(self._core.config.login.factors(row.role))

    async def _proven(self, row: Row[Any] | None) -> AuthenticationResult | Account:
        """A factor was right: the next one, or the account."""
        assert row is not None
        if self.proof.totp is None:
            if row.totp is not None:
                return AuthenticationResult("partial", ["keyboard-interactive"])
            if limits.wants_code(self._core.config.login.factors(row.role)):
                return await self._refuse(row.id, "no code enrolled")
        _, account = await self._look()
        return account if account is not None else await self._failed(KEY_DELAY)

    async def refuse(self, account: Account, why: str) -> AuthenticationResult:
        """All factors were right, and yet: answered as if one had been wrong."""
        return await self._refuse(account.id, why)

    async def _refuse(self, account_id: str, why: str) -> AuthenticationResult:
        self._noted = True  # nobody unknown: its source pays nothing for it
        self._logins.records.failed(self.peer, account_id, why)
        return await self._failed(KEY_DELAY)

    async def _failed(self, delay: float) -> AuthenticationResult:
        self.proof.failures += 1
        await asyncio.sleep(max(0.0, delay))
        return AuthenticationResult("failed")
