"""What a destruction takes away, in every scope, is looked for; what people and copies add is certified after it."""

from __future__ import annotations

import json
from datetime import date

import msgspec
import pytest
from sqlalchemy import select, update

from gateway.config import KeyringCopy
from gateway.core.disposal import batch as disposal_batch
from gateway.core.disposal import certificates, searches
from gateway.core.views.base import split
from gateway.courier.transfers import beside
from gateway.errors import Refusal
from tests.support.house import House
from vault.catalogue.schema import clients, documents, wrappings
from vault.certificate.statements import SANITISATION_NAMESPACE, WITNESS_NAMESPACE
from vault.certificate.verify import verify_certificate
from vault.crypto import sshsig
from vault.errors import KeyUnavailable

NOTE = "demonstration-note"


async def destroy(house, **proposal) -> dict:
    """Propose, approve, execute; the certificate's body."""
    (batch,) = await house.act("disposal.propose", **proposal)
    for officer in ("officer1", "officer2"):
        await house.approve(batch["id"], officer)
    done = await house.act("disposal.execute", by="officer3", id=batch["id"])
    return await body_of(house, done["certificate"])


async def body_of(house, certificate: str) -> dict:
    shown = await house.act("certificate.show", id=certificate)
    report = verify_certificate(shown["json"].encode(), shown["vkeys"])
    assert report.passed, report
    return json.loads(shown["json"])["body"]


def results(body: dict) -> dict[str, str]:
    return {check["name"]: check["result"] for check in body["checks"]}


async def client_id(house, slug: str = "acme") -> str:
    return (await house.act("client.show", slug=slug))["id"]


async def test_one_document_of_a_group_goes_and_the_rest_of_the_group_is_read_as_before(house):
    gone = await house.filed("gone.txt", b"gone", record_class=NOTE)
    kept = await house.filed("kept.txt", b"kept", record_class=NOTE)
    old = dict(house.core.store.custody.keyring(await client_id(house)).groups)
    body = await destroy(house, client="acme", documents=[gone])
    assert [item["document_id"] for item in body["register"]] == [gone]
    assert body["scope"] == "documents"
    assert set(results(body).values()) == {"passed"}
    assert body["claim"]["level"] == "L2"
    assert await house.read(f"/clients/acme/2026/{NOTE}/kept.txt") == b"kept"
    assert (await house.document(kept))["state"] == "FILED"
    assert not set(old) & set(house.core.store.custody.stored(await client_id(house)).groups)
    assert (await house.act("check", read_data=True))["findings"] == []


async def test_a_whole_group_goes_without_a_successor(house):
    for number in range(3):
        await house.filed(f"{number}.txt", record_class=NOTE)
    body = await destroy(house)
    assert len(body["register"]) == 3
    assert house.core.store.custody.stored(await client_id(house)).groups == {}
    assert (await house.act("check", read_data=True))["findings"] == []


async def test_the_end_of_a_client_takes_its_keyring_name_and_indexes_and_nobody_elses(house):
    for number in range(3):
        await house.filed(f"{number}.txt", record_class=NOTE)
    await house.filed("other.xml", b"other", by="other")
    await house.act("account.grant", name="accountant", client="other")
    owner = await client_id(house)
    body = await destroy(house, client="acme", whole_client=True)
    assert body["scope"] == "client"
    assert len(body["register"]) == 3
    assert set(results(body).values()) == {"passed"}
    with pytest.raises(KeyUnavailable):
        house.core.store.custody.stored(owner)
    row = house.core.store.catalogue.read(
        lambda c: c.execute(select(clients).where(clients.c.id == owner)).one()
    )
    assert (row.state, row.profile) == ("closed", b"")
    assert await house.read("/clients/other/2025/invoice/other.xml", by="accountant") == b"other"
    with pytest.raises(Refusal):
        await house.upload("/inbox/late.xml", b"late")
    house.restart()
    assert (await house.act("check", read_data=True))["findings"] == []


async def test_a_client_with_a_document_that_is_not_due_or_is_held_can_not_be_ended(house):
    await house.filed("note.txt", record_class=NOTE)
    kept = await house.filed("invoice.xml")
    refusal = await house.refused(house.act("disposal.propose", client="acme", whole_client=True))
    assert refusal.code == "locked"
    assert kept in refusal.message


