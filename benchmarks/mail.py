"""The mail door against Postfix, in the same run, with the same client over loopback.

    python benchmarks/mail.py [--folder DIR] [--rounds 5] [--only ROW]

Ours is the product as shipped: `strongroom run` with the demonstration, inspectors too. Theirs is Postfix
with its own queue in the same folder (the file system to be measured: `--folder`), its durable queue as
shipped (`cleanup` syncs each message before the reply), and the transport `discard`. Both are made anew in a
temporary folder, and removed. Without Postfix (`apt-get install postfix`; its own service need not run) our
figures are printed alone.

Every number of ours includes what an acknowledgement promises (sealing, hashing, fsync of the file and its
folder, the catalogue's commit). A row is a median of rounds, a ratio that of the rounds' ratios (above 1
we are faster): in each round one takes its turn once the other is quiet, so that inspections of the last
round's messages don't slow Postfix. The client sends prepared bytes, each message with other content, waits
for each reply, and is one process a connection; its own processor time a message is printed, and so is that
of the door, the core, and all of Postfix.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import os
import platform
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.install import create

MIB = 1024 * 1024
SENDER, RECIPIENT = "owner@example.com", "acme@intake.localhost"
TICK = os.sysconf("SC_CLK_TCK")
MASTER = Path("/usr/lib/postfix/sbin/master")
PATIENCE = 120.0  # seconds for anything that is waited for


@dataclass(frozen=True)
class Row:
    """`size`: bytes of a message; `each`: messages a client; `kept`: on one connection."""

    name: str
    size: int
    clients: int
    each: int
    kept: bool = False


ROWS = (
    Row("5 kB", 5_000, 4, 50),
    Row("200 kB", 200_000, 4, 25),
    Row("5 MB", 5_000_000, 4, 3),
    Row("5 kB, one client", 5_000, 1, 50),
    Row("5 kB, kept", 5_000, 4, 50, kept=True),
    Row("200 kB, kept", 200_000, 4, 25, kept=True),
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: did not come about within {patience:.0f} s")
        time.sleep(0.05)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(512).startswith(b"220")
    except OSError:
        return False


# ── processes ──


def stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the name: state is 0, parent 1, utime 11 to cstime 14."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(stat(int(entry.name))[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def processor_time(pids: list[int]) -> float:
    """Seconds that these took until now, with those of their children that have ended."""
    ticks = 0
    for pid in pids:
        try:
            ticks += sum(int(field) for field in stat(pid)[11:15])
        except OSError:
            continue
    return ticks / TICK


class Server:
    """What is measured: a process with its children, and a port."""

    process: subprocess.Popen
    port: int

    def parts(self) -> dict[str, list[int]]:
        """The processes whose time is told, by what they are called here."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until it is quiet: what it does after its replies is not the other's to pay."""
        taken = -1.0

        def quiet() -> bool:
            nonlocal taken
            time.sleep(0.5)
            before, taken = taken, processor_time(tree(self.process.pid))
            return taken - before < 0.04

        until(quiet, type(self).__name__)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


