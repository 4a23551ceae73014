"""The mailbox door as a process: a thread for each mailbox, in one sandbox.

Promises: passwords and certificate authorities are read before the sandbox is entered; after that the
process reads what the name service of the system needs, and nothing else of the file system. Where the
kernel can tell, it connects by TCP to the ports of the configured mailboxes and of DNS only. A mailbox that
fails keeps no other waiting, and is tried again with growing pauses.
"""

from __future__ import annotations

import signal
import ssl
import threading
from pathlib import Path
from typing import Final

import structlog

from gateway.config import Config
from gateway.config.sections import MailboxSection
from gateway.doors.mailbox.fetch import RETRIED, Fetcher, Settings, fault_of
from gateway.errors import ConfigurationError, GatewayError
from gateway.process import service
from gateway.process.sandbox import (
    MIB,
    UNLIMITED,
    SandboxLimits,
    enter_sandbox,
    file_limit,
    readable_folders,
)
from gateway.process.secret import read_secret
from gateway.wire.channel import Channel
from gateway.wire.messages import MailboxReport
from vault.crypto.sealed import sealed_size
from vault.errors import PlaceError, VaultError

MEMORY: Final = 512 * MIB
CALLS: Final = frozenset({"socket", "connect", "bind", "socketpair"})
FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 600.0
_DNS: Final = 53
# What getaddrinfo reads (nsswitch.conf(5), resolver(5)).
_NAMES: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf",
                 "/run/systemd/resolve")  # fmt: skip

log = structlog.get_logger("mailbox")


def run(config: Config) -> None:
    """Watch the mailboxes of the configuration until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: there are none, or a password or certificate authority can't be read.
        SandboxError: a layer that the kernel offers could not be set.
    """
    if not config.mailbox:
        raise ConfigurationError(
            f"{config.source}: key mailbox: expected at least one [[mailbox]], found none"
        )
    service.configure_logging(config, "mailbox")
    service.forbid_core_dumps()
    settings = [_settings(config, section) for section in config.mailbox]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    report = enter_sandbox(
        SandboxLimits(
            MEMORY, UNLIMITED, file_limit(sealed_size(config.smtp.max_message_size)),
            64 + 8 * len(settings),
        ),
        None,
        readable=[*readable_folders(), *(Path(name) for name in _NAMES if Path(name).exists())],
        calls=CALLS,
        tcp_ports=sorted({_DNS, *(each.section.server[1] for each in settings)}),
    )  # fmt: skip
    if report.missing:
        log.warning("sandbox incomplete", missing=report.missing)
    threads = [
        threading.Thread(
            target=_watch, args=(each, config.socket("mailbox"), stop), name=each.section.name
        )
        for each in settings
    ]
    for thread in threads:
        thread.start()
    service.ready()
    interval = service.watchdog_interval() or 10.0
    while not stop.wait(interval):
        if all(thread.is_alive() for thread in threads):
            service.notify("WATCHDOG=1")
    log.info("mailbox door stops")
    service.notify("STOPPING=1")
    for thread in threads:
        thread.join()


def _watch(settings: Settings, path: Path, stop: threading.Event) -> None:
    """Watch one mailbox; connect anew, to it and to the core, as often as it takes."""
    name = settings.section.name
    pause = FIRST_PAUSE
    while not stop.is_set():
        core: Channel | None = None
        try:
            core = Channel.connect(path)
            fetcher = Fetcher(settings, core, stop)
            try:
                fetcher.watch()
            finally:
                if fetcher.looked:
                    pause = FIRST_PAUSE
        except RETRIED as error:
            log.warning("mailbox not looked into", mailbox=name, error=type(error).__name__)
            _tell(path, name, fault_of(error))
        except Exception as error:  # noqa: BLE001  what a server answers comes from outside
            log.error("mailbox failed", mailbox=name, error=type(error).__name__)
            _tell(path, name, fault_of(error))
        finally:
            if core is not None:
                core.close()
        if stop.wait(pause):
            return
        pause = min(pause * 2, LONGEST_PAUSE)


def _tell(path: Path, name: str, fault: str) -> None:
    """Tell the core why a mailbox could not be looked into; it may be the core that is away."""
    try:
        channel = Channel.connect(path, timeout=5.0)
    except GatewayError:
        return
    try:
        channel.call(MailboxReport(name, fault))
    except (GatewayError, VaultError):
        return
    finally:
        channel.close()


def _settings(config: Config, section: MailboxSection) -> Settings:
    """What a mailbox takes that has to be read before the sandbox (raises ConfigurationError)."""
    context: ssl.SSLContext | None = None
    if section.tls != "none":
        authorities = str(config.resolve(section.authorities)) if section.authorities else None
        try:
            context = ssl.create_default_context(cafile=authorities)
        except OSError as error:
            raise ConfigurationError(
                f"mailbox {section.name}: expected certificates at {authorities}, found {error.strerror}"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        password = read_secret(config.resolve(section.password)).strip("\r\n")
    except PlaceError as error:
        raise ConfigurationError(f"mailbox {section.name}: {error}") from error
    return Settings(section, password, context, config.smtp.max_message_size)
