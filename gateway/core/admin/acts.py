"""Every act that can be asked for: importing the modules enters their acts (`register.act`).

Promises: `ACTS` here is whole; docs/acts.md lists who may do each, and a test compares the two. Leaves out:
how an act is proven to be a person's (`gateway.core.sessions.admin`).
"""

from __future__ import annotations

import importlib
from typing import Final

from gateway.core.admin import register

_NOUNS: Final = (
    "access",
    "account_keys",
    "accounts",
    "app_passwords",
    "attestations",
    "backups",
    "clients",
    "clock",
    "copies",
    "disposal",
    "documents",
    "factors",
    "grants",
    "holds",
    "keys",
    "ledger",
    "notices",
    "oversight",
    "passwords",
    "penalties",
    "recovery",
    "retention",
)
for _noun in _NOUNS:
    importlib.import_module(f"gateway.core.admin.{_noun}")

ACTS: Final = register.ACTS
CONSOLE: Final = register.CONSOLE
