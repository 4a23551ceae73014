"""What the mail door answers: the commands of RFC 5321, and a DATA path that seals as bytes arrive.

Promises:
- 250 after DATA is sent only when the core has said that the message is durable.
- A message is stored exactly as received, after dot-unstuffing: no Received line, nothing normalised.
- Memory does not depend on the size of a message.
- A peer learns nothing it did not know: no VRFY, no EXPN, no version, no text of an exception.

Leaves out: AUTH, BDAT, relaying; who may send what to whom (the core answers that).

Rules:
1. aiosmtpd finds its commands by name, so that a typo is silently ignored. Here the verbs are a literal
   table, and nothing of aiosmtpd's own commands can be reached.
2. Commands end with CR LF and hold no other control character; for the end of a message see
   `gateway.doors.smtp.data_stream`. Lines of a message may have any length (RFC 5321, section 4.5.3.1: limits
   are to be avoided where possible); lines of commands may not.
3. A message that can't be taken is still read to its end, into nothing, before it is refused: a reply in
   the middle of DATA would be lost.
4. All recipients of one transaction belong to one client: a message is one document of one client. Others
   get 452, which makes the sender's server deliver to them separately (section 4.5.3.1.10).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.doors.smtp.admission import MIN_RATE
from gateway.doors.smtp.connection import (
    MAX_COMMAND,
    MAX_ENVELOPE_COMMAND,
    Conversation,
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
from gateway.doors.smtp.intake import Incoming
from gateway.errors import GatewayError, Refusal
from vault.errors import StorageFull, VaultError

MAX_RECIPIENTS: Final = 50

NOT_NOW: Final = "451 4.3.0 The message could not be stored; try again later"
FULL: Final = "452 4.3.1 No room for the message now; try again later"
# Without the numbers that clients see over SFTP: an envelope proves nobody's identity.
NO_ROOM: Final = "452 4.2.2 This client's room here is used up; nothing of the message was kept"
UNPROVEN: Final = (
    "550 5.7.26 Nothing in this message proves its sender; ask your accountant for another way"
)
TOO_LARGE: Final = "552 5.3.4 The message is larger than this server takes"
BARE: Final = (
    "554 5.6.0 The message has line ends that are not CR LF, which servers read in different ways; send it"
    " with another program, or over SFTP"
)
BAD_SEQUENCE: Final = "503 5.5.1 Bad sequence of commands"
NO_ARGUMENT: Final = "501 5.5.4 No parameter expected"


@dataclass
class _Transaction:
    """What was said since MAIL. `client` is whose intake all recipients are."""

    envelope: Envelope
    recipients: list[str] = field(default_factory=list)
    client: str = ""


class DoorSession(Conversation):
    """One connection."""

    def __init__(self, terms: Terms, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(terms, loop)
        self._transaction: _Transaction | None = None
        self._greeted = False
        self._extended = False
        self._helo_name = ""

    @property
    def _idle(self) -> bool:
        return self._transaction is None

    async def _obey(self, line: bytes) -> None:
        """Answer one command line (with its line end)."""
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
        envelope_command = verb in {"MAIL", "RCPT"} and self._extended
        if len(line) > (MAX_ENVELOPE_COMMAND if envelope_command else MAX_COMMAND):
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

    # ── commands ──

    async def _helo(self, argument: str) -> None:
        if not argument:
            self._say("501 5.5.4 Expected a host name")
            return
        self._transaction, self._greeted, self._extended = None, True, False
        self._helo_name = _bounded(argument)
        self._say(f"250 {self._terms.domain}")

    async def _ehlo(self, argument: str) -> None:
        if not argument:
            self._say("501 5.5.4 Expected a host name")
            return
        self._transaction, self._greeted, self._extended = None, True, True
        self._helo_name = _bounded(argument)
        lines = [
            self._terms.domain,
            f"SIZE {self._terms.limit}",
            "8BITMIME",
            "SMTPUTF8",
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
        ]
        if self._terms.tls is not None and not self._secured:
            lines.append("STARTTLS")
        for line in lines[:-1]:
            self._say(f"250-{line}")
        self._say(f"250 {lines[-1]}")

    async def _mail(self, argument: str) -> None:
        if not self._greeted or self._transaction is not None:
            self._say(BAD_SEQUENCE)
            return
        envelope = parse_mail(argument, extended=self._extended)
        if envelope.size > self._terms.limit:
            self._say(TOO_LARGE)
            return
        self._transaction = _Transaction(envelope)
        self._say("250 2.1.0 Sender noted")

    async def _rcpt(self, argument: str) -> None:
        transaction = self._transaction
        if transaction is None:
            self._say(BAD_SEQUENCE)
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
        except GatewayError as error:
            self._say(_reply_for(error))
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
        if argument:
            self._say(NO_ARGUMENT)
            return
        self._hold_timer()
        try:
            incoming = await self._core.begin(
                self._peer,
                transaction.envelope.sender,
                transaction.recipients,
                self._helo_name,
            )
        except (GatewayError, VaultError) as error:
            self._transaction = None
            self._say(_reply_for(error))
            return
        self._say("354 End data with <CR><LF>.<CR><LF>")
        with incoming:
            reply = await self._take(incoming)
        self._transaction = None
        self._say(reply)
        await self._flush()

    async def _take(self, incoming: Incoming) -> str:
        """Receive a message to its end; returns the reply to it (raises HangUp)."""
        limit, timeout = self._terms.limit, self._terms.timeout
        stream, size, refusal = DataStream(), 0, ""
        started = self.loop.time()
        data = bytes(self._pending)
        self._pending.clear()
        while True:
            # 1. Cut: what belongs to the message, and whether it ended.
            text, rest = stream.feed(data)
            size += len(text)
            # 2. Seal, or find the reason to refuse; what is refused leaves no bytes behind.
            if not refusal:
                refusal = self._seal(incoming, text, size, stream)
                if refusal:
                    self._hold_timer()
                    await incoming.abandon()
            if rest is not None:
                self._pending += rest
                break
            if size > 2 * limit:
                # Long refused, and sent on regardless: nobody waits for its end.
                raise HangUp(TOO_LARGE)
            # 3. The next bytes, within the timeout and not slower than the least rate.
            spent = self.loop.time() - started
            data = await self._receive(min(timeout, timeout + size / MIN_RATE - spent))
        if refusal:
            log.info("message refused", code=refusal[:3], size=size)
            return refusal
        # 4. COMMIT POINT: on return the message is durable, and only then the peer is told.
        self._hold_timer()
        try:
            stored = await incoming.commit()
        except (GatewayError, VaultError) as error:
            log.warning("message not stored", error=type(error).__name__)
            return _reply_for(error)
        self.progress.acknowledged = True
        log.info("message received", document=stored.document_id, size=size, again=stored.again)
        return f"250 2.0.0 {'Already stored' if stored.again else 'Stored'} as {stored.document_id}"

    def _seal(self, incoming: Incoming, text: bytes, size: int, stream: DataStream) -> str:
        """Seal the next bytes; returns "" or the reply that refuses the message."""
        if size > self._terms.limit:
            return TOO_LARGE
        if incoming.room is not None and size > incoming.room:
            return NO_ROOM
        if stream.bare:
            return BARE
        try:
            incoming.write(text)
        except VaultError as error:
            return _reply_for(error)
        return ""

    async def _rset(self, argument: str) -> None:
        if argument:
            self._say(NO_ARGUMENT)
            return
        self._transaction = None
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


_VERBS: Final[Mapping[str, Callable[[DoorSession, str], Awaitable[None]]]] = {
    "HELO": DoorSession._helo,
    "EHLO": DoorSession._ehlo,
    "MAIL": DoorSession._mail,
    "RCPT": DoorSession._rcpt,
    "DATA": DoorSession._data,
    "RSET": DoorSession._rset,
    "NOOP": DoorSession._noop,
    "QUIT": DoorSession._quit,
    "VRFY": DoorSession._vrfy,
    "HELP": DoorSession._help,
    "STARTTLS": DoorSession._starttls,
    "EXPN": DoorSession._not_implemented,
    "AUTH": DoorSession._not_implemented,
}


def _reply_for(error: GatewayError | VaultError) -> str:
    """The SMTP reply for a failure.

    All of them make the sender's server try again: what is short today, the disk or a quota, a person can
    give within the days that it tries, and then nothing was lost.
    """
    if isinstance(error, Refusal) and error.code == "unproven":
        return UNPROVEN
    if isinstance(error, Refusal) and error.code == "quota":
        return NO_ROOM
    full = isinstance(error, StorageFull) or (isinstance(error, Refusal) and error.code == "full")
    return FULL if full else NOT_NOW


def _bounded(name: str) -> str:
    """What a peer calls itself, in at most as many octets as a domain has."""
    return name.encode()[:MAX_DOMAIN].decode("utf-8", "ignore")
