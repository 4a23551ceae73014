"""The ledger at other places: forward only, whole before its checkpoint, and an alarm for what is not ours."""

from __future__ import annotations

import shutil
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.config import BackupTarget, LedgerPlace
from gateway.core.outbound import ledger_publication, outbox
from gateway.core.outbound.kinds import kinds
from gateway.core.outbound.outbound import Outbound
from gateway.courier.transfers import beside
from tests.scenarios.test_backup_drill import Drill
from tests.support.house import House, replaced
from tests.support.sshd import MISSING, Sshd
from tests.support.tile_client import read_log
from vault.catalogue import ledger, ledger_keys
from vault.errors import PlaceError
from vault.ledger import tiles
from vault.ledger.note import Checkpoint, sign_note, verify_note
from vault.storage.places import DirectoryPlace


async def publish_once(outbound: Outbound) -> bool:
    """Try once to bring the only place the newest checkpoint, due or not; whether it is there."""
    kind = ledger_publication.Publication(outbound)
    (place,) = outbound.core.config.ledger.places
    states = await outbound.core.read(ledger_publication._states)
    state = states.get(place.name, ledger_publication._State())
    delivery = outbox.Delivery(place.name, state.attempts, state)
    return await outbox.attempt(outbound, kind, delivery) is None


class Published(House):
    """A house whose ledger goes to one folder, carried in this process."""

    def __init__(self, folder: Path, *, with_tiles: bool = False, **section: Any) -> None:
        self.place = folder.parent / f"{folder.name}-published"
        if not section:
            self.place.mkdir()
            section = {"directory": str(self.place)}
        self.section = LedgerPlace(name="auditor", tiles=with_tiles, **section)
        super().__init__(folder, **{"ledger.places": [self.section]})

    async def publish(self) -> bool:
        await self.act("ledger.checkpoint")
        return await beside(
            self.wings.outbound.transfers,
            self.config,
            publish_once(self.wings.outbound),
        )

    async def tick(self) -> bool:
        """What the job does; whether it began anything."""

        async def work() -> bool:
            begun = await outbox.due(self.wings.outbound, kinds(self.wings.outbound))
            for task in begun:
                await task
            return bool(begun)

        return await beside(self.wings.outbound.transfers, self.config, work())

    def grow(self, count: int) -> None:
        now = self.clock()
        draft = ledger.Draft("test.entry", "s", "a", now, {"n": 1})
        self.core.store.catalogue.write(
            lambda tx: tx.ledger.append_all(tx.connection, [draft] * count)
        )

    def files(self) -> set[str]:
        return {
            str(path.relative_to(self.place)) for path in self.place.rglob("*") if path.is_file()
        }

    def fetch(self, name: str) -> bytes:
        return (self.place / name).read_bytes()

    async def shown(self) -> dict[str, Any]:
        (shown,) = (await self.act("status"))["ledger"]["places"]
        return shown

    async def found(self) -> list[str]:
        return [
            finding["problem"]
            for finding in (await self.act("check"))["findings"]
            if finding["subject"] == "ledger at auditor"
        ]

    def kinds(self) -> list[str]:
        entries = self.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
        return [entry.decode().partition('"kind":"')[2].partition('"')[0] for entry in entries]


@pytest.fixture
async def made(tmp_path):
    houses: list[House] = []

    async def make(**more: Any) -> Published:
        folder = tmp_path / "house"
        folder.mkdir()
        house = Published(folder, **more)
        houses.append(house)
        await house.settle()
        return house

    yield make
    for house in houses:
        await house.end()


def names_at(size: int) -> set[str]:
    every = (*tiles.full_between(0, size), *tiles.partials(size))
    return {tile.path for tile in every} | {"checkpoint", "keys/0"}


async def test_a_place_gets_the_newest_checkpoint_and_the_key_that_verifies_it(made):
    house = await made()
    assert await house.publish()
    assert house.files() == {"checkpoint", "keys/0"}
    assert (house.place / "checkpoint").stat().st_mode & 0o777 == 0o644
    assert (house.place / "keys").stat().st_mode & 0o777 == 0o755
    vkey = house.fetch("keys/0").decode().strip()
    text = verify_note(house.fetch("checkpoint").decode(), vkey)
    shown = await house.shown()
    assert Checkpoint.parse(text).size == shown["size"] == house.core.store.catalogue.ledger.size
    assert (shown["behind_since"], shown["failure"], shown["alarmed_at"]) == (None, "", None)
    assert await house.found() == []


