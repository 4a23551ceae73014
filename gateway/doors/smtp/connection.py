"""One connection of the mail door, below its commands: admission, lines, replies, timers, TLS.

A subclass of aiosmtpd's protocol with its own way from the network to the one task that reads: the stock
one makes a stream, a session and tables of hooks for each connection, holds what it reads as lines, ends
commands at a bare LF, quotes exceptions to the peer and cancels what is under way when the peer closes its
sending side (docs/adr/0018).

Promises: memory does not depend on what a peer sends (at most two reads and one unfinished command); a
connection ends after too many errors or commands, a command or reply that takes too long, or when the door
closes and nothing is under way. What was read in clear before TLS began is never looked at after it
(RFC 3207, section 6).

Leaves out: what commands mean (`gateway.doors.smtp.session`).

Rules:
1. Replies are queued and sent before the next wait, so that pipelined commands cost one packet (RFC 2920).
2. A peer that closes its sending side is answered all that it has sent. One that is gone ends its task.
3. One timer stands for the whole connection, and looks at the deadline when it goes off: setting a deadline
   for each read costs nothing then.
4. What is overridden of aiosmtpd and asyncio is listed by a test that checks that it exists there.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from abc import abstractmethod
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

import structlog
from aiosmtpd.smtp import SMTP

from gateway.doors.smtp.admission import Connections, Progress, origin_of
from gateway.doors.smtp.certificate import Certificate
from gateway.doors.smtp.intake import Intake
from gateway.doors.smtp.lines import Lines
from gateway.doors.smtp.rates import Rates

READ: Final = 128 * 1024
MAX_COMMAND: Final = 512  # octets with CR LF, RFC 5321, section 4.5.3.1.4
MAX_ENVELOPE_COMMAND: Final = MAX_COMMAND + 36  # SIZE adds 26 (RFC 1870), SMTPUTF8 10 (RFC 6531)
MAX_LINE: Final = 12_288  # octets that are held of a line: those of a login, RFC 4954, section 4
MAX_COMMANDS: Final = 1000
MAX_ERRORS: Final = 10
HANDSHAKE_SECONDS: Final = 30.0
LINGER: Final = 10.0  # seconds a closed connection may take to read its last reply
DISPLACED_LINGER: Final = 1.0  # the same of one that was displaced: its place is another's already

log = structlog.get_logger("smtp")


class Entrance(Enum):
    """Where a connection came in."""

    MAIL = "smtp.listen"  # from any mail server
    SUBMISSION = "smtp.submission_listen"  # from who logs in, after STARTTLS (RFC 6409)
    SUBMISSIONS = "smtp.submissions_listen"  # the same, in TLS from the first byte (RFC 8314)

    @property
    def submission(self) -> bool:
        """Whether nothing is taken there before a login."""
        return self is not Entrance.MAIL


@dataclass(frozen=True)
class Terms:
    """What every connection of the door shares. `timeout` is in seconds, `limit` in bytes."""

    domain: str
    limit: int
    timeout: float
    lines: Lines
    connections: Connections
    rates: Rates
    certificate: Certificate

    @property
    def tls(self) -> ssl.SSLContext | None:
        """For a connection that begins TLS now; None: there is no certificate."""
        return self.certificate.context


class HangUp(Exception):
    """The connection ends after this reply ("" for none)."""

    def __init__(self, reply: str = "") -> None:
        super().__init__(reply)
        self.reply = reply


class Conversation(SMTP):
    """One connection: reads command lines, hands them to `_obey`, sends replies."""

    def __init__(self, terms: Terms, loop: asyncio.AbstractEventLoop, entrance: Entrance) -> None:
        # Not SMTP's constructor: for each connection it looks through all members of the class, twice, for
        # hooks and AUTH mechanisms, which there are none of here.
        self._terms = terms
        self._entrance = entrance
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.progress = Progress(loop.time())
        self._admitted = False
        self._peer = ""
        self._core = Intake(terms.lines)
        self._task: asyncio.Task[None] | None = None
        self._arrived: list[bytes] = []  # pieces from the network that nobody took yet
        self._arrived_size = 0
        self._ended = False  # nothing more will arrive
        self._paused = False  # enough has arrived
        self._wants_bytes: asyncio.Future[None] | None = None  # waits for what arrives
        self._wants_room: asyncio.Future[None] | None = None  # waits for the peer to read
        self._pending = bytearray()  # taken, not yet looked at
        self._replies = bytearray()  # said, not yet sent
        self._errors = 0
        self._commands = 0
        self._secured = False
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None

    @property
    @abstractmethod
    def _idle(self) -> bool:
        """Whether no transaction is under way."""

    @abstractmethod
    def _drop(self) -> None:
        """The connection ends: let go of what is unfinished."""

    @abstractmethod
    def _patience(self, now: float) -> float:
        """Seconds that the next command may take."""

    @abstractmethod
    async def _obey(self, line: bytes) -> None:
        """Answer one command line (with its line end; raises HangUp)."""

    # ── the connection (asyncio.Protocol) ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the peer and start its task, or say why not."""
        # Not every loop's transports are subclasses of asyncio's (uvloop).
        self.transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername") or ("",)
        self._peer = str(address[0])
        refusal = self._terms.connections.admit(self, origin_of(address), self.loop.time())
        if refusal:
            self._farewell(f"421 4.3.2 {self._terms.domain} {refusal}; try again in a few minutes")
            return
        self._admitted = True
        self._task = self.loop.create_task(self._handle_client())

    def data_received(self, data: bytes) -> None:
        """Keep what arrives until it is taken; beyond `READ` bytes the peer has to wait."""
        if not self._admitted:
            return
        self.progress.add(len(data), self.loop.time())
        self._arrived.append(data)
        self._arrived_size += len(data)
        if self._arrived_size >= READ and not self._paused:
            self._paused = True
            assert self.transport is not None
            self.transport.pause_reading()
        _wake(self._wants_bytes)

    def eof_received(self) -> bool:
        """Answer what was sent before the end; the task ends when all of it is read."""
        if not self._admitted:
            return False
        self._ended = True
        _wake(self._wants_bytes)
        return not self._secured  # TLS knows no half-closed connection

    def pause_writing(self) -> None:
        """The peer does not read its replies: `_flush` waits."""
        if self._wants_room is None:
            self._wants_room = self.loop.create_future()

    def resume_writing(self) -> None:
        """It does again."""
        _wake(self._wants_room)
        self._wants_room = None

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop whatever is under way: an unfinished message is dropped by its `with` block."""
        for timer in (self._timer, self._linger):
            if timer is not None:
                timer.cancel()
        self.transport = None
        self._ended = True
        if self._admitted:
            self._terms.connections.release(self)
        if self._task is not None:
            self._task.cancel()

    def end_when_idle(self) -> None:
        """The door closes: end now, unless a transaction is under way."""
        if self._idle:
            self._farewell(f"421 4.3.2 {self._terms.domain} closing")

    def displace(self) -> None:
        """Another needs the place: end now; an unfinished message is dropped as after any end."""
        self._farewell(
            f"421 4.3.2 {self._terms.domain} too busy for slow connections, try again later",
            DISPLACED_LINGER,
        )

    def cut(self) -> None:
        """End now."""
        if self.transport is not None:
            self.transport.abort()

    def _farewell(self, reply: str = "", linger: float = LINGER) -> None:
        """Send what is queued and a last reply, and close."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if reply:
            self._say(reply)
        transport.write(bytes(self._replies))
        self._replies.clear()
        transport.close()
        # A peer that reads nothing would keep a closed connection alive for ever.
        self._linger = self.loop.call_later(linger, transport.abort)

    # ── the loop ──

    async def _handle_client(self) -> None:
        last = ""
        try:
            if self._entrance is Entrance.SUBMISSIONS:
                context = self._terms.tls
                assert context is not None  # the configuration asks for one
                # Its first bytes may have come already, and are a handshake's.
                await self._start_tls(context, b"".join(self._arrived))
            self._say(f"220 {self._terms.domain} ESMTP")
            await self._converse()
        except HangUp as end:
            last = end.reply
        except (ConnectionError, TimeoutError, ssl.SSLError):
            pass  # the peer is gone: nobody to answer
        except Exception as error:  # noqa: BLE001  one bad connection must not end the door
            log.error("unforeseen failure", error=type(error).__name__)
            last = "421 4.3.0 Internal error"
        finally:
            # An unfinished message or call closes the line.
            self._drop()
            self._core.give_back()
            self._farewell(last)

    async def _converse(self) -> None:
        while self._commands < MAX_COMMANDS:
            line = await self._read_command()
            self._commands += 1
            await self._obey(line)
            if self._errors >= MAX_ERRORS:
                log.warning("connection ended", why="too many errors")
                raise HangUp("421 4.7.0 Too many commands that are not understood; connect again")
            if self._terms.connections.closing and self._idle:
                raise HangUp(f"421 4.3.2 {self._terms.domain} closing")
        log.warning("connection ended", why="too many commands")
        raise HangUp("421 4.7.0 Too many commands")

    def _say(self, reply: str) -> None:
        """Queue a reply; it is sent before the next wait for the peer."""
        if reply.startswith("5"):
            self._errors += 1
        self._replies += reply.encode() + b"\r\n"

    async def _flush(self) -> None:
        if not self._replies:
            return
        if self.transport is None:
            raise HangUp
        self.transport.write(bytes(self._replies))
        self._replies.clear()
        if self._wants_room is not None:
            await self._wants_room

    async def _receive(self, seconds: float) -> bytes:
        """The next bytes from the peer, after everything said was sent.

        Raises:
            HangUp: the peer has ended; on a timeout the timer closes the connection.
        """
        self.progress.held = False
        self._answer_by(self.loop.time() + max(seconds, 0.001))
        if self._replies:
            await self._flush()
        while not self._arrived:
            if self._ended:
                raise HangUp
            self._wants_bytes = self.loop.create_future()
            await self._wants_bytes
        data = b"".join(self._arrived)
        self._arrived.clear()
        self._arrived_size = 0
        if self._paused:
            self._paused = False
            if self.transport is not None:
                self.transport.resume_reading()
        return data

    async def _read_command(self) -> bytes:
        """One line with its end; of one that is too long for any command, the last piece."""
        now = self.loop.time()
        deadline = now + self._patience(now)
        while (end := self._pending.find(b"\n")) < 0:
            if len(self._pending) > MAX_LINE:
                # Only that it was too long has to be remembered.
                del self._pending[:-MAX_LINE]
            self._pending += await self._receive(deadline - self.loop.time())
        line = bytes(self._pending[: end + 1])
        del self._pending[: end + 1]
        return line

    def _answer_by(self, deadline: float) -> None:
        """The peer has until then, by the loop's clock."""
        self._deadline = deadline
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return  # it looks again when it goes off
            self._timer.cancel()
        self._timer = self.loop.call_at(deadline, self._timeout_cb)

    def _timeout_cb(self) -> None:
        """End the connection if its deadline has passed, or look again then."""
        self._timer = None
        # A loop may call a little early, by its clock's resolution.
        if self._deadline <= self.loop.time() + 0.002:
            self._farewell("421 4.4.2 Timeout exceeded")
        elif self._deadline < math.inf:
            self._answer_by(self._deadline)

    def _hold_timer(self) -> None:
        """Stop the clock while the core works: the peer is then neither late nor slow."""
        self.progress.held = True
        self._deadline = math.inf

    async def _start_tls(self, context: ssl.SSLContext, early: bytes = b"") -> None:
        """Change to TLS after everything said was sent.

        Args:
            early: what has come of the handshake, where nothing was said in clear before it.

        Raises:
            HangUp, ssl.SSLError, ConnectionError: there was no handshake, and the connection is gone.
        """
        await self._flush()
        self._hold_timer()  # the handshake has its own
        self.progress.held = False
        transport = self.transport
        if transport is None:
            raise HangUp
        # From here to the swap of the protocol nothing is awaited: every byte that came in clear is in one of
        # these, and all of them end here (CVE-2024-34083).
        self._pending.clear()
        self._arrived.clear()
        self._arrived_size = 0
        self._paused = False  # `start_tls` resumes reading
        starting = self.loop.start_tls(
            transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
        )
        try:
            if early:
                begun = _Begun(starting)
                # After what it has scheduled: from here on its protocol is the one that reads.
                reader = cast("asyncio.BufferedProtocol", transport.get_protocol())
                self.loop.call_soon(_hand_over, early, reader)
                secured = await begun
            else:
                secured = await starting
        except BaseException:
            # After a failed handshake asyncio does not call `connection_lost`.
            self._terms.connections.release(self)
            raise
        if secured is None:
            raise HangUp
        self.transport = secured
        self._secured = True


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class _Begun:
    """A coroutine that has run to its first wait already."""

    def __init__(self, coroutine: Coroutine[Any, Any, asyncio.Transport | None]) -> None:
        self._coroutine = coroutine
        self._waits_for = coroutine.send(None)

    def __await__(self) -> Generator[Any, Any, asyncio.Transport | None]:
        waits_for = self._waits_for
        while True:
            try:
                try:
                    given = yield waits_for
                except BaseException as error:  # noqa: BLE001  it is the coroutine's: cancelled, say
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(given)
            except StopIteration as end:
                result: asyncio.Transport | None = end.value
                return result


def _hand_over(data: bytes, reader: asyncio.BufferedProtocol) -> None:
    """Give a protocol what came before it was there."""
    while data:
        room = memoryview(reader.get_buffer(len(data)))
        taken = min(len(room), len(data))
        room[:taken] = data[:taken]
        reader.buffer_updated(taken)
        data = data[taken:]
