"""Trying the wrapped keys that backups hold of destroyed documents, for their certificate.

Promises: of the backups that were begun before the destruction and still lie at a target, the two newest and
the oldest are fetched and opened as for a restore (the oldest holds older wrappings, under groups that ended
since; the newest may have been copied only after the destruction), and each wrapped key in them of a
destroyed document is tried with every key of the client's keyring, as it is on disk. What could not be read
was not checked, and is said to be so; nor is it a check to find nothing to try, unless there was nothing.

Leaves out the backups in between: a wrapping that only they hold is not tried. The words name what was read.

Rule: what is sealed is fetched without any lock (`fetch_kept`); only while it lies there in plain must the
keys stand still. Who holds the lock already and brings nothing fetched waits `BUDGET` seconds and no longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, Literal

from sqlalchemy import select

from gateway.core.core import Core
from gateway.core.key_groups import Frozen
from gateway.core.outbound.backup.snapshot import plain_snapshot
from gateway.core.outbound.backup.target import listing, manifest_of, secret_of
from gateway.core.outbound.files import fetch
from gateway.core.outbound.outbound import Outbound
from vault.backup import format as backup
from vault.catalogue.queries import pages
from vault.catalogue.schema import documents
from vault.certificate.model import Text
from vault.crypto.wrapping import unwrap_key
from vault.errors import IntegrityError, KeyUnavailable, VaultError
from vault.ids import is_id, made_at
from vault.keys.custody import PURPOSE_DOCUMENT

NEWEST: Final = 2
BUDGET: Final = 60.0  # seconds that fetching may take while the caller holds the key groups

Outcome = Literal["passed", "failed", "not_checked"]


@dataclass
class Kept:
    """Sealed catalogues of a target from before a moment, fetched; `close` it.

    `anything`: whether there is a backup at all; `unfinished`: catalogues from before without a manifest.
    """

    target: str
    secret: bytes = field(repr=False)
    catalogues: list[tuple[backup.Manifest, IO[bytes]]] = field(default_factory=list)
    anything: bool = False
    unfinished: int = 0

    def close(self) -> None:
        """Let go of what was fetched."""
        for _, file in self.catalogues:
            file.close()


@dataclass
class _Seen:
    """What one snapshot holds of the documents: rows, wrapped keys, and how many of those opened."""

    backup: str
    rows: int = 0
    held: int = 0
    opened: int = 0


async def fetch_kept(outbound: Outbound, target: str, destroyed_at: str | None = None) -> Kept:
    """Fetch the sealed catalogues in which keys are to be tried; needs no lock.

    Args:
        destroyed_at: ISO 8601; only backups begun until then count. None: all.

    Raises:
        PlaceError: the target can't be reached. IntegrityError: a manifest is not what was written.
    """
    kept = Kept(target, await secret_of(outbound.core))
    there = await listing(outbound, target, backup.SNAPSHOTS)
    try:
        names = list(there.names())
    finally:
        there.close()
    known = backup.backups_in(names)
    kept.anything = bool(known)
    begun = {name.split("/")[1] for name in names} - set(known)
    begun = {each for each in begun if is_id(each)}
    if destroyed_at is not None:
        limit = datetime.fromisoformat(destroyed_at)
        known = [each for each in known if made_at(each) <= limit]
        begun = {each for each in begun if made_at(each) <= limit}
    kept.unfinished = len(begun)
    try:
        for backup_id in sorted({*known[:1], *known[-NEWEST:]}, reverse=True):
            manifest = await manifest_of(outbound, target, backup_id, kept.secret)
            name = backup.catalogue_name(backup_id)
            kept.catalogues.append((manifest, await fetch(outbound, target, name)))
    except BaseException:
        kept.close()
        raise
    return kept


async def unreadable(
    outbound: Outbound,
    frozen: Frozen,
    target: str,
    client_id: str,
    ids: Sequence[str],
    destroyed_at: str | None = None,
    kept: Kept | None = None,
) -> tuple[Outcome, Text]:
    """Whether destroyed documents are noise in the backups of a target.

    A plain snapshot exists meanwhile, and is gone durably on return.

    Args:
        client_id: whose keyring has the keys to try (each of them, on each wrapped key).
        ids: documents that were destroyed.
        destroyed_at: when, ISO 8601; None: whenever.
        kept: what `fetch_kept` fetched, good for one call, the caller's to close; None: fetched here,
            within `BUDGET`.

    Returns:
        The outcome and one sentence. `not_checked`: no backup, it can't be reached or read now, or it was
        made after the destruction had begun.
    """
    core = outbound.core
    ours = kept is None
    try:
        if kept is None:
            async with asyncio.timeout(BUDGET):
                kept = await fetch_kept(outbound, target, destroyed_at)
        seen: list[_Seen] = []
        for manifest, file in kept.catalogues:
            with plain_snapshot(core, frozen, f"proof-{manifest.backup}") as plain:
                seen.append(
                    await asyncio.to_thread(
                        _try_keys, core, file, manifest, kept.secret, plain, client_id, ids
                    )
                )
    except TimeoutError:
        return "not_checked", Text(
            en=f"backup target {target}: expected a backup fetched within {BUDGET:g} s, found it slower",
            zh=f"备份地 {target}：未能在 {BUDGET:g} 秒内取得备份",
        )
    except VaultError as error:
        return "not_checked", Text(
            en=f"backup target {target}: {error}", zh=f"备份地 {target}：目前无法取得或读取备份"
        )
    finally:
        if ours and kept is not None:
            kept.close()
    return _judge(kept, seen, len(ids))


def _judge(kept: Kept, seen: Sequence[_Seen], asked: int) -> tuple[Outcome, Text]:
    """What follows from what was seen, with its sentence."""
    target = kept.target
    if not kept.anything:
        return "not_checked", Text(
            en=f"backup target {target}: expected a backup, found none",
            zh=f"备份地 {target}：未见备份",
        )
    opened = sum(each.opened for each in seen)
    en = "; ".join(
        f"backup {each.backup} at {target} read: wrapped keys of {each.held} of {asked} documents in it,"
        f" each tried with every key of the client: {each.opened} opened"
        for each in seen
    )
    zh = "；".join(
        f"读取 {target} 的备份 {each.backup}：其中有 {asked} 份文件中 {each.held} 份的包裹密钥，"
        f"以该客户的每个密钥逐一尝试：可打开 {each.opened} 个"
        for each in seen
    )
    if opened:
        return "failed", Text(en=en, zh=zh)
    if kept.unfinished:
        return "not_checked", Text(
            en=f"backup target {target}: expected no unfinished backup from before the destruction,"
            f" found {kept.unfinished}",
            zh=f"备份地 {target}：存在销毁之前未完成的备份 {kept.unfinished} 个",
        )
    if not seen:
        return "passed", Text(
            en=f"backup target {target}: no backup from before the destruction is left there",
            zh=f"备份地 {target}：已无销毁之前的备份",
        )
    if any(each.held for each in seen):
        return "passed", Text(en=en, zh=zh)
    if not any(each.rows for each in seen):
        return "passed", Text(
            en=f"{en}; none of the documents had been received when it was made",
            zh=f"{zh}；制作备份时尚未收到这些文件",
        )
    return "not_checked", Text(
        en=f"{en}; expected wrapped keys to try, found that it was copied after the destruction",
        zh=f"{zh}；备份的目录复制于销毁之后，无可尝试的包裹密钥",
    )


def _try_keys(
    core: Core,
    file: IO[bytes],
    manifest: backup.Manifest,
    secret: bytes,
    plain: Path,
    client_id: str,
    ids: Sequence[str],
) -> _Seen:
    """How many of the documents are in the snapshot, with a wrapped key, and how many of those open."""
    backup.open_catalogue(
        file.fileno(), plain, manifest, secret, backup.catalogue_name(manifest.backup)
    )
    try:
        keys = list(core.store.custody.stored(client_id).groups.values())
    except KeyUnavailable:
        keys = []  # the whole keyring is gone
    seen = _Seen(manifest.backup)
    with backup.snapshot_connection(plain) as connection:
        for part in pages(ids):
            for row in connection.execute(
                select(documents.c.id, documents.c.group_id, documents.c.wrapped_key).where(
                    documents.c.id.in_(part)
                )
            ):
                seen.rows += 1
                if row.wrapped_key is None:
                    continue
                seen.held += 1
                seen.opened += any(_opens(key.key, row, {key.id, row.group_id}) for key in keys)
    return seen


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