async def test_what_came_in_after_the_proposal_stops_the_end_of_a_client(house):
    await house.filed("note.txt", record_class=NOTE)
    (batch,) = await house.act("disposal.propose", client="acme", whole_client=True)
    await house.upload("/inbox/late.xml", b"late")
    for officer in ("officer1", "officer2"):
        await house.approve(batch["id"], officer)
    refusal = await house.refused(house.act("disposal.execute", by="officer3", id=batch["id"]))
    assert "found 2" in refusal.message
    assert await house.upload("/inbox/later.xml", b"later")  # nothing was closed


async def test_the_approvers_of_an_end_sign_that_it_is_one(house):
    await house.filed("note.txt", record_class=NOTE)
    (batch,) = await house.act("disposal.propose", client="acme", whole_client=True)
    text = await house.act(
        "disposal.statement", id=batch["id"], account="officer1", decision="approve"
    )
    assert "scope: client" in text["statement"]


async def test_every_search_finds_what_it_looks_for_when_it_is_there(house):
    """A check that could not fail would be worth nothing: leave each thing in place, and look."""

    document = await house.filed("note.txt", b"note", record_class=NOTE)
    store = house.core.store
    row = store.catalogue.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document)).one()
    )
    groups = store.catalogue.read(lambda c: list(c.execute(select(wrappings.c.group_id)).scalars()))
    (batch,) = await house.act("disposal.propose")
    record = store.catalogue.read(lambda c: disposal_batch.load(c, batch["id"]))
    remains = store.catalogue.read(
        lambda c: searches.gather(house.core, c, row.client_id, [document], groups)
    )
    assert len(remains.keys) == len(groups) + 1
    checks = searches.look(house.core, record, remains, emptied=False)
    found = {check.name: check.result for check in checks}
    assert found == {
        "live-key-absent": "failed",
        "ciphertext-absent": "failed",
        "decryption-fails": "failed",
        "write-ahead-log-emptied": "not_checked",
        "key-bytes-absent-from-files": "failed",
    }


@pytest.mark.parametrize("place", ["spool", "keyrings", "catalogue.sqlite3.old"])
async def test_key_bytes_left_in_any_file_of_the_store_are_found(house, place):
    document = await house.filed("note.txt", b"note", record_class=NOTE)
    store = house.core.store
    row = store.catalogue.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document)).one()
    )
    key = store.custody.document_key(row)
    folder = {"spool": store.path / "blobs/spool", "keyrings": store.path / "keyrings"}
    (folder.get(place, store.path) / "catalogue.sqlite3.old").write_bytes(b"...." + key)
    body = await destroy(house)
    assert results(body)["key-bytes-absent-from-files"] == "failed"
    assert body["claim"]["level"] == "L0"


# ── copies, witnesses, media ─────────────────────────────────────────────────────────────────────


@pytest.fixture
async def copied(tmp_path):
    """A house with a registered copy of its keyrings, carried by hand."""
    (tmp_path / "copy").mkdir()
    copies = [KeyringCopy(name="safe", directory="copy")]
    made = House(tmp_path, **{"keyring.copies": copies})
    await made.settle()
    yield made
    await made.end()


async def carry(house) -> None:
    """What core and courier do, for every copy that is due."""
    await beside(house.wings.outbound.transfers, house.config, house.deliver())


async def test_a_copy_that_is_behind_is_named_and_the_claim_rises_by_itself_when_it_has_followed(
    copied, monkeypatch
):
    monkeypatch.setattr(certificates, "COPY_PATIENCE", 0.1)
    house = copied
    await house.filed("note.txt", record_class=NOTE)
    await carry(house)
    body = await destroy(house)
    assert body["claim"]["level"] == "L1"
    assert [(copy["kind"], copy["state"]) for copy in body["copies"]] == [("keyring", "live")]
    assert await certificates.follow_up(house.wings.disposal) == []
    await carry(house)
    (raised,) = await certificates.follow_up(house.wings.disposal)
    after = await body_of(house, raised)
    assert after["claim"]["level"] == "L2"
    assert after["follows"] == body["certificate_id"]
    assert [copy["state"] for copy in after["copies"]] == ["destroyed"]
    assert await certificates.follow_up(house.wings.disposal) == []
    assert (await house.act("disposal.list"))[0]["certificate"] == raised
    assert (await house.act("check"))["findings"] == []


