"""The gateway's SSH host keys: which are used, which are announced, and how they change.

Promises: a key that clients have not been told of for the announced period is not used, unless the operator
says that it can't wait. Private keys never leave the house's keyring. A proof of possession is a signature
over a text made here; nothing a door says is signed in it but the blobs of our own keys.

A change has two steps, each resumable, because each looks at what is there:

    host.announce   the new keys are in the house's keyring; from now on both are announced
    host.change     COMMIT POINT: a save of that keyring puts the new keys in the place of the old ones

While both are announced the old ones are used: clients that have not connected since must not see a key
they don't know. The old ones end with the change. An SSH client asks for a type of key, not for one of
several, so two of a type can't both be used; and a client with UpdateHostKeys drops what is no longer
announced.

Announcement and proof: `hostkeys-00@openssh.com`, `hostkeys-prove-00@openssh.com` (OpenSSH's PROTOCOL,
section 2.5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.login import ssh_keys
from gateway.core.login.ssh_keys import HostKeyPair
from gateway.core.steps import step
from gateway.errors import Refusal, WireError
from vault.catalogue import settings
from vault.catalogue.store import Transaction
from vault.keys.open_keyrings import HOUSE
from vault.moments import stamp

NAMES: Final = ("ssh-host-ed25519", "ssh-host-rsa")  # secrets of the house's keyring
NEXT: Final = "-next"
SINCE: Final = "host_keys_since"
CHANGE_AT: Final = "host_keys_change_at"
PROOF: Final = b"hostkeys-prove-00@openssh.com"
_RSA: Final = ("rsa-sha2-512", "rsa-sha2-256")


class HostKeys:
    """The host keys of a running core, as its keyring holds them."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.serving: dict[str, HostKeyPair] = {}
        self.coming: dict[str, HostKeyPair] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take up what the keyring holds now; connections that are open keep what they have."""
        secrets = self.core.store.custody.keyring(HOUSE).secrets
        self.serving = _load(secrets, NAMES)
        self.coming = _load(secrets, [name + NEXT for name in NAMES])

    @property
    def announced(self) -> list[HostKeyPair]:
        """All that a client should know: those in use first."""
        return [*self.serving.values(), *self.coming.values()]


def _load(secrets: dict[str, bytes], names: Iterable[str]) -> dict[str, HostKeyPair]:
    pairs = [HostKeyPair.load(secrets[name]) for name in names if name in secrets]
    return {pair.algorithm: pair for pair in pairs}


def prove(
    keys: list[HostKeyPair], session_id: bytes, blobs: list[bytes], algorithm: str
) -> list[bytes]:
    """Signatures that prove possession of `keys`, for the connection of a session identifier.

    Args:
        algorithm: the host key algorithm of the key exchange; an RSA key signs as it did there.

    Raises:
        WireError: a blob is none of our keys, or is asked for twice.
    """
    known = {pair.blob: pair for pair in keys}
    if not blobs or len(set(blobs)) != len(blobs):
        raise WireError("host key proof: expected distinct keys, found none or one twice")
    signatures = []
    for blob in blobs:
        pair = known.get(blob)
        if pair is None:
            raise WireError("host key proof: expected a key that was announced, found another")
        kind = pair.algorithm
        if kind == "ssh-rsa":
            kind = algorithm if algorithm in _RSA else _RSA[0]
        text = ssh_keys.string(PROOF) + ssh_keys.string(session_id) + ssh_keys.string(blob)
        signatures.append(pair.sign(kind, text))
    return signatures


# ── the change ───────────────────────────────────────────────────────────────────────────────────


async def announce(keys: HostKeys, actor: str) -> None:
    """Make new keys and announce them; `due` puts them to use.

    Raises:
        Refusal: a change is under way.
    """
    core = keys.core
    made = await asyncio.to_thread(ssh_keys.new_host_keys)
    now = core.now()

    def work(tx: Transaction) -> None:
        change_at = settings.value(tx.connection, CHANGE_AT)
        if change_at is not None:
            raise Refusal(
                "locked",
                f"host keys: expected no change under way, found one due on {change_at[:10]}",
            )
        keyring = core.store.custody.keyring(HOUSE)
        fresh = {name + NEXT: made[name] for name in NAMES if name + NEXT not in keyring.secrets}
        if fresh:  # else a crash came between the keyring and this row: go on with what is there
            keyring.secrets.update(fresh)
            core.store.custody.save(tx.connection, HOUSE, now)
        _announced(core, tx, actor, now)

    with step("host.announce"):
        try:
            await core.write(work)
        finally:
            keys.refresh()


def _announced(core: Core, tx: Transaction, actor: str, now: datetime) -> None:
    if settings.value(tx.connection, CHANGE_AT) is not None:
        return
    change_at = now + timedelta(days=core.config.keys.host_announce_days)
    settings.put(tx.connection, CHANGE_AT, stamp(change_at))
    secrets = core.store.custody.keyring(HOUSE).secrets
    fingerprints = [
        ssh_keys.fingerprint(HostKeyPair.load(secrets[name + NEXT]).blob) for name in NAMES
    ]
    core.record(
        tx, "host-keys.announced", _subject(core), actor, now,
        keys=fingerprints, change_at=stamp(change_at),
    )  # fmt: skip


async def due(keys: HostKeys) -> bool:
    """Take the step that is due, if one is: finish an announcement, or put the new keys to use."""
    core = keys.core
    now = core.now()
    change_at = await core.read(lambda c: settings.value(c, CHANGE_AT))
    waiting = NAMES[0] + NEXT in core.store.custody.keyring(HOUSE).secrets
    if waiting and change_at is None:
        with step("host.announce"):
            await core.write(lambda tx: _announced(core, tx, ACTOR_CORE, now))
        return True
    if change_at is not None and (not waiting or datetime.fromisoformat(change_at) <= now):
        await change(keys, ACTOR_CORE)
        return True
    return False


async def change(keys: HostKeys, actor: str) -> None:
    """Put the announced keys to use now; those in use until now end.

    Raises:
        Refusal: none are announced.
    """
    core = keys.core
    now = core.now()

    def work(tx: Transaction) -> None:
        custody = core.store.custody
        keyring = custody.keyring(HOUSE)
        if settings.value(tx.connection, CHANGE_AT) is None:
            raise Refusal("invalid", "host keys: expected new ones to be announced, found none")
        if NAMES[0] + NEXT in keyring.secrets:  # else a crash came after the commit point
            for name in NAMES:
                keyring.secrets[name] = keyring.secrets.pop(name + NEXT)
            keyring.former_end()
            custody.save(tx.connection, HOUSE, now)  # COMMIT POINT: the new keys are the host's
        settings.drop(tx.connection, CHANGE_AT)
        settings.put(tx.connection, SINCE, stamp(now))
        fingerprints = [
            ssh_keys.fingerprint(HostKeyPair.load(keyring.secrets[name]).blob) for name in NAMES
        ]
        core.record(tx, "host-keys.changed", _subject(core), actor, now, keys=fingerprints)

    with step("host.change"):
        try:
            await core.write(work)
        finally:
            keys.refresh()
    log.info("host keys changed")


async def status(keys: HostKeys) -> dict[str, Any]:
    """Fingerprints in use and to come, since when, and when they change."""
    core = keys.core
    since, change_at, created = await core.read(
        lambda c: (
            settings.value(c, SINCE),
            settings.value(c, CHANGE_AT),
            settings.value(c, "created_at"),
        )
    )
    return {
        "since": since or created,
        "in_use": [_shown(pair) for pair in keys.serving.values()],
        "announced": [_shown(pair) for pair in keys.coming.values()],
        "change_at": change_at,
    }


def _shown(pair: HostKeyPair) -> dict[str, str]:
    return {
        "type": pair.algorithm,
        "fingerprint": ssh_keys.fingerprint(pair.blob),
        "line": pair.public_line(),
    }


def _subject(core: Core) -> str:
    return core.store.origin.rpartition("/")[2]
