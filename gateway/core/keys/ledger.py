"""The change of the ledger's signing key: the old one names its successor, then only that one signs.

Promises: whoever knows the old key can follow to the new one by the ledger alone.

    rotate.announce   the new signing key is in the house's keyring
    rotate.hand-over  COMMIT POINT: the entry signed by the old key, a checkpoint signed by both
    rotate.retire     the old signing key leaves the house's keyring

Leaves out: what a checkpoint is (`vault.ledger.note`).
"""

from __future__ import annotations

import asyncio
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.core import ACTOR_CORE
from gateway.core.keys.keys import Keys, Rotation
from gateway.core.steps import step
from vault.catalogue import ledger_keys, settings
from vault.catalogue.ledger_keys import LedgerKey
from vault.catalogue.store import Transaction
from vault.keys.open_keyrings import HOUSE
from vault.keys.secret_names import SECRET_LEDGER, SECRET_NEXT_LEDGER
from vault.ledger.note import verifier_key

LEDGER_ROTATION: Final = "ledger_key_rotation"


async def rotate(keys: Keys, rotation: Rotation) -> None:
    """The old key names the new one in the ledger; then only the new one signs."""
    core = keys.core
    store = core.store
    custody = store.custody
    if (
        await core.read(lambda connection: settings.value(connection, LEDGER_ROTATION))
        == rotation.id
    ):
        await _retire(keys)
        return

    # 1. The new key is durable, and its copies are asked for, before anyone relies on it.
    with step("rotate.announce"):
        await core.write(
            lambda tx: custody.ensure(
                tx.connection,
                HOUSE,
                SECRET_NEXT_LEDGER,
                lambda: Ed25519PrivateKey.generate().private_bytes_raw(),
                core.now(),
            )
        )
    secret = custody.keyring(HOUSE).secrets[SECRET_NEXT_LEDGER]
    new = Ed25519PrivateKey.from_private_bytes(secret)
    new_vkey = verifier_key(store.origin, new.public_key())

    # 2. COMMIT POINT: the hand-over, and a checkpoint over it that both keys sign.
    def hand_over(tx: Transaction) -> None:
        now = core.now()
        known = list(ledger_keys.load(tx.connection))
        old = store.ledger_key
        size = tx.ledger.size
        note = ledger_keys.handover_note(store.origin, size, new_vkey, old)
        core.record(
            tx, ledger_keys.CHANGED, store.origin.rpartition("/")[2], ACTOR_CORE, now,
            **{ledger_keys.HANDOVER_FIELD: note},
        )  # fmt: skip
        tx.ledger.sign_checkpoint(tx.connection, store.origin, old, now, successor=new)
        fresh = [LedgerKey(size, new_vkey, note)]
        if not known:
            fresh.insert(0, LedgerKey(0, store.vkey, ""))
        ledger_keys.store(tx.connection, fresh, now)
        settings.put(tx.connection, LEDGER_ROTATION, rotation.id)
        # At once: whoever signs next in this very transaction must sign with the new key.
        store.vkeys = (*store.vkeys, new_vkey)

    with step("rotate.hand-over"):
        try:
            await core.write(hand_over)
        finally:
            await asyncio.to_thread(store.refresh_ledger_keys)

    await _retire(keys)


async def _retire(keys: Keys) -> None:
    """3. The old key goes. Checkpoints signed by it stay good for the sizes they cover."""
    core = keys.core
    custody = core.store.custody

    def work(tx: Transaction) -> None:
        keyring = custody.keyring(HOUSE)
        if SECRET_NEXT_LEDGER in keyring.secrets:
            keyring.secrets[SECRET_LEDGER] = keyring.secrets.pop(SECRET_NEXT_LEDGER)
            keyring.former_end()
            custody.save(tx.connection, HOUSE, core.now())

    with step("rotate.retire"):
        await core.write(work)
