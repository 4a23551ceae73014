"""Locked files: opened with what their client deposited, or what a person gives; and with nothing else."""

from __future__ import annotations

import asyncio
import io
import json
import os
import struct
import zipfile

import libarchive
import pikepdf
import pytest
from sqlalchemy import select, update

from gateway.core.admin import passwords
from gateway.core.inspection import locked
from gateway.core.sessions.admin import AdminSession
from gateway.errors import Refusal
from gateway.inspect import unlock
from gateway.inspect.document import Document, Limits
from gateway.inspect.formats import archive_stream
from gateway.wire.messages import AdminCall
from tests.support.inspecting import act_while_inspecting, inspect
from vault.catalogue import ledger, queries
from vault.catalogue.schema import deposited_passwords, documents
from vault.check.store import check
from vault.errors import KeyUnavailable
from vault.keys.deposited import open_deposited

NOTE = "Invoice\nInvoice number: 1\nInvoice date: 2026-01-31\nTotal: 1.00 EUR\n"
SECRET = "Tax-2026 密码"


def locked_pdf(password=SECRET, script="", note=NOTE):
    made = pikepdf.new()
    page = made.add_blank_page()
    font = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica
    )
    page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=made.make_indirect(font)))
    shown = "".join(f"({line}) Tj 0 -14 Td " for line in note.splitlines())
    page.Contents = made.make_stream(f"BT /F1 12 Tf 72 720 Td {shown}ET".encode())
    if script:
        made.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS=script)
    buffer = io.BytesIO()
    made.save(buffer, encryption=pikepdf.Encryption(owner=password, user=password, R=6, aes=True))
    return buffer.getvalue()


def locked_zip(*members, password="abc123", plain=()):
    pieces = []
    with libarchive.custom_writer(
        lambda data: pieces.append(bytes(data)) or len(data),
        "zip",
        options="zip:encryption=aes256",
        passphrase=password,
    ) as out:
        for name, content in members:
            out.add_file_from_memory(name, len(content), content)
    if not plain:
        return b"".join(pieces)
    buffer = io.BytesIO(b"".join(pieces))
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in plain:
            archive.writestr(name, content)
    return buffer.getvalue()


def together(first, second, plain=()):
    """Two zips as one, with others added."""
    bodies, directories, moved = [], [], 0
    for data in (first, second):
        end = data.rindex(b"PK\x05\x06")
        size, start = struct.unpack_from("<II", data, end + 12)
        directory = bytearray(data[start : start + size])
        (offset,) = struct.unpack_from("<I", directory, 42)
        struct.pack_into("<I", directory, 42, offset + moved)
        bodies.append(data[:start])
        directories.append(bytes(directory))
        moved += start
    size = sum(map(len, directories))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, size, moved, 0)
    buffer = io.BytesIO(b"".join([*bodies, *directories, end]))
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in plain:
            archive.writestr(name, content)
    return buffer.getvalue()


async def parts_of(house, document):
    rows = await house.core.read(
        lambda c: c.execute(
            select(documents).where(documents.c.parent_id == document).order_by(documents.c.id)
        ).all()
    )
    return [house.core.store.custody.open_metadata(row).name for row in rows]


async def entries(house, kind):
    found = await house.core.read(lambda c: list(ledger.entries(c)))
    return [json.loads(line) for line in found if json.loads(line)["kind"] == kind]


async def test_what_was_deposited_opens_what_is_locked_and_its_original_asks_nobody(house):
    await house.act("password.add", slug="acme", password="wrong", label="old")
    await house.act("password.add", slug="acme", password=SECRET, label="statements")
    document = await house.upload("/inbox/statement.pdf", locked_pdf())
    first = await inspect(house)
    assert (first.lock, first.parts) == ("pdf", [])
    assert (await house.document(document))["state"] == "RECEIVED"
    await inspect(house)
    assert (await house.document(document))["state"] == "FILED"
    assert (await house.document(document))["record_class"] == "invoice"
    assert await parts_of(house, document) == ["statement.pdf"]
    opened = await inspect(house)  # the part, as any document
    part = await house.document(opened.document_id)
    assert (part["state"], part["record_class"], part["parent"]) == ("FILED", "invoice", document)
    used = {each["label"]: each["used"] for each in await house.act("password.list", slug="acme")}
    assert used == {"old": 0, "statements": 1}


