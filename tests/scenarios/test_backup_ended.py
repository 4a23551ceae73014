"""Backups and what ended since: whole clients, keys that went before a backup knew, places that were replaced."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, update

from gateway.config import KeyringCopy
from gateway.core.disposal import execution
from gateway.core.key_groups import Frozen
from gateway.core.outbound.backup import key_search, target
from gateway.core.outbound.backup import places as backup_places
from gateway.core.outbound.transfers import TransferQueue
from gateway.core.sessions.courier import CourierSession
from gateway.errors import Refusal
from gateway.wire.messages import ClaimTransfer
from tests.scenarios.test_backup_drill import NOTE, Drill, Restored, content, drill, held, wrapped
from tests.support import softhsm
from vault.backup.restore import Report, finish, restore
from vault.catalogue.schema import backup_amendments, batches, documents, groups
from vault.errors import PlaceError
from vault.keys.keyring import KeyringStore
from vault.keys.root import FileRootKey
from vault.storage.places import DirectoryPlace

__all__ = ["drill"]


def client_id(house: Any, document: str) -> str:
    return house.core.store.catalogue.read(
        lambda c: c.execute(
            select(documents.c.client_id).where(documents.c.id == document)
        ).scalar_one()
    )


async def end_client(house: Drill, *, told: bool = True) -> str:
    """End `acme` whole; returns the batch. Untold: the backup's place is away meanwhile."""
    away = None if told else house.place.rename(house.place.with_name("away"))
    (batch,) = await house.act("disposal.propose", client="acme", whole_client=True)
    await house.approve(batch["id"], "officer1")
    await house.approve(batch["id"], "officer2")
    telling = asyncio.create_task(house._tell())
    await house.carried(house.act("disposal.execute", by="officer3", id=batch["id"]))
    telling.cancel()
    if away is not None:
        away.rename(house.place)
    else:
        house.clock.advance(hours=2)
        await house.carried(house.deliver())
    return batch["id"]


async def slugs(house: Any) -> dict[str, str]:
    return {each["slug"]: each["state"] for each in await house.act("client.list")}


@pytest.mark.parametrize("when", ["before", "between", "after", "during"])
async def test_a_client_that_ended_before_between_after_or_during_a_backup_is_closed_when_it_is_restored(
    drill, tmp_path, monkeypatch, when
):
    gone = await drill.filed("gone.txt", b"gone", NOTE)
    await drill.filed("theirs.xml", b"theirs", by="other")
    await drill.act("account.grant", name="accountant", client="other")
    if when == "between":
        await drill.back_up()
    if when == "during":
        real = execution._finish

        async def finish_later(disposal, batch):
            await drill.back_up()
            return await real(disposal, batch)

        monkeypatch.setattr(execution, "_finish", finish_later)
    elif when == "after":
        await drill.back_up()
    await target.secret_of(drill.core)  # as any backup makes it
    rings = drill.copy_keyrings(tmp_path / "older")
    batch = await end_client(drill)
    if when in {"before", "between"}:
        await drill.back_up()
    assert (await drill.prove())["findings"] == []
    # With the keyrings of today, and with those from when the client was there.
    for name, given in (("now", None), ("older", rings)):
        there = drill.restored(tmp_path / name, given)
        documents_left = [each for each in there.report.problems if "document" in each[0]]
        assert documents_left == []
        assert await slugs(there) == {"acme": "closed", "other": "open"}
        if when != "before":
            assert (await there.document(gone))["state"] == "DESTROYED"
        state = there.core.store.catalogue.read(
            lambda c: c.execute(select(batches.c.state).where(batches.c.id == batch)).scalar()
        )
        assert state == {"after": None, "during": "REJECTED"}.get(when, "DONE")
        assert client_id(drill, gone) not in there.core.store.custody.owners()
        if given is None:
            assert there.report.problems == []
            assert await there.is_whole()
        path = "/clients/other/2025/invoice/theirs.xml"
        assert await there.read(path) == b"theirs"
        there.close()