async def test_a_follow_up_that_was_bound_and_not_yet_stored_is_stored_once(copied, monkeypatch):
    """A crash between the two halves of a certificate."""
    monkeypatch.setattr(certificates, "COPY_PATIENCE", 0.1)
    house = copied
    await house.filed("note.txt", record_class=NOTE)
    await carry(house)
    await destroy(house)
    await carry(house)

    async def dies(*_):
        raise RuntimeError("the core was killed here")

    with monkeypatch.context() as patch:
        patch.setattr(certificates, "_publish", dies)
        with pytest.raises(RuntimeError):
            await certificates.follow_up(house.wings.disposal)
    assert len(await house.act("certificate.list")) == 1
    house.restart()
    (raised,) = await certificates.follow_up(house.wings.disposal)
    assert (await body_of(house, raised))["claim"]["level"] == "L2"
    assert len(await house.act("certificate.list")) == 2
    assert await certificates.follow_up(house.wings.disposal) == []


async def attest(house, account: str, batch: str, kind: str, **facts) -> dict:
    asked = await house.act("disposal.attestation", id=batch, account=account, kind=kind, **facts)
    signature = sshsig.sign(house.keys[account], asked["statement"].encode(), asked["namespace"])
    return await house.act(
        "disposal.attest", id=batch, account=account, kind=kind, signature=signature, **facts
    )


MEDIUM = {
    "medium": "Example SSD 1 TB", "serial": "EX-0001", "method": "IEEE 2883 Purge",
    "performed_on": date(2026, 11, 22).isoformat(), "place": "server room",
}  # fmt: skip


async def test_a_person_states_a_sanitised_medium_and_the_certificate_claims_l3(house):
    await house.filed("note.txt", record_class=NOTE)
    body = await destroy(house)
    done = await attest(house, "officer1", body["batch_id"], "sanitised", **MEDIUM)
    after = await body_of(house, done["certificate"])
    assert (after["claim"]["level"], after["follows"]) == ("L3", body["certificate_id"])
    (entered,) = after["sanitisations"]
    assert (entered["medium"], entered["serial"]) == ("Example SSD 1 TB", "EX-0001")
    assert "namespace" not in entered
    assert sshsig.verify(
        entered["signature"], entered["statement"].encode(), SANITISATION_NAMESPACE
    )


async def test_a_witness_signs_after_the_execution_and_is_none_of_those_who_acted(house):
    await house.filed("note.txt", record_class=NOTE)
    body = await destroy(house)
    batch = body["batch_id"]
    done = await attest(house, "auditor", batch, "witness")
    after = await body_of(house, done["certificate"])
    assert [(each["account"], each["role"]) for each in after["witnesses"]] == [
        ("auditor", "auditor")
    ]
    assert sshsig.verify(
        after["witnesses"][0]["signature"], after["witnesses"][0]["statement"].encode(),
        WITNESS_NAMESPACE,
    )  # fmt: skip
    for unfit in ("officer1", "officer3", "auditor", "accountant", "acme"):
        refusal = await house.refused(attest(house, unfit, batch, "witness"))
        assert refusal.code == "denied", unfit


async def test_an_attestation_signed_by_anothers_key_or_before_the_execution_is_refused(house):
    await house.filed("note.txt", record_class=NOTE)
    (proposed,) = await house.act("disposal.propose")
    refusal = await house.refused(attest(house, "auditor", proposed["id"], "witness"))
    assert refusal.code == "locked"
    for officer in ("officer1", "officer2"):
        await house.approve(proposed["id"], officer)
    await house.act("disposal.execute", by="officer3", id=proposed["id"])
    house.keys["auditor"] = house.keys["stranger"]
    refusal = await house.refused(attest(house, "auditor", proposed["id"], "witness"))
    assert refusal.code == "denied"
    broken = {**MEDIUM, "serial": "two\nlines"}
    refusal = await house.refused(attest(house, "officer1", proposed["id"], "sanitised", **broken))
    assert refusal.code == "invalid"


async def test_a_document_that_moves_into_a_new_group_during_the_execution_takes_that_group_along(
    house, monkeypatch
):
    """The commit point looks again at which groups there are."""

    document = await house.filed("note.txt", b"note", record_class=NOTE)
    store = house.core.store
    from gateway.core.disposal import execution as destruction

    original = destruction._empty
    moved = False

    async def and_then_it_moves(core, batch_id, group_id, now):
        nonlocal moved
        await original(core, batch_id, group_id, now)
        if moved:
            return
        moved = True

        def sneak(tx):
            row = tx.connection.execute(select(documents).where(documents.c.id == document)).one()
            group = store.custody.cohort_group(tx.connection, row.client_id, 1999, NOTE, now)
            columns = store.custody.move(tx.connection, row, group, now)
            tx.connection.execute(
                update(documents).where(documents.c.id == document).values(columns)
            )

        await core.write(sneak)

    monkeypatch.setattr(destruction, "_empty", and_then_it_moves)
    body = await destroy(house)
    assert moved
    assert set(results(body).values()) == {"passed"}
    assert store.custody.stored(await client_id(house)).groups == {}
    assert (await house.act("check"))["findings"] == []


