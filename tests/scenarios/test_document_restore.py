"""Single documents come back from a backup: the very document, in the place of what is damaged, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.config import BackupTarget
from gateway.core.inspection.claims import InspectionQueue
from gateway.core.outbound.backup import documents as backup_documents
from gateway.inspect import inspection
from gateway.inspect.document import Document
from tests.scenarios.test_backup_drill import NOTE, Drill, content, drill
from vault.backup import format as backup_format
from vault.catalogue.schema import documents, ledger_entries
from vault.crypto.sealed import SealedReader, document_context
from vault.errors import IntegrityError

__all__ = ["drill"]  # a fixture

DATA = b"kept for thirty years" * 4000


def stored(house, document: str) -> Path:
    shard = backup_format.blob_name(document).split("/")[1]
    return house.folder / "vault/blobs/objects" / shard / document


def held(drill, document: str) -> Path:
    return drill.place / backup_format.blob_name(document)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(data[:-1])
        case "longer":
            path.write_bytes(data + b"\0")
        case "empty":
            path.write_bytes(b"")
        case _:
            at = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[how]
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


DAMAGES = ("missing", "cut", "longer", "empty", "first", "middle", "last")


async def findings(house) -> list[dict[str, str]]:
    return list((await house.act("check", read_data=True))["findings"])


async def as_named(drill, action: str) -> list[dict[str, str]]:
    """Do what a finding says, word for word."""
    document, target = re.search(
        r"`strongroom document restore (\S+) --from (\S+)`", action
    ).groups()
    return await back(drill, document, target=target)


async def back(drill, *ids: str, **more) -> list[dict[str, str]]:
    done = await drill.carried(drill.act("document.restore", documents=list(ids), **more))
    return list(done["documents"])


async def inspector(queue: InspectionQueue, seen: list[tuple[str, bool]]) -> None:
    """An inspector's part, as a real one does it: what does not open is told as nothing read."""
    while True:
        found = await queue.claim()
        if found is None:
            continue
        work, descriptor, claimed, wanted = (
            found.work,
            found.descriptor,
            found.claimed,
            found.fixity,
        )
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(descriptor, b"x", 0)  # it can't be changed by who reads it
        try:
            reader = SealedReader(descriptor, work.key, document_context(work.document_id))
        except IntegrityError as error:
            verdict = inspection.unreadable_file(work.document_id, error)
        else:
            verdict = inspection.measure(
                Document(work.document_id, reader, reader.size, work.name, work.channel, work.depth)
            )
        os.close(descriptor)
        seen.append((work.document_id, verdict.size == work.size))
        await queue.verdict(claimed, verdict, wanted)


def entries(house) -> list[bytes]:
    return house.core.store.catalogue.read(
        lambda c: [
            bytes(row.entry)
            for row in c.execute(select(ledger_entries))
            if b'"document.restored"' in bytes(row.entry)
        ]
    )


@pytest.mark.parametrize("how", DAMAGES)
async def test_the_command_that_a_finding_names_brings_the_document_back(drill, how):
    document = await drill.filed("kept.xml", DATA)
    await drill.filed("other.xml", b"other")
    await drill.back_up()
    damage(stored(drill, document), how)
    found = await findings(drill)
    assert {each["subject"] for each in found} == {f"document {document}"}
    for finding in found:
        assert f"strongroom document restore {document} --from disk" in finding["action"]
    (done,) = await as_named(drill, found[0]["action"])
    expected = "missing" if how == "missing" else "damaged"
    assert done == {"id": document, "outcome": "restored", "detail": expected}
    assert await findings(drill) == []
    assert await content(drill, "kept.xml") == DATA
    assert not [
        path for path in (drill.folder / "vault/blobs/spool").iterdir() if path.stat().st_size
    ]
    (entry,) = entries(drill)
    assert document.encode() in entry
    assert f'"found":"{expected}","target":"disk"'.encode() in entry
    assert (await drill.act("ledger.verify"))["findings"] == []
    assert (await drill.prove())["findings"] == []


async def test_a_file_that_is_whole_is_never_touched(drill):
    document = await drill.filed("kept.xml", DATA)
    await drill.back_up()
    path = stored(drill, document)
    before = (path.read_bytes(), path.stat().st_ino)
    damage(held(drill, document), "middle")
    (done,) = await back(drill, document)
    assert done["outcome"] == "refused"
    assert "found it whole" in done["detail"]
    assert (path.read_bytes(), path.stat().st_ino) == before
    assert entries(drill) == []


async def test_what_was_destroyed_never_comes_back(drill, tmp_path):
    document = await drill.filed("gone.txt", b"gone", NOTE)
    await drill.back_up()
    kept = tmp_path / "kept"
    shutil.copy(held(drill, document), kept)
    await drill.destroy()
    # As if the target had never been told: it still has the sealed file.
    held(drill, document).parent.mkdir(exist_ok=True)
    shutil.copy(kept, held(drill, document))
    (done,) = await back(drill, document)
    assert done["outcome"] == "refused"
    assert "destroyed" in done["detail"]
    assert not stored(drill, document).exists()
    assert entries(drill) == []


