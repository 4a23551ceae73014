"""What waits under a temporary name: which names wait, and every crash window around the rename."""

from __future__ import annotations

import contextlib
import hashlib
import os

import pytest
from sqlalchemy import select

from gateway.core import steps
from gateway.core.intake import partial, receive, temporary
from gateway.core.views.base import PAGE, split
from gateway.wire.messages import Classification
from vault.catalogue.schema import documents
from vault.crypto.sealed import CHUNK, SealedReader, SealedWriter, document_context
from vault.errors import StorageFull

SURE = Classification("invoice", 0.95, "2025-03-01")


@pytest.mark.parametrize(
    "name",
    [
        "a.pdf.filepart", "a.FILEPART", "a.part", "发票.part", "a.tmp", ".a.tmp", ".in.a.pdf", ".in.a.",
        "a.pdf.1a2b3c4d.partial", "a.partial", "a.pdf.rclonepart", "a.pdf.rclone-tmp",
    ],
)  # fmt: skip
def test_names_that_programs_give_while_they_send_are_temporary(name):
    assert temporary.is_temporary(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.pdf", "part", ".part", ".tmp", ".in.", ".in", "a.part1.rar", "a.part.pdf", "a.tmpl", "in.a.pdf",
        "backup.rclone.conf", "counterpart", "a.parts", "", "a.part ",
    ],
)  # fmt: skip
def test_other_names_are_final(name):
    assert not temporary.is_temporary(name)


async def waiting(house, data: bytes, path: str = "/inbox/a.pdf.part"):
    """A file that was closed under its temporary name; returns its row."""
    view = await house.view("acme")
    upload, _ = await view.begin_upload(split(path), resume=False)
    writer = SealedWriter(upload.descriptor, upload.key, document_context(upload.document_id))
    writer.write(data)
    await temporary.keep(house.wings.intake, upload, writer.finish(), hashlib.sha256(data).digest())
    return await row_of(house, upload.document_id)


async def row_of(house, document_id: str):
    return await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document_id)).one()
    )


async def rename(house, old: str = "/inbox/a.pdf.part", new: str = "/inbox/a.pdf") -> None:
    await (await house.view("acme")).rename(split(old), split(new))


async def nothing_is_wrong(house) -> None:
    assert (await house.act("check", read_data=True))["findings"] == []


async def delivered(house, data: bytes) -> None:
    """Renamed, judged, filed, and read back by an accountant."""
    await rename(house)
    await house.judge(classification=SURE)
    assert await house.read("/clients/acme/2025/invoice/a.pdf") == data
    assert house.spooled() == []
    await nothing_is_wrong(house)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_a_file_waits_across_a_restart_whatever_its_size(house, size):
    """A finished file of whole chunks ends with an empty one: it must not pass for an interrupted one."""

    data = os.urandom(size)
    await waiting(house, data)
    assert await house.queue._next() is None
    await nothing_is_wrong(house)
    house.restart()
    view = await house.view("acme")
    assert (await view.stat(split("/inbox/a.pdf.part"))).size == size
    await delivered(house, data)


async def test_a_link_without_a_record_is_taken_back_at_the_next_start(house):
    """The crash between steps 1 and 2 of the rename: the client was told nothing, and renames again."""

    data = os.urandom(2 * CHUNK + 5)
    row = await waiting(house, data)
    blobs = house.core.store.blobs
    descriptor = blobs.reopen(row.id)
    blobs.publish(row.id, descriptor)
    os.close(descriptor)
    house.restart()
    assert not house.core.store.blobs.exists(row.id)
    await nothing_is_wrong(house)
    await delivered(house, data)


async def test_a_recorded_rename_is_settled_at_the_next_start(house):
    """The crash after the commit point: received, whatever the client was told."""

    data = os.urandom(CHUNK)
    row = await waiting(house, data)
    blobs = house.core.store.blobs
    settle, blobs.settle = blobs.settle, lambda blob_id: True
    try:
        await rename(house)
    finally:
        blobs.settle = settle
    house.restart()
    assert house.spooled() == []
    assert (await row_of(house, row.id)).state == "RECEIVED"
    await house.judge(classification=SURE)
    assert await house.read("/clients/acme/2025/invoice/a.pdf") == data


@pytest.mark.parametrize("name", ["receive.publish", "receive.record"])
async def test_a_rename_that_meets_a_full_disk_leaves_the_file_waiting(house, name):
    """Told to try again later, the client can: nothing was lost, nothing lies about."""

    data = os.urandom(CHUNK + 1)
    row = await waiting(house, data)

    def full(step: str, phase: str) -> None:
        if (step, phase) == (name, "before"):
            raise StorageFull("disk: expected room, found none")

    steps.observers.append(full)
    try:
        refusal = await house.refused(rename(house))
    finally:
        steps.observers.remove(full)
    assert refusal.code == "full"
    assert "rename it again" in refusal.message
    assert not house.core.store.blobs.exists(row.id)
    await nothing_is_wrong(house)
    await delivered(house, data)


async def test_what_nobody_renames_expires_and_takes_its_bytes_along(house):
    row = await waiting(house, b"never renamed")
    house.clock.advance(hours=house.config.retention.partial_hours, seconds=-1)
    assert await partial.expire_due(house.wings.intake, house.clock.now) == 0
    house.clock.advance(seconds=2)
    assert await partial.expire_due(house.wings.intake, house.clock.now) == 1
    ended = await row_of(house, row.id)
    assert (ended.state, ended.wrapped_key, ended.sealed_metadata) == ("EXPIRED", None, None)
    assert house.spooled() == []
    assert (await house.refused(rename(house))).code == "not_found"


