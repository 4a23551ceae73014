"""A lost quorum comes back by the root key's holder and one officer, slowly, and everybody sees it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import datetime
from types import SimpleNamespace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from gateway.core.admin import recovery as acts
from gateway.core.login import recovery
from gateway.wire.messages import Classification
from tests.support import softhsm
from tests.support.house import House
from vault.catalogue import ledger
from vault.catalogue.schema import accounts
from vault.certificate.verify import verify_certificate
from vault.crypto.sshsig import fingerprint, public_line, sign
from vault.keys.root import FileRootKey, load_root_key

WAITS = 168
MEDIUM = {
    "kind": "sanitised",
    "medium": "Example SSD 1 TB",
    "serial": "EX-0001",
    "method": "IEEE 2883 Purge",
    "performed_on": "2026-11-29",
    "place": "room 3",
}


def asked(house, name="officer4", *, root=None, officer="officer1", key=None, **other):
    """The arguments of a recovery, with the proof of the house's root key or another."""
    house.keys[name] = key or Ed25519PrivateKey.generate()
    line = public_line(house.keys[name])
    at = house.clock()
    words = {"name": name, "key": line, "officer": officer, "at": at, **other}
    proof = recovery.prove(
        root or load_root_key(house.config.root_key), recovery.statement(**words), name
    )
    return {
        "name": name,
        "key": line,
        "at": at.isoformat(),
        "proof": base64.b64encode(proof).decode(),
    }


async def lose(house, *names):
    for name in names or ("officer2", "officer3"):
        await house.act("account.disable", name=name)


def later(house, hours=WAITS + 1):
    house.clock.advance(hours=hours)
    house.restart()


async def begun(house, **more):
    await lose(house)
    return await house.act("account.recover", by="officer1", **asked(house, **more))


def entries(house, start="quorum."):
    def look(connection):
        decoded = (
            msgspec.json.decode(data, type=ledger.LedgerEntry)
            for data in ledger.entries(connection)
        )
        return [entry for entry in decoded if entry.kind.startswith(start)]

    return house.core.store.catalogue.read(look)


async def proposed(house, name="note.txt"):
    await house.filed(name, name.encode(), record_class="demonstration-note")
    (batch,) = await house.act("disposal.propose")
    return batch["id"]


@pytest.mark.parametrize("gone", [(), ("officer2",)])
async def test_a_quorum_that_is_not_lost_is_not_recovered(house, gone):
    if gone:
        await lose(house, *gone)
    act = house.act("account.recover", by="officer1", **asked(house))
    refusal = await house.refused(act)
    assert refusal.code == "invalid"
    assert f"found {3 - len(gone)}" in refusal.message
    assert "account key" in refusal.message


async def test_before_the_third_officer_the_console_makes_them_and_nothing_is_recovered(tmp_path):
    made = House(tmp_path)
    key = made.keys["officer1"] = Ed25519PrivateKey.generate()
    await made.act("account.add", name="officer1", role="officer", keys=[public_line(key)])
    refusal = await made.refused(made.act("account.recover", by="officer1", **asked(made)))
    assert "the console makes them" in refusal.message
    made.close()


async def test_a_recovered_key_counts_after_its_waiting_period_and_for_later_batches(house):
    early = await proposed(house)
    done = await begun(house)
    assert (done["made"], done["counts_from"] > house.clock().isoformat()) == (True, True)
    place = {"client": "other", "reason": "audit"}
    waits = await house.refused(house.act("hold.place", by="officer4", **place))
    assert "waiting period" in waits.message
    assert (await house.refused(house.approve(early, "officer4"))).code == "denied"
    later(house, WAITS - 1)
    waits = await house.refused(house.act("hold.place", by="officer4", **place))
    assert "waiting period" in waits.message
    later(house, 2)
    await house.act("hold.place", by="officer4", **place)
    refusal = await house.refused(house.approve(early, "officer4"))
    assert "counted before" in refusal.message
    batch = await proposed(house, "late.txt")
    await house.approve(batch, "officer1")
    assert (await house.approve(batch, "officer4"))["state"] == "APPROVED"
    # The quorum is back: nothing is left to recover.
    again = house.act("account.recover", by="officer1", **asked(house, "officer5"))
    assert (await house.refused(again)).code == "invalid"


