"""Quotas: refused where the size is known, at the byte that passes the limit, and finally at the commit."""

from __future__ import annotations

import os
import random

from sqlalchemy import func, select, text

from gateway.core.disposal import execution
from gateway.core.intake import partial, quotas, receive
from gateway.core.intake.acquaintances import Acquaintance
from gateway.core.views.base import split
from gateway.errors import Refusal
from gateway.wire.messages import BeginMail, MailRecipient
from vault.catalogue.schema import clients, documents, usage
from vault.catalogue.states import DocumentState
from vault.crypto.sealed import CHUNK, SealedWriter, document_context


async def standing(house, slug="acme"):
    def look(connection):
        client = connection.execute(select(clients.c.id).where(clients.c.slug == slug)).scalar_one()
        return quotas.standing(house.core, connection, client)

    return await house.core.read(look)


async def begin(house, path="/inbox/a.pdf", *, size=None, resume=False):
    view = await house.view("acme")
    upload, _ = await view.begin_upload(split(path), resume=resume, size=size)
    quotas.enter(house.wings.intake, upload)
    return upload


def seal(upload, data):
    writer = SealedWriter(upload.descriptor, upload.key, document_context(upload.document_id))
    writer.write(data)
    writer.flush()


def assert_counted(house):
    """The running count is the sum of the rows, whatever happened."""
    assert house.core.store.catalogue.read(quotas.findings) == []


async def test_a_size_told_beforehand_is_refused_at_open_with_the_numbers(house):
    await house.act("client.change", slug="acme", quota_bytes=1000)
    await house.upload("/inbox/first", b"x" * 600)
    await house.finish(await begin(house, size=400), b"y" * 400)
    refusal = await house.refused(begin(house, "/inbox/b", size=1))
    assert refusal.code == "quota"
    assert "may have 1000 bytes here and has 1000" in refusal.message


async def test_the_last_byte_that_fits_is_taken_and_the_next_is_not(house):
    await house.act("client.change", slug="acme", quota_bytes=1000)
    await house.upload("/inbox/first", b"x" * 600)
    upload = await begin(house)
    assert upload.room == 400
    refusal = await house.refused(house.finish(upload, b"y" * 401))
    assert refusal.code == "quota"
    assert "may have 1000 bytes here and has 600" in refusal.message
    assert (await standing(house)).bytes == 600
    assert not house.spooled()
    await house.finish(await begin(house), b"y" * 399)
    await house.finish(await begin(house), b"y")
    assert (await standing(house)).bytes == 1000
    assert_counted(house)


async def test_two_that_were_given_the_same_room_do_not_both_get_in(house):
    await house.act("client.change", slug="acme", quota_bytes=1000)
    first, second = await begin(house, "/inbox/a"), await begin(house, "/inbox/b")
    await house.finish(first, b"x" * 700)
    assert (await house.refused(house.finish(second, b"y" * 700))).code == "quota"
    assert (await standing(house)).bytes == 700


async def test_what_is_being_written_counts_for_the_next_that_begins(house):
    await house.act("client.change", slug="acme", quota_bytes=10 * CHUNK)
    first = await begin(house, "/inbox/a")
    seal(first, os.urandom(8 * CHUNK))
    second = await begin(house, "/inbox/b")
    assert second.room < 2 * CHUNK
    await receive.discard(house.core, first)
    assert (await begin(house, "/inbox/c")).room > 8 * CHUNK


async def test_an_upload_that_is_continued_counts_once(house):
    await house.act("client.change", slug="acme", quota_bytes=10 * CHUNK)
    first = await begin(house, "/inbox/a")
    seal(first, os.urandom(8 * CHUNK))
    assert await partial.park(house.core, first)
    assert (await standing(house)).bytes == 8 * CHUNK
    assert (await begin(house, "/inbox/b")).room == 2 * CHUNK
    again = await begin(house, "/inbox/a", resume=True)
    assert again.resumed_size == 8 * CHUNK
    assert again.room == 10 * CHUNK
    assert (await begin(house, "/inbox/c")).room <= 2 * CHUNK
    assert_counted(house)


