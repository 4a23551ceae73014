"""Publication: the ledger's newest checkpoint, and its tiles, at places outside this machine.

A kind of delivery (`gateway.core.outbound.outbox`).

`[[ledger.places]]` get, at most `every_seconds` apart, what a static server can serve:

    checkpoint    the newest signed checkpoint, written last
    keys/…        the verifier keys and hand-overs (`vault.catalogue.ledger_keys.files`)
    tile/…        entries and hashes (`vault.ledger.tiles`), where they are wanted

Promises: a place never goes backwards. Before anything is written, the checkpoint that lies there is held
against the ledger: one that is larger, or is not of this history, or is no checkpoint, is an alarm (a ledger
entry, the log, `status`, `check`) and stays as it is, for it is the evidence. Whatever a checkpoint needs is
there before it.

Leaves out: trying again (the outbox), and making peace with a place that contradicts: after a
restore the operator gives it a new name and folder, and keeps the old one.

Rules:
1. Everything but the checkpoint can be written twice, for a tile of a name never changes: a crash repeats.
2. A place that had a checkpoint and has none is not the place it was (an empty mount point, a wiped bucket).
3. Only the place says what it holds. What is remembered of it (`checkpoint_places`) saves work, never a look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.config import LedgerPlace
from gateway.core.core import ACTOR_CORE, Core, log
from gateway.core.outbound.files import head, put_bytes, scratch
from gateway.core.outbound.outbound import Outbound
from gateway.core.outbound.outbox import DETAIL, LONGEST_DELAY, Delivery
from gateway.core.outbound.transfers import NoCourier
from gateway.errors import Refusal
from vault.catalogue import ledger, ledger_keys
from vault.catalogue.ledger_keys import LedgerKey
from vault.catalogue.schema import checkpoint_places, checkpoints
from vault.catalogue.store import Transaction
from vault.check import ledger as ledger_check
from vault.check.store import TELL, Finding
from vault.errors import PlaceError, PlaceMissing, VaultError
from vault.ledger import tiles
from vault.ledger.tiles import Tile
from vault.moments import stamp
from vault.storage.places import DirectoryPlace

CHECKPOINT: Final = "checkpoint"
CONTRADICTED: Final = "ledger.place-contradicts"
"""The kind of the entry that says a place was found to hold what is not of this history."""
GRACE: Final = timedelta(seconds=30)  # how much later than promised is nobody's concern
MAX_CHECKPOINT: Final = 64 * 1024  # bytes of a checkpoint that are looked at
_STRIDE: Final = (
    tiles.WIDTH * tiles.WIDTH
)  # entries whose tiles are recorded as delivered at a time


class Contradiction(VaultError):
    """A place holds what is not of this ledger's history. A person has to look at it."""


@dataclass(frozen=True)
class _State:
    """What is remembered of a place: the sizes of its checkpoint and tiles, and how the last attempt went."""

    size: int = 0
    tiles: int = 0
    delivered_at: datetime | None = None
    attempts: int = 0
    next_attempt_at: datetime | None = None
    failure: str = ""
    alarmed_at: str | None = None


# ── the kind ─────────────────────────────────────────────────────────────────────────────────────