def restored_anyhow(source: Drill, to: Path, keyrings: Path | None = None) -> Restored:
    """As `Drill.restored`, but what a start puts right is not looked at."""
    given = keyrings or source.copy_keyrings(to.with_name(f"{to.name}-keyrings"))
    to.mkdir(mode=0o700)
    root = FileRootKey.load(source.folder / "root.key")
    report = restore(
        lambda: DirectoryPlace(source.place), to / "vault", given, root, source.clock()
    )
    finish(to / "vault")
    shutil.copy(source.folder / "root.key", to / "root.key")
    made = Restored.__new__(Restored)
    made.folder, made.clock, made.keys, made.report = to, source.clock, source.keys, report
    made.config = msgspec.structs.replace(source.config, base=to)
    made.open()
    return made


async def test_a_client_that_ended_and_of_whose_end_no_backup_was_told_is_named_and_the_others_are_served(
    drill, tmp_path
):
    gone = await drill.filed("gone.txt", b"gone", NOTE)
    await drill.filed("theirs.xml", b"theirs", by="other")
    await drill.act("account.grant", name="accountant", client="other")
    await drill.back_up()
    client = client_id(drill, gone)
    await end_client(drill, told=False)
    proof = {each["subject"] for each in (await drill.prove())["findings"]}
    assert {f"client {client}", f"document {gone}"} <= proof
    assert any(subject.startswith("amendment ") for subject in proof)
    there = restored_anyhow(drill, tmp_path / "elsewhere")
    assert {subject for subject, _ in there.report.problems} == {
        f"client {client}",
        f"document {gone}",
    }
    for _ in range(2):  # at every start
        there.core.store.recover(there.clock())
        there.core.close()
        there.open()
    assert (await there.act("client.show", slug="other"))["state"] == "open"
    assert (await there.document(gone))["state"] == "FILED"
    path = "/clients/other/2025/invoice/theirs.xml"
    assert await there.read(path) == b"theirs"
    await there.upload("/inbox/new.xml", b"new", by="other")
    assert (await there.act("check"))["findings"] != []
    there.close()


# ── what a proof proves ──────────────────────────────────────────────────────────────────────────


async def test_a_proof_fails_while_the_target_is_not_told_and_names_what_would_not_open(drill):
    stays = await drill.filed("stays.xml", b"stays")
    await drill.back_up()
    drill.clock.advance(seconds=1)
    assert (await drill.prove())["findings"] == []
    away = drill.place.rename(drill.place.with_name("away"))
    await drill.carried(drill.act("keys.rotate", what="groups"))
    away.rename(drill.place)
    findings = (await drill.prove())["findings"]
    assert any("waits since" in each["problem"] for each in findings)
    # The old keys go although nobody was told: as an earlier version, or a person, may have done.
    custody = drill.core.store.custody

    def drop(tx):
        for client, group in custody.groups_to_drop(tx.connection):
            custody.drop_keys(tx.connection, client, [group], drill.clock())

    drill.core.store.catalogue.write(drop)
    findings = (await drill.prove())["findings"]
    assert f"document {stays}" in {each["subject"] for each in findings}
    # Told, it is whole again.
    drill.clock.advance(hours=2)
    await drill.carried(drill.deliver())
    assert (await drill.prove())["findings"] == []


async def test_a_wrapping_that_does_not_open_is_found_without_reading_the_document_back(drill):
    good = await drill.filed("good.xml", b"good")
    bad = await drill.filed("bad.xml", b"bad")
    drill.core.store.catalogue.write(
        lambda tx: tx.connection.execute(
            update(documents)
            .where(documents.c.id == bad)
            .values(wrapped_key=wrapped(drill)[good][1])
        )
    )
    await drill.back_up()
    findings = (await drill.prove(sample=0.0001))["findings"]
    assert [each["subject"] for each in findings] == [f"document {bad}"]


