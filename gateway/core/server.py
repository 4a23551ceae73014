"""The core's server: unix sockets, one request at a time on each connection.

Promises: the core has no network socket. Sockets are made here (0600, for the embedded default, where all
roles run as one user) or come from systemd by name, which gives each its own group. Every peer is asked for
its credentials (SO_PEERCRED); where we made the sockets, only our own user and root may speak.

A request that breaks the protocol ends its connection; one that is refused is answered. An exception
nobody foresaw is answered "failed" and logged by type, never with its text, which could hold a secret.
Leaves out: what each role may ask (`sessions`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from socket import send_fds
from typing import Any, Final

import msgspec

from gateway.core.core import log, raised_at
from gateway.core.sessions.base import Answer, Session, SessionFactory
from gateway.errors import Refusal, WireError
from gateway.wire.channel import (
    FRAME_SECONDS,
    RECEIVE,
    REQUEST_DECODERS,
    REQUEST_LIMITS,
    Assembler,
    as_frame,
    peer_credentials,
    peer_has_gone,
    until_ready,
)
from gateway.wire.messages import Message, Refused, Role
from vault.errors import StorageFailed, StorageFull, VaultError

FAILED: Final = "This can't be done at the moment; nothing was changed. Please try again later."


# Connections of a role at once: one of its processes that was taken over can't fill the core's memory with
# unfinished frames. The doors' follow from the connections they may have.
MOST: Final[dict[Role, int]] = {
    "inspect": 64,
    "courier": 16,
    "resolver": 32,
    "mailbox": 64,
    "admin": 64,
}
_LOG_SECONDS: Final = 60.0
IN_A_TURN: Final = 16  # requests of one connection that are answered before others are heard


class CoreServer:
    """Accepts connections and runs a session on each."""

    def __init__(
        self,
        listeners: Mapping[Role, socket.socket],
        factories: Mapping[Role, SessionFactory],
        *,
        own_sockets: bool,
        most: Mapping[Role, int] = MOST,
    ) -> None:
        self._listeners = listeners
        self._factories = factories
        self._own_sockets = own_sockets
        self._connections: set[_Connection] = set()
        self._most = most
        self._connected: Counter[Role] = Counter()
        self._refused: Counter[Role] = Counter()
        self._told: dict[Role, float] = {}
        self._fatal: asyncio.Future[None] | None = None

    async def serve(self) -> None:
        """Serve until cancelled, or until the store has failed for good (raises StorageFailed)."""
        self._fatal = asyncio.get_running_loop().create_future()
        acceptors = [
            asyncio.create_task(self._accept(role, listener))
            for role, listener in self._listeners.items()
        ]
        try:
            await self._fatal
        finally:
            for task in acceptors:
                task.cancel()
            await asyncio.gather(*acceptors, return_exceptions=True)
            ended = await asyncio.gather(
                *(each.stop() for each in list(self._connections)), return_exceptions=True
            )
            for error in ended:
                if isinstance(error, Exception):
                    log.error("connection was not ended", error=type(error).__name__)

    async def _accept(self, role: Role, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.error("accept failed", role=role, error=error.strerror)
                await asyncio.sleep(0.2)
                continue
            pid, uid, gid = peer_credentials(peer)
            if self._own_sockets and uid not in {0, os.getuid()}:
                log.warning("peer refused", role=role, uid=uid)
                peer.close()
                continue
            if self._connected[role] >= self._most.get(role, math.inf):
                self._refuse(role)
                peer.close()
                await asyncio.sleep(0.01)  # whoever opens them in a loop gets no share of this one
                continue
            self._connected[role] += 1
            session = self._factories[role]()
            session.attach((pid, uid, gid))
            connection = _Connection(role, peer, session, self._failed, self._ended)
            self._connections.add(connection)
            connection.start()

    def _refuse(self, role: Role) -> None:
        """Count a connection beyond those a role may have; a line a minute says so."""
        self._refused[role] += 1
        now = time.monotonic()
        if now - self._told.get(role, -math.inf) >= _LOG_SECONDS:
            self._told[role] = now
            log.warning(
                "too many connections",
                role=role,
                most=self._most[role],
                refused=self._refused.pop(role),
            )

    def _ended(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._connected[connection.role] -= 1

    def _failed(self, error: StorageFailed) -> None:
        """The store has failed for good (on the loop)."""
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_exception(error)


class _Connection:
    """One connection: a request is read, answered, and only then the next one read.

    Most requests are answered where they are read, without a task of their own: a client waits for each.
    """

    def __init__(
        self,
        role: Role,
        peer: socket.socket,
        session: Session,
        fatal: Callable[[StorageFailed], None],
        ended: Callable[[_Connection], None],
    ) -> None:
        peer.setblocking(False)
        self.role: Role = role
        self._peer = peer
        self._session = session
        self._fatal = fatal
        self._ended = ended
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._assembler = Assembler(REQUEST_LIMITS[role])
        self._decode = REQUEST_DECODERS[role].decode
        self._request: Any = None  # what is being answered; None: the next may be read
        self._reading = False
        self._stopped = False
        self._answering: asyncio.Task[None] | Future[Answer] | None = None
        self._patience: asyncio.TimerHandle | None = None  # for the rest of a frame
        self._put_away: asyncio.Task[None] | None = None
        session.hang_up = self._hang_up
        session.gone = self._gone

    def start(self) -> None:
        self._read_on()

    async def stop(self) -> None:
        """End it now, but for what is being made durable; returns once its session is put away."""
        self._stopped = True
        if isinstance(self._answering, asyncio.Task):
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)
        elif self._answering is not None:
            await asyncio.gather(asyncio.wrap_future(self._answering), return_exceptions=True)
        self._end()
        if self._put_away is not None:
            await self._put_away

    # ── reading ──

    def _read_on(self) -> None:
        """Answer what was read already, then hear of more."""
        served = 0
        try:
            while self._request is None and not self._stopped:
                if self._session.over:
                    self._end()
                    return
                if served == IN_A_TURN:
                    # Whoever sends ahead takes no more than its turn.
                    self._leave_unread()
                    self._wait_for_rest(begun=False)
                    self._loop.call_soon(self._read_on)
                    return
                frame = self._assembler.next()
                if frame is None:
                    break
                self._wait_for_rest(begun=False)
                self._serve(frame[0])
                served += 1
        except WireError as error:
            self._broken(error)
            return
        except Exception as error:
            log.error("connection ended", role=self.role, error=type(error).__name__)
            self._end()
            raise
        self._wait_for_rest(begun=self._request is None and self._assembler.begun)
        if not self._reading and not self._stopped:
            self._loop.add_reader(self._peer, self._readable)
            self._reading = True

    def _readable(self) -> None:
        if self._request is not None:
            # It sends ahead, or has gone: either is seen once this one is answered.
            self._leave_unread()
            return
        try:
            data = self._peer.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._assembler.feed(data, ())
        self._read_on()

    def _wait_for_rest(self, *, begun: bool) -> None:
        """Have patience with a frame that has begun, from its first byte on, and with nothing else."""
        if begun and not self._stopped:
            if self._patience is None:
                self._patience = self._loop.call_later(FRAME_SECONDS, self._impatient)
        elif self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _leave_unread(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._peer)
            self._reading = False

    def _impatient(self) -> None:
        self._patience = None
        self._broken(WireError(f"frame: the rest of it did not come within {FRAME_SECONDS:.0f} s"))

    # ── answering ──

    def _serve(self, body: bytes) -> None:
        """Answer one request, or begin to (raises WireError)."""
        try:
            self._request = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireError(
                f"{self.role}: expected a request of this socket, found another"
            ) from error
        try:
            answering = self._session.handle(self._request)
        except WireError:
            raise
        except Exception as error:  # noqa: BLE001  one bad request must not end the core
            answering = self._refusal(error), None
        if isinstance(answering, tuple):
            self._send(*answering)
        elif isinstance(answering, Future):
            self._answering = answering
            answering.add_done_callback(self._made_durable)
        else:
            self._answering = self._loop.create_task(self._await(answering))

    async def _await(self, answering: Awaitable[Answer]) -> None:
        try:
            try:
                answer = await answering
            except (WireError, asyncio.CancelledError):
                raise
            except Exception as error:  # noqa: BLE001  one bad request must not end the core
                answer = self._refusal(error), None
            self._answering = None
            self._send(*answer)
        except WireError as error:
            self._answering = None
            self._broken(error)
            return
        except BaseException:
            # Whatever else: a connection that is not answered ends, so that its session is put away.
            self._answering = None
            self._end()
            raise
        self._read_on()

    def _made_durable(self, done: Future[Answer]) -> None:
        """Send an answer from the thread that has it: the loop would add its own time."""
        error = done.exception()
        reply, descriptor = done.result() if error is None else (self._refusal(error), None)
        frame, sent = as_frame(reply, 0 if descriptor is None else 1), 0
        try:
            sent = self._push(frame, descriptor)
        except OSError:
            pass
        finally:
            if descriptor is not None:
                os.close(descriptor)
        if sent < len(frame):
            # Its only reader does not read, or has gone.
            self._session.undelivered = True
            self._hang_up()
        # Only now: what the peer has sent ahead is answered after this.
        if threading.get_ident() == self._thread:
            self._answered()
        else:
            self._loop.call_soon_threadsafe(self._answered)

    def _push(self, frame: bytes | memoryview, descriptor: int | None) -> int:
        """Give the kernel a frame, with its descriptor; returns how much it took (raises OSError)."""
        if descriptor is None:
            return self._peer.send(frame)
        return send_fds(self._peer, [frame], [descriptor])

    def _answered(self) -> None:
        self._request = self._answering = None
        self._read_on()

    def _send(self, reply: Message, descriptor: int | None) -> None:
        """Send an answer; the rest of a long one in a task of its own (raises WireError)."""
        try:
            try:
                frame = memoryview(as_frame(reply, 0 if descriptor is None else 1))
                sent = self._push(frame, descriptor)
            except BlockingIOError:
                self._answering = self._loop.create_task(self._send_rest(frame, descriptor))
                descriptor = None
                return
            finally:
                if descriptor is not None:
                    os.close(descriptor)
        except OSError:
            self._session.undelivered = True
            self._end()
            return
        if sent < len(frame):
            self._answering = self._loop.create_task(self._send_rest(frame[sent:], None))
        else:
            self._request = None

    async def _send_rest(self, frame: memoryview, descriptor: int | None) -> None:
        """What the socket's buffer had no room for."""
        try:
            while descriptor is not None:
                await until_ready(self._loop, self._peer.fileno(), reading=False)
                with contextlib.suppress(BlockingIOError):
                    frame = frame[self._push(frame, descriptor) :]
                    break
            await self._loop.sock_sendall(self._peer, frame)
        except OSError:
            self._session.undelivered = True
            self._answering = None
            self._end()
            return
        finally:
            if descriptor is not None:
                os.close(descriptor)
        self._request = self._answering = None
        self._read_on()

    def _refusal(self, error: BaseException) -> Refused:
        """What is answered to a request that failed; on any thread."""
        request = type(self._request).__name__
        match error:
            case Refusal():
                return Refused(error.code, error.message)  # type: ignore[arg-type]
            case StorageFull():
                log.error("disk full", error=str(error))
                return Refused("full", "The gateway has no room left; nothing was changed.")
            case StorageFailed():
                log.critical("the store has failed: restart", error=str(error))
                self._loop.call_soon_threadsafe(self._fatal, error)
                return Refused("failed", FAILED)
            case VaultError():
                log.error("request failed", request=request, error=str(error))
                # An administrator hears the reason; a client could do nothing with it.
                return Refused("failed", str(error) if self.role == "admin" else FAILED)
        place = raised_at(error)
        log.error("unforeseen failure", request=request, error=type(error).__name__, place=place)
        said = f"core: expected no {type(error).__name__} at {place}, found one; its log has it"
        return Refused("failed", said if self.role == "admin" else FAILED)

    # ── the end ──

    def _broken(self, error: WireError) -> None:
        log.warning("connection ended", role=self.role, error=str(error))
        self._end()

    def _end(self) -> None:
        """The connection is over: close it, and put away what it left unfinished."""
        if self._put_away is not None:
            return
        self._stopped = True
        if self._patience is not None:
            self._patience.cancel()
        self._leave_unread()
        self._assembler.close()
        self._peer.close()
        self._put_away = self._loop.create_task(self._close())

    async def _close(self) -> None:
        try:
            await self._session.close()
        except (VaultError, Refusal) as error:
            log.error("connection was not put away", error=str(error))
        except Exception as error:  # noqa: BLE001  nobody else's end may hang on it
            log.error(
                "connection was not put away", error=type(error).__name__, place=raised_at(error)
            )
        finally:
            self._ended(self)

    def _hang_up(self) -> None:
        """End it while someone waits on it; it is heard of as the peer's own end would be."""
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)

    def _gone(self) -> bool:
        """Whether the peer has ended the connection; nothing is taken of what it sent."""
        return peer_has_gone(self._peer)
