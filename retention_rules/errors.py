"""The errors of this package: one root, one type per thing that can be wrong.

All of them mean bad input (a pack, a period, a fact); misuse of the API raises RuntimeError.
Messages name the subject, what was expected and what was found, and never a client's data.
"""

from __future__ import annotations


class RetentionError(Exception):
    """Root of all errors of `retention_rules`."""


class PeriodError(RetentionError):
    """A period, a year end or a date outside what the calendar arithmetic accepts."""


class FactsError(RetentionError):
    """A fact about a document is impossible (not merely unknown)."""


class RulePackError(RetentionError):
    """A rule pack is missing, unreadable or not exactly in the format of RULES.md.

    `pack` is the file's name, `path` the key path inside it (empty for the file as a whole).
    """

    def __init__(self, pack: str, path: str, *, expected: str, found: str) -> None:
        """Build the message from its four parts, which stay readable as attributes."""
        self.pack = pack
        self.path = path
        self.expected = expected
        self.found = found
        where = f"{pack}: {path}" if path else pack
        super().__init__(f"{where}: expected {expected}, found {found}")
