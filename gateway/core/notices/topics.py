"""What notices are about, whom each concerns, and what they can do about it.

Promises: each topic names roles, never persons, and a command to run, never an address to click on. Leaves
out the sentences (`words`), and when a topic comes up (`follow`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

TopicName = Literal[
    "review", "quarantine", "disposal", "access", "backup", "copies", "expiry", "check"
]


@dataclass(frozen=True)
class Topic:
    """One topic. `roles`: whom it concerns; `command`: what shows more."""

    name: TopicName
    roles: tuple[str, ...]
    command: str


TOPICS: Final[dict[str, Topic]] = {
    each.name: each
    for each in (
        # An accountant hears of the clients it may see; officers of those that no accountant hears of.
        Topic("review", ("accountant", "officer"), "strongroom document list --state REVIEW"),
        Topic("quarantine", ("officer",), "strongroom document list --state QUARANTINED"),
        Topic("disposal", ("officer",), "strongroom disposal list"),
        Topic("access", ("officer",), "strongroom access list"),
        Topic("backup", ("admin",), "strongroom backup list"),
        Topic("copies", ("admin",), "strongroom status"),
        Topic("expiry", ("admin",), "strongroom doctor"),
        Topic("check", ("officer", "admin", "auditor"), "strongroom check"),
    )
}

RECEIPT: Final = "receipt"  # kinds of a notice that are no topic
TEST: Final = "test"