async def test_it_is_due_when_something_came_and_not_more_often_than_asked_for(made):
    house = await made()
    await house.act("ledger.checkpoint")
    assert await house.tick()
    assert not await house.tick()
    first = house.fetch("checkpoint")
    house.grow(1)
    await house.act("ledger.checkpoint")
    assert not await house.tick()
    house.clock.advance(seconds=59)
    assert not await house.tick()
    assert (await house.shown())["behind_since"] is None
    house.clock.advance(seconds=1)
    assert await house.tick()
    assert house.fetch("checkpoint") != first
    house.clock.advance(days=1)
    assert not await house.tick()


@pytest.mark.parametrize("sizes", [(1, 1), (300, 700), (256 - 30, 30), (70_000, 10)])
async def test_tiles_at_any_web_server_give_an_independent_client_every_entry_and_root(made, sizes):
    house = await made(with_tiles=True)
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(house.place)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def fetch(name: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{name}") as reply:
            return reply.read()

    try:
        for count in sizes:
            house.grow(count)
            assert await house.publish()
            size = house.core.store.catalogue.ledger.size
            entries = read_log(fetch)
            assert entries == house.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
            # Nothing is missing, and what full tiles have replaced is gone.
            assert names_at(size) <= house.files()
            full = {tile.path for tile in tiles.full_between(0, size)}
            assert not [
                name for name in house.files() if ".p/" in name and name.partition(".p/")[0] in full
            ]
    finally:
        server.shutdown()
        server.server_close()


async def test_whatever_breaks_off_the_checkpoint_never_comes_before_its_tiles(made, monkeypatch):
    house = await made(with_tiles=True)
    put = ledger_publication.put_bytes

    def lenient(name: str) -> bytes:
        """As the specification asks of clients: the full tile where the partial one is gone."""
        path = house.place / name
        if not path.exists() and ".p/" in name:
            full, _, width = name.partition(".p/")
            data = (house.place / full).read_bytes()
            if "entries" not in full:
                return data[: 32 * int(width)]
            end = 0
            for _ in range(int(width)):
                end += 2 + int.from_bytes(data[end : end + 2], "big")
            return data[:end]
        return path.read_bytes()

    house.fetch = lenient  # type: ignore[method-assign]
    house.grow(250)
    assert await house.publish()
    house.grow(300)
    await house.act("ledger.checkpoint")
    before = house.fetch("checkpoint")
    steps = 0
    while True:
        left = steps

        async def failing(core, target, name, data):
            nonlocal left
            if left == 0:
                raise PlaceError(f"{name}: expected to be written, found no space left")
            left -= 1
            await put(core, target, name, data)

        monkeypatch.setattr(ledger_publication, "put_bytes", failing)
        if await house.publish():
            break
        assert house.fetch("checkpoint") == before
        assert "no space" in (await house.shown())["failure"]
        read_log(house.fetch)  # what the old checkpoint needs, or what has replaced it
        steps += 1
    assert steps > 5
    assert house.fetch("checkpoint") != before
    read_log(house.fetch)


async def test_tiles_that_are_wanted_later_are_all_brought(made):
    house = await made()
    house.grow(600)
    assert await house.publish()
    house.section = LedgerPlace(name="auditor", directory=str(house.place), tiles=True)
    house.config.ledger.places[:] = [house.section]
    house.clock.advance(minutes=1)
    assert await house.tick()
    read_log(house.fetch)


# ── what must not be overwritten ─────────────────────────────────────────────────────────────────


def other_history(house: Published) -> bytes:
    store = house.core.store
    text = Checkpoint(store.origin, 3, b"\x01" * 32, ()).encode()
    return sign_note(text, store.origin, store.ledger_key).encode()


async def test_a_fork_is_an_alarm_once_and_stays_where_it_is_until_the_right_one_is_put_back(made):
    house = await made()
    assert await house.publish()
    right = house.fetch("checkpoint")
    (house.place / "checkpoint").write_bytes(other_history(house))
    house.grow(1)
    for _ in range(3):
        assert not await house.publish()
        assert house.fetch("checkpoint") == other_history(house)
    shown = await house.shown()
    assert shown["alarmed_at"]
    assert "rewritten or forked" in shown["failure"]
    assert house.kinds().count(ledger_publication.CONTRADICTED) == 1
    assert ["rewritten or forked" in each for each in await house.found()] == [True]
    (house.place / "checkpoint").write_bytes(right)
    assert await house.publish()
    assert (await house.shown())["alarmed_at"] is None
    assert await house.found() == []


@pytest.mark.parametrize("text", [b"", b"not a checkpoint\n", b"\xff" * 100, b"x" * 200_000])
async def test_what_is_no_checkpoint_at_all_stays_and_is_an_alarm(made, text):
    house = await made()
    (house.place / "checkpoint").write_bytes(text)
    assert not await house.publish()
    assert house.fetch("checkpoint") == text
    assert house.files() == {"checkpoint"}
    assert (await house.shown())["alarmed_at"]


async def test_another_ledger_s_place_is_left_alone(made, tmp_path):
    house = await made()
    other = Published(tmp_path, directory=str(house.place))
    try:
        assert await other.publish()
        theirs = house.fetch("checkpoint")
        assert not await house.publish()
        assert house.fetch("checkpoint") == theirs
        assert "expected origin" in (await house.shown())["failure"]
    finally:
        other.close()


async def test_a_catalogue_put_back_from_an_older_copy_is_found_by_check_alone(made, tmp_path):
    house = await made()
    vault = house.folder / "vault"
    house.core.close()
    shutil.copytree(vault, tmp_path / "older")
    house.open()
    house.grow(5)
    assert await house.publish()
    house.core.close()
    shutil.rmtree(vault)
    shutil.copytree(tmp_path / "older", vault)
    house.open()
    (problem,) = await house.found()
    assert "cut or restored from an older copy" in problem
    published = house.fetch("checkpoint")
    assert not await house.publish()
    assert house.fetch("checkpoint") == published
    house.grow(50)  # growing past it does not heal it
    assert not await house.publish()
    assert house.fetch("checkpoint") == published
    assert "rewritten or forked" in (await house.shown())["failure"]


async def test_a_restored_store_does_not_overwrite_what_was_published_and_the_alarm_names_the_restore(
    tmp_path,
):
    folder, place = tmp_path / "drill", tmp_path / "published"
    folder.mkdir()
    place.mkdir()
    (tmp_path / "disk").mkdir(mode=0o700)
    drill = Drill(folder, BackupTarget(name="disk", directory=str(tmp_path / "disk")))
    drill.place.rmdir()
    drill.place = tmp_path / "disk"
    section = LedgerPlace(name="auditor", directory=str(place))
    drill.config.ledger.places[:] = [section]

    async def publish(house: House) -> bool:
        await house.act("ledger.checkpoint")
        return await beside(
            house.wings.outbound.transfers,
            house.config,
            publish_once(house.wings.outbound),
        )

    try:
        await drill.settle()
        await drill.back_up()
        await drill.act("keys.rotate", what="ledger")
        assert await publish(drill)
        kept = (place / "checkpoint").read_bytes()
        there = drill.restored(tmp_path / "elsewhere")
        try:
            report = await there.act("ledger.verify")
            assert report["findings"] == []
            assert "key was changed" in report["restored"][0]
            assert not await publish(there)
            assert (place / "checkpoint").read_bytes() == kept
            (shown,) = (await there.act("status"))["ledger"]["places"]
            assert "the store was restored on" in shown["failure"]
            assert shown["alarmed_at"]
            against = await there.act("ledger.verify", against=[kept.decode()])
            assert "the store was restored on" in against["findings"][0]
        finally:
            there.close()
    finally:
        drill.close()


async def test_a_folder_that_only_the_courier_may_read_is_no_finding_but_its_alarm_is(
    made, monkeypatch
):
    house = await made()

    def refuse(self: DirectoryPlace, name: str) -> Iterator[bytes]:
        raise PermissionError(13, "Permission denied", name)
        yield b""

    assert await house.publish()
    with monkeypatch.context() as patched:
        patched.setattr(DirectoryPlace, "get", refuse)
        assert await house.found() == []
    (house.place / "checkpoint").write_bytes(other_history(house))
    house.grow(1)
    assert not await house.publish()
    with monkeypatch.context() as patched:
        patched.setattr(DirectoryPlace, "get", refuse)
        assert ["rewritten or forked" in each for each in await house.found()] == [True]


# ── places that fail ─────────────────────────────────────────────────────────────────────────────


async def test_a_place_that_is_away_is_tried_with_growing_delays_and_catches_up(made):
    house = await made()
    house.place.rmdir()
    await house.act("ledger.checkpoint")
    delays = []
    for _ in range(14):
        waited = 0
        while not await house.tick():
            house.clock.advance(seconds=max(1, 2 ** (len(delays) - 2)))
            waited += 1
            assert waited < 100
        shown = await house.shown()
        assert shown["behind_since"]
        assert "mounted" in shown["failure"]
        with_state = house.core.store.catalogue.read(ledger_publication._states)["auditor"]
        delays.append((with_state.next_attempt_at - house.clock()).total_seconds())
    assert delays == [min(2.0**n, 3600.0) for n in range(14)]
    assert await house.found() == []  # nothing was there yet: nothing to compare
    house.place.mkdir()
    house.clock.advance(hours=1)
    assert await house.tick()
    assert (await house.shown())["behind_since"] is None


async def test_a_place_that_was_emptied_gets_nothing_and_check_says_so(made):
    """An empty mount point looks like a new folder: what was there before tells them apart."""
    house = await made()
    assert await house.publish()
    house.place.rename(house.place.with_name("away"))
    house.place.mkdir()
    house.grow(1)
    assert not await house.publish()
    assert house.files() == set()
    shown = await house.shown()
    assert "the same place" in shown["failure"]
    assert shown["alarmed_at"] is None
    assert ["found none" in each for each in await house.found()] == [True]
    house.place.rmdir()
    house.place.with_name("away").rename(house.place)
    assert await house.publish()


async def test_after_a_change_of_the_signing_key_the_place_leads_from_the_first_key_to_the_last(
    made,
):
    house = await made(with_tiles=True)
    assert await house.publish()
    for _ in range(2):
        await house.act("keys.rotate", what="ledger")
        assert await house.publish()
    vkey = house.fetch("keys/0").decode().strip()
    names = sorted(int(path.name) for path in (house.place / "keys").iterdir())
    assert len(names) == 3
    for since in names[1:]:
        note = house.fetch(f"keys/{since}").decode()
        vkey = ledger_keys.read_handover(note, house.core.store.origin, since, vkey)
    verify_note(house.fetch("checkpoint").decode(), vkey)
    read_log(house.fetch)


async def test_a_host_gets_it_by_sftp(made, tmp_path):
    if MISSING:
        pytest.skip(MISSING)
    server = Sshd(tmp_path / "sshd")
    try:
        house = await made(
            with_tiles=True,
            sftp=server.address(),
            host_key=server.host_key,
            key=str(server.key),
        )
        house.place = server.home
        for count in (300, 300):
            house.grow(count)
            assert await house.publish()
            read_log(house.fetch)
        (server.home / "checkpoint").write_bytes(other_history(house))
        house.grow(1)
        assert not await house.publish()
        assert ["rewritten or forked" in each for each in await house.found()] == [True]
    finally:
        server.stop()


async def test_a_place_that_was_renamed_is_settled_by_an_officer_and_check_forgets_it(made):
    house = await made()
    (house.place / "checkpoint").write_bytes(b"no checkpoint")
    assert not await house.publish()
    assert await house.found()
    in_use = house.act("ledger.settle", by="officer1", name="auditor")
    assert "taken out of the configuration first" in (await house.refused(in_use)).message
    house.config = replaced(house.config, "ledger.places", [])
    house.restart()
    assert await house.found()
    by_console = house.act("ledger.settle", name="auditor")
    assert (await house.refused(by_console)).code == "denied"
    await house.act("ledger.settle", by="officer1", name="auditor")
    assert await house.found() == []
    assert "ledger.place-settled" in house.kinds()