async def test_an_officer_who_lost_every_key_gets_a_new_one_in_the_same_way(house):
    for name in ("officer2", "officer3"):
        mark = fingerprint(public_line(house.keys[name]))
        await house.act("account.key", by=name, name=name, remove=mark)
    done = await house.act("account.recover", by="officer1", **asked(house, "officer2"))
    assert not done["made"]
    later(house)
    await house.act("hold.place", by="officer2", client="other", reason="audit")


async def test_without_the_root_keys_proof_of_this_very_act_nothing_begins(house):
    await lose(house)
    good = asked(house)
    other = Ed25519PrivateKey.generate()
    wrong = [
        asked(house, root=FileRootKey(b"\x01" * 32)),
        {**good, "proof": ""},
        {**good, "proof": "not base64"},
        {**good, "proof": base64.b64encode(b"\x01" + bytes(60)).decode()},
        {**good, "name": "officer5"},
        {**good, "key": public_line(other)},
        asked(house, officer="officer2"),
        {**good, "at": "2026-11-22T09:00:00+00:00"},
        {**good, "at": "2026-11-22T08:00:00"},
    ]
    for arguments in wrong:
        refusal = await house.refused(house.act("account.recover", by="officer1", **arguments))
        assert refusal.code in {"denied", "invalid"}
    assert entries(house) == []
    assert (await house.act("status"))["quorum"]["recoveries"] == []


async def test_the_root_key_alone_begins_nothing(house):
    await lose(house)
    for by in ("", "admin", "accountant", "officer2"):
        act = house.act("account.recover", by=by, **asked(house, officer=by))
        assert (await house.refused(act)).code == "denied"
    await lose(house, "officer1")
    act = house.act("account.recover", by="officer1", **asked(house))
    assert (await house.refused(act)).code == "denied"
    assert entries(house) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("accountant", "expected an officer or a new name"),
        ("officer1", "another officer than the one who signs"),
        ("officer2", "expected it active, found it disabled"),
    ],
)
async def test_only_another_officer_who_is_active_or_a_new_one_is_recovered(house, name, words):
    await lose(house)
    signer = house.keys["officer1"]
    arguments = asked(house, name)
    house.keys["officer1"] = signer
    refusal = await house.refused(house.act("account.recover", by="officer1", **arguments))
    assert words in refusal.message


async def test_one_recovery_at_a_time_and_one_proof_for_one_act(house):
    await lose(house)
    arguments = asked(house)
    await house.act("account.recover", by="officer1", **arguments)
    second = house.act("account.recover", by="officer1", **asked(house, "officer5"))
    assert "under way" in (await house.refused(second)).message
    await house.act("account.cancel-recovery", by="officer1", name="officer4")
    await house.act("account.enable", by="officer1", name="officer4")
    again = house.act("account.recover", by="officer1", **arguments)
    assert "used" in (await house.refused(again)).message


async def test_everybody_hears_of_a_recovery_at_the_act_and_when_it_counts(house, monkeypatch):
    said = []
    heard = SimpleNamespace(warning=lambda event, **facts: said.append((event, facts["account"])))
    monkeypatch.setattr(recovery, "log", heard)
    monkeypatch.setattr(acts, "log", heard)
    done = await begun(house)
    assert said == [("the recovery of a quorum has begun", done["id"])]
    shown = (await house.act("status"))["quorum"]
    assert (shown["lost"], shown["can_sign"]) == (True, 1)
    (running,) = shown["recoveries"]
    assert (running["name"], running["begun_by"], running["counts"]) == (
        "officer4",
        "officer1",
        False,
    )
    await recovery.announce(house.core)
    (entry,) = entries(house)
    assert entry.kind == "quorum.recovery_begun"
    assert entry.facts["fingerprint"] == done["fingerprint"]
    assert entry.facts["counts_from"] == done["counts_from"]
    later(house)
    for _ in range(2):
        await recovery.announce(house.core)
    assert len(said) == 2
    assert "counts from now on" in said[1][0]
    assert [each.kind for each in entries(house)][1:] == ["quorum.recovery_counts"]
    (standing,) = (await house.act("status"))["quorum"]["recoveries"]
    assert standing["counts"]


@pytest.mark.parametrize("objects", ["officer1", "officer2", "the key"])
async def test_an_officer_objects_in_time_even_one_the_console_suspended(house, objects):
    done = await begun(house)
    if objects == "the key":
        mark = {"name": "officer4", "remove": done["fingerprint"]}
        await house.act("account.key", by="officer1", **mark)
    else:
        await house.act("account.cancel-recovery", by=objects, name="officer4")
    assert [each.kind for each in entries(house)][1:] == ["quorum.recovery_cancelled"]
    later(house)
    await recovery.announce(house.core)
    place = house.act("hold.place", by="officer4", client="other", reason="audit")
    assert (await house.refused(place)).code == "denied"
    assert (await house.act("status"))["quorum"]["recoveries"] == []
    again = house.act("account.cancel-recovery", by="officer1", name="officer4")
    assert (await house.refused(again)).code == "not_found"