async def test_a_renamed_file_counts_as_received_when_it_was_renamed(house):
    row = await waiting(house, b"late")
    house.clock.advance(hours=5)
    await rename(house)
    received = await row_of(house, row.id)
    assert received.received_at > row.received_at
    metadata = house.core.store.custody.open_metadata(received)
    assert (metadata.name, metadata.path) == ("a.pdf", "a.pdf")
    assert metadata.sha256 == hashlib.sha256(b"late").digest()


async def test_one_rename_at_a_time(house):
    """A second one, while the first is under way, finds the file in use."""

    row = await waiting(house, b"once")
    house.wings.intake.take(row.id, "")
    assert (await house.refused(rename(house))).code == "busy"
    house.wings.intake.give_back(row.id)
    await rename(house)
    assert (await house.refused(rename(house))).code == "not_found"
    assert house.wings.intake._in_progress._running == {}


async def test_a_continuation_gets_a_new_key_and_what_was_there_to_read_only(house):
    row = await waiting(house, b"beginning")
    old_key = house.core.store.custody.document_key(row)
    view = await house.view("acme")
    upload, resumed = await view.begin_upload(split("/inbox/a.pdf.part"), resume=True)
    assert resumed == 0
    assert upload.key != old_key
    assert upload.document_id != row.id
    former, descriptor = await temporary.predecessor(house.core, upload)
    with SealedReader(descriptor, former.key, document_context(row.id)) as reader:
        assert reader.readall() == b"beginning"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)
    # Given up: what waited is there and free.
    await receive.discard(house.core, upload)
    assert house.wings.intake._in_progress._running == {}
    await delivered(house, b"beginning")


async def test_a_file_that_is_not_what_was_announced_is_not_kept(house):
    view = await house.view("acme")
    upload, _ = await view.begin_upload(split("/inbox/a.part"), resume=False)
    writer = SealedWriter(upload.descriptor, upload.key, document_context(upload.document_id))
    writer.write(b"short")
    size = writer.finish()
    refusal = await house.refused(temporary.keep(house.wings.intake, upload, size + 1, bytes(32)))
    assert "not whole" in refusal.message
    assert house.spooled() == []
    assert await house.names("/inbox", "acme") == []


@pytest.mark.parametrize("abandon", ["discard", "stage"])
async def test_an_abandoned_resume_takes_its_row_along(house, abandon):
    """Whether the client gave up or what it sent could not be taken."""

    view = await house.view("acme")
    upload, _ = await house.begun("/inbox/big.bin", os.urandom(2 * CHUNK))
    assert await partial.park(house.core, upload)
    upload, _ = await view.begin_upload(split("/inbox/big.bin"), resume=True)
    if abandon == "discard":
        await receive.discard(house.core, upload)
    else:
        await house.refused(receive.stage(house.core, upload, 5, bytes(32)))
    assert (await row_of(house, upload.document_id)).state == "EXPIRED"
    assert house.spooled() == []
    assert await house.names("/inbox", "acme") == []
    await nothing_is_wrong(house)


async def test_a_partial_whose_file_is_gone_ends_when_someone_asks_for_it(house):
    view = await house.view("acme")
    upload, _ = await house.begun("/inbox/big.bin", os.urandom(CHUNK))
    assert await partial.park(house.core, upload)
    house.core.store.blobs.discard(upload.document_id)
    refusal = await house.refused(view.begin_upload(split("/inbox/big.bin"), resume=True))
    assert refusal.code == "not_found"
    assert (await row_of(house, upload.document_id)).state == "EXPIRED"
    with contextlib.closing(
        (await view.begin_upload(split("/inbox/big.bin"), resume=True))[0]
    ) as anew:
        assert not anew.resumed


async def test_a_name_sent_again_pages_later_is_listed_once_at_its_newest(house):
    """The versions of a name may lie on different pages of a listing."""

    await house.upload("/inbox/again.txt", b"first")
    for number in range(PAGE):
        await house.upload(f"/inbox/{number:04}.txt", b"x")
    await house.upload("/inbox/again.txt", b"second one")
    view = await house.view("acme")
    found, cursor, pages = [], "", 0
    while cursor or not pages:
        listed = await view.entries(split("/inbox"), cursor)
        found += [(entry.name, entry.size) for entry in listed.entries]
        cursor, pages = listed.cursor, pages + 1
    assert pages == 2
    assert sorted(found) == [(f"{n:04}.txt", 1) for n in range(PAGE)] + [("again.txt", 10)]


async def test_a_synced_upload_is_claimed_before_its_row_is_there(house, monkeypatch):
    """Between the row and the claim a second connection could continue it: two writers under one key."""

    upload, _ = await house.begun("/inbox/big.bin", os.urandom(2 * CHUNK))
    view = await house.view("acme")
    real, met = house.core.write, []

    async def write(work):
        result = await real(work)
        if not met:
            met.append(None)
            met[0] = await house.refused(view.begin_upload(split("/inbox/big.bin"), resume=True))
        return result

    monkeypatch.setattr(house.core, "write", write)
    assert await temporary.secure(house.wings.intake, upload) == 2 * CHUNK
    assert met[0].code == "busy"
    await receive.discard(house.core, upload)
    assert house.wings.intake._in_progress._running == {}