async def test_without_a_password_it_waits_and_its_receipt_says_how_to_give_it(house):
    document = await house.upload("/inbox/statement.pdf", locked_pdf())
    await inspect(house)
    shown = await house.document(document)
    assert (shown["state"], shown["reason"]) == ("REVIEW", "unjudged:locked:pdf")
    (name,) = [n for n in await house.names("/receipts", "acme") if n.endswith(".json")]
    stated = json.loads(await house.read(f"/receipts/{name}", "acme"))["receipt"]
    assert stated["reason_code"] == "locked"
    assert "never by mail" in stated["what_to_do"]


async def test_a_person_gives_the_password_and_may_deposit_it(house):
    document = await house.upload("/inbox/statement.pdf", locked_pdf())
    await inspect(house)
    wrong = await act_while_inspecting(house, "document.unlock", document=document, password="no")
    assert (wrong["unlocked"], wrong["state"]) == (False, "REVIEW")
    right = await act_while_inspecting(
        house, "document.unlock", document=document, password=SECRET, deposit=True, label="all"
    )
    assert (right["unlocked"], right["state"], right["parts"]) == (True, "FILED", 1)
    (kept,) = await house.act("password.list", slug="acme")
    assert kept["label"] == "all"
    assert house.queue.locked._given == {}
    refused = await house.refused(house.act("document.unlock", document=document, password="x"))
    assert "running" in refused.message


async def test_a_zip_of_which_a_part_is_locked_gives_the_rest_at_once_and_once(house):
    data = locked_zip(("locked.txt", NOTE.encode()), plain=[("open.txt", NOTE.encode())])
    document = await house.upload("/inbox/papers.zip", data)
    await inspect(house)
    assert await parts_of(house, document) == ["open.txt"]
    await inspect(house)  # what was not locked
    done = await act_while_inspecting(
        house, "document.unlock", document=document, password="abc123"
    )
    assert (done["unlocked"], done["state"]) == (True, "FILED")
    assert sorted(await parts_of(house, document)) == ["locked.txt", "open.txt"]


async def test_a_wrong_password_takes_nothing_out_twice(house):
    data = locked_zip(("locked.txt", NOTE.encode()), plain=[("open.txt", NOTE.encode())])
    document = await house.upload("/inbox/papers.zip", data)
    await inspect(house)
    await inspect(house)
    wrong = await act_while_inspecting(house, "document.unlock", document=document, password="no")
    assert (wrong["unlocked"], wrong["parts"]) == (False, 1)
    assert await parts_of(house, document) == ["open.txt"]


async def test_a_worker_that_ends_at_an_unlocking_does_not_make_it_take_things_out_twice(house):
    data = locked_zip(("locked.txt", NOTE.encode()), plain=[("open.txt", NOTE.encode())])
    document = await house.upload("/inbox/papers.zip", data)
    await inspect(house)
    await inspect(house)
    row = await house.core.read(lambda c: queries.document(c, document))
    now = house.core.now()
    await house.core.write(lambda tx: locked.try_again(house.core, tx, row, "archivist", now))
    handed = await house.queue._next()
    os.close(handed.descriptor)
    await house.queue.lost(handed.claimed, None, seen=True)
    house.clock.advance(hours=2)
    await inspect(house)
    assert (await house.document(document))["reason"] == "unjudged:locked:zip"
    assert await parts_of(house, document) == ["open.txt"]


async def test_a_password_of_some_member_opens_that_one(house):
    one = locked_zip(("one.txt", b"one " + NOTE.encode()), password="abc123")
    two = locked_zip(("two.txt", b"two " + NOTE.encode()), password="xyz789")
    await house.act("password.add", slug="acme", password="xyz789")
    document = await house.upload("/inbox/papers.zip", together(one, two))
    await inspect(house)
    await inspect(house)
    assert (await house.document(document))["reason"] == "unjudged:locked:zip"
    assert await parts_of(house, document) == ["two.txt"]


def test_the_antivirus_is_shown_members_of_every_password():
    archive_stream.preload()
    one = locked_zip(("one.txt", b"one"), password="abc123")
    two = locked_zip(("two.txt", b"two"), password="xyz789")
    data = together(one, two)
    document = Document("d", io.BytesIO(data), len(data), "a.zip", "sftp")
    passwords = ["xyz789", "abc123"]
    unlocked = unlock.open_locked(document, passwords, Limits())
    shown = []
    unlock.feed_members(document, unlocked, passwords, Limits(), shown.append)
    with zipfile.ZipFile(io.BytesIO(b"".join(shown))) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [b"one", b"two"]