class Publication:
    """The newest checkpoint, for each place of the configuration; a delivery's row is what is known of it."""

    name = "publication to"
    longest_delay = LONGEST_DELAY

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self.places = {place.name: place for place in outbound.core.config.ledger.places}

    def next(self, connection: Connection, place: str, now: datetime | None) -> Delivery | None:
        """See `Kind.next`."""
        section, state = self.places[place], _states(connection).get(place, _State())
        if not _lacks(section, state, _newest_size(connection)):
            return None
        if now is not None and not _is_time(section, state, now):
            return None
        return Delivery(place, state.attempts, state)

    async def deliver(self, delivery: Delivery) -> int:
        """See `Kind.deliver`; returns the size of the checkpoint that the place holds now.

        Raises:
            Contradiction: it holds what is not of this ledger's history.
        """
        return await _deliver(self._outbound, self.places[delivery.place], delivery.row)

    def delivered(self, tx: Transaction, delivery: Delivery, seen: int, now: datetime) -> None:
        """See `Kind.delivered`."""
        _save(
            tx,
            delivery.place,
            size=seen,
            delivered_at=stamp(now),
            attempts=0,
            next_attempt_at=None,
            failure="",
            alarmed_at=None,
            **({"tiles": seen} if self.places[delivery.place].tiles else {}),
        )

    def failed(
        self, tx: Transaction, delivery: Delivery, error: VaultError, now: datetime, again: datetime
    ) -> None:
        """See `Kind.failed`."""
        before = delivery.row
        alarm = isinstance(error, Contradiction)
        _save(
            tx,
            delivery.place,
            attempts=before.attempts + 1,
            next_attempt_at=stamp(again),
            failure=str(error)[:DETAIL],
            # Only a look at the place ends an alarm, not a place that can't be looked at.
            alarmed_at=before.alarmed_at or (stamp(now) if alarm else None),
        )
        if alarm and before.alarmed_at is None:
            # Once: every entry makes a new checkpoint, and that a new attempt.
            self._outbound.core.record(tx, CONTRADICTED, delivery.place, ACTOR_CORE, now)

    def unclaimed(self, tx: Transaction, delivery: Delivery, error: NoCourier) -> None:
        """See `Kind.unclaimed`."""
        _save(tx, delivery.place, failure=str(error)[:DETAIL])

    def hasten(self, tx: Transaction, place: str, now: datetime) -> None:
        """See `Kind.hasten`; nothing else waits for a place."""

    def complain(self, place: str, error: VaultError) -> None:
        """See `Kind.complain`."""
        if isinstance(error, Contradiction):
            log.critical("published ledger differs", place=place, detail=str(error))
        else:
            log.error("ledger not published", place=place, detail=str(error))


def _lacks(place: LedgerPlace, state: _State, newest: int) -> bool:
    """Whether there is anything to bring, or a failure to put right."""
    return newest > state.size or bool(state.failure) or (place.tiles and state.tiles < newest)


def _is_time(place: LedgerPlace, state: _State, now: datetime) -> bool:
    if state.next_attempt_at is not None and now < state.next_attempt_at:
        return False
    since = state.delivered_at
    return since is None or bool(state.failure) or now - since >= _every(place)


def _every(place: LedgerPlace) -> timedelta:
    return timedelta(seconds=place.every_seconds)


# ── one delivery, in its order ───────────────────────────────────────────────────────────────────


