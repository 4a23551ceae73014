"""Receipts and notices: who is told what, when, and never twice; carried to a real relay over loopback."""

from __future__ import annotations

import base64
import re

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from sqlalchemy import select

from gateway.core.inspection.proving import Proving
from gateway.core.notices import follow, phrases, receipts
from gateway.core.notices.composing import BUSY
from gateway.core.notices.kind import prune
from gateway.core.notices.receipts import is_machine
from gateway.core.reasons import _FINDINGS, _NOTHING, _REASONS, _UNREAD, _UNSURE
from gateway.courier import relay
from gateway.wire.messages import Classification, Scan
from tests.scenarios.test_locked import SECRET, locked_pdf
from tests.support.house import replaced
from tests.support.inspecting import act_while_inspecting, inspect
from tests.support.mail_sink import MailSink, html_of, text_of
from tests.support.notices import judge_with_parts, mail, outcomes, rows, tick, told_house
from vault.backup.format import SETTING_RESTORED
from vault.catalogue import settings
from vault.catalogue.schema import notice_documents, notices
from vault.catalogue.states import Proof

INVOICE = Classification("invoice", 0.95, "2025-03-01")
PAYROLL = Classification("payroll", 0.95, "2025-03-01")
MACRO = [Scan("yara", "clean"), Scan("office", "suspect", detail="office.macros")]
VIRUS = [Scan("yara", "found", detail="Test.Signature")]


@pytest.fixture
def sink(tmp_path):
    with MailSink(tmp_path / "relay") as running:
        yield running


@pytest.fixture
async def house(tmp_path, sink):
    made = await told_house(tmp_path / "house", sink)
    yield made
    await made.end()


async def answered(house, **facts) -> None:
    """A mail with one invoice, judged, and what follows from it."""
    await mail(house)
    await judge_with_parts(house, "a.pdf", **facts)
    await house.judge(classification=INVOICE, media_type="application/pdf")
    await tick(house)


async def test_a_mail_is_answered_once_when_all_of_it_was_judged(house, sink):
    await mail(house)
    await tick(house)
    await judge_with_parts(house, "a.pdf", "wages.xlsx", "c.docm")
    await tick(house, minutes=1)
    assert sink.mails == []  # the parts are still being inspected
    await house.judge(classification=INVOICE, media_type="application/pdf")
    await house.judge(classification=PAYROLL)
    await tick(house, minutes=1)
    assert sink.mails == []
    await house.judge(scans=MACRO)
    for _ in range(3):
        await tick(house, minutes=1)
    (answer,) = sink.mails
    assert sink.recipients == ["owner@acme.example"]
    assert sink.sessions == [(True, True)]
    assert answer["To"] == "owner@acme.example"
    assert answer["In-Reply-To"] == answer["References"] == "<one@acme.example>"
    assert answer["Auto-Submitted"] == "auto-replied"
    assert answer["From"].addresses[0].addr_spec == "receipts@gateway.example"
    assert answer["Subject"] == "Receipt: 3 received, 2 accepted, 1 held"
    text = text_of(answer)
    assert "Client: acme" in text
    assert text.count("accepted") >= 2
    assert "Print" in text or "Save it" in text
    assert "fiscal year 2025" in text
    assert outcomes(house) == ["sent"]


async def test_what_became_no_document_is_counted_and_not_named(house, sink):
    await mail(house)
    await judge_with_parts(
        house, "a.pdf", ignored=["picture-in-text: secret.png", "more: 4 others"]
    )
    await house.judge(classification=INVOICE, media_type="application/pdf")
    await tick(house)
    said = text_of(sink.mails[0])
    assert "pictures in a text, signatures, system files): 5;" in said
    assert "secret" not in said


