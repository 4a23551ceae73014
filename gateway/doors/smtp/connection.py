"""One connection of the mail door, below its commands: admission, lines, replies, timers, TLS.

A subclass of aiosmtpd's protocol with a loop of its own, because the stock one holds what it reads as
lines, ends commands at a bare LF, quotes exceptions to the peer and cancels what is under way when the
peer closes its sending side.

Promises: memory does not depend on what a peer sends (at most one read and one unfinished command); a
connection ends after too many errors or commands, a command or reply that takes too long, or when the door
closes and nothing is under way. What was read in clear before TLS began is never looked at after it
(RFC 3207, section 6).

Leaves out: what commands mean (`gateway.doors.smtp.session`).

Rules: what is overridden of aiosmtpd and asyncio is listed by a test that checks that it exists there.
Replies are queued and sent before the next wait, so that pipelined commands cost one packet (RFC 2920).
"""

from __future__ import annotations

import asyncio
import ssl
from abc import abstractmethod
from dataclasses import dataclass
from typing import Final, cast

import structlog
from aiosmtpd.smtp import SMTP

from gateway.doors.smtp.admission import Connections, Progress, origin_of
from gateway.doors.smtp.intake import Connect, Intake

READ: Final = 256 * 1024
MAX_COMMAND: Final = 512  # octets with CR LF, RFC 5321, section 4.5.3.1.4
MAX_ENVELOPE_COMMAND: Final = MAX_COMMAND + 36  # SIZE adds 26 (RFC 1870), SMTPUTF8 10 (RFC 6531)
MAX_COMMANDS: Final = 1000
MAX_ERRORS: Final = 10
HANDSHAKE_SECONDS: Final = 30.0
LINGER: Final = 10.0  # seconds a closed connection may take to read its last reply
DISPLACED_LINGER: Final = 1.0  # the same of one that was displaced: its place is another's already

log = structlog.get_logger("smtp")


@dataclass(frozen=True)
class Terms:
    """What every connection of the door shares. `timeout` is in seconds, `limit` in bytes."""

    domain: str
    limit: int
    timeout: float
    connect: Connect
    connections: Connections
    tls: ssl.SSLContext | None


class HangUp(Exception):
    """The connection ends after this reply ("" for none)."""

    def __init__(self, reply: str = "") -> None:
        super().__init__(reply)
        self.reply = reply


class Conversation(SMTP):
    """One connection: reads command lines, hands them to `_obey`, sends replies."""

    # aiosmtpd gives it to its StreamReader, which stops reading from the network at twice this.
    line_length_limit = READ // 2

    def __init__(self, terms: Terms, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            None, hostname=terms.domain, timeout=terms.timeout, tls_context=terms.tls, loop=loop
        )
        self._terms = terms
        self._admitted = False
        self.progress = Progress(loop.time())
        self._peer = ""
        self._core = Intake(terms.connect)
        self._pending = bytearray()  # read from the network, not yet looked at
        self._replies = bytearray()  # said, not yet sent
        self._errors = 0
        self._secured = False
        self._plain_writer: asyncio.StreamWriter | None = None
        self._linger: asyncio.TimerHandle | None = None

    @property
    @abstractmethod
    def _idle(self) -> bool:
        """Whether no transaction is under way."""

    @abstractmethod
    async def _obey(self, line: bytes) -> None:
        """Answer one command line (with its line end; raises HangUp)."""

    # ── the connection (asyncio.Protocol) ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the peer or say why not; its task starts in aiosmtpd."""
        address = transport.get_extra_info("peername") or ("",)
        self._peer = str(address[0])
        refusal = self._terms.connections.admit(self, origin_of(address), self.loop.time())
        if refusal:
            self.transport = transport
            self._farewell(f"421 4.3.2 {self._terms.domain} {refusal}")
            return
        self._admitted = True
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Feed the reader that is current: STARTTLS replaces it."""
        if self._admitted:
            self.progress.add(len(data), self.loop.time())
            self._reader.feed_data(data)

    def eof_received(self) -> bool:
        """Answer what was sent before the end; the loop ends when all of it is read."""
        if not self._admitted:
            return False
        self._reader.feed_eof()
        return not self._secured  # TLS knows no half-closed connection

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop whatever is under way: an unfinished message is dropped by its `with` block."""
        if self._linger is not None:
            self._linger.cancel()
        if self._admitted:
            self._terms.connections.release(self)
            # Not why: the StreamReaderProtocol would keep the error in a future that nobody awaits, and its
            # end as garbage would be reported. The reader finds the end of the stream.
            super().connection_lost(None)

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
            cast("asyncio.Transport", self.transport).abort()

    def _timeout_cb(self) -> None:
        self._farewell("421 4.4.2 Timeout exceeded")

    def _farewell(self, reply: str = "", linger: float = LINGER) -> None:
        """Send what is queued and a last reply, and close."""
        # Not every loop's transports are subclasses of asyncio's (uvloop).
        transport = cast("asyncio.Transport | None", self.transport)
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
            self._core.close()
            self._farewell(last)

    async def _converse(self) -> None:
        for _ in range(MAX_COMMANDS):
            line = await self._read_command()
            await self._obey(line)
            if self._errors >= MAX_ERRORS:
                log.warning("connection ended", why="too many errors")
                raise HangUp("421 4.7.0 Too many errors")
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
        if self._replies:
            self._writer.write(bytes(self._replies))
            self._replies.clear()
            await self._writer.drain()

    async def _receive(self, seconds: float) -> bytes:
        """The next bytes from the peer, after everything said was sent.

        Raises:
            HangUp: the peer has ended; on a timeout the timer closes the connection.
        """
        self.progress.held = False
        self._reset_timeout(max(seconds, 0.001))
        await self._flush()
        data = await self._reader.read(READ)
        if not data:
            raise HangUp
        return data

    async def _read_command(self) -> bytes:
        """One line with its end; of one that is too long for any command, the last piece."""
        deadline = self.loop.time() + self._terms.timeout
        while (end := self._pending.find(b"\n")) < 0:
            if len(self._pending) > MAX_ENVELOPE_COMMAND:
                # Only that it was too long has to be remembered.
                del self._pending[:-MAX_ENVELOPE_COMMAND]
            self._pending += await self._receive(deadline - self.loop.time())
        line = bytes(self._pending[: end + 1])
        del self._pending[: end + 1]
        return line

    def _hold_timer(self) -> None:
        """Stop the timers while the core works: the peer is then neither late nor slow."""
        self.progress.held = True
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        """Change to TLS after everything said was sent.

        Raises:
            HangUp, ssl.SSLError, ConnectionError: there was no handshake, and the connection is gone.
        """
        await self._flush()
        self._hold_timer()  # the handshake has its own
        self.progress.held = False
        transport = cast("asyncio.Transport", self.transport)
        # From here to the swap of the protocol nothing is awaited: every byte that came in clear is in the
        # old reader or in `_pending`, and both end here (CVE-2024-34083).
        self._pending.clear()
        self._reader = asyncio.StreamReader(limit=self.line_length_limit, loop=self.loop)
        try:
            secured = await self.loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except BaseException:
            # After a failed handshake asyncio does not call `connection_lost`.
            self._terms.connections.release(self)
            raise
        if secured is None:
            raise HangUp
        self._reader.set_transport(secured)
        self._plain_writer = self._writer  # one that is collected would close its transport
        self._writer = asyncio.StreamWriter(secured, self, self._reader, self.loop)
        self.transport = secured
        self._secured = True
