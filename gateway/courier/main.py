"""The courier: the one role that carries things elsewhere, sealed things only.

It claims errands from the core and delivers sealed keyring files to the registered places
(`[[keyring.copies]]`): folders, SFTP hosts, S3 buckets. A copy is read back before it is reported. What
fails is reported and comes again; the courier keeps nothing, and lets go of connections when there is nothing
to carry. Backups go beside that, in threads of their own (`backup`).
"""

from __future__ import annotations

import re
import signal
import threading
from typing import Final

import structlog

from gateway.config import Config
from gateway.courier import keyring_copies, transfers
from gateway.courier.places.open import open_place
from gateway.errors import Disconnected, GatewayError
from gateway.process import service
from gateway.wire.channel import Channel
from gateway.wire.messages import ClaimErrand, Errand, ErrandReport
from vault.errors import VaultError
from vault.storage.places import Place

RECONNECT_SECONDS: Final = 1.0
_OWNER: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_-]{0,63}")
_DETAIL: Final = 300

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
    places = {
        section.name: open_place(section, config.resolve) for section in config.keyring.copies
    }
    transfers.serve(config, stop)
    service.ready()
    try:
        while not stop.is_set():
            try:
                channel = Channel.connect(config.socket("courier"))
                current[:] = [channel]
                _carry(channel, places)
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


def _carry(channel: Channel, places: dict[str, Place]) -> None:
    """Serve errands on one connection until it ends."""
    while True:
        service.notify("WATCHDOG=1")
        errand, _ = channel.call(ClaimErrand())
        if isinstance(errand, Errand):
            channel.call(attempt(errand, places))
            continue
        for place in places.values():
            place.close()  # a connection that idles is one that breaks unseen


def attempt(errand: Errand, places: dict[str, Place]) -> ErrandReport:
    """Deliver one errand; every failure is in the report."""
    try:
        place = places.get(errand.target)
        if place is None:
            raise VaultError(
                f"target {errand.target}: expected one of the configuration, found none"
            )
        if not _OWNER.fullmatch(errand.owner):
            raise VaultError("errand: expected the owner of a keyring, found another name")
        return keyring_copies.deliver(errand, place)
    except (VaultError, OSError) as error:
        detail = str(error) if isinstance(error, VaultError) else str(error.strerror)
        return ErrandReport(errand.errand_id, False, f"{errand.target}: {detail}"[:_DETAIL])
