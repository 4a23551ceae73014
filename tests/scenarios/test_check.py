"""`check` finds what is broken, names it, and says what to do; on a whole store it finds nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from vault.catalogue.schema import documents, groups, tombstones, wrappings
from vault.check.store import check


def blob_of(house, document: str) -> Path:
    (path,) = (house.folder / "vault/blobs/objects").rglob(document)
    return path


async def findings(house, *, read_data: bool = False) -> list[dict]:
    return (await house.act("check", read_data=read_data))["findings"]


async def test_a_whole_store_has_no_findings_at_any_stage_of_the_journey(house):
    assert await findings(house, read_data=True) == []
    await house.upload("/inbox/a.xml", b"a")
    assert await findings(house, read_data=True) == []
    await house.judge()
    assert await findings(house, read_data=True) == []
    await house.filed("b.xml")
    assert await findings(house, read_data=True) == []


async def test_what_is_received_filed_and_destroyed_meanwhile_is_no_finding(house):
    """Rows, keys and sealed files come and go one after the other; a check looks at them one after the other."""
    found, checks, over = [], 0, asyncio.Event()

    async def look():
        nonlocal checks
        while not over.is_set():
            found.extend((await asyncio.to_thread(check, house.core.store)).findings)
            checks += 1

    looking = asyncio.create_task(look())
    for number in range(2):
        for each in range(8):
            await house.filed(f"{number}-{each}.txt", os.urandom(9), "demonstration-note")
        for batch in await house.act("disposal.propose"):
            await house.approve(batch["id"], "officer1")
            await house.approve(batch["id"], "officer2")
            await house.act("disposal.execute", by="officer3", id=batch["id"])
    over.set()
    await looking
    assert found == []
    assert checks > 2
    states = {each["state"] for each in await house.act("document.list")}
    assert "DESTROYED" in states


@pytest.mark.parametrize("where", ["salt", "commitment", "middle", "last byte"])
async def test_a_flipped_byte_in_a_sealed_file_is_found_by_reading(house, where):
    document = await house.filed("a.xml", b"some bytes" * 4000)
    path = blob_of(house, document)
    data = bytearray(path.read_bytes())
    position = {"salt": 3, "commitment": 30, "middle": len(data) // 2, "last byte": -1}[where]
    data[position] ^= 1
    path.write_bytes(data)
    found = await findings(house, read_data=True)
    assert [document in finding["subject"] for finding in found] == [True]
    assert "restore" in found[0]["action"]


@pytest.mark.parametrize("how", ["missing", "cut", "longer"])
async def test_a_missing_or_wrongly_long_sealed_file_is_found_without_reading(house, how):
    document = await house.filed("a.xml", b"x" * 100_000)
    path = blob_of(house, document)
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    (finding,) = await findings(house)
    assert document in finding["subject"]


async def test_an_orphan_blob_is_found(house):
    document = await house.filed("a.xml")
    stray = blob_of(house, document).with_name("01M80J643X9JAJ7MXAFCG8NJ02")
    stray.write_bytes(b"x" * 80)
    found = await findings(house)
    assert any("01M80J643X9JAJ7MXAFCG8NJ02" in finding["subject"] for finding in found)


def _destroyed_elsewhere(tx, document, batch_id):
    """As a restore replays a destruction that its backup's catalogue knows no batch of."""
    row = tx.connection.execute(documents.select().where(documents.c.id == document)).one()
    tx.connection.execute(
        update(documents)
        .where(documents.c.id == document)
        .values(state="DESTROYED", wrapped_key=None, sealed_metadata=None, name_index=None)
    )
    tx.connection.execute(
        tombstones.insert(),
        {
            "document_id": document,
            "client_id": row.client_id,
            "batch_id": batch_id,
            "destroyed_at": "2026-01-01",
        },
    )


async def test_the_sealed_file_of_what_an_unknown_batch_destroyed_is_found(house):
    document = await house.filed("a.xml")
    await house.core.write(
        lambda tx: _destroyed_elsewhere(tx, document, "01M80J643X9JAJ7MXAFCG8NJ02")
    )
    found = await findings(house)
    assert [finding["subject"] for finding in found] == [f"blob {document}"]


