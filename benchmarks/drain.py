"""What the core spends on a small document between its receipt and its filing, whatever the worker finds.

`python benchmarks/inspect.py --core N [--profile]`: N notes of two clients wait in a store; a core with its
real server for inspectors drains them. The workers are processes that read, hash and answer at once, with a
connection for each document as the product's. Printed: milliseconds of the core's processor time a document,
and the transactions, readings and statements that took.
"""

from __future__ import annotations

import asyncio
import cProfile
import hashlib
import os
import pstats
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import event

from gateway.core.server import CoreServer
from gateway.core.sessions.inspector import InspectSession
from gateway.errors import Disconnected
from gateway.wire.channel import Channel
from gateway.wire.messages import Claim, Classification, Scan, Verdict, Work
from tests.support.house import House
from vault.catalogue import store
from vault.crypto.sealed import SealedReader, document_context

WORKERS = 2


def drain(count: int, *, profile: bool = False) -> None:
    """Fill a store, drain it, print what that cost."""
    with tempfile.TemporaryDirectory(prefix="sr-drain-") as folder:
        asyncio.run(_drain(Path(folder), count, profile))


async def _drain(folder: Path, count: int, profile: bool) -> None:
    house = House(folder)
    await house.settle()
    for number in range(count):
        name, by = f"/inbox/note-{number}.txt", ("acme", "other")[number % 2]
        await house.upload(name, b"a note %d" % number, by)
    path = folder / "inspect.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(16)
    listener.setblocking(False)
    workers = [_worker(path) for _ in range(WORKERS)]
    counted: Counter[str] = Counter()
    for engine in (house.core.store.catalogue._writer, house.core.store.catalogue._readers):
        event.listen(engine, "begin", lambda _c, engine=engine: counted.update([str(id(engine))]))
        event.listen(engine, "before_cursor_execute", lambda *_: counted.update(["statements"]))
    writer = str(id(house.core.store.catalogue._writer))
    server = CoreServer(
        {"inspect": listener},
        {"inspect": lambda: InspectSession(house.wings.intake, house.queue)},
        own_sockets=True,
    )
    profiles: list[cProfile.Profile] = []
    if profile:
        profiles = [cProfile.Profile(time.thread_time), cProfile.Profile(time.thread_time)]
        store.Catalogue._commit_group, inner = (
            lambda self, jobs: profiles[1].runcall(inner, self, jobs),
            store.Catalogue._commit_group,
        )
        profiles[0].enable()
    before, begun = time.process_time(), time.monotonic()
    task = asyncio.create_task(server.serve())
    while await house.core.read(
        lambda c: c.exec_driver_sql("SELECT 1 FROM documents WHERE state = 'RECEIVED'").first()
    ):
        await asyncio.sleep(0.25)
    spent, took = time.process_time() - before, time.monotonic() - begun
    for each in profiles:
        each.disable()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    await house.end()
    readings = sum(n for key, n in counted.items() if key not in {writer, "statements"})
    print(
        f"the core: {spent / count * 1000:.2f} ms of processor time a document ({count} documents,"
        f" {count / took:.0f} a second); a document: {counted[writer] / count:.2f} transactions,"
        f" {readings / count:.2f} readings, {counted['statements'] / count:.1f} statements"
    )
    for name, each in zip(("loop", "writing thread"), profiles, strict=False):
        print(f"\n── {name}")
        pstats.Stats(each).sort_stats("cumulative").print_stats(45)


def _worker(path: Path) -> int:
    """A process that claims, reads and answers until the core is gone."""
    assert threading.active_count() >= 1
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while True:
            try:
                _one(path)
            except Disconnected:
                time.sleep(0.01)
    finally:
        os._exit(0)


def _one(path: Path) -> None:
    channel = Channel.connect(path)
    try:
        work, descriptors = channel.call(Claim())
        if not isinstance(work, Work):
            return
        context = document_context(work.document_id)
        with SealedReader(descriptors[0], work.key, context, close_fd=True) as reader:
            data = reader.readall()
        channel.call(
            Verdict(
                work.document_id,
                len(data),
                hashlib.sha256(data).digest(),
                media_type="text/plain",
                scans=[Scan("yara", "clean")],
                classification=Classification("invoice", 0.95, "2025-03-01", ["title:x"]),
            )
        )
    finally:
        channel.close()
