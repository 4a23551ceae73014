"""The ledger for administrators: verify, checkpoint, export, prove.

Promises: what is handed out can be verified with the ledger's verifier key and nothing else. An
older export or checkpoint that is brought along is held against the ledger first, and refused in one sentence
if it is of another history. Leaves out: writing files (`gateway.cli.commands.ledger`) and verifying offline.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from gateway.core.admin.context import Context
from gateway.core.admin.register import OFFICER, READERS, ByName, Nothing, act
from gateway.core.core import Core
from gateway.core.outbound import ledger_publication
from gateway.core.views.base import Opened, memory_file
from gateway.errors import Refusal
from gateway.wire.messages import AdminAnswer
from vault.catalogue import ledger, ledger_keys
from vault.check import ledger as ledger_check
from vault.ledger.note import Checkpoint
from vault.ledger.tiles import MAX_LEVEL, WIDTH, Tile

TILES_AT_ONCE: Final = 64


class Verify(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `ledger.verify`: checkpoints kept elsewhere, as text."""

    against: list[str] = []


class Export(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `ledger.export`: a range of entries (a page, at most 10,000)."""

    start: int = 0
    limit: int = 10_000


class Snapshot(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `ledger.snapshot`: the checkpoint of an older export, if there is one."""

    known: str = ""


class TileName(msgspec.Struct, forbid_unknown_fields=True):
    """One tile, as `vault.ledger.tiles.Tile`."""

    level: int | None
    index: int
    width: int


class Tiles(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `ledger.tiles`: at most `TILES_AT_ONCE`."""

    tiles: list[TileName]


class Prove(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `ledger.prove`: the index of an entry."""

    entry: int


class Consistency(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `ledger.consistency`: two sizes; `new` None: that of the newest checkpoint."""

    old: int
    new: int | None = None


@act("ledger.verify", READERS)
async def verify(context: Context, arguments: Verify) -> AdminAnswer:
    """Recompute the ledger and hold it against its checkpoints and those given."""
    store = context.core.store
    report = await asyncio.to_thread(ledger_check.verify_store, store, tuple(arguments.against))
    data = {
        "size": report.size,
        "root": report.root,
        "checkpoints": report.checkpoints,
        "findings": list(report.findings),
        "restored": list(report.restored),
        "vkey": store.vkey,
    }
    return AdminAnswer(data, 1 if report.findings else 0)


@act("ledger.checkpoint", READERS)
async def checkpoint(context: Context, arguments: Nothing) -> dict[str, Any]:
    """The newest signed checkpoint, made now if entries came since."""
    del arguments
    return {"checkpoint": await _newest(context), "vkey": context.core.store.vkey}


@act("ledger.settle", OFFICER)
async def settle(context: Context, arguments: ByName) -> dict[str, Any]:
    """State that a place of checkpoints is in use no more."""
    await ledger_publication.settle(context.core, arguments.name, context.actor)
    return {"name": arguments.name}


@act("ledger.export", READERS)
async def export(context: Context, arguments: Export) -> dict[str, Any]:
    """Entries, as they are hashed."""
    if arguments.start < 0 or not 1 <= arguments.limit <= 10_000:
        raise Refusal("invalid", "ledger export: expected a start ≥ 0 and a limit of 1 to 10000")
    entries = await context.core.read(
        lambda c: [
            entry.decode()
            for entry in ledger.entries(c, arguments.start, arguments.start + arguments.limit)
        ]
    )
    return {"entries": entries, "vkey": context.core.store.vkey}


@act("ledger.snapshot", READERS)
async def snapshot(context: Context, arguments: Snapshot) -> dict[str, Any]:
    """The newest checkpoint, its size, the keys as files, and the size of an older export (0: none).

    Raises:
        Refusal: the older export is not of this history.
    """
    core = context.core
    note = await _newest(context)

    def look(connection: Connection) -> tuple[int, str, dict[str, str]]:
        known, problem = 0, ""
        if arguments.known:
            known, problem = ledger_check.examine(
                connection, arguments.known, core.store.vkeys[0], core.store.origin
            )
        files = ledger_keys.files(ledger_keys.load(connection), core.store.vkeys[0])
        return known, problem, files

    known, problem, files = await core.read(look)
    if problem:
        raise Refusal("invalid", f"older export: its checkpoint: {problem}")
    return {
        "checkpoint": note,
        "size": _size_of(note),
        "known": known,
        "keys": files,
        "vkey": core.store.vkey,
    }


@act("ledger.tiles", READERS)
async def tiles(context: Context, arguments: Tiles) -> Opened:
    """Tiles in a memory file, each behind its length (uint32, big-endian): a bundle may exceed a message."""
    if not 1 <= len(arguments.tiles) <= TILES_AT_ONCE or not all(
        each.level is None or 0 <= each.level <= MAX_LEVEL for each in arguments.tiles
    ):
        raise Refusal("invalid", f"ledger tiles: expected 1 to {TILES_AT_ONCE} tiles, found others")
    if not all(each.index >= 0 and 1 <= each.width <= WIDTH for each in arguments.tiles):
        raise Refusal("invalid", f"ledger tiles: expected widths of 1 to {WIDTH}, found others")

    def look(connection: Connection) -> bytes:
        found = [
            ledger.tile_bytes(connection, Tile(each.level, each.index, each.width))
            for each in arguments.tiles
        ]
        return b"".join(len(data).to_bytes(4, "big") + data for data in found)

    return memory_file(await context.core.read(look))


@act("ledger.prove", READERS)
async def prove(context: Context, arguments: Prove) -> dict[str, Any]:
    """The proof (C2SP tlog-proof) that an entry is in the ledger; its extra line holds the entry."""
    core = context.core
    await _expect_entry(core, arguments.entry)
    await _newest(context)
    proof, vkey = await core.read(
        lambda c: ledger.proof_of(c, arguments.entry, core.store.vkeys, with_entry=True)
    )
    entry = await core.read(lambda c: ledger.entry(c, arguments.entry))
    return {"entry": entry.decode(), "proof": proof, "vkey": vkey}


@act("ledger.consistency", READERS)
async def consistency(context: Context, arguments: Consistency) -> dict[str, Any]:
    """The hashes (hex) that show that the first `old` entries are the beginning of the first `new`."""
    new = _size_of(await _newest(context)) if arguments.new is None else arguments.new
    size = await context.core.read(ledger.size_of)
    if not 1 <= arguments.old <= new <= size:
        raise Refusal(
            "invalid",
            f"ledger consistency: expected sizes from 1 to {size}, the smaller first,"
            f" found {arguments.old} and {new}",
        )
    hashes = await context.core.read(lambda c: ledger.consistency_of(c, arguments.old, new))
    return {"old": arguments.old, "new": new, "hashes": [each.hex() for each in hashes]}


async def _expect_entry(core: Core, seq: int) -> None:
    size = await core.read(ledger.size_of)
    if not 0 <= seq < size:
        raise Refusal("not_found", f"ledger: expected an entry below {size}, found {seq}")


async def _newest(context: Context) -> str:
    """The newest checkpoint, made now if entries came since.

    Where no core runs, and the catalogue was found changed while nobody had it open, nothing is signed
    before an officer has answered for it: this signature is what would vouch for it (`vault.check.ledger`).
    """
    store = context.core.store
    if context.queue is not None or store.changed_at_rest is None:
        await context.core.write(
            lambda tx: tx.ledger.sign_checkpoint(
                tx.connection, store.origin, store.ledger_key, context.now
            )
        )
    note = await context.core.read(ledger.latest_checkpoint)
    if note is None:
        raise Refusal("failed", "ledger: expected a checkpoint, found none signed yet")
    return note


def _size_of(note: str) -> int:
    """The size in a checkpoint of our own."""
    return Checkpoint.parse(note.rpartition("\n\n")[0] + "\n").size
