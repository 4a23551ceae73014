"""The sftp door against OpenSSH's sshd with internal-sftp, in the same run, with the same client.

`python benchmarks/sftp.py [--rounds N] [--only WORD]`: needs sshd, ssh, sftp; prints medians of pairwise
ratios (above 1 we are faster). Their side runs `put -f` (fsync at the end); ours is always durable, sealed
and hashed, and its inspectors run, as shipped. Both servers listen on loopback and use aes128-gcm and
curve25519-sha256. At the end: how long a client waits for the acknowledgement of each of 10,000 files that
two send at once, and memory: what a connection's process takes at its peak, and 200 idle sessions together,
shared pages counted once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.sftp import CoreProcess, Gateway, free_port, make_template, until

MIB = 1024 * 1024
LARGE = 256 * MIB
SMALL_FILES = 500
SMALL = 40_000
ACKNOWLEDGED = 10_000  # files whose acknowledgements are timed
LOGINS = 12
IDLE = 200
CRYPTO = ["-o", "Ciphers=aes128-gcm@openssh.com", "-o", "KexAlgorithms=curve25519-sha256"]


class Peer:
    """OpenSSH's server with internal-sftp, for the account's demo key."""

    def __init__(self, folder: Path, key: Path) -> None:
        self.folder = folder
        self.key = key
        self.port = free_port()
        self.home = folder / "home"
        self.home.mkdir()
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host")], check=True
        )
        shutil.copy(f"{key}.pub", folder / "authorized")
        Path("/run/sshd").mkdir(exist_ok=True)
        text = (
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\n"
            f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\n"
            f"PidFile none\nSubsystem sftp internal-sftp\nPermitRootLogin yes\n"
            f"MaxStartups 100\n"
        )
        # Newer servers would punish eight logins at once; older ones don't know the word.
        for extra in ("PerSourcePenalties no\n", ""):
            (folder / "config").write_text(text + extra)
            check = ["/usr/sbin/sshd", "-t", "-f", str(folder / "config")]
            if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                break
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.user = os.environ.get("USER") or "root"
        until(lambda: self.sftp("pwd\n").returncode == 0, 10)

    def command(self) -> list[str]:
        return [
            "sftp", "-q", "-F", "none", "-i", str(self.key), "-P", str(self.port),
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder / 'known'}",
            "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", *CRYPTO,
            "-b", "-", f"{self.user}@127.0.0.1",
        ]  # fmt: skip

    def sftp(self, batch: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(), input=batch, capture_output=True, text=True, check=False
        )

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def succeed(done: subprocess.CompletedProcess) -> None:
    if done.returncode:
        raise SystemExit(f"a client failed: {done.stderr}")


class Bench:
    """Both servers and what is sent to them."""

    def __init__(self, gateway: Gateway, peer: Peer, folder: Path) -> None:
        self.gateway = gateway
        self.peer = peer
        self.folder = folder
        self.large = folder / "large"
        block = os.urandom(MIB)
        with self.large.open("wb") as file:
            for _ in range(LARGE // MIB):
                file.write(block)
        self.small = folder / "small"
        self.small.mkdir()
        for number in range(SMALL_FILES):
            (self.small / f"{number:03}").write_bytes(os.urandom(SMALL))
        self.count = 0

    def ours(self, batch: str, user: str = "acme") -> None:
        command = self.gateway.sftp_command(user, "-q", *CRYPTO)
        succeed(subprocess.run(command, input=batch, capture_output=True, text=True, check=False))

    def theirs(self, batch: str) -> None:
        succeed(self.peer.sftp(batch))

    def fresh(self) -> str:
        self.count += 1
        return f"f{self.count}"

    def put(self) -> tuple[float, float]:
        name = self.fresh()
        ours = timed(lambda: self.ours(f"put {self.large} /inbox/{name}\n"))
        theirs = timed(lambda: self.theirs(f"put -f {self.large} {self.peer.home}/{name}\n"))
        (self.peer.home / name).unlink()
        return theirs, ours

    def file_one(self) -> None:
        """Have one large document filed that an accountant can get (before the inspectors start)."""
        self.ours(f"put {self.large} /inbox/to-get\n")
        self.gateway.file_received()
        shutil.copy(self.large, self.peer.home / "to-get")

    def get(self) -> tuple[float, float]:
        target = self.folder / "got"
        path = "/clients/acme/2025/invoice/to-get"
        ours = timed(lambda: self.ours(f"get {path} {target}\n", "accountant"))
        theirs = timed(lambda: self.theirs(f"get {self.peer.home}/to-get {target}\n"))
        target.unlink()
        return theirs, ours

    def put_four(self) -> tuple[float, float]:
        names = [self.fresh() for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            ours = timed(
                lambda: list(pool.map(lambda n: self.ours(f"put {self.large} /inbox/{n}\n"), names))
            )
            theirs = timed(
                lambda: list(
                    pool.map(
                        lambda n: self.theirs(f"put -f {self.large} {self.peer.home}/{n}\n"), names
                    )
                )
            )
        for name in names:
            (self.peer.home / name).unlink()
        return theirs, ours

    def put_small(self) -> tuple[float, float]:
        name = self.fresh()
        lines = [f"put {self.small}/{n:03} /inbox/{name}-{n}\n" for n in range(SMALL_FILES)]
        ours = timed(lambda: self.ours("".join(lines)))
        lines = [
            f"put -f {self.small}/{n:03} {self.peer.home}/{name}-{n}\n" for n in range(SMALL_FILES)
        ]
        theirs = timed(lambda: self.theirs("".join(lines)))
        return theirs, ours

    def put_small_four(self) -> tuple[float, float]:
        name = self.fresh()
        numbers = range(SMALL_FILES)

        def ours(client: int) -> None:
            self.ours(
                "".join(f"put {self.small}/{n:03} /inbox/{name}-{client}-{n}\n" for n in numbers)
            )

        def theirs(client: int) -> None:
            home = self.peer.home
            self.theirs(
                "".join(f"put -f {self.small}/{n:03} {home}/{name}-{client}-{n}\n" for n in numbers)
            )

        with ThreadPoolExecutor(4) as pool:
            mine = timed(lambda: list(pool.map(ours, range(4))))
            other = timed(lambda: list(pool.map(theirs, range(4))))
        return other, mine

    def logins(self) -> tuple[float, float]:
        ours = timed(lambda: [self.ours("pwd\n") for _ in range(LOGINS)])
        theirs = timed(lambda: [self.theirs("pwd\n") for _ in range(LOGINS)])
        return theirs, ours

    def logins_eight(self) -> tuple[float, float]:
        with ThreadPoolExecutor(8) as pool:
            ours = timed(lambda: list(pool.map(lambda _: self.ours("pwd\n"), range(3 * LOGINS))))
            theirs = timed(
                lambda: list(pool.map(lambda _: self.theirs("pwd\n"), range(3 * LOGINS)))
            )
        return theirs, ours


def memory_of(pid: int, what: str) -> float:
    """MiB: `Rss` or `Pss` (which shares common pages out among those that have them)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"smaps_rollup: expected {what}, found none")


