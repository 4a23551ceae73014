"""One target of the configuration, as whoever works at it needs it: its section, a listing, a manifest.

Helpers shared by runs, proofs, amendments, searches and restores of documents. Which places hold backups,
those in use no more among them, is not asked here but of the register (`places`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from typing import IO, Final

from gateway.config import BackupTarget
from gateway.core.core import Core
from gateway.core.outbound.files import fetch, scratch
from gateway.core.outbound.outbound import Outbound
from gateway.errors import Refusal
from vault.backup import format as backup_format
from vault.errors import VaultError
from vault.keys.open_keyrings import HOUSE

BACKUP: Final = "backup to"  # a run or a verification, in progress


def target_of(core: Core, name: str) -> BackupTarget:
    """A target of the configuration; "" for the only one (raises Refusal)."""
    targets = core.config.backup.targets
    if not name and len(targets) == 1:
        return targets[0]
    for target in targets:
        if target.name == name:
            return target
    known = ", ".join(target.name for target in targets) or "none"
    raise Refusal("not_found", f"backup target {name or '(none given)'}: expected one of {known}")


def store_id(core: Core) -> str:
    """The store's id, as its backups name it."""
    return core.store.origin.rpartition("/")[2].upper()


async def secret_of(core: Core) -> bytes:
    """The house's secret `backup`, made when it is first needed."""
    now = core.now()
    custody = core.store.custody
    return await core.write(
        lambda tx: custody.ensure_secret(tx.connection, HOUSE, backup_format.SECRET_BACKUP, now)
    )


class Listing:
    """The names below a folder of a target with their sizes, on disk and not in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._names = sqlite3.connect("", check_same_thread=False)  # private, on disk, nameless
        self._names.execute("CREATE TABLE names (name TEXT PRIMARY KEY, size INTEGER)")
        file.seek(0)
        self._names.executemany(
            "INSERT OR REPLACE INTO names VALUES (?, ?)",
            (
                (line[1].rstrip("\n"), int(line[0]))
                for line in (raw.decode().split(" ", 1) for raw in file)
            ),
        )
        self._names.commit()

    def size(self, name: str) -> int | None:
        """The size of a name; None if it is not there."""
        row = self._names.execute("SELECT size FROM names WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def names(self) -> Iterator[str]:
        """All names, in order."""
        last = ""
        while rows := self._names.execute(
            "SELECT name FROM names WHERE name > ? ORDER BY name LIMIT 1000", (last,)
        ).fetchall():
            yield from (str(row[0]) for row in rows)
            last = rows[-1][0]

    def close(self) -> None:
        self._names.close()


async def listing(outbound: Outbound, target: str, folder: str) -> Listing:
    """What lies below a folder of a target (raises PlaceError)."""
    with scratch(outbound.core) as file:
        await outbound.transfers.transfer(target, "names", folder, file.fileno())
        return await asyncio.to_thread(Listing, file)


async def manifest_of(
    outbound: Outbound, target: str, backup_id: str, secret: bytes
) -> backup_format.Manifest:
    """A backup's manifest, verified (raises IntegrityError, PlaceMissing, PlaceError)."""
    name = backup_format.manifest_name(backup_id)
    with await fetch(outbound, target, name) as file:
        file.seek(0)
        data = file.read(backup_format.MAX_MANIFEST + 1)
    core = outbound.core
    return backup_format.read_manifest(data, secret, core.store.vkey, store_id(core), backup_id)


def reason_of(error: BaseException) -> str:
    """The sentence of an error of the vault, or of the first in a group; raises any other."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, VaultError):
        return str(error)[:300]
    raise error
