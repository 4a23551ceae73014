"""The vault's figures, each as a ratio against a primitive or a rate of this machine, in the same run.

`python benchmarks/vault.py [--rounds N] [--documents N] [--only WORD]`: prints medians. A store of a million
documents is made for the figures at scale (some minutes, about 3 GB below --folder), with the tables,
keys and ledger that a gateway would have made, and 10,000 sealed files that are really destroyed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import func, select

from benchmarks import large_store
from benchmarks.large_store import Peak
from gateway.core.core import log
from tests.support.house import START, House
from vault.catalogue import ledger
from vault.catalogue.schema import groups
from vault.certificate.verify import verify_certificate
from vault.check.ledger import verify
from vault.crypto.chunked import CHUNK, document_context
from vault.crypto.digest import StreamDigest
from vault.crypto.sealed import SealedReader, SealedWriter
from vault.ids import new_id

MIB = 1024 * 1024
STREAM = 256 * MIB
PIECE = 256 * 1024
DESTROYED = 10_000


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def say(what: str, found: str, wanted: str) -> None:
    print(f"{what:<58} {found:<44} {wanted}", flush=True)


# ── streams ──────────────────────────────────────────────────────────────────────────────────────


def streams(rounds: int) -> None:
    """Sealing with hashing against SHA-256 alone; opening against AES-GCM alone."""
    pieces = [os.urandom(PIECE) for _ in range(8)]
    key, context = secrets.token_bytes(32), document_context(new_id(START))
    # In memory: how fast the disk is, is another figure.
    held = os.memfd_create("stream", os.MFD_CLOEXEC)
    path = f"/proc/self/fd/{held}"

    def seal() -> None:
        fd = os.open(path, os.O_RDWR | os.O_TRUNC)
        writer, digest = SealedWriter(fd, key, context), StreamDigest()
        for number in range(STREAM // PIECE):
            digest.update(pieces[number % 8])
            writer.write(pieces[number % 8])
        writer.finish()
        digest.digest()
        os.close(fd)

    def digest_alone() -> None:
        digest = hashlib.sha256()
        for number in range(STREAM // PIECE):
            digest.update(pieces[number % 8])
        digest.digest()

    def open_all() -> None:
        with SealedReader(os.open(path, os.O_RDONLY), key, context, close_fd=True) as reader:
            buffer = bytearray(PIECE)
            while reader.readinto(buffer):
                pass

    # As many bytes as the reader opens, not a few that stay in the processor's cache.
    sealed = [
        AESGCM(key).encrypt(bytes(12), os.urandom(CHUNK), None) for _ in range(STREAM // CHUNK)
    ]

    def decrypt_alone() -> None:
        cipher = AESGCM(key)
        nonce = bytes(12)
        for piece in sealed:
            cipher.decrypt(nonce, piece, None)

    sealing, opening, rates = [], [], []
    for _ in range(rounds):
        alone, ours = seconds(digest_alone), seconds(seal)
        sealing.append(alone / ours)
        rates.append(STREAM / ours / MIB)
        plain, read = seconds(decrypt_alone), seconds(open_all)
        opening.append(plain / read)
    os.close(held)
    say(
        "seal + hash, of SHA-256 alone",
        f"{statistics.median(sealing):.2f} ({statistics.median(rates):.0f} MiB/s)",
        "wanted 0.80",
    )
    say("open, of AES-GCM on 16 KiB pieces", f"{statistics.median(opening):.2f}", "wanted 0.50")


# ── commits ──────────────────────────────────────────────────────────────────────────────────────


def commits(folder: Path, rounds: int) -> None:
    """Small documents made durable, against this machine's own fsync rate; alone and sixteen at once."""
    house = House(folder / "commits")
    asyncio.run(house.settle())
    count = 100

    def syncs() -> None:
        path = folder / "sync"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        for number in range(count):
            os.pwrite(fd, b"x" * 4096, number * 4096)
            os.fsync(fd)
        os.close(fd)
        path.unlink()

    async def one_after_another(tag: str) -> None:
        for number in range(count):
            await house.upload(f"/inbox/{tag}-{number}.bin", b"x" * 4000)

    async def together(tag: str) -> None:
        async def some(worker: int) -> None:
            for number in range(count // 16 + 1):
                await house.upload(f"/inbox/{tag}-{worker}-{number}.bin", b"x" * 4000)

        await asyncio.gather(*(some(worker) for worker in range(16)))

    alone, grouped, rate = [], [], []
    for number in range(rounds):
        per_sync = seconds(syncs) / count
        one = seconds(lambda n=number: asyncio.run(one_after_another(f"a{n}"))) / count
        many = seconds(lambda n=number: asyncio.run(together(f"b{n}"))) / (16 * (count // 16 + 1))
        alone.append(per_sync / one)
        grouped.append(per_sync / many)
        rate.append((1 / per_sync, 1 / one, 1 / many))
    house.core.close()
    sync, one, many = (statistics.median(each) for each in zip(*rate, strict=True))
    say("documents made durable one by one, of the fsync rate",
        f"{statistics.median(alone):.2f} ({one:.0f}/s of {sync:.0f}/s)", "three syncs each")  # fmt: skip
    say("sixteen waiting at once", f"{statistics.median(grouped):.2f} ({many:.0f}/s)", "grouped")


# ── a million documents ──────────────────────────────────────────────────────────────────────────


def at_scale(folder: Path, total: int) -> None:
    """Ledger, proof, re-wrapping and destruction with `total` documents."""
    house = House(folder / "scale")
    asyncio.run(house.settle())
    asyncio.run(house.filed("note.txt", b"a note", record_class=large_store.NOTE))
    # The filed one is due too: together as many as are to be destroyed.
    took = seconds(lambda: large_store.fill(house.core, total, DESTROYED - 1))
    asyncio.run(house.act("ledger.checkpoint"))
    store = house.core.store
    size = store.catalogue.ledger.size
    files = sum(path.stat().st_size for path in store.path.glob("catalogue*"))
    say(
        f"(made {total} documents, {size} ledger entries)",
        f"{took:.0f} s, {files / MIB:.0f} MiB",
        "",
    )

    with Peak() as peak:
        took = seconds(lambda: store.catalogue.read(lambda c: verify(c, store.vkey, store.origin)))
    say(f"ledger verify over {size} entries", f"{took:.1f} s, +{peak.most - peak.before >> 20} MiB",
        "wanted 30 s a million")  # fmt: skip
    for at in (size // 100, size // 2, size - 1):
        took = seconds(
            lambda at=at: store.catalogue.read(lambda c: ledger.proof_of(c, at, store.vkeys))
        )
        text = store.catalogue.read(lambda c, at=at: ledger.proof_of(c, at, store.vkeys))[0]
        hashes = text.partition("\n\n")[0].count("\n") - 1
        say(f"proof of entry {at}", f"{took * 1000:.1f} ms, {hashes} hashes", "O(log n)")

    # The commands an officer uses, from approval to certificate. The sealed files are real.
    large_store.add_files(house.core, large_store.due_now(house.core))

    async def approve() -> str:
        (batch,) = await house.act("disposal.propose")
        await house.approve(batch["id"], "officer1")
        await house.approve(batch["id"], "officer2")
        return batch["id"]

    start = time.perf_counter()
    batch = asyncio.run(approve())
    say("propose and approve", f"{time.perf_counter() - start:.1f} s", "")
    with Peak() as peak:
        start = time.perf_counter()
        done = asyncio.run(house.act("disposal.execute", by="officer3", id=batch))
        took = time.perf_counter() - start
    shown = asyncio.run(house.act("certificate.show", id=done["certificate"]))
    items = len(json.loads(shown["json"])["body"]["register"])
    say(f"destroy and certify {items} of {total}",
        f"{took:.1f} s, +{peak.most - peak.before >> 20} MiB", "wanted 60 s, memory flat")  # fmt: skip
    checks = {each["name"]: each["result"] for each in json.loads(shown["json"])["body"]["checks"]}
    say("  its checks", ", ".join(sorted(set(checks.values()))), "")
    data = shown["json"].encode()
    took = statistics.median(
        seconds(lambda: verify_certificate(data, shown["vkeys"])) for _ in range(3)
    )
    say(f"verify a certificate of {items} items", f"{took:.2f} s", "wanted 0.5 s")

    house.clock.now += timedelta(seconds=1)
    with Peak() as peak:
        start = time.perf_counter()
        moved = asyncio.run(house.act("keys.rotate", what="groups"))["rewrapped"]
        took = time.perf_counter() - start
    say(f"re-wrap {moved} document keys", f"{took:.1f} s, +{peak.most - peak.before >> 20} MiB",
        "wanted 120 s a million")  # fmt: skip
    left = store.catalogue.read(
        lambda c: c.execute(
            select(func.count()).select_from(groups).where(groups.c.ended_at.is_(None))
        ).scalar()
    )
    say("  groups alive after it", str(left), "")
    house.core.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="streams, commits or scale")
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sr-bench-", dir=given.folder))
    try:
        for name in ("commits", "scale"):
            (folder / name).mkdir()
        if given.only in {"", "streams"}:
            streams(given.rounds)
        if given.only in {"", "commits"}:
            commits(folder, given.rounds)
        if given.only in {"", "scale"}:
            at_scale(folder, given.documents)
    finally:
        log.debug("benchmark ended")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
