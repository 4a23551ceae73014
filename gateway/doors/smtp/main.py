"""The mail door as a process: listen, serve, and stop without cutting off what is under way.

Promises: a port in use is said with the key that names it; SIGTERM stops accepting at once and lets
running transactions finish for `STOP_PATIENCE` seconds. One event loop serves all connections (uvloop if
it is installed); the door holds no key but those of the messages it is receiving. Before it reads a byte of
an unknown sender it enters its sandbox for good (`sandbox`); the core is reached through a helper outside it
(`broker`). A renewed certificate is taken while it serves (`certificate`).

Leaves out: ports below 1024 (a capability or a socket redirect, docs/operate.md), DKIM, SPF and DMARC.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from gateway.config import Config
from gateway.doors.smtp.admission import COMPLAINT, Connections
from gateway.doors.smtp.broker import READY, STOPPING, WELL, Broker, start
from gateway.doors.smtp.certificate import Certificate, CertificateError, Files
from gateway.doors.smtp.connection import Entrance, Terms
from gateway.doors.smtp.lines import Lines
from gateway.doors.smtp.rates import Rates
from gateway.doors.smtp.sandbox import restrict_process
from gateway.doors.smtp.session import DoorSession
from gateway.errors import Disconnected
from gateway.process import service
from gateway.process.listen import listen_tcp
from gateway.process.sandbox import forgo_rings
from gateway.process.sources import parse_networks

STOP_PATIENCE: Final = 10.0
RENEW_SECONDS: Final = 60.0  # between two looks at the certificate's files

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
    files = Files.of(config)
    certificate = Certificate.load(files)
    listeners = {
        entrance: listen_tcp(address, entrance.value) for entrance, address in _entrances(config)
    }
    broker = start(config.socket("smtp"), files)
    # Never closed: closing may take sockets that the sandbox denies (uvloop), and the process ends now.
    runner = asyncio.Runner(loop_factory=_loop_factory())
    runner.run(_serve(config, listeners, certificate, broker))


def _entrances(config: Config) -> list[tuple[Entrance, str]]:
    smtp = config.smtp
    found = [
        (Entrance.MAIL, smtp.listen),
        (Entrance.SUBMISSION, smtp.submission_listen),
        (Entrance.SUBMISSIONS, smtp.submissions_listen),
    ]
    return [(entrance, address) for entrance, address in found if address]


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
    config: Config,
    listeners: Mapping[Entrance, socket.socket],
    certificate: Certificate,
    broker: Broker,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    look = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, look.set)
    connections = Connections(config.smtp.max_connections)
    terms = Terms(
        domain=config.smtp.domain,
        limit=config.smtp.max_message_size,
        timeout=config.smtp.timeout,
        lines=Lines(broker.connect),
        connections=connections,
        rates=Rates(
            config.smtp.messages_per_minute,
            config.smtp.bytes_per_hour,
            parse_networks(config.smtp.rate_exempt),
        ),
        certificate=certificate,
    )
    servers = [
        await loop.create_server(
            functools.partial(DoorSession, terms, loop, entrance), sock=listener
        )
        for entrance, listener in listeners.items()
    ]
    report = restrict_process(config)  # from here on unknown senders are read from
    if report.missing:
        log.warning("the kernel lacks fences for the mail door", missing=report.missing)
    ends = [asyncio.create_task(event.wait()) for event in (stop, broker.lost)]
    rest = [
        *ends,
        asyncio.create_task(_watchdog(broker)),
        asyncio.create_task(_complain(connections)),
        asyncio.create_task(_renew(certificate, broker, look)),
    ]
    broker.notify(READY)
    for entrance, address in _entrances(config):
        tls = certificate.context is not None
        log.info("mail door listens", address=address, key=entrance.value, tls=tls)
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    broker.notify(STOPPING)
    log.info("mail door stops", connections=len(connections))
    for server in servers:
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


async def _renew(certificate: Certificate, broker: Broker, look: asyncio.Event) -> None:
    """Take a renewed certificate: looked for now and then, and at once on SIGHUP."""
    while certificate.context is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEW_SECONDS):
                await look.wait()
        look.clear()
        try:
            found = await broker.renewed()
        except Disconnected as error:
            log.error("certificate not renewed: the old one stays", why=str(error))
            continue
        if found is None:
            continue
        try:
            certificate.renew(*found)
        except CertificateError as error:
            log.error("certificate not renewed: the old one stays", why=str(error))
        else:
            log.info("certificate renewed")
        finally:
            for descriptor in found:
                os.close(descriptor)


async def _complain(connections: Connections) -> None:
    """Say what is left to say of refused connections once nobody is refused any more."""
    while True:
        await asyncio.sleep(COMPLAINT)
        connections.complain(asyncio.get_running_loop().time())


def _report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody caught by its type only: its text could quote what a sender wrote."""
    log.error("unforeseen failure", error=type(context.get("exception")).__name__)
