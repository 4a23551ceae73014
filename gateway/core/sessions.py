"""What one connection to the core may ask, by the socket it came in by.

A session is a small state machine with the rights of its role. It owns what the connection began: when
the connection ends, uploads are parked or dropped and claims are given back. A login binds an sftp
session to one account for good, so that a door cannot speak for anyone else; user signatures are verified
here, over a session identifier that is this connection's alone (`exchange`; RFC 4252, section 7).
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from gateway.core.core import Core, log
from gateway.core.inspection.claims import Claimed, Fixity, InspectionDesk
from gateway.core.intake import partial, quotas, receive, recipients, temporary
from gateway.core.intake.receive import Upload
from gateway.core.login import accounts as identity
from gateway.core.login.accounts import Account
from gateway.core.login.login import Attempt, Login
from gateway.core.outbound.outbound import Outbound
from gateway.core.views import view_for
from gateway.core.views.base import IS_FILE, IS_FOLDER, View, explained, split
from gateway.errors import Refusal, WireError
from gateway.names import as_sent
from gateway.wire.messages import (
    Abandon,
    Attributes,
    AuthenticateCode,
    AuthenticateKey,
    AuthenticatePassword,
    AuthenticationResult,
    BeginMail,
    BeginPart,
    BeginUpload,
    Claim,
    ClaimTransfer,
    Commit,
    Done,
    ExchangeSignature,
    Farewell,
    Greet,
    HostKeyProofs,
    Keep,
    Kept,
    List,
    MailRecipient,
    MakeFolder,
    Message,
    NoWork,
    OpenRead,
    Predecessor,
    ProveHostKeys,
    Remove,
    Rename,
    SignExchange,
    Space,
    Stat,
    TransferReport,
    Verdict,
    Writable,
)
from vault.catalogue.schema import accounts, grants
from vault.catalogue.store import Transaction
from vault.errors import StorageFailed, VaultError

MAX_OPEN_UPLOADS: Final = 64

Answer = tuple[Message, int | None]
"""A reply and the descriptor to send with it, which the server closes after sending."""


class Session(ABC):
    """One connection."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.uploads: dict[str, Upload] = {}
        self.over = False  # nothing more is answered: the core ends the connection
        self.undelivered = False  # the last answer never reached the peer
        self.hang_up: Callable[[], None] = lambda: None  # ends the connection; the server's own

    @abstractmethod
    async def handle(self, request: Any) -> Answer:
        """Answer one request (raises Refusal, VaultError, WireError)."""

    async def close(self) -> None:
        """The connection has ended: drop what it left unfinished."""
        for upload in list(self.uploads.values()):
            await receive.discard(self.core, upload)
        self.uploads.clear()

    def _check_room(self) -> None:
        """Each open upload costs the core a descriptor."""
        if len(self.uploads) >= MAX_OPEN_UPLOADS:
            raise Refusal("busy", f"At most {MAX_OPEN_UPLOADS} files can be open for writing.")

    def _writable(self, upload: Upload, resumed_size: int = 0) -> Answer:
        self._enter(upload)
        reply = Writable(
            upload.document_id,
            upload.key,
            resumed_size,
            room=upload.room,
            too_large=upload.too_large,
            floor=self.core.config.store.minimum_free,
        )
        return reply, os.dup(upload.descriptor)

    def _enter(self, upload: Upload) -> None:
        self.uploads[upload.document_id] = upload
        quotas.enter(self.core, upload)

    def _upload(self, document_id: str) -> Upload:
        upload = self.uploads.pop(document_id, None)
        if upload is None:
            raise Refusal("not_found", "upload: expected one begun on this connection, found none")
        return upload

    async def _commit(self, request: Commit) -> Answer:
        upload = self._upload(request.document_id)
        await receive.commit(self.core, upload, request.size, request.sha256)
        return Done(upload.said), None


