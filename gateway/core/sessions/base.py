"""What every connection to the core is: a small state machine with the rights of its role.

Promises: a session owns what the connection began. When the connection ends, uploads are parked or dropped
and claims are given back. Leaves out: what each socket may ask (one module a role), and framing (`server`).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Final

from gateway.core.core import Core
from gateway.core.intake import quotas, receive
from gateway.core.intake.intake import Intake
from gateway.core.intake.upload import Upload
from gateway.errors import Refusal
from gateway.wire.messages import Commit, CommitMail, Done, Message, Writable

MAX_OPEN_UPLOADS: Final = 64

Answer = tuple[Message, int | None]
"""A reply and the descriptor to send with it, which the server closes after sending."""

Answering = Answer | Awaitable[Answer] | Future[Answer]
"""An answer, or what to wait for. A future's is sent from the thread that gives it its result."""


class Session(ABC):
    """One connection."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.over = False  # nothing more is answered: the core ends the connection
        self.undelivered = False  # the last answer never reached the peer
        self.hang_up: Callable[[], None] = lambda: None  # ends the connection; the server's own
        self.gone: Callable[[], bool] = lambda: False  # whether the peer has ended it; the server's

    def attach(self, credentials: tuple[int, int, int]) -> None:
        """Hear who is at the other end: (pid, uid, gid) from the kernel, before the first request."""
        del credentials

    @abstractmethod
    def handle(self, request: Any) -> Answering:
        """Answer one request, at once where that takes microseconds.

        Raises (here, or where the answer is waited for): Refusal, VaultError, WireError.
        """

    async def close(self) -> None:  # noqa: B027  most have nothing to drop
        """The connection has ended: drop what it left unfinished."""


SessionFactory = Callable[[], Session]


class UploadSession(Session):
    """A connection over which documents come in."""

    def __init__(self, intake: Intake) -> None:
        super().__init__(intake.core)
        self.intake = intake
        self.uploads: dict[str, Upload] = {}

    async def close(self) -> None:
        for upload in list(self.uploads.values()):
            await receive.discard(self.core, upload)
        self.uploads.clear()

    def _check_room(self) -> None:
        """Refuse one more upload than a connection may have: each costs the core a descriptor."""
        spare = any(each.ahead for each in self.uploads.values())  # perhaps nobody writes it
        if len(self.uploads) - spare >= MAX_OPEN_UPLOADS:
            raise Refusal("busy", f"At most {MAX_OPEN_UPLOADS} files can be open for writing.")

    def _writable(self, upload: Upload, resumed_size: int = 0) -> Answer:
        self.uploads[upload.document_id] = upload
        quotas.enter(self.intake, upload)
        return self.writable(upload, resumed_size), os.dup(upload.descriptor)

    def writable(self, upload: Upload, resumed_size: int = 0) -> Writable:
        """What a door is told of a document it may write."""
        earlier = upload.predecessor
        return Writable(
            upload.document_id,
            upload.key,
            resumed_size,
            continues=None if earlier is None else earlier.size,
            replaces=upload.replaces,
            room=upload.room,
            too_large=upload.too_large,
            floor=self.core.config.store.minimum_free,
        )

    def _upload(self, document_id: str) -> Upload:
        upload = self.uploads.pop(document_id, None)
        if upload is None:
            raise Refusal("not_found", "upload: expected one begun on this connection, found none")
        return upload

    def stored(self, upload: Upload) -> Message:
        """What a door is told of a document that is durable."""
        return Done(upload.said)

    def _commit(self, request: Commit | CommitMail) -> Future[Answer]:
        upload = self._upload(request.document_id)
        answer: Future[Answer] = Future()

        def over(done: Future[None]) -> None:
            error = done.exception()
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result((self.stored(upload), None))

        receive.commit(self.intake, upload, request.size, request.sha256).add_done_callback(over)
        return answer
