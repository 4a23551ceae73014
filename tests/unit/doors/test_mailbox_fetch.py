"""A mailbox whose server does not keep to the standard, or not to the truth: no message is stored that is not whole."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from imapclient.exceptions import IMAPClientError

from gateway.doors.mailbox import fetch
from gateway.doors.mailbox.fetch import NO_ROOM, PIECE, TOO_LARGE, UNREAD, Fetcher, Settings
from gateway.errors import Refusal
from gateway.wire.messages import (
    Abandon,
    BeginFetched,
    CommitMail,
    Done,
    MailStored,
    NewMessages,
    WhichAreNew,
    Writable,
)
from tests.support.mail_domain import letter

SMALL = letter("owner@acme.example")
LARGE = letter("owner@acme.example", body="x" * (PIECE + 100) + "\r\n")


class _Server:
    """An IMAP client that is connected to a server with `messages`, by number."""

    def __init__(self, **messages: bytes) -> None:
        self.messages = {int(name[1:]): data for name, data in messages.items()}
        self.size = {uid: len(data) for uid, data in self.messages.items()}
        self.most = PIECE
        self.beyond: object = b""
        self.flagged: list[int] = []

    def select_folder(self, _name: str) -> dict[bytes, int]:
        return {b"UIDVALIDITY": 1}

    def search(self, _criteria: list[str]) -> list[int]:
        return list(self.messages)

    def get_flags(self, uids: list[int]) -> dict[int, tuple[bytes, ...]]:
        return dict.fromkeys(uids, ())

    def add_flags(self, uids: list[int], _flags: list[bytes]) -> None:
        self.flagged += uids

    def fetch(self, uids: list[int], wanted: list[str]) -> dict[int, dict[bytes, object]]:
        (uid,) = uids
        match = re.fullmatch(r"BODY\.PEEK\[(.*)\]<(\d+)\.(\d+)>", wanted[0])
        assert match is not None
        section, offset, length = match[1], int(match[2]), int(match[3])
        given = self.give(uid, section, offset, length)
        if isinstance(given, Exception):
            raise given
        found: dict[bytes, object] = {b"SEQ": 1}
        if given is not ...:
            found[f"BODY[{section}]<{offset}>".encode()] = given
        if "RFC822.SIZE" in wanted:
            found[b"RFC822.SIZE"] = self.size[uid]
        return {uid: found}

    def give(self, uid: int, section: str, offset: int, length: int) -> object:
        data = self.messages[uid]
        if section == "HEADER":
            return data.partition(b"\r\n\r\n")[0][offset : offset + length]
        if offset and offset >= len(data):
            return self.beyond
        return data[offset : offset + min(length, self.most)]


class _Core:
    """The core's end: every message is new, and what is committed is counted with its size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stored: list[int] = []
        self.abandoned = 0
        self.refused: dict[int, str] = {}
        self.room: dict[int, int] = {}
        self._size = 0

    def call(self, request: object) -> tuple[object, list[int]]:
        match request:
            case WhichAreNew():
                return NewMessages(list(request.uids), []), []
            case BeginFetched():
                if request.uid in self.refused:
                    raise Refusal(self.refused[request.uid], "refused")
                file = os.open(self.folder / str(request.uid), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
                room = self.room.get(request.uid)
                return Writable(f"doc-{request.uid}", b"k" * 32, 0, room=room), [file]
            case CommitMail():
                self.stored.append(request.size)
                return MailStored(request.document_id), []
            case Abandon():
                self.abandoned += 1
                return Done(), []
        raise AssertionError(request)


@pytest.fixture
def core(tmp_path: Path) -> _Core:
    return _Core(tmp_path)


def looked(server: _Server, core: _Core) -> Fetcher:
    """A fetcher that has looked into the mailbox once."""
    section = SimpleNamespace(name="invoices", folder="INBOX", done="seen", done_folder="")
    settings = Settings(section, "secret", None, 4 * PIECE)  # type: ignore[arg-type]
    fetcher = Fetcher(settings, core, threading.Event())  # type: ignore[arg-type]
    fetcher._look(server)
    return fetcher


@pytest.mark.parametrize("beyond", [b"", None, ..., IMAPClientError("no such part")])
@pytest.mark.parametrize("more", [-10, 0, 10_000])
def test_a_message_is_whole_whatever_size_is_said_and_whatever_stands_behind_its_end(
    core: _Core, beyond: object, more: int
) -> None:
    server = _Server(m1=SMALL, m2=LARGE)
    server.size = {uid: size + more for uid, size in server.size.items()}
    server.beyond = beyond
    looked(server, core)
    assert core.stored == [len(SMALL), len(LARGE)]
    assert server.flagged == [1, 2]


def test_pieces_that_are_shorter_than_was_asked_for_are_put_together(core: _Core) -> None:
    server = _Server(m1=LARGE)
    server.most = 50_000
    looked(server, core)
    assert core.stored == [len(LARGE)]


@pytest.mark.parametrize("given", [..., None, b"", b"x" * (PIECE + 1)])
def test_an_answer_without_the_text_is_no_empty_message_and_marks_nothing(
    core: _Core, monkeypatch: pytest.MonkeyPatch, given: object
) -> None:
    server = _Server(m1=SMALL, m2=SMALL)
    as_it_should = server.give

    def give(uid: int, section: str, offset: int, length: int) -> object:
        if uid == 1 and section == "":
            return given
        return as_it_should(uid, section, offset, length)

    monkeypatch.setattr(server, "give", give)
    fetcher = looked(server, core)
    assert core.stored == [len(SMALL)]  # the other one
    assert server.flagged == [2]
    assert core.abandoned == 1
    assert UNREAD in fetcher._left_behind()


def test_one_clients_lack_of_room_keeps_no_other_clients_mail_waiting(core: _Core) -> None:
    server = _Server(m1=SMALL, m2=LARGE, m3=SMALL)
    core.refused[1] = "quota"
    core.room[2] = PIECE
    fetcher = looked(server, core)
    assert core.stored == [len(SMALL)]
    assert server.flagged == [3]
    assert fetcher._left_behind() == f"2 messages stay there: {NO_ROOM}"


def test_a_message_that_was_left_for_want_of_room_is_tried_again_and_one_too_large_is_not(
    core: _Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _Server(m1=SMALL, m2=SMALL + b"x" * 5 * PIECE)
    core.room[1] = 10
    fetcher = looked(server, core)
    assert NO_ROOM in fetcher._left_behind()
    assert TOO_LARGE in fetcher._left_behind()
    core.room.clear()
    later = time.monotonic() + 2 * fetch.LEFT_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    fetcher._look(server)
    assert core.stored == [len(SMALL)]
    assert fetcher._left_behind() == f"1 messages stay there: {TOO_LARGE}"


@pytest.mark.parametrize("code", ["full", "failed", "busy"])
def test_a_disk_without_room_ends_the_look(core: _Core, code: str) -> None:
    server = _Server(m1=SMALL, m2=SMALL)
    core.refused[1] = code
    with pytest.raises(Refusal):
        looked(server, core)
    assert core.stored == []


def test_a_server_that_says_the_password_back_does_not_bring_it_into_the_status() -> None:
    error = IMAPClientError("LOGIN command error: BAD [b'LOGIN intake s3cret! unknown']")
    assert "s3cret!" not in fetch.fault_of(error, "s3cret!")
    assert "LOGIN intake" in fetch.fault_of(error, "s3cret!")
