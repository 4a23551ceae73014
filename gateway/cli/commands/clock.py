"""`strongroom clock`: whether the gateway believes its clock, and an officer's word that it is right."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, record, sentence
from gateway.cli.support.options import REQUIRED, new_group, option

group = new_group("The clock: whether it is believed, and confirming it.")


@command(group, act="clock.show")
def show(ask: Ask) -> Shown:
    """Show whether the clock is believed, and why not."""
    return record(ask())


@command(group, act="clock.confirm", signed=True)
def confirm(
    ask: Ask,
    reason: str = option(
        "--reason", "Why the clock stood elsewhere, or how the time was checked.", REQUIRED
    ),
) -> Shown:
    """Say, as an officer, that the clock is right now: disposal, rotation and pruning go on."""
    data = ask(now=datetime.now(UTC).isoformat(timespec="seconds"), reason=reason)
    return sentence(data, f"The clock is right: {output.moment(data['now'])}.")