async def test_nothing_of_a_document_is_in_a_receipt(house, sink):
    await mail(house)
    await judge_with_parts(house, "acme 2025 12,345.67.pdf", "Wages of March.xlsx")
    await house.judge(classification=INVOICE)
    await house.judge(classification=PAYROLL)
    await tick(house)
    (raw,) = sink.raw
    (answer,) = sink.mails
    said = text_of(answer) + html_of(answer) + raw.decode("ascii")
    for word in ("12,345.67", "acme 2025", "Wages", "ayroll", "invoices"):
        assert word not in said, word
    assert "http" not in html_of(answer)


async def test_names_are_told_where_the_configuration_says_so_but_never_of_a_restricted_class(
    tmp_path, sink
):
    house = await told_house(tmp_path / "named", sink, file_names=True)
    await mail(house)
    await judge_with_parts(house, "march.pdf", "wages.xlsx", "guessed.xlsx", "unknown.bin")
    await house.judge(classification=INVOICE)
    await house.judge(classification=PAYROLL)
    await house.judge(classification=Classification("invoice", 0.4, "2025-03-01"))
    await house.judge(scans=VIRUS)  # of no known class
    await tick(house)
    text = text_of(sink.mails[0])
    assert "march.pdf" in text
    assert "wages" not in text
    assert "guessed" not in text  # it may be of a restricted class
    assert "unknown.bin" not in text
    await house.end()


@pytest.mark.parametrize("proof", [Proof.NONE, Proof.PERSON])
async def test_whoever_was_not_proven_is_not_answered(house, sink, proof):
    await mail(house, proof)
    await judge_with_parts(house)
    await tick(house)
    assert (sink.mails, outcomes(house)) == ([], ["withheld"])


async def test_a_forged_sender_is_not_answered(house, sink):
    """The client asks for a tag that the mail does not have: it is put aside unopened."""
    await house.act("client.change", slug="acme", emails=["owner@acme.example=tag"])
    await mail(house, Proof.FAILED)
    proving = Proving(house.wings.intake, house.queue)
    await proving._attend(await proving._next())
    await tick(house, minutes=120)
    (shown,) = await house.act("document.list", state="QUARANTINED")
    assert shown["reason"] == "sender:unproven"
    assert (sink.mails, outcomes(house)) == ([], ["withheld"])


async def test_a_proof_that_waits_is_waited_for(house, sink):
    await mail(house, Proof.WAITING)
    await tick(house, minutes=120)
    assert (sink.mails, outcomes(house)) == ([], ["waiting"])


@pytest.mark.parametrize(
    "facts",
    [
        {"automatic": "auto-submitted"},
        {"automatic": "precedence"},
        {"automatic": "list-id"},
        {
            "from": "Owner <owner@elsewhere.example>"
        },  # signed by another domain than it was sent from
        {"from": ""},
        {"from": "<x@elsewhere.example> (owner@acme.example)"},
        {"from": "owner@acme.example <x@elsewhere.example>"},
    ],
)
async def test_a_program_is_not_answered_nor_a_sender_of_another_domain(house, sink, facts):
    await answered(house, **facts)
    assert (sink.mails, outcomes(house)) == ([], ["withheld"])


async def test_a_mail_that_could_not_be_read_is_not_answered_for_a_program_may_have_written_it(
    house, sink
):
    await mail(house)
    await house.judge(unreadable="malformed", media_type="message/rfc822")
    await tick(house)
    assert (sink.mails, outcomes(house)) == ([], ["withheld"])


@pytest.mark.parametrize(
    "sender", ["", "mailer-daemon@acme.example", "no-reply@acme.example", "acme@intake.localhost"]
)
async def test_no_bounce_and_no_machine_and_not_ourselves_is_answered(house, sink, sender):
    await house.act("client.change", slug="acme", emails=["@acme.example", "@intake.localhost"])
    await mail(house, sender=sender)
    await judge_with_parts(house, **{"from": sender or "x@acme.example"})
    await tick(house)
    assert (sink.mails, outcomes(house)) == ([], ["withheld"])


