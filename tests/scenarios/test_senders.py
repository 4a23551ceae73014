"""What mail has to show for its sender: each proof, each way to fake one, and a DNS that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os

import msgspec
import pytest
from sqlalchemy import select

from gateway.config.sections import MailboxSection, SendersSection
from gateway.core.inspection.proving import Proving
from gateway.core.questions import Questions
from gateway.core.reading import NotRead
from gateway.core.sessions.inspector import InspectSession
from gateway.core.sessions.mailbox import MailboxSession
from gateway.core.sessions.smtp import SmtpSession
from gateway.errors import Refusal, WireError
from gateway.inspect import prove
from gateway.inspect.document import Document, Limits
from gateway.resolver import spf
from gateway.wire.messages import (
    BeginFetched,
    BeginMail,
    CommitMail,
    MailRecipient,
    MailReport,
    QuestionAnswer,
)
from gateway.wire.messages import Proving as Means
from tests.support.house import ask
from tests.support.mail_domain import MailDomain, letter, sealed_by
from vault.catalogue.schema import ledger_entries, messages
from vault.crypto.sealed import SealedReader, SealedWriter, document_context

ACME = "acme@intake.localhost"
OWNER = "owner@acme.example"
PEER = "192.0.2.25"


class World:
    """A house with an inspector that proves, and a DNS; both in this process, each step as the real ones do it."""

    def __init__(self, house):
        self.house = house
        self.records: dict[str, list[str]] = {}
        self.hosts: dict[str, list[str]] = {}
        self.silent: set[str] = set()
        house.wings.intake.questions = Questions(patience=5)
        self.proving = Proving(house.wings.intake, house.queue, chance=lambda: 0.0)
        self.session = SmtpSession(house.wings.intake, self.proving, house.wings.logins)
        self.looks = 0

    def publish(self, *domains: MailDomain) -> None:
        for domain in domains:
            self.records |= domain.records

    async def lookup(self, name, kind):
        name = name.rstrip(".").lower()
        if name in self.silent:
            raise spf.Later
        if kind == "TXT":
            return self.records.get(name, [])
        return self.hosts.get(name, []) if kind == "A" else []

    async def _resolve(self):
        questions = self.house.wings.intake.questions
        while True:
            asked = await questions.claim()
            if asked is None:
                continue
            number = asked.question_id
            try:
                if asked.kind == "SPF":
                    result, domain = await spf.check(
                        asked.address, asked.name, asked.helo, self.lookup
                    )
                    answer = QuestionAnswer(
                        number, later=result == "temperror", spf=result, domain=domain
                    )
                else:
                    answer = QuestionAnswer(number, texts=await self.lookup(asked.name, "TXT"))
            except spf.Later:
                answer = QuestionAnswer(number, later=True)
            questions.answer(answer)

    async def _inspect(self):
        queue = self.house.queue
        while True:
            await asyncio.sleep(0.005)
            if not queue._looks:
                continue
            handed = await queue._next()
            self.looks += 1
            work = handed.work
            with SealedReader(
                handed.descriptor, work.key, document_context(work.document_id), close_fd=True
            ) as reader:
                document = Document(work.document_id, reader, reader.size, "", "smtp")
                report = prove.prove(document, Limits(), work.proving)
            handed.look.result.set_result(report)

    @contextlib.asynccontextmanager
    async def running(self):
        tasks = [asyncio.create_task(each()) for each in (self._resolve, self._inspect)]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def offer(self, sender=OWNER, recipient=ACME, peer=PEER, helo="mail.acme.example"):
        answer, _ = await ask(self.session, MailRecipient(peer, sender, recipient, helo=helo))
        return answer

    async def send(self, data, sender=OWNER, recipient=ACME, peer=PEER, helo="mail.acme.example"):
        """Hand a message in as the door does; its document's id."""
        answer = await self.offer(sender, recipient, peer, helo)
        assert answer.code == 250, answer
        begun, descriptor = await ask(self.session, BeginMail(peer, sender, [recipient], helo))
        writer = SealedWriter(descriptor, begun.key, document_context(begun.document_id))
        writer.write(data)
        size = writer.finish()
        os.close(descriptor)
        stored, _ = await ask(
            self.session,
            CommitMail(begun.document_id, size, hashlib.sha256(data).digest(), b"", ""),
        )
        return stored.document_id

    async def judge(self):
        """Judge all that is due, as the core's task does."""
        while (row := await self.proving._next()) is not None:
            await self.proving._attend(row)

    async def outcome(self, document):
        """(state, reason, proof) of a message."""
        shown = await self.house.act("document.show", document=document)
        return shown["state"], shown["reason"], shown["proof"]


