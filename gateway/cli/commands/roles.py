"""The roles as processes: `run`, `core`, `sftp`, `smtp`, `inspect`, `courier`, `resolver`, `mailbox`.

Promises: a role is imported when it is asked for, so that a door never loads the core, nor the core a
parser. `STRONGROOM_SUPERVISED` (set by `strongroom run`) ends a role together with its supervisor.
Leaves out: what a role does (`gateway.core`, `gateway.doors`, `gateway.inspect`, `gateway.courier`,
`gateway.resolver`).
"""

from __future__ import annotations

import os
from pathlib import Path

import typer

from gateway.cli.support import output
from gateway.cli.support.options import ConfigPath
from gateway.config import Config, load
from gateway.errors import ConfigurationError
from gateway.install import tour
from gateway.process import service
from vault.errors import KeyUnavailable


def _start(config_path: Path | None) -> Config:
    config = load(config_path)
    if os.environ.get("STRONGROOM_SUPERVISED"):
        service.die_with_parent()
        if os.environ["STRONGROOM_SUPERVISED"] != str(os.getppid()):
            raise typer.Exit(0)  # it died before we asked to be told
    return config


def run(config: ConfigPath = None) -> None:
    """Run everything in the foreground until Ctrl-C or SIGTERM."""
    from gateway.process.supervisor import Supervisor

    loaded = load(config)

    def on_ready() -> None:
        output.say(
            f"Strongroom serves: SFTP on {loaded.sftp.listen}, e-mail on {loaded.smtp.listen}"
            f" for {loaded.smtp.domain}. Ctrl-C stops it."
        )
        for line in tour.lines(loaded):
            output.say(line)
        output.write_text("")  # through a pipe, too, it should be seen now

    used = {"resolver": loaded.resolver.addresses, "mailbox": loaded.mailbox}
    without = [role for role, wanted in used.items() if not wanted]
    supervisor = Supervisor(loaded.source.absolute(), output.error, without=without)
    raise typer.Exit(supervisor.run(on_ready))


def core(config: ConfigPath = None) -> None:
    """Run the core: keys, catalogue, ledger, jobs."""
    from gateway.core import main

    try:
        main.run(_start(config))
    except KeyUnavailable as error:
        raise ConfigurationError(str(error)) from error


def sftp(config: ConfigPath = None) -> None:
    """Run the SFTP door."""
    from gateway.doors.sftp import listener

    listener.run(_start(config))


def smtp(config: ConfigPath = None) -> None:
    """Run the e-mail door."""
    from gateway.doors.smtp import main

    main.run(_start(config))


def inspect(config: ConfigPath = None) -> None:
    """Run the inspectors."""
    from gateway.inspect import pool

    loaded = _start(config)
    section = loaded.inspect
    service.configure_logging(loaded, "inspect")
    service.forbid_core_dumps()
    pool.run(
        section,
        loaded.socket("inspect"),
        yara_rules=loaded.resolve(section.yara_rules) if section.yara_rules else None,
        ready=service.ready,
    )


def courier(config: ConfigPath = None) -> None:
    """Run the courier: sealed copies to other places."""
    from gateway.courier import main

    main.run(_start(config))


def resolver(config: ConfigPath = None) -> None:
    """Run the resolver: what domains publish about their mail."""
    from gateway.resolver import main

    main.run(_start(config))


def mailbox(config: ConfigPath = None) -> None:
    """Run the mailbox door: fetch mail from mailboxes elsewhere."""
    from gateway.doors.mailbox import main

    main.run(_start(config))