async def test_a_door_that_writes_on_can_not_park_more_than_the_quota(house):
    await house.act("client.change", slug="acme", quota_bytes=CHUNK)
    upload = await begin(house)
    seal(upload, os.urandom(4 * CHUNK))
    assert not await partial.park(house.core, upload)
    assert (await standing(house)).files == 0


async def test_the_number_of_documents_is_limited_too(house):
    await house.act("client.change", slug="acme", quota_files=2)
    await house.upload("/inbox/a", b"a")
    late = await begin(house, "/inbox/b")
    refusal = await house.refused(begin(house, "/inbox/c"))
    assert refusal.code == "quota"
    assert "may have 2 documents here and has 2" in refusal.message
    await house.act("client.change", slug="acme", quota_files=1)
    assert (await house.refused(house.finish(late, b"c"))).code == "quota"
    assert (await standing(house)).files == 1
    await house.upload("/inbox/a", b"others are not touched by it", by="other")


async def test_one_document_is_limited_to_the_size_set_for_its_client(house):
    await house.act("client.change", slug="acme", quota_file_size=100)
    assert "at most 100 bytes" in (await house.refused(begin(house, size=101))).message
    upload = await begin(house)
    assert (upload.room, "100 bytes" in upload.too_large) == (100, True)
    assert (await house.refused(house.finish(upload, b"x" * 101))).code == "quota"


async def test_the_configuration_counts_where_the_client_has_no_quota_of_its_own(tmp_path):
    from tests.support.house import House

    house = House(tmp_path, **{"quota.bytes": 100, "quota.files": 5})
    try:
        await house.settle()
        assert (await begin(house)).room == 100
        shown = await house.act("client.change", slug="acme", quota_bytes=0)
        assert (shown["quota_bytes"], shown["quota_files"]) == (0, 5)
        assert (await begin(house)).room is None
        shown = await house.act("client.change", slug="acme", quota_bytes="default")
        assert shown["quota_bytes"] == 100
        await house.act("client.add", slug="small", name="S", quota_bytes=7)
        shown = await house.act("client.show", slug="small")
        assert (shown["quota_bytes"], shown["used_bytes"], shown["used_files"]) == (7, 0, 0)
    finally:
        house.close()


async def test_df_shows_the_quota_and_what_is_left_of_it(house):
    machine = await (await house.view("acme")).room()
    assert machine.total > 2**30
    await house.act("client.change", slug="acme", quota_bytes=1000, quota_files=3)
    await house.upload("/inbox/a", b"x" * 300)
    room = await (await house.view("acme")).room()
    assert (room.total, room.free, room.files, room.files_free) == (1000, 700, 3, 2)
    await house.act("client.change", slug="acme", quota_bytes=100)
    assert (await (await house.view("acme")).room()).free == 0
    assert (await (await house.view("accountant")).room()).total == machine.total


async def test_what_the_disk_can_not_take_is_refused_at_open_where_the_size_is_known(
    house, monkeypatch
):
    floor = house.config.store.minimum_free
    monkeypatch.setattr(house.core.store.blobs, "free_bytes", lambda: floor + 500)
    refusal = await house.refused(begin(house, size=501))
    assert refusal.code == "full"
    assert "can take in 500 bytes now, and this file has 501" in refusal.message
    await begin(house, "/inbox/fits", size=500)
    from gateway.core.intake import recipients

    ask = MailRecipient("p", "owner@acme.example", "acme@intake.localhost", 501)
    assert (await recipients.check_recipient(house.wings.intake, ask))[0].code == 452