async def test_what_a_backup_is_told_while_it_is_proved_counts(drill, monkeypatch):
    """An amendment that comes between the listing and the look at the keys is fetched as well."""
    from gateway.core.outbound.backup import proof as backup_proof

    await drill.filed("gone.txt", b"gone", NOTE)
    await held(drill, "stays.txt")
    await drill.back_up()
    real = backup_proof._amendments

    async def then_destroy(*arguments):
        tried = await real(*arguments)
        await drill.destroy()
        return tried

    monkeypatch.setattr(backup_proof, "_amendments", then_destroy)
    proof = await drill.prove()
    assert proof["findings"] == []
    assert proof["amendments"] >= 1


# ── keys tried on backups ────────────────────────────────────────────────────────────────────────


async def tried(house: Drill, document: str, at: str | None = None) -> tuple[str, str]:
    client = client_id(house, document)
    outcome, words = await house.carried(
        key_search.unreadable(house.wings.outbound, Frozen(), "disk", client, [document], at)
    )
    return outcome, words.en


def destroyed_at(house: Drill, document: str) -> str:
    return house.core.store.catalogue.read(
        lambda c: c.execute(
            select(documents.c.destroyed_at).where(documents.c.id == document)
        ).scalar_one()
    )


async def test_the_older_wrapping_of_a_document_reclassified_between_two_backups_is_tried_too(
    drill, monkeypatch
):
    document = await drill.filed("moving.txt", b"moving", "invoice")
    await drill.back_up()
    (old_group, _), client = wrapped(drill)[document], client_id(drill, document)
    old_key = drill.core.store.custody.stored(client).groups[old_group]
    await drill.act(
        "document.reclassify", by="officer1", document=document, record_class=NOTE,
        fiscal_year=2026,
    )  # fmt: skip
    await drill.back_up()
    assert await drill.destroy() == [document]
    await drill.back_up()
    at = destroyed_at(drill, document)
    outcome, words = await tried(drill, document, at)
    assert outcome == "passed"
    assert words.count("wrapped keys of 1 of 1 documents in it") == 2  # not the one from after
    # Were the key of the first group still somewhere, the older backup would show it.
    real = KeyringStore.load

    def with_old_key(self, owner):
        keyring = real(self, owner)
        if owner == client:
            keyring.groups[old_group] = old_key
        return keyring

    monkeypatch.setattr(KeyringStore, "load", with_old_key)
    assert (await tried(drill, document, at))[0] == "failed"


async def test_finding_nothing_to_try_is_no_check_unless_there_was_nothing_then(drill):
    first = (await drill.back_up())["backup"]
    document = await drill.filed("gone.txt", b"gone", NOTE)
    assert await drill.destroy() == [document]
    at = destroyed_at(drill, document)
    outcome, words = await tried(drill, document, at)
    assert outcome == "passed"
    assert "had been received" in words
    # A catalogue that was copied when the key was gone already shows nothing about older ones.
    later = (await drill.back_up())["backup"]
    shutil.rmtree(drill.place / "snapshots" / first)
    assert (await tried(drill, document))[0] == "not_checked"
    # All from before are gone: so it is said.
    outcome, words = await tried(drill, document, at)
    assert outcome == "passed"
    assert "is left there" in words
    # Half a backup from before might hold anything.
    half = drill.place / "snapshots" / first
    half.mkdir()
    (half / "catalogue").write_bytes(b"x" * 100)
    assert (await tried(drill, document, at))[0] == "not_checked"
    shutil.rmtree(drill.place / "snapshots" / later)
    shutil.rmtree(half)
    assert (await tried(drill, document, at))[0] == "not_checked"  # an empty place says nothing


async def test_what_can_not_be_fetched_in_time_is_not_checked(drill, monkeypatch):
    monkeypatch.setattr(key_search, "BUDGET", 0.2)
    document = await drill.filed("gone.txt", b"gone", NOTE)
    await drill.back_up()
    client = client_id(drill, document)
    # Nobody carries anything.
    outcome, words = await key_search.unreadable(
        drill.wings.outbound, Frozen(), "disk", client, [document]
    )
    assert outcome == "not_checked"
    assert "slower" in words.en
    # Fetched before, it takes nobody at all.
    kept = await drill.carried(key_search.fetch_kept(drill.wings.outbound, "disk"))
    outcome, _ = await key_search.unreadable(
        drill.wings.outbound, Frozen(), "disk", client, [document], kept=kept
    )
    kept.close()
    assert outcome == "failed"  # it lives, so it opens