@pytest.mark.parametrize(
    ("address", "machine"),
    [
        ("MAILER-DAEMON@a.example", True),
        ("do-not-reply@a.example", True),
        ("noreply+x@a.example", True),
        ("bounces+7=b.example@a.example", True),
        ("list-request@a.example", True),
        ("norbert@a.example", False),
        ("replying@a.example", False),
    ],
)
def test_machines_are_known_by_their_names(address, machine):
    assert is_machine(address) is machine


async def test_one_address_gets_so_many_receipts_a_day_and_the_rest_later(tmp_path, sink):
    house = await told_house(tmp_path / "capped", sink, max_per_recipient=2)
    for _ in range(3):
        await answered(house)
    assert len(sink.mails) == 2
    assert outcomes(house) == ["sent", "sent", "waiting"]
    assert "as many as it gets" in rows(house)[-1].failure
    await tick(house, minutes=25 * 60)
    assert len(sink.mails) == 3
    await house.end()


async def test_who_sends_many_mails_gets_digests_once_it_is_busy(house, sink):
    await house.act("client.change", slug="acme", emails=["@acme.example"])
    for _ in range(BUSY):
        await answered(house)
    assert len(sink.mails) == BUSY
    for number in range(7):
        await mail(house, data=b"From: x\r\n\r\n%d\r\n" % number)
        await judge_with_parts(house)
        await tick(house, minutes=1)
    await mail(house, sender="other@acme.example")
    await judge_with_parts(house, **{"from": "other@acme.example"})
    assert len(sink.mails) == BUSY  # none within the window
    await tick(house)
    await tick(house, minutes=house.core.config.relay.digest_minutes)
    other, gathered = sink.mails[BUSY:]
    assert other["To"] == "other@acme.example"  # not busy: it hears at once
    assert other["In-Reply-To"] == "<one@acme.example>"
    assert gathered["In-Reply-To"] is None
    assert "7" in gathered["Subject"]
    assert outcomes(house).count("joined") == 6
    assert outcomes(house).count("waiting") == 0
    documents = house.core.store.catalogue.read(
        lambda c: (
            c.execute(
                select(notice_documents.c.document_id)
                .join(notices, notices.c.number == notice_documents.c.number)
                .where(notices.c.outcome == "sent")
            )
            .scalars()
            .all()
        )
    )
    assert len(set(documents)) == BUSY + 8  # each was told once
    assert len(documents) == BUSY + 8


async def test_the_relay_gets_so_many_a_minute(tmp_path, sink):
    house = await told_house(tmp_path / "slow", sink, max_per_minute=1)
    for _ in range(2):
        await mail(house)
        await judge_with_parts(house)
    await tick(house)
    assert len(sink.mails) == 1
    await tick(house)
    assert len(sink.mails) == 1
    await tick(house, minutes=1.1)
    assert len(sink.mails) == 2
    await house.end()


async def test_what_can_not_wait_goes_before_receipts_that_pile_up(tmp_path, sink):
    house = await told_house(tmp_path / "slow", sink, max_per_minute=1)
    await with_addresses(house, "officer1")
    for _ in range(3):
        await mail(house)
        await judge_with_parts(house)
    await tick(house)
    await house.upload("/inbox/a.bin", b"a")
    await house.judge(scans=VIRUS)
    await tick(house, minutes=1.1)
    assert [each["To"] for each in sink.mails] == ["owner@acme.example", "officer1@firm.example"]
    await house.end()


async def test_what_a_client_sends_by_sftp_is_one_digest_and_only_if_it_wants_one(house, sink):
    await house.filed("a.pdf")
    await tick(house, minutes=60)
    assert (sink.mails, rows(house)) == ([], [])
    await house.act("client.change", slug="acme", notice_to="books@acme.example", language="both")
    for name in ("b.pdf", "c.pdf"):
        await house.filed(name)
        await tick(house, minutes=5)
    await house.upload("/inbox/d.bin", b"d")
    await house.judge(scans=VIRUS)
    await tick(house, minutes=1)
    assert sink.mails == []  # it gathers
    await tick(house, minutes=10)
    (answer,) = sink.mails
    assert answer["To"] == "books@acme.example"
    assert answer["In-Reply-To"] is None
    assert answer["Auto-Submitted"] == "auto-generated"
    assert answer["Subject"] == (
        "回执：3 份文件，2 份已接收，1 份未接收 / Receipt: 3 received, 2 accepted, 1 refused"
    )
    assert "未接收" in text_of(answer)
    assert "NOT accepted" in text_of(answer)


