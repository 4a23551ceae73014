"""The disposal wing: which batches are being executed, and what certifying has looked at.

Promises: a batch is executed by one at a time; one follow-up certificate is made at a time. Leaves out: what
may go, and how (`execution`, `certificates`).
"""

from __future__ import annotations

import asyncio

from gateway.core.core import Core
from gateway.core.in_progress import InProgress
from gateway.core.keys.keys import Keys
from gateway.core.login.logins import Logins
from gateway.core.outbound.outbound import Outbound


class Disposal:
    """What the wing holds while the core runs."""

    def __init__(self, core: Core, outbound: Outbound, keys: Keys, logins: Logins) -> None:
        self.core = core
        self.outbound = outbound
        self.keys = keys
        self.logins = logins
        self.in_progress = InProgress()
        self.certifying = asyncio.Lock()  # one follow-up certificate at a time
        self.searched: dict[str, float] = {}
        """Batch id → when backups were last searched for its keys (`time.monotonic`)."""
        self.followed_up = False  # all batches were looked at once since the start
