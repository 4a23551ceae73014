"""Restricted classes: listed, opened with an officer's approval for a time, and no way around it."""

from __future__ import annotations

import hashlib
import os

import msgspec
import pytest

from gateway.core.filing import restricted
from gateway.core.intake import receive
from gateway.core.views.base import split
from gateway.wire.messages import Classification, Scan, Verdict
from tests.support.house import House
from vault.catalogue import ledger
from vault.catalogue.states import DocumentState
from vault.crypto.sealed import SealedWriter, document_context

FOLDER = "/clients/acme/2025/payroll"
SLIP = f"{FOLDER}/slip.pdf"


def entries(house, kind):
    found = house.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
    return [entry for data in found if (entry := msgspec.json.decode(data))["kind"] == kind]


async def payslip(house, name="slip.pdf", data=b"pay"):
    return await house.filed(name, data, "payroll")


async def refused_open(house, path=SLIP, by="accountant"):
    return await house.refused((await house.view(by)).open_read(split(path)))


async def waiting(house):
    return await house.act("access.list")


async def approved(house, path=SLIP, **more):
    await refused_open(house, path)
    (request,) = await waiting(house)
    return await house.act("access.approve", by="officer1", id=request["id"], **more)


async def test_names_are_listed_and_opening_files_one_request_however_often(house):
    document = await payslip(house)
    assert await house.names(FOLDER, "accountant") == ["slip.pdf"]
    first = await refused_open(house)
    house.clock.advance(hours=1)
    second = await refused_open(house)
    (request,) = await waiting(house)
    assert first.code == "denied"
    assert first.message == second.message
    assert request["id"] in first.message
    assert "an officer decides" in first.message
    assert (request["account"], request["client"], request["document"], request["name"]) == (
        "accountant", "acme", document, "slip.pdf",
    )  # fmt: skip
    assert len(entries(house, "access.requested")) == 1
    assert entries(house, "document.opened") == []
    assert (await house.act("status"))["access_requests"] == 1


async def test_an_approval_opens_the_document_to_that_account_for_its_time(house):
    document = await payslip(house)
    await payslip(house, "other.pdf", b"other")
    await house.act("account.grant", name="stranger", client="acme")
    granted = await approved(house)
    assert await house.read(SLIP) == b"pay"
    (opened,) = entries(house, "document.opened")
    assert opened["subject"] == document
    assert opened["facts"] == {"access": granted["id"]}
    # To nobody else, and nothing else.
    assert (await refused_open(house, SLIP, "stranger")).code == "denied"
    assert (await refused_open(house, f"{FOLDER}/other.pdf")).code == "denied"
    house.clock.advance(hours=23, minutes=59)
    assert await house.read(SLIP) == b"pay"
    house.clock.advance(minutes=1)
    again = await refused_open(house)
    assert granted["id"] not in again.message
    assert {each["state"] for each in await house.act("access.list", decided=True)} == {
        "waiting", "expired",
    }  # fmt: skip


async def test_an_approval_for_the_folder_opens_what_lies_beside_it_and_no_other_folder(house):
    await payslip(house)
    await payslip(house, "other.pdf", b"other")
    await house.filed("old.pdf", b"old", "payroll", "2024-03-01")
    await house.filed("pass.pdf", b"pass", "identity-document")
    granted = await approved(house, hours=2, folder=True)
    assert granted["until"] == "2026-11-22T10:00:00.000000+00:00"
    assert await house.read(f"{FOLDER}/other.pdf") == b"other"
    for path in (
        "/clients/acme/2024/payroll/old.pdf",
        "/clients/acme/2025/identity-document/pass.pdf",
    ):
        assert (await refused_open(house, path)).code == "denied"


