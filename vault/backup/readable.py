"""Checking whether a catalogue's documents can be read with the keyrings at hand.

Promises: every stored document whose wrapped key does not open is named, with the reason; so is each
client that is not closed and has no keyring, and each keyring that is older than the catalogue.

Leaves out: sealed files, and bringing a catalogue up to date first (`vault.backup.replay`).

Rule: a keyring is too old if it has a lower epoch than one of its copies was seen to have, or holds the key
of a group that the catalogue knows to have been dropped: what was destroyed in between may be readable again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select

from vault.catalogue import queries
from vault.catalogue.schema import copy_states, documents, groups
from vault.catalogue.states import STORED
from vault.catalogue.store import Catalogue
from vault.crypto.wrapping import KeyWrapper
from vault.errors import IntegrityError
from vault.keys.custody import PURPOSE_DOCUMENT
from vault.keys.keyring import GroupKey

_PAGE: Final = 1000

Problem = Callable[[str, str], None]


def keyrings(
    connection: Connection,
    epochs: Mapping[str, int],
    held: Mapping[str, tuple[str, GroupKey]],
    problem: Problem,
) -> None:
    """Name the keyrings that are missing or older than the catalogue.

    Args:
        epochs: of the keyrings at hand, by owner.
        held: their groups by id, each with its owner.
    """
    for owner in queries.with_keyring(connection):
        if owner not in epochs:
            problem(
                f"client {owner}",
                "expected its keyring among the copies, found none: it was closed since and no amendment"
                " says so, or the copy is not whole; its documents can't be read",
            )
    for owner, why in _too_old(connection, epochs, held).items():
        problem(
            f"keyring {owner}",
            f"{why}: this copy is older than the backup, and what was destroyed in between may be readable"
            " again; take a newer copy, or destroy it again",
        )


def _too_old(
    connection: Connection, epochs: Mapping[str, int], held: Mapping[str, tuple[str, GroupKey]]
) -> dict[str, str]:
    """The owners of keyrings that are older than the catalogue knows them, each with the reason."""
    found: dict[str, str] = {}
    for row in connection.execute(
        select(copy_states.c.owner, func.max(copy_states.c.epoch).label("epoch")).group_by(
            copy_states.c.owner
        )
    ):
        epoch = epochs.get(row.owner)
        if epoch is not None and epoch < row.epoch:
            found[row.owner] = f"expected epoch {row.epoch} or later, found {epoch}"
    for row in connection.execute(
        select(groups.c.id, groups.c.client_id).where(groups.c.dropped_at.is_not(None))
    ):
        if row.id in held and row.client_id not in found:
            found[row.client_id] = f"expected it without group {row.id}, found the group's key"
    return found


def documents_open(
    catalogue: Catalogue, held: Mapping[str, tuple[str, GroupKey]], problem: Problem
) -> None:
    """Name every stored document whose wrapped key does not open."""
    wrappers: dict[str, KeyWrapper] = {}
    last = ""

    def page(connection: Connection) -> Sequence[Any]:
        return connection.execute(
            select(documents.c.id, documents.c.group_id, documents.c.wrapped_key)
            .where(documents.c.id > last, documents.c.state.in_(STORED))
            .order_by(documents.c.id)
            .limit(_PAGE)
        ).all()

    while rows := catalogue.read(page):
        last = rows[-1].id
        for row in rows:
            group = held.get(row.group_id)
            if group is None:
                problem(
                    f"document {row.id}",
                    "its group of keys is in no keyring and no amendment says where its key went:"
                    " it was destroyed since, or an amendment is missing, or the keyrings are too old",
                )
                continue
            wrapper = wrappers.get(row.group_id)
            if wrapper is None:
                wrapper = wrappers[row.group_id] = KeyWrapper(
                    group[1].key, purpose=PURPOSE_DOCUMENT, group=row.group_id
                )
            try:
                wrapper.unwrap(bytes(row.wrapped_key), row.id)
            except IntegrityError as error:
                problem(f"document {row.id}", f"its wrapped key does not open: {error}")
