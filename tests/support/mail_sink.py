"""A relay that takes mail over loopback (aiosmtpd, with STARTTLS and a login), or does not, as it is told.

with MailSink(folder) as sink:                 # sink.section(): the keys of [relay]
    sink.rcpt = "550 5.1.1 No such user"       # what it answers from now on; "" is as usual
    sink.data = "hang" | "drop" | "451 4.3.0 Later"
    sink.mails                                 # what it took, or had when it dropped the connection
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email
import email.policy
import ipaddress
import ssl
import threading
from email.message import EmailMessage
from pathlib import Path
from typing import Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.gateway_process import free_ports

USER, PASSWORD = "gateway", "only-for-this-test"


def certificate(
    folder: Path, days: int = 30, begun: dt.datetime | None = None
) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.invalid")])
    begun = begun or dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + dt.timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    crt, pem = folder / "relay.crt", folder / "relay.pem"
    crt.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return crt, pem


class MailSink:
    """The relay; `mails` are parsed, `raw` are bytes, `recipients` the envelopes' of both."""

    def __init__(self, folder: Path, *, implicit: bool = False, plain: bool = False) -> None:
        """`implicit`: TLS from the first byte instead of STARTTLS; `plain`: none at all."""
        self.folder = folder
        self.rcpt = self.data = self.sender = ""
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.recipients: list[str] = []
        self.sessions: list[tuple[bool, bool]] = []  # of each mail: over TLS, logged in
        self.got = threading.Event()  # one has come, whatever was answered
        folder.mkdir(exist_ok=True)
        self.crt, pem = certificate(folder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.crt, pem)
        self.password = folder / "password"
        self.password.write_text(PASSWORD + "\n")
        self.password.chmod(0o600)
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=free_ports(1)[0],
            ssl_context=context if implicit else None,
            tls_context=None if implicit or plain else context,
            require_starttls=not (implicit or plain),
            auth_required=not plain,
            auth_require_tls=not (implicit or plain),
            authenticator=self._authenticate,
        )

    @property
    def port(self) -> int:
        return self._controller.port

    def section(self, **more: object) -> dict[str, object]:
        """The keys of `[relay]`."""
        return {
            "address": f"127.0.0.1:{self.port}",
            "tls_ca": str(self.crt),
            "user": USER,
            "credentials": str(self.password),
            "sender": "receipts@gateway.example",
            **more,
        }

    def toml(self, **more: object) -> str:
        """The section as text."""
        lines = []
        for key, value in self.section(**more).items():
            shown = str(value).lower() if isinstance(value, bool) else value
            lines.append(f"{key} = {shown if isinstance(value, bool | int) else repr(str(shown))}")
        return "\n[relay]\n" + "\n".join(lines) + "\n"

    def _authenticate(self, _server, _session, _envelope, _mechanism, data):
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False)

    async def handle_MAIL(  # noqa: N802  aiosmtpd's name
        self, server, _session, envelope, address, options
    ):
        if self.sender:
            return self.sender
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        del server
        return "250 OK"

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, _server, _session, envelope, address, _options
    ):
        if self.rcpt:
            return self.rcpt
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802  aiosmtpd's name
        self, server, session, envelope
    ):
        self.raw.append(envelope.content)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.recipients.extend(envelope.rcpt_tos)
        secure = server.transport.get_extra_info("sslcontext") is not None
        self.sessions.append((secure, bool(session.authenticated)))
        self.got.set()
        if self.data == "hang":
            await asyncio.sleep(600)
        if self.data == "drop":
            server.transport.abort()
            return "250 never said"
        return self.data or "250 2.0.0 Taken"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return part.get_content()


def html_of(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return part.get_content()