async def test_a_revocation_closes_at_once_and_ends_live_sessions(house):
    await payslip(house)
    granted = await approved(house)
    ended = []
    account = (await house.view("accountant")).account.id
    house.wings.logins.live[account] = {lambda: ended.append(account)}
    await house.act("access.revoke", by="officer2", id=granted["id"])
    assert ended == [account]
    assert granted["id"] not in (await refused_open(house)).message
    refusal = await house.refused(house.act("access.revoke", by="officer2", id=granted["id"]))
    assert "found it revoked" in refusal.message


async def test_a_denial_is_told_with_its_reason_for_a_day_and_then_can_be_asked_again(house):
    await payslip(house)
    await refused_open(house)
    (request,) = await waiting(house)
    await house.act(
        "access.deny", by="officer1", id=request["id"], reason="Not part of your mandate"
    )
    house.clock.advance(hours=23)
    told = await refused_open(house)
    assert (
        f"denied request {request['id']} on 2026-11-22: Not part of your mandate." in told.message
    )
    assert await waiting(house) == []
    house.clock.advance(hours=2)
    assert "was filed" in (await refused_open(house)).message
    # The reason is sealed: neither the ledger nor the catalogue's file has it.
    assert b"mandate" not in b"".join(
        house.core.store.catalogue.read(lambda c: list(ledger.entries(c)))
    )
    assert b"mandate" not in (house.folder / "vault" / "catalogue.sqlite3").read_bytes()


async def test_requests_are_bounded_and_lapse(tmp_path):
    house = House(tmp_path, **{"access.max_waiting": 2, "access.lapse_days": 3})
    try:
        await house.settle()
        for number in range(4):
            await payslip(house, f"{number}.pdf", b"%d" % number)
            refusal = await refused_open(house, f"{FOLDER}/{number}.pdf")
        assert "2 requests of yours wait already" in refusal.message
        assert len(await waiting(house)) == 2
        house.clock.advance(days=3)
        assert await restricted.lapse(house.core, house.clock()) == 0
        house.clock.advance(seconds=1)
        (first, _) = await waiting(house)
        assert await restricted.lapse(house.core, house.clock()) == 2
        assert len(entries(house, "access.lapsed")) == 2
        refusal = await house.refused(house.act("access.approve", by="officer1", id=first["id"]))
        assert "expected it waiting, found it lapsed" in refusal.message
        assert "was filed" in (await refused_open(house, f"{FOLDER}/3.pdf")).message
    finally:
        house.close()


async def test_only_an_officer_decides_by_a_signed_act_and_not_for_longer_than_configured(house):
    await payslip(house)
    await refused_open(house)
    (request,) = await waiting(house)
    for by in ("", "accountant", "admin", "auditor"):
        for act, more in (("approve", {}), ("deny", {"reason": "x"}), ("revoke", {})):
            refusal = await house.refused(
                house.act(f"access.{act}", by=by, id=request["id"], **more)
            )
            assert "expected one of officer" in refusal.message
    refusal = await house.refused(
        house.act("access.approve", by="officer1", id=request["id"], hours=169)
    )
    assert "at most 168" in refusal.message
    for reason in ("", "two\nlines", "gpj.\u202eexe", "x" * 201):
        refusal = await house.refused(
            house.act("access.deny", by="officer1", id=request["id"], reason=reason)
        )
        assert refusal.code == "invalid"
    assert len(await waiting(house)) == 1


