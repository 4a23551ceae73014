"""Handing a finished mail to the relay of the configuration (`[relay]`), one connection a mail.

Promises: nothing is said to a relay before TLS where TLS is configured, and its certificate must be right for
its name; the password and the DKIM key are read from files that nobody else may read, and go no further. A
mail was taken only if the relay said 250 after its last line. How it was not is told apart: `MailRefused`,
for good and for this recipient or mail; `MailDeferred`, for now and for this one; anything else is the
relay's failure (`PlaceError`) and goes for all. What a relay says is cut down to ASCII without any address in
it.

Leaves out: what a mail says (the core), and trying again (the core's outbox).

Sources: RFC 5321 (replies), RFC 3463 (their codes), RFC 6376 (DKIM).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import aiosmtplib
import dkim

from gateway.config import RelaySection, parse_listen
from gateway.process.secret import read_secret
from gateway.wire.messages import Letter
from vault.errors import PlaceError, VaultError

TIMEOUT: Final = 60.0  # seconds for each answer of the relay
AFTER_DATA: Final = (
    200.0  # for the one after the last line (RFC 5321, 4.5.3.2.6 asks for more; the core waits 300)
)
_DETAIL: Final = 160
_ADDRESS: Final = re.compile(r"\S*@\S*")
_SIGNED: Final = (
    b"from", b"to", b"subject", b"date", b"message-id", b"reply-to", b"in-reply-to", b"references",
    b"mime-version", b"content-type", b"auto-submitted",
)  # fmt: skip


class MailRefused(VaultError):
    """The relay refused this mail for good."""


class MailDeferred(VaultError):
    """The relay can't take this mail now; others it may."""


def send(relay: RelaySection, resolve: Callable[[str], Path], letter: Letter) -> None:
    """Hand a mail to the relay; it has it on return.

    Raises:
        MailRefused, MailDeferred: this mail was. PlaceError: the relay failed, or can't be used as
        configured.
    """
    content = _signed(relay, resolve, letter.content)

    async def run() -> None:
        # Names are looked up on a thread of its own: one is enough.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        await _send(relay, resolve, letter, content)

    asyncio.run(run())


def _signed(relay: RelaySection, resolve: Callable[[str], Path], content: bytes) -> bytes:
    if not relay.dkim_key:
        return content
    key = read_secret(resolve(relay.dkim_key)).encode()
    try:
        signature: bytes = dkim.sign(
            content,
            relay.dkim_selector.encode("ascii"),
            relay.dkim_domain.encode("ascii"),
            key,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=[name for name in _SIGNED if _has(content, name)],
        )
    except Exception as error:  # noqa: BLE001  its parsers raise anything; the text could hold the key
        raise PlaceError(
            f"relay: expected a key to sign mail with in {relay.dkim_key}, found one that does not"
            f" ({type(error).__name__})"
        ) from None
    return signature + content


def _has(content: bytes, name: bytes) -> bool:
    head = content.partition(b"\r\n\r\n")[0].lower()
    return head.startswith(name + b":") or b"\r\n" + name + b":" in head


async def _send(
    relay: RelaySection, resolve: Callable[[str], Path], letter: Letter, content: bytes
) -> None:
    host, port = parse_listen(relay.address, "key address")
    client = aiosmtplib.SMTP(
        hostname=host,
        port=port,
        timeout=TIMEOUT,
        use_tls=relay.tls == "implicit",
        start_tls=relay.tls == "starttls",
        tls_context=None if relay.tls == "none" else _context(relay, resolve),
    )
    try:
        await _converse(client, relay, resolve, letter, content)
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise PlaceError(f"relay: {_in_words(error, letter)}") from error
    finally:
        client.close()


async def _converse(
    client: aiosmtplib.SMTP,
    relay: RelaySection,
    resolve: Callable[[str], Path],
    letter: Letter,
    content: bytes,
) -> None:
    await client.connect()
    if relay.user:
        await client.login(relay.user, read_secret(resolve(relay.credentials)).rstrip("\r\n"))
    await client.mail(letter.sender, encoding="ascii")
    try:
        await client.rcpt(letter.recipient, encoding="ascii")
        await client.data(content, timeout=AFTER_DATA)
    except aiosmtplib.SMTPResponseException as error:
        if error.code == 421:  # it closes: for all
            raise
        kind = MailRefused if 500 <= error.code < 600 else MailDeferred
        raise kind(f"relay: {_in_words(error, letter)}") from error
    # COMMIT POINT: it has the mail. Whatever goes wrong with the farewell changes nothing.
    try:
        await client.quit(timeout=5.0)
    except (aiosmtplib.SMTPException, OSError):
        return


def _context(relay: RelaySection, resolve: Callable[[str], Path]) -> ssl.SSLContext:
    """TLS as the system has it, or with the one authority that is configured (raises PlaceError)."""
    return tls_context(relay.tls_ca and str(resolve(relay.tls_ca)), "relay")


def tls_context(authority: str, subject: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, that checks certificate and name (raises PlaceError)."""
    try:
        context = ssl.create_default_context(cafile=authority or None)
    except (OSError, ssl.SSLError) as error:
        raise PlaceError(
            f"{subject}: expected certificates in {authority}, found none that can be read"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _in_words(error: Exception, letter: Letter) -> str:
    """What went wrong, without an address in it: it is stored, and shown to whoever asks for the state."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = error.message.replace(letter.recipient, "").replace(
            letter.recipient.partition("@")[0], ""
        )
        text = re.sub(r"[^ -~]+", " ", _ADDRESS.sub("", text))
        return f"expected 250, found {error.code} {' '.join(text.split())[:_DETAIL]}".rstrip()
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"expected a certificate that is right for its name, found {error.verify_message}"
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(
        error.__cause__, ssl.SSLCertVerificationError
    ):
        return _in_words(error.__cause__, letter)
    if isinstance(error, TimeoutError):
        return "expected an answer in time, found none"
    if isinstance(error, OSError) and error.strerror:
        return f"expected it to answer, found {error.strerror}"
    return f"expected it to take a mail, found {type(error).__name__}"