def peak(bench: Bench, batch: str, user: str) -> float:
    """The largest resident size that a connection's process had meanwhile, in MiB, sampled."""
    largest = 0.0
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(bench.ours, batch, user)
        while not done.done():
            for pid in bench.gateway.children():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text("ascii")
                    (line,) = (each for each in status.splitlines() if each.startswith("VmHWM"))
                    largest = max(largest, int(line.split()[1]) / 1024)
            time.sleep(0.02)
        done.result()
    return largest


def send_timed(port: int, key: str, prefix: str, count: int, waits: multiprocessing.Queue) -> None:
    """Send files one after another, in a process of its own; how long each CLOSE took, in seconds."""

    async def work() -> list[float]:
        found = []
        data = os.urandom(SMALL)
        connected = asyncssh.connect(
            "127.0.0.1",
            port,
            username="acme",
            known_hosts=None,
            config=None,
            client_keys=[key],
            agent_path=None,
            encryption_algs=["aes128-gcm@openssh.com"],
        )
        async with connected as connection, connection.start_sftp_client() as client:
            for number in range(count):
                file = await client.open(f"/inbox/{prefix}-{number}", "wb")
                await file.write(data)
                started = time.perf_counter()
                await file.close()
                found.append(time.perf_counter() - started)
        return found

    waits.put(asyncio.run(work()))