async def test_what_is_not_locked_is_taken_out_though_one_member_has_another_password(house):
    one = locked_zip(("one.txt", b"one " + NOTE.encode()), password="abc123")
    two = locked_zip(("two.txt", b"two " + NOTE.encode()), password="xyz789")
    data = together(one, two, plain=[("open.txt", NOTE.encode())])
    await house.act("password.add", slug="acme", password="abc123")
    document = await house.upload("/inbox/papers.zip", data)
    await inspect(house)
    await inspect(house)
    shown = await house.document(document)
    assert (shown["state"], shown["reason"]) == ("REVIEW", "unjudged:locked:zip")
    assert sorted(await parts_of(house, document)) == ["one.txt", "open.txt"]
    await inspect(house)
    await inspect(house)
    done = await act_while_inspecting(
        house, "document.unlock", document=document, password="xyz789"
    )
    assert (done["unlocked"], done["state"]) == (True, "FILED")
    assert sorted(await parts_of(house, document)) == ["one.txt", "open.txt", "two.txt"]


async def test_a_locked_original_is_kept_as_long_as_what_it_says(house):
    """The part is a copy made here; only the original is the record."""
    await house.act("password.add", slug="acme", password=SECRET)
    document = await house.upload("/inbox/statement.pdf", locked_pdf())
    for _ in range(3):
        await inspect(house)
    original = await house.core.read(lambda c: queries.document(c, document))
    (part,) = await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.parent_id == document)).all()
    )
    assert original.eligible_at is not None
    assert (original.rule, original.eligible_at) == (part.rule, part.eligible_at)


async def test_a_locked_original_that_nobody_could_classify_waits_as_its_part_does(house):
    await house.act("password.add", slug="acme", password=SECRET)
    await house.upload("/inbox/statement.pdf", locked_pdf(note="Nothing that says what it is\n"))
    for _ in range(3):
        await inspect(house)
    rows = await house.core.read(lambda c: c.execute(select(documents)).all())
    assert [(each.state, each.reason) for each in rows] == [("REVIEW", "unclassified")] * 2


async def test_who_unlocks_what_is_being_unlocked_is_refused_and_takes_nothing_away(house):
    document = await house.upload("/inbox/statement.pdf", locked_pdf())
    await inspect(house)
    first, second, third = (AdminSession(house.wings, house.queue) for _ in range(3))
    for session in (first, second, third):
        session.attach((1, 1000, 1000))

    def call(**more):
        return AdminCall("document.unlock", {"document": document, **more})

    asked = asyncio.create_task(first.handle(call(password=SECRET)))
    while (await house.document(document))["state"] == "REVIEW":
        await asyncio.sleep(0)
    with pytest.raises(Refusal):
        await second.handle(call(password="wrong"))
    with pytest.raises(Refusal):
        await third.handle(call())
    await inspect(house)
    answer, _ = await asked
    assert (answer.data["unlocked"], answer.data["state"]) == (True, "FILED")
    assert len(await entries(house, "document.unlocked")) == 1


async def test_a_password_waits_longer_than_the_one_who_gave_it(house, monkeypatch):
    monkeypatch.setattr(passwords, "_WAIT", 0.0)
    document = await house.upload("/inbox/statement.pdf", locked_pdf())
    await inspect(house)
    session = AdminSession(house.wings, house.queue)
    session.attach((1, 1000, 1000))
    answer, _ = await session.handle(
        AdminCall("document.unlock", {"document": document, "password": SECRET})
    )
    assert answer.data["waiting"]
    await inspect(house)
    assert (await house.document(document))["state"] == "FILED"
    assert house.queue.locked._given == {}


async def test_a_password_is_forgotten_with_the_last_attempt(house):
    document = await house.upload("/inbox/statement.pdf", locked_pdf())
    await inspect(house)
    row = await house.core.read(lambda c: queries.document(c, document))
    house.queue.locked.give(document, SECRET)
    now = house.core.now()
    await house.core.write(lambda tx: locked.try_again(house.core, tx, row, "archivist", now))
    for _ in range(2 * house.core.config.inspect.max_attempts):
        handed = await house.queue._next()
        os.close(handed.descriptor)
        await house.queue.lost(handed.claimed, None, seen=True)
        house.clock.advance(hours=2)
        if (await house.document(document))["state"] == "REVIEW":
            break
    assert (await house.document(document))["reason"] == "unjudged:inspection-failed"
    assert house.queue.locked._given == {}


async def test_what_acts_by_itself_inside_a_lock_is_not_filed_with_it(house):
    await house.act("password.add", slug="acme", password=SECRET)
    document = await house.upload("/inbox/a.pdf", locked_pdf(script="app.alert(1)"))
    for _ in range(3):
        await inspect(house)
    assert (await house.document(document))["state"] == "REVIEW"
    (part,) = await house.core.read(
        lambda c: c.execute(select(documents).where(documents.c.parent_id == document)).all()
    )
    assert (part.state, part.reason.split(":")[0]) == ("REVIEW", "unjudged")