async def test_the_connection_of_a_courier_that_hangs_is_dropped(drill):
    drill.wings.outbound.transfers = TransferQueue(patience=5, stalled=0.1)
    session = CourierSession(drill.wings.outbound)
    dropped: list[str] = []
    session.hang_up = lambda: dropped.append("dropped")
    carrying = asyncio.create_task(drill.wings.outbound.transfers.transfer("disk", "remove", "a"))
    await session.handle(ClaimTransfer())
    with pytest.raises(PlaceError, match="progress"):
        await carrying
    assert dropped == ["dropped"]


# ── places ───────────────────────────────────────────────────────────────────────────────────────


def places(house: Drill) -> list[str]:
    return house.core.store.catalogue.read(
        lambda c: backup_places.places_with_backups(c, house.core.config, house.clock())
    )


async def test_a_place_that_was_replaced_stays_listed_until_it_is_settled_or_its_time_is_over(
    drill,
):
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    assert places(drill) == ["disk"]
    for number in (1, 2):
        drill.place.rename(drill.place.with_name(f"old-{number}"))
        drill.place.mkdir(mode=0o700)
        assert (await drill.back_up(fresh=True))["blobs"] == 1
    assert places(drill) == ["disk", "disk~1", "disk~2"]
    assert (await drill.act("backup.list"))["former"] == ["disk~1", "disk~2"]
    for name in ("disk", "nowhere"):
        with pytest.raises(Refusal):
            await drill.act("backup.settle", by="officer1", name=name)
    await drill.act("backup.settle", by="officer1", name="disk~1")
    with pytest.raises(Refusal):
        await drill.act("backup.settle", by="officer1", name="disk~1")
    assert places(drill) == ["disk", "disk~2"]
    drill.clock.advance(days=drill.config.backup.targets[0].keep_days)
    assert places(drill) == ["disk"]


async def test_a_place_that_was_taken_out_of_the_configuration_stays_listed_until_it_is_settled(
    drill,
):
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    section = msgspec.structs.replace(drill.config.backup, targets=[])
    drill.config = msgspec.structs.replace(drill.config, backup=section)
    drill.restart_at(days=400)
    assert places(drill) == ["disk"]
    await drill.act("backup.settle", by="officer1", name="disk")
    assert places(drill) == []


# ── keyrings of a token, and those that are too old ────────────────────────────────────────────────────────────────────


def problems(report: Report, about: str) -> list[str]:
    return [problem for subject, problem in report.problems if subject.startswith(about)]


async def test_a_copy_of_the_keyrings_that_is_older_than_the_backup_is_named(drill, tmp_path):
    await drill.filed("gone.txt", b"gone", NOTE)
    stays = await held(drill, "stays.txt")
    await target.secret_of(drill.core)
    older = drill.copy_keyrings(tmp_path / "older")
    await drill.destroy()
    await drill.back_up()
    there = restored_anyhow(drill, tmp_path / "a", older)
    (why,) = problems(there.report, f"keyring {client_id(drill, stays)}")
    assert "older than the backup" in why
    # The key that came back is not believed to be gone.
    held_now = there.core.store.custody.stored(client_id(drill, stays)).groups
    rows = there.core.store.catalogue.read(
        lambda c: c.execute(select(groups).where(groups.c.dropped_at.is_not(None))).all()
    )
    assert not {row.id for row in rows} & set(held_now)
    there.close()
    now = drill.restored(tmp_path / "b")
    assert now.report.problems == []
    assert await content(now, "stays.txt", NOTE, 2026) == b"stays.txt stays"
    now.close()


