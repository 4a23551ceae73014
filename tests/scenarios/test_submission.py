"""Who has logged in hands in documents of its own client, and the core alone keeps who that is."""

from __future__ import annotations

import json
import os

import pytest
from sqlalchemy import select

from gateway.core.inspection.proving import Proving
from gateway.core.login import app_passwords
from gateway.core.sessions.smtp import SmtpSession
from gateway.errors import Refusal, WireError
from gateway.wire.messages import (
    AuthenticateSubmission,
    BeginMail,
    MailRecipient,
    SubmissionLogin,
)
from tests.scenarios.test_resends import ACME, MAIL, OWNER, Peer
from tests.support.house import ask
from vault.catalogue.schema import app_passwords as table
from vault.catalogue.schema import documents, ledger_entries, messages

PEER = "192.0.2.9"


@pytest.fixture
async def app(house):
    made = await house.act("account.app-password.add", name="acme", label="Copier")
    return made["password"]


async def log_in(session, user, password):
    answer, _ = await ask(session, AuthenticateSubmission(PEER, user, password))
    assert isinstance(answer, SubmissionLogin)
    return answer.granted


async def test_a_submitted_message_is_the_accounts_with_its_proof(house, app):
    peer = Peer(house)
    assert await log_in(peer.session, "acme", app)
    document, again = await peer.send(
        MAIL, sender="copier@nowhere.example", recipients=("other@intake.localhost",)
    )
    assert not again
    row, message = house.core.store.catalogue.read(
        lambda c: (
            c.execute(select(documents).where(documents.c.id == document)).one(),
            c.execute(select(messages).where(messages.c.document_id == document)).one(),
        )
    )
    client = (await house.act("client.show", slug="acme"))["id"]
    assert (row.client_id, row.channel, message.proof) == (client, "smtp", "submission")
    assert message.proven_at is not None
    accounts = {each["name"]: each["id"] for each in await house.act("account.list")}
    assert row.submitter == accounts["acme"]
    # The same bytes from a server, which proved nothing, do not stand for it, nor it for them.
    await house.act("client.change", slug="acme", emails=["copier@nowhere.example"])
    assert await Peer(house).send(MAIL, sender="copier@nowhere.example") != (document, True)


async def test_what_was_accepted_before_a_login_counts_no_more_after_it(house, app):
    peer = Peer(house)
    answer, _ = await ask(peer.session, MailRecipient("192.0.2.1", OWNER, ACME))
    assert answer.code == 250
    assert await log_in(peer.session, "acme", app)
    with pytest.raises(Refusal, match="accepted before"):
        await ask(peer.session, BeginMail(PEER, OWNER, [ACME]))


async def test_a_connection_is_one_accounts_for_good_and_none_within_a_message(house, app):
    peer = Peer(house)
    assert await log_in(peer.session, "acme", app)
    with pytest.raises(WireError, match="second"):
        await log_in(peer.session, "acme", app)
    peer = Peer(house)
    await ask(peer.session, MailRecipient("192.0.2.1", OWNER, ACME))
    _, descriptor = await ask(peer.session, BeginMail("192.0.2.1", OWNER, [ACME]))
    os.close(descriptor)
    with pytest.raises(WireError, match="within one"):
        await log_in(peer.session, "acme", app)
    await peer.session.close()


async def test_a_connection_gets_few_attempts(house):
    session = SmtpSession(
        house.wings.intake, Proving(house.wings.intake, house.queue), house.wings.logins
    )
    house.wings.logins.records.penalties._exempt = ()
    for number in range(house.config.sftp.max_attempts):
        assert not await log_in(session, f"nobody{number}", "guess")
    with pytest.raises(WireError, match="too many"):
        await log_in(session, "acme", "guess")


async def test_a_live_login_is_known_and_forgotten_with_its_connection(house, app):
    session = SmtpSession(
        house.wings.intake, Proving(house.wings.intake, house.queue), house.wings.logins
    )
    ended = []
    session.hang_up = lambda: ended.append(True)
    assert await log_in(session, "acme", app)
    assert len(house.wings.logins.live) == 1
    await house.act("account.app-password.remove", name="acme", label="Copier")
    assert ended == [True]
    await session.close()
    assert house.wings.logins.live == {}


async def test_nothing_of_a_password_is_kept_but_its_hash_and_its_beginning(house, app):
    plain = app_passwords.plain(app)
    row = house.core.store.catalogue.read(lambda c: c.execute(select(table)).one())
    assert row.selector == plain[:4]
    assert row.password_hash.startswith("$argon2id$")
    entries = house.core.store.catalogue.read(
        lambda c: [json.loads(each) for each in c.execute(select(ledger_entries.c.entry)).scalars()]
    )
    (added,) = [each for each in entries if each["kind"] == "account.app_password_added"]
    assert added["facts"] == {"app_password": row.id}
    assert plain[4:] not in json.dumps(entries)
    await house.act("account.app-password.remove", name="acme", label="Copier")
    row = house.core.store.catalogue.read(lambda c: c.execute(select(table)).one())
    assert row.password_hash == ""


async def test_labels_are_one_devices_and_bounded(house, app):
    with pytest.raises(Refusal, match="in use"):
        await house.act("account.app-password.add", name="acme", label="Copier")
    for label in ("", "x" * 65, "two\nlines"):
        with pytest.raises(Refusal):
            await house.act("account.app-password.add", name="acme", label=label)
    with pytest.raises(Refusal, match="found none"):
        await house.act("account.app-password.remove", name="acme", label="Fax")
    await house.act("account.app-password.remove", name="acme", label="Copier")
    again = await house.act("account.app-password.add", name="acme", label="Copier")
    assert again["password"] != app


def test_what_is_typed_is_read_in_any_grouping_and_nothing_else_is_taken_for_one():
    made = app_passwords.generate()
    assert len(made) == 20
    assert app_passwords.plain(app_passwords.shown(made)) == made
    assert app_passwords.plain(f" {made.upper()} ") == made
    for other in ("", made[:-1], made + "a", made[:-1] + "l", made[:-1] + "é", "x" * 1000):
        assert app_passwords.plain(other) == ""
