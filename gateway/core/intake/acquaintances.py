"""Whom a client takes mail from, remembered: pairs of a sender and a client's name that were accepted.

Promises: what is remembered was read from the clients' rows as they are: it carries the version of their
table (`Catalogue.version`), and any change of a client's row ends all of it. At most `MOST` pairs are kept.

Leaves out: deciding (`recipients`). Refusals are never remembered, so that one takes no less time for having
been given before, and so that strangers who try names fill nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from vault.catalogue.states import Proof

MOST: Final = 4096


Name: TypeAlias = tuple[str, str]
"""A client's name and the tag behind it, as an address has them."""


@dataclass(frozen=True)
class Acquaintance:
    """The client that was accepted as a recipient.

    Args:
        unlimited: it has no quota of any kind.
        proof: what the envelope shows of the sender.
        refuse: mail that proves nothing is refused, not kept apart.
    """

    client_id: str
    unlimited: bool
    proof: Proof = Proof.NONE
    refuse: bool = False


class Acquaintances:
    """Accepted pairs as of one version of the clients' rows. All of this happens on the event loop."""

    def __init__(self) -> None:
        self._version = -1
        self._pairs: dict[tuple[Name, str], Acquaintance] = {}
        self._unlimited: set[str] = set()

    def find(self, version: int, name: Name, sender: str) -> Acquaintance | None:
        """What was accepted while `version` stood; None: ask."""
        return self._pairs.get((name, sender)) if version == self._version else None

    def unlimited(self, version: int, client_id: str) -> bool:
        """Whether a client is known to have no quota; False: ask."""
        return version == self._version and client_id in self._unlimited

    def note(self, version: int, name: Name, sender: str, found: Acquaintance) -> None:
        """Remember what was accepted by a read that came after `version` was taken."""
        if version < self._version:
            return  # a read that was overtaken by a change
        if version > self._version or len(self._pairs) >= MOST:
            self._version = version
            self._pairs.clear()
            self._unlimited.clear()
        self._pairs[name, sender] = found
        if found.unlimited:
            self._unlimited.add(found.client_id)
