"""Inspection against the tools one would put in a script, on the corpus' invoices, PDFs and mails.

`python benchmarks/inspect.py [CORPUS] [--rounds N] [--kind WORD]`, or with `--core N [--profile]` alone

Ours: the pool with one worker process for each document, in its sandbox, over a stand-in for the core that
seals documents and takes parts; what is found in a document is inspected as a document of its own.
Theirs: for each file `clamdscan`, `sha256sum` and, where it is a PDF, `qpdf --check` and `pdftotext`, all
from one shell. Both ask the same clamd, with a database of two test signatures, started here. The two take
turns, N rounds; printed are medians, in documents a second and a second of processor time (clamd's
included), their ratios (above 1 we are faster), and where a worker's processor time goes.

What is not installed is left out on both sides, and told. `--core N`: what N small documents cost a real core
(`drain.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import mmap
import os
import queue
import resource
import shlex
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config import InspectSection
from gateway.inspect import inspection, pool, worker
from gateway.inspect.classify import classify, media
from gateway.inspect.scan import yara
from gateway.inspect.scan.clamd import ClamdStream
from gateway.wire.channel import Channel
from tests.servers import clamd_server
from tests.unit.inspect.fake_core import FakeCore
from vault.crypto.sealed import SealedReader, SealedWriter

FAMILIES = {
    "einvoice-xml": "invoice",
    "einvoice-pdf": "invoice",
    "pdf-clean": "pdf",
    "email": "mail",
}
FAMILIES["ofd"] = "invoice"  # those that are VAT invoices
PROGRAM = Path(__file__).with_name("inspect.py")
SOCKET, STAGES = "inspect.sock", "stages"
AHEAD = 8  # documents that are sealed before they are asked for
TICK = os.sysconf("SC_CLK_TCK")
TOOLS = ("clamdscan", "sha256sum", "qpdf", "pdftotext")


@dataclass
class Sample:
    """A file of the corpus."""

    path: Path
    kind: str
    data: bytes

    @property
    def is_pdf(self) -> bool:
        return self.path.suffix == ".pdf"


def samples(corpus: Path) -> list[Sample]:
    """What an office receives, whole or damaged."""
    with (corpus / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    chosen = [
        row
        for row in rows
        if row["family"] in FAMILIES
        and row["expectation"] in {"clean", "malformed"}
        and (row["family"] != "ofd" or row["note"].startswith("VAT"))
        and not row["path"].endswith(".xor")
    ]
    return [
        Sample(path, FAMILIES[row["family"]], path.read_bytes())
        for row in chosen
        for path in (corpus / row["path"],)
    ]


# ── where the time goes ──────────────────────────────────────────────────────────────────────────


START = "start after the fork"
WATCHED: list[tuple[Any, str, str]] = [
    (worker, "_silence", "closing descriptors"),
    (ClamdStream, "open", "clamd: connecting"),
    (worker, "enter_sandbox", "sandbox"),
    (SealedReader, "readinto", "opening (AES-GCM), all reads"),
    (inspection, "_read_all", "hashing"),
    (ClamdStream, "feed", "clamd: sending, answer"),
    (ClamdStream, "end", "clamd: sending, answer"),
    (ClamdStream, "finish", "clamd: sending, answer"),
    (media, "detect", "type (libmagic)"),
    (yara, "scan", "patterns (YARA)"),
    (inspection, "_scan_format", "active content"),
    (inspection, "_scan_tail", "active content"),
    (inspection, "_unpack", "unpacking"),
    (SealedWriter, "write", "sealing parts"),
    (SealedWriter, "finish", "sealing parts"),
    (inspection, "_read", "reading text"),
    (classify, "classify", "classifying"),
    (Channel, "connect", "talking with the core"),
    (Channel, "call", "talking with the core"),
]


class Stages:
    """Processor time of workers by stage, each without those inside it, in memory that forks share."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(4096)
            self._memory = mmap.mmap(file.fileno(), 4096)
        self._names: list[str] = []
        self._stack: list[int] = []
        self._since = 0.0
        for name in ("rest of the worker", START, *(stage for _, _, stage in WATCHED)):
            self.index(name)

    def index(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)

    def clear(self) -> None:
        self._memory[:] = bytes(len(self._memory))

    def totals(self) -> dict[str, float]:
        return {
            name: struct.unpack_from("d", self._memory, 8 * number)[0]
            for number, name in enumerate(self._names)
        }

    def _turn(self) -> None:
        """What went by since the last turn was the current stage's.

        The thread's clock: the process's comes in lumps of milliseconds once a limit of time is set on it.
        """
        now = time.thread_time()
        at = 8 * (self._stack[-1] if self._stack else 0)
        (before,) = struct.unpack_from("d", self._memory, at)
        struct.pack_into("d", self._memory, at, before + now - self._since)
        self._since = now

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Count what a function takes as a stage's."""
        inner, number = owner.__dict__[name], self.index(stage)
        bound = isinstance(inner, classmethod)
        call = inner.__func__ if bound else inner

        @functools.wraps(call)
        def counted(*arguments: Any, **named: Any) -> Any:
            self._turn()
            self._stack.append(number)
            try:
                return call(*arguments, **named)
            finally:
                self._turn()
                self._stack.pop()

        setattr(owner, name, classmethod(counted) if bound else counted)

    def begin(self, owner: Any, name: str) -> None:
        """A function with which a forked process begins: its clock began at the fork."""
        inner, number = owner.__dict__[name], self.index(START)

        def begun(*arguments: Any, **named: Any) -> Any:
            self._stack, self._since = [number], 0.0
            self._turn()
            self._stack = []
            return inner(*arguments, **named)

        setattr(owner, name, begun)

    def watch(self) -> None:
        """Count, in this process and those it forks."""
        self.begin(pool, "serve_one")
        for owner, name, stage in WATCHED:
            self.wrap(owner, name, stage)


