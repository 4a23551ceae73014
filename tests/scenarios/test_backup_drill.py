"""The whole drill: back up, destroy before, between and after, restore elsewhere, and look at what came back."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.config import BackupTarget, KeyringCopy
from gateway.core import schedule
from gateway.core.key_groups import Frozen
from gateway.core.outbound.backup import key_search, snapshot
from gateway.core.outbound.backup import run as backup_run
from gateway.core.outbound.backup import status as backup_status
from gateway.core.steps import BACKUP_STEPS
from gateway.courier.transfers import beside
from gateway.errors import Refusal
from tests.support.house import House
from vault.backup import format as backup_format
from vault.backup import restore as vault_restore
from vault.backup.restore import restore
from vault.catalogue.schema import backup_blobs, clients, documents, ledger_entries
from vault.catalogue.schema import backups as backups_table
from vault.errors import IntegrityError, KeyUnavailable, PlaceError, StoreExists, WrongRootKey
from vault.keys.keyring import KeyringStore
from vault.keys.root import FileRootKey
from vault.storage.places import DirectoryPlace

NOTE = "demonstration-note"  # due as soon as it is filed
KILLER = Path(__file__).parents[1] / "support" / "killing_backup.py"


class Drill(House):
    """A house with one backup target, a folder, and everything carried in this process."""

    def __init__(
        self,
        folder: Path,
        *targets: BackupTarget,
        root_key: str = "root.key",
        copies: Sequence[KeyringCopy] = (),
    ) -> None:
        self.place = folder.parent / f"{folder.name}-place"
        self.place.mkdir(mode=0o700)
        given = list(targets) or [BackupTarget(name="disk", directory=str(self.place))]
        settings = {"backup.targets": given, "keyring.copies": list(copies)}
        super().__init__(folder, root_key, **settings)

    async def back_up(self, **more: Any) -> dict[str, Any]:
        self.clock.advance(seconds=5)
        return await self.carried(self.act("backup.run", **more))

    async def prove(self, sample: float = 100.0, **more: Any) -> dict[str, Any]:
        return await self.carried(self.act("backup.verify", sample=sample, **more))

    async def carried(self, work: Any) -> Any:
        return await beside(self.wings.outbound.transfers, self.config, work)

    async def destroy(self) -> list[str]:
        """Destroy what is due; its backups are told as a running courier would tell them."""
        gone = []
        for batch in await self.act("disposal.propose"):
            await self.approve(batch["id"], "officer1")
            await self.approve(batch["id"], "officer2")
            telling = asyncio.create_task(self._tell())
            await self.carried(self.act("disposal.execute", by="officer3", id=batch["id"]))
            telling.cancel()
            shown = await self.act("disposal.show", id=batch["id"])
            gone += [item["document_id"] for item in shown["register"]]
        return gone

    async def _tell(self) -> None:
        while True:
            await self.deliver()
            await asyncio.sleep(0.02)

    async def next_day(self) -> None:
        """A day later the emptied intake groups end (a restart, so that the clock is believed)."""
        self.restart_at(days=1)
        await self.carried(schedule.housekeeping(self.wings))
        await self.carried(self.deliver())

    def restart_at(self, *, believed: bool = True, **delta: float) -> None:
        self.core.close()
        self.clock.advance(**delta)
        self.open(believed=believed)
        self.core.store.recover(self.clock())

    def copy_keyrings(self, to: Path) -> Path:
        """A copy of the keyrings as they are now, as a registered copy has them."""
        shutil.copytree(self.folder / "vault/keyrings", to)
        return to

    def restored(self, to: Path, keyrings: Path | None = None, **more: Any) -> Restored:
        """Restore elsewhere, with the keyrings of now."""
        given = keyrings or self.copy_keyrings(to.with_name(f"{to.name}-keyrings"))
        to.mkdir(mode=0o700, exist_ok=True)
        root = FileRootKey.load(self.folder / "root.key")
        report = restore(
            lambda: DirectoryPlace(self.place), to / "vault", given, root, self.clock(), **more
        )
        vault_restore.finish(to / "vault")
        shutil.copy(self.folder / "root.key", to / "root.key")
        return Restored(self, to, report)


class Restored(House):
    """The house opened on a restored store, without its backup target."""

    def __init__(self, source: Drill, folder: Path, report: vault_restore.Report) -> None:
        import msgspec

        self.folder, self.clock, self.keys = folder, source.clock, source.keys
        self.report = report
        self.config = msgspec.structs.replace(source.config, base=folder)
        self.open()
        assert self.core.store.recover(self.clock()) == []

    async def is_whole(self) -> bool:
        found = (await self.act("check", read_data=True))["findings"]
        verified = await self.act("ledger.verify")
        assert verified["findings"] == []
        assert found == []
        return True


@pytest.fixture
async def drill(tmp_path):
    folder = tmp_path / "origin"
    folder.mkdir()
    made = Drill(folder)
    await made.settle()
    yield made
    await made.end()


async def held(house: House, name: str) -> str:
    """A document in the very group that ends when its neighbour is destroyed, and that stays: a hold."""
    document = await house.filed(name, f"{name} stays".encode(), NOTE)
    await house.act("hold.place", reason="audit", document=document)
    return document


async def content(
    house: House, name: str, record_class: str = "invoice", year: int = 2025
) -> bytes:
    return await house.read(f"/clients/acme/{year}/{record_class}/{name}")


def wrapped(house: House) -> dict[str, tuple[str, bytes]]:
    """Document → (group, wrapped key), as the catalogue has them now."""
    return house.core.store.catalogue.read(
        lambda c: {
            row.id: (row.group_id, bytes(row.wrapped_key))
            for row in c.execute(select(documents).where(documents.c.wrapped_key.is_not(None)))
        }
    )


def opens_under_any_key(house: House, document_id: str, key: bytes, *extra: str) -> bool:
    """Whether a wrapped key opens with any group key of any keyring, under any group's name."""
    from vault.crypto.wrapping import unwrap_key

    store = house.core.store
    held = [
        group
        for owner in store.custody.owners()
        for group in store.custody.stored(owner).groups.values()
    ]
    for group in held:
        for name in {group.id, *extra}:
            try:
                unwrap_key(group.key, key, purpose="document", subject=document_id, group=name)
            except IntegrityError:
                continue
            return True
    return False