async def test_a_hold_placed_while_the_execution_runs_stops_it_before_the_commit_point(
    house, monkeypatch
):
    document = await house.filed("note.txt", b"note", record_class=NOTE)
    from gateway.core.disposal import execution as destruction

    original = destruction._empty

    async def and_then_a_hold(core, batch_id, group_id, now):
        await original(core, batch_id, group_id, now)
        if not (await house.act("hold.list")):
            await house.act("hold.place", client="acme", reason="audit")

    monkeypatch.setattr(destruction, "_empty", and_then_a_hold)
    (batch,) = await house.act("disposal.propose")
    for officer in ("officer1", "officer2"):
        await house.approve(batch["id"], officer)
    refusal = await house.refused(house.act("disposal.execute", by="officer3", id=batch["id"]))
    assert "nothing was destroyed" in refusal.message
    assert (await house.document(document))["state"] == "FILED"
    assert await house.read(f"/clients/acme/2026/{NOTE}/note.txt") == b"note"
    (shown,) = await house.act("disposal.list")
    assert shown["state"] == "REJECTED"
    assert (await house.act("check", read_data=True))["findings"] == []


async def test_after_a_crash_between_erasure_and_search_the_claim_stays_below_l2(
    house, monkeypatch
):
    """What to look for was in the memory of the process that died."""

    await house.filed("note.txt", record_class=NOTE)
    from gateway.core.disposal import execution as destruction

    async def dies(*_):
        raise RuntimeError("the core was killed here")

    (batch,) = await house.act("disposal.propose")
    for officer in ("officer1", "officer2"):
        await house.approve(batch["id"], officer)
    with monkeypatch.context() as patch:
        patch.setattr(destruction.certificates, "await_copies", dies)
        with pytest.raises(RuntimeError):
            await house.act("disposal.execute", by="officer3", id=batch["id"])
    house.restart()
    (certificate,) = await destruction.recover(house.wings.disposal)
    body = await body_of(house, certificate)
    assert results(body)["decryption-fails"] == "not_checked"
    assert body["claim"]["level"] == "L1"


async def test_a_key_whose_drop_failed_is_dropped_before_anyone_certifies_it_gone(
    house, monkeypatch
):
    """The disk was full in the moment the keyring was to be saved, and nothing was restarted."""

    await house.filed("note.txt", record_class=NOTE)
    owner = await client_id(house)
    store = house.core.store
    old = set(store.custody.keyring(owner).groups)
    house.clock.advance(seconds=1)
    from vault.errors import StorageFull

    def full(*_):
        raise StorageFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(store.custody.keyrings, "save", full)
        with pytest.raises(Exception, match="no room"):
            await house.act("keys.rotate", what="groups")
    from gateway.core.keys import rotation

    await rotation.resume(house.wings.keys)
    body = await destroy(house)
    assert set(results(body).values()) == {"passed"}
    assert not old & set(store.custody.stored(owner).groups)


async def test_the_progress_kept_between_steps_holds_no_key(house):
    document = await house.filed("note.txt", record_class=NOTE)
    store = house.core.store
    row = store.catalogue.read(
        lambda c: c.execute(select(documents).where(documents.c.id == document)).one()
    )
    body = await destroy(house)
    progress = store.catalogue.read(lambda c: disposal_batch.load(c, body["batch_id"]).progress)
    text = msgspec.json.encode(progress)
    assert row.wrapped_key.hex().encode() not in text
    assert set(progress.entries) == {document}


async def test_nothing_is_taken_in_for_a_client_that_was_closed_meanwhile(house):
    view = await house.view("other")
    upload, _ = await view.begin_upload(split("/inbox/late.xml"), resume=False)
    await house.act("client.close", slug="other")
    with pytest.raises(Refusal, match="closed"):
        await house.finish(upload, b"late")
    assert house.spooled() == []
    assert list(house.core.store.blobs.stored()) == []
