"""What a store of a million documents costs against an almost empty one, in the same run, in turns.

`python benchmarks/growth.py [--documents N] [--rounds N] [--keep FOLDER]`: prints medians and their ratios
(above 1 the large store is slower). Both stores have one client and `DUE` documents that are due; the large
one has N documents of that client in all. With --keep the stores are made once below that folder, and runs
work on what earlier runs left there.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import paramiko

from benchmarks import large_store
from gateway import config
from gateway.core.opening import open_core
from tests.support.sftp import Gateway, make_template

DUE = 1000
NAME = "note.txt"  # of the one that is read
SMALL_FILES = 200
SMALL = b"x" * 40_000
MIB = 1024 * 1024
LISTED = [
    ("acme", "/inbox"),
    ("acme", "/receipts"),
    ("accountant", "/clients"),
    ("accountant", "/clients/acme"),
    ("accountant", f"/clients/acme/{large_store.FIRST_YEAR}"),
    ("accountant", f"/clients/acme/{large_store.FIRST_YEAR}/{large_store.NOTE}"),
    ("auditor", "/ledger"),
    ("auditor", "/certificates"),
]


def make(folder: Path, documents: int) -> None:
    """An installation whose store has that many documents, `DUE` of them due."""
    template = make_template()
    try:
        with Gateway(template, place=folder) as gateway:
            with gateway.paramiko() as client:
                client.putfo(io.BytesIO(b"a note"), f"/inbox/{NAME}")
            gateway.file_received(large_store.NOTE)
        # As it was installed: a gateway on a copy chooses its port anew.
        for name in ("config.toml", "demo/known_hosts"):
            shutil.copy(template / name, folder / "i" / name)
    finally:
        shutil.rmtree(template.parent)
    core = open_core(config.load(folder / "i" / "config.toml"))
    try:
        large_store.fill(core, documents, DUE - 1)
        large_store.add_files(core, large_store.due_now(core))
    finally:
        core.close()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Side:
    """One store with its core and door, and what was measured on it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.gateway = Gateway(folder / "i", place=folder / "run")
        self.times: dict[str, list[float]] = defaultdict(list)
        self.puts = 0

    def restart(self) -> None:
        """The core's start, measured; the door comes after it."""
        gateway = self.gateway
        for process in (gateway.door, gateway.core):
            if process is not None:
                process.stop()
        self.times["start of the core"].append(seconds(gateway.start_core))
        self.memory("memory of the core after its start")
        gateway.start_door()

    def memory(self, what: str) -> None:
        self.times[what].append(large_store.resident(self.gateway.core.process.pid) / MIB)

    def timed(self, what: str, work: Callable[[], object]) -> None:
        self.times[what].append(seconds(work))

    def act(self, what: str, name: str, **arguments: object) -> None:
        self.timed(what, lambda: self.gateway.admin.call(name, **arguments))

    def round(self) -> None:
        gateway = self.gateway
        for user in ("acme", "accountant", "auditor"):
            with gateway.paramiko(user) as client:
                for account, path in LISTED:
                    if account == user:
                        self.timed(f"first names of {path}", lambda p=path, c=client: first(c, p))
                if user == "accountant":
                    year = gateway.admin.call("document.list", limit=1)[0]["fiscal_year"]
                    path = f"/clients/acme/{year}/{large_store.NOTE}/{NAME}"
                    self.timed("first byte of get", lambda p=path, c=client: c.open(p).read(1))
        self.timed("login", lambda: gateway.paramiko().__enter__().close())
        with gateway.paramiko() as client:
            self.timed(f"put of {SMALL_FILES} files of 40 kB", lambda: self.put(client))
        self.act("document list (1,000)", "document.list")
        self.act("document list of a client", "document.list", client="acme")
        self.act("document list of a state", "document.list", state="RECEIVED")
        self.act("status", "status")
        today = datetime.now(UTC).isoformat()
        self.act("retention preview (1,000 due)", "retention.preview", at=today)
        self.free()
        self.timed("disposal propose (1,000 due)", self.propose)
        self.memory("memory of the core after all this")

    def put(self, client: paramiko.SFTPClient) -> None:
        for _ in range(SMALL_FILES):
            self.puts += 1
            with client.open(f"/inbox/small-{time.time_ns()}-{self.puts}.bin", "wx") as file:
                file.set_pipelined(True)
                file.write(SMALL)

    def propose(self) -> None:
        self.gateway.admin.call("disposal.propose")

    def free(self) -> None:
        """Reject what is proposed, by the core's own job or a round before this."""
        for batch in self.gateway.admin.call("disposal.list"):
            if batch["state"] == "PROPOSED":
                self.gateway.admin.approve(batch["id"], "officer1", "reject")


def first(client: paramiko.SFTPClient, path: str) -> str:
    """The first name of a folder, with one READDIR."""
    names = client.listdir_iter(path, read_aheads=1)
    try:
        return next(names).filename
    except StopIteration:
        return ""


def measure(sides: dict[str, Side], rounds: int) -> None:
    for _ in range(rounds):
        for side in sides.values():
            side.restart()
            side.round()
    print(f"{'':<52} {'almost empty':>14} {'large':>14} {'ratio':>7}")
    for what, small in sides["small"].times.items():
        large = statistics.median(sides["large"].times[what])
        before = statistics.median(small)
        unit, scale = ("MiB", 1) if what.startswith("memory") else ("ms", 1000)
        print(
            f"{what:<52} {before * scale:>10.1f} {unit:<3} {large * scale:>10.1f} {unit:<3}"
            f" {large / before:>7.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, default=None)
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="sr-g-", dir="/tmp"))
    sides: dict[str, Side] = {}
    try:
        for name, count in (("small", DUE), ("large", given.documents)):
            place = folder / name
            if not (place / "made").exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                took = seconds(lambda p=place, n=count: make(p, n))
                (place / "made").touch()
                print(f"(made {count} documents in {took:.0f} s)", flush=True)
            shutil.rmtree(place / "run", ignore_errors=True)
            (place / "run").mkdir()
            sides[name] = Side(name, place)
        measure(sides, given.rounds)
    finally:
        for name, side in sides.items():
            side.gateway.close()
            shutil.rmtree(folder / name / "run", ignore_errors=True)
        if given.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
