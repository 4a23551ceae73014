"""The wing of notices: what the rooms here share while the core runs.

Promises: nothing in it is needed after a crash; what is to be said is in the catalogue. Leaves out every
decision.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

from gateway.core.core import Core
from gateway.core.outbound.outbound import Outbound

RELAY = "relay"
"""The relay's name in transfers."""


class Notices:
    """The wing's state; made once, beside the core."""

    def __init__(self, core: Core, outbound: Outbound) -> None:
        self.core = core
        self.outbound = outbound
        self.position: int | None = None  # in the ledger, as far as it was followed
        self.sent: deque[datetime] = deque()  # when the relay was given mail in the last minute
        self.seen: dict[tuple[str, str], datetime] = {}  # conditions that have yet to last

    @property
    def targets(self) -> list[str]:
        """Where the configuration has something said."""
        config = self.core.config
        relay = [RELAY] if config.relay.address else []
        return relay + [each.target for each in config.webhook]