async def test_destruction_before_between_and_after_backups(drill, tmp_path):
    await drill.filed("before.txt", b"before", NOTE)
    kept = await drill.filed("kept.xml", b"kept for thirty years")
    (before,) = await drill.destroy()
    assert (await drill.back_up())["documents"] == 1
    first = wrapped(drill)

    # Between: one more that goes, and a survivor in the very group that ends with it.
    await drill.filed("between.txt", b"between", NOTE)
    survivor = await held(drill, "survivor.txt")
    second = await drill.filed("second.xml", b"second")
    made = await drill.back_up()
    assert (made["documents"], made["blobs"]) == (4, 3)  # incremental: `kept` was there
    between_wrapped = wrapped(drill)
    (between,) = await drill.destroy()

    # After the last backup: another arrives and goes; a survivor is classified anew; a day passes.
    await drill.filed("after.txt", b"after", NOTE)
    (after,) = await drill.destroy()
    await drill.act(
        "document.reclassify",
        by="officer1",
        document=second,
        record_class="invoice",
        fiscal_year=2024,
    )
    await drill.next_day()

    there = drill.restored(tmp_path / "elsewhere")
    assert there.report.problems == []
    assert there.report.destroyed == 1  # `between`; `before` was gone, `after` never in it
    assert await there.is_whole()
    assert await content(there, "kept.xml") == b"kept for thirty years"
    assert await content(there, "second.xml") == b"second"  # as it was classified then
    assert await content(there, "survivor.txt", NOTE, 2026) == b"survivor.txt stays"
    group, key = between_wrapped[
        survivor
    ]  # what the backup has of it is noise, the amendment is not
    assert not opens_under_any_key(there, survivor, key, group)
    for gone in (before, between):
        document = await there.document(gone)
        assert (document["state"], document["name"]) == ("DESTROYED", "")
        assert not there.core.store.blobs.exists(gone)
    states = there.core.store.catalogue.read(
        lambda c: dict(c.execute(select(documents.c.id, documents.c.state)).all())
    )
    assert after not in states
    # Not even with the wrapped keys of the snapshots.
    group, key = between_wrapped[between]
    assert not opens_under_any_key(there, between, key, group)
    assert not opens_under_any_key(drill, between, key, group)
    group, key = first[kept]
    assert there.core.store.custody.document_key(row_of(there, kept)) == (
        drill.core.store.custody.document_key(row_of(drill, kept))
    )
    there.close()


