"""What the mail door answers: the commands of RFC 5321, with messages that are sealed as they arrive.

Promises:
- 250 after a message is sent only when the core has said that the message is durable.
- A message is stored exactly as received, after dot-unstuffing: no Received line, nothing normalised.
- Memory does not depend on the size of a message.
- A peer learns nothing it did not know: no VRFY, no EXPN, no version, no text of an exception.
- A password is read over TLS only, and goes to the core and nowhere else.

Leaves out: relaying; who may send what to whom, and who has logged in (the core answers that). BINARYMIME is
not offered: what takes mail apart later reads lines.

Rules:
1. aiosmtpd finds its commands by name, so that a typo is silently ignored. Here the verbs are a literal
   table, and nothing of aiosmtpd's own commands can be reached.
2. Commands end with CR LF and hold no other control character; for the end of a message see
   `gateway.doors.smtp.data_stream`. Lines of a message may have any length (RFC 5321, section 4.5.3.1: limits
   are to be avoided where possible); lines of commands may not.
3. A message that can't be taken is still read to its end, into nothing, before it is refused: a reply in
   the middle of DATA would be lost. With BDAT (RFC 3030) each chunk is read to its end and answered once;
   after a refusal the chunks that follow hear the same, until the last.
4. All recipients of one transaction belong to one client: a message is one document of one client. Others
   get 452, which makes the sender's server deliver to them separately (section 4.5.3.1.10).
5. BDAT and DATA are not mixed in one transaction, and nothing but BDAT, NOOP, RSET and the like comes between
   two chunks. A BDAT whose length can't be read ends the connection: what follows it can't be told from
   commands.
6. At the entrances for submission nothing is taken before a login (RFC 6409, section 4.3).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.doors.smtp import authentication
from gateway.doors.smtp.admission import MIN_RATE, RATE
from gateway.doors.smtp.connection import (
    MAX_COMMAND,
    MAX_ENVELOPE_COMMAND,
    Conversation,
    Entrance,
    HangUp,
    Terms,
    log,
)
from gateway.doors.smtp.data_stream import DataStream
from gateway.doors.smtp.envelope import (
    MAX_DOMAIN,
    Envelope,
    EnvelopeError,
    parse_mail,
    parse_recipient,
)
from gateway.doors.smtp.intake import LoginEnded
from gateway.doors.smtp.receiving import TOO_LARGE, Receiving, reply_for
from gateway.errors import GatewayError
from vault.errors import VaultError

MAX_RECIPIENTS: Final = 50
MAX_LOGINS: Final = 3  # wrong ones on a connection
SMALL_CHUNK: Final = 1024  # bytes: a chunk of fewer counts as a command

LOOKALIKE: Final = (
    "554 5.6.0 The message has a lone dot between line ends that are not CR LF, which servers read in"
    " different ways; send it with another program, or over SFTP"
)
BAD_SEQUENCE: Final = "503 5.5.1 Bad sequence of commands"
NO_ARGUMENT: Final = "501 5.5.4 No parameter expected"
MIXED: Final = "503 5.5.1 This message goes on with BDAT, or ends with RSET"
_CHUNK_COMMAND: Final = re.compile(rb"BDAT +[0-9]{1,20}(?: +LAST)? *\r\n", re.IGNORECASE)
CHUNK: Final = "501 5.5.4 Expected BDAT with a length in bytes, and LAST at the end"
NEEDS_TLS: Final = "530 5.7.0 Turn on encryption first (STARTTLS)"
NEEDS_LOGIN: Final = "530 5.7.0 Log in first: a user name and password are needed here"
LOGIN_NEEDS_TLS: Final = (
    "538 5.7.11 A password is taken over an encrypted connection only: turn on STARTTLS or SSL/TLS"
)
WRONG: Final = "535 5.7.8 The user name or password is wrong, or may not be used from here now"
LOGIN_ENDED: Final = "421 4.7.0 The login has ended; connect and log in again"


@dataclass
class _Transaction:
    """What was said since MAIL. `client` is whose intake all recipients are; `chunks`: BDAT has begun."""

    envelope: Envelope
    recipients: list[str] = field(default_factory=list)
    client: str = ""
    chunks: Receiving | None = None


class DoorSession(Conversation):
    """One connection."""

    def __init__(
        self,
        terms: Terms,
        loop: asyncio.AbstractEventLoop,
        entrance: Entrance = Entrance.MAIL,
    ) -> None:
        super().__init__(terms, loop, entrance)
        self._transaction: _Transaction | None = None
        self._greeted = False
        self._extended = False
        self._helo_name = ""
        self._logged_in = False
        self._wrong_logins = 0

    @property
    def _idle(self) -> bool:
        return self._transaction is None

    async def _obey(self, line: bytes) -> None:
        """Answer one command line (with its line end)."""
        if line[:4].upper() == b"BDAT" and not _CHUNK_COMMAND.fullmatch(line):
            raise HangUp(CHUNK)
        if not line.endswith(b"\r\n") or any(byte < 0x20 or byte == 0x7F for byte in line[:-2]):
            self._say("500 5.5.2 Lines end with CR LF and hold no other control character")
            return
        try:
            text = line[:-2].decode("utf-8")
        except UnicodeDecodeError:
            self._say("500 5.5.2 Expected ASCII, or UTF-8 where SMTPUTF8 allows it")
            return
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        if len(line) > self._longest(verb):
            self._say("500 5.5.2 Line too long")
            return
        act = _VERBS.get(verb)
        if act is None:
            self._say("500 5.5.1 Command not recognized")
            return
        try:
            await act(self, argument.strip(" "))
        except EnvelopeError as error:
            self._say(error.reply)

        except LoginEnded as error:
            raise HangUp(LOGIN_ENDED) from error

    def _longest(self, verb: str) -> int:
        """Octets that a command line may have."""
        if verb == "AUTH" and self._extended:
            return authentication.MAX_RESPONSE
        return MAX_ENVELOPE_COMMAND if verb in {"MAIL", "RCPT"} and self._extended else MAX_COMMAND

    async def _forget(self) -> None:
        """End the transaction; nothing unfinished of it is kept."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None and transaction.chunks is not None:
            self._hold_timer()
            try:
                await transaction.chunks.abandon()
            finally:
                transaction.chunks.close()

    def _drop(self) -> None:
        """The connection ends: the core drops what was not whole when its line closes."""
        if self._transaction is not None and self._transaction.chunks is not None:
            self._transaction.chunks.close()
        self._transaction = None

    def _patience(self, now: float) -> float:
        """Seconds that the next command may take; between chunks no longer than the message may."""
        timeout = self._terms.timeout
        chunks = None if self._transaction is None else self._transaction.chunks
        return timeout if chunks is None else chunks.patience(now, timeout)

    # ── commands ──

    async def _helo(self, argument: str) -> None:
        if not argument:
            self._say("501 5.5.4 Expected a host name")
            return
        await self._forget()
        self._greeted, self._extended = True, False
        self._helo_name = _bounded(argument)
        self._say(f"250 {self._terms.domain}")

    async def _ehlo(self, argument: str) -> None:
        if not argument:
            self._say("501 5.5.4 Expected a host name")
            return
        await self._forget()
        self._greeted, self._extended = True, True
        self._helo_name = _bounded(argument)
        lines = [
            self._terms.domain,
            f"SIZE {self._terms.limit}",
            "8BITMIME",
            "SMTPUTF8",
            "PIPELINING",
            "CHUNKING",
            "ENHANCEDSTATUSCODES",
        ]
        if self._terms.tls is not None and not self._secured:
            lines.append("STARTTLS")
        if self._entrance.submission and self._secured and not self._logged_in:
            lines.append(f"AUTH {' '.join(authentication.MECHANISMS)}")
        for line in lines[:-1]:
            self._say(f"250-{line}")
        self._say(f"250 {lines[-1]}")

    async def _mail(self, argument: str) -> None:
        if not self._greeted or self._transaction is not None:
            self._say(BAD_SEQUENCE)
            return
        if self._entrance.submission and not self._logged_in:
            self._say(NEEDS_LOGIN if self._secured else NEEDS_TLS)
            return
        envelope = parse_mail(argument, extended=self._extended)
        if envelope.size > self._terms.limit:
            self._say(TOO_LARGE)
            return
        if why := self._terms.rates.begin(self._peer, self.loop.time()):
            self._terms.connections.refuse(RATE, self.loop.time())
            self._say(why)
            return
        self._transaction = _Transaction(envelope)
        self._say("250 2.1.0 Sender noted")

    async def _rcpt(self, argument: str) -> None:
        transaction = self._transaction
        if transaction is None:
            self._say(BAD_SEQUENCE)
            return
        if transaction.chunks is not None:
            self._say(MIXED)
            return
        if len(transaction.recipients) >= MAX_RECIPIENTS:
            self._say("452 4.5.3 Too many recipients")
            return
        envelope = transaction.envelope
        recipient = parse_recipient(argument, utf8=envelope.utf8, extended=self._extended)
        self._hold_timer()
        try:
            answer = await self._core.recipient(
                self._peer, envelope.sender, recipient, envelope.size, self._helo_name
            )
        except LoginEnded:
            raise
        except GatewayError as error:
            self._say(reply_for(error))
            return
        if answer.client and transaction.client and answer.client != transaction.client:
            self._say("452 4.5.3 One client per message; send this one separately")
            return
        if answer.client:
            transaction.client = answer.client
            if recipient not in transaction.recipients:
                transaction.recipients.append(recipient)
        self._say(f"{answer.code} {answer.text}")

    async def _data(self, argument: str) -> None:
        transaction = self._transaction
        if transaction is None or not transaction.recipients:
            self._say(BAD_SEQUENCE)
            return
        if transaction.chunks is not None:
            self._say(MIXED)
            return
        if argument:
            self._say(NO_ARGUMENT)
            return
        message = await self._begin(transaction)
        if isinstance(message, str):
            self._transaction = None
            self._say(message)
            return
        self._say("354 End data with <CR><LF>.<CR><LF>")
        try:
            await self._take_text(message)
            reply = await self._finish(message)
        finally:
            message.close()
        self._transaction = None
        self._say(reply)
        await self._flush()

    async def _begin(self, transaction: _Transaction) -> Receiving | str:
        """Begin the message of a transaction; else the reply that refuses it."""
        self._hold_timer()
        try:
            incoming = await self._core.begin(
                self._peer,
                transaction.envelope.sender,
                transaction.recipients,
                self._helo_name,
            )
        except LoginEnded:
            raise
        except (GatewayError, VaultError) as error:
            return reply_for(error)
        return Receiving(incoming, self._terms.limit, self.loop.time(), self._hold_timer)

    async def _finish(self, message: Receiving) -> str:
        reply = await message.finish()
        self._terms.rates.took(self._peer, message.size, self.loop.time())
        if reply.startswith("250"):
            self.progress.acknowledged = True
        return reply

    async def _take_text(self, message: Receiving) -> None:
        """Receive what DATA announced, to its end (raises HangUp)."""
        stream = DataStream()
        data = bytes(self._pending)
        self._pending.clear()
        while True:
            text, rest = stream.feed(data)
            await message.take(text, LOOKALIKE if stream.lookalike else "")
            if rest is not None:
                self._pending += rest
                return
            data = await self._receive(message.patience(self.loop.time(), self._terms.timeout))

    async def _bdat(self, argument: str) -> None:
        """One chunk (RFC 3030, section 2): its bytes follow the command at once."""
        words = argument.split()
        length, last = int(words[0]), len(words) == 2
        transaction = self._transaction
        if transaction is None or not transaction.recipients:
            await self._skip(length)
            self._say(BAD_SEQUENCE)
            return
        if transaction.chunks is None:
            message = await self._begin(transaction)
            if isinstance(message, str):
                self._transaction = None
                await self._skip(length)
                self._say(message)
                return
            transaction.chunks = message
        message = transaction.chunks
        await self._take_chunk(message, length)
        if length >= SMALL_CHUNK:
            self._commands -= 1  # its bytes are counted
        if not last:
            self._say(message.refusal or f"250 2.0.0 {length} octets received")
            return
        try:
            reply = await self._finish(message)
        finally:
            message.close()
        self._transaction = None
        self._say(reply)
        await self._flush()

    async def _take_chunk(self, message: Receiving, length: int) -> None:
        """Receive a chunk to its end (raises HangUp)."""
        left = length
        while True:
            data = bytes(self._pending[:left])
            del self._pending[:left]
            left -= len(data)
            await message.take(data)
            if not left:
                return
            self._pending += await self._receive(
                message.patience(self.loop.time(), self._terms.timeout)
            )

    async def _skip(self, length: int) -> None:
        """Read a chunk that belongs to no message, into nothing (raises HangUp for one beyond all bounds)."""
        if length > 2 * self._terms.limit:
            raise HangUp(TOO_LARGE)
        began, left = self.loop.time(), length
        while True:
            taken = min(left, len(self._pending))
            del self._pending[:taken]
            left -= taken
            if not left:
                return
            spent = self.loop.time() - began
            timeout = self._terms.timeout
            self._pending += await self._receive(
                min(timeout, timeout + (length - left) / MIN_RATE - spent)
            )

    async def _rset(self, argument: str) -> None:
        if argument:
            self._say(NO_ARGUMENT)
            return
        await self._forget()
        self._say("250 2.0.0 Forgotten")

    async def _noop(self, _argument: str) -> None:
        self._say("250 2.0.0 OK")

    async def _quit(self, argument: str) -> None:
        if argument:
            self._say(NO_ARGUMENT)
            return
        raise HangUp("221 2.0.0 Bye")

    async def _vrfy(self, _argument: str) -> None:
        self._say("252 2.5.0 Send mail and see")

    async def _help(self, _argument: str) -> None:
        self._say("214 2.0.0 See RFC 5321")

    async def _not_implemented(self, _argument: str) -> None:
        self._say("502 5.5.1 Command not implemented")

    async def _starttls(self, argument: str) -> None:
        context = self._terms.tls
        if context is None:
            await self._not_implemented(argument)
            return
        if argument:
            self._say(NO_ARGUMENT)
            return
        if self._secured or self._transaction is not None:
            self._say(BAD_SEQUENCE)
            return
        self._say("220 2.0.0 Ready to start TLS")
        await self._start_tls(context)
        # RFC 3207, section 4.2: the peer begins again, and nothing said in clear counts.
        self._greeted, self._extended = False, False

    async def _auth(self, argument: str) -> None:
        """Log in (RFC 4954)."""
        if not self._entrance.submission:
            await self._not_implemented(argument)
            return
        if not self._secured:
            self._say(LOGIN_NEEDS_TLS)
            return
        if not self._extended or self._logged_in or self._transaction is not None:
            self._say(BAD_SEQUENCE)
            return
        mechanism, _, initial = argument.partition(" ")
        match mechanism.upper():
            case "PLAIN":
                user, password = authentication.plain(initial or await self._ask("334 "))
            case "LOGIN":
                given = initial or await self._ask(authentication.USERNAME)
                user = authentication.credential(authentication.decode(given))
                answer = await self._ask(authentication.PASSWORD)
                password = authentication.credential(authentication.decode(answer))
            case _:
                self._say(authentication.UNKNOWN)
                return
        self._hold_timer()
        try:
            granted = await self._core.authenticate(self._peer, user, password)
        except GatewayError as error:
            log.warning("login not looked at", error=type(error).__name__)
            self._say("454 4.7.0 The login can't be checked at the moment; try again later")
            return
        if granted:
            self._logged_in = True
            self._say("235 2.7.0 Logged in")
            return
        self._say(WRONG)
        self._wrong_logins += 1
        if self._wrong_logins >= MAX_LOGINS:
            raise HangUp("421 4.7.0 Too many wrong logins; check the user name and password")

    async def _ask(self, prompt: str) -> str:
        """The peer's next line, for a login (raises EnvelopeError, HangUp)."""
        self._say(prompt)
        line = await self._read_command()
        if not line.endswith(b"\r\n") or len(line) > authentication.MAX_RESPONSE:
            raise EnvelopeError(authentication.MALFORMED)
        return line[:-2].decode("ascii", "replace")


_VERBS: Final[Mapping[str, Callable[[DoorSession, str], Awaitable[None]]]] = {
    "HELO": DoorSession._helo,
    "EHLO": DoorSession._ehlo,
    "MAIL": DoorSession._mail,
    "RCPT": DoorSession._rcpt,
    "DATA": DoorSession._data,
    "BDAT": DoorSession._bdat,
    "RSET": DoorSession._rset,
    "NOOP": DoorSession._noop,
    "QUIT": DoorSession._quit,
    "VRFY": DoorSession._vrfy,
    "HELP": DoorSession._help,
    "STARTTLS": DoorSession._starttls,
    "EXPN": DoorSession._not_implemented,
    "AUTH": DoorSession._auth,
}


def _bounded(name: str) -> str:
    """What a peer calls itself, in at most as many octets as a domain has."""
    return name.encode()[:MAX_DOMAIN].decode("utf-8", "ignore")