async def test_nobody_but_an_officer_objects_and_nobody_once_it_counts(house):
    await begun(house)
    for by in ("", "admin", "auditor", "officer4"):
        act = house.act("account.cancel-recovery", by=by, name="officer4")
        assert (await house.refused(act)).code == "denied"
    later(house)
    act = house.act("account.cancel-recovery", by="officer2", name="officer4")
    assert (await house.refused(act)).code == "not_found"


async def test_the_console_ends_no_quorum_by_taking_keys_away(house):
    """Disabling suspends; a key that counts goes by an officer's signature only."""

    mark = fingerprint(public_line(house.keys["officer2"]))
    for by in ("", "admin"):
        act = house.act("account.key", by=by, name="officer2", remove=mark)
        assert (await house.refused(act)).code == "denied"
    new = public_line(Ed25519PrivateKey.generate())
    await house.act("account.key", by="officer1", name="officer1", add=new)
    # One that does not count yet anybody takes away: that is the objection.
    await house.act("account.key", name="officer1", remove=fingerprint(new))
    await house.act("account.key", by="officer1", name="officer2", remove=mark)


async def test_a_recovered_officers_requests_take_two_officers_until_the_review(house):
    """He may be in the hand of the one officer who brought him back."""

    document = await house.upload("/inbox/slip.pdf", b"slip")
    await house.judge(classification=Classification("payroll", 0.95, "2025-03-31", []))
    await begun(house)
    await house.act("account.grant", name="officer4", client="acme")
    later(house)
    export = house.act("document.export", by="officer4", document=document)
    assert (await house.refused(export)).code == "denied"
    (request,) = await house.act("access.list")
    done = await house.act("access.approve", by="officer1", id=request["id"])
    assert done["waiting"]


async def test_two_officers_review_a_recovery_and_none_of_them_is_the_recovered_one(house):
    early = house.act("account.review-recovery", by="officer1")
    assert (await house.refused(early)).code == "not_found"
    await begun(house)
    assert (
        await house.refused(house.act("account.review-recovery", by="officer1"))
    ).code == "not_found"
    later(house)
    recovered = house.act("account.review-recovery", by="officer4")
    assert "not recovered" in (await house.refused(recovered)).message
    first = await house.act("account.review-recovery", by="officer1")
    assert first["waiting"]
    again = house.act("account.review-recovery", by="officer1")
    assert (await house.refused(again)).code == "exists"
    await house.act("account.enable", by="officer1", name="officer3")
    done = await house.act("account.review-recovery", by="officer3")
    assert done["reviewed_at"]
    assert [each.kind for each in entries(house)][-1:] == ["quorum.recovery_reviewed"]
    assert (await house.act("status"))["quorum"]["recoveries"] == []


async def test_an_expired_officer_can_not_sign_and_one_out_of_hours_still_counts(house):
    await house.act("account.change", by="officer1", name="officer3", hours="Mon 01:00-02:00")
    await lose(house, "officer2")
    counted = await house.refused(house.act("account.recover", by="officer1", **asked(house)))
    assert "found 2" in counted.message
    await house.act("account.change", by="officer1", name="officer3", expires="2026-11-23")
    house.clock.advance(days=3)
    house.restart()
    await house.act("account.recover", by="officer1", **asked(house))


