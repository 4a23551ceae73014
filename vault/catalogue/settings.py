"""Settings that a store remembers: one value by its name, read and replaced in the caller's transaction.

Leaves out: what the values mean (the module that owns a key names it).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select

from vault.catalogue.schema import settings

_VALUE: Final = select(settings.c.value).where(settings.c.key == bindparam("name"))


def value(connection: Connection, key: str) -> str | None:
    """The value remembered under a name; None: there is none."""
    found = connection.execute(_VALUE, {"name": key}).scalar()
    return None if found is None else str(found)


def put(connection: Connection, key: str, text: str) -> None:
    """Remember a value, in the place of the one there was."""
    drop(connection, key)
    connection.execute(insert(settings), {"key": key, "value": text})


def drop(connection: Connection, key: str) -> None:
    """Forget what is remembered under a name, if anything is."""
    connection.execute(delete(settings).where(settings.c.key == key))
