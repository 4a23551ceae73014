"""Trying the wrapped keys that a backup holds of destroyed documents, for their certificate.

Promises: the newest backup's catalogue is fetched and opened as for a restore, and each wrapped key in it of
a destroyed document is tried with every key of the client's keyring, as it is on disk. What could not be read
was not checked, and is said to be so. Leaves out older backups: they hold older wrappings of the same keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal

from sqlalchemy import select

from gateway.core.backup_place import fetch, listing, manifest_of, plain_snapshot, secret_of
from gateway.core.runtime import Core
from vault import backup
from vault.catalogue.schema import documents
from vault.certificate import Text
from vault.custody import PURPOSE_DOCUMENT
from vault.errors import IntegrityError, KeyUnavailable, VaultError
from vault.wrapping import unwrap_key

PAGE: Final = 500

Outcome = Literal["passed", "failed", "not_checked"]


async def unreadable(
    core: Core, target: str, client_id: str, ids: Sequence[str]
) -> tuple[Outcome, Text]:
    """Whether destroyed documents are noise in the newest backup of a target.

    Hold `core.keys_lock`: a plain snapshot exists meanwhile, and is gone durably on return.

    Args:
        client_id: whose keyring has the keys to try (each of them, on each wrapped key).
        ids: documents that were destroyed.

    Returns:
        The outcome and one sentence. `not_checked`: no backup, or it can't be reached or read now.
    """
    try:
        secret = await secret_of(core)
        there = await listing(core, target, backup.SNAPSHOTS)
        try:
            known = backup.backups_in(there.names())
        finally:
            there.close()
        if not known:
            return "not_checked", Text(
                en=f"backup target {target}: expected a backup, found none",
                zh=f"备份地 {target}：未见备份",
            )
        newest = known[-1]
        manifest = await manifest_of(core, target, newest, secret)
        name = backup.catalogue_name(newest)
        with await fetch(core, target, name) as file, plain_snapshot(core, f"proof-{newest}") as at:
            held, opened = await asyncio.to_thread(
                _try_keys, core, file, manifest, secret, at, client_id, ids
            )
    except VaultError as error:
        return "not_checked", Text(
            en=f"backup target {target}: {error}", zh=f"备份地 {target}：目前无法取得或读取备份"
        )
    words = Text(
        en=f"backup {newest} at {target} read: wrapped keys of {held} of {len(ids)} documents in it,"
        f" each tried with every key of the client: {opened} opened",
        zh=f"读取 {target} 的备份 {newest}：其中有 {len(ids)} 份文件中 {held} 份的包裹密钥，"
        f"以该客户的每个密钥逐一尝试：可打开 {opened} 个",
    )
    return ("failed" if opened else "passed"), words


def _try_keys(
    core: Core,
    file: IO[bytes],
    manifest: backup.Manifest,
    secret: bytes,
    plain: Path,
    client_id: str,
    ids: Sequence[str],
) -> tuple[int, int]:
    """How many of the documents have a wrapped key in the snapshot, and how many of those open."""
    backup.open_catalogue(
        file.fileno(), plain, manifest, secret, backup.catalogue_name(manifest.backup)
    )
    try:
        keys = list(core.store.custody.stored(client_id).groups.values())
    except KeyUnavailable:
        keys = []  # the whole keyring is gone
    held = opened = 0
    with backup.snapshot_connection(plain) as connection:
        for start in range(0, len(ids), PAGE):
            for row in connection.execute(
                select(documents.c.id, documents.c.group_id, documents.c.wrapped_key).where(
                    documents.c.id.in_(list(ids[start : start + PAGE])),
                    documents.c.wrapped_key.is_not(None),
                )
            ):
                held += 1
                opened += any(_opens(key.key, row, {key.id, row.group_id}) for key in keys)
    return held, opened


def _opens(key: bytes, row: Any, group_ids: set[str]) -> bool:
    for group_id in group_ids:
        try:
            unwrap_key(
                key,
                bytes(row.wrapped_key),
                purpose=PURPOSE_DOCUMENT,
                subject=row.id,
                group=group_id,
            )
        except IntegrityError:
            continue
        return True
    return False
