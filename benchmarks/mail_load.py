"""The mail door under load: memory while many large messages arrive, and service while others hold places.

    python benchmarks/mail_load.py [--folder DIR] [--messages 20] [--size 50] [--idle 1000]

A core and a mail door of their own, as configured by `strongroom init`, over loopback, in a temporary folder
that is removed. It asks for two things, and ends with 1 where one does not hold:
- `--messages` messages of `--size` MB that arrive at once: the door's peak memory stays below 80 MB;
- `--idle` connections that say nothing, from many sources: each is held or refused, and a real sender's
  message is acknowledged within 2 seconds, ten times, while they stand.
It loads the machine for half a minute or so.
"""

from __future__ import annotations

import argparse
import contextlib
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

MB = 1_000_000
SENDER, RECIPIENT = "owner@example.com", "acme@intake.localhost"
MOST_MEMORY = 80 * MB
MOST_SECONDS = 2.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise SystemExit("mail_load: expected the door to listen, found it silent")
        time.sleep(0.1)


def memory(pid: int) -> tuple[int, int]:
    """(peak, now) of a process in bytes."""
    text = Path(f"/proc/{pid}/status").read_text("ascii")

    def of(name: str) -> int:
        return int(text.partition(f"{name}:")[2].split()[0]) * 1024

    return of("VmHWM"), of("VmRSS")


def send(port: int, number: int, size: int, failed: list[str]) -> None:
    """One message, written in pieces: the client's own memory is not what is measured."""
    line = (b"%06d" % number + b"x" * 70 + b"\r\n") * 1000
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=300, source_address=(source(number), 0)) as to:
            to.ehlo()
            to.mail(SENDER)
            to.rcpt(RECIPIENT)
            to.docmd("DATA")
            sent = 0
            while sent < size:
                to.sock.sendall(line)
                sent += len(line)
            to.sock.sendall(b".\r\n")
            code, said = to.getreply()
            if code != 250:
                failed.append(f"{code} {said.decode()}")
    except (OSError, smtplib.SMTPException) as error:
        failed.append(repr(error))


def source(number: int) -> str:
    """Sources on the loopback, sixteen connections each at most, a few to a network."""
    return f"127.{1 + number // 2000}.{number // 8 % 250}.{1 + number % 8}"


def large(port: int, door: int, messages: int, size: int) -> bool:
    before = memory(door)[1]
    failed: list[str] = []
    clients = [
        threading.Thread(target=send, args=(port, number, size * MB, failed))
        for number in range(messages)
    ]
    began = time.monotonic()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.monotonic() - began
    peak = memory(door)[0]
    print(
        f"{messages} messages of {size} MB at once: {seconds:.1f} s,"
        f" {messages * size / seconds:.0f} MB/s; door {before / MB:.0f} MB before, {peak / MB:.0f} MB peak;"
        f" failed: {failed or 'none'}"
    )
    return peak <= MOST_MEMORY and not failed


def crowded(port: int, idle: int) -> bool:
    held, refused, crowd = 0, 0, []
    for number in range(idle):
        try:
            peer = socket.create_connection(("127.0.0.1", port), 20, (source(number), 0))
            crowd.append(peer)
            said = peer.recv(200)
        except OSError:
            said = b""
        held += said.startswith(b"220")
        refused += not said.startswith(b"220")
    seconds, failed = [], []
    for number in range(10):
        began = time.monotonic()
        try:
            with smtplib.SMTP(
                "127.0.0.1", port, timeout=30, source_address=("127.200.1.1", 0)
            ) as to:
                to.sendmail(SENDER, [RECIPIENT], f"Subject: {number}\r\n\r\nreal\r\n")
        except (OSError, smtplib.SMTPException) as error:
            failed.append(repr(error))
        seconds.append(time.monotonic() - began)
    for peer in crowd:
        peer.close()
    print(
        f"{idle} idle connections: {held} greeted, {refused} refused; ten messages meanwhile:"
        f" median {statistics.median(seconds):.3f} s, longest {max(seconds):.3f} s;"
        f" failed: {failed or 'none'}"
    )
    return max(seconds) <= MOST_SECONDS and not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--messages", type=int, default=20)
    parser.add_argument("--size", type=int, default=50, help="MB of a message")
    parser.add_argument("--idle", type=int, default=1000)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sr-load-", dir=options.folder))
    folder, port, started = place / "i", free_port(), []
    try:
        create.create(folder, datetime.now(UTC), demo=True)
        config = folder / "config.toml"
        text = config.read_text("utf-8").replace("127.0.0.1:2525", f"127.0.0.1:{port}")
        config.write_text(text, "utf-8")
        for role in ("core", "smtp"):
            command = [sys.executable, "-m", "gateway.cli", role, "-c", str(config)]
            with (place / f"{role}.log").open("wb") as log:
                started.append(subprocess.Popen(command, stderr=log, cwd=Path(__file__).parents[1]))
            if role == "core":
                deadline = time.monotonic() + 60
                while not (folder / "run" / "smtp.sock").exists():
                    if time.monotonic() > deadline:
                        raise SystemExit("mail_load: expected the core to serve, found it silent")
                    time.sleep(0.1)
        wait_for_port(port)
        right = large(port, started[1].pid, options.messages, options.size)
        right &= crowded(port, options.idle)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)
        shutil.rmtree(place, ignore_errors=True)
    raise SystemExit(not right)


if __name__ == "__main__":
    main()
