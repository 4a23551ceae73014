"""A connection of the sftp door: host key, login, then one account's view.

Promises: a login binds the session to one account for good, so that a door cannot speak for anyone else. User
signatures are verified in the core, over a session identifier that is this connection's alone
(`login.key_exchange`; RFC 4252, section 7). What was revoked since the login is gone at once. Leaves
out: what a view shows (`gateway.core.views`).
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any, Final

from gateway.core.core import log
from gateway.core.intake import partial, receive, temporary
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.core.login import accounts as identity
from gateway.core.login.accounts import Account
from gateway.core.login.login import Attempt, Login
from gateway.core.login.logins import Logins
from gateway.core.sessions.base import Answer, Answering, UploadSession
from gateway.core.views import view_for
from gateway.core.views.base import IS_FILE, IS_FOLDER, NOT_FOUND, View, explained, split
from gateway.errors import Refusal, WireError
from gateway.names import as_sent
from gateway.wire.messages import (
    Abandon,
    Attributes,
    AuthenticateCode,
    AuthenticateKey,
    AuthenticatePassword,
    AuthenticationResult,
    BeginUpload,
    Commit,
    Done,
    Entry,
    ExchangeSignature,
    Farewell,
    Greet,
    HostKeyProofs,
    Keep,
    Kept,
    List,
    MakeFolder,
    OpenRead,
    Predecessor,
    ProveHostKeys,
    Remove,
    Rename,
    SignExchange,
    Space,
    Stat,
)
from vault.catalogue.schema import accounts, grants
from vault.catalogue.store import Transaction
from vault.errors import VaultError
from vault.ids import made_at

AHEAD: Final = timedelta(
    minutes=10
)  # that a document may wait for its name: its id says when it was made


class SftpSession(UploadSession):
    """A connection of the sftp door: host key, login, then one account's view."""

    def __init__(self, intake: Intake, logins: Logins) -> None:
        super().__init__(intake)
        self._logins = logins
        self._login = Login(logins)
        self._view: View | None = None
        self._account_id = ""
        self._rights = -1  # version of the tables that the view's account was read from
        self._farewell: Farewell | None = None

    def handle(self, request: Any) -> Answering:
        if self._view is not None and self._rights == self._version():
            match request:
                case Stat():
                    path = split(request.path)
                    found = (
                        self._view.glimpse(path)
                        if request.ahead is None
                        else self._view.glimpse_or_place(path)
                    )
                    if isinstance(found, Entry):
                        return Attributes(found), None
                    if found is not None and request.ahead is not None:
                        return self._ahead(request.ahead, found)
                case BeginUpload():
                    self._check_room()
                    upload = self._view.begin_now(
                        split(request.path), resume=request.resume, size=request.size
                    )
                    if upload is not None:
                        upload.facts = as_sent(request.path_bytes)
                        return self._writable(upload)
                case Commit():
                    if not temporary.is_temporary(self._open(request.document_id).name):
                        return self._commit(request)
        return self._handle(request)

    def _version(self) -> int:
        return self.core.store.catalogue.version(accounts, grants)

    async def _handle(self, request: Any) -> Answer:
        match request:
            case Greet():
                return self._login.greet(request), None
            case SignExchange():
                return ExchangeSignature(await self._login.sign(request)), None
            case ProveHostKeys():
                return HostKeyProofs(await self._login.prove(request)), None
            case Farewell():
                self._farewell = request
                return Done(), None
            case AuthenticateKey() | AuthenticatePassword() | AuthenticateCode():
                return await self._authenticate(request), None
        if self._view is None or self._login.proof.user is None:
            raise WireError(f"sftp: expected a login first, found {type(request).__name__}")
        # Rights hold until anyone's change: what was revoked since the login is gone at once.
        rights = self._version()
        if rights != self._rights:
            user = self._login.proof.user
            account = await self.core.read(lambda c: identity.current_account(c, user))
            if account is None:
                raise WireError("sftp: expected an active account, found it disabled")
            self._view.account = account
            self._rights = rights
        return await self._serve(self._view, request)

    async def _serve(self, view: View, request: Any) -> Answer:
        match request:
            case Stat():
                return Attributes(await view.stat(split(request.path))), None
            case List():
                path = split(request.path)
                try:
                    return await view.entries(path, request.cursor), None
                except Refusal as refusal:
                    raise await explained(view, path, refusal, IS_FILE) from refusal
            case OpenRead():
                path = split(request.path)
                try:
                    opened = await view.open_read(path)
                except Refusal as refusal:
                    raise await explained(view, path, refusal, IS_FOLDER) from refusal
                return opened.reply, opened.descriptor
            case Space():
                return await view.room(), None
            case BeginUpload():
                self._check_room()
                upload, resumed = await view.begin_upload(
                    split(request.path), resume=request.resume, size=request.size
                )
                upload.facts = as_sent(request.path_bytes)
                return self._writable(upload, resumed)
            case Predecessor():
                return await temporary.predecessor(self.core, self._open(request.document_id))
            case Keep():
                return await self._keep(request), None
            case Commit():
                return await self._finish(request)
            case Abandon():
                upload = self._upload(request.document_id)
                if not (request.keep and await partial.park(self.core, upload)):
                    await receive.discard(self.core, upload)
            case MakeFolder():
                await view.make_folder(split(request.path))
            case Rename():
                return Done(
                    await view.rename(
                        split(request.old), split(request.new), as_sent(request.path_bytes)
                    )
                ), None
            case Remove():
                await view.remove(split(request.path), is_folder=request.folder)
            case _:
                raise WireError(
                    f"sftp: expected a request of a view, found {type(request).__name__}"
                )
        return Done(), None

    def _open(self, document_id: str) -> Upload:
        upload = self.uploads.get(document_id)
        if upload is None:
            raise Refusal("not_found", "upload: expected one begun on this connection, found none")
        return upload

    def _ahead(self, former: str, fields: dict[str, Any]) -> Answer:
        """A document that may be written next: the one given before, if nobody wrote to it, or a new one."""
        now = self.core.now()
        unused = self.uploads.get(former)
        if unused is not None and unused.ahead and now - made_at(former) < AHEAD:
            if os.fstat(unused.descriptor).st_size:
                raise WireError("sftp: expected a document that was not begun, found it written to")
            for name, value in fields.items():
                setattr(unused, name, value)
            return self.writable(unused), None
        if unused is not None and unused.ahead:
            # Nobody names it again: an empty file that gets no name.
            del self.uploads[former]
            self.intake.later(receive.discard(self.core, unused))
        try:
            self._check_room()
            upload = receive.begin(self.intake, now, **fields, ahead=True)
        except (Refusal, VaultError) as error:
            # It was asked what is there; whoever opens the name hears why it can't be handed in.
            raise Refusal("not_found", NOT_FOUND) from error
        self.uploads[upload.document_id] = upload
        return self.writable(upload), os.dup(upload.descriptor)

    async def _keep(self, request: Keep) -> Kept:
        upload = self._open(request.document_id)
        try:
            return Kept(await temporary.secure(self.intake, upload))
        except (VaultError, Refusal):
            del self.uploads[request.document_id]  # gone: nothing of it may be promised any more
            raise

    async def _finish(self, request: Commit) -> Answer:
        """Commit an upload that has its final name; keep another one until it is renamed."""
        if not temporary.is_temporary(self._open(request.document_id).name):
            return await asyncio.wrap_future(self._commit(request))
        upload = self._upload(request.document_id)
        await temporary.keep(self.intake, upload, request.size, request.sha256)
        return Kept(request.size), None

    async def close(self) -> None:
        self._leave()
        self._login.close(self._farewell)
        for upload in list(self.uploads.values()):
            if not await partial.park(self.core, upload):
                await receive.discard(self.core, upload)
        self.uploads.clear()

    # ── login ──

    async def _authenticate(self, request: Attempt) -> AuthenticationResult:
        """Check one factor. Only a complete set of factors, within the account's limits, makes a view."""
        outcome = await self._login.attempt(request)
        return await self._admit(outcome) if isinstance(outcome, Account) else outcome

    async def _admit(self, account: Account) -> AuthenticationResult:
        """COMMIT POINT of a login: recorded, then the session has a view and no way back."""
        view = view_for(self.intake, account)
        now = self.core.now()
        proof = self._login.proof
        method = str(proof.first_factor) + ("+code" if proof.totp is not None else "")

        def work(tx: Transaction) -> str | None:
            # An act that disables the account, limits it or takes a factor back is either committed before
            # this transaction and read here, or finds this session among the live ones and ends it.
            row = identity.load_account(tx.connection, account.name)
            if row is None:
                why: str | None = "disabled"
            elif not identity.still_proves(tx.connection, row, proof):
                why = "factor"
            else:
                why = self._login.admitted(row, now)
            if why is None:
                self.core.record(
                    tx, "session.opened", account.id, account.id, now, door="sftp", method=method
                )
            return why

        self._account_id = account.id
        self._logins.enter(account.id, self.hang_up)
        why = await self.core.write(work)
        if why is not None:
            self._leave()
            return await self._login.refuse(account, why)
        self._view = view
        self._login.complete = True
        self._logins.records.penalties.right(self._login.peer, account.id, self.core.clock.steady())
        log.info("login", account=account.id, role=account.role, method=method)
        return AuthenticationResult("granted", role=account.role)

    def _leave(self) -> None:
        """Take this session off the live ones of its account."""
        self._logins.leave(self._account_id, self.hang_up)
