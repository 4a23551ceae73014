"""Who may do which administrative act, and how an act is proven to be a person's.

An act comes over the admin socket from an operating system user (the console), or carries a statement
signed with a person's own SSH key (SSHSIG, namespace `strongroom-act`) over the act, its arguments, the
account and this connection's challenge: then it is that account's act, and nobody else's. Acts that the
law or dual control reserves to a person are closed to the console, root included. Acts that hand out names
or senders leave an entry of who read what (`Context.note_reading`); those that hand out numbers and states
do not.

The same desk serves the command line when no core runs: it opens the store itself and asks here.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from gateway.core.admin import (
    access,
    accounts,
    attestations,
    backups,
    broken,
    clients,
    clock,
    copies,
    disposal,
    documents,
    factors,
    holds,
    keys,
    ledger,
    oversight,
    penalties,
    recovery,
    retention,
)
from gateway.core.admin.context import Context
from gateway.core.inspection.claims import InspectionDesk
from gateway.core.login.accounts import Account
from gateway.core.login.signed import verify_signed
from gateway.core.sessions import Answer, Session
from gateway.core.views.base import Opened
from gateway.core.wings import Wings
from gateway.errors import Refusal, WireError
from gateway.wire.messages import AdminAnswer, AdminCall, Challenge, ChallengeAnswer
from gateway.wire.signed_act import NAMESPACE, act_statement
from vault.errors import VaultError

CONSOLE: Final = "console"
STAFF: Final = ("accountant", "officer", "archivist", "auditor", "admin")


@dataclass(frozen=True)
class Act:
    """One act: what does it, the type of its arguments, and who may; `suspended`: one who is, too."""

    run: Callable[[Context, Any], Awaitable[Any]]
    arguments: type[Any]
    roles: tuple[str, ...]
    suspended: bool = False


_ADMIN: Final = (CONSOLE, "admin")
_READERS: Final = (CONSOLE, *STAFF)

ACTS: Final[dict[str, Act]] = {
    "client.add": Act(clients.add, clients.Add, _ADMIN),
    "client.list": Act(clients.list_all, clients.ListAll, _READERS),
    "client.show": Act(clients.show, clients.Named, _READERS),
    "client.change": Act(clients.change, clients.Change, _ADMIN),
    "client.close": Act(clients.close, clients.Named, _ADMIN),
    "account.add": Act(accounts.add, accounts.Add, (*_ADMIN, "officer")),
    "account.list": Act(accounts.list_all, accounts.ListAll, _READERS),
    "account.disable": Act(accounts.disable, accounts.Named, _ADMIN),
    "account.key": Act(accounts.key, accounts.Key, (*_ADMIN, "officer")),
    "account.enable": Act(accounts.enable, accounts.Named, (*_ADMIN, "officer")),
    "account.change": Act(accounts.change, accounts.Change, (*_ADMIN, "officer")),
    "account.rename": Act(accounts.rename, accounts.Rename, (*_ADMIN, "officer")),
    "account.totp": Act(factors.totp, accounts.Named, (*_ADMIN, "officer")),
    "account.password": Act(factors.password, factors.Password, (*_ADMIN, "officer")),
    "account.vouch": Act(accounts.vouch, accounts.Named, ("officer",)),
    "account.recover": Act(recovery.recover, recovery.Recover, ("officer",)),
    "account.cancel-recovery": Act(recovery.cancel, recovery.Named, ("officer",), suspended=True),
    "account.review-recovery": Act(recovery.review, recovery.Nothing, ("officer",)),
    "account.grant": Act(accounts.grant, accounts.Grant, _ADMIN),
    "account.revoke": Act(accounts.revoke, accounts.Grant, _ADMIN),
    "access.list": Act(access.list_all, access.ListAll, _READERS),
    "access.approve": Act(access.approve, access.Approve, ("officer",)),
    "access.deny": Act(access.deny, access.Deny, ("officer",)),
    "access.revoke": Act(access.revoke, access.Named, ("officer",)),
    "document.list": Act(documents.list_some, documents.ListSome, _READERS),
    "document.show": Act(documents.show, documents.Named, _READERS),
    "document.release": Act(documents.release, documents.Release, ("officer",)),
    "document.reject": Act(documents.reject, documents.Named, ("officer",)),
    "document.reclassify": Act(
        documents.reclassify, documents.Reclassify, ("accountant", "officer")
    ),
    "document.restore": Act(documents.restore, documents.Restore, (*_ADMIN, "officer")),
    "document.export": Act(documents.export, documents.Named, ("accountant", "officer")),
    "hold.place": Act(holds.place, holds.Place, _READERS),
    "hold.release": Act(holds.release, holds.Release, ("officer",)),
    "hold.list": Act(holds.list_all, holds.ListAll, _READERS),
    "retention.explain": Act(retention.explain, retention.Explain, _READERS),
    "retention.preview": Act(retention.preview, retention.Preview, _READERS),
    "retention.rules": Act(retention.rules, retention.Rules, _READERS),
    "disposal.propose": Act(disposal.propose, disposal.Propose, _READERS),
    "disposal.list": Act(disposal.list_all, disposal.ListAll, _READERS),
    "disposal.show": Act(disposal.show, disposal.Named, _READERS),
    "disposal.statement": Act(disposal.statement, disposal.Statement, _READERS),
    # Its own signature, over the register, proves who decides: no second one is asked for.
    "disposal.decide": Act(disposal.decide, disposal.Decide, _READERS),
    "disposal.execute": Act(disposal.execute, disposal.Named, ("officer", "archivist")),
    "disposal.attestation": Act(attestations.attestation, attestations.Attest, _READERS),
    "disposal.attest": Act(attestations.attest, attestations.Attest, _READERS),
    "certificate.list": Act(disposal.certificate_list, disposal.ListAll, _READERS),
    "certificate.keys": Act(disposal.certificate_keys, disposal.ListAll, _READERS),
    "certificate.show": Act(disposal.certificate_show, disposal.Named, _READERS),
    "ledger.verify": Act(ledger.verify, ledger.Verify, _READERS),
    "ledger.checkpoint": Act(ledger.checkpoint, ledger.Nothing, _READERS),
    "ledger.settle": Act(ledger.settle, ledger.Settle, ("officer",)),
    "ledger.export": Act(ledger.export, ledger.Export, _READERS),
    "ledger.snapshot": Act(ledger.snapshot, ledger.Snapshot, _READERS),
    "ledger.tiles": Act(ledger.tiles, ledger.Tiles, _READERS),
    "ledger.prove": Act(ledger.prove, ledger.Prove, _READERS),
    "ledger.consistency": Act(ledger.consistency, ledger.Consistency, _READERS),
    "keys.copies": Act(copies.list_all, copies.ListAll, _READERS),
    "keys.restore": Act(copies.restore, copies.Restore, (*_ADMIN, "officer")),
    "keys.settle": Act(copies.settle, copies.Settle, ("officer",)),
    "keys.status": Act(keys.status, keys.Nothing, _READERS),
    "keys.rotate": Act(keys.rotate_keys, keys.Rotate, _ADMIN),
    "keys.host": Act(keys.host, keys.Nothing, _READERS),
    "clock.show": Act(clock.show, clock.Nothing, _READERS),
    "clock.confirm": Act(clock.confirm, clock.Confirm, ("officer",)),
    "penalty.list": Act(penalties.list_all, penalties.Nothing, _READERS),
    "penalty.lift": Act(penalties.lift, penalties.Lift, _ADMIN),
    "backup.run": Act(backups.run, backups.Run, _ADMIN),
    "backup.list": Act(backups.list_all, backups.Nothing, _READERS),
    "backup.verify": Act(backups.verify, backups.Verify, _READERS),
    "backup.settle": Act(backups.settle, backups.Settle, ("officer",)),
    "check": Act(oversight.check, oversight.Check, _READERS),
    "status": Act(oversight.status, oversight.Nothing, _READERS),
}


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

    def __init__(self, wings: Wings, desk: InspectionDesk | None) -> None:
        super().__init__(wings.core)
        self._wings = wings
        self._desk = desk
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
        context = Context(self._wings, self.core.now(), actor, account, self._desk)
        try:
            result = await act.run(context, arguments)
        except VaultError as error:
            if error.owner is None:
                raise
            raise Refusal("failed", await broken.explain(self.core, error)) from error
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