async def test_what_is_inspected_for_long_is_told_of_twice_but_no_more(house, sink):
    await house.act("client.change", slug="acme", notice_to="books@acme.example", language="en")
    await house.upload("/inbox/a.pdf", b"a")
    await tick(house, minutes=0)
    await tick(house, minutes=30)
    assert sink.mails == []
    await tick(house, minutes=31)
    assert "still being inspected" in text_of(sink.mails[0])
    await tick(house, minutes=120)
    assert len(sink.mails) == 1
    await house.judge(classification=INVOICE)
    for _ in range(3):
        await tick(house, minutes=5)
    assert len(sink.mails) == 2
    assert "Everything you sent was accepted" in text_of(sink.mails[1])
    assert outcomes(house) == ["sent", "sent"]


async def test_who_was_told_that_something_is_held_hears_once_how_it_ended(house, sink):
    await mail(house)
    first, second, third = await judge_with_parts(house, "a.pdf", "b.bin", "c.bin")
    await house.judge(classification=INVOICE)
    await house.judge()
    await house.judge()
    await tick(house)
    assert sink.mails[0]["Subject"] == "Receipt: 3 received, 1 accepted, 2 held"
    decide = {"by": "accountant", "record_class": "invoice", "fiscal_year": 2025}
    await house.act("document.reclassify", document=second, **decide)
    await tick(house, minutes=20)
    assert len(sink.mails) == 1  # one is still held
    await house.act("document.reject", by="officer1", document=third)
    await tick(house)
    await tick(house, minutes=20)
    await tick(house, minutes=20)
    assert sink.mails[1]["Subject"] == "Receipt: 3 received, 2 accepted, 1 refused"
    assert sink.mails[1]["In-Reply-To"] == "<one@acme.example>"
    await house.act(
        "document.reclassify", document=first, **decide
    )  # nobody was told of it as held
    await tick(house, minutes=20)
    await tick(house, minutes=20)
    assert len(sink.mails) == 2


async def test_who_was_told_that_a_file_is_locked_hears_what_was_in_it(house, sink):
    await house.act("client.change", slug="acme", notice_to="books@acme.example", language="en")
    document = await house.upload("/inbox/statement.pdf", locked_pdf())
    await inspect(house)
    await tick(house)
    await tick(house, minutes=20)
    assert sink.mails[0]["Subject"] == "Receipt: 1 received, 0 accepted, 1 held"
    await act_while_inspecting(house, "document.unlock", document=document, password=SECRET)
    await tick(house)
    await tick(house, minutes=20)
    assert len(sink.mails) == 1  # what was inside is not inspected yet
    await inspect(house)
    for _ in range(3):
        await tick(house, minutes=20)
    assert [each["Subject"] for each in sink.mails[1:]] == ["Receipt: 1 received, 1 accepted"]
    assert sink.mails[1]["To"] == "books@acme.example"


async def test_what_was_decided_before_anybody_was_told_is_told_once(house, sink):
    await house.act("client.change", slug="acme", notice_to="books@acme.example")
    held = await house.upload("/inbox/a.bin", b"a")
    await house.judge()
    await tick(house)
    await house.act("document.reject", by="officer1", document=held)
    await tick(house, minutes=20)
    await tick(house, minutes=20)
    (answer,) = sink.mails
    assert answer["Subject"].endswith("1 refused")


