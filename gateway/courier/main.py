"""The courier: the one role that carries things elsewhere, sealed things only.

It claims errands from the core and writes sealed keyring files to the registered directories
(`[[keyring.copies]]`), durably: temporary file, sync, rename, sync of the folder. A copy is read back and
compared before it is reported. What fails is reported and comes again; the courier keeps nothing.
"""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path
from typing import Final

import structlog

from gateway import service
from gateway.config import Config
from gateway.errors import Disconnected, GatewayError
from gateway.wire.channel import Channel
from gateway.wire.messages import ClaimErrand, Errand, ErrandReport
from vault.durable import remove_durably, write_durably
from vault.errors import VaultError

RECONNECT_SECONDS: Final = 1.0
_NAME: Final = re.compile(r"[0-9A-Za-z_-]{1,64}\.keyring")

log = structlog.get_logger("courier")


def run(config: Config) -> None:
    """Carry errands until SIGTERM or SIGINT."""
    service.configure_logging(config, "courier")
    service.forbid_core_dumps()
    stop = threading.Event()
    current: list[Channel] = []

    def ask_to_stop(*_: object) -> None:
        stop.set()
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    targets = {copy.name: config.resolve(copy.directory) for copy in config.keyring.copies}
    service.ready()
    try:
        while not stop.is_set():
            try:
                channel = Channel.connect(config.socket("courier"))
                current[:] = [channel]
                _carry(channel, targets)
            except Disconnected:
                stop.wait(RECONNECT_SECONDS)
            except GatewayError as error:
                log.error("errand failed", error=str(error))
                stop.wait(RECONNECT_SECONDS)
            finally:
                for channel in current:
                    channel.close()
                current.clear()
    except KeyboardInterrupt:
        log.info("courier stops")


def _carry(channel: Channel, targets: dict[str, Path]) -> None:
    """Serve errands on one connection until it ends."""
    while True:
        service.notify("WATCHDOG=1")
        errand, _ = channel.call(ClaimErrand())
        if not isinstance(errand, Errand):
            continue
        try:
            deliver(errand, targets)
        except (VaultError, OSError) as error:
            detail = str(error) if isinstance(error, VaultError) else str(error.strerror)
            channel.call(ErrandReport(errand.errand_id, False, f"{errand.target}: {detail}"[:200]))
        else:
            channel.call(ErrandReport(errand.errand_id, True))


def deliver(errand: Errand, targets: dict[str, Path]) -> None:
    """Write or remove one copy, and see that it is so (raises VaultError, OSError)."""
    folder = targets.get(errand.target)
    if folder is None:
        raise VaultError(f"target {errand.target}: expected one of the configuration, found none")
    if not _NAME.fullmatch(errand.name):
        raise VaultError(f"copy {errand.name}: expected the name of a keyring file, found another")
    path = folder / errand.name
    if errand.content is None:
        remove_durably(path)
        return
    write_durably(path, errand.content)
    if path.read_bytes() != errand.content:
        raise VaultError(f"copy {path}: expected the bytes just written, found others")
