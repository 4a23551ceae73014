"""A connection of the command line: who is asking, and how an act is proven to be a person's.

Promises: an act comes over the admin socket from an operating system user (the console, which is what the
kernel says), or carries a statement signed with a person's own SSH key (SSHSIG, namespace `strongroom-act`)
over the act, its arguments, the account and this connection's challenge: then it is that account's act, once,
and nobody else's. Acts that the law or dual control reserves to a person are closed to the console, root
included. The same session serves the command line when no core runs: it opens the store itself and asks here.

Leaves out: which acts there are and who may do them: each function of an act says so (`admin.register.act`).
"""

from __future__ import annotations

import secrets
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from gateway.core.admin import broken_keyrings
from gateway.core.admin.acts import ACTS, CONSOLE
from gateway.core.admin.context import Context
from gateway.core.inspection.claims import InspectionQueue
from gateway.core.login.accounts import Account
from gateway.core.login.signed import verify_signed
from gateway.core.sessions.base import Answer, Session
from gateway.core.views.base import Opened
from gateway.core.wings import Wings
from gateway.errors import Refusal, WireError
from gateway.wire.messages import AdminAnswer, AdminCall, Challenge, ChallengeAnswer
from gateway.wire.signed_act import NAMESPACE, act_statement
from vault.errors import VaultError


def _sentence(act: str, message: str) -> str:
    """msgspec's message about an argument as subject, expected, found (never the argument itself)."""
    text, _, place = message.partition(" - at `$")
    subject = f"act {act}: argument {place.strip('.`')}" if place else f"act {act}: arguments"
    if text.startswith("Object contains unknown field "):
        return f"{subject}: expected known fields, found {text.removeprefix('Object contains ')}"
    if text.startswith("Object missing required field "):
        return f"{subject}: expected the field {text.rpartition(' ')[2]}, found none"
    expected, _, found = text.removeprefix("Expected ").partition(", got ")
    return f"{subject}: expected {expected}, found {found or 'another value'}"


class AdminSession(Session):
    """A connection of the command line."""

    def __init__(self, wings: Wings, queue: InspectionQueue | None) -> None:
        super().__init__(wings.core)
        self._wings = wings
        self._queue = queue
        self._challenge = secrets.token_hex(32)
        self._uid = -1

    def attach(self, credentials: tuple[int, int, int]) -> None:
        """Take the peer's (pid, uid, gid) from the kernel."""
        self._uid = credentials[1]

    async def handle(self, request: Any) -> Answer:
        match request:
            case Challenge():
                return ChallengeAnswer(self._challenge), None
            case AdminCall():
                return await self._perform(request)
        raise WireError(f"admin: expected an act, found {type(request).__name__}")

    async def _perform(self, call: AdminCall) -> Answer:
        act = ACTS.get(call.act)
        if act is None:
            raise Refusal("unsupported", f"act {call.act[:64]!r}: expected a known one, found none")
        account = await self._signer(call, suspended=act.suspended) if call.account else None
        role = account.role if account else CONSOLE
        if role not in act.roles:
            raise Refusal(
                "denied",
                f"act {call.act}: expected one of {', '.join(act.roles)}, found {role}"
                + ("" if account else "; sign it with --as NAME --key FILE"),
            )
        try:
            arguments: Any = msgspec.convert(call.arguments, act.arguments)
        except msgspec.ValidationError as error:
            raise Refusal("invalid", _sentence(call.act, str(error))) from error
        actor = account.id if account else f"{CONSOLE}:{self._uid}"
        context = Context(self._wings, self.core.now(), actor, account, self._queue)
        try:
            result = await act.run(context, arguments)
        except VaultError as error:
            if error.owner is None:
                raise
            raise Refusal("failed", await broken_keyrings.explain(self.core, error)) from error
        if isinstance(result, Opened):
            return result.reply, result.descriptor
        if isinstance(result, AdminAnswer):
            return result, None
        return AdminAnswer(result), None

    async def _signer(self, call: AdminCall, *, suspended: bool) -> Account:
        """The account that signed an act, proven by its key (raises Refusal)."""
        if call.statement != act_statement(call.act, call.arguments, call.account, self._challenge):
            raise Refusal("denied", f"act {call.act}: expected a signature over this very act")

        def look(connection: Connection) -> Account:
            account, _ = verify_signed(
                connection,
                name=call.account,
                statement=call.statement,
                signature=call.signature,
                namespace=NAMESPACE,
                subject=f"act {call.act}",
                now=self.core.now(),
                zone=ZoneInfo(self.core.config.login.time_zone),
                suspended=suspended,
            )
            return account

        account = await self.core.read(look)
        # One signature, one act: a second act on this connection needs a new challenge.
        self._challenge = secrets.token_hex(32)
        return account
