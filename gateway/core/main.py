"""The core as a process: open the store, recover, listen, serve, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, cast

from gateway.config import Config
from gateway.core import schedule, steps
from gateway.core.core import Core, log, utc_now
from gateway.core.inspection.claims import InspectionQueue
from gateway.core.inspection.proving import Proving
from gateway.core.intake import partial
from gateway.core.keys import groups
from gateway.core.notices import follow
from gateway.core.opening import open_core
from gateway.core.outbound import keyring_copies
from gateway.core.outbound.backup import snapshot
from gateway.core.server import MOST, CoreServer
from gateway.core.sessions.admin import AdminSession
from gateway.core.sessions.base import Session
from gateway.core.sessions.courier import CourierSession
from gateway.core.sessions.inspector import InspectSession
from gateway.core.sessions.mailbox import MailboxSession
from gateway.core.sessions.resolver import ResolverSession
from gateway.core.sessions.sftp import SftpSession
from gateway.core.sessions.smtp import SmtpSession
from gateway.core.wings import Wings
from gateway.process import service
from gateway.process.listen import listen_unix
from gateway.wire.messages import Role
from vault.moments import stamp
from vault.storage.durable import make_directory

ROLES: Final[tuple[Role, ...]] = (
    "sftp",
    "smtp",
    "inspect",
    "courier",
    "resolver",
    "mailbox",
    "admin",
)


def run(config: Config, clock: Callable[[], datetime] = utc_now) -> None:
    """Run the core until SIGTERM or SIGINT.

    Raises:
        ConfigurationError, VaultError: it could not start, or the store failed for good.
    """
    service.configure_logging(config, "core")
    service.forbid_core_dumps()
    if config.log.level == "debug":
        steps.observers.append(lambda name, phase: log.debug("step", step=name, phase=phase))
    core = open_core(config, clock)
    wings = Wings.around(core)
    try:
        # One that was cut can be looked at by the command line; nobody is served with it.
        core.store.catalogue.ledger.expect_whole()
        asyncio.run(_serve(wings))
    finally:
        wings.close()
        core.close()


async def _serve(wings: Wings) -> None:
    core = wings.core
    config = core.config
    # 1. Put right what a crash left, with the code of the forward path, before anyone is served.
    now = core.now()
    recovered = await asyncio.to_thread(core.store.recover, now)
    for line in recovered:
        log.warning("recovered", what=line)
    if recovered:
        # Perhaps a keyring was ended: backups must hear of it, and hear nothing wrong otherwise.
        await core.write(lambda tx: groups.notify_backups(core, tx, [], now))
    await asyncio.to_thread(keyring_copies.prepare, core)
    await asyncio.to_thread(partial.sweep, core)
    await asyncio.to_thread(snapshot.sweep, core)
    if core.store.changed_at_rest is not None:
        log.critical("the catalogue changed while it was closed", what=core.store.changed_at_rest)
        await core.write(lambda tx: core.record(tx, "store.changed-at-rest", "store", "core", now))
    if core.clock.moved is not None:
        hours = round(core.clock.moved.total_seconds() / 3600, 1)
        log.warning("the clock went another way than the machine since the last run", hours=hours)
    await follow.prepare(wings.notices)
    store_id = core.store.origin.rpartition("/")[2]
    await core.write(lambda tx: core.record(tx, "core.started", store_id, "core", now))

    # 2. Sockets: systemd's, or our own.
    given = service.inherited_sockets()
    listeners = {role: given[role] for role in ROLES if role in given}
    if not listeners:
        make_directory(config.resolve(config.sockets.directory))
        listeners = {role: listen_unix(config.socket(role)) for role in ROLES}

    # 3. Sessions.
    await asyncio.to_thread(wings.logins.load)  # before anyone calls
    inspection = InspectionQueue(wings.intake)
    proving = Proving(wings.intake, inspection)
    factories: dict[Role, Callable[[], Session]] = {
        "sftp": lambda: SftpSession(wings.intake, wings.logins),
        "smtp": lambda: SmtpSession(wings.intake, proving, wings.logins),
        "inspect": lambda: InspectSession(wings.intake, inspection),
        "courier": lambda: CourierSession(wings.outbound),
        "mailbox": lambda: MailboxSession(wings.intake, proving),
        "resolver": lambda: ResolverSession(wings.core, wings.intake.questions),
        "admin": lambda: AdminSession(wings, inspection),
    }
    most = MOST | {
        "inspect": max(MOST["inspect"], 2 * config.inspect.workers),
        "sftp": 2 * config.sftp.max_connections + 16,
        "smtp": 2 * config.smtp.max_connections + 16,
    }
    server = CoreServer(listeners, factories, own_sockets=not given, most=most)

    # 4. Serve and tick; the first ticks finish destructions that a crash interrupted.
    scheduler = schedule.start(wings, inspection)
    serving = asyncio.create_task(server.serve())
    judging = asyncio.create_task(proving.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    watchdog = asyncio.create_task(_watchdog(core))
    service.ready()
    log.info("core serves", store=str(core.store.path), since=stamp(now))
    try:
        await serving
    except asyncio.CancelledError:
        log.info("core stops")
    finally:
        service.notify("STOPPING=1")
        scheduler.shutdown(wait=False)
        watchdog.cancel()
        judging.cancel()
        with contextlib.suppress(Exception):
            await wings.logins.records.flush(core, core.clock.steady(), last=True)
            await asyncio.to_thread(core.clock.keep, core.now())
            await schedule.checkpoint(wings)
        for listener in listeners.values():
            listener.close()
        if not given:
            for role in ROLES:
                with contextlib.suppress(OSError):
                    config.socket(role).unlink()


async def _watchdog(core: Core) -> None:
    """Tell the supervisor that loop, writing thread and catalogue are alive."""
    interval = service.watchdog_interval()
    if interval is None:
        return
    while True:
        await core.write(cast("Any", lambda tx: tx.ledger.size))
        service.notify("WATCHDOG=1")
        await asyncio.sleep(interval)