async def test_a_document_that_is_gone_is_told_of_no_more(house, sink):
    await house.act("client.change", slug="acme", notice_to="books@acme.example")
    await house.upload("/inbox/a.txt", b"a")
    await house.judge(classification=Classification("demonstration-note", 0.95, None))
    await follow.follow(house.wings.notices)
    house.clock.advance(days=2)
    house.restart()
    (batch,) = await house.act("disposal.propose")
    for officer in ("officer1", "officer2"):
        await house.approve(batch["id"], officer)
    await house.act("disposal.execute", by="officer3", id=batch["id"])
    await tick(house)
    assert (sink.mails, outcomes(house)) == ([], ["moot"])


# ── the relay ────────────────────────────────────────────────────────────────────────────────────


async def test_a_refusal_for_good_ends_it_with_the_reason_and_without_the_address(house, sink):
    sink.rcpt = "550 5.1.1 <owner@acme.example>: no such user here"
    await answered(house)
    (row,) = rows(house)
    assert row.outcome == "refused"
    assert "550" in row.failure
    assert "no such user" in row.failure
    assert "owner" not in row.failure
    sink.rcpt = ""
    await tick(house, minutes=600)
    assert sink.mails == []
    (target,) = (await house.act("status"))["notices"]["targets"]
    assert (target["failed"], target["waiting"]) == (1, 0)


@pytest.mark.parametrize("answer", ["rcpt", "data"])
async def test_what_is_put_off_is_tried_again_under_the_same_id_for_five_days(house, sink, answer):
    setattr(sink, answer, "451 4.7.1 Greylisted, try later")
    await answered(house)
    (row,) = rows(house)
    assert (row.outcome, row.attempts) == ("", 1)
    (target,) = (await house.act("status"))["notices"]["targets"]
    assert target["behind"]
    assert "451" in target["failure"]
    setattr(sink, answer, "")
    await tick(house, minutes=1)
    assert outcomes(house) == ["sent"]
    assert len({each["Message-ID"] for each in sink.mails}) == 1


async def test_after_five_days_it_is_given_up_and_shown(house, sink):
    sink.sender = "451 4.3.2 Not now"
    await answered(house)
    await tick(house, minutes=4.9 * 24 * 60)
    assert outcomes(house) == ["waiting"]
    await tick(house, minutes=24 * 60)
    assert outcomes(house) == ["given-up"]
    (listed,) = await house.act("notice.list", state="given-up")
    assert listed["to"] == "acme"
    assert "451" in listed["failure"]


async def test_one_that_is_put_off_keeps_no_other_waiting(house, sink):
    sink.rcpt = "450 4.2.1 Mailbox busy"
    await answered(house)
    sink.rcpt = ""
    await mail(house)
    await judge_with_parts(house)
    await tick(house)
    assert sorted(outcomes(house)) == ["sent", "waiting"]


async def test_a_relay_that_can_not_prove_its_name_gets_nothing(tmp_path, sink):
    house = await told_house(tmp_path / "other", sink, tls_ca="")
    await answered(house)
    (row,) = rows(house)
    assert (sink.mails, row.outcome) == ([], "")
    assert "certificate" in row.failure
    await house.end()


async def test_a_wrong_password_is_the_relays_failure_and_ends_nothing(tmp_path, sink):
    house = await told_house(tmp_path / "locked", sink)
    sink.password.write_text("another")
    await answered(house)
    (row,) = rows(house)
    assert (row.outcome, row.attempts) == ("", 1)
    assert "535" in row.failure
    sink.password.chmod(0o644)
    await tick(house, minutes=1)
    assert "535" not in rows(house)[0].failure  # others could read it: it is not used
    await house.end()


async def test_a_relay_that_hangs_is_left_and_tried_again(house, sink, monkeypatch):
    monkeypatch.setattr(relay, "AFTER_DATA", 0.5)
    sink.data = "hang"
    await answered(house)
    (row,) = rows(house)
    assert (row.outcome, row.attempts) == ("", 1)
    assert "in time" in row.failure
    sink.data = ""
    await tick(house, minutes=1)
    assert outcomes(house) == ["sent"]
    assert len({each["Message-ID"] for each in sink.mails}) == 1


