"""Documents that can't be judged now: they wait, are tried again with growing delays, and hold nobody up."""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import datetime

import pytest

from gateway.core.inspection import scanner
from gateway.core.intake import partial, receive
from gateway.core.views.base import split
from gateway.wire.messages import Classification, Scan
from tests.support.house import House
from vault.crypto.sealed import CHUNK, SealedWriter, document_context

SURE = Classification("invoice", 0.95, "2025-03-01")


async def lose(house) -> str:
    """A worker takes the next document and dies."""
    handed = await house.queue._next()
    work, descriptor = handed.work, handed.descriptor
    claimed, fixity = handed.claimed, handed.fixity
    os.close(descriptor)
    await house.queue.lost(claimed, fixity, seen=True)
    return work.document_id


async def test_a_document_that_kills_workers_waits_ever_longer_and_then_goes_to_a_person(house):
    bad = await house.upload("/inbox/bad.pdf", b"bad")
    delays = []
    for attempt in range(1, house.config.inspect.max_attempts + 1):
        assert await lose(house) == bad
        shown = await house.document(bad)
        assert shown["attempts"] == attempt
        if shown["state"] == "RECEIVED":
            due = datetime.fromisoformat(shown["next_attempt_at"])
            delays.append((due - house.clock.now).total_seconds())
            assert await house.queue._next() is None  # not before its time
            house.clock.now = due
    assert delays == sorted(delays)
    assert delays[1] == 2 * delays[0]
    shown = await house.document(bad)
    assert (shown["state"], shown["reason"]) == ("REVIEW", "unjudged:inspection-failed")
    view = await house.view("accountant")
    refusal = await house.refused(view.open_read(split("/review/acme/bad.pdf")))
    assert "could not be checked" in refusal.message


async def test_others_are_not_held_up_by_one_that_waits(house):
    bad = await house.upload("/inbox/bad.pdf", b"bad")
    await lose(house)
    good = await house.upload("/inbox/good.xml", b"good")
    assert await house.judge(classification=SURE) == good
    assert (await house.document(bad))["state"] == "RECEIVED"


async def test_a_worker_that_never_got_the_document_costs_it_no_attempt(house):
    document = await house.upload("/inbox/a.pdf", b"a")
    handed = await house.queue._next()
    _work, descriptor = handed.work, handed.descriptor
    claimed, fixity = handed.claimed, handed.fixity
    os.close(descriptor)
    await house.queue.lost(claimed, fixity, seen=False)
    assert (await house.document(document))["attempts"] == 0
    assert await house.judge(classification=SURE) == document


async def test_a_document_in_one_workers_hands_is_given_to_no_other(house):
    first = await house.upload("/inbox/a.pdf", b"a")
    second = await house.upload("/inbox/b.pdf", b"b")
    one = await house.queue._next()
    two = await house.queue._next()
    assert {one.work.document_id, two.work.document_id} == {first, second}
    assert await house.queue._next() is None
    for handed in (one, two):
        os.close(handed.descriptor)
        await house.queue.lost(handed.claimed, handed.fixity, seen=False)


AWAY = [Scan("yara", "clean"), Scan("clamd", "unavailable")]
THERE = [Scan("yara", "clean"), Scan("clamd", "clean", version="ClamAV test")]


@contextlib.asynccontextmanager
async def clamd(path, answer=b"PONG\0"):
    """Something that answers at clamd's socket; yields what it was asked."""
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.read(100))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield asked
    finally:
        server.close()
        path.unlink()


def automatic(tmp_path, address=None):
    address = address or f"unix:{tmp_path}/clamd"
    return House(tmp_path, **{"inspect.clamd": "auto", "inspect.clamd_address": address})