# ── ours ─────────────────────────────────────────────────────────────────────────────────────────


def _spent(pid: int) -> tuple[float, float]:
    """Seconds of processor time of a process, and of its children that have ended."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    utime, stime, child_utime, child_stime = map(int, numbers[11:15])
    return (utime + stime) / TICK, (child_utime + child_stime) / TICK


@dataclass
class Ours:
    """The pool, in a process of its own, and a stand-in for the core in this one."""

    core: FakeCore
    pid: int
    stages: Stages
    clamd: str

    def inspect(self, documents: list[Sample]) -> dict[str, float]:
        """Seconds of wall and of processor time; `documents` with the parts found in them."""
        waiting = [(f"d{n}", each.data, each.path.name, 0) for n, each in enumerate(documents)]
        depths: dict[str, int] = {}
        waiting.reverse()
        manager, workers = _spent(self.pid)
        begun = time.monotonic()
        offered, done = 0, 0
        while waiting or offered:
            while waiting and offered < AHEAD:
                document, data, name, depths[document] = waiting.pop()
                depth = depths[document]
                channel = "part" if depth else "sftp"
                self.core.offer(
                    document, data, name=name, channel=channel, depth=depth, clamd=self.clamd
                )
                offered += 1
            try:
                verdict = self.core.verdicts.get(timeout=1)
            except queue.Empty:
                # Ended by a limit of a first look: a person's, or a longer look, which is not measured here.
                while not self.core.lost.empty():
                    print(f"no verdict within a first look: {self.core.lost.get()}")
                    offered -= 1
                continue
            offered, done = offered - 1, done + 1
            for part in verdict.parts:
                name, content = self.core.parts.pop(part)
                waiting.append((part, content, name, depths[verdict.document_id] + 1))
        wall = time.monotonic() - begun
        time.sleep(0.1)  # until the last worker is reaped
        manager_after, workers_after = _spent(self.pid)
        return {
            "wall": wall,
            "manager": manager_after - manager,
            "workers": workers_after - workers,
            "processor": manager_after - manager + workers_after - workers,
            "documents": done,
        }


@contextlib.contextmanager
def ours(folder: Path, clamd: str) -> Iterator[Ours]:
    stages = Stages(folder / STAGES)
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "--pool", str(folder)], stdout=subprocess.DEVNULL
    )
    core = FakeCore(folder / SOCKET)
    try:
        yield Ours(core, process.pid, stages, clamd)
    finally:
        process.terminate()
        process.wait()
        core.close()


def _pool(folder: Path) -> None:
    """The other process: the pool, with its workers' time counted."""
    Stages(folder / STAGES).watch()
    pool.stand_back = lambda: True  # at the priority of the tools: what is compared is the work
    pool.run(InspectSection(workers=1), folder / SOCKET)


# ── theirs ───────────────────────────────────────────────────────────────────────────────────────


def chain(documents: list[Sample], tools: dict[str, str], config: Path | None) -> dict[str, float]:
    """Run the tools on each file from one shell."""
    lines = []
    for sample in documents:
        path = shlex.quote(str(sample.path))
        if "clamdscan" in tools:
            lines.append(f"{tools['clamdscan']} --fdpass --no-summary -c {config} {path}")
        if "sha256sum" in tools:
            lines.append(f"{tools['sha256sum']} {path}")
        if sample.is_pdf and "qpdf" in tools:
            lines.append(f"{tools['qpdf']} --check {path}")
        if sample.is_pdf and "pdftotext" in tools:
            lines.append(f"{tools['pdftotext']} {path} /dev/null")
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        ["sh"],
        input="\n".join(lines).encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"wall": time.monotonic() - begun, "processor": processor}


