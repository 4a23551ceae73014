"""A document that is begun when a client asks for a name that is not there: one message less, and no promise less."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import timedelta

import pytest

from gateway.core.sessions.sftp import AHEAD, SftpSession
from gateway.errors import Refusal
from gateway.wire.messages import Attributes, Commit, MakeFolder, Stat, Writable
from tests.support.house import ask
from vault.crypto.sealed import SealedWriter, document_context


class Line:
    """A session of a client's door, and the descriptors it was given."""

    def __init__(self, house, view):
        self.session = SftpSession(house.wings.intake, house.wings.logins)
        self.session._view = view
        self.session._login.proof.user = "acme"
        self.session._rights = self.session._version()  # as after the first request
        self.descriptors: dict[str, int] = {}

    async def look(self, path, former=""):
        """What a look at a path gives: an entry's size, or the document begun for it."""
        reply, descriptor = await ask(self.session, Stat(path, former))
        if isinstance(reply, Attributes):
            return reply.entry.size
        assert isinstance(reply, Writable)
        if descriptor is not None:
            self.descriptors[reply.document_id] = descriptor
        return reply

    async def send(self, begun, data):
        descriptor = self.descriptors.pop(begun.document_id)
        writer = SealedWriter(descriptor, begun.key, document_context(begun.document_id))
        writer.write(data)
        size = writer.finish()
        try:
            return await ask(
                self.session, Commit(begun.document_id, size, hashlib.sha256(data).digest())
            )
        finally:
            os.close(descriptor)

    async def end(self):
        await self.session.close()
        for descriptor in self.descriptors.values():
            os.close(descriptor)


@pytest.fixture
async def line(house):
    made = Line(house, await house.view("acme"))
    yield made
    await made.end()


async def names(house):
    return [each["name"] for each in await house.act("document.list", client="acme")]


async def test_what_was_begun_ahead_is_handed_in_under_the_name_that_was_asked_for(house, line):
    begun = await line.look("/inbox/a.txt")
    assert await names(house) == []
    await line.send(begun, b"hello")
    assert await line.look("/inbox/a.txt") == 5
    assert await names(house) == ["a.txt"]
    assert (await house.act("check", read_data=True))["findings"] == []


async def test_one_that_nobody_wrote_to_gets_the_next_name_and_no_second_file(house, line):
    first = await line.look("/inbox/a.txt")
    await ask(line.session, MakeFolder("/inbox/march"))
    second = await line.look("/inbox/march/b.txt", first.document_id)
    assert (second.document_id, second.key) == (first.document_id, first.key)
    assert len(line.descriptors) == 1
    await line.send(second, b"b")
    assert await names(house) == ["b.txt"]
    assert await line.look("/inbox/march/b.txt") == 1


async def test_one_that_was_written_to_gets_no_other_name(house, line):
    begun = await line.look("/inbox/a.txt")
    os.write(line.descriptors[begun.document_id], b"x")
    with pytest.raises(Exception, match="written to"):
        await line.look("/inbox/b.txt", begun.document_id)
    assert await names(house) == []


async def test_an_old_one_is_left_and_a_new_one_begun(house, line):
    begun = await line.look("/inbox/a.txt")
    house.clock.advance(seconds=(AHEAD + timedelta(seconds=1)).total_seconds())
    later = await line.look("/inbox/b.txt", begun.document_id)
    assert later.document_id > begun.document_id
    await asyncio.sleep(0.05)
    assert list(line.session.uploads) == [later.document_id]
    assert house.spooled() == [later.document_id]


async def test_a_full_disk_says_only_that_there_is_nothing_of_the_name(house, line, monkeypatch):
    monkeypatch.setattr(house.core.store.blobs, "free_bytes", lambda: 0)
    with pytest.raises(Refusal) as refused:
        await line.look("/inbox/a.txt")
    assert refused.value.code == "not_found"
    assert line.session.uploads == {}


async def test_looking_leaves_nothing_behind(house, line):
    begun = await line.look("/inbox/a.txt")
    await line.look("/inbox/b.txt", begun.document_id)
    await line.end()
    line.descriptors.clear()
    assert house.spooled() == []
    assert await names(house) == []


@pytest.mark.parametrize(
    "path", ["/inbox/no/a.txt", "/receipts/a.txt", "/else", "/inbox/a.txt.part"]
)
async def test_nothing_is_begun_where_nothing_can_be_handed_in_or_the_name_is_for_a_while(
    line, path
):
    with pytest.raises(Refusal) as refused:
        await line.look(path)
    assert refused.value.code == "not_found"
    assert line.session.uploads == {}


async def test_a_client_with_a_quota_is_asked_again_when_it_opens(house, line):
    await house.act("client.change", slug="acme", quota_files=5)
    with pytest.raises(Refusal) as refused:
        await line.look("/inbox/a.txt")
    assert refused.value.code == "not_found"


async def test_a_client_that_was_closed_meanwhile_hands_in_nothing(house, line):
    begun = await line.look("/inbox/a.txt")
    from sqlalchemy import update

    from vault.catalogue.schema import clients

    await house.core.write(
        lambda tx: tx.connection.execute(
            update(clients).where(clients.c.slug == "acme").values(state="closed")
        )
    )
    with pytest.raises(Refusal) as refused:
        await line.send(begun, b"late")
    assert refused.value.code == "denied"
    assert house.spooled() == []