async def test_an_older_copy_with_a_place_that_was_not_told_brings_documents_back(drill, tmp_path):
    """The limit that docs/backup.md states: neither of the two can know."""

    gone = await drill.filed("gone.txt", b"gone", NOTE)
    await drill.back_up()
    older = drill.copy_keyrings(tmp_path / "older")
    away = drill.place.rename(drill.place.with_name("away"))
    await drill.destroy()
    away.rename(drill.place)
    there = restored_anyhow(drill, tmp_path / "a", older)
    assert (await there.document(gone))["state"] == "FILED"
    there.close()
    waiting = drill.core.store.catalogue.read(
        lambda c: c.execute(
            select(backup_amendments.c.id).where(backup_amendments.c.delivered_at.is_(None))
        ).all()
    )
    assert waiting  # which is why `status` and a proof say that the place was not told
    assert any("waits since" in each["problem"] for each in (await drill.prove())["findings"])


async def test_a_store_whose_root_key_is_on_a_token_is_restored_from_a_registered_copy_of_its_keyrings(
    tmp_path, monkeypatch
):
    """On another machine with the same token: the present copy opens, and nothing of the past does."""
    where = softhsm.address()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    copy = tmp_path / "usb"
    copy.mkdir(mode=0o700)
    folder = tmp_path / "origin"
    folder.mkdir()
    house = Drill(folder, root_key=where, copies=[KeyringCopy(name="usb", directory=str(copy))])

    def registered(to: Path) -> Path:
        """What the courier carries there: the sealed files as they are."""
        to.mkdir(exist_ok=True)
        custody = house.core.store.custody
        for owner in custody.owners():
            (to / f"{owner}.keyring").write_bytes(custody.sealed_file(owner))
        return to

    await house.settle()
    gone = await house.filed("gone.txt", b"gone", NOTE)
    await held(house, "stays.txt")
    await house.back_up()
    older = registered(tmp_path / "older")
    assert await house.destroy() == [gone]
    registered(copy)
    house.core.close()
    into = tmp_path / "new"
    done = program(
        "backup", "restore", "--from", str(house.place), "--into", str(into), "--keyrings",
        str(copy), "--root-key", where,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["findings"], report["documents"], report["destroyed_since"]) == ([], 1, 1)
    checked = program("check", "--read-data", "-c", str(into / "config.toml"))
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["documents_read"] == 1
    # The epoch that wrapped what was destroyed is gone from the token: its file is noise.
    failed = program(
        "backup", "restore", "--from", str(house.place), "--into", str(tmp_path / "old"),
        "--keyrings", str(older), "--root-key", where,
    )  # fmt: skip
    assert failed.exit_code != 0


def program(*arguments: str) -> Any:
    """The command line, in a process of its own (a token's library keeps what a process once saw)."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments, "--json"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return SimpleNamespace(
        exit_code=done.returncode, stdout=done.stdout, output=done.stdout + done.stderr
    )


async def test_a_restore_that_is_run_again_leaves_nothing_of_the_one_before(drill, tmp_path):
    """Interrupted behind its commit point, with a journal and a seal of the catalogue that is replaced."""

    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    rings = drill.copy_keyrings(tmp_path / "rings")
    root = FileRootKey.load(drill.folder / "root.key")
    into = tmp_path / "new" / "vault"
    into.parent.mkdir()

    def attempt() -> Report:
        return restore(lambda: DirectoryPlace(drill.place), into, rings, root, drill.clock())

    attempt()
    assert (into / "catalogue.at-rest").exists()
    shutil.copy(drill.folder / "vault/catalogue.sqlite3-wal", into / "catalogue.sqlite3-wal")
    assert (into / "catalogue.sqlite3-wal").stat().st_size
    report = attempt()
    finish(into)
    shutil.copy(drill.folder / "root.key", into.parent / "root.key")
    there = Restored(drill, into.parent, report)
    assert there.core.store.changed_at_rest is None
    assert await there.is_whole()
    there.close()
