"""The root key of a store, and the change to another one.

Promises: every keyring is seen under the new root key before the old one opens none; the next start goes on
after a crash in between.

    rotate.keyring  a keyring is saved under the new root key and read back
    rotate.root     COMMIT POINT: every keyring is seen under the new root key; the old one opens none

Leaves out: the operator's own copy of the root key, and what a root key is (`vault.keys.root`).
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from gateway.config import Config
from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.keys.keys import Keys, Rotation, note_moved
from gateway.core.steps import step
from gateway.errors import Refusal
from vault.catalogue import settings
from vault.catalogue.store import Transaction
from vault.errors import IntegrityError
from vault.keys.root import RootKey, create_root_key, load_root_key
from vault.keys.root_file import PKCS11
from vault.moments import stamp
from vault.storage.durable import sync_directory

ROOT_SINCE: Final = "root_key_since"
ROOT_ROTATION: Final = "root_key_rotation"


def _sibling(root_key: str) -> str | None:
    """Where the file of the next root key lies while it replaces the one in a file; None: no file."""
    if not root_key or root_key.startswith(PKCS11):
        return None
    if Path(root_key).parent == Path(os.environ.get("CREDENTIALS_DIRECTORY", "/dev/null")):
        return None
    return f"{root_key}.next"


def _exists(root_key: str) -> bool:
    if root_key.startswith(PKCS11):
        from vault.keys import pkcs11

        return pkcs11.exists(root_key)
    return Path(root_key).exists()


def load(config: Config) -> tuple[RootKey, RootKey | None]:
    """The root key, and the one that is to replace it, or has done so already (raises VaultError)."""
    root = load_root_key(config.root_key)
    following = config.next_root_key or _sibling(config.root_key)
    return root, load_root_key(following) if following and _exists(following) else None


def prepare_next(core: Core) -> None:
    """Have the root key ready that is to replace the present one.

    Raises:
        Refusal: none is configured, and the present one is not a file beside which one can be made.
        VaultError: it can't be made or loaded.
    """
    if core.store.next_root is not None:
        return
    present = core.config.root_key
    if core.config.next_root_key:
        following: str = core.config.next_root_key
    else:
        sibling = _sibling(present)
        if sibling is None:
            raise Refusal(
                "invalid",
                "root key: expected store.next_root_key in the configuration, found none;"
                " only a root key in a file can be replaced without",
            )
        following = sibling
    if not _exists(following):
        create_root_key(following)
    new = load_root_key(following)
    if new.id == core.store.custody.keyrings.root.id:
        raise Refusal(
            "invalid", "root key: expected another one to change to, found the present one"
        )
    core.store.next_root = new


def adopt_next(core: Core) -> None:
    """Put the file of the new root key in the place of the old one, once everything is under it."""
    core.store.next_root = None
    sibling = _sibling(core.config.root_key)
    if core.config.next_root_key or sibling is None or not Path(sibling).exists():
        log.warning(
            "root key changed: set store.root_key to the value of store.next_root_key",
            root=core.store.custody.keyrings.root.id,
        )
        return
    path = Path(core.config.root_key)
    # The old key stays until someone removes it: copies of keyrings that have not followed yet open with
    # it alone, and nobody has a copy of the new one so far.
    former = path.with_name(f"{path.name}.old")
    former.unlink(missing_ok=True)
    os.link(path, former)  # the name itself is never missing, whenever a crash comes
    Path(sibling).replace(path)
    sync_directory(path.parent)
    log.warning("root key changed", former=str(former), root=core.store.custody.keyrings.root.id)


def root_since(connection: Connection) -> str | None:
    """When the root key was last changed; None: never."""
    return settings.value(connection, ROOT_SINCE)


async def rotate(keys: Keys, rotation: Rotation) -> None:
    """Every keyring is saved under the next root key; only then the old one is let go."""
    core = keys.core
    store = core.store
    if await core.read(lambda connection: settings.value(connection, ROOT_ROTATION)) == rotation.id:
        return  # A crash came after the commit point; the opening has put the new key in its place.
    if store.next_root is None:
        await asyncio.to_thread(prepare_next, core)
    new = store.next_root
    assert new is not None
    old_id = store.custody.keyrings.root.id
    keyrings = store.custody.keyrings
    keyrings.use_root(new)
    async with keys.freeze.hold():
        for owner in await asyncio.to_thread(keyrings.owners):
            if await asyncio.to_thread(keyrings.root_of, owner) == new.id:
                continue
            with step("rotate.keyring"):
                await core.write(
                    lambda tx, who=owner: _save_under(core, tx, rotation, who, core.now())  # type: ignore[misc]
                )

        def commit(tx: Transaction) -> None:
            # COMMIT POINT: from here on the store opens with the new root key only.
            for owner in keyrings.owners():
                if keyrings.root_of(owner) != new.id:
                    raise IntegrityError(
                        f"keyring {owner}: expected it under root key {new.id}, found another",
                        kind="header",
                    )
            now = core.now()
            facts = {"root_key_id": new.id, ROOT_SINCE: stamp(now), ROOT_ROTATION: rotation.id}
            for key, value in facts.items():
                settings.put(tx.connection, key, value)
            core.record(
                tx, "root-key.changed", rotation.id, ACTOR_CORE, now, old=old_id, new=new.id
            )

        with step("rotate.root"):
            await core.write(commit)
        keyrings.drop_root(old_id)
        store.next_root = None
        await asyncio.to_thread(adopt_next, core)


def _save_under(core: Core, tx: Transaction, rotation: Rotation, owner: str, now: datetime) -> None:
    custody = core.store.custody
    keyring = custody.keyring(owner)
    before = dict(keyring.groups)
    keyring.former_end()
    custody.save(tx.connection, owner, now)
    if custody.stored(owner).groups != before:
        raise IntegrityError(
            f"keyring {owner}: expected the same groups under the new root key, found others",
            kind="format",
        )
    note_moved(tx, rotation, 1)
