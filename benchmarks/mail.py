"""How fast the mail door takes messages in: a core and the door on this machine, a client over loopback.

    python benchmarks/mail.py [--folder DIR] [--rounds 3]

Every number includes what an acknowledgement promises (sealing, hashing, fsync of the file and its folder,
the catalogue's commit). It makes an installation with the demonstration in a temporary folder, on the disk
that the store is to be measured on (`--folder`), and removes it. Nothing else should run meanwhile; a row is
the median of the rounds. Inspectors do not run: they would compete for the same processors. The mail client
sends prepared bytes, so that what is measured is the server as far as one machine allows it.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import smtplib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.install import create

MIB = 1024 * 1024
SENDER, RECIPIENT = "owner@example.com", "acme@intake.localhost"
MAIL = ((5_000, 200), (200_000, 60), (5 * MIB, 8))  # message size, messages a connection


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Installation:
    """A core and a mail door, each a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = create.create(folder, datetime.now(UTC), demo=True)
        self.smtp = free_port()
        text = config.read_text("utf-8")
        text = text.replace("127.0.0.1:2525", f"127.0.0.1:{self.smtp}")
        config.write_text(text + '\n[log]\nlevel = "error"\n', "utf-8")
        self.processes = []
        for role in ("core", "smtp"):
            self._start(role, config)

    def _start(self, role: str, config: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            address = self.folder / f"{role}.notify"
            notices.bind(str(address))
            notices.settimeout(60)
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "gateway.cli", role, "-c", str(config)],
                    cwd=Path(__file__).parents[1],
                    env={**os.environ, "NOTIFY_SOCKET": str(address)},
                )
            )
            while b"READY=1" not in notices.recv(4096):
                pass

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(30)


def mail(port: int, size: int, count: int) -> None:
    """One connection, `count` messages one after another."""
    raw = b"Subject: benchmark\r\n\r\n" + (b"x" * 76 + b"\r\n") * (size // 78) + b".\r\n"
    with smtplib.SMTP("127.0.0.1", port, timeout=120) as client:
        client.ehlo()
        for _ in range(count):
            client.mail(SENDER)
            client.rcpt(RECIPIENT)
            client.docmd("DATA")
            client.send(raw)
            code, text = client.getreply()
            if code != 250:
                raise SystemExit(f"message: expected 250, found {code} {text!r}")


def timed_mail(port: int, size: int, count: int, connections: int) -> float:
    threads = [threading.Thread(target=mail, args=(port, size, count)) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    installation = Installation(folder / "i")
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    try:
        for size, count in MAIL:
            for connections in (1, 4):
                seconds = statistics.median(
                    timed_mail(installation.smtp, size, count, connections)
                    for _ in range(options.rounds)
                )
                total = count * connections
                print(
                    f"mail  {size:>9,} bytes x{connections} connections:"
                    f" {total / seconds:8.1f} messages/s  {total * size / seconds / 1e6:7.1f} MB/s"
                )
    finally:
        installation.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