async def test_a_clients_password_is_tried_on_no_other_clients_document(house):
    await house.act("password.add", slug="other", password=SECRET)
    document = await house.upload("/inbox/a.pdf", locked_pdf())
    await inspect(house)
    assert (await house.document(document))["state"] == "REVIEW"


async def test_no_more_are_tried_than_configured_and_those_that_opened_something_go_first(house):
    await house.act("password.add", slug="acme", password=SECRET)
    first = await house.upload("/inbox/a.pdf", locked_pdf())
    for _ in range(3):
        await inspect(house)
    assert (await house.document(first))["state"] == "FILED"
    for number in range(20):
        await house.act("password.add", slug="acme", password=f"other {number}")
    await house.upload("/inbox/b.pdf", locked_pdf())
    await inspect(house)
    found = await house.queue._next()
    work, descriptor = found.work, found.descriptor
    claimed, _ = found.claimed, found.fixity
    os.close(descriptor)
    assert work.passwords[0] == SECRET
    assert len(work.passwords) == house.core.config.inspect.max_passwords == 16
    await house.queue.lost(claimed, None, seen=False)


async def test_a_worker_that_ends_at_a_lock_costs_attempts_and_not_for_ever(house):
    await house.act("password.add", slug="acme", password=SECRET)
    document = await house.upload("/inbox/a.pdf", locked_pdf())
    for _ in range(house.core.config.inspect.max_attempts):
        await inspect(house)  # locked: its second turn comes
        handed = await house.queue._next()
        _, descriptor = handed.work, handed.descriptor
        claimed, _ = handed.claimed, handed.fixity
        os.close(descriptor)
        await house.queue.lost(claimed, None, seen=True)
        house.clock.advance(hours=2)
        if (await house.document(document))["state"] == "REVIEW":
            break
    assert (await house.document(document))["reason"] == "unjudged:inspection-failed"


async def test_the_ledger_says_what_was_done_and_never_the_password(house):
    record = (await house.act("password.add", slug="acme", password=SECRET, label="bank"))["id"]
    await house.upload("/inbox/a.pdf", locked_pdf())
    for _ in range(2):
        await inspect(house)
    await house.act("password.remove", slug="acme", id=record)
    assert len(await entries(house, "password.deposited")) == 1
    assert (await entries(house, "document.unlocked"))[0]["facts"]["password"] == record
    assert len(await entries(house, "password.removed")) == 1
    house.core.close()
    stored = b"".join(
        path.read_bytes() for path in (house.folder / "vault").rglob("*") if path.is_file()
    )
    assert SECRET.encode() not in stored
    house.open()


@pytest.mark.parametrize("by", ["accountant", "stranger"])
async def test_an_accountant_keeps_the_passwords_of_its_own_clients_only(house, by):
    asked = house.act("password.add", by=by, slug="acme", password="x")
    if by == "accountant":
        await asked
        assert len(await house.act("password.list", by=by, slug="acme")) == 1
    else:
        assert (await house.refused(asked)).code == "not_found"


@pytest.mark.parametrize("password", ["", "two\nlines", "x" * 201, "nul\0"])
async def test_what_can_be_no_password_is_refused(house, password):
    refused = await house.refused(house.act("password.add", slug="acme", password=password))
    assert refused.code == "invalid"


async def test_an_end_of_a_client_is_the_end_of_its_passwords(house):
    await house.act("password.add", slug="other", password=SECRET)
    row = (await house.core.read(lambda c: c.execute(select(deposited_passwords)).all()))[0]
    await house.act("client.close", slug="other")
    assert await house.core.read(lambda c: c.execute(select(deposited_passwords)).all()) == []
    with pytest.raises(KeyUnavailable):  # what a backup of the catalogue still holds
        open_deposited(house.core.store.custody, row)


async def test_a_check_names_a_password_that_does_not_open(house):
    await house.act("password.add", slug="acme", password=SECRET)
    assert check(house.core.store).findings == []
    await house.core.write(
        lambda tx: tx.connection.execute(update(deposited_passwords).values(sealed=b"x" * 60))
    )
    (finding,) = check(house.core.store).findings
    assert finding.subject.startswith("password ")
    assert "client password remove acme" in finding.action


async def test_passwords_open_after_their_keys_were_rotated(house):
    await house.act("password.add", slug="acme", password=SECRET, label="x")
    await house.act("keys.rotate", what="groups")
    house.restart()
    assert check(house.core.store).findings == []
    assert (await house.act("password.list", slug="acme"))[0]["label"] == "x"