async def test_mail_is_refused_for_good_and_without_numbers(house):
    await house.act("client.change", slug="acme", quota_bytes=1000)
    ask = MailRecipient("p", "owner@acme.example", "acme@intake.localhost", 1001)
    from gateway.core.intake import recipients

    answer, _ = await recipients.check_recipient(house.wings.intake, ask)
    assert answer.code == 452
    assert answer.text.startswith("4.2.2 ")
    assert not any(number in answer.text for number in ("1000", "1001"))
    answer, _ = await recipients.check_recipient(
        house.wings.intake, MailRecipient("p", "owner@acme.example", "acme@intake.localhost", 1000)
    )
    assert answer.code == 250
    begun = await recipients.begin(
        house.wings.intake,
        Acquaintance(answer.client, unlimited=False),
        BeginMail("p", "owner@acme.example", ["acme@x"]),
    )
    assert begun.room == 1000
    assert (await house.refused(house.finish(begun, b"x" * 1001))).code == "quota"


async def test_parts_count_and_are_never_refused(house):
    document = await house.upload("/inbox/mail.zip", b"x" * 900)
    await house.act("client.change", slug="acme", quota_bytes=1000)
    found = await house.queue._next()
    work, descriptor = found.work, found.descriptor
    claimed, fixity = found.claimed, found.fixity
    os.close(descriptor)
    part = await house.queue.begin_part(claimed, "part.pdf")
    writer = SealedWriter(part.descriptor, part.key, document_context(part.document_id))
    writer.write(b"p" * 500)
    size = writer.finish()
    import hashlib

    digest = hashlib.sha256(b"p" * 500).digest()
    await receive.stage(house.core, part, size, digest)
    claimed.parts[part.document_id] = (part, size, digest)
    from gateway.wire.messages import Scan, Verdict

    verdict = Verdict(
        work.document_id, 900, hashlib.sha256(b"x" * 900).digest(),
        scans=[Scan("yara", "clean")], parts=[part.document_id],
    )  # fmt: skip
    await house.queue.verdict(claimed, verdict, fixity)
    assert (await standing(house)).bytes == 1400
    assert (await house.document(document))["parts"] == [part.document_id]
    assert (await house.refused(begin(house))).code == "quota"
    assert_counted(house)


async def test_destruction_gives_the_room_back(house):
    for number in range(3):
        await house.filed(f"{number}.txt", b"x" * 100, "demonstration-note")
    await house.act("client.change", slug="acme", quota_bytes=300)
    assert (await house.refused(begin(house))).code == "quota"
    (batch,) = await house.act("disposal.propose")
    for officer in ("officer1", "officer2"):
        await house.approve(batch["id"], officer)
    await house.act("disposal.execute", by="officer3", id=batch["id"])
    await execution.recover(house.wings.disposal)
    assert (await standing(house)).bytes == 0
    assert (await begin(house)).room == 300
    assert_counted(house)


async def test_any_order_of_events_leaves_the_count_right(house):
    """Uploads that end, break off, are continued, expire, are dropped: the count is the sum of the rows."""
    chance = random.Random(20261122)
    for number in range(60):
        name = f"/inbox/{chance.randrange(4)}{chance.choice(['', '.part'])}"
        try:
            upload = await begin(house, name, resume=chance.random() < 0.5)
        except Refusal:
            continue
        match chance.randrange(4):
            case 0:
                await receive.discard(house.core, upload)
            case 1:
                if not upload.resumed:
                    seal(upload, os.urandom(chance.randrange(3 * CHUNK)))
                await partial.park(house.core, upload)
            case 2 if not upload.resumed:
                await house.finish(upload, os.urandom(chance.randrange(3 * CHUNK)))
            case _:
                await partial.park(house.core, upload)
        house.clock.advance(hours=chance.randrange(6), seconds=number)
        if chance.random() < 0.2:
            await partial.expire_due(house.wings.intake, house.clock())
        assert_counted(house)
    kept = house.core.store.catalogue.read(
        lambda c: c.execute(
            select(func.count())
            .select_from(documents)
            .where(documents.c.state != DocumentState.EXPIRED)
        ).scalar_one()
    )
    assert kept > 3