def row_of(house: House, document_id: str) -> Any:
    return house.core.store.catalogue.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document_id)).one()
    )


async def test_a_document_reclassified_and_destroyed_after_the_backup_is_noise_in_it(
    drill, tmp_path
):
    """Its key was wrapped by three groups in its life; the backup knows the first two."""

    document = await drill.filed("moving.txt", b"moving", "invoice")
    neighbour = await drill.filed("stays.xml", b"stays", "invoice")
    await drill.back_up()
    old = wrapped(drill)
    await drill.act(
        "document.reclassify",
        by="officer1",
        document=document,
        record_class=NOTE,
        fiscal_year=2026,
    )
    assert await drill.destroy() == [document]
    assert (await drill.carried(key_search.unreadable(
        drill.wings.outbound, Frozen(), "disk", row_of(drill, neighbour).client_id, [document]
    )))[0] == "passed"  # fmt: skip
    there = drill.restored(tmp_path / "elsewhere")
    assert there.report.problems == []
    assert await there.is_whole()
    assert await content(there, "stays.xml") == b"stays"
    group, key = old[document]
    assert not opens_under_any_key(there, document, key, group)
    there.close()


async def test_without_its_amendment_a_survivor_is_reported_and_not_passed_over(drill, tmp_path):
    await drill.filed("gone.txt", b"gone", NOTE)
    stays = await held(drill, "stays.txt")
    await drill.back_up()
    (gone,) = await drill.destroy()
    (amendment,) = (drill.place / "amendments").iterdir()
    content_of = amendment.read_bytes()
    amendment.unlink()
    there = drill.restored(tmp_path / "without")
    named = {subject for subject, _ in there.report.problems}
    assert f"document {stays}" in named  # its wrapping of then is noise
    assert f"document {gone}" in named  # nothing says that it was destroyed
    assert (await there.document(gone))["state"] == "FILED"
    assert (await there.act("check"))["findings"] != []
    there.close()
    proof = await drill.prove()
    assert any("amendment" in finding["subject"] for finding in proof["findings"])
    amendment.write_bytes(content_of)
    again = drill.restored(tmp_path / "with")
    assert again.report.problems == []
    assert await content(again, "stays.txt", NOTE, 2026) == b"stays.txt stays"
    assert await again.is_whole()
    again.close()


async def test_a_missing_amendment_in_the_middle_is_reported(drill, tmp_path):
    for name in ("a", "b"):
        await drill.filed(f"{name}.txt", name.encode(), NOTE)
    await drill.filed("stays.xml", b"stays")
    await drill.back_up()
    await drill.destroy()
    await drill.filed("c.txt", b"c", NOTE)
    await drill.destroy()
    first, *_, last = sorted((drill.place / "amendments").iterdir())
    assert first != last
    first.unlink()
    there = drill.restored(tmp_path / "elsewhere")
    assert any(first.name.lstrip("0") in subject for subject, _ in there.report.problems)
    there.close()


