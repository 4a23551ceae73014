"""Races and crash windows that a review found, each held here from now on."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select, update

from gateway.core.intake import partial, receive, temporary
from gateway.core.outbound.keyring_copies import ErrandDesk
from gateway.core.views.base import split
from gateway.errors import Refusal
from gateway.wire.messages import Classification, Scan, Verdict
from tests.support.house import run
from vault.catalogue.schema import documents, errands, groups
from vault.crypto import sshsig
from vault.crypto.sealed import CHUNK, SealedWriter, document_context
from vault.errors import StorageFailed, StorageFull
from vault.keys import copies


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


def test_one_interrupted_upload_is_continued_by_one_connection_at_a_time(house):
    async def journey():
        await broken_off(house)
        first, second = await house.view("acme"), await house.view("acme")
        upload, _ = await first.begin_upload(split("/inbox/big.bin"), resume=True)
        refusal = await house.refused(second.begin_upload(split("/inbox/big.bin"), resume=True))
        assert refusal.code == "busy"
        assert await partial.park(house.core, upload)  # given back
        again, _ = await second.begin_upload(split("/inbox/big.bin"), resume=True)
        again.close()

    run(journey())


def test_after_a_crash_in_a_resume_the_size_is_that_of_the_file(house):
    """The row said two chunks, the file has three: a client that trusts the row would corrupt it."""

    async def journey():
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
        await receive.commit(house.core, upload, writer.finish(), hashlib.sha256(whole).digest())
        await house.judge(classification=Classification("invoice", 0.9, "2025-01-01"))
        assert await house.read("/clients/acme/2025/invoice/big.bin") == whole

    run(journey())


def test_a_torn_partial_expires_at_the_next_start(house):
    async def journey():
        await broken_off(house)
        (spooled,) = list((house.folder / "vault/blobs/spool").iterdir())
        with spooled.open("ab") as file:
            file.write(b"torn")
        house.restart()
        assert await house.names("/inbox", "acme") == []
        assert list((house.folder / "vault/blobs/spool").iterdir()) == []

    run(journey())


def test_a_resumed_upload_that_was_published_but_not_recorded_leaves_no_orphan(house):
    async def journey():
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

    run(journey())


def test_a_key_goes_only_after_the_end_of_its_group_is_committed(house):
    """A transaction that ends a group may still be rolled back, and then needs the key."""

    async def journey():
        document = await house.upload("/inbox/a.xml", b"a")
        custody = house.core.store.custody
        group = house.core.store.catalogue.read(
            lambda c: c.execute(select(documents.c.group_id)).scalar_one()
        )

        def ends_and_fails(tx):
            tx.connection.execute(update(documents).values(group_id=None))
            custody.end_groups(tx.connection, [group], house.clock.now)
            raise ValueError("rolled back")

        with pytest.raises(ValueError, match="rolled back"):
            await house.core.write(ends_and_fails)
        client = (await house.act("client.show", slug="acme"))["id"]
        assert group in custody.stored(client).groups
        with pytest.raises(RuntimeError, match="alive"):
            await house.core.write(
                lambda tx: custody.drop_keys(tx.connection, client, [group], house.clock.now)
            )
        assert await house.judge(classification=Classification("invoice", 0.9, "2025-01-01"))
        assert await house.read("/clients/acme/2025/invoice/a.xml") == b"a"
        assert document

    run(journey())


def test_copies_are_asked_to_follow_again_when_the_request_was_lost(tmp_path):
    from gateway.config import KeyringCopy
    from tests.support.house import House

    house = House(
        tmp_path, **{"keyring.copies": [KeyringCopy(name="other", directory=str(tmp_path / "o"))]}
    )

    async def journey():
        await house.settle()
        client = (await house.act("client.show", slug="acme"))["id"]
        await house.upload("/inbox/a.xml", b"a")
        await house.judge(classification=Classification("invoice", 0.9, "2025-01-01"))
        custody = house.core.store.custody
        (intake,) = house.core.store.catalogue.read(
            lambda c: c.execute(
                select(groups.c.id).where(groups.c.kind == "intake", groups.c.ended_at.is_(None))
            ).scalars().all()
        )  # fmt: skip
        await house.core.write(
            lambda tx: custody.end_groups(tx.connection, [intake], house.clock.now)
        )
        await house.core.write(
            lambda tx: custody.drop_keys(tx.connection, client, [intake], house.clock.now)
        )
        # The crash: the keyring is saved, the request rolled back with its transaction.
        await house.core.write(
            lambda tx: tx.connection.execute(update(errands).values(delivered_at="x"))
        )
        assert not await house.core.read(lambda c: copies.behind(c, client))
        await house.core.write(
            lambda tx: custody.drop_keys(tx.connection, client, [intake], house.clock.now)
        )
        assert await house.core.read(lambda c: copies.behind(c, client)) == {"other"}
        # A keyring that is missing though its client is open is no reason to remove its last copy.
        custody._store.path(client).unlink()
        desk = ErrandDesk(house.core)
        row = await house.core.read(
            lambda c: c.execute(
                select(errands).where(
                    errands.c.name == f"{client}{copies.SUFFIX}", errands.c.delivered_at.is_(None)
                )
            ).one()
        )
        assert await desk._errand(row) is None

    try:
        run(journey())
    finally:
        house.close()


def test_nothing_is_taken_in_for_a_client_that_was_closed_meanwhile(house):
    async def journey():
        view = await house.view("other")
        upload, _ = await view.begin_upload(split("/inbox/late.xml"), resume=False)
        await house.act("client.close", slug="other")
        with pytest.raises(Refusal, match="closed"):
            await house.finish(upload, b"late")
        assert list(house.core.store.blobs.spooled()) == []
        assert list(house.core.store.blobs.stored()) == []

    run(journey())


def test_a_permanent_record_is_not_made_to_end_by_an_accountant(house):
    async def journey():
        document = await house.filed("report.pdf", record_class="annual-report")
        change = {"document": document, "record_class": "bank-statement", "fiscal_year": 2025}
        refusal = await house.refused(house.act("document.reclassify", by="accountant", **change))
        assert "shorter" in refusal.message
        assert (await house.document(document))["record_class"] == "annual-report"
        # What was refused left no key behind.
        assert (await house.act("check"))["findings"] == []

    run(journey())


def test_the_console_makes_the_first_officers_and_no_others(house):
    async def journey():
        line = sshsig.public_line(Ed25519PrivateKey.generate())
        new = {"role": "officer", "keys": [line]}
        for by in ("", "admin"):
            refused = house.act("account.add", by=by, name="puppet", **new)
            assert (await house.refused(refused)).code == "denied"
        refused = house.act("account.key", name="officer1", add=line)
        assert (await house.refused(refused)).code == "denied"
        await house.act("account.add", by="officer1", name="officer4", **new)

    run(journey())


def test_an_approval_of_someone_disabled_since_no_longer_counts(house):
    async def journey():
        await house.filed("note.txt", record_class="demonstration-note")
        (batch,) = await house.act("disposal.propose")
        await house.approve(batch["id"], "officer1")
        await house.approve(batch["id"], "officer2")
        await house.act("account.disable", name="officer1")
        refusal = await house.refused(house.act("disposal.execute", by="officer3", id=batch["id"]))
        assert "approvals by active officers" in refusal.message

    run(journey())


def test_a_core_that_stops_during_a_verdict_deletes_no_part_that_was_recorded(house):
    async def journey():
        await house.upload("/inbox/mail.eml", b"whole")
        work, descriptor, claimed, fixity = await house.desk._next()
        os.close(descriptor)
        from gateway.core.sessions import InspectSession

        session = InspectSession(house.core, house.desk)
        session._claimed, session._fixity = claimed, fixity
        part = await house.desk.begin_part(claimed, "note.txt")
        writer = SealedWriter(part.descriptor, part.key, document_context(part.document_id))
        writer.write(b"part")
        digest = hashlib.sha256(b"part").digest()
        await receive.stage(house.core, part, writer.finish(), digest)
        claimed.parts[part.document_id] = (part, 4, digest)
        verdict = Verdict(
            work.document_id, 5, hashlib.sha256(b"whole").digest(), parts=[part.document_id],
            scans=[Scan("yara", "clean")],
            classification=Classification("invoice", 0.99, "2025-01-01"),
        )  # fmt: skip
        task = asyncio.create_task(session.handle(verdict))
        while not house.core.store.catalogue.read(
            lambda c: c.execute(
                select(documents.c.id).where(documents.c.id == part.document_id)
            ).scalar()
        ):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await session.close()
        house.restart()
        assert (await house.act("check", read_data=True))["findings"] == []
        assert house.core.store.blobs.exists(part.document_id)

    run(journey())


def test_a_second_execution_is_refused_and_does_not_take_the_first_ones_claim_away(house):
    async def journey():
        await house.filed("note.txt", record_class="demonstration-note")
        (batch,) = await house.act("disposal.propose")
        await house.approve(batch["id"], "officer1")
        await house.approve(batch["id"], "officer2")
        house.core.executing.add(batch["id"])  # the first, still under way
        refusal = await house.refused(house.act("disposal.execute", by="officer3", id=batch["id"]))
        assert "in hand" in refusal.message
        assert batch["id"] in house.core.executing

    run(journey())


@pytest.mark.parametrize("error", [StorageFull, StorageFailed])
@pytest.mark.parametrize("how", ["upload", "rename"])
def test_a_spooled_name_that_can_not_be_dropped_takes_no_committed_document_with_it(
    house, monkeypatch, error, how
):
    """Removing a name can fail for want of room, too. It was acknowledged, and the next start tidies up."""

    def fail(blob_id):
        raise error(f"blob {blob_id}: expected room, found none")

    async def journey():
        if how == "rename":
            upload, writer = await house.begun("/inbox/a.pdf.part", b"hello")
            digest = hashlib.sha256(b"hello").digest()
            await temporary.keep(house.core, upload, writer.finish(), digest)
        monkeypatch.setattr(house.core.store.blobs, "settle", fail)
        if how == "rename":
            view = await house.view("acme")
            await view.rename(split("/inbox/a.pdf.part"), split("/inbox/a.pdf"))
        else:
            await house.upload("/inbox/a.pdf", b"hello")
        monkeypatch.undo()
        assert await house.names("/inbox", "acme") == ["a.pdf"]
        house.restart()
        assert list(house.core.store.blobs.spooled()) == []
        assert (await house.act("check", read_data=True))["findings"] == []

    run(journey())


def test_an_upload_is_continued_only_once_the_process_that_wrote_it_has_let_go(house, monkeypatch):
    """The core ends a connection at once; its door may still have chunks to write."""
    monkeypatch.setattr(partial, "CLOSING_WAIT", 0.05)

    async def journey():
        upload, _ = await house.begun("/inbox/big.bin", os.urandom(2 * CHUNK))
        held_by_the_door = os.dup(upload.descriptor)
        assert await partial.park(house.core, upload)
        view = await house.view("acme")
        refusal = await house.refused(view.begin_upload(split("/inbox/big.bin"), resume=True))
        assert refusal.code == "busy"
        assert house.core.resuming == set()
        os.close(held_by_the_door)
        resumed, size = await view.begin_upload(split("/inbox/big.bin"), resume=True)
        assert size == 2 * CHUNK
        resumed.close()

    run(journey())