async def test_check_tells_a_count_that_is_wrong_and_an_officer_has_it_counted_anew(house):
    await house.upload("/inbox/a", b"x" * 100)
    await house.core.write(lambda tx: tx.connection.execute(text("UPDATE usage SET bytes = 5")))
    report = await house.act("check")
    (finding,) = [f for f in report["findings"] if f["subject"].startswith("usage of client")]
    assert "expected 100 bytes in 1 documents, found 5 in 1" in finding["problem"]
    report = await house.act("check", by="officer1", acknowledge=True)
    assert not [f for f in report["findings"] if f["subject"].startswith("usage")]
    assert (await standing(house)).bytes == 100


def test_counting_takes_one_row_however_much_is_stored(house):
    """The query behind every quota reads a row by its key: no part of it scans."""
    asked: list[str] = []
    catalogue = house.core.store.catalogue

    def work(connection):
        driver = connection.connection.driver_connection
        driver.set_trace_callback(asked.append)
        quotas.standing(house.core, connection, "x")
        driver.set_trace_callback(None)
        return [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {asked[-1]}")]

    plan = catalogue.read(work)
    assert plan
    assert all(line.startswith("SEARCH") for line in plan), plan
    assert usage.primary_key.columns.keys() == ["client_id"]


def test_an_older_catalogue_is_counted_when_it_is_brought_up_to_date(tmp_path):
    from importlib import resources

    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    from vault.catalogue.store import migrate

    path = tmp_path / "c.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    with (
        resources.as_file(resources.files("vault.catalogue") / "migrations") as scripts,
        engine.connect() as connection,
    ):
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for client in "ab":
            connection.exec_driver_sql(
                "INSERT INTO clients (id, slug, state, jurisdiction, entity_type, fiscal_year_end,"
                " custody_role, profile, created_at) VALUES (?, ?, 'open', 'cn', 'e', '12-31', 'w', x'', '')",
                (client, client),
            )
        for number, state in enumerate([*DocumentState, DocumentState.FILED]):
            connection.exec_driver_sql(
                "INSERT INTO documents (id, client_id, channel, depth, state, reason, received_at,"
                " state_since, size, attempts, confidence, confirmed, restricted)"
                " VALUES (?, 'a', 'sftp', 0, ?, '', '', '', 10, 0, 0, 0, 0)",
                (str(number), state),
            )
        connection.commit()
    migrate(path)
    with engine.connect() as connection:
        assert connection.execute(select(usage)).all() == [("a", 10 * (len(quotas.KEPT) + 1), 7)]
        assert quotas.findings(connection) == []
        connection.exec_driver_sql("DELETE FROM documents WHERE id < '3'")
        assert quotas.findings(connection) == []


async def test_a_client_s_name_senders_and_language_can_be_changed_and_the_ledger_names_none(house):
    shown = await house.act(
        "client.change",
        slug="acme",
        name="Acme Two Ltd",
        emails=["@two.example"],
        language="zh",
    )
    assert (shown["name"], shown["emails"], shown["language"]) == (
        "Acme Two Ltd",
        ["@two.example"],
        "zh",
    )
    refusal = await house.refused(house.act("client.change", slug="acme", emails=["nobody"]))
    assert refusal.code == "invalid"
    entries = (await house.act("ledger.export", start=0, limit=1000))["entries"]
    assert any("client.changed" in entry for entry in entries)
    assert not any("two.example" in entry or "Acme Two" in entry for entry in entries)


async def test_what_periods_are_reckoned_from_changes_only_while_nothing_is_stored(house):
    shown = await house.act("client.change", slug="acme", fiscal_year_end="03-31")
    assert shown["fiscal_year_end"] == "03-31"
    await house.upload("/inbox/a.txt", b"a document")
    change = house.act("client.change", slug="acme", fiscal_year_end="06-30")
    refusal = await house.refused(change)
    assert "expected no stored documents" in refusal.message
    wrong = house.act("client.change", slug="other", fiscal_year_end="13-31")
    assert (await house.refused(wrong)).code == "invalid"
