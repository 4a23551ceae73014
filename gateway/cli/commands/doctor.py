"""`strongroom doctor`: what is missing or weak in this installation, and how to mend it.

Promises: exit code 1 if there is any problem.
Leaves out: what is looked at, and what the levels mean (`gateway.doctor`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command
from gateway.cli.support.connection import at_console
from gateway.config import Config
from gateway.doctor import PROBLEM, Finding
from gateway.doctor import examine as examine_by


@command(None, "doctor")
def doctor(ask: Ask) -> Shown:
    """Say what is missing or weak here, and how to mend it; exit code 1 on a problem."""
    findings = examine(ask.config, datetime.now(UTC))
    problems = sum(finding.level == PROBLEM for finding in findings)

    def show() -> None:
        for finding in findings:
            output.heading(f"{finding.level.upper():8} {output.plain(finding.subject)}")
            output.say(f"         {output.plain(finding.what)}")
            output.say(f"         mend: {output.plain(finding.mend)}")
        output.say(f"Problems: {problems}. Other findings: {len(findings) - problems}.")

    return Shown(msgspec.to_builtins(findings), show, 1 if problems else 0)


def examine(config: Config, now: datetime) -> list[Finding]:
    """All findings; the core is asked, or where none runs the store opened in its place."""
    return examine_by(config, now, at_console)
