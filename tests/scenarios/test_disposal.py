"""Nothing is destroyed early, twice, by half, by one person, or against a hold."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from gateway.core.disposal import certificates, eligibility, execution
from gateway.core.disposal.batch import as_it_is, load, remember, set_state
from gateway.core.disposal.eligibility import examine
from gateway.errors import Refusal
from gateway.wire.messages import Classification, Scan
from vault.catalogue import ledger
from vault.catalogue.schema import clients, documents, groups, wrappings
from vault.catalogue.states import BatchState
from vault.certificate.verify import verify_certificate
from vault.errors import KeyUnavailable, StorageFull

NOTE = "demonstration-note"  # due as soon as it is filed


async def proposed(house) -> str:
    (batch,) = await house.act("disposal.propose")
    return batch["id"]


async def approved(house) -> str:
    batch = await proposed(house)
    await house.approve(batch, "officer1")
    answer = await house.approve(batch, "officer2")
    assert answer["state"] == BatchState.APPROVED
    return batch


async def executed(house, by: str = "officer3") -> str:
    batch = await approved(house)
    return (await house.act("disposal.execute", by=by, id=batch))["certificate"]


async def test_a_batch_goes_from_proposal_to_a_certificate_that_verifies(house):
    gone = await house.filed("note.txt", record_class=NOTE)
    kept = await house.filed("invoice.xml")
    certificate = await executed(house)
    shown = await house.act("certificate.show", id=certificate)
    report = verify_certificate(shown["json"].encode(), shown["vkey"])
    assert report.passed, report
    document = await house.document(gone)
    assert (document["state"], document["name"], document["sha256"]) == ("DESTROYED", "", "")
    assert not house.core.store.blobs.exists(gone)
    assert house.core.store.blobs.exists(kept)
    assert await house.read("/clients/acme/2025/invoice/invoice.xml") == b"x"
    assert (await house.act("check", read_data=True))["findings"] == []
    assert await house.act("disposal.propose") == []


async def test_an_invoice_is_not_due_a_moment_before_its_thirty_years_are_over(house):
    document = await house.filed("invoice.xml")  # FY2025 → 2056-01-01 in Shanghai
    due = datetime(2055, 12, 31, 16, 0, tzinfo=UTC)
    shown = await house.document(document)
    assert datetime.fromisoformat(shown["eligible_at"]) == due
    for moment, expected in ((due.replace(hour=15, minute=59), 0), (due, 1)):
        house.core.close()
        house.clock.now = moment
        house.open()
        assert len(await house.act("disposal.propose")) == expected
    preview = await house.act("retention.preview", at="2056-01-02")
    assert [entry["id"] for entry in preview] == [document]
    assert await house.act("retention.preview", at="2055-12-30") == []


async def test_a_clock_set_forward_makes_nothing_fall_due(house):
    await house.filed("invoice.xml")
    house.clock.advance(days=40 * 365)
    refusal = await house.refused(house.act("disposal.propose"))
    assert "clock" in refusal.message


async def test_a_clock_set_back_stops_disposal_too(house):
    await house.filed("note.txt", record_class=NOTE)
    house.core.close()
    house.clock.advance(days=-3)
    house.open(believed=False)
    refusal = await house.refused(house.act("disposal.propose"))
    assert "behind the newest time known right" in refusal.message


@pytest.mark.parametrize("moment", ["before-proposal", "proposed", "half-approved", "approved"])
@pytest.mark.parametrize("scope", ["document", "client"])
async def test_a_hold_placed_at_any_moment_before_execution_stops_it(house, moment, scope):
    document = await house.filed("note.txt", record_class=NOTE)

    async def hold():
        target = {"document": document} if scope == "document" else {"client": "acme"}
        return (await house.act("hold.place", reason="audit", **target))["id"]

    if moment == "before-proposal":
        placed = await hold()
        assert await house.act("disposal.propose") == []
    else:
        batch = await proposed(house)
        if moment == "proposed":
            placed = await hold()
        await house.approve(batch, "officer1")
        if moment == "half-approved":
            placed = await hold()
        await house.approve(batch, "officer2")
        if moment == "approved":
            placed = await hold()
        refusal = await house.refused(house.act("disposal.execute", by="officer3", id=batch))
        assert "hold" in refusal.message
        assert (await house.act("disposal.show", id=batch))["state"] == BatchState.APPROVED
    assert (await house.document(document))["state"] == "FILED"
    assert await house.read(f"/clients/acme/2026/{NOTE}/note.txt") == b"x"
    # Only officers lift it, two of them; then it may go.
    assert (await house.refused(house.act("hold.release", hold=placed))).code == "denied"
    await house.by_two("hold.release", hold=placed)
    if moment == "before-proposal":
        await executed(house)
    else:
        await house.act("disposal.execute", by="officer3", id=batch)
    assert (await house.document(document))["state"] == "DESTROYED"


async def test_one_person_can_not_be_two(house):
    await house.filed("note.txt", record_class=NOTE)
    batch = await proposed(house)
    await house.approve(batch, "officer1")
    # The same officer again; another's statement under the own key; a non-officer; an executor
    # who approved; execution before the second approval.
    assert (await house.refused(house.approve(batch, "officer1"))).code == "exists"
    house.keys["officer2"], own = house.keys["officer1"], house.keys["officer2"]
    assert (await house.refused(house.approve(batch, "officer2"))).code == "denied"
    house.keys["officer2"] = own
    assert (await house.refused(house.approve(batch, "accountant"))).code == "denied"
    early = house.act("disposal.execute", by="officer3", id=batch)
    assert (await house.refused(early)).code == "locked"
    await house.approve(batch, "officer2")
    for executor in ("officer1", "officer2"):
        refusal = await house.refused(house.act("disposal.execute", by=executor, id=batch))
        assert "did not approve" in refusal.message
    assert (await house.refused(house.act("disposal.execute", id=batch))).code == "denied"
    for role in ("accountant", "auditor", "admin"):
        refused = house.act("disposal.execute", by=role, id=batch)
        assert (await house.refused(refused)).code == "denied"
    await house.act("disposal.execute", by="officer3", id=batch)


async def test_an_approval_of_another_register_is_refused(house):
    from vault.crypto import sshsig

    await house.filed("note.txt", record_class=NOTE)
    batch = await proposed(house)
    text = await house.act("disposal.statement", id=batch, account="officer1", decision="approve")
    forged = text["statement"].replace("items: 1", "items: 2")
    signature = sshsig.sign(house.keys["officer1"], forged.encode(), text["namespace"])
    refusal = await house.refused(
        house.act(
            "disposal.decide", id=batch, account="officer1", decision="approve",
            signature=signature,
        )
    )  # fmt: skip
    assert refusal.code == "denied"
    # A rejection's signature is no approval.
    no = await house.act("disposal.statement", id=batch, account="officer1", decision="reject")
    signature = sshsig.sign(house.keys["officer1"], no["statement"].encode(), no["namespace"])
    refusal = await house.refused(
        house.act(
            "disposal.decide", id=batch, account="officer1", decision="approve",
            signature=signature,
        )
    )  # fmt: skip
    assert refusal.code == "denied"


async def test_a_rejected_batch_frees_its_documents(house):
    document = await house.filed("note.txt", record_class=NOTE)
    batch = await approved(house)
    assert (await house.approve(batch, "officer3", "reject"))["state"] == BatchState.REJECTED
    assert (await house.document(document))["batch"] is None
    assert len(await house.act("disposal.propose")) == 1


async def test_a_batch_is_executed_once(house):
    await house.filed("note.txt", record_class=NOTE)
    batch = await approved(house)
    await house.act("disposal.execute", by="officer3", id=batch)
    again = house.act("disposal.execute", by="officer3", id=batch)
    assert (await house.refused(again)).code == "locked"
    assert len(await house.act("certificate.list")) == 1


async def test_a_document_in_a_batch_can_not_be_moved_out_from_under_its_approval(house):
    document = await house.filed("note.txt", record_class=NOTE)
    await proposed(house)
    refusal = await house.refused(
        house.act(
            "document.reclassify", by="officer1", document=document,
            record_class="invoice", fiscal_year=2025,
        )
    )  # fmt: skip
    assert refusal.code == "locked"


async def test_every_group_that_ever_wrapped_the_key_ends_and_its_survivors_still_open(house):
    """The document was received, filed and reclassified: three groups, two of them shared."""

    doomed = await house.filed("doomed.txt", b"doomed", record_class="invoice")
    beside = await house.filed("beside.xml", b"beside", record_class="invoice")
    await house.act(
        "document.reclassify", by="officer1", document=doomed, record_class=NOTE,
        fiscal_year=2025,
    )  # fmt: skip
    other = await house.filed("other.txt", b"other", record_class=NOTE)
    await house.upload("/inbox/waiting.xml", b"waiting")  # lives in the intake group

    def history(connection):
        return set(
            connection.execute(
                select(wrappings.c.group_id).where(wrappings.c.document_id == doomed)
            ).scalars()
        )

    before = house.core.store.catalogue.read(history)
    assert len(before) == 3
    old_ring = dict(house.core.store.custody.keyring(await _client_id(house)).groups)
    old_rows = {
        row.id: row
        for row in house.core.store.catalogue.read(lambda c: c.execute(select(documents)).all())
    }
    batch = await approved(house)
    await house.act("disposal.execute", by="officer3", id=batch)
    ring = house.core.store.custody.stored(await _client_id(house))
    assert not before & set(ring.groups)
    ended = house.core.store.catalogue.read(
        lambda c: c.execute(select(groups.c.ended_at).where(groups.c.id.in_(before))).all()
    )
    assert all(row.ended_at for row in ended)
    # Survivors opened before and open now, under other keys; the doomed row opens no more, even
    # as an old backup of the catalogue would have it.
    assert await house.read("/clients/acme/2025/invoice/beside.xml") == b"beside"
    with pytest.raises(KeyUnavailable):
        house.core.store.custody.document_key(old_rows[doomed])
    assert old_rows[doomed].group_id in old_ring
    assert (await house.document(other))["state"] == "DESTROYED"  # it was due as well
    assert (await house.document(beside))["state"] == "FILED"
    assert (await house.act("check", read_data=True))["findings"] == []


async def _client_id(house) -> str:
    return (await house.act("client.show", slug="acme"))["id"]


async def test_the_wrapped_keys_are_not_left_in_any_file_of_the_catalogue(house):
    document = await house.filed("note.txt", record_class=NOTE)
    wrapped = house.core.store.catalogue.read(
        lambda c: c.execute(
            select(documents.c.wrapped_key).where(documents.c.id == document)
        ).scalar_one()
    )
    files = list((house.folder / "vault").glob("catalogue.sqlite3*"))
    assert any(wrapped in path.read_bytes() for path in files)
    certificate = await executed(house)
    files = list((house.folder / "vault").glob("catalogue.sqlite3*"))
    assert not any(wrapped in path.read_bytes() for path in files)
    shown = await house.act("certificate.show", id=certificate)
    checks = {
        check["name"]: check["result"] for check in json.loads(shown["json"])["body"]["checks"]
    }
    assert checks == {
        "live-key-absent": "passed",
        "ciphertext-absent": "passed",
        "decryption-fails": "passed",
        "write-ahead-log-emptied": "passed",
        "key-bytes-absent-from-files": "passed",
    }


async def test_a_quarantined_document_goes_after_its_own_period_and_not_before(house):
    document = await house.upload("/inbox/bad.exe", b"x")
    await house.judge(
        scans=[Scan("yara", "found", "eicar")],
        classification=Classification("invoice", 0.99, "2025-01-01"),
    )
    assert await house.act("disposal.propose") == []
    house.core.close()
    house.clock.advance(days=30, seconds=1)
    house.open()
    certificate = await executed(house)
    shown = await house.act("certificate.show", id=certificate)
    assert verify_certificate(shown["json"].encode(), shown["vkey"]).passed
    assert (await house.document(document))["state"] == "DESTROYED"


async def test_a_part_does_not_go_before_the_whole_it_came_in(house):
    from gateway.core.intake import receive

    await house.upload("/inbox/mail.eml", b"whole")
    found = await house.queue._next()
    work, descriptor = found.work, found.descriptor
    claimed, fixity = found.claimed, found.fixity
    import hashlib
    import os

    from gateway.wire.messages import Verdict
    from vault.crypto.sealed import SealedWriter, document_context

    os.close(descriptor)
    part = await house.queue.begin_part(claimed, "note.txt")
    writer = SealedWriter(part.descriptor, part.key, document_context(part.document_id))
    writer.write(b"part")
    digest = hashlib.sha256(b"part").digest()
    await receive.stage(house.core, part, writer.finish(), digest)
    claimed.parts[part.document_id] = (part, 4, digest)
    await house.queue.verdict(
        claimed,
        Verdict(
            work.document_id, 5, hashlib.sha256(b"whole").digest(),
            scans=[Scan("yara", "clean")], parts=[part.document_id],
            classification=Classification("invoice", 0.99, "2025-01-01"),
        ),
        fixity,
    )  # fmt: skip
    await house.judge(classification=Classification(NOTE, 0.99, "2025-01-01"))
    inside = await house.document(part.document_id)
    whole = await house.document(work.document_id)
    assert inside["parent"] == work.document_id
    assert inside["eligible_at"] == whole["eligible_at"] > "2055"
    assert await house.act("disposal.propose") == []


async def test_a_failed_execution_start_changes_nothing(house):
    document = await house.filed("note.txt", record_class=NOTE)
    batch = await approved(house)
    await house.act("hold.place", document=document, reason="x")
    with pytest.raises(Refusal):
        await house.act("disposal.execute", by="officer3", id=batch)
    assert (await house.act("check", read_data=True))["findings"] == []
    assert house.core.store.blobs.exists(document)


@pytest.mark.parametrize("change", ["nothing", "hold", "client-hold", "class", "client"])
async def test_what_was_examined_before_the_transaction_counts_only_while_nothing_has_changed(
    house, change, monkeypatch
):
    """A document is examined again inside it if its row, its client or the holds are others by then."""
    calls = []

    def counted(core, connection, row, now):
        calls.append(row.id)
        return examine(core, connection, row, now)

    document = await house.filed("note.txt", b"x", NOTE)
    other = await house.filed("other.txt", b"y", NOTE)
    monkeypatch.setattr(eligibility, "examine", counted)
    examined = eligibility.Examination(house.core, house.clock())
    rows = select(documents).where(documents.c.id.in_([document, other]))
    rows = rows.order_by(documents.c.id)
    await house.core.read(lambda c: examined.look(c, c.execute(rows).all()))
    assert calls == [document, other]
    calls.clear()
    if change == "hold":
        await house.act("hold.place", by="officer1", document=document, reason="audit")
    elif change == "client-hold":
        await house.act("hold.place", by="officer1", client="acme", reason="audit")
    elif change == "class":
        await house.act(
            "document.reclassify", by="officer1", document=document, record_class="invoice",
            fiscal_year=2025,
        )  # fmt: skip
    elif change == "client":
        new = update(clients).where(clients.c.slug == "acme").values(fiscal_year_end="06-30")
        await house.core.write(lambda tx: tx.connection.execute(new))
    found = await house.core.write(
        lambda tx: list(examined.again(tx.connection, tx.connection.execute(rows).all()))
    )
    again = {"nothing": [], "client-hold": [document, other], "client": [document, other]}
    assert calls == again.get(change, [document])
    first = found[0][1]
    if "hold" in change:
        assert "a hold is on it" in first
    else:
        assert (first is None) == (change != "class")


def test_the_clock_is_compared_with_what_is_committed_while_someone_else_writes(house):
    """The count of entries grows inside a transaction; the entry is there for readers after it."""
    entered, leave = threading.Event(), threading.Event()

    def slow(tx):
        house.core.record(tx, "test.slow", "house", "test", house.clock())
        entered.set()
        assert leave.wait(10)

    writing = house.core.store.catalogue.submit(slow)
    assert entered.wait(10)
    try:
        house.core.clock.require(house.clock())
    finally:
        leave.set()
        writing.result(10)


async def test_a_document_received_under_a_clock_that_fell_back_does_not_count_as_older(house):
    """Periods that run from receipt would end early by as much."""

    right = house.clock()
    house.core.close()
    house.clock.advance(days=-5 * 365)
    house.open(believed=False)
    document = await house.upload("/inbox/a.txt", b"a document")
    received = datetime.fromisoformat((await house.document(document))["received_at"])
    assert right <= received < right + timedelta(minutes=10)


async def test_a_permanent_record_is_not_made_to_end_by_an_accountant(house):
    document = await house.filed("report.pdf", record_class="annual-report")
    change = {"document": document, "record_class": "bank-statement", "fiscal_year": 2025}
    refusal = await house.refused(house.act("document.reclassify", by="accountant", **change))
    assert "shorter" in refusal.message
    assert (await house.document(document))["record_class"] == "annual-report"
    # What was refused left no key behind.
    assert (await house.act("check"))["findings"] == []


async def test_a_second_execution_is_refused_and_does_not_take_the_first_ones_claim_away(house):
    await house.filed("note.txt", record_class="demonstration-note")
    (batch,) = await house.act("disposal.propose")
    await house.approve(batch["id"], "officer1")
    await house.approve(batch["id"], "officer2")
    house.wings.disposal.in_progress.begin(
        execution.EXECUTION, batch["id"]
    )  # the first, still under way
    refusal = await house.refused(house.act("disposal.execute", by="officer3", id=batch["id"]))
    assert "is already running" in refusal.message
    assert house.wings.disposal.in_progress.has(execution.EXECUTION, batch["id"])


async def interrupted_batch(house, monkeypatch, name: str, client: str = "acme") -> str:
    """A batch whose execution ended right after it was started, as by a full disk."""
    document = await house.filed(name, by=client, record_class="demonstration-note")
    (batch,) = await house.act("disposal.propose", client=client, documents=[document])
    for officer in ("officer1", "officer2"):
        await house.approve(batch["id"], officer)

    async def full(*_):
        raise StorageFull("catalogue: expected room, found none")

    with monkeypatch.context() as patch:
        patch.setattr(execution, "_erase", full)
        with pytest.raises(StorageFull):
            await house.act("disposal.execute", by="officer3", id=batch["id"])
    return batch["id"]


class Held:
    """Holds one execution where `name` is called for its batch; the others pass."""

    def __init__(self, monkeypatch, module, name: str, batch_of):
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.batch = ""
        real = getattr(module, name)

        async def held(*arguments):
            if batch_of(arguments) == self.batch:
                self.reached.set()
                await self.go_on.wait()
            return await real(*arguments)

        monkeypatch.setattr(module, name, held)


@pytest.mark.parametrize("committed", [True, False], ids=["after", "before the commit point"])
async def test_what_is_resumed_takes_nothing_up_that_was_finished_meanwhile(
    house, monkeypatch, committed
):
    """The job looks while another execution is under way; its turn comes when that one is certified."""
    first = await interrupted_batch(house, monkeypatch, "a.txt")
    document = await house.filed("b.txt", record_class="demonstration-note")
    (second,) = await house.act("disposal.propose", client="acme", documents=[document])
    for officer in ("officer1", "officer2"):
        await house.approve(second["id"], officer)
    if committed:
        client = (await house.act("client.show", slug="acme"))["id"]
        hold = Held(monkeypatch, certificates, "await_copies", lambda given: given[1])
        hold.batch = client
    else:
        hold = Held(monkeypatch, execution, "_erase", lambda given: given[1].id)
        hold.batch = second["id"]
    running = asyncio.create_task(house.act("disposal.execute", by="officer3", id=second["id"]))
    await hold.reached.wait()
    hold.batch = ""
    recovering = asyncio.create_task(execution.recover(house.wings.disposal))
    while not house.wings.disposal.in_progress.has(execution.EXECUTION, first):
        await asyncio.sleep(0.01)
    hold.go_on.set()
    certificate = (await running)["certificate"]
    await house.act("hold.place", client="acme", reason="too late for both")
    await recovering
    issued = await house.act("certificate.list")
    assert [each["id"] for each in issued if each["batch"] == second["id"]] == [certificate]
    assert (await house.act("disposal.show", id=second["id"]))["state"] == BatchState.DONE
    found = house.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
    kinds = [entry["kind"] for entry in map(json.loads, found) if entry["subject"] == second["id"]]
    assert kinds.count("disposal.certified") == 1
    assert "disposal.withdrawn" not in kinds


async def test_a_batch_that_is_over_becomes_nothing_else(house):
    await house.filed("note.txt", record_class="demonstration-note")
    (batch,) = await house.act("disposal.propose")
    await house.approve(batch["id"], "officer1", "reject")
    for state in (BatchState.APPROVED, BatchState.EXECUTING, BatchState.DONE, BatchState.REJECTED):
        with pytest.raises(Refusal, match="found it REJECTED"):
            await house.core.write(lambda tx, to=state: set_state(tx, batch["id"], to))


async def test_a_register_is_decoded_once_however_far_its_batch_has_come(house):
    """It can hold ten thousand documents, and state and progress are read again on the writing thread."""
    await house.filed("note.txt", record_class=NOTE)
    batch = await house.core.read(functools.partial(load, batch_id=await proposed(house)))
    ids = batch.ids
    later = await house.core.write(lambda tx: remember(tx, batch, language="en"))
    again = await house.core.read(lambda connection: as_it_is(connection, later))
    assert again.progress.language == "en"
    assert again.register is later.register is batch.register
    assert again.ids is ids