@pytest.mark.parametrize("how", DAMAGES)
async def test_what_is_damaged_at_the_target_too_changes_nothing(drill, how):
    document = await drill.filed("kept.xml", DATA)
    await drill.back_up()
    path = stored(drill, document)
    damage(path, "middle")
    before = path.read_bytes()
    damage(held(drill, document), how)
    (done,) = await back(drill, document)
    assert done["outcome"] == "refused"
    assert "at disk" in done["detail"]
    assert path.read_bytes() == before
    assert not [
        path for path in (drill.folder / "vault/blobs/spool").iterdir() if path.stat().st_size
    ]


async def test_another_documents_sealed_file_in_its_place_changes_nothing(drill):
    document = await drill.filed("kept.xml", DATA)
    other = await drill.filed("other.xml", bytes(len(DATA)))
    await drill.back_up()
    stored(drill, document).unlink()
    shutil.copy(held(drill, other), held(drill, document))
    (done,) = await back(drill, document)
    assert done["outcome"] == "refused"
    assert not stored(drill, document).exists()


async def test_of_several_each_has_its_own_outcome_and_the_exit_code_tells(drill):
    first = await drill.filed("a.xml", b"a")
    whole = await drill.filed("b.xml", b"b")
    last = await drill.filed("c.xml", b"c")
    await drill.back_up()
    damage(stored(drill, first), "missing")
    damage(stored(drill, last), "last")
    answers = []
    real = backup_documents.restore

    async def noting(*arguments):
        answers.append(await real(*arguments))
        return answers[-1]

    backup_documents.restore = noting
    try:
        done = await back(drill, first, whole, last)
    finally:
        backup_documents.restore = real
    assert [each["outcome"] for each in done] == ["restored", "refused", "restored"]
    assert await findings(drill) == []


async def test_while_inspectors_serve_they_do_the_reading(drill):
    document = await drill.filed("kept.xml", DATA)
    await drill.back_up()
    damage(stored(drill, document), "middle")
    reading = asyncio.create_task(inspector(drill.queue, seen := []))
    (done,) = await drill.carried(
        backup_documents.restore(
            drill.wings.outbound, drill.queue.fixity, [document], "", "console:0"
        )
    )
    reading.cancel()
    assert (done.outcome, done.detail) == ("restored", "damaged")
    assert seen == [
        (document, False),
        (document, True),
    ]  # the damaged one, then what was fetched
    assert await findings(drill) == []


async def test_a_document_destroyed_while_it_is_fetched_stays_destroyed(drill, monkeypatch):
    document = await drill.filed("gone.txt", b"gone", NOTE)
    await drill.back_up()
    stored(drill, document).unlink()
    real = backup_documents._expect_whole

    async def slow(*arguments):
        await real(*arguments)
        assert await drill.destroy() == [document]

    monkeypatch.setattr(backup_documents, "_expect_whole", slow)
    (done,) = await back(drill, document)
    assert done["outcome"] == "refused"
    assert not stored(drill, document).exists()
    assert entries(drill) == []


async def test_what_is_not_read_back_as_it_was_put_leaves_the_damaged_one_aside(drill, monkeypatch):
    document = await drill.filed("kept.xml", DATA)
    await drill.back_up()
    path = stored(drill, document)
    damage(path, "middle")
    before = path.read_bytes()
    monkeypatch.setattr(backup_documents, "_digest_stored", lambda *_: bytes(32))
    (done,) = await back(drill, document)
    assert done["outcome"] == "refused"
    assert f"{document}.damaged" in done["detail"]
    aside = drill.folder / "vault/blobs/spool" / f"{document}.damaged"
    assert aside.read_bytes() == before
    assert entries(drill) == []


async def test_what_no_backup_holds_is_said_to_be_in_none(drill):
    document = await drill.filed("kept.xml", DATA)
    stored(drill, document).unlink()
    (finding, _) = await findings(drill)
    assert "no backup is known to hold it" in finding["action"]
    refusal = await drill.refused(back(drill, document))
    assert "expected its marker" in refusal.message


async def test_the_newest_of_several_targets_is_named_first_and_each_works(tmp_path):
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir(mode=0o700)
    (tmp_path / "origin").mkdir()
    drill = Drill(
        tmp_path / "origin",
        *(BackupTarget(name=place.name, directory=str(place)) for place in places),
    )
    await drill.settle()
    document = await drill.filed("kept.xml", DATA)
    await drill.back_up(target="two")
    await drill.back_up(target="one")
    for target in ("one", "two"):
        damage(stored(drill, document), "cut")
        found = await findings(drill)
        assert f"{document} --from one` (or from two)" in found[0]["action"]
        (done,) = await back(drill, document, target=target)
        assert done["outcome"] == "restored"
        assert await findings(drill) == []
    refusal = await drill.refused(back(drill, document))
    assert "one, two" in refusal.message
    drill.close()


async def test_who_may_is_asked_first(drill):
    document = await drill.filed("kept.xml", DATA)
    for by in ("accountant", "auditor", "acme"):
        refusal = await drill.refused(drill.act("document.restore", by=by, documents=[document]))
        assert refusal.code == "denied"


async def test_a_row_whose_key_does_not_open_gets_no_file(drill):
    document = await drill.filed("kept.xml", DATA)
    await drill.back_up()
    stored(drill, document).unlink()
    await drill.core.write(
        lambda tx: tx.connection.execute(
            documents.update().where(documents.c.id == document).values(wrapped_key=os.urandom(60))
        )
    )
    (done,) = await back(drill, document)
    assert done["outcome"] == "refused"
    assert not stored(drill, document).exists()
