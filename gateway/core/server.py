"""The core's server: unix sockets, one task per connection, one request at a time on each.

Promises: the core has no network socket. Sockets are made here (0600, for the embedded default, where all
roles run as one user) or come from systemd by name, which gives each its own group. Every peer is asked for
its credentials (SO_PEERCRED); where we made the sockets, only our own user and root may speak.

A request that breaks the protocol ends its connection; one that is refused is answered. An exception
nobody foresaw is answered "failed" and logged by type, never with its text, which could hold a secret.
Leaves out: what each role may ask (`sessions`).
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.core.core import log, raised_at
from gateway.core.sessions.base import Session, SessionFactory
from gateway.errors import Disconnected, Refusal, WireError
from gateway.wire.channel import REQUEST_DECODERS, REQUEST_LIMITS, AsyncChannel
from gateway.wire.messages import Message, Refused, Role
from vault.errors import StorageFailed, StorageFull, VaultError

FAILED: Final = "This can't be done at the moment; nothing was changed. Please try again later."


# Connections of a role at once: one of its processes that was taken over can't fill the core's memory with
# unfinished frames. The doors' follow from the connections they may have.
MOST: Final[dict[Role, int]] = {"inspect": 64, "courier": 16, "admin": 64}
_LOG_SECONDS: Final = 60.0


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
        self._tasks: set[asyncio.Task[None]] = set()
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
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*acceptors, *self._tasks, return_exceptions=True)

    async def _accept(self, role: Role, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.error("accept failed", role=role, error=error.strerror)
                await asyncio.sleep(0.2)
                continue
            channel = AsyncChannel(connection, accept_fds=False, limit=REQUEST_LIMITS[role])
            _pid, uid, _gid = channel.peer_credentials()
            if self._own_sockets and uid not in {0, os.getuid()}:
                log.warning("peer refused", role=role, uid=uid)
                channel.close()
                continue
            if self._connected[role] >= self._most.get(role, math.inf):
                self._refuse(role)
                channel.close()
                await asyncio.sleep(0.01)  # whoever opens them in a loop gets no share of this one
                continue
            self._connected[role] += 1
            task = asyncio.create_task(self._run(role, channel))
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._ended, role))

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

    def _ended(self, role: Role, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._connected[role] -= 1

    async def _run(self, role: Role, channel: AsyncChannel) -> None:
        session = self._factories[role]()
        session.hang_up = channel.hang_up
        session.gone = channel.gone
        session.attach(channel.peer_credentials())
        try:
            while not session.over:
                body, _ = await channel.receive()
                reply, descriptor = await self._answer(role, session, body)
                try:
                    await channel.send(reply, () if descriptor is None else (descriptor,))
                except Disconnected:
                    session.undelivered = True
                    raise
                finally:
                    if descriptor is not None:
                        os.close(descriptor)
        except Disconnected:
            pass
        except WireError as error:
            log.warning("connection ended", role=role, error=str(error))
        finally:
            channel.close()
            # What the connection left unfinished is put away even while the core stops.
            await asyncio.shield(asyncio.create_task(self._close(session)))

    async def _close(self, session: Session) -> None:
        try:
            await session.close()
        except (VaultError, Refusal) as error:
            log.error("connection was not put away", error=str(error))

    async def _answer(
        self, role: Role, session: Session, body: bytes
    ) -> tuple[Message, int | None]:
        try:
            request = REQUEST_DECODERS[role].decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireError(f"{role}: expected a request of this socket, found another") from error
        try:
            return await session.handle(request)
        except Refusal as refusal:
            return Refused(refusal.code, refusal.message), None  # type: ignore[arg-type]
        except StorageFull as error:
            log.error("disk full", error=str(error))
            return Refused("full", "The gateway has no room left; nothing was changed."), None
        except StorageFailed as error:
            log.critical("the store has failed: restart", error=str(error))
            if self._fatal is not None and not self._fatal.done():
                self._fatal.set_exception(error)
            return Refused("failed", FAILED), None
        except VaultError as error:
            log.error("request failed", request=type(request).__name__, error=str(error))
            # An administrator hears the reason; a client could do nothing with it.
            return Refused("failed", str(error) if role == "admin" else FAILED), None
        except (WireError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001  one bad request must not end the core
            place = raised_at(error)
            log.error(
                "unforeseen failure",
                request=type(request).__name__,
                error=type(error).__name__,
                place=place,
            )
            said = f"core: expected no {type(error).__name__} at {place}, found one; its log has it"
            return Refused("failed", said if role == "admin" else FAILED), None
