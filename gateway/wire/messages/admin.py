"""What the command line may ask.

Promises: an act by its name, with its arguments, signed where a person acts.
Leaves out: which acts there are and who may ask for them (`gateway.core.admin`).
"""

from __future__ import annotations

from typing import Any

from msgspec import field

from gateway.wire.messages.common import Message


class Challenge(Message, frozen=True):
    """Asks for the challenge that a signed act on this connection must contain."""


class ChallengeAnswer(Message, frozen=True):
    """Random, once per connection."""

    nonce: str


class AdminCall(Message, frozen=True):
    """One act of `gateway.core.admin`: its name and its arguments.

    An act by a person (`account` set) carries the exact `statement` that the person's own SSH key
    signed (SSHSIG, namespace `strongroom-act`); without it the actor is the operating system's user at
    the other end of the socket.
    """

    act: str
    arguments: dict[str, Any] = field(default_factory=dict)
    account: str = ""
    statement: bytes = b""
    signature: str = ""


class AdminAnswer(Message, frozen=True):
    """The result as plain JSON data. `exit_code` 1: a check ran and found something."""

    data: Any = None
    exit_code: int = 0


AdminRequest = Challenge | AdminCall

AdminReply = ChallengeAnswer | AdminAnswer
