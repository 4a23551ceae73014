"""Uploads that break off, and stores that fail at the last step: nothing acknowledged is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from gateway.core.intake import partial, receive, temporary
from gateway.core.views.base import split
from gateway.wire.messages import Classification
from vault.crypto.sealed import CHUNK, SealedWriter, document_context
from vault.errors import StorageFailed, StorageFull


async def broken_off(house, chunks: int = 2) -> bytes:
    """An interrupted upload of some whole chunks; returns the bytes sent."""
    data = os.urandom(chunks * CHUNK)
    view = await house.view("acme")
    upload, _ = await view.begin_upload(split("/inbox/big.bin"), resume=False)
    writer = SealedWriter(upload.descriptor, upload.key, document_context(upload.document_id))
    writer.write(data)
    writer.flush()
    assert await partial.park(house.core, upload)
    return data


async def test_one_interrupted_upload_is_continued_by_one_connection_at_a_time(house):
    await broken_off(house)
    first, second = await house.view("acme"), await house.view("acme")
    upload, _ = await first.begin_upload(split("/inbox/big.bin"), resume=True)
    refusal = await house.refused(second.begin_upload(split("/inbox/big.bin"), resume=True))
    assert refusal.code == "busy"
    assert await partial.park(house.core, upload)  # given back
    again, _ = await second.begin_upload(split("/inbox/big.bin"), resume=True)
    again.close()


async def test_after_a_crash_in_a_resume_the_size_is_that_of_the_file(house):
    """The row said two chunks, the file has three: a client that trusts the row would corrupt it."""

    data = await broken_off(house)
    view = await house.view("acme")
    upload, size = await view.begin_upload(split("/inbox/big.bin"), resume=True)
    assert size == 2 * CHUNK
    writer = SealedWriter.resume(
        upload.descriptor, upload.key, document_context(upload.document_id)
    )
    more = os.urandom(CHUNK)
    writer.write(more)
    writer.flush()
    os.close(upload.descriptor)  # as the death of the process does
    house.restart()  # nobody parked it
    view = await house.view("acme")
    assert (await view.stat(split("/inbox/big.bin"))).size == 3 * CHUNK
    upload, size = await view.begin_upload(split("/inbox/big.bin"), resume=True)
    assert size == 3 * CHUNK
    writer = SealedWriter.resume(
        upload.descriptor, upload.key, document_context(upload.document_id)
    )
    whole = data + more
    await asyncio.wrap_future(
        receive.commit(house.wings.intake, upload, writer.finish(), hashlib.sha256(whole).digest())
    )
    await house.judge(classification=Classification("invoice", 0.9, "2025-01-01"))
    assert await house.read("/clients/acme/2025/invoice/big.bin") == whole


async def test_a_torn_partial_expires_at_the_next_start(house):
    await broken_off(house)
    spool = house.folder / "vault/blobs/spool"
    (spooled,) = [spool / each for each in house.spooled()]
    with spooled.open("ab") as file:
        file.write(b"torn")
    house.restart()
    assert await house.names("/inbox", "acme") == []
    assert house.spooled() == []


async def test_a_resumed_upload_that_was_published_but_not_recorded_leaves_no_orphan(house):
    data = await broken_off(house)
    view = await house.view("acme")
    upload, _ = await view.begin_upload(split("/inbox/big.bin"), resume=True)
    writer = SealedWriter.resume(
        upload.descriptor, upload.key, document_context(upload.document_id)
    )
    size = writer.finish()
    await receive.stage(house.core, upload, size, hashlib.sha256(data).digest())
    house.restart()  # killed between publishing and recording
    assert await house.names("/inbox", "acme") == []
    assert (await house.act("check"))["findings"] == []
    await house.upload("/inbox/big.bin", data)


@pytest.mark.parametrize("error", [StorageFull, StorageFailed])
@pytest.mark.parametrize("how", ["upload", "rename"])
async def test_a_spooled_name_that_can_not_be_dropped_takes_no_committed_document_with_it(
    house, monkeypatch, error, how
):
    """Removing a name can fail for want of room, too. It was acknowledged, and the next start tidies up."""

    def fail(blob_id):
        raise error(f"blob {blob_id}: expected room, found none")

    if how == "rename":
        upload, writer = await house.begun("/inbox/a.pdf.part", b"hello")
        digest = hashlib.sha256(b"hello").digest()
        await temporary.keep(house.wings.intake, upload, writer.finish(), digest)
    monkeypatch.setattr(house.core.store.blobs, "settle", fail)
    if how == "rename":
        view = await house.view("acme")
        await view.rename(split("/inbox/a.pdf.part"), split("/inbox/a.pdf"))
    else:
        await house.upload("/inbox/a.pdf", b"hello")
    monkeypatch.undo()
    assert await house.names("/inbox", "acme") == ["a.pdf"]
    house.restart()
    assert house.spooled() == []
    assert (await house.act("check", read_data=True))["findings"] == []


async def test_an_upload_is_continued_only_once_the_process_that_wrote_it_has_let_go(
    house, monkeypatch
):
    """The core ends a connection at once; its door may still have chunks to write."""
    monkeypatch.setattr(partial, "CLOSING_WAIT", 0.05)
    upload, _ = await house.begun("/inbox/big.bin", os.urandom(2 * CHUNK))
    held_by_the_door = os.dup(upload.descriptor)
    assert await partial.park(house.core, upload)
    view = await house.view("acme")
    refusal = await house.refused(view.begin_upload(split("/inbox/big.bin"), resume=True))
    assert refusal.code == "busy"
    assert house.wings.intake._in_progress._running == {}
    os.close(held_by_the_door)
    resumed, size = await view.begin_upload(split("/inbox/big.bin"), resume=True)
    assert size == 2 * CHUNK
    resumed.close()
