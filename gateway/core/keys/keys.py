"""The keys wing: which rotations run, and whom to tell that keyrings have changed.

Promises: one rotation of a kind at a time, and each in one pair of hands. Leaves out: when one is due, and
what it does (`rotation`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from sqlalchemy import update

from gateway.core.core import Core
from gateway.core.in_progress import InProgress
from gateway.core.key_groups import GroupFreeze
from vault.catalogue.schema import rotations
from vault.catalogue.store import Transaction


class Keys:
    """What the wing holds while the core runs."""

    def __init__(self, core: Core, freeze: GroupFreeze) -> None:
        self.core = core
        self.freeze = freeze
        self.in_progress = InProgress()
        self.background: set[asyncio.Future[Any]] = set()  # begun for someone who may go away


@dataclass(frozen=True)
class Rotation:
    """One rotation: what is to be renewed, and how far it has come."""

    id: str
    kind: str
    client_id: str | None
    cutoff: str
    state: str
    moved: int


def note_moved(tx: Transaction, rotation: Rotation, moved: int) -> None:
    """Count keys that a rotation has re-wrapped, inside a transaction."""
    tx.connection.execute(
        update(rotations)
        .where(rotations.c.id == rotation.id)
        .values(moved=rotations.c.moved + moved)
    )