async def test_the_antivirus_is_wanted_from_the_moment_it_has_been_seen(tmp_path):
    """clamd = "auto": away before it was ever there, it is done without; after that, never again."""

    async def journey(house):
        await house.settle()
        await scanner.look(house.core)
        first = await house.upload("/inbox/1.xml", b"1")
        await house.judge(scans=AWAY, classification=SURE)
        assert (await house.document(first))["state"] == "FILED"
        async with clamd(tmp_path / "clamd") as asked:
            await scanner.look(house.core)
            await scanner.look(house.core)
        assert asked == [b"zPING\0"]  # once it was there nobody asks any more
        third = await house.upload("/inbox/3.xml", b"3")
        for _ in range(house.config.inspect.max_attempts + 3):
            await house.judge(scans=AWAY, classification=SURE)
            house.clock.advance(hours=2)
        shown = await house.document(third)
        # It waits for the scanner for as long as it takes, visible to nobody.
        assert (shown["state"], shown["reason"]) == ("RECEIVED", "waiting:clamd:unavailable")
        await house.judge(scans=THERE, classification=SURE)
        assert (await house.document(third))["state"] == "FILED"

    house = automatic(tmp_path)
    try:
        await journey(house)
    finally:
        house.close()


async def test_an_inspectors_word_that_clamd_answered_changes_no_policy(tmp_path):
    """One that was taken over could shut intake for good: clamd would be waited for where there is none."""

    async def journey(house):
        await house.settle()
        await house.upload("/inbox/1.xml", b"1")
        await house.judge(scans=THERE, classification=SURE)
        await scanner.look(house.core)
        assert (await house.act("status"))["clamd"]["adopted_at"] is None
        second = await house.upload("/inbox/2.xml", b"2")
        await house.judge(scans=AWAY, classification=SURE)
        assert (await house.document(second))["state"] == "FILED"

    house = automatic(tmp_path)
    try:
        await journey(house)
    finally:
        house.close()


@pytest.mark.parametrize("answer", [b"", b"PON", b"NOPE\0", b"UNKNOWN COMMAND\0"])
async def test_what_does_not_answer_as_clamd_is_not_taken_for_it(tmp_path, answer):
    async with clamd(tmp_path / "clamd", answer):
        assert not await scanner.answers(str(tmp_path / "clamd"))
    assert not await scanner.answers(str(tmp_path / "clamd"))


async def test_over_tcp_where_the_core_can_not_ask_auto_is_required(tmp_path):
    async def journey(house):
        await house.settle()
        document = await house.upload("/inbox/1.xml", b"1")
        await house.judge(scans=AWAY, classification=SURE)
        assert (await house.document(document))["state"] == "RECEIVED"

    house = automatic(tmp_path, "tcp:127.0.0.1:9")
    try:
        await journey(house)
    finally:
        house.close()


async def test_a_verdict_on_other_bytes_than_those_received_quarantines(house):
    document = await house.upload("/inbox/a.xml", b"a")
    await house.judge(sha256=b"\x00" * 32, classification=SURE)
    shown = await house.document(document)
    assert shown["state"] == "QUARANTINED"
    assert shown["reason"].startswith("integrity:")


async def test_an_interrupted_upload_is_parked_resumed_and_whole(house):
    data = os.urandom(5 * CHUNK + 77)
    view = await house.view("acme")
    upload, writer = await house.begun("/inbox/big.bin", data[: 2 * CHUNK])
    assert await partial.park(house.core, upload)
    assert (await view.stat(split("/inbox/big.bin"))).size == 2 * CHUNK
    assert await house.queue._next() is None  # nobody judges half a document
    house.restart()
    view = await house.view("acme")
    upload, size = await view.begin_upload(split("/inbox/big.bin"), resume=True)
    assert size == 2 * CHUNK
    parts = []
    writer = SealedWriter.resume(
        upload.descriptor, upload.key, document_context(upload.document_id),
        on_existing=lambda piece: parts.append(bytes(piece)),
    )  # fmt: skip
    assert b"".join(parts) == data[:size]
    writer.write(data[size:])
    import hashlib

    await asyncio.wrap_future(
        receive.commit(house.wings.intake, upload, writer.finish(), hashlib.sha256(data).digest())
    )
    await house.judge(classification=SURE)
    assert await house.read("/clients/acme/2025/invoice/big.bin") == data