@pytest.fixture
async def world(house):
    made = World(house)
    async with made.running():
        yield made


async def ledger_text(house):
    rows = await house.core.read(lambda c: c.execute(select(ledger_entries)).all())
    return str(rows)


async def takes(house, *emails, **more):
    await house.act("client.change", slug="acme", emails=list(emails), **more)


ACCEPTED = ("RECEIVED", "", "dkim")
ASIDE = ("QUARANTINED", "sender:unproven", "failed")


async def test_a_signed_message_is_proven_and_only_then_inspected(world):
    acme = MailDomain("acme.example")
    world.publish(acme)
    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(acme.signed(letter(f"The Owner <{OWNER}>")))
    assert await world.outcome(document) == ("RECEIVED", "sender:waiting", "waiting")
    assert await world.house.queue._next() is None  # no inspector opens it before
    await world.judge()
    assert await world.outcome(document) == ACCEPTED
    assert await world.house.judge() == document
    shown = await world.house.act("document.show", document=document)
    assert shown["facts"]["sender_proof"] == "dkim: acme.example"


async def test_ed25519_counts_and_a_second_signature_saves_a_broken_first(world):
    acme = MailDomain("acme.example")
    world.publish(acme)
    await takes(world.house, f"{OWNER}=dkim")
    good = acme.signed_ed25519(letter(OWNER))
    broken = acme.signed(letter(OWNER, body="another\r\n")).partition(b"From:")[0]
    document = await world.send(broken + good)
    await world.judge()
    assert await world.outcome(document) == ACCEPTED


