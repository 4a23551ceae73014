"""The login of one connection of the mail door: who hands in mail (RFC 4954).

Promises: as in `login`, who is refused hears the same words after the same time, whatever was wrong; limits
of the account, the throttle and the penalties are those of every door. A login binds the connection for good.

Leaves out: SASL, which the door speaks; what a logged-in connection may send (`sessions.smtp`).

Rules:
1. Only accounts of clients hand in mail: a document has to belong to one.
2. An app password counts whatever the policy for clients asks for: it opens nothing else, and a device has
   neither a key nor a phone.
3. The account's own password counts where it is enough by itself: the policy takes passwords and no code, and
   no code is enrolled. Mail programs have no place to type one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row

from gateway.core.core import log
from gateway.core.login import accounts as identity
from gateway.core.login import app_passwords, limits, passwords
from gateway.core.login.accounts import Account
from gateway.core.login.attempts import weigh
from gateway.core.login.logins import Logins
from gateway.core.login.throttle import Ruling
from gateway.errors import WireError
from gateway.process.sources import source_of
from gateway.wire.messages import AuthenticateSubmission
from vault.catalogue import queries
from vault.catalogue.states import ClientState
from vault.catalogue.store import Transaction

REFUSED_AFTER: Final = 0.2  # seconds: one whose secret was right is refused no sooner

Method = Literal["app-password", "password"]


class Submission:
    """The login of one connection. `account` is set once it is complete."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins
        self._core = logins.core
        self._failures = 0
        self._account_id = ""
        self._hang_up: Callable[[], None] = lambda: None
        self.account: Account | None = None

    def leave(self) -> None:
        """The connection has ended, or its login failed."""
        self._logins.leave(self._account_id, self._hang_up)

    async def attempt(
        self, request: AuthenticateSubmission, hang_up: Callable[[], None]
    ) -> Account | None:
        """Check name and password; the account, if it may hand in mail from there now (raises WireError).

        Args:
            hang_up: ends the connection, once the account's rights have changed.
        """
        if self.account is not None:
            raise WireError("submission: expected one login on a connection, found a second")
        if self._failures >= self._core.config.sftp.max_attempts:
            raise WireError("submission: expected fewer attempts on one connection, found too many")
        typed = app_passwords.plain(request.password)

        def find(connection: Connection) -> tuple[Row[Any] | None, Account | None, Any]:
            row, account = identity.look_up(connection, request.user)
            # Asked also for a name that no account has: the time must not tell which names there are.
            asked = identity.NOBODY if row is None else row.id
            return row, account, app_passwords.find(connection, asked, typed)

        row, account, app = await self._core.read(find)
        stored, secret = self._expected(row, app, request.password, typed)

        async def look(ruling: Ruling) -> bool | None:
            return await self._logins.passwords.check(
                lambda: passwords.check_password(stored, secret),
                source=source_of(request.peer),
                trusted=ruling.trusted,
                failures=ruling.failures,
            )

        wait = await weigh(
            self._logins, peer=request.peer, user=request.user, row=row, kind="password", look=look
        )
        if wait is None:
            assert account is not None
            # Among the live ones first: an act that takes a right away is either read in the transaction
            # that completes the login, or finds this session and ends it.
            self._account_id, self._hang_up = account.id, hang_up
            self._logins.enter(account.id, hang_up)
            why = await self._complete(account, request.peer, app, stored)
            if why is None:
                self.account = account
                return account
            self.leave()
            self._logins.records.failed(request.peer, account.id, why)
            wait = REFUSED_AFTER
        self._failures += 1
        await asyncio.sleep(max(0.0, wait))
        return None

    def _expected(
        self, row: Row[Any] | None, app: Any, password: str, typed: str
    ) -> tuple[str | None, str]:
        """The hash that a secret has to fit (None: none does), and the secret as it was hashed."""
        if row is None or row.role != "client":
            return None, password
        if app is not None:
            return app.password_hash, typed
        policy = self._core.config.login.factors(row.role)
        enough = limits.takes_password(policy) and not limits.wants_code(policy)
        return (row.password_hash if enough and row.totp is None else None), password

    async def _complete(
        self, account: Account, peer: str, app: Any, stored: str | None
    ) -> str | None:
        """COMMIT POINT of a login: recorded, if the account may; else why not."""
        core = self._core
        now = core.now()
        zone = ZoneInfo(core.config.login.time_zone)
        method: Method = "password" if app is None else "app-password"

        def work(tx: Transaction) -> str | None:
            row = identity.load_account(tx.connection, account.name)
            if row is None or row.id != account.id:
                return "disabled"
            if app is None and (row.password_hash != stored or row.totp is not None):
                return "factor"
            why = limits.admits(row, now, zone, peer)
            if why is not None:
                return why
            if queries.client(tx.connection, row.client_id).state != ClientState.OPEN:
                return "client closed"
            if app is not None and not app_passwords.use(tx, app, now):
                return "factor"
            core.record(
                tx, "session.opened", account.id, account.id, now, door="smtp", method=method
            )
            return None

        why = await core.write(work)
        if why is None:
            self._logins.records.penalties.right(peer, account.id, core.clock.steady())
            log.info("login", account=account.id, role=account.role, method=method, door="smtp")
        return why
