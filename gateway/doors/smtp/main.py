"""The mail door as a process: listen, serve, and stop without cutting off what is under way.

Promises: a port in use is said with the key that names it; SIGTERM stops accepting at once and lets
running transactions finish for `STOP_PATIENCE` seconds. One event loop serves all connections (uvloop if
it is installed); the door holds no key but those of the messages it is receiving. Before it reads a byte of
an unknown sender it enters its sandbox for good (`sandbox`); the core is reached through a helper outside it
(`broker`).

Leaves out: ports below 1024 (a capability or a socket redirect, docs/operate.md), DKIM, SPF and DMARC.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.config import Config
from gateway.doors.smtp.admission import COMPLAINT, Connections
from gateway.doors.smtp.broker import READY, STOPPING, WELL, Broker, start
from gateway.doors.smtp.connection import Terms
from gateway.doors.smtp.lines import Lines
from gateway.doors.smtp.sandbox import restrict_process
from gateway.doors.smtp.session import DoorSession
from gateway.errors import ConfigurationError, Disconnected
from gateway.process import service
from gateway.process.listen import listen_tcp
from gateway.process.sandbox import forgo_rings

STOP_PATIENCE: Final = 10.0

log = structlog.get_logger("smtp")


def run(config: Config) -> None:
    """Accept connections until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: it can't be served so.
        SandboxError: its sandbox can't be set up.
        Disconnected: it has lost its broker, and must start anew.
    """
    service.configure_logging(config, "smtp")
    service.forbid_core_dumps()
    # aiosmtpd logs whole commands, with addresses.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)
    context = tls_context(config)
    listener = listen_tcp(config.smtp.listen, "smtp.listen")
    broker = start(config.socket("smtp"))
    # Never closed: closing may take sockets that the sandbox denies (uvloop), and the process ends now.
    runner = asyncio.Runner(loop_factory=_loop_factory())
    runner.run(_serve(config, listener, context, broker))


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The TLS side of STARTTLS, or None without a certificate.

    TLS 1.2 at least (RFC 8996); no client certificate is asked for.

    Raises:
        ConfigurationError: certificate or key can't be read, or they do not fit each other.
    """
    if not config.smtp.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate = config.resolve(config.smtp.tls_certificate)
    try:
        context.load_cert_chain(certificate, config.resolve(config.smtp.tls_key))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"smtp.tls_certificate: expected a certificate chain at {certificate} and its key,"
            f" found {error.strerror or type(error).__name__}"
        ) from error
    return context


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, or None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    forgo_rings()  # libuv would build on one
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(
    config: Config, listener: socket.socket, tls: ssl.SSLContext | None, broker: Broker
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connections = Connections(config.smtp.max_connections)
    terms = Terms(
        domain=config.smtp.domain,
        limit=config.smtp.max_message_size,
        timeout=config.smtp.timeout,
        lines=Lines(broker.connect),
        connections=connections,
        tls=tls,
    )
    server = await loop.create_server(lambda: DoorSession(terms, loop), sock=listener)
    report = restrict_process(config)  # from here on unknown senders are read from
    if report.missing:
        log.warning("the kernel lacks fences for the mail door", missing=report.missing)
    ends = [asyncio.create_task(event.wait()) for event in (stop, broker.lost)]
    rest = [
        *ends,
        asyncio.create_task(_watchdog(broker)),
        asyncio.create_task(_complain(connections)),
    ]
    broker.notify(READY)
    log.info("mail door listens", address=config.smtp.listen, tls=tls is not None)
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    broker.notify(STOPPING)
    log.info("mail door stops", connections=len(connections))
    server.close()
    await connections.close(STOP_PATIENCE)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    if broker.lost.is_set():
        raise Disconnected("mail door: its broker is gone; it must start anew")


async def _watchdog(broker: Broker) -> None:
    """Tell the supervisor that the loop turns."""
    interval = service.watchdog_interval()
    while interval is not None:
        broker.notify(WELL)
        await asyncio.sleep(interval)


async def _complain(connections: Connections) -> None:
    """Say what is left to say of refused connections once nobody is refused any more."""
    while True:
        await asyncio.sleep(COMPLAINT)
        connections.complain(asyncio.get_running_loop().time())


def _report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody caught by its type only: its text could quote what a sender wrote."""
    log.error("unforeseen failure", error=type(context.get("exception")).__name__)