class Gateway(Server):
    """`strongroom run` on the demonstration."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        config = create.create(folder / "i", datetime.now(UTC), demo=True)
        self.port = free_port()
        text = config.read_text("utf-8")
        text = text.replace("127.0.0.1:2525", f"127.0.0.1:{self.port}")
        text = text.replace("127.0.0.1:2222", f"127.0.0.1:{free_port()}")
        config.write_text(text, "utf-8")
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "run", "-c", str(config)],
            cwd=Path(__file__).parents[1],
            stdout=self._log,
            stderr=self._log,
        )
        until(lambda: answers(self.port), "the mail door")

    def parts(self) -> dict[str, list[int]]:
        parts: dict[str, list[int]] = {"door": [], "core": [], "inspectors": []}
        names = {"smtp": "door", "core": "core", "inspect": "inspectors"}
        for pid in tree(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # a worker that was replaced meanwhile
            for word in words:
                part = names.get(word.decode(errors="replace"))
                if part:
                    parts[part].append(pid)
                    break
        return parts


MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = intake.localhost
mydestination = intake.localhost
mynetworks = 127.0.0.0/8
local_recipient_maps =
local_transport = discard:
default_transport = discard:
message_size_limit = 67108864
mailbox_size_limit = 0
"""
MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(Server):
    """An instance of its own, with nothing of the machine's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        self.port = free_port()
        config = folder / "etc"
        for name in ("etc", "queue", "data"):
            (folder / name).mkdir(mode=0o755)
        os.chown(folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
        (config / "main.cf").write_text(MAIN_CF.format(folder=folder))
        (config / "master.cf").write_text(MASTER_CF.format(port=self.port))
        subprocess.run(["postfix", "-c", str(config), "check"], check=True, capture_output=True)
        self.process = subprocess.Popen(
            [str(MASTER), "-c", str(config), "-d"],
            env={**os.environ, "MAIL_CONFIG": str(config)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: answers(self.port), "postfix")

    def parts(self) -> dict[str, list[int]]:
        return {"postfix": tree(self.process.pid)}


# ── the client ──


def message(size: int, number: int, payload: bytes) -> bytes:
    """A message of about `size` bytes with a base64 attachment, as it goes after 354."""
    head = (
        f"From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: invoice {number}\r\n"
        f"Message-ID: <{number}.{os.getpid()}.{time.time_ns()}@example.com>\r\n"
        "Date: Fri, 27 Nov 2026 09:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
        "Content-Type: text/plain\r\n\r\nAn invoice is attached.\r\n\r\n--b\r\n"
        'Content-Type: application/octet-stream; name="scan.bin"\r\n'
        'Content-Disposition: attachment; filename="scan.bin"\r\n'
        "Content-Transfer-Encoding: base64\r\n\r\n"
    ).encode()
    first = base64.b64encode(os.urandom(57)) + b"\r\n"
    return head + first + payload[: max(0, (size - len(head)) // 78 - 2) * 78] + b"--b--\r\n.\r\n"


class Talk:
    """One connection, as a plain client has it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect(b"220")
        self._ask(b"EHLO client.example.com\r\n", b"250")

    def _expect(self, code: bytes) -> None:
        reply = b""
        # The last line of a reply has a space after its code.
        while not (reply.endswith(b"\n") and reply[reply.rfind(b"\n", 0, -1) + 1 :][3:4] == b" "):
            got = self._socket.recv(4096)
            if not got:
                raise SystemExit(f"client: expected {code.decode()}, found the end")
            reply += got
        if not reply.startswith(code):
            raise SystemExit(f"client: expected {code.decode()}, found {reply!r}")

    def _ask(self, line: bytes, code: bytes) -> None:
        self._socket.sendall(line)
        self._expect(code)

    def send(self, raw: bytes) -> None:
        self._ask(f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250")
        self._ask(f"RCPT TO:<{RECIPIENT}>\r\n".encode(), b"250")
        self._ask(b"DATA\r\n", b"354")
        self._ask(raw, b"250")

    def quit(self) -> None:
        self._ask(b"QUIT\r\n", b"221")
        self._socket.close()


def client(port: int, row: Row, payload: bytes, barrier, times) -> None:
    messages = [message(row.size, number, payload) for number in range(row.each)]
    barrier.wait(PATIENCE)
    began = time.process_time()
    talk = Talk(port) if row.kept else None
    for raw in messages:
        one = talk or Talk(port)
        one.send(raw)
        if talk is None:
            one.quit()
    if talk is not None:
        talk.quit()
    times.put(time.process_time() - began)


def turn(server: Server, row: Row) -> dict[str, float]:
    """One turn; "seconds" it took, and milliseconds of processor time a message of each part."""
    context = multiprocessing.get_context("fork")
    barrier, times = context.Barrier(row.clients + 1), context.SimpleQueue()
    payload = b"".join(
        base64.b64encode(os.urandom(57)) + b"\r\n" for _ in range(row.size // 78 + 1)
    )
    clients = [
        context.Process(target=client, args=(server.port, row, payload, barrier, times))
        for _ in range(row.clients)
    ]
    for each in clients:
        each.start()
    parts = server.parts()
    before = {name: processor_time(pids) for name, pids in parts.items()}
    barrier.wait(PATIENCE)
    began = time.perf_counter()
    for each in clients:
        each.join(PATIENCE)
        if each.exitcode != 0:
            each.kill()
            raise SystemExit(f"{row.name}: a client failed")
    total = row.clients * row.each
    result = {"seconds": time.perf_counter() - began}
    parts = {name: list({*pids, *server.parts()[name]}) for name, pids in parts.items()}
    for name, pids in parts.items():
        result[name] = 1000 * (processor_time(pids) - before[name]) / total
    result["client"] = 1000 * sum(times.get() for _ in clients) / total
    server.settle()
    return result


# ── the comparison ──


def report(row: Row, ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    total = row.clients * row.each

    def median(turns: list[dict[str, float]], name: str) -> float:
        return statistics.median(each[name] for each in turns)

    rate = total / median(ours, "seconds")
    said = f"{row.name:<18} {rate:7.1f} messages/s {rate * row.size / 1e6:7.1f} MB/s"
    parts = [
        f"{name} {median(ours, name):.2f}" for name in ("door", "core", "inspectors", "client")
    ]
    if theirs:
        ratio = statistics.median(
            b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True)
        )
        said += f"  ratio {ratio:5.2f}  (postfix {total / median(theirs, 'seconds'):7.1f})"
        parts += [f"postfix {median(theirs, 'postfix'):.2f}"]
    print(f"{said}\n{'':18} processor ms a message: {', '.join(parts)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="the row of this name, '5 kB' say")
    parser.add_argument("--alone", action="store_true", help="without Postfix")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    folder.chmod(0o755)  # Postfix's processes run as its own user
    servers: list[Server] = []
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f}"
    )
    try:
        servers.append(Gateway(folder / "ours"))
        if options.alone:
            pass
        elif MASTER.exists() and os.geteuid() == 0:
            servers.append(Postfix(folder / "theirs"))
        else:
            print("Postfix is not installed (or this is not root): our figures alone")
        for server in servers:
            turn(server, Row("warm", 5_000, 4, 5))
        for row in ROWS:
            if options.only not in {"", row.name}:
                continue
            turns: list[list[dict[str, float]]] = [[], []]
            for number in range(options.rounds):
                # Who begins changes from round to round.
                for index in sorted(range(len(servers)), reverse=bool(number % 2)):
                    turns[index].append(turn(servers[index], row))
            report(row, *turns)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