async def test_the_holder_of_a_token_proves_it_by_the_token_and_nothing_is_left_there(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    made = House(tmp_path, root_key=softhsm.address())
    await made.settle()
    try:
        await lose(made)
        root = load_root_key(made.config.root_key)
        wrong = asked(made, root=FileRootKey(b"\x01" * 32))
        refusal = await made.refused(made.act("account.recover", by="officer1", **wrong))
        assert refusal.code == "denied"
        await made.act("account.recover", by="officer1", **asked(made, root=root))
        assert root.subjects(recovery.PURPOSE) == {"officer4"}
        recovery.forget(root, "officer4")
        assert root.subjects(recovery.PURPOSE) == frozenset()
    finally:
        made.close()


HOLDER = """
import sys
from gateway.core.login import recovery
from vault.keys.root import load_root_key
address, name, text = sys.argv[1:]
root = load_root_key(address)
print(recovery.prove(root, bytes.fromhex(text), name).hex(), flush=True)
sys.stdin.read()
recovery.forget(root, name)
"""


async def test_the_tokens_holder_proves_it_in_a_process_of_his_own_while_the_core_runs(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    address = softhsm.address()
    made = House(tmp_path, root_key=address)
    await made.settle()
    try:
        await lose(made)
        made.keys["officer4"] = Ed25519PrivateKey.generate()
        line, at = public_line(made.keys["officer4"]), made.clock()
        text = recovery.statement(name="officer4", key=line, officer="officer1", at=at)
        command = [sys.executable, "-c", HOLDER, address, "officer4", text.hex()]
        root = load_root_key(address)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            proof = base64.b64encode(bytes.fromhex(holder.stdout.readline().strip())).decode()
            done = await made.act(
                "account.recover", by="officer1", name="officer4", key=line,
                at=at.isoformat(), proof=proof,
            )  # fmt: skip
        assert holder.returncode == 0
        assert done["made"]
        assert root.subjects(recovery.PURPOSE) == frozenset()
    finally:
        made.close()


async def test_a_recovered_account_is_an_officer_without_password_or_code(house):
    await begun(house)
    row = await house.core.read(
        lambda c: c.execute(select(accounts).where(accounts.c.name == "officer4")).one()
    )
    assert (row.role, row.password_hash, row.totp) == ("officer", None, None)
    early = house.act(
        "account.password", by="officer4", name="officer4", password="a long password"
    )
    assert (await house.refused(early)).code == "denied"


async def destroyed(house, *officers, name="note.txt"):
    """Propose, approve, execute; the certificate's body, verified."""
    batch = await proposed(house, name)
    for officer in officers:
        await house.approve(batch, officer)
    done = await house.act("disposal.execute", by="archivist", id=batch)
    return await body_of(house, done["certificate"])


async def body_of(house, certificate):
    shown = await house.act("certificate.show", id=certificate)
    report = verify_certificate(shown["json"].encode(), shown["vkeys"])
    assert report.passed, report
    return json.loads(shown["json"])["body"]


async def with_archivist(house):
    key = house.keys["archivist"] = Ed25519PrivateKey.generate()
    await house.act("account.add", name="archivist", role="archivist", keys=[public_line(key)])


async def test_every_certificate_states_an_unreviewed_recovery_until_the_review(house):
    await with_archivist(house)
    before = await destroyed(house, "officer1", "officer2", name="before.txt")
    assert "unreviewed_recovery" not in before
    done = await begun(house)
    later(house)
    stated = {"since": done["counts_from"], "accounts": ["officer4"]}
    # A follow-up to what was done before is made after it, and says so as well.
    attested = await house.act(
        "disposal.attestation", id=before["batch_id"], account="officer1", **MEDIUM
    )
    signature = sign(house.keys["officer1"], attested["statement"].encode(), attested["namespace"])
    follow_up = await house.act(
        "disposal.attest", id=before["batch_id"], account="officer1", **MEDIUM,
        signature=signature,
    )  # fmt: skip
    for body in (
        await body_of(house, follow_up["certificate"]),
        await destroyed(house, "officer1", "officer4", name="during.txt"),
    ):
        found = body["unreviewed_recovery"]
        assert found["accounts"] == stated["accounts"]
        approver = next((a for a in body["approvals"] if a["account"] == "officer4"), None)
        if approver is not None:  # one officer and the root key: two hands, as the certificate says
            assert approver["enrolment"]["together_with"] == "root-key"
            (one,) = approver["enrolment"]["enrolled_by"]
            assert one["account"] == "officer1"
        assert datetime.fromisoformat(found["since"]) == datetime.fromisoformat(stated["since"])
    await house.act("account.enable", by="officer1", name="officer3")
    await house.by_two("account.review-recovery", officers=("officer1", "officer3"))
    after = await destroyed(house, "officer1", "officer4", name="after.txt")
    assert "unreviewed_recovery" not in after


async def test_taking_the_recovered_key_away_later_does_not_unsay_it(house):
    await with_archivist(house)
    done = await begun(house)
    later(house)
    await house.act("account.enable", by="officer1", name="officer2")
    mark = {"name": "officer4", "remove": done["fingerprint"]}
    await house.act("account.key", by="officer1", **mark)
    body = await destroyed(house, "officer1", "officer2")
    assert body["unreviewed_recovery"]["accounts"] == ["officer4"]
