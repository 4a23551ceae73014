"""The courier: the one role that brings things elsewhere: sealed things, and finished messages.

Promises: it claims transfers from the core, several at once, and does each at a place of the configuration: a
folder, an SFTP host, an S3 bucket (`gateway.courier.transfers`), the relay (`relay`), a webhook (`webhooks`).
What fails is reported. The courier keeps nothing but, while it runs, the ids of messages that were taken.
Leaves out: whether something is tried again: the core says.
"""

from __future__ import annotations

import signal
import threading

import structlog

from gateway.config import Config
from gateway.courier import transfers
from gateway.process import service

log = structlog.get_logger("courier")


def run(config: Config) -> None:
    """Do transfers until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: a section names no place.
    """
    transfers.Places(config).expect_right()
    service.configure_logging(config, "courier")
    service.forbid_core_dumps()
    stop = threading.Event()

    def ask_to_stop(*_: object) -> None:
        stop.set()
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    service.ready()
    try:
        transfers.serve(config, stop)
    except KeyboardInterrupt:
        log.info("courier stops")
