"""Any order of writes, cuts and resumes: one chunk index is never sealed twice under one key.

Two plaintexts under one AES-GCM key and nonce give both away. The door's own upload runs here against the real
core; what is watched is the cipher itself. Each write brings other bytes, so that sealing a chunk a second
time would be exactly that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.intake import partial
from gateway.core.sessions.sftp import SftpSession
from gateway.doors.sftp.files import Ahead, Upload
from gateway.errors import Disconnected, GatewayError
from gateway.wire.messages import Stat, Writable
from tests.support.house import ask
from vault.crypto.chunked import ChunkCipher
from vault.crypto.sealed import CHUNK
from vault.errors import VaultError

LIMIT = 64 * CHUNK

lengths = st.one_of(
    st.builds(lambda n, off: max(1, n * CHUNK + off), st.integers(0, 3), st.integers(-2, 2)),
    st.integers(1, 40_000),
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.booleans(), st.booleans()),
        st.tuples(st.just("write"), st.sampled_from(["next", "start", "back", "ahead"]), lengths),
        st.tuples(st.just("write"), st.just("next"), lengths),
        st.tuples(st.sampled_from(["look", "sync", "close", "cut", "hang up"])),
    ),
    min_size=3,
    max_size=24,
)


class Door:
    """One connection: the door's uploads, and the core's session for them."""

    def __init__(self, house, loop, view):
        self._loop = loop
        self.session = SftpSession(house.wings.intake, house.wings.logins)
        self.session._view = view
        self.session._login.proof.user = "acme"
        self.upload: Upload | None = None
        self.ahead: Ahead | None = None
        self.over = False

    def call(self, request):
        if self.over:
            raise Disconnected("core: expected an open connection, found it closed")
        reply, descriptor = self._loop.run_until_complete(ask(self.session, request))
        return reply, [] if descriptor is None else [descriptor]

    def perform(self, path: str, operation: tuple) -> None:
        match operation:
            case ("open", resume, append):
                self.drop()
                ahead, self.ahead = self.ahead, None
                if ahead is not None and ahead.path != path:
                    ahead = None
                self.upload = Upload(
                    self, path, resume=resume, append=append, limit=LIMIT, ahead=ahead
                )
            case ("look",):
                former = "" if self.ahead is None else self.ahead.begun.document_id
                reply, descriptors = self.call(Stat(path, former))
                if isinstance(reply, Writable):
                    descriptor = descriptors[0] if descriptors else self.ahead.descriptor
                    self.ahead = Ahead(path, reply, descriptor, 0.0)
            case ("write", where, length) if self.upload is not None:
                position = self.upload._position
                offset = {
                    "next": position, "start": 0, "back": max(0, position - CHUNK - 7), "ahead": position + 500,
                }[where]  # fmt: skip
                self.upload.write(offset, memoryview(os.urandom(length)))
            case ("sync",) if self.upload is not None:
                self.upload.sync()
            case ("close",) if self.upload is not None:
                self.upload.close()
                self.upload = None

    def drop(self) -> None:
        """The client gives up what it was sending."""
        if self.upload is not None:
            self.upload.abandon(keep=True)
            self.upload = None

    def end(self, *, late: bool) -> None:
        """The connection ends; `late`: the core knows first, and the door still writes its last chunks."""
        if not late:
            self.kill()
        self._loop.run_until_complete(self.session.close())
        self.over = True
        if late:
            if self.upload is not None and self.upload._descriptor >= 0:
                self.upload._writer.flush()
            self.kill()

    def kill(self) -> None:
        """What the end of its process does: its descriptors close, and nothing is said."""
        if self.upload is not None and self.upload._descriptor >= 0:
            os.close(self.upload._descriptor)
            self.upload._descriptor = -1
            self.upload._hash.close()


@pytest.fixture
def sealed(monkeypatch) -> Counter:
    """How often each nonce was used under each key."""
    used: Counter = Counter()
    keys: dict[int, bytes] = {}
    init, seal = ChunkCipher.__init__, ChunkCipher.seal_into

    def remember(self, key, base_nonce):
        init(self, key, base_nonce)
        keys[id(self)] = bytes(key)

    def count(self, index, plain, out):
        used[keys[id(self)], self._base ^ index] += 1
        seal(self, index, plain, out)

    monkeypatch.setattr(ChunkCipher, "__init__", remember)
    monkeypatch.setattr(ChunkCipher, "seal_into", count)
    return used


def test_no_order_of_writes_cuts_and_resumes_seals_a_chunk_index_twice(house, sealed, monkeypatch):
    monkeypatch.setattr(partial, "CLOSING_WAIT", 0.0)
    loop = asyncio.new_event_loop()
    view = loop.run_until_complete(house.view("acme"))
    numbers = iter(range(10**6))
    outcomes: Counter = Counter()

    @settings(
        max_examples=120, deadline=None, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )  # fmt: skip
    @given(suffix=st.sampled_from(["bin", "part"]), several=operations)
    def in_any_order(suffix, several):
        path = f"/inbox/{next(numbers)}.{suffix}"
        door = Door(house, loop, view)
        for operation in [("open", False, False), *several]:
            if operation[0] in {"cut", "hang up"}:
                door.end(late=operation[0] == "hang up")
                door = Door(house, loop, view)
                continue
            try:
                door.perform(path, operation)
            except (GatewayError, VaultError):
                outcomes["refused"] += 1
            else:
                outcomes[operation[0]] += 1
                outcomes["resumed"] += (
                    operation[0] == "open" and door.upload is not None and door.upload._resumed > 0
                )
        door.end(late=False)
        assert not [pair for pair, times in sealed.items() if times > 1]

    try:
        in_any_order()
        # What was acknowledged meanwhile reads back as what its digest says, and nothing is left over.
        answer = loop.run_until_complete(house.act("check", read_data=True))
        assert answer["findings"] == []
        assert min(outcomes[name] for name in ("close", "resumed", "sync", "refused")) > 5, outcomes
    finally:
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