async def test_a_torn_upload_is_dropped_and_leaves_nothing(house):
    upload, _ = await house.begun("/inbox/torn.bin", os.urandom(CHUNK))
    os.pwrite(upload.descriptor, b"torn", os.fstat(upload.descriptor).st_size)
    assert not await partial.park(house.core, upload)
    assert await house.names("/inbox", "acme") == []
    assert house.spooled() == []


async def test_a_partial_that_nobody_completes_expires(house):
    upload, _ = await house.begun("/inbox/half.bin", os.urandom(CHUNK))
    await partial.park(house.core, upload)
    assert await partial.expire_due(house.wings.intake, house.clock.now) == 0
    house.clock.advance(hours=house.config.retention.partial_hours, seconds=1)
    assert await partial.expire_due(house.wings.intake, house.clock.now) == 1
    assert await house.names("/inbox", "acme") == []
    assert house.spooled() == []
    assert (await house.act("check", read_data=True))["findings"] == []


async def kept_open(house, path: str = "/inbox/a.pdf") -> tuple[str, int, bytes]:
    """A document of a door that keeps its descriptor and key after the commit."""
    upload, _ = await (await house.view("acme")).begin_upload(split(path), resume=False)
    mine = os.dup(upload.descriptor)
    return await house.finish(upload, b"clean"), mine, upload.key


def overwrite(document: str, descriptor: int, key: bytes, data: bytes) -> None:
    os.ftruncate(descriptor, 0)
    writer = SealedWriter(descriptor, key, document_context(document))
    writer.write(data)
    writer.finish()


async def test_what_a_door_could_still_change_is_not_judged_however_long_it_holds_on(house):
    document, mine, key = await kept_open(house)
    for attempt in range(1, house.config.inspect.max_attempts + 3):
        assert await house.queue._next() is None
        shown = await house.document(document)
        assert (shown["state"], shown["reason"]) == ("RECEIVED", "waiting:still-open")
        assert shown["attempts"] == attempt
        house.clock.now = datetime.fromisoformat(shown["next_attempt_at"])
    assert (await house.act("status"))["documents"]["RECEIVED"] == 1
    overwrite(document, mine, key, b"other")
    os.close(mine)
    # Judged is what lies there now: those are not the bytes received.
    assert await house.judge(classification=SURE) == document
    shown = await house.document(document)
    assert (shown["state"], shown["reason"]) == (
        "QUARANTINED",
        "integrity:not-the-bytes-received",
    )


async def test_others_are_not_held_up_by_what_a_door_holds_open(house):
    document, mine, _ = await kept_open(house)
    other = await house.upload("/inbox/b.pdf", b"b")
    async with asyncio.timeout(0.9):  # and not after the next look a second later
        handed = await house.queue.claim()
        work, descriptor = handed.work, handed.descriptor
    os.close(descriptor)
    assert work.document_id == other
    os.close(mine)
    assert (await house.document(document))["attempts"] == 1


async def test_a_door_that_closes_its_file_a_moment_after_the_commit_costs_no_attempt(house):
    document, mine, _ = await kept_open(house)
    asyncio.get_running_loop().call_later(0.03, os.close, mine)
    assert await house.judge(classification=SURE) == document
    shown = await house.document(document)
    assert (shown["state"], shown["attempts"]) == ("FILED", 0)


async def test_a_claim_that_is_cut_off_while_it_waits_for_a_door_leaves_the_document_to_others(
    house,
):
    document, mine, _ = await kept_open(house)
    claim = asyncio.create_task(house.queue._next())
    await asyncio.sleep(0.05)
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    os.close(mine)
    assert await house.judge(classification=SURE) == document