async def test_an_officers_export_takes_another_officers_approval(house):
    document = await payslip(house)
    await house.act("account.grant", name="officer1", client="acme")
    export = {"document": document}
    refusal = await house.refused(house.act("document.export", by="officer1", **export))
    assert "Request" in refusal.message
    (request,) = await waiting(house)
    refusal = await house.refused(house.act("access.approve", by="officer1", id=request["id"]))
    assert "another person" in refusal.message
    refusal = await house.refused(
        house.act("access.deny", by="officer1", id=request["id"], reason="x")
    )
    assert "another person" in refusal.message
    await house.act("access.approve", by="officer2", id=request["id"])
    assert entries(house, "document.exported") == []
    from gateway.core.sessions.admin import AdminSession
    from gateway.wire.messages import AdminCall, Challenge
    from gateway.wire.signed_act import act_statement
    from vault.crypto import sshsig

    session = AdminSession(house.wings, None)
    session.attach((1, 1000, 1000))
    challenge, _ = await session.handle(Challenge())
    statement = act_statement("document.export", export, "officer1", challenge.nonce)
    signature = sshsig.sign(house.keys["officer1"], statement, "strongroom-act")
    _, descriptor = await session.handle(
        AdminCall("document.export", export, "officer1", statement, signature)
    )
    os.close(descriptor)
    (entry,) = entries(house, "document.exported")
    assert entry["facts"] == {"access": request["id"]}


async def test_an_accountant_can_not_move_it_to_where_it_could_be_opened(house):
    document = await payslip(house)
    await approved(house)  # reading it is not deciding what it is
    view = await house.view("accountant")
    for year, record_class in (
        (2024, "payroll"),
        (2025, "identity-document"),
        (2025, "invoice"),
    ):
        to = f"/clients/acme/{year}/{record_class}"
        refusal = await house.refused(view.rename(split(SLIP), split(f"{to}/slip.pdf")))
        assert refusal.code == "denied"
        assert f"strongroom document reclassify {document}" in refusal.message
        change = {"document": document, "record_class": record_class, "fiscal_year": year}
        refusal = await house.refused(house.act("document.reclassify", by="accountant", **change))
        assert "an officer has to move it" in refusal.message
    await house.by_two("document.reclassify", **change)
    assert await house.names(to, "accountant") == ["slip.pdf"]


async def test_what_the_inspector_took_for_a_restricted_class_is_closed_in_review_too(house):
    document = await house.upload("/inbox/slip.pdf", b"pay")
    await house.judge(classification=Classification("payroll", 0.4, "2025-03-01"))
    path = "/review/acme/slip.pdf"
    assert await house.names("/review/acme", "accountant") == ["slip.pdf"]
    view = await house.view("accountant")
    move = view.rename(split(path), split("/clients/acme/2025/invoice/slip.pdf"))
    assert "Open it, which asks an officer" in (await house.refused(move)).message
    assert (await refused_open(house, path)).code == "denied"
    (request,) = await waiting(house)
    refusal = await house.refused(
        house.act("access.approve", by="officer1", id=request["id"], folder=True)
    )
    assert "without --folder" in refusal.message
    await house.act("access.approve", by="officer1", id=request["id"])
    assert await house.read(path) == b"pay"
    await view.rename(split(path), split("/clients/acme/2025/invoice/slip.pdf"))
    assert (await house.document(document))["record_class"] == "invoice"
    assert await house.read("/clients/acme/2025/invoice/slip.pdf") == b"pay"


async def test_confirming_the_inspectors_guess_takes_no_look_at_it(house):
    await house.upload("/inbox/slip.pdf", b"pay")
    await house.judge(classification=Classification("payroll", 0.4, "2025-03-01"))
    view = await house.view("accountant")
    await view.rename(split("/review/acme/slip.pdf"), split(SLIP))
    assert (await refused_open(house)).code == "denied"


MAIL = "/clients/acme/2026/correspondence/mail.eml"


async def mail_with_part(house):
    """A mail, filed, with a part that nobody has judged yet; returns the part's id."""
    outer = await house.upload("/inbox/mail.eml", b"outer")
    handed = await house.queue._next()
    _, descriptor = handed.work, handed.descriptor
    claimed, fixity = handed.claimed, handed.fixity
    os.close(descriptor)
    part = await house.queue.begin_part(claimed, "slip.pdf")
    writer = SealedWriter(part.descriptor, part.key, document_context(part.document_id))
    writer.write(b"pay")
    size, digest = writer.finish(), hashlib.sha256(b"pay").digest()
    await receive.stage(house.core, part, size, digest)
    claimed.parts[part.document_id] = (part, size, digest)
    verdict = Verdict(
        outer, 5, hashlib.sha256(b"outer").digest(), scans=[Scan("yara", "clean")],
        parts=[part.document_id], classification=Classification("correspondence", 0.9, None),
    )  # fmt: skip
    await house.queue.verdict(claimed, verdict, fixity)
    return part.document_id


