"""What one connection to the core may ask, by the socket it came in by.

A session is a small state machine with the rights of its role. It owns what the connection began: when
the connection ends, uploads are parked or dropped and claims are given back. A login binds an sftp
session to one account for good, so that a door cannot speak for anyone else; user signatures are verified
here, over the session identifier that this core signed as host (RFC 4252, section 7).
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from gateway.core import identity, mail, ssh_keys
from gateway.core.errands import ErrandDesk
from gateway.core.identity import Account, Proof
from gateway.core.journey import receive, temporary
from gateway.core.journey.inspect import Claimed, Fixity, InspectionDesk
from gateway.core.journey.receive import Upload
from gateway.core.runtime import Core, log
from gateway.core.ssh_keys import HostKeyPair
from gateway.core.tree import View, split
from gateway.core.views import view_for
from gateway.errors import Refusal, WireError
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
    CarryReport,
    Claim,
    ClaimCarry,
    ClaimErrand,
    Commit,
    Done,
    ErrandReport,
    ExchangeSignature,
    Greet,
    Greeting,
    HostKey,
    Keep,
    Kept,
    List,
    MailRecipient,
    MakeFolder,
    Message,
    NoWork,
    OpenRead,
    Predecessor,
    Remove,
    Rename,
    Room,
    SignExchange,
    Space,
    Stat,
    Verdict,
    Writable,
)
from vault.catalogue.store import Transaction
from vault.errors import StorageFailed, VaultError

FAILURE_DELAY: Final = 0.2  # seconds a failed login waits: a guess costs more than a right answer
EXCHANGE_HASH_SIZES: Final = frozenset({32, 48, 64})
MAX_OPEN_UPLOADS: Final = 64

Answer = tuple[Message, int | None]
"""A reply and the descriptor to send with it, which the server closes after sending."""


class Session(ABC):
    """One connection."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.uploads: dict[str, Upload] = {}
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
        self.uploads[upload.document_id] = upload
        reply = Writable(upload.document_id, upload.key, resumed_size)
        return reply, os.dup(upload.descriptor)

    def _upload(self, document_id: str) -> Upload:
        upload = self.uploads.pop(document_id, None)
        if upload is None:
            raise Refusal("not_found", "upload: expected one begun on this connection, found none")
        return upload

    async def _commit(self, request: Commit) -> Answer:
        upload = self._upload(request.document_id)
        await receive.commit(self.core, upload, request.size, request.sha256)
        return Done(), None