def print_acknowledgements(bench: Bench) -> None:
    waits: multiprocessing.Queue = multiprocessing.Queue()
    key, port = str(bench.gateway.key("acme")), bench.gateway.port
    clients = [
        multiprocessing.Process(
            target=send_timed, args=(port, key, f"{bench.fresh()}-{n}", ACKNOWLEDGED // 2, waits)
        )
        for n in range(2)
    ]
    for each in clients:
        each.start()
    found = sorted(wait for _ in clients for wait in waits.get())
    for each in clients:
        each.join()
    median, high = (1000 * found[int(len(found) * share)] for share in (0.5, 0.99))
    print(
        f"{f'{ACKNOWLEDGED} × 40 kB from two clients':36} an acknowledgement takes {median:.1f} ms, "
        f"p99 {high:.1f} ms (wanted: 20), longest {1000 * found[-1]:.0f} ms",
        flush=True,
    )


async def idle(bench: Bench) -> tuple[int, float]:
    """How many sessions are open, and what they and their listener take together, in MiB."""
    gateway = bench.gateway
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(IDLE):
            connection = await stack.enter_async_context(
                asyncssh.connect(
                    "127.0.0.1",
                    gateway.port,
                    username="acme",
                    known_hosts=None,
                    config=None,
                    client_keys=[str(gateway.key("acme"))],
                    agent_path=None,
                )
            )
            client = await stack.enter_async_context(connection.start_sftp_client())
            await client.listdir("/")
        assert gateway.door is not None
        pids = gateway.children()
        total = sum(memory_of(pid, "Pss") for pid in [*pids, gateway.door.process.pid])
        return len(pids), total


def print_memory(bench: Bench) -> None:
    up = peak(bench, f"put {bench.large} /inbox/{bench.fresh()}\n", "acme")
    target = bench.folder / "got"
    down = peak(bench, f"get /clients/acme/2025/invoice/to-get {target}\n", "accountant")
    target.unlink()
    print(f"{'peak of a connection, put and get':36} {up:.0f} and {down:.0f} MiB (wanted: 60)")
    count, total = asyncio.run(idle(bench))
    print(f"{f'{count} idle sessions together':36} {total:.0f} MiB (wanted: 2048)", flush=True)


@contextlib.contextmanager
def inspectors(gateway: Gateway) -> Iterator[None]:
    """The inspectors of a gateway, as many as its configuration says."""
    command = [sys.executable, "-m", "gateway.cli", "inspect", "-c", str(gateway.config)]
    process = CoreProcess(gateway.folder, command)
    try:
        yield
    finally:
        process.stop()


def measure(bench: Bench, chosen: argparse.Namespace) -> None:
    """Measure and print what was chosen."""
    works = [
        ("put 256 MiB, one client", Bench.put, LARGE / MIB, "MiB/s"),
        ("get 256 MiB, one client", Bench.get, LARGE / MIB, "MiB/s"),
        ("put 256 MiB, four clients at once", Bench.put_four, 4 * LARGE / MIB, "MiB/s"),
        ("put 500 files of 40 kB", Bench.put_small, SMALL_FILES, "files/s"),
        ("the same from four clients at once", Bench.put_small_four, 4 * SMALL_FILES, "files/s"),
        ("logins, one after another", Bench.logins, LOGINS, "logins/s"),
        ("logins, eight at once", Bench.logins_eight, 3 * LOGINS, "logins/s"),
    ]
    for name, work, amount, unit in works:
        if chosen.only not in name:
            continue
        pairs = [work(bench) for _ in range(chosen.rounds)]
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        ours = amount / statistics.median(pair[1] for pair in pairs)
        theirs = amount / statistics.median(pair[0] for pair in pairs)
        print(
            f"{name:36} {ratio:5.2f}   ours {ours:7.1f} {unit}, theirs {theirs:7.1f}",
            flush=True,
        )
    if chosen.only in "acknowledgements":
        print_acknowledgements(bench)
    if chosen.only in "memory":
        print_memory(bench)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument(
        "--place",
        type=Path,
        default=None,
        help="a new folder of the file system to measure; where much was deleted lately, ext4 takes ten times"
        " as long to make a file, for either server",
    )
    chosen = parser.parse_args()
    template = make_template()
    folder = Path(tempfile.mkdtemp(prefix="sr-b-", dir=chosen.place))
    peer: Peer | None = None
    try:
        room = "max_connections = 300\nmax_connections_per_source = 300"
        place = None if chosen.place is None else folder / "gateway"
        with Gateway(template, sftp=room, place=place) as gateway:
            peer = Peer(folder, gateway.key("acme"))
            bench = Bench(gateway, peer, folder)
            bench.file_one()
            with inspectors(gateway):
                measure(bench, chosen)
    finally:
        if peer is not None:
            peer.close()
        shutil.rmtree(folder)
        shutil.rmtree(template.parent)


if __name__ == "__main__":
    main()