async def test_mail_is_signed_for_the_domain_of_the_configuration(tmp_path, sink):
    key = rsa.generate_private_key(65537, 2048)
    pem = tmp_path / "dkim.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    asked = []

    def dns(name, timeout=5):
        del timeout
        asked.append(name)
        return record

    house = await told_house(
        tmp_path / "signed",
        sink,
        dkim_key=str(pem),
        dkim_selector="s2026",
        dkim_domain="gateway.example",
    )
    await answered(house)
    (raw,) = sink.raw
    assert dkim.verify(raw, dnsfunc=dns)
    assert asked == [b"s2026._domainkey.gateway.example."]
    assert not dkim.verify(raw.replace(b"Receipt", b"receipt"), dnsfunc=dns)
    pem.write_bytes(b"no key")
    await answered(house)
    assert "sign" in rows(house)[-1].failure
    await house.end()


async def test_a_relay_with_tls_from_the_first_byte(tmp_path):
    with MailSink(tmp_path / "implicit", implicit=True) as sink:
        house = await told_house(tmp_path / "house", sink, tls="implicit")
        await answered(house)
        assert (outcomes(house), sink.sessions) == (["sent"], [(True, True)])
        await house.end()


async def test_without_tls_a_relay_gets_nothing_unless_it_is_on_this_machine_and_meant(tmp_path):
    with MailSink(tmp_path / "plain", plain=True) as sink:
        stripped = await told_house(tmp_path / "stripped", sink)  # someone took STARTTLS out
        await answered(stripped)
        assert (outcomes(stripped), sink.mails) == (["waiting"], [])
        await stripped.end()
        meant = await told_house(tmp_path / "meant", sink, tls="none", user="", credentials="")
        await answered(meant)
        assert (outcomes(meant), len(sink.mails)) == (["sent"], 1)
        await meant.end()


async def test_what_waits_for_a_webhook_that_is_no_more_ends(house, sink):
    house.core.store.catalogue.write(
        lambda tx: follow.add(tx, "webhook:old", "review", house.clock(), house.clock(), entry=0)
    )
    (shown,) = [
        each
        for each in (await house.act("status"))["notices"]["targets"]
        if each["target"] == "webhook:old"
    ]
    assert (shown["configured"], shown["waiting"]) == (False, 1)
    for days, state in ((9, "waiting"), (2, "given-up")):
        house.clock.advance(days=days)
        now = house.clock()
        house.core.store.catalogue.write(lambda tx, at=now: prune(house.core, tx, at))
        assert outcomes(house) == [state]
    house.clock.advance(days=91)
    house.core.store.catalogue.write(lambda tx: prune(house.core, tx, house.clock()))
    assert rows(house) == []


async def test_a_receipt_lists_so_many_and_counts_all(house, sink, monkeypatch):
    monkeypatch.setattr(receipts, "MOST", 2)
    await mail(house)
    await judge_with_parts(house, "a", "b", "c")
    for _ in range(3):
        await house.judge(classification=INVOICE)
    await tick(house)
    (answer,) = sink.mails
    assert answer["Subject"] == "Receipt: 3 received, 3 accepted"
    assert "Not listed here: 1 more" in text_of(answer)


async def test_a_connection_cut_before_the_answer_is_tried_again_under_the_same_id(house, sink):
    sink.data = "drop"
    await answered(house)
    assert outcomes(house) == ["waiting"]
    sink.data = ""
    await tick(house, minutes=1)
    assert outcomes(house) == ["sent"]
    first, second = sink.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert re.fullmatch(r"<[0-9a-z]{26}@gateway\.example>", str(first["Message-ID"]))


# ── staff ────────────────────────────────────────────────────────────────────────────────────────


