"""Every act that can be asked for: importing the modules enters their acts (`register.act`).

Promises: `ACTS` here is whole; tests/unit/core/test_acts.py holds a list of it beside who may do each. Leaves
out: how an act is proven to be a person's (`gateway.core.sessions.admin`).
"""

from __future__ import annotations

from typing import Final

from gateway.core.admin import (
    access,
    account_keys,
    accounts,
    attestations,
    backups,
    clients,
    clock,
    copies,
    disposal,
    documents,
    factors,
    grants,
    holds,
    keys,
    ledger,
    oversight,
    penalties,
    recovery,
    register,
    retention,
)

_ENTERED: Final = (
    access,
    account_keys,
    accounts,
    attestations,
    backups,
    clients,
    clock,
    copies,
    disposal,
    documents,
    factors,
    grants,
    holds,
    keys,
    ledger,
    oversight,
    penalties,
    recovery,
    retention,
)
ACTS: Final = register.ACTS
CONSOLE: Final = register.CONSOLE