FORGERIES = {
    "unsigned": lambda acme, other: letter(OWNER),
    "signed by another": lambda acme, other: other.signed(letter(OWNER)),
    "another domain's name, one's own key": lambda acme, other: other.signed(
        letter(OWNER), domain="acme.example"
    ),
    "body changed": lambda acme, other: acme.signed(letter(OWNER)) + b"Pay here instead.\r\n",
    "subject changed": lambda acme, other: acme.signed(letter(OWNER)).replace(
        b"Subject: Invoice", b"Subject: Urgent!"
    ),
    "a second From on top": lambda acme, other: (
        b"From: owner@acme.example\r\n" + other.signed(letter("owner@other.example"))
    ),
    "a second From inside": lambda acme, other: acme.signed(letter(OWNER)).replace(
        b"To: acme", b"From: thief@evil.example\r\nTo: acme"
    ),
    "two authors": lambda acme, other: acme.signed(letter(f"{OWNER}, thief@evil.example")),
    "an author in the name": lambda acme, other: other.signed(
        letter(f'"{OWNER}" <owner@other.example>')
    ),
    "only a part of the body is signed": lambda acme, other: acme.signed(
        letter(OWNER), length=True
    ),
    "From behind a bare CR": lambda acme, other: acme.signed(letter(OWNER)).replace(
        b"Subject: Invoice", b"Subject: Invoice\rFrom: thief@evil.example"
    ),
    "a judgement of its own": lambda acme, other: (
        b"Authentication-Results: mx.house.example; dkim=pass header.d=acme.example;"
        b" dmarc=pass header.from=acme.example\r\n" + letter(OWNER)
    ),
    "no From": lambda acme, other: letter(OWNER).replace(b"From: ", b"X-From: "),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forgery_is_put_aside_unopened(world, name):
    acme, other = MailDomain("acme.example"), MailDomain("other.example")
    world.publish(acme, other)
    await takes(world.house, f"{OWNER}=dkim,spf", "@other.example=dkim")
    world.records["acme.example"] = ["v=spf1 -all"]
    document = await world.send(FORGERIES[name](acme, other))
    await world.judge()
    state = await world.outcome(document)
    if (
        name == "an author in the name"
    ):  # it says who it is from, and that is true: From is the other one
        assert state == ACCEPTED
        return
    assert state == ASIDE
    assert await world.house.queue._next() is None
    shown = await world.house.act("document.show", document=document)
    assert shown["facts"]["sender_proof"]
    assert "evil" not in shown["reason"]


async def test_a_key_of_few_bits_proves_nothing(world):
    acme = MailDomain("acme.example", bits=1024)
    weak = MailDomain("acme.example", selector="weak", bits=1024)
    weak.records = {"weak._domainkey.acme.example": weak.records["weak._domainkey.acme.example"]}
    world.publish(acme, weak)
    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(acme.signed(letter(OWNER)))
    await world.judge()
    assert await world.outcome(document) == ACCEPTED  # 1024 bits are enough
    revoked = MailDomain("acme.example", selector="old")
    world.publish(revoked)
    world.records["old._domainkey.acme.example"] = ["v=DKIM1; k=rsa; p="]
    document = await world.send(revoked.signed(letter(OWNER)))
    await world.judge()
    assert await world.outcome(document) == ASIDE


@pytest.mark.parametrize(
    ("policy", "signer", "proven"),
    [
        ("v=DMARC1; p=reject", "mail.acme.example", True),
        ("v=DMARC1; p=reject; adkim=s", "mail.acme.example", False),
        ("v=DMARC1; p=none; psd=y", "mail.acme.example", False),
        ("", "mail.acme.example", False),  # no policy: only its very own domain
        ("v=DMARC1; p=reject", "acme.example.evil.example", False),
        ("v=DMARC1; p=reject", "notacme.example", False),
    ],
)
async def test_alignment_is_as_the_authors_domain_publishes_it(world, policy, signer, proven):
    world.publish(MailDomain("acme.example", policy=policy), domain := MailDomain(signer))
    world.records.pop("_dmarc.mail.acme.example", None)
    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(domain.signed(letter(OWNER)))
    await world.judge()
    assert await world.outcome(document) == (ACCEPTED if proven else ASIDE)


async def test_spf_proves_the_domain_of_the_envelope_which_has_to_be_that_of_from(world):
    world.records["acme.example"] = [f"v=spf1 ip4:{PEER} -all"]
    world.records["other.example"] = [f"v=spf1 ip4:{PEER} -all"]
    await takes(world.house, f"{OWNER}=spf", "@other.example=spf")
    right = await world.send(letter(OWNER))
    elsewhere = await world.send(letter(OWNER, subject="b"), peer="203.0.113.9")
    foreign = await world.send(letter(OWNER, subject="c"), sender="bounce@other.example")
    await world.judge()
    assert await world.outcome(right) == ("RECEIVED", "", "spf")
    assert await world.outcome(elsewhere) == ASIDE
    assert await world.outcome(foreign) == ASIDE


async def test_a_dns_that_does_not_answer_keeps_mail_waiting_and_loses_nothing(world):
    acme = MailDomain("acme.example")
    world.publish(acme)
    world.silent = {"s1._domainkey.acme.example"}
    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(acme.signed(letter(OWNER)))
    await world.judge()
    assert await world.outcome(document) == ("RECEIVED", "sender:waiting", "waiting")
    assert await world.house.queue._next() is None
    assert (await world.house.act("status"))["mail"]["waiting"] == 1
    world.silent = set()
    await world.judge()  # not before its time
    assert (await world.outcome(document))[2] == "waiting"
    world.house.clock.advance(seconds=60)
    await world.judge()
    assert await world.outcome(document) == ACCEPTED


async def test_what_waits_survives_a_restart(world):
    acme = MailDomain("acme.example")
    world.publish(acme)
    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(acme.signed(letter(OWNER)))
    world.house.restart()
    again = World(world.house)
    again.records = world.records
    async with again.running():
        await again.judge()
        assert await again.outcome(document) == ACCEPTED


async def test_one_clients_slow_domains_keep_no_other_waiting(world):
    acme, other = MailDomain("acme.example"), MailDomain("other.example")
    world.publish(acme, other)
    await takes(world.house, f"{OWNER}=dkim")
    await world.house.act("client.change", slug="other", emails=["owner@other.example=dkim"])
    for number in range(5):
        await world.send(acme.signed(letter(OWNER, subject=str(number))))
    theirs = await world.send(
        other.signed(letter("owner@other.example")),
        sender="owner@other.example",
        recipient="other@intake.localhost",
    )
    first, second = await world.proving._next(), await world.proving._next()
    assert first.client_id != second.client_id
    assert await world.proving._next() is None  # of each client one at a time
    assert second.document_id == theirs


async def test_who_is_refused_hears_of_it_and_nothing_is_kept(world):
    acme = MailDomain("acme.example")
    world.publish(acme)
    await takes(world.house, f"{OWNER}=dkim", unproven="refuse")
    with pytest.raises(Refusal) as refusal:
        await world.send(letter(OWNER))
    assert refusal.value.code == "unproven"
    assert await world.house.act("document.list") == []
    assert world.house.spooled() == []
    document = await world.send(acme.signed(letter(OWNER)))
    assert await world.outcome(document) == ACCEPTED  # judged before it was acknowledged


async def test_a_sender_to_be_refused_does_not_wait_for_a_slow_dns(world):
    acme = MailDomain("acme.example")
    world.publish(acme)
    world.silent = {"s1._domainkey.acme.example"}
    await takes(world.house, f"{OWNER}=dkim", unproven="refuse")
    document = await world.send(acme.signed(letter(OWNER)))
    assert (await world.outcome(document))[2] == "waiting"
    world.silent = set()
    world.records.clear()
    world.house.clock.advance(seconds=60)
    await world.judge()
    assert await world.outcome(document) == ASIDE  # it was acknowledged: it is kept, apart


async def test_a_tag_proves_whoever_knows_it_and_can_be_ended(world):
    made = await world.house.act("client.tag-add", slug="acme", label="scanner")
    await takes(world.house, f"{OWNER}=tag", "*=tag", unproven="refuse")
    document = await world.send(letter(OWNER), recipient=made["address"].upper())
    assert (await world.outcome(document))[2] == "tag"
    supplier = await world.send(
        letter("x@supplier.example"), sender="x@supplier.example", recipient=made["address"]
    )
    assert (await world.outcome(supplier))[2] == "tag"
    wrong = made["address"].replace("+", "+x")
    assert (await world.offer(recipient=wrong)).code == 550
    assert (await world.offer()).code == 550
    assert (await world.offer(sender="x@supplier.example")).code == 550
    await world.house.act("client.tag-remove", slug="acme", label="scanner")
    assert (await world.offer(recipient=made["address"])).code == 550
    shown = await world.house.act("client.show", slug="acme")
    assert shown["tags"] == []


async def test_a_tag_is_in_no_ledger_and_in_no_profile_in_the_clear(world):
    made = await world.house.act("client.tag-add", slug="acme", label="scanner")
    token = made["address"].partition("+")[2].partition("@")[0]
    entries = await ledger_text(world.house)
    assert token not in str(entries)
    assert token not in str(await world.house.act("client.show", slug="acme"))
    with pytest.raises(Refusal):
        await world.house.act("client.tag-add", slug="acme", label="scanner")


async def test_a_listed_sender_without_its_tag_is_kept_apart_where_the_client_wants_that(world):
    await takes(world.house, f"{OWNER}=tag")
    document = await world.send(letter(OWNER))
    await world.judge()
    assert await world.outcome(document) == ASIDE
    assert world.looks == 0


async def test_two_officers_take_a_message_that_proved_nothing_and_it_is_inspected(world):
    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(letter(OWNER))
    await world.judge()
    await world.house.by_two("document.release", document=document)
    assert await world.outcome(document) == ("RECEIVED", "", "person")
    assert await world.house.judge() == document


async def test_the_configured_host_is_believed_and_nobody_who_says_to_be_it(world):
    house = world.house
    field = (
        b"Authentication-Results: mx.house.example; dkim=pass (good)\r\n header.d=acme.example;"
        b" spf=fail smtp.mailfrom=acme.example\r\n"
    )
    await takes(house, f"{OWNER}=dkim")
    believed = SendersSection(upstream=["198.51.100.25/32"], upstream_name="mx.house.example")
    house.core.config = msgspec.structs.replace(house.core.config, senders=believed)
    world.proving = Proving(house.wings.intake, house.queue)
    world.session = SmtpSession(house.wings.intake, world.proving, house.wings.logins)
    right = await world.send(field + letter(OWNER), peer="198.51.100.25")
    liar = await world.send(field + letter(OWNER, subject="b"), peer="198.51.100.26")
    below = await world.send(
        field.replace(b"dkim=pass", b"dkim=fail") + field + letter(OWNER, subject="c"),
        peer="198.51.100.25",
    )
    named = await world.send(
        field.replace(b"mx.house", b"mx.evil") + letter(OWNER, subject="d"), peer="198.51.100.25"
    )
    await world.judge()
    assert await world.outcome(right) == ("RECEIVED", "", "upstream")
    for forged in (liar, below, named):
        assert await world.outcome(forged) == ASIDE


async def test_an_address_that_shows_nothing_does_not_write_in_the_name_of_one_that_has_to(world):
    acme = MailDomain("acme.example")
    world.publish(acme)
    await takes(world.house, "scanner@acme.example", f"{OWNER}=dkim")
    own = await world.send(letter("scanner@acme.example"), sender="scanner@acme.example")
    forged = await world.send(letter(OWNER, subject="b"), sender="scanner@acme.example")
    signed = await world.send(
        acme.signed(letter(OWNER, subject="c")), sender="scanner@acme.example"
    )
    two = await world.send(
        letter(f"scanner@acme.example, {OWNER}", subject="d"), sender="scanner@acme.example"
    )
    await world.judge()
    assert await world.outcome(own) == ("RECEIVED", "", "none")
    assert await world.outcome(forged) == ASIDE
    assert await world.outcome(signed) == ACCEPTED
    assert await world.outcome(two) == ASIDE


async def test_an_entry_that_takes_nothing_takes_mail_as_before(world):
    await takes(world.house, OWNER)
    document = await world.send(letter(OWNER))
    assert await world.outcome(document) == ("RECEIVED", "", "none")
    assert (await world.offer(sender="stranger@evil.example")).code == 550


@pytest.mark.parametrize(
    "entry", ["a@b.example=nonsense", "*", "*=dkim", "a b@x.example", "a@b.example=", "=dkim"]
)
async def test_an_entry_that_means_nothing_is_refused(house, entry):
    assert (await house.refused(takes(house, entry))).code == "invalid"


SEALED = {
    "sealed by one that is believed": (lambda m, a, b: sealed_by(a, m, GOOD), True),
    "twice": (lambda m, a, b: sealed_by(b, sealed_by(a, m, GOOD), "none", chain="pass"), True),
    "the first had found nothing": (
        lambda m, a, b: sealed_by(a, m, "dkim=fail header.d=acme.example"),
        False,
    ),
    "the second says otherwise": (
        lambda m, a, b: sealed_by(b, sealed_by(a, m, "dkim=none"), GOOD, chain="pass"),
        False,
    ),
    "changed after the seal": (lambda m, a, b: sealed_by(a, m, GOOD) + b"more\r\n", False),
    "its judgement changed": (
        lambda m, a, b: sealed_by(a, m, "dkim=fail header.d=acme.example").replace(
            b"dkim=fail", b"dkim=pass"
        ),
        False,
    ),
    "a set taken out": (
        lambda m, a, b: sealed_by(b, sealed_by(a, m, GOOD), GOOD, chain="pass").replace(
            b"i=1;", b"i=7;"
        ),
        False,
    ),
    "it says itself that the chain is broken": (
        lambda m, a, b: sealed_by(b, sealed_by(a, m, GOOD), GOOD, chain="fail"),
        False,
    ),
}
GOOD = "dkim=pass header.d=acme.example; spf=fail smtp.mailfrom=acme.example"


@pytest.mark.parametrize("name", SEALED)
async def test_seals_of_those_who_changed_mail_on_its_way(world, name):
    house = world.house
    first, second = MailDomain("list.example"), MailDomain("relay.example")
    world.publish(first, second)
    await takes(house, f"{OWNER}=dkim")
    believed = SendersSection(arc_sealers=["LIST.example", "relay.example"])
    house.core.config = msgspec.structs.replace(house.core.config, senders=believed)
    make, proven = SEALED[name]
    document = await world.send(make(letter(OWNER), first, second))
    await world.judge()
    assert await world.outcome(document) == (("RECEIVED", "", "upstream") if proven else ASIDE)


async def test_a_seal_of_a_stranger_says_nothing(world):
    stranger = MailDomain("stranger.example")
    world.publish(stranger)
    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(sealed_by(stranger, letter(OWNER), GOOD))
    await world.judge()
    assert await world.outcome(document) == ASIDE


async def test_strangers_keys_are_not_asked_for_and_keep_nothing_waiting(world):
    """Anybody can name a domain of his own that never answers, beside a From that is not his."""
    evil = MailDomain("evil.example")
    world.silent = set(evil.records) | {"_dmarc.evil.example"}
    await takes(world.house, f"{OWNER}=dkim")
    believed = SendersSection(arc_sealers=["list.example"])
    world.house.core.config = msgspec.structs.replace(world.house.core.config, senders=believed)
    signed = await world.send(evil.signed(letter(OWNER)))
    sealed = await world.send(sealed_by(evil, letter(OWNER, subject="b"), GOOD))
    await world.judge()
    assert await world.outcome(signed) == ASIDE
    assert await world.outcome(sealed) == ASIDE


async def test_a_believed_sealer_that_does_not_answer_keeps_its_message_waiting(world):
    relay = MailDomain("list.example")
    world.silent = set(relay.records)
    await takes(world.house, f"{OWNER}=dkim")
    believed = SendersSection(arc_sealers=["list.example"])
    world.house.core.config = msgspec.structs.replace(world.house.core.config, senders=believed)
    document = await world.send(sealed_by(relay, letter(OWNER), GOOD))
    await world.judge()
    assert (await world.outcome(document))[2] == "waiting"
    world.silent = set()
    world.publish(relay)
    world.house.clock.advance(seconds=60)
    await world.judge()
    assert await world.outcome(document) == ("RECEIVED", "", "upstream")


@pytest.mark.parametrize(("entry", "proven"), [("dkim", False), ("dkim,spf", True)])
async def test_a_pass_of_dmarc_counts_where_either_proof_is_taken(world, entry, proven):
    house = world.house
    field = b"Authentication-Results: mx.house.example; dmarc=pass header.from=acme.example\r\n"
    await takes(house, f"{OWNER}={entry}")
    believed = SendersSection(upstream=["198.51.100.25/32"], upstream_name="mx.house.example")
    house.core.config = msgspec.structs.replace(house.core.config, senders=believed)
    world.proving = Proving(house.wings.intake, house.queue)
    world.session = SmtpSession(house.wings.intake, world.proving, house.wings.logins)
    document = await world.send(field + letter(OWNER), peer="198.51.100.25")
    await world.judge()
    assert await world.outcome(document) == (("RECEIVED", "", "upstream") if proven else ASIDE)


async def due(house):
    """(attempts, due) of the messages that wait, by document."""
    rows = await house.core.read(lambda c: c.execute(select(messages)).all())
    return {row.document_id: (row.attempts, row.due_at) for row in rows if row.due_at}


async def test_a_message_that_fails_its_judge_in_an_unforeseen_way_is_tried_again_later(
    world, monkeypatch
):
    async def fails(*_args):
        raise KeyError("unforeseen")

    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(letter(OWNER))
    monkeypatch.setattr(world.proving, "_judge", fails)
    await world.judge()
    assert (await due(world.house))[document][0] == 1  # not at once again, as often as it can
    monkeypatch.undo()
    world.house.clock.advance(seconds=60)
    await world.judge()
    assert await world.outcome(document) == ASIDE


async def test_a_message_over_which_every_reader_ends_is_put_aside(world, monkeypatch):
    async def ends(*_args):
        raise NotRead("its reader ended")

    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(letter(OWNER))
    monkeypatch.setattr(world.proving, "_judge", ends)
    for _ in range(4):
        await world.judge()
        world.house.clock.advance(hours=1)
    assert (await world.outcome(document))[2] == "waiting"
    await world.judge()
    assert await world.outcome(document) == ASIDE


async def test_one_that_was_not_looked_at_goes_before_what_is_tried_again(world):
    acme = MailDomain("acme.example")
    world.silent = set(acme.records)
    await takes(world.house, f"{OWNER}=dkim")
    await world.house.act("client.change", slug="other", emails=["owner@other.example=dkim"])
    for number in range(3):
        await world.send(acme.signed(letter(OWNER, subject=str(number))))
    await world.judge()
    world.house.clock.advance(hours=2)
    new = await world.send(
        letter("owner@other.example"),
        sender="owner@other.example",
        recipient="other@intake.localhost",
    )
    assert (await world.proving._next()).document_id == new


async def test_a_clock_that_was_ahead_keeps_no_message_waiting_for_a_year(world):
    acme = MailDomain("acme.example")
    world.silent = set(acme.records)
    await takes(world.house, f"{OWNER}=dkim")
    document = await world.send(acme.signed(letter(OWNER)))
    world.house.clock.advance(days=365)
    await world.judge()
    assert (await due(world.house))[document][0] == 1
    world.house.clock.advance(days=-365)
    world.silent = set()
    world.publish(acme)
    await world.judge()
    assert await world.outcome(document) == ACCEPTED


async def test_a_report_on_another_message_ends_its_reader_and_leaves_nobody_waiting(world):
    house = world.house
    document = await house.upload("/inbox/note.txt", b"a note")
    path = house.core.store.blobs.open(document)
    session = InspectSession(house.wings.intake, house.queue)
    looking = asyncio.create_task(house.queue.look(document, b"k" * 32, 6, path, Means(None, "")))
    while not house.queue._looks:
        await asyncio.sleep(0)
    look = house.queue._looks.pop()
    session._look, session._spent = look, True
    with pytest.raises(WireError):
        await session.handle(MailReport("another", 0, b""))
    await session.close()
    with pytest.raises(NotRead):
        await asyncio.wait_for(looking, 5)
    os.close(path)


async def test_a_recipient_that_is_refused_is_not_accepted_any_more(world):
    """A door's line to the core serves many senders: what one of them was told does not outlive a change."""
    await takes(world.house, OWNER)
    assert (await world.offer()).code == 250
    await takes(world.house, "somebody@acme.example")
    assert (await world.offer()).code == 550
    with pytest.raises(Refusal) as refusal:
        await ask(world.session, BeginMail(PEER, OWNER, [ACME], "mail.acme.example"))
    assert refusal.value.code == "denied"


async def test_a_policy_that_can_not_be_had_keeps_nothing_waiting_that_its_own_domain_signed(world):
    """Name servers that fail for names with an underscore are common."""
    acme, below = MailDomain("acme.example"), MailDomain("mail.acme.example")
    world.publish(acme, below)
    world.silent = {"_dmarc.acme.example"}
    await takes(world.house, f"{OWNER}=dkim,spf")
    world.records["acme.example"] = [f"v=spf1 ip4:{PEER} -all"]
    signed = await world.send(acme.signed(letter(OWNER)))
    sent = await world.send(below.signed(letter(OWNER, subject="b")))
    waits = await world.send(below.signed(letter(OWNER, subject="c")), peer="203.0.113.9")
    forged = await world.send(letter(OWNER, subject="d"), peer="203.0.113.9")
    await world.judge()
    assert await world.outcome(forged) == ASIDE  # nothing in it can prove it
    assert await world.outcome(signed) == ACCEPTED
    assert await world.outcome(sent) == ("RECEIVED", "", "spf")
    assert (await world.outcome(waits))[2] == "waiting"
    world.silent = set()
    world.records["_dmarc.acme.example"] = ["v=DMARC1; p=reject"]
    world.house.clock.advance(seconds=60)
    await world.judge()
    assert await world.outcome(waits) == ACCEPTED


async def test_a_stranger_in_a_mailbox_for_anyone_is_taken_in_his_own_name_only(world):
    """Else whoever writes to it could be one of the client's own, who has something to show."""
    house = world.house
    section = MailboxSection(
        name="invoices", host="imap.example:993", user="u", password="p", client="acme",
        senders="anyone",
    )  # fmt: skip
    house.core.config = msgspec.structs.replace(house.core.config, mailbox=[section])
    await takes(house, f"{OWNER}=dkim")
    session = MailboxSession(house.wings.intake, world.proving)

    async def fetch(uid, data):
        request = BeginFetched("invoices", 1, uid, "x@stranger.example", [])
        begun, descriptor = await ask(session, request)
        writer = SealedWriter(descriptor, begun.key, document_context(begun.document_id))
        writer.write(data)
        size = writer.finish()
        os.close(descriptor)
        digest = hashlib.sha256(data).digest()
        stored, _ = await ask(session, CommitMail(begun.document_id, size, digest, b"", ""))
        return stored.document_id

    own = await fetch(1, letter("x@stranger.example"))
    forged = await fetch(2, letter(OWNER))
    several = await fetch(3, letter(f"{OWNER}, x@stranger.example"))
    acme = MailDomain("acme.example")
    world.publish(acme)
    forwarded = await fetch(4, acme.signed(letter(OWNER, subject="d")))
    await world.judge()
    assert await world.outcome(own) == ("RECEIVED", "", "none")
    assert await world.outcome(forged) == ASIDE
    assert await world.outcome(several) == ASIDE
    assert await world.outcome(forwarded) == ACCEPTED