async def test_what_a_batch_is_still_removing_is_no_finding(house):
    document = await house.filed("a.txt", b"x", "demonstration-note")
    (batch,) = await house.act("disposal.propose")
    await house.core.write(lambda tx: _destroyed_elsewhere(tx, document, batch["id"]))
    assert await findings(house) == []


async def test_many_stray_files_take_one_look_at_the_store(house, monkeypatch):
    document = await house.filed("a.xml")
    strays = {f"01M80J643X9JAJ7MXAFCG8NJ{number:02}" for number in range(9)}
    for stray in strays:
        blob_of(house, document).with_name(stray).write_bytes(b"x" * 80)
    real, looks = house.core.store.blobs.stored, []
    monkeypatch.setattr(house.core.store.blobs, "stored", lambda: looks.append(1) or real())
    found = await findings(house)
    assert {finding["subject"] for finding in found} == {f"blob {stray}" for stray in strays}
    assert len(looks) == 2  # one over all files, one over those that looked stray


def _row_without_key(tx, document):
    tx.connection.execute(
        update(documents).where(documents.c.id == document).values(wrapped_key=None)
    )


def _swapped_key(tx, document):
    other = tx.connection.execute(documents.select().where(documents.c.id != document)).first()
    tx.connection.execute(
        update(documents)
        .where(documents.c.id == document)
        .values(wrapped_key=other.wrapped_key, group_id=other.group_id)
    )


def _forgotten_wrapping(tx, document):
    tx.connection.execute(delete(wrappings).where(wrappings.c.document_id == document))


def _other_size(tx, document):
    tx.connection.execute(update(documents).where(documents.c.id == document).values(size=7))


def _ended_group(tx, document):
    row = tx.connection.execute(documents.select().where(documents.c.id == document)).one()
    tx.connection.execute(
        update(groups).where(groups.c.id == row.group_id).values(ended_at="2026-01-01")
    )


def _dropped_group(tx, document):
    row = tx.connection.execute(documents.select().where(documents.c.id == document)).one()
    tx.connection.execute(
        update(groups)
        .where(groups.c.id == row.group_id)
        .values(ended_at="2026-01-01", dropped_at="2026-01-01")
    )


def _both_filed_and_destroyed(tx, document):
    tx.connection.execute(
        tombstones.insert(),
        {
            "document_id": document,
            "client_id": "x",
            "batch_id": "x",
            "destroyed_at": "2026-01-01",
        },
    )


def _destroyed_with_remains(tx, document):
    tx.connection.execute(
        update(documents).where(documents.c.id == document).values(state="DESTROYED")
    )


@pytest.mark.parametrize(
    "damage",
    [
        _row_without_key, _swapped_key, _forgotten_wrapping, _other_size, _ended_group, _dropped_group,
        _both_filed_and_destroyed, _destroyed_with_remains,
    ],
)  # fmt: skip
async def test_every_broken_invariant_of_the_catalogue_is_found(house, damage):
    document = await house.filed("a.xml")
    await house.filed("b.xml", b"other")
    await house.core.write(lambda tx: damage(tx, document))
    assert await findings(house)


async def test_a_lost_keyring_is_found_and_named(house):
    await house.filed("a.xml")
    client = (await house.act("client.show", slug="acme"))["id"]
    house.core.store.custody._store.path(client).unlink()
    found = await findings(house)
    assert any(client in finding["subject"] for finding in found)


async def test_a_keyring_of_nobody_is_found_and_one_of_a_closed_client_is_ended_at_the_next_start(
    house,
):
    keyrings = house.folder / "vault/keyrings"
    client = (await house.act("client.show", slug="other"))["id"]
    kept = (keyrings / f"{client}.keyring").read_bytes()
    await house.act("client.close", slug="other")
    assert not (keyrings / f"{client}.keyring").exists()
    # As a crash between the two steps of closing would leave it.
    (keyrings / f"{client}.keyring").write_bytes(kept)
    found = await findings(house)
    assert [client in finding["subject"] for finding in found] == [True]
    house.restart()
    assert not (keyrings / f"{client}.keyring").exists()
    assert await findings(house) == []
