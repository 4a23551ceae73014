"""A finding: how serious, about what, what is wrong, how to repair it.

Promises: it reads the same in every room of the doctor.
Leaves out: how it is shown (`gateway.cli.commands.doctor`).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

PROBLEM: Final = "problem"
LEVELS: Final = (PROBLEM, "weak", "note")
"""From the gravest on: `problem` (it does not work, or a promise does not hold), `weak` (it works, and is
less safe than it could be), `note` (good to know)."""


class Finding(msgspec.Struct, frozen=True):
    """One finding; `subject` is what it is about, `mend` a command or what to do."""

    level: Literal["problem", "weak", "note"]
    subject: str
    what: str
    mend: str
