"""The wings of the core, put together: what an act, a job or a session is handed.

Promises: each wing is made once for a core, and holds its own state. Whoever needs one is handed it from
here; `Core` knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from gateway.core import backoff
from gateway.core.core import Core
from gateway.core.disposal.disposal import Disposal
from gateway.core.intake.intake import Intake
from gateway.core.key_groups import GroupFreeze
from gateway.core.keys.keys import Keys
from gateway.core.login.logins import Logins
from gateway.core.notices.notices import Notices
from gateway.core.outbound.outbound import Outbound


@dataclass(frozen=True)
class Wings:
    """A core and its wings."""

    core: Core
    outbound: Outbound
    intake: Intake
    keys: Keys
    disposal: Disposal
    logins: Logins
    freeze: GroupFreeze
    notices: Notices

    @classmethod
    def around(cls, core: Core, chance: Callable[[], float] = backoff.chance) -> Self:
        """Make the wings of a core.

        Args:
            chance: what delays are shortened by (`backoff.delay`).
        """
        freeze = GroupFreeze()
        outbound = Outbound(core, freeze, chance)
        keys = Keys(core, freeze)
        logins = Logins(core)
        disposal = Disposal(core, outbound, keys, logins)
        notices = Notices(core, outbound)
        return cls(core, outbound, Intake(core), keys, disposal, logins, freeze, notices)

    def close(self) -> None:
        """Wait for what the wings have under way on threads; before `Core.close`."""
        self.intake.close()
        self.logins.close()