async def test_an_amendment_waits_for_its_target_and_says_what_is_true_when_it_comes(
    drill, tmp_path
):
    await drill.filed("gone.txt", b"gone", NOTE)
    await held(drill, "stays.txt")
    await drill.back_up()
    away = drill.place.rename(drill.place.with_name("unmounted"))
    await drill.destroy()
    status = backup_status.status(drill.core)["targets"][0]
    assert status["amendments_behind"] >= 1
    away.rename(drill.place)
    drill.clock.advance(hours=2)
    await drill.carried(drill.deliver())
    assert backup_status.status(drill.core)["targets"][0]["amendments_behind"] == 0
    there = drill.restored(tmp_path / "elsewhere")
    assert there.report.problems == []
    assert await there.is_whole()
    there.close()


async def test_a_backup_holds_no_key_that_opens_anything(drill):
    await drill.filed("a.txt", b"a" * 100, NOTE)
    await drill.filed("b.xml", b"b" * 20000)
    await drill.back_up()
    await drill.destroy()
    await drill.back_up()
    root = FileRootKey.load(drill.folder / "root.key")
    keyrings = KeyringStore(drill.folder / "vault/keyrings", root)
    secrets = [root._wrapping]
    for owner in keyrings.owners():
        keyring = keyrings.load(owner)
        secrets += keyring.secrets.values()
        secrets += [group.key for group in keyring.groups.values()]
    custody = drill.core.store.custody
    living = wrapped(drill)
    secrets += [custody.document_key(row_of(drill, each)) for each in living]
    # The sealed catalogue shows neither wrapped keys nor metadata either.
    secrets += [key for _, key in living.values()]
    files = [path for path in drill.place.rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert len(secrets) > 8
    for path in files:
        data = path.read_bytes()
        for secret in secrets:
            assert secret[:16] not in data, path


async def test_every_flipped_byte_of_a_small_backup_is_found(drill):
    """In each file: some of its bytes, one at a time, and a missing last byte."""

    await drill.filed("gone.txt", b"gone", NOTE)
    await drill.filed("stays.xml", b"stays" * 10)
    await drill.back_up()
    await drill.destroy()
    await drill.back_up()
    # The older backup goes, so that each file left belongs to the newest.
    older = min((drill.place / "snapshots").iterdir())
    shutil.rmtree(older)
    assert (await drill.prove())["findings"] == []
    files = [path for path in sorted(drill.place.rglob("*")) if path.is_file()]
    assert {path.relative_to(drill.place).parts[0] for path in files} == {
        "strongroom-backup.json", "blobs", "snapshots", "amendments",
    }  # fmt: skip
    for path in files:
        whole = path.read_bytes()
        places = {0, 20, 60, len(whole) // 2, len(whole) - 70, len(whole) - 1}
        for at in sorted(place for place in places if 0 <= place < len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert (await drill.prove())["findings"] != [], (path, at)
        path.write_bytes(whole[:-1])
        assert (await drill.prove())["findings"] != [], path
        path.write_bytes(whole)
    assert (await drill.prove())["findings"] == []


async def test_what_lies_at_the_target_and_belongs_to_no_document_goes_and_what_is_lost_is_copied_again(
    drill,
):
    gone = await drill.filed("gone.txt", b"gone", NOTE)
    stays = await drill.filed("stays.xml", b"stays")
    await drill.back_up()
    await drill.destroy()
    assert (drill.place / backup_format.blob_name(gone)).exists()
    (drill.place / backup_format.blob_name(stays)).unlink()
    made = await drill.back_up()
    assert made["blobs"] == 1
    assert not (drill.place / backup_format.blob_name(gone)).exists()
    assert (drill.place / backup_format.blob_name(stays)).exists()
    rows = drill.core.store.catalogue.read(
        lambda c: set(c.execute(select(backup_blobs.c.document_id)).scalars())
    )
    assert rows == {stays}


async def test_an_older_backup_can_be_chosen_and_the_restore_is_reported_and_not_hidden(
    drill, tmp_path
):
    await drill.filed("one.xml", b"one")
    first = (await drill.back_up())["backup"]
    await drill.filed("two.xml", b"two")
    await drill.back_up()
    checkpoint = (await drill.act("ledger.checkpoint"))["checkpoint"]
    there = drill.restored(tmp_path / "elsewhere", backup_id=first)
    assert await there.is_whole()
    assert await there.names("/clients/acme/2025/invoice", "accountant") == ["one.xml"]
    size = there.report.ledger_size
    assert backup_status.status(there.core)["restored_at_size"] == size
    kinds = there.core.store.catalogue.read(
        lambda c: [bytes(entry) for entry in c.execute(select(ledger_entries.c.entry)).scalars()]
    )
    assert any(b'"store.restored"' in entry and first.encode() in entry for entry in kinds)
    # A checkpoint of the history that was lost is not of this one.
    assert (await there.act("ledger.verify", against=[checkpoint]))["findings"] != []
    there.close()


async def test_the_restored_house_goes_on(drill, tmp_path):
    """It takes documents in, destroys and certifies, and can be backed up to the same place again."""

    await drill.filed("old.txt", b"old", NOTE)
    kept = await drill.filed("kept.xml", b"kept")
    first = (await drill.back_up())["backup"]
    await drill.filed("later.txt", b"later", NOTE)
    await drill.destroy()
    there = drill.restored(tmp_path / "elsewhere")
    later = Drill.__new__(Drill)
    later.__dict__.update(there.__dict__)
    later.place = drill.place
    assert not there.core.store.blobs.exists(first)
    await later.filed("new.txt", b"new", NOTE)
    await later.filed("new.xml", b"new")
    await later.back_up()
    # The backup that it came from is still one, and numbers of amendments are not given twice.
    assert (drill.place / backup_format.manifest_name(first)).is_file()
    before = {path.name for path in (drill.place / "amendments").iterdir()}
    await later.destroy()
    assert len({path.name for path in (drill.place / "amendments").iterdir()} - before) == 1
    assert (await later.prove())["findings"] == []
    twice = later.restored(tmp_path / "third")
    assert twice.report.problems == []
    assert await twice.is_whole()
    assert await content(twice, "kept.xml") == b"kept"
    assert (await twice.document(kept))["state"] == "FILED"
    twice.close()
    there.close()


async def test_a_closed_client_stays_closed_and_its_keyring_is_not_asked_for(drill, tmp_path):
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    await drill.act("client.close", slug="other")
    drill.core.store.catalogue.write(
        lambda tx: backup_format.request_amendment(tx.connection, ["disk"], [], drill.clock())
    )
    await drill.carried(drill.deliver())
    there = drill.restored(tmp_path / "elsewhere")
    assert there.report.problems == []
    assert (await there.act("client.show", slug="other"))["state"] == "closed"
    assert await there.is_whole()
    there.close()


async def test_an_approved_batch_that_was_carried_out_after_the_backup_is_not_carried_out_again(
    drill, tmp_path
):
    await drill.filed("gone.txt", b"gone", NOTE)
    (batch,) = await drill.act("disposal.propose")
    await drill.approve(batch["id"], "officer1")
    await drill.approve(batch["id"], "officer2")
    await drill.back_up()
    telling = asyncio.create_task(drill._tell())
    await drill.carried(drill.act("disposal.execute", by="officer3", id=batch["id"]))
    telling.cancel()
    there = drill.restored(tmp_path / "elsewhere")
    assert there.report.destroyed == 1
    assert (await there.act("disposal.show", id=batch["id"]))["state"] == "REJECTED"
    assert await there.is_whole()
    assert await there.act("disposal.propose") == []
    there.close()


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_restore_wants_the_right_keys_and_an_empty_folder(drill, tmp_path):
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    keyrings = drill.copy_keyrings(tmp_path / "keyrings")
    root = FileRootKey.load(drill.folder / "root.key")
    now = drill.clock()

    def attempt(into: Path, keys: Path = keyrings, key: FileRootKey = root) -> None:
        restore(lambda: DirectoryPlace(drill.place), into, keys, key, now)

    (tmp_path / "other").mkdir()
    with pytest.raises(WrongRootKey):
        attempt(tmp_path / "a", key=FileRootKey.create(tmp_path / "other" / "root.key"))
    with pytest.raises(KeyUnavailable, match="house"):
        attempt(tmp_path / "b", keys=tmp_path / "other")
    with pytest.raises(StoreExists):
        attempt(tmp_path / "other")
    with pytest.raises(PlaceError):
        restore(lambda: DirectoryPlace(tmp_path / "nowhere"), tmp_path / "c", keyrings, root, now)
    # A place of another store, a foreign manifest: nothing is taken from it.
    (manifest,) = (drill.place / "snapshots").rglob("manifest")
    genuine = manifest.read_bytes()
    manifest.write_bytes(genuine.replace(b'"documents":1', b'"documents":2'))
    with pytest.raises(IntegrityError):
        attempt(tmp_path / "d")
    manifest.write_bytes(genuine)
    attempt(tmp_path / "e")
    vault_restore.finish(tmp_path / "e")
    with pytest.raises(StoreExists):
        attempt(tmp_path / "e")


async def test_an_interrupted_restore_goes_on_and_keeps_the_files_that_are_whole(drill, tmp_path):
    for number in range(5):
        await drill.filed(f"{number}.xml", os.urandom(40000))
    await drill.back_up()
    keyrings = drill.copy_keyrings(tmp_path / "keyrings")
    root = FileRootKey.load(drill.folder / "root.key")
    taken: list[str] = []

    class Failing(DirectoryPlace):
        left = 7

        def get(self, name):
            taken.append(name)
            Failing.left -= 1
            if Failing.left < 0:
                raise PlaceError("the line is down")
            yield from super().get(name)

    into = tmp_path / "elsewhere" / "vault"
    into.parent.mkdir()
    for left in (2, 4, 5):
        Failing.left = left
        with pytest.raises(PlaceError):
            restore(lambda: Failing(drill.place), into, keyrings, root, drill.clock())
        assert not (into / "catalogue.sqlite3").exists()
    assert vault_restore.is_unfinished(into)
    whole = {path.name for path in (into / "blobs/objects").rglob("*") if path.is_file()}
    assert whole
    Failing.left = 1000
    taken.clear()
    report = restore(lambda: Failing(drill.place), into, keyrings, root, drill.clock())
    assert report.problems == []
    assert report.documents == 5
    assert not whole & {name.rpartition("/")[2] for name in taken}
    vault_restore.finish(into)
    shutil.copy(drill.folder / "root.key", into.parent / "root.key")
    there = Restored(drill, into.parent, report)
    assert await there.is_whole()
    there.close()


async def test_a_target_that_is_not_mounted_or_is_another_store_s_is_refused(drill):
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    marker = drill.place / backup_format.MARKER
    genuine = marker.read_bytes()
    marker.unlink()
    refusal = await drill.refused(drill.back_up())
    assert "--fresh" in refusal.message
    marker.write_bytes(backup_format.marker("01ARZ3NDEKTSV4RRFFQ69G5FAV"))
    refusal = await drill.refused(drill.back_up(fresh=True))
    assert "another" in refusal.message
    shutil.rmtree(drill.place)
    drill.place.mkdir()
    made = await drill.back_up(fresh=True)
    assert made["blobs"] == 1
    assert marker.read_bytes() == genuine
    assert (await drill.prove())["findings"] == []
    states = [row["state"] for row in (await drill.act("backup.list"))["backups"]]
    assert states == ["done", "failed", "failed", "done"]


async def test_who_comes_while_a_backup_is_verified_hears_what_runs(drill):
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    first = asyncio.create_task(drill.prove())
    async with asyncio.timeout(10):
        while not drill.wings.outbound.in_progress.has("backup to", "disk"):
            await asyncio.sleep(0)
    for act in ("backup.verify", "backup.run"):
        refusal = await drill.refused(drill.act(act))
        assert refusal.message == "verification of the backup at disk is already running"
    assert (await first)["findings"] == []


async def test_without_a_courier_a_backup_fails_with_one_sentence(tmp_path):
    folder = tmp_path / "origin"
    folder.mkdir()
    house = Drill(folder)
    try:
        from gateway.core.outbound.transfers import TransferQueue

        await house.settle()
        house.wings.outbound.transfers = TransferQueue(patience=0.1)
        refusal = await house.refused(house.act("backup.run"))
        assert "courier" in refusal.message
        with pytest.raises(Refusal, match="backup target nobody"):
            await house.act("backup.run", target="nobody")
    finally:
        house.close()


async def test_old_backups_go_when_their_time_is_over_and_the_newest_never(tmp_path):
    folder = tmp_path / "origin"
    folder.mkdir()
    place = str(tmp_path / "origin-place")
    house = Drill(folder, BackupTarget(name="disk", directory=place, keep_days=2, keep_least=1))
    try:
        await house.settle()
        await house.filed("note.txt", b"note", NOTE)
        await house.filed("kept.xml", b"kept")
        first = (await house.back_up())["backup"]
        await house.destroy()
        assert len(list((house.place / "amendments").iterdir())) == 1
        house.restart_at(days=1)
        second = (await house.back_up())["backup"]

        def present() -> set[str]:
            return {path.parent.name for path in (house.place / "snapshots").glob("*/manifest")}

        assert present() == {first, second}
        house.restart_at(days=1.5)
        third = (await house.back_up())["backup"]
        assert present() == {second, third}
        assert list((house.place / "amendments").iterdir()) == []  # only the first needed it
        house.restart_at(days=30)
        assert (await house.prove())["findings"] == []
        await house.back_up()
        assert len(present()) == 1
    finally:
        house.close()


async def test_the_last_backups_stay_whatever_their_dates_and_one_from_the_future_is_named(
    tmp_path,
):
    folder = tmp_path / "origin"
    folder.mkdir()
    place = str(tmp_path / "origin-place")
    house = Drill(folder, BackupTarget(name="disk", directory=place, keep_days=2, keep_least=2))
    try:
        await house.settle()
        await house.filed("kept.xml", b"kept")
        good = [(await house.back_up())["backup"] for _ in range(3)]

        def present() -> set[str]:
            return {path.parent.name for path in (house.place / "snapshots").glob("*/manifest")}

        # Five years ahead over a restart, and nobody says that this is right.
        house.restart_at(believed=False, days=5 * 365)
        ahead = (await house.back_up())["backup"]
        assert present() == {*good, ahead}  # nothing was let go of
        # The clock is right again, and an officer says so.
        house.restart_at(believed=False, days=-5 * 365)
        await house.act("clock.confirm", by="officer1", now=house.clock().isoformat(), reason="NTP")
        (target,) = (await house.act("status"))["backups"]["targets"]
        assert target["newest"] == good[-1]
        assert [each["id"] for each in target["from_the_future"]] == [ahead]
        house.restart_at(days=10)  # longer than backups are kept
        (target,) = (await house.act("status"))["backups"]["targets"]
        assert target["overdue"]
        await house.carried(backup_run.due(house.wings.outbound))
        newest = (await house.act("status"))["backups"]["targets"][0]["newest"]
        assert newest not in {*good, ahead}
        assert present() == {good[-1], newest, ahead}  # the last two good ones, and the odd one
    finally:
        house.close()


async def test_a_backup_says_whose_documents_in_it_open_for_nobody(drill):
    made = await drill.back_up()
    assert made["keyrings_broken"] == []
    client = await drill.core.read(
        lambda c: c.execute(clients.select().where(clients.c.slug == "acme")).one()
    )
    path = drill.core.store.custody.keyrings.path(client.id)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    (broken,) = (await drill.back_up())["keyrings_broken"]
    assert broken["client"] == "acme"


async def test_a_backup_is_made_when_it_is_due_and_not_before(drill):
    async def due() -> int:
        await drill.carried(backup_run.due(drill.wings.outbound))
        return len((await drill.act("backup.list"))["backups"])

    assert [await due(), await due()] == [1, 1]
    drill.clock.advance(hours=23)
    assert await due() == 1
    drill.clock.advance(hours=2)
    assert await due() == 2


async def test_nothing_plain_of_the_catalogue_stays_in_the_store_s_folder(drill):
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    await drill.prove()
    names = {path.name for path in (drill.folder / "vault").iterdir()}
    assert {name for name in names if name.startswith("catalogue.sqlite3.")} == set()
    left = drill.folder / "vault" / "catalogue.sqlite3.backup-01ARZ3NDEKTSV4RRFFQ69G5FAV"
    left.write_bytes(b"left by a crash")
    assert snapshot.sweep(drill.core) == 1
    assert not left.exists()


async def test_a_document_that_comes_in_while_the_catalogue_is_copied_is_in_the_backup(
    drill, tmp_path
):
    await drill.filed("first.xml", b"first")
    take = backup_format.take_snapshot
    late = []

    def slow(catalogue: Path, plain: Path) -> None:
        # Recorded between the last look at what is missing and the snapshot.
        if not late:
            late.append("begun")
            future = asyncio.run_coroutine_threadsafe(drill.filed("late.xml", b"late"), loop)
            late.append(future.result(30))
        take(catalogue, plain)

    loop = asyncio.get_running_loop()
    backup_format.take_snapshot = slow
    try:
        made = await drill.back_up()
    finally:
        backup_format.take_snapshot = take
    assert made["documents"] == 2
    there = drill.restored(tmp_path / "elsewhere")
    assert there.report.problems == []
    assert await content(there, "late.xml") == b"late"
    assert await there.is_whole()
    there.close()


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("step", BACKUP_STEPS)
async def test_killed_at_a_step_the_next_run_makes_a_whole_backup(drill, tmp_path, step, phase):
    await drill.filed("gone.txt", b"gone", NOTE)
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    await drill.filed("more.xml", b"more")
    drill.core.close()
    (drill.folder / "config.toml").write_text(
        '[retention]\npacks = ["cn", "demo"]\n[inspect]\nclamd = "off"\n'
        f'[[backup.targets]]\nname = "disk"\ndirectory = "{drill.place}"\n'
    )
    died = subprocess.run(
        [sys.executable, str(KILLER), str(drill.folder / "config.toml"), step, phase],
        timeout=120, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr
    drill.open()
    drill.core.store.recover(drill.clock())
    snapshot.sweep(drill.core)
    drill.clock.advance(minutes=5)
    # What is there is a whole backup, even before the next run; then that run makes one, and no more.
    assert (await drill.prove())["findings"] == []
    await drill.destroy()
    await drill.back_up()
    assert (await drill.prove())["findings"] == []
    for folder in (drill.place / "snapshots").iterdir():
        names = {path.name for path in folder.iterdir()}
        assert names in ({"catalogue", "manifest"}, set()), folder
    states = drill.core.store.catalogue.read(
        lambda c: set(c.execute(select(backups_table.c.state)).scalars())
    )
    assert "running" not in states
    there = drill.restored(tmp_path / "elsewhere")
    assert there.report.problems == []
    assert await there.is_whole()
    assert await content(there, "more.xml") == b"more"
    there.close()