class SftpSession(Session):
    """A connection of the sftp door: host key, login, then one account's view."""

    def __init__(self, core: Core, host_keys: dict[str, HostKeyPair]) -> None:
        super().__init__(core)
        self._host_keys = host_keys
        self._session_id: bytes | None = None
        self._proof = Proof()
        self._view: View | None = None
        self._account_id = ""
        self._peer = ""

    async def handle(self, request: Any) -> Answer:
        match request:
            case Greet():
                self._peer = request.peer[:64]
                keys = [HostKey(key.algorithm, key.blob) for key in self._host_keys.values()]
                return Greeting(keys, self.core.config.sftp.login_grace), None
            case SignExchange():
                return ExchangeSignature(self._sign(request)), None
            case AuthenticateKey() | AuthenticatePassword() | AuthenticateCode():
                return await self._authenticate(request), None
        if self._view is None or self._proof.user is None:
            raise WireError(f"sftp: expected a login first, found {type(request).__name__}")
        # Rights are looked up for each request: what was revoked since the login is gone at once.
        user = self._proof.user
        account = await self.core.read(lambda c: identity.current_account(c, user))
        if account is None:
            raise WireError("sftp: expected an active account, found it disabled")
        self._view.account = account
        return await self._serve(self._view, request)

    async def _serve(self, view: View, request: Any) -> Answer:
        match request:
            case Stat():
                return Attributes(await view.stat(split(request.path))), None
            case List():
                return await view.entries(split(request.path), request.cursor), None
            case OpenRead():
                opened = await view.open_read(split(request.path))
                return opened.reply, opened.descriptor
            case Space():
                return await asyncio.to_thread(self._room), None
            case BeginUpload():
                self._check_room()
                upload, resumed = await view.begin_upload(
                    split(request.path), resume=request.resume
                )
                return self._begun(upload, resumed)
            case Predecessor():
                return await temporary.predecessor(self.core, self._open(request.document_id))
            case Keep():
                return await self._keep(request), None
            case Commit():
                return await self._finish(request)
            case Abandon():
                upload = self._upload(request.document_id)
                if not (request.keep and await receive.park(self.core, upload)):
                    await receive.discard(self.core, upload)
            case MakeFolder():
                await view.make_folder(split(request.path))
            case Rename():
                await view.rename(split(request.old), split(request.new))
            case Remove():
                await view.remove(split(request.path), is_folder=request.folder)
            case _:
                raise WireError(
                    f"sftp: expected a request of a view, found {type(request).__name__}"
                )
        return Done(), None

    def _room(self) -> Room:
        status = os.statvfs(self.core.store.path)
        left = self.core.store.blobs.free_bytes() - self.core.config.store.minimum_free
        return Room(
            total=status.f_blocks * status.f_frsize,
            free=max(0, left),
            files=status.f_files,
            files_free=status.f_favail,
        )

    def _begun(self, upload: Upload, resumed: int) -> Answer:
        self.uploads[upload.document_id] = upload
        earlier = upload.predecessor
        reply = Writable(
            upload.document_id,
            upload.key,
            resumed,
            continues=None if earlier is None else earlier.size,
            replaces=upload.replaces,
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
        except VaultError:
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
        live = self.core.live.get(self._account_id)
        if live is not None:
            live.discard(self.hang_up)
            if not live:
                del self.core.live[self._account_id]
        for upload in list(self.uploads.values()):
            if not await receive.park(self.core, upload):
                await receive.discard(self.core, upload)
        self.uploads.clear()

    # ── login ──

    def _sign(self, request: SignExchange) -> bytes:
        if len(request.exchange_hash) not in EXCHANGE_HASH_SIZES:
            raise WireError(
                f"exchange hash: expected a digest, found {len(request.exchange_hash)} bytes"
            )
        kind = ssh_keys.SIGNATURE_ALGORITHMS.get(request.algorithm, "")
        key = self._host_keys.get(kind)
        if key is None:
            raise WireError("exchange hash: expected an algorithm of a host key, found another")
        signature = key.sign(request.algorithm, request.exchange_hash)
        if self._session_id is None:
            self._session_id = request.exchange_hash
        return signature

    async def _authenticate(
        self, request: AuthenticateKey | AuthenticatePassword | AuthenticateCode
    ) -> AuthenticationResult:
        """Check one factor. Only a complete set of factors makes a view."""
        if self._view is not None or self._session_id is None:
            raise WireError("login: expected one after the key exchange, found it out of order")
        if self._proof.failures >= self.core.config.sftp.max_attempts:
            raise WireError("login: expected fewer attempts on one connection, found too many")
        if self._proof.user not in {None, request.user}:
            raise WireError("login: expected one user per connection, found a second")
        self._proof.user = request.user
        row = await self.core.read(lambda c: identity.load_account(c, request.user))
        right = False
        if isinstance(request, AuthenticateKey):
            known = row is not None and await self.core.read(
                lambda c: identity.has_key(c, row.id, request.key)
            )
            usable = known and request.algorithm in ssh_keys.SIGNATURE_ALGORITHMS
            if usable and request.signature is None:
                return AuthenticationResult("acceptable")
            statement = identity.login_statement(
                self._session_id, request.user, request.algorithm, request.key
            )
            right = (
                usable
                and request.signature is not None
                and ssh_keys.verify(request.algorithm, request.key, request.signature, statement)
            )
            if right:
                self._proof.first_factor = "publickey"
        elif isinstance(request, AuthenticatePassword):
            stored = row.password_hash if row is not None else None
            right = await asyncio.to_thread(identity.check_password, stored, request.password)
            if right:
                self._proof.first_factor = "password"
        elif row is not None and self._proof.first_factor is not None:
            now = self.core.now()
            right = await self.core.write(
                lambda tx: identity.use_code(self.core, tx, row, request.code, now)
            )
            self._proof.code |= right
        if not right:
            # An unsigned probe is how clients look for the right key: it is no guess.
            if not (isinstance(request, AuthenticateKey) and request.signature is None):
                self._proof.failures += 1
                await asyncio.sleep(FAILURE_DELAY)
            return AuthenticationResult("failed")
        assert row is not None
        if row.totp is not None and not self._proof.code:
            return AuthenticationResult("partial", ["keyboard-interactive"])
        account = await self.core.read(lambda c: identity.describe(c, row))
        return await self._enter(account)

    async def _enter(self, account: Account) -> AuthenticationResult:
        """COMMIT POINT of a login: recorded, then the session has a view and no way back."""
        view = view_for(self.core, account)
        now = self.core.now()
        method = str(self._proof.first_factor) + ("+code" if self._proof.code else "")

        def work(tx: Transaction) -> bool:
            # Whoever disables the account does so before this, or finds the session among the live.
            if identity.load_account(tx.connection, account.name) is None:
                return False
            self.core.record(
                tx, "session.opened", account.id, account.id, now, door="sftp", method=method
            )
            return True

        self._account_id = account.id
        self.core.live.setdefault(account.id, set()).add(self.hang_up)
        if not await self.core.write(work):
            return AuthenticationResult("failed")
        self._view = view
        log.info("login", account=account.id, role=account.role, method=method)
        return AuthenticationResult("granted", role=account.role)


class SmtpSession(Session):
    """A connection of the mail door: recipients, then messages for those accepted."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._accepted: dict[tuple[str, str], str] = {}

    async def handle(self, request: Any) -> Answer:
        match request:
            case MailRecipient():
                answer = await mail.check_recipient(self.core, request)
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
                return self._writable(await mail.begin(self.core, client, request))
            case Commit():
                return await self._commit(request)
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
        raise WireError(
            f"smtp: expected a request of the mail door, found {type(request).__name__}"
        )


class InspectSession(Session):
    """A connection of an inspector: one claimed document at a time."""

    def __init__(self, core: Core, desk: InspectionDesk) -> None:
        super().__init__(core)
        self._desk = desk
        self._claimed: Claimed | None = None
        self._fixity: Fixity | None = None

    async def handle(self, request: Any) -> Answer:
        if isinstance(request, Claim):
            if self._claimed is not None:
                raise WireError("inspect: expected a verdict before the next claim, found a claim")
            found = await self._desk.claim()
            if found is None:
                return NoWork(), None
            work, descriptor, self._claimed, self._fixity = found
            return work, descriptor
        claimed = self._claimed
        if claimed is None:
            raise WireError(f"inspect: expected a claim first, found {type(request).__name__}")
        match request:
            case BeginPart():
                self._check_room()
                return self._writable(await self._desk.begin_part(claimed, request.name))
            case Commit():
                upload = self._upload(request.document_id)
                await receive.stage(self.core, upload, request.size, request.sha256)
                claimed.parts[upload.document_id] = (upload, request.size, request.sha256)
                return Done(), None
            case Abandon():
                await receive.discard(self.core, self._upload(request.document_id))
                return Done(), None
            case Verdict():
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

    def __init__(self, core: Core, desk: ErrandDesk) -> None:
        super().__init__(core)
        self._desk = desk
        self._carry: int | None = None  # what this connection carries for a backup

    async def handle(self, request: Any) -> Answer:
        match request:
            case ClaimCarry():
                claimed = await self.core.carriage.claim(drop=self.hang_up)
                if claimed is None:
                    return NoWork(), None
                self._carry = claimed[0].carry_id
                return claimed
            case CarryReport():
                self._carry = None
                self.core.carriage.report(request)
                return Done(), None
            case ClaimErrand():
                return await self._desk.claim() or NoWork(), None
            case ErrandReport():
                await self._desk.report(request)
                return Done(), None
        raise WireError(f"courier: expected an errand, found {type(request).__name__}")

    async def close(self) -> None:
        await super().close()
        if self._carry is not None:
            self.core.carriage.lost(self._carry)


SessionFactory = Callable[[], Session]
