"""The resolver as a process, in its sandbox, against a DNS server that answers, lies low and fails."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.core.questions import Later, Questions
from gateway.core.server import CoreServer
from gateway.core.sessions.resolver import ResolverSession
from gateway.process.listen import listen_unix
from tests.support.core_process import CoreProcess
from tests.support.dns_server import BROKEN, SILENT, DnsServer, dns_server


@pytest.fixture
def network() -> Iterator[DnsServer]:
    with dns_server() as server:
        yield server


@contextlib.asynccontextmanager
async def resolving(*addresses: str, timeout: float = 2.0) -> AsyncIterator[Questions]:
    """Questions that a resolver's process answers."""
    folder = Path(tempfile.mkdtemp(prefix="sr-d-", dir="/tmp"))
    config = folder / "config.toml"
    config.write_text(
        f'[sockets]\ndirectory = "run"\n[resolver]\naddresses = {list(addresses)!r}\ntimeout = {timeout}\n'
    )
    (folder / "run").mkdir()
    questions = Questions(patience=10)
    listener = listen_unix(folder / "run" / "resolver.sock")
    session = lambda: ResolverSession(cast("Any", None), questions)  # noqa: E731
    server = CoreServer({"resolver": listener}, {"resolver": session}, own_sockets=True)
    serving = asyncio.create_task(server.serve())
    command = [sys.executable, "-m", "gateway.cli", "resolver", "-c", str(config)]
    try:
        process = await asyncio.to_thread(CoreProcess, folder, command)
        try:
            yield questions
        finally:
            await asyncio.to_thread(process.stop)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        listener.close()
        shutil.rmtree(folder)


async def test_texts_spf_and_what_is_too_long_for_a_packet(network: DnsServer) -> None:
    network.text("key._domainkey.example.org", "v=DKIM1; p=" + "A" * 700)
    network.text("large.example.org", *(f"{number}-" + "x" * 400 for number in range(8)))
    network.text("example.org", "v=spf1 ip4:192.0.2.0/24 a:out.example.org -all")
    network.records["out.example.org", "A"] = ["198.51.100.7"]
    async with resolving(network.address) as questions:
        assert await questions.texts("KEY._domainkey.example.org") == ["v=DKIM1; p=" + "A" * 700]
        assert await questions.texts("nothing.example.org") == []
        assert await questions.texts("..broken name..") == []
        assert len(await questions.texts("large.example.org")) == 8
        assert network.over_tcp == 1  # landlock lets it connect to the resolver's port
        for address, result in (
            ("192.0.2.9", "pass"),
            ("198.51.100.7", "pass"),
            ("203.0.113.1", "fail"),
        ):
            answer = await questions.spf(address, "a@example.org", "out.example.org")
            assert (answer.spf, answer.domain) == (result, "example.org")


async def test_what_is_not_answered_is_later_and_keeps_nobody_waiting(network: DnsServer) -> None:
    network.moods = {"slow.example": SILENT, "broken.example": BROKEN}
    network.text("quick.example", "here")
    async with resolving(network.address) as questions:
        slow = [asyncio.create_task(questions.texts("slow.example")) for _ in range(8)]
        assert await asyncio.wait_for(questions.texts("quick.example"), 2) == ["here"]
        with pytest.raises(Later):
            await questions.texts("broken.example")
        with pytest.raises(Later):
            await questions.spf("192.0.2.1", "a@broken.example", "h.example")
        assert all(
            isinstance(each, Later) for each in await asyncio.gather(*slow, return_exceptions=True)
        )


async def test_the_second_resolver_is_asked_where_the_first_is_dead(network: DnsServer) -> None:
    network.text("example.org", "found")
    async with resolving("127.0.0.1:1", network.address) as questions:
        assert await questions.texts("example.org") == ["found"]


async def test_nobody_there_is_later_not_never() -> None:
    questions = Questions(patience=0.05)
    with pytest.raises(Later):
        await questions.texts("example.org")


async def test_a_question_whose_resolver_died_is_later_and_one_that_never_reached_it_is_asked_again() -> (
    None
):
    questions = Questions(patience=5)
    asked = asyncio.create_task(questions.texts("example.org"))
    claimed = await questions.claim()
    assert claimed is not None
    questions.lost(claimed.question_id, seen=False)
    again = await questions.claim()
    assert again == claimed
    questions.lost(claimed.question_id, seen=True)
    with pytest.raises(Later):
        await asked