async def with_addresses(house, *names) -> None:
    for name in names:
        by = "officer3" if name.startswith("officer") else ""  # another officer signs
        await house.act("account.change", by=by, name=name, email=f"{name}@firm.example")
    await tick(house)


async def test_reviews_are_told_once_a_day_to_the_accountants_of_the_client(house, sink):
    await with_addresses(house, "accountant", "stranger", "officer1")
    for number in range(5):
        await house.upload(f"/inbox/{number}.bin", bytes([number]))
        await house.judge()
    await tick(house)
    await tick(house, minutes=16)
    assert sink.recipients == ["accountant@firm.example"]
    (first,) = sink.mails
    assert "in review, to be classified: 5" in first["Subject"]
    assert "strongroom document list --state REVIEW" in text_of(first)
    await house.upload("/inbox/6.bin", b"6")
    await house.judge()
    await tick(house, minutes=600)
    assert len(sink.mails) == 1  # once a day
    await tick(house, minutes=850)
    assert len(sink.mails) == 2


async def test_a_relay_that_fails_and_comes_back_makes_no_digest_come_early(house, sink):
    await with_addresses(house, "accountant")
    for minutes in (0, 16):
        await house.upload(f"/inbox/{minutes}.bin", bytes([minutes]))
        await house.judge()
        await tick(house)
        await tick(house, minutes=16)
    assert len(sink.mails) == 1
    assert outcomes(house) == ["sent", "waiting"]  # until tomorrow
    due = rows(house)[1].next_attempt_at
    sink.sender = "421 4.3.2 Closing down"
    await answered(house)
    assert outcomes(house) == ["sent", "waiting", "waiting"]
    assert (rows(house)[1].next_attempt_at, rows(house)[1].attempts) == (due, 0)
    sink.sender = ""
    await tick(house, minutes=60)
    assert outcomes(house) == ["sent", "waiting", "sent"]
    assert (rows(house)[1].next_attempt_at, rows(house)[1].attempts) == (due, 0)


async def test_officers_hear_of_reviews_that_no_accountant_hears_of(house, sink):
    await with_addresses(house, "stranger", "officer1")
    await house.upload("/inbox/a.bin", b"a")
    await house.judge()
    await tick(house)
    await tick(house, minutes=16)
    assert sink.recipients == ["officer1@firm.example"]


async def test_an_attack_is_told_at_once_and_many_of_them_in_one(house, sink):
    await with_addresses(house, "officer1", "officer2", "accountant")
    await house.upload("/inbox/a.bin", b"a")
    await house.judge(scans=VIRUS)
    await tick(house)
    assert sorted(sink.recipients) == ["officer1@firm.example", "officer2@firm.example"]
    assert sink.mails[0]["Subject"].startswith("紧急：")
    for number in range(20):
        await house.upload(f"/inbox/{number}.bin", bytes([number, 1]))
        await house.judge(scans=VIRUS)
        await tick(house, minutes=1)
    assert len(sink.mails) == 2
    await tick(house, minutes=60)
    assert len(sink.mails) == 4
    assert "in quarantine: 21" in sink.mails[-1]["Subject"]


async def test_a_matter_that_is_settled_is_told_no_more(house, sink):
    await with_addresses(house, "officer1")
    await house.upload("/inbox/a.txt", b"a")
    await house.judge(classification=Classification("demonstration-note", 0.95, None))
    house.clock.advance(days=2)
    house.restart()
    (batch,) = await house.act("disposal.propose")
    await tick(house)
    await house.approve(batch["id"], "officer2", decision="reject")
    await tick(house, minutes=20)
    assert (sink.mails, outcomes(house)) == ([], ["moot"])