async def test_a_mail_with_a_payslip_in_it_is_as_closed_as_the_payslip(house):
    """The container holds the same bytes: opening it would be the way around."""

    part, mail = await mail_with_part(house), MAIL
    # Nobody knows yet what is in it; that ends by itself, and nobody has to be asked.
    for _ in range(2):
        refusal = await refused_open(house, mail)
        assert refusal.code == "denied"
        assert "still being checked" in refusal.message
    assert await waiting(house) == []
    assert entries(house, "document.opened") == []
    await house.judge(classification=Classification("payroll", 0.95, "2025-03-01"))
    assert (await house.document(part))["state"] == DocumentState.FILED
    assert (await refused_open(house, mail)).code == "denied"
    (request,) = await waiting(house)
    refusal = await house.refused(
        house.act("access.approve", by="officer1", id=request["id"], folder=True)
    )
    assert "without --folder" in refusal.message
    await house.act("access.approve", by="officer1", id=request["id"])
    assert await house.read(mail) == b"outer"


async def test_a_mail_opens_once_its_part_is_known_to_be_no_payslip(house):
    await mail_with_part(house)
    await house.judge(classification=Classification("invoice", 0.95, "2025-03-01"))
    assert await house.read(MAIL) == b"outer"
    assert await waiting(house) == []


async def test_a_mail_opens_for_whom_its_unclassified_part_opens_in_review(house):
    """Who is to say what a part is may look at it, and at the mail that it came in."""

    part = await mail_with_part(house)
    await house.judge()
    assert (await house.document(part))["reason"] == "unclassified"
    assert await house.read("/review/acme/slip.pdf") == b"pay"
    assert await house.read(MAIL) == b"outer"
    view = await house.view("accountant")
    await view.rename(split("/review/acme/slip.pdf"), split(SLIP))
    assert (await refused_open(house, MAIL)).code == "denied"


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        ({"unreadable": "password"}, DocumentState.REVIEW),
        ({"scans": [Scan("yara", "found", "rule")]}, DocumentState.QUARANTINED),
    ],
    ids=["unjudged", "quarantined"],
)
async def test_a_mail_with_a_part_that_only_an_officer_releases_takes_an_officers_approval(
    house, verdict, state
):
    part = await mail_with_part(house)
    await house.judge(**verdict)
    assert (await house.document(part))["state"] == state
    first, again = await refused_open(house, MAIL), await refused_open(house, MAIL)
    assert "could not be checked or is quarantined" in first.message
    assert first.message == again.message
    (request,) = await waiting(house)
    await house.act("access.approve", by="officer1", id=request["id"])
    assert await house.read(MAIL) == b"outer"
    release = {"document": part, "record_class": "invoice", "fiscal_year": 2025}
    await house.by_two("document.release", **release)
    house.clock.advance(days=30)
    assert await house.read(MAIL) == b"outer"  # released, and its class known: no approval needed
    assert len(entries(house, "access.requested")) == 1


async def test_no_restricted_classes_no_requests(tmp_path):
    house = House(tmp_path, **{"access.restricted": []})
    try:
        await house.settle()
        await payslip(house)
        assert await house.read(SLIP) == b"pay"
        await mail_with_part(house)
        assert await house.read(MAIL) == b"outer"
        assert await waiting(house) == []
    finally:
        house.close()


