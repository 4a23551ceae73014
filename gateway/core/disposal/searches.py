"""Searches after a destruction for what must not exist any more: keys, wrapped keys, sealed files.

Promises: each search says what it looked for, where, and what it found, and `not_checked` with the reason
where it could not look. It looks at what is on disk, not at what this process believes. Nothing found
here is ever left out of the certificate.

Leaves out: the claim (it follows from these results and the state of every copy: `vault.certificate.model`),
and media beneath the files.

What is searched for (`Remains`) is gathered inside the transaction that erases it, and kept in memory
only: writing it down would put back what is to be gone. So after a crash in between, the searches that
need it are `not_checked`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select

from gateway.core.core import Core
from gateway.core.disposal.batch import Batch
from gateway.core.key_groups import Frozen
from gateway.core.outbound.backup import key_search, places
from gateway.core.outbound.backup.key_search import Kept
from gateway.core.outbound.outbound import Outbound
from vault.catalogue import queries
from vault.catalogue.schema import documents
from vault.certificate.model import BACKUP_UNREADABLE, CIPHERTEXT_ABSENT, KEY_ABSENT, Check, Text
from vault.crypto.wrapping import KeyWrapper
from vault.errors import IntegrityError
from vault.keys.custody import PURPOSE_DOCUMENT
from vault.keys.keyring import Keyring
from vault.storage import raw_search

CHECK_OPENING: Final = "decryption-fails"
CHECK_JOURNAL: Final = "write-ahead-log-emptied"
CHECK_RAW: Final = "key-bytes-absent-from-files"
CHECK_ERASED: Final = "epoch-key-erased-from-token"
DETAIL: Final = 2000  # characters of a check's words that a certificate takes
INTERRUPTED: Final = Text(
    en="execution was interrupted after the erasure; what to look for was not kept",
    zh="执行在清除之后中断，待查内容未予保存",
)


@dataclass(frozen=True)
class Remains:
    """The keys and wrapped keys that a destruction removes, to search for later; empty after a crash."""

    wrapped: dict[str, tuple[str, bytes]] = field(default_factory=dict, repr=False)
    """By document: its last group and its wrapped key."""
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    """Document keys and group keys, 32 bytes each."""


def gather(
    core: Core, connection: Connection, client_id: str, ids: Sequence[str], groups: Sequence[str]
) -> Remains:
    """The keys and wrapped keys that must not be found once these documents and groups have ended."""
    keyring = core.store.custody.keyring(client_id)
    wrappers: dict[str, KeyWrapper] = {}
    wrapped: dict[str, tuple[str, bytes]] = {}
    keys: list[bytes] = [keyring.groups[each].key for each in groups if each in keyring.groups]
    for part in queries.pages(ids):
        for row in connection.execute(
            select(documents.c.id, documents.c.group_id, documents.c.wrapped_key).where(
                documents.c.id.in_(part), documents.c.wrapped_key.is_not(None)
            )
        ):
            if row.group_id not in wrappers:
                group = keyring.group(row.group_id)
                wrappers[group.id] = KeyWrapper(group.key, purpose=PURPOSE_DOCUMENT, group=group.id)
            wrapped[row.id] = (row.group_id, bytes(row.wrapped_key))
            keys.append(wrappers[row.group_id].unwrap(row.wrapped_key, row.id))
    return Remains(wrapped, tuple(keys))


def look(
    core: Core,
    batch: Batch,
    remains: Remains,
    emptied: bool,
) -> tuple[Check, ...]:
    """Look for everything that must be gone.

    Args:
        emptied: whether the write-ahead log was emptied after the erasure.
    """
    keyring, ids = _stored(core, batch.client_id), batch.ids
    # Every group that ever wrapped one of these keys, whatever this execution believes to have ended.
    groups = core.store.catalogue.read(lambda c: core.store.custody.every_group(c, ids))
    return (
        _keys_absent(core, keyring, ids, groups),
        _ciphertext_absent(core, ids),
        _opening_fails(keyring, remains),
        Check(
            name=CHECK_JOURNAL,
            result="passed" if emptied else "not_checked",
            detail=Text(
                en="the write-ahead log was truncated after the keys were erased",
                zh="密钥清除后，预写日志已截空",
            )
            if emptied
            else Text(en="a reader was in the way", zh="因有读取者占用，未能截空"),
        ),
        _raw_search(core, remains),
        *_erased(core, batch.client_id, keyring),
    )


async def look_into_backups(
    outbound: Outbound,
    frozen: Frozen,
    client_id: str,
    ids: Sequence[str],
    destroyed_at: str,
    kept: Mapping[str, Kept] | None = None,
) -> tuple[Check, ...]:
    """Fetch a backup from before the destruction from each target, and try every key there is on it.

    Without a backup there is nothing to say, and nothing is said.
    """
    targets = await backup_places_of(outbound.core)
    if not targets:
        return ()
    outcomes = [
        await key_search.unreadable(
            outbound, frozen, name, client_id, ids, destroyed_at, (kept or {}).get(name)
        )
        for name in targets
    ]
    found = {outcome for outcome, _ in outcomes}
    result: Any = "failed" if "failed" in found else "not_checked"
    return (
        Check(
            name=BACKUP_UNREADABLE,
            result="passed" if found == {"passed"} else result,
            detail=Text(
                en="; ".join(words.en for _, words in outcomes)[:DETAIL],
                zh="；".join(words.zh for _, words in outcomes)[:DETAIL],
            ),
        ),
    )


async def backup_places_of(core: Core) -> list[str]:
    """The names of the places that hold backups."""
    now = core.now()
    return await core.read(lambda c: places.places_with_backups(c, core.config, now))


async def fetch_backups(outbound: Outbound, destroyed_at: str) -> dict[str, Kept]:
    """Fetch what `look_into_backups` needs, before it makes others wait for the key groups.

    The caller closes each.
    """
    return {
        name: await key_search.fetch_kept(outbound, name, destroyed_at)
        for name in await backup_places_of(outbound.core)
    }


def _stored(core: Core, client_id: str) -> Keyring | None:
    """The keyring as it is on disk; None: it has ended (raises VaultError: it does not open)."""
    if client_id not in core.store.custody.owners():
        return None
    return core.store.custody.stored(client_id)


def _check(name: str, passed: bool, en: str, zh: str) -> Check:
    return Check(name=name, result="passed" if passed else "failed", detail=Text(en=en, zh=zh))


def _keys_absent(
    core: Core, keyring: Keyring | None, ids: Sequence[str], groups: Sequence[str]
) -> Check:
    left = [group for group in groups if keyring is not None and group in keyring.groups]

    def remaining(connection: Connection) -> int:
        return sum(
            len(
                connection.execute(
                    select(documents.c.id).where(
                        documents.c.id.in_(part),
                        documents.c.wrapped_key.is_not(None)
                        | documents.c.sealed_metadata.is_not(None)
                        | documents.c.group_id.is_not(None),
                    )
                ).all()
            )
            for part in queries.pages(ids)
        )

    with_keys = core.store.catalogue.read(remaining)
    where = "the keyring, which has ended" if keyring is None else f"keyring epoch {keyring.epoch}"
    place = "已终止的密钥环" if keyring is None else f"第 {keyring.epoch} 期密钥环"
    return _check(
        KEY_ABSENT,
        not left and not with_keys,
        f"{len(groups)} group keys looked for in {where}, wrapped keys and metadata of {len(ids)}"
        f" documents in the catalogue: {len(left)} and {with_keys} found",
        f"在{place}中查找 {len(groups)} 个分组密钥，在目录中查找 {len(ids)} 份文件的包裹密钥与元数据："
        f"分别发现 {len(left)} 个与 {with_keys} 个",
    )


def _ciphertext_absent(core: Core, ids: Sequence[str]) -> Check:
    blobs = core.store.blobs
    found = sum(blobs.exists(document_id) or blobs.is_spooled(document_id) for document_id in ids)
    return _check(
        CIPHERTEXT_ABSENT,
        not found,
        f"{len(ids)} sealed files looked for in the store and its spool: {found} found",
        f"在存储区与暂存区中查找 {len(ids)} 个密文文件：发现 {found} 个",
    )


def _opening_fails(keyring: Keyring | None, remains: Remains) -> Check:
    """Try every key there is on every wrapped key there was: under its own group and under each other."""
    if not remains.wrapped:
        return Check(name=CHECK_OPENING, result="not_checked", detail=INTERRUPTED)
    last_groups = {last for last, _ in remains.wrapped.values()}
    tried = opened = 0
    for group in () if keyring is None else keyring.groups.values():
        wrappers = {
            bound: KeyWrapper(group.key, purpose=PURPOSE_DOCUMENT, group=bound)
            for bound in {group.id, *last_groups}
        }
        for document_id, (last, wrapped) in remains.wrapped.items():
            for bound in {group.id, last}:
                tried += 1
                try:
                    wrappers[bound].unwrap(wrapped, document_id)
                except IntegrityError:
                    continue
                opened += 1
    return _check(
        CHECK_OPENING,
        not opened,
        f"{len(remains.wrapped)} wrapped keys, as they were, tried under every key of the client's"
        f" keyring ({tried} attempts): {opened} opened",
        f"以该客户密钥环中的每个密钥逐一尝试原有的 {len(remains.wrapped)} 个包裹密钥（共 {tried} 次）："
        f"可打开 {opened} 个",
    )


def _raw_search(core: Core, remains: Remains) -> Check:
    """Search the raw bytes of catalogue, journals, keyrings and spool for key bytes and wrapped bytes."""
    if not remains.wrapped:
        return Check(name=CHECK_RAW, result="not_checked", detail=INTERRUPTED)
    patterns = [wrapped for _, wrapped in remains.wrapped.values()]
    files = itertools.chain(_files(core.store.path), _copies(core))
    seen = raw_search.search(files, [*patterns, *remains.keys])
    return _check(
        CHECK_RAW,
        not seen.found,
        f"{len(patterns)} wrapped keys and {len(remains.keys)} keys searched in {seen.size} raw bytes of"
        f" {seen.files} files (catalogue, journals, keyrings, spool, copies that can be"
        f" reached as files): {len(seen.found)} found",
        f"在 {seen.files} 个文件（目录、日志、密钥环、暂存区及可直接读取的副本）的 {seen.size} 字节"
        f"原始数据中查找"
        f" {len(patterns)} 个包裹密钥与 {len(remains.keys)} 个密钥：发现 {len(seen.found)} 处",
    )


def _files(store: Path) -> Iterator[Path]:
    """Every file of a store but the sealed documents: catalogue, journals, snapshots, keyrings, spool."""
    for path in sorted(store.rglob("*")):
        if path.is_file() and "objects" not in path.relative_to(store).parts[:-1]:
            yield path


def _copies(core: Core) -> Iterator[Path]:
    """The files of copies in folders of this machine that this process may read."""
    for copy in core.config.keyring.copies:
        if copy.directory:
            with contextlib.suppress(OSError):
                yield from sorted(core.config.resolve(copy.directory).glob("*.keyring"))


def _erased(core: Core, client_id: str, keyring: Keyring | None) -> tuple[Check, ...]:
    """Check a token that holds epoch keys: only the present one may be left there."""
    left = core.store.custody.epochs_left(client_id)
    if left is None:
        return ()
    former = [epoch for epoch in left if keyring is None or epoch < keyring.floor]
    return (
        _check(
            CHECK_ERASED,
            not former,
            f"epoch keys of this client on the token: {len(left)}, of epochs that held the keys:"
            f" {len(former)}",
            f"令牌中该客户的期密钥：{len(left)} 个，其中曾含上述密钥的：{len(former)} 个",
        ),
    )