# ── both ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Rounds:
    """What each round gave for one kind of document."""

    files: int = 0
    ours: list[dict[str, float]] = field(default_factory=list)
    theirs: list[dict[str, float]] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)

    def median(self, side: str, what: str) -> float:
        return statistics.median(each[what] for each in getattr(self, side))

    def ratio(self, what: str) -> float:
        """The median of pairwise ratios."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return statistics.median(their[what] / our[what] for our, their in pairs)

    def report(self, kind: str) -> None:
        print(
            f"\n{kind}: {self.files} files, {self.median('ours', 'documents'):.0f} with their parts"
        )
        for side, name in (("ours", "inspection"), ("theirs", "the tools")):
            wall, processor = self.median(side, "wall"), self.median(side, "processor")
            print(
                f"  {name:11} {self.files / wall:6.1f} files/s   {self.files / processor:6.1f} files/s and"
                f" core   {processor / self.files * 1000:6.2f} ms of processor time a file"
            )
        clock, processor = self.ratio("wall"), self.ratio("processor")
        print(f"  ratio       {clock:6.2f} by the clock, {processor:.2f} by processor time")


def _where(rounds: list[Rounds]) -> None:
    """Print the stages of all kinds together, in milliseconds a document (parts are documents)."""
    each = [entry for one in rounds for entry in one.ours]
    documents = sum(entry["documents"] for entry in each)
    totals: dict[str, float] = defaultdict(float)
    for one in rounds:
        for stages in one.stages:
            for name, seconds in stages.items():
                totals[name] += seconds
    workers = sum(entry["workers"] for entry in each)
    totals["other threads, end of the process"] = max(0.0, workers - sum(totals.values()))
    totals["the manager: fork, reaping"] = sum(entry["manager"] for entry in each)
    totals["clamd"] = sum(entry["clamd"] for entry in each)
    print("\nwhere the processor time goes, ms a document")
    for name, seconds in sorted(totals.items(), key=lambda item: -item[1]):
        print(f"  {name:36} {seconds / documents * 1000:6.2f}")


def measure(documents: list[Sample], count: int) -> None:
    found = {name: path for name in TOOLS if (path := shutil.which(name))}
    missing = [name for name in TOOLS if name not in found]
    if clamd_server.CLAMD is None:
        found.pop("clamdscan", None)
        missing.append("clamd")
    if missing:
        print(f"not installed, and left out on both sides where both use it: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="sr-inspect-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        address, spent = "", lambda: 0.0
        if "clamdscan" in found:
            clamd = stack.enter_context(clamd_server.clamd_running(folder / "clamd"))
            address, spent = clamd.address, lambda: sum(_spent(clamd.pid))
        product = stack.enter_context(ours(folder, address))
        by_kind: dict[str, list[Sample]] = defaultdict(list)
        for sample in documents:
            by_kind[sample.kind].append(sample)
        results = {kind: Rounds(len(chosen)) for kind, chosen in by_kind.items()}
        product.inspect(documents[:3])  # the pool is up
        for _ in range(count):
            for kind, chosen in by_kind.items():
                product.stages.clear()
                sides: list[tuple[list[dict[str, float]], Callable[[], dict[str, float]]]] = [
                    (results[kind].ours, lambda chosen=chosen: product.inspect(chosen)),
                    (
                        results[kind].theirs,
                        lambda chosen=chosen: chain(chosen, found, folder / "clamd/clamd.conf"),
                    ),
                ]
                for side, run in sides:
                    before = spent()
                    result = run()
                    result["clamd"] = spent() - before
                    result["processor"] += result["clamd"]
                    side.append(result)
                results[kind].stages.append(product.stages.totals())
    for kind, rounds in results.items():
        rounds.report(kind)
    everything = Rounds(len(documents))
    for number in range(count):
        for side in ("ours", "theirs"):
            summed: dict[str, float] = defaultdict(float)
            for rounds in results.values():
                for what, value in getattr(rounds, side)[number].items():
                    summed[what] += value
            getattr(everything, side).append(dict(summed))
    everything.report("all")
    _where(list(results.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", nargs="?", default=os.environ.get("STRONGROOM_CORPUS"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", help="only invoices, PDFs or mails: invoice, pdf, mail")
    parser.add_argument("--core", type=int, default=0, metavar="N", help="only the core's part")
    parser.add_argument("--profile", action="store_true", help="of the core's part")
    parser.add_argument("--pool", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pool:
        _pool(given.pool)
        return
    if given.core:
        from benchmarks.drain import drain  # what it brings would make the pool's forks dearer

        drain(given.core, profile=given.profile)
        return
    if given.corpus is None:
        parser.error("the corpus: expected its folder, or STRONGROOM_CORPUS, found neither")
    documents = [
        sample for sample in samples(Path(given.corpus)) if given.kind in {None, sample.kind}
    ]
    measure(documents, given.rounds)


if __name__ == "__main__":
    main()