async def _deliver(outbound: Outbound, place: LedgerPlace, state: _State) -> int:
    """Returns the size of the checkpoint that the place holds now."""
    core = outbound.core

    def look(connection: Connection) -> tuple[tuple[LedgerKey, ...], int, str]:
        newest = connection.execute(
            select(checkpoints.c.size, checkpoints.c.note)
            .order_by(checkpoints.c.size.desc())
            .limit(1)
        ).one_or_none()
        if newest is None:
            raise PlaceError("ledger: expected a checkpoint to publish, found none yet")
        return ledger_keys.load(connection), int(newest.size), str(newest.note)

    keys, size, note = await core.read(look)
    # 1. What lies there is of this history.
    there = await _there(outbound, place, state)
    # 2. Keys that came since, hand-overs among them.
    for name, text in ledger_keys.files(keys, core.store.vkeys[0]).items():
        if not there or int(name) >= there:
            await put_bytes(outbound, place.target, f"keys/{name}", text.encode())
    # 3. Full tiles, in strides that need not be done again; partial ones; those that full ones have replaced.
    if place.tiles:
        done = min(state.tiles, there)
        while done < size:
            upto = min(size, (done // _STRIDE + 1) * _STRIDE)
            for tile in tiles.full_between(done, upto):
                await _put_tile(outbound, place, tile)
            done = upto
            if done < size:
                await core.write(
                    lambda tx, sofar=done: _save(tx, place.name, tiles=sofar),  # type: ignore[misc]
                    background=True,
                )
        for tile in tiles.partials(size):
            await _put_tile(outbound, place, tile)
        for tile in _replaced(there, size):
            await _remove_partials(outbound, place, tile)
    # 4. COMMIT POINT: the checkpoint, once everything that it needs is there.
    await put_bytes(outbound, place.target, CHECKPOINT, note.encode())
    return size


async def _there(outbound: Outbound, place: LedgerPlace, state: _State) -> int:
    """The size of the checkpoint at the place, which is of our history; 0: there never was any.

    Raises:
        Contradiction: there is another. PlaceError: the place can't be read, or lost what it had.
    """
    core = outbound.core
    try:
        data = await head(outbound, place.target, CHECKPOINT, MAX_CHECKPOINT + 1)
    except PlaceMissing:
        if state.size:
            raise PlaceError(
                f"{place.name}: expected the checkpoint of {state.size} entries that was there, found"
                " none; is it mounted, and the same place?"
            ) from None
        return 0
    return await core.read(lambda connection: _of_ours(core, connection, place.name, data))


def _of_ours(core: Core, connection: Connection, name: str, data: bytes) -> int:
    """The size of a checkpoint that was found at a place (raises Contradiction)."""
    note = data.decode("utf-8", "replace") if len(data) <= MAX_CHECKPOINT else ""
    size, problem = ledger_check.examine(connection, note, core.store.vkeys[0], core.store.origin)
    if problem:
        raise Contradiction(f"{name}: the checkpoint there: {problem}")
    return size


async def _put_tile(outbound: Outbound, place: LedgerPlace, tile: Tile) -> None:
    data = await outbound.core.read(lambda connection: ledger.tile_bytes(connection, tile))
    await put_bytes(outbound, place.target, tile.path, data)


def _replaced(old: int, new: int) -> Iterator[Tile]:
    """Tiles that were partial at `old` entries and are full at `new`."""
    still = {(tile.level, tile.index) for tile in tiles.partials(new)}
    return (tile for tile in tiles.partials(old) if (tile.level, tile.index) not in still)


async def _remove_partials(outbound: Outbound, place: LedgerPlace, tile: Tile) -> None:
    with scratch(outbound.core) as file:
        await outbound.transfers.transfer(place.target, "names", tile.folder, file.fileno())
        file.seek(0)
        names = [line.decode().rstrip("\n").partition(" ")[2] for line in file]
    for name in names:
        await outbound.transfers.transfer(place.target, "remove", name)


# ── what is known of places ──────────────────────────────────────────────────────────────────────


def _newest_size(connection: Connection) -> int:
    return int(connection.execute(select(func.max(checkpoints.c.size))).scalar() or 0)


def _states(connection: Connection) -> dict[str, _State]:
    def moment(value: str | None) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)

    return {
        row.name: _State(
            row.size,
            row.tiles,
            moment(row.delivered_at),
            row.attempts,
            moment(row.next_attempt_at),
            row.failure,
            row.alarmed_at,
        )
        for row in connection.execute(select(checkpoint_places))
    }


def _save(tx: Transaction, name: str, **values: Any) -> None:
    changed = tx.connection.execute(
        update(checkpoint_places).where(checkpoint_places.c.name == name).values(**values)
    )
    if changed.rowcount == 0:
        empty = {"size": 0, "tiles": 0, "attempts": 0, "failure": ""}
        tx.connection.execute(insert(checkpoint_places), {**empty, **values, "name": name})


def status(core: Core) -> list[dict[str, Any]]:
    """For `strongroom status`: each configured place and what it lacks.

    Returns:
        A mapping each with name, place, tiles, size (of the checkpoint there), delivered_at, behind_since
        (when the first checkpoint that it lacks was signed, once that is too long ago; or None), failure (of
        the last attempt), alarmed_at (since when it contradicts this ledger, or None).
    """
    now = core.now()

    def look(connection: Connection) -> list[dict[str, Any]]:
        states = _states(connection)
        return [
            _shown(core, connection, place, states.get(place.name, _State()), now)
            for place in core.config.ledger.places
        ]

    return core.store.catalogue.read(look)


def _shown(
    core: Core, connection: Connection, place: LedgerPlace, state: _State, now: datetime
) -> dict[str, Any]:
    lacking = connection.execute(
        select(checkpoints.c.signed_at)
        .where(checkpoints.c.size > state.size)
        .order_by(checkpoints.c.size)
        .limit(1)
    ).scalar()
    late = lacking is not None and (
        bool(state.failure) or now - datetime.fromisoformat(lacking) > _every(place) + GRACE
    )
    return {
        "name": place.name,
        "place": place.place(core.config.resolve),
        "tiles": place.tiles,
        "size": state.size,
        "delivered_at": None if state.delivered_at is None else stamp(state.delivered_at),
        "behind_since": lacking if late else None,
        "failure": state.failure,
        "alarmed_at": state.alarmed_at,
    }


async def settle(core: Core, name: str, actor: str) -> None:
    """Take an officer's word that a place is in use no more: it is forgotten, with an entry.

    Raises:
        Refusal: there is no such place, or it is in use.
    """

    def work(tx: Transaction) -> None:
        if name in {place.name for place in core.config.ledger.places}:
            raise Refusal(
                "invalid",
                f"ledger place {name}: expected it taken out of the configuration first, found it in use",
            )
        row = tx.connection.execute(
            select(checkpoint_places).where(checkpoint_places.c.name == name)
        ).one_or_none()
        if row is None:
            raise Refusal("not_found", f"ledger place {name}: expected one, found none")
        tx.connection.execute(delete(checkpoint_places).where(checkpoint_places.c.name == name))
        core.record(
            tx,
            "ledger.place-settled",
            name,
            actor,
            core.now(),
            size=row.size,
            alarmed=row.alarmed_at is not None,
        )

    await core.write(work, background=True)


async def findings(core: Core) -> list[Finding]:
    """For `check`: where the ledger is older than, or another than, what was published.

    Folders are read here and now, so that a catalogue that was put back from an older copy shows although it
    does not know what it published since; of other places, and of folders that this process may not read,
    what the last attempt saw.
    """
    states, size = await core.read(lambda c: (_states(c), ledger.size_of(c)))
    found: dict[str, Finding] = {}
    for name, state in states.items():
        if state.alarmed_at is not None:
            found[name] = Finding(f"ledger at {name}", state.failure, TELL)
        elif state.size > size:
            found[name] = Finding(
                f"ledger at {name}",
                f"expected at least the {state.size} entries that were published, found {size}",
                TELL,
            )
    for place in core.config.ledger.places:
        if place.directory:
            try:
                problem = await asyncio.to_thread(
                    _look_into, core, place, states.get(place.name, _State())
                )
            except PermissionError:
                continue  # the courier may have rights there that the core has not
            if problem is not None:
                found[place.name] = problem
    return list(found.values())


def _look_into(core: Core, place: LedgerPlace, state: _State) -> Finding | None:
    """What is wrong with the checkpoint in a folder (raises PermissionError: it can't be looked at)."""
    subject = f"ledger at {place.name}"
    data = b""
    try:
        for piece in DirectoryPlace(core.config.resolve(place.directory)).get(CHECKPOINT):
            data += piece
            if len(data) > MAX_CHECKPOINT:
                break
    except PlaceError as error:
        if isinstance(error.__cause__, PermissionError):
            raise error.__cause__ from error
        if not state.size:
            return None
        return Finding(subject, f"can't be compared: {error}", "mount it, or see why it is gone")
    except PlaceMissing:
        if not state.size:
            return None
        problem = f"expected the checkpoint of {state.size} entries that was there, found none"
        return Finding(subject, problem, "see whether it is the same folder, and who emptied it")
    try:
        core.store.catalogue.read(lambda c: _of_ours(core, c, place.name, data))
    except VaultError as error:
        return Finding(subject, str(error), TELL)
    return None