class SftpSession(Session):
    """A connection of the sftp door: host key, login, then one account's view."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._login = Login(core)
        self._view: View | None = None
        self._account_id = ""
        self._rights = -1  # version of the tables that the view's account was read from
        self._farewell: Farewell | None = None

    async def handle(self, request: Any) -> Answer:
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
        rights = self.core.store.catalogue.version(accounts, grants)
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
                return self._begun(upload, resumed)
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

    def _begun(self, upload: Upload, resumed: int) -> Answer:
        self._enter(upload)
        earlier = upload.predecessor
        reply = Writable(
            upload.document_id,
            upload.key,
            resumed,
            continues=None if earlier is None else earlier.size,
            replaces=upload.replaces,
            room=upload.room,
            too_large=upload.too_large,
            floor=self.core.config.store.minimum_free,
        )
        return reply, os.dup(upload.descriptor)

    def _open(self, document_id: str) -> Upload:
        upload = self.uploads.get(document_id)
        if upload is None:
            raise Refusal("not_found", "upload: expected one begun on this connection, found none")
        return upload

    async def _keep(self, request: Keep) -> Kept:
        upload = self._open(request.document_id)
        try:
            return Kept(await temporary.secure(self.core, upload))
        except (VaultError, Refusal):
            del self.uploads[request.document_id]  # gone: nothing of it may be promised any more
            raise

    async def _finish(self, request: Commit) -> Answer:
        """What has its final name is committed; the rest is kept until it is renamed."""
        if not temporary.is_temporary(self._open(request.document_id).name):
            return await self._commit(request)
        upload = self._upload(request.document_id)
        await temporary.keep(self.core, upload, request.size, request.sha256)
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
        view = view_for(self.core, account)
        now = self.core.now()
        proof = self._login.proof
        method = str(proof.first_factor) + ("+code" if proof.totp is not None else "")

        def work(tx: Transaction) -> str | None:
            # Whoever disables the account, sets it a limit or takes a factor back does so before this, or
            # finds the session among the live.
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
        self.core.live.setdefault(account.id, set()).add(self.hang_up)
        why = await self.core.write(work)
        if why is not None:
            self._leave()
            return await self._login.refuse(account, why)
        self._view = view
        self._login.complete = True
        self.core.logins.penalties.right(self._login.peer, account.id, self.core.clock.steady())
        log.info("login", account=account.id, role=account.role, method=method)
        return AuthenticationResult("granted", role=account.role)

    def _leave(self) -> None:
        """This is no live session of its account any more."""
        live = self.core.live.get(self._account_id)
        if live is not None:
            live.discard(self.hang_up)
            if not live:
                del self.core.live[self._account_id]


class SmtpSession(Session):
    """A connection of the mail door: recipients, then messages for those accepted."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._accepted: dict[tuple[str, str], str] = {}

    async def handle(self, request: Any) -> Answer:
        match request:
            case MailRecipient():
                answer = await recipients.check_recipient(self.core, request)
                if answer.client:
                    self._accepted[request.sender, request.recipient] = answer.client
                return answer, None
            case BeginMail():
                accepted = {
                    self._accepted.get((request.sender, recipient))
                    for recipient in request.recipients
                }
                if len(accepted) != 1 or None in accepted:
                    raise Refusal(
                        "denied", "message: expected recipients accepted before, for one client"
                    )
                client = accepted.pop()
                assert client is not None
                self._check_room()
                return self._writable(await recipients.begin(self.core, client, request))
            case Commit():
                return await self._commit(request)
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
        raise WireError(
            f"smtp: expected a request of the mail door, found {type(request).__name__}"
        )


class InspectSession(Session):
    """A connection of an inspector: one document, and the parts found in it.

    After its verdict the core ends it: a worker that was taken over by one client's document never
    sees another's.
    """

    def __init__(self, core: Core, desk: InspectionDesk) -> None:
        super().__init__(core)
        self._desk = desk
        self._claimed: Claimed | None = None
        self._fixity: Fixity | None = None
        self._spent = False

    async def handle(self, request: Any) -> Answer:
        if isinstance(request, Claim):
            if self._spent:
                raise WireError("inspect: expected one document a connection, found a second claim")
            found = await self._desk.claim()
            if found is None:
                return NoWork(), None
            work, descriptor, self._claimed, self._fixity = found
            self._spent = True
            return work, descriptor
        claimed = self._claimed
        if claimed is None:
            raise WireError(f"inspect: expected a claim first, found {type(request).__name__}")
        match request:
            case BeginPart():
                self._check_room()
                return self._writable(
                    await self._desk.begin_part(claimed, request.name, request.name_bytes)
                )
            case Commit():
                upload = self._upload(request.document_id)
                await receive.stage(self.core, upload, request.size, request.sha256)
                claimed.parts[upload.document_id] = (upload, request.size, request.sha256)
                return Done(), None
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
            case Verdict():
                self.over = True
                self._claimed, fixity, self._fixity = None, self._fixity, None
                try:
                    await self._desk.verdict(claimed, request, fixity)
                except (StorageFailed, asyncio.CancelledError):
                    raise  # what is recorded is not known now: the next start looks
                except BaseException:
                    await self._desk.lost(claimed, None, seen=True)
                    raise
                return Done(), None
        raise WireError(
            f"inspect: expected a request of an inspector, found {type(request).__name__}"
        )

    async def close(self) -> None:
        await super().close()
        if self._claimed is not None:
            claimed, self._claimed = self._claimed, None
            await self._desk.lost(claimed, self._fixity, seen=not self.undelivered)


class CourierSession(Session):
    """A connection of the courier."""

    def __init__(self, outbound: Outbound) -> None:
        super().__init__(outbound.core)
        self._transfers = outbound.transfers
        self._transfer: int | None = None  # what this connection has claimed

    async def handle(self, request: Any) -> Answer:
        match request:
            case ClaimTransfer():
                claimed = await self._transfers.claim(drop=self.hang_up)
                if claimed is None:
                    return NoWork(), None
                self._transfer = claimed[0].transfer_id
                return claimed
            case TransferReport():
                self._transfer = None
                self._transfers.report(request)
                return Done(), None
        raise WireError(
            f"courier: expected a request of the courier, found {type(request).__name__}"
        )

    async def close(self) -> None:
        await super().close()
        if self._transfer is not None:
            self._transfers.lost(self._transfer)


SessionFactory = Callable[[], Session]