async def test_an_archivist_reads_by_approval_and_classifies_nothing(house):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from vault.crypto import sshsig

    line = sshsig.public_line(Ed25519PrivateKey.generate())
    await house.act("account.add", name="archivist", role="archivist", keys=[line])
    await house.act("account.grant", name="archivist", client="acme")
    await house.filed("a.xml")
    await payslip(house)
    assert await house.read("/clients/acme/2025/invoice/a.xml", "archivist") == b"x"
    assert (await refused_open(house, SLIP, "archivist")).code == "denied"
    view = await house.view("archivist")
    refusal = await house.refused(
        view.rename(
            split("/clients/acme/2025/invoice/a.xml"), split("/clients/acme/2024/invoice/a.xml")
        )
    )
    assert "An archivist reads" in refusal.message


async def test_moving_between_class_folders_reclassifies_records_and_never_shortens(house):
    document = await house.filed("a.txt", b"x", "bank-statement")  # ten years
    view = await house.view("accountant")
    old, new = "/clients/acme/2025/bank-statement/a.txt", "/clients/acme/2025/invoice/a.txt"
    said = await view.rename(split(old), split(new))
    assert said == "Filed as invoice, fiscal year 2025; kept until 2055-12-31."
    shown = await house.document(document)
    assert (shown["record_class"], shown["confirmed"]) == ("invoice", True)
    assert shown["eligible_at"].startswith("2055-12-31")
    (entry,) = entries(house, "document.reclassify")
    assert entry["actor"] == view.account.id
    refusal = await house.refused(view.rename(split(new), split(old)))
    assert refusal.code == "denied"
    assert f"strongroom document reclassify {document} --class bank-statement" in refusal.message
    assert "officer" in refusal.message
    shorter = await house.refused(
        view.rename(split(new), split("/clients/acme/2024/invoice/a.txt"))
    )
    assert "shorter time" in shorter.message
    assert await view.rename(split(new), split(new)) == ""
    assert len(entries(house, "document.reclassify")) == 1


MOVES = [
    ("/clients/acme/2025/invoice/a.xml", "/clients/acme/2025/contract/b.xml", "keeps the name"),
    ("/clients/acme/2025/invoice/a.xml", "/clients/other/2025/contract/a.xml", "its client"),
    ("/clients/acme/2025/invoice/a.xml", "/review/acme/a.xml", "is moved from"),
    ("/clients/acme/2025/invoice", "/clients/acme/2025/contract", "Only files"),
    ("/clients/acme", "/clients/other", "Only files"),
    ("/clients/acme/2025/invoice/a.xml", "/clients/acme/2025/nonsense/a.xml", "no such record class"),
    ("/clients/acme/2025/invoice/a.xml", "/clients/acme/1901/invoice/a.xml", "fiscal year"),
    ("/clients/acme/2025/invoice/no.xml", "/clients/acme/2025/contract/no.xml", "No such file"),
    ("/clients/other/2025/invoice/a.xml", "/clients/acme/2025/contract/a.xml", "its client|No such"),
    ("/clients/other/2025/invoice/a.xml", "/clients/other/2025/contract/a.xml", "No such file"),
]  # fmt: skip


async def test_a_move_that_is_no_classification_is_refused_with_a_sentence(house):
    document = await house.filed("a.xml")
    await house.filed("a.xml", by="other")
    view = await house.view("accountant")
    for old, new, said in MOVES:
        refusal = await house.refused(view.rename(split(old), split(new)))
        assert any(words in refusal.message for words in said.split("|")), (old, new)
        assert refusal.message.endswith(".")
        assert (await house.document(document))["record_class"] == "invoice"


def test_a_restricted_class_that_no_rule_knows_stops_the_core_instead_of_standing_open(house):
    from gateway.core.opening import open_core
    from gateway.errors import ConfigurationError

    access_section = msgspec.structs.replace(house.config.access, restricted=["payrol"])
    config = msgspec.structs.replace(house.config, access=access_section)
    with pytest.raises(ConfigurationError, match=r"key access\.restricted: .* payrol$"):
        open_core(config)
