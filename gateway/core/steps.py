"""The named steps of the journey, from upload to certificate.

Each step is a durable write or the moment around one. The docstring table says what a crash before and
after it leaves; recovery is the forward path run again. Observers are told of each step as it begins and
ends: the debug log is one, and a test that kills the process at every one of them is another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, Literal

Phase = Literal["before", "after"]
Observer = Callable[[str, Phase], None]

STEPS: Final[dict[str, str]] = {
    "receive.begin": "before: nothing; after: an empty file in the spool, swept at the next start",
    "receive.publish": "before: a file in the spool; after: a synced blob without a row, swept at start",
    "receive.record": "after: row and ledger entry are durable; the client is told so only then",
    "inspect.claim": "before and after: RECEIVED; a lost claim is claimed again",
    "inspect.decide": "after: parts, state and ledger entry are durable together",
    "dispose.propose": "after: the batch and its register are durable",
    "dispose.approve": "after: the signed approval is durable",
    "dispose.start": "after: EXECUTING with its executor; eligibility and holds were checked inside",
    "dispose.renew": "after: survivors of the groups to be ended are wrapped under new groups, verified",
    "dispose.record": "after: rows, keys and metadata of the documents are gone, tombstones are there",
    "dispose.end-keys": "after: the keyring without the groups' keys is durable under a new epoch",
    "dispose.remove-blobs": "after: the sealed files are gone and their folders synced",
    "dispose.truncate": "after: the write-ahead log holds no copy of what was overwritten",
    "dispose.certify": "after: certificate, its ledger entry and a checkpoint over it are durable",
    "rotate.move": "after: everything in the group is wrapped under its successor, verified",
    "rotate.end": "after: the groups' end is recorded and the keyring without them is durable",
    "rotate.keyring": "after: one keyring is durable under the new root key and was read back",
    "rotate.root": "after: the store opens with the new root key, and with no other",
    "rotate.announce": "after: the next signing key is in the house's keyring; the old one signs",
    "rotate.hand-over": "after: the hand-over is in the ledger; only the new key signs from here on",
    "rotate.retire": "after: the old signing key is in no file of the store",
}

# A backup's (gateway/core/outbound/backup/run.py): no part of a document's journey.
BACKUP_STEPS: Final[dict[str, str]] = {
    "backup.begin": "after: the target is ours, and nothing of an interrupted run lies there",
    "backup.copy": "after: sealed files are copied and recorded; what is no document's any more is gone",
    "backup.snapshot": "after: the sealed catalogue lies at the target, without a manifest",
    "backup.manifest": "after: the signed manifest lies at the target: it is a backup",
    "backup.record": "after: row and ledger entry are durable",
    "backup.prune": "after: what is older than the target keeps is gone",
}

# The host keys' (gateway/core/login/host_keys.py): the same.
HOST_STEPS: Final[dict[str, str]] = {
    "host.announce": "after: the next host keys are in the house's keyring, and the day they change is set",
    "host.change": "after: the new host keys are the host's; the old ones are in no file of the store",
}

# What the gateway says by itself (gateway/core/notices): the same.
NOTICE_STEPS: Final[dict[str, str]] = {
    "notice.note": "after: what is to be said, and how far the ledger was followed, are durable together",
    "notice.send": "before: nobody was told; after: the relay or the webhook has it, and says so",
    "notice.record": "after: what was sent is durable as sent, and is not sent again",
}

observers: list[Observer] = []


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Mark a named step; `name` must be in one of the tables above."""
    told(name, "before")
    yield
    told(name, "after")


def told(name: str, phase: Phase) -> None:
    """Mark one end of a step that begins in one place and ends in another."""
    if not any(name in table for table in (STEPS, BACKUP_STEPS, HOST_STEPS, NOTICE_STEPS)):
        raise RuntimeError(f"step {name}: expected a name of the table, found none")
    for observer in observers:
        observer(name, phase)