async def test_a_batch_that_waits_is_told_to_officers(house, sink):
    await with_addresses(house, "officer1", "admin", "auditor")
    await house.upload("/inbox/a.txt", b"a")
    await house.judge(classification=Classification("demonstration-note", 0.95, None))
    house.clock.advance(days=2)
    house.restart()
    await house.act("disposal.propose")
    await tick(house)
    await tick(house, minutes=20)
    assert sink.recipients == ["officer1@firm.example"]
    assert "strongroom disposal list" in text_of(sink.mails[0])


async def test_a_batch_that_an_officer_has_signed_waits_for_others(house, sink):
    await with_addresses(house, "officer1", "officer2")
    await house.upload("/inbox/a.txt", b"a")
    await house.judge(classification=Classification("demonstration-note", 0.95, None))
    house.clock.advance(days=2)
    house.restart()
    (batch,) = await house.act("disposal.propose")
    await tick(house)
    await house.approve(batch["id"], "officer1")
    await tick(house, minutes=20)
    assert sink.recipients == ["officer2@firm.example"]


async def test_a_disabled_account_is_told_nothing(house, sink):
    await with_addresses(house, "officer1")
    await house.upload("/inbox/a.bin", b"a")
    await house.judge()
    await tick(house)
    await house.act("account.disable", name="officer1")
    await tick(house, minutes=20)
    assert (sink.mails, outcomes(house)) == ([], ["withheld"])


async def test_an_expired_account_is_told_nothing_and_officers_are_in_its_place(house, sink):
    await with_addresses(house, "accountant", "officer1")
    await house.act("account.change", name="accountant", expires="2026-11-23")
    await house.upload("/inbox/a.bin", b"a")
    await house.judge()
    await tick(house)
    await tick(house, minutes=3 * 24 * 60)
    assert outcomes(house) == ["withheld"]
    await house.upload("/inbox/b.bin", b"b")
    await house.judge()
    await tick(house)
    await tick(house, minutes=16)
    assert sink.recipients == ["officer1@firm.example"]


async def test_addresses_are_sealed_and_stand_in_no_entry_of_the_ledger(house, sink):
    await with_addresses(house, "officer1")
    await house.act("client.change", slug="acme", notice_to="books@acme.example")
    await house.filed("a.pdf")
    await tick(house)
    await tick(house, minutes=20)
    assert sink.recipients == ["books@acme.example"]
    for path in (house.folder / "vault").glob("catalogue.sqlite3*"):
        data = path.read_bytes()
        assert b"firm.example" not in data
        assert b"acme.example" not in data


async def test_what_happened_before_anything_was_configured_is_not_told(tmp_path, sink):
    house = await told_house(tmp_path / "late", None)
    await house.act("client.change", slug="acme", notice_to="books@acme.example")
    await house.filed("a.pdf")
    await follow.prepare(house.wings.notices)
    house.close()
    for key, value in sink.section().items():
        house.config = replaced(house.config, f"relay.{key}", value)
    house.open()
    await tick(house)
    await tick(house, minutes=20)
    assert (sink.mails, rows(house)) == ([], [])
    await house.end()


async def test_what_waited_in_a_backup_is_not_sent_again_from_a_restored_store(house, sink):
    sink.sender = "451 4.3.2 Not now"
    await answered(house)
    assert outcomes(house) == ["waiting"]
    size = house.core.store.catalogue.ledger.size
    house.core.store.catalogue.write(
        lambda tx: (
            settings.put(tx.connection, SETTING_RESTORED, str(size)),
            house.core.record(tx, "store.restored", "store", "core", house.clock()),
        )
    )
    house.restart()
    await follow.prepare(house.wings.notices)
    sink.sender = ""
    await tick(house, minutes=60)
    assert (sink.mails, outcomes(house)) == ([], ["moot"])
    await answered(house)
    assert len(sink.mails) == 1


def test_every_sentence_a_client_is_told_is_there_in_chinese():
    told = [*_FINDINGS.values(), *_REASONS.values(), _UNSURE, _UNREAD, _NOTHING]
    missing = {each for sentence in told for each in sentence if each not in phrases.ZH}
    assert missing == set()
