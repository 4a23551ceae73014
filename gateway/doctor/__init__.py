"""Findings about an installation: what is missing or weak, and how to repair it.

Here: what is looked at, one module a room (host, store, keys, places, doors, senders), and
their findings in one list.
Not here: printing (`gateway.cli.commands.doctor`); the store's own consistency (`strongroom check`) and the
ledger's (`strongroom ledger verify`).

Rules:
    - It changes nothing, and works whether the core runs or not.
    - One check that can't be made does not hide the others.

Usage:
    >>> [(each.level, each.subject) for each in examine(config, now, at_console)]
    [('weak', 'keyring copies'), ('note', 'core')]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from gateway.config import Config
from gateway.doctor import doors, host, keys, notices, places, senders, store
from gateway.doctor.finding import LEVELS, PROBLEM, Finding
from gateway.errors import GatewayError
from gateway.wire.messages import AdminAnswer
from vault.errors import StoreLocked, VaultError

__all__ = ["PROBLEM", "Console", "Finding", "examine"]


class Console(Protocol):
    """The admin console, as far as it is asked here."""

    def act(self, act: str, arguments: dict[str, Any] | None = None) -> AdminAnswer: ...


AtConsole = Callable[[Config], AbstractContextManager[Console]]


def examine(config: Config, now: datetime, at_console: AtConsole) -> list[Finding]:
    """All findings, the gravest first.

    Args:
        at_console: opens the admin console of an installation (raises GatewayError, VaultError).
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: store.configuration(config),
        lambda: keys.root_key(config),
        lambda: store.store(config),
        lambda: store.free_space(config),
        lambda: store.leases(config),
        lambda: _inside(config, now, at_console),
        lambda: host.core(config),
        lambda: host.antivirus(config, now),
        host.sandbox_layers,
        host.versions,
        host.archives,
        lambda: doors.mail_in_the_clear(config),
        lambda: doors.certificate(config, now),
        lambda: doors.factors(config),
        lambda: places.keyring_copies(config),
        lambda: places.ledger_places(config),
        lambda: places.locations(config),
        lambda: host.swap(Path("/proc/swaps"), Path("/sys/block")),
    )
    found: list[Finding] = []
    for check in checks:
        try:
            found.extend(check())
        except OSError as error:
            what = f"could not be looked at: {error.strerror}"
            found.append(Finding("note", str(error.filename or "system"), what, "try as its owner"))
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def _inside(config: Config, now: datetime, at_console: AtConsole) -> Iterator[Finding]:
    """The findings that need the core, or the store opened in its place."""
    try:
        with at_console(config) as console:
            state = console.act("status").data
            accounts = console.act("account.list").data
            yield from host.clock(state)
            yield from keys.quorum(state)
            yield from store.last_check(state)
            yield from doors.mismatches(state)
            yield from senders.proofs(config, console.act("client.senders").data)
            yield from senders.waiting(state, now)
            yield from senders.mailboxes(state)
            yield from doors.demonstration_left(config, accounts)
            yield from doors.shut_out(accounts)
            yield from notices.said(config, state, accounts)
            yield from places.copies_behind(console.act("keys.copies").data)
            yield from places.ledger_behind(state)
            yield from keys.ages(console.act("keys.status").data)
            yield from places.backups(state)
    except StoreLocked as error:
        yield Finding(
            "note", "core", f"{error}; some checks were left out", "try again in a moment"
        )
    except (GatewayError, VaultError) as error:
        yield Finding(
            "problem", "installation", str(error), "mend what it says; no core can start before"
        )
