"""What a person signs to perform an act over the console.

Promises: the same arguments give the same bytes on both sides: the command line makes them, the core makes
them again and compares. They name the act, the account and the connection's challenge, so that a signature
is good for one act on one connection.
Leaves out: whose key it is, and what the account may do (`gateway.core.admin`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

NAMESPACE: Final = "strongroom-act"
"""The SSHSIG namespace of such a signature (OpenSSH, PROTOCOL.sshsig)."""


def act_statement(act: str, arguments: dict[str, Any], account: str, challenge: str) -> bytes:
    """The bytes a person signs to perform an act: canonical JSON with the connection's challenge."""
    return msgspec.json.encode(
        {
            "account": account,
            "act": act,
            "arguments": arguments,
            "challenge": challenge,
            "purpose": "strongroom/v1/act",
        },
        order="deterministic",
    )
