"""The errors of the gateway.

One root, a shallow tree. A message names the subject, what was expected and what was found; it never
holds a secret, a person's name or text of a document. Fatal and retryable are types, not strings.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Root of everything the gateway raises on bad input or a failed operation."""


class ConfigurationError(GatewayError):
    """The configuration, or the installation it describes, can't be used (exit code 2)."""


class WireError(GatewayError):
    """A peer on a unix socket broke the protocol: the connection is of no further use."""


class Disconnected(WireError):
    """The peer went away. What was not acknowledged has not happened."""


class Refusal(GatewayError):
    """A request was understood and is refused.

    Args:
        code: one of `gateway.wire.messages.RefusalCode`.
        message: one sentence for the person who asked.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
