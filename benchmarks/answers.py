"""Whether the time of an answer tells who exists: medians over alternating probes, and their ratio.

`python benchmarks/answers.py [--probes N]`: a core, an sftp door and a mail door over loopback. Two pairs:
- an unsigned SSH key (RFC 4252, section 7) for an account that has it, for one that has another, and for a
  name that no account has; each on a connection of its own, timed from the request to its answer;
- RCPT of a stranger to a client and to a name that no client has, each on a connection of its own.
A ratio near 1 tells nothing. Within one run the order is alternating, so that a slow moment hits all alike.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko
from paramiko.common import (
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_PK_OK,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_REQUEST,
)
from paramiko.message import Message

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.core_process import CoreProcess
from tests.support.sftp import Gateway, free_port, make_template

SERVICE_ACCEPT = 6
SMTP_LISTEN = '"127.0.0.1:2525"'


class Prober(paramiko.Transport):
    """A client that has exchanged keys, offers one, and notes when the answer came."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port))
        self._came = threading.Event()
        self._at = 0.0
        self.start_client(timeout=20)

    def run(self) -> None:
        read = self.packetizer.read_message

        def noting() -> tuple[int, Message]:
            while True:
                kind, message = read()
                if kind not in {SERVICE_ACCEPT, MSG_USERAUTH_FAILURE, MSG_USERAUTH_PK_OK}:
                    return kind, message
                self._at = time.perf_counter()
                self._came.set()

        self.packetizer.read_message = noting  # type: ignore[method-assign]
        super().run()

    def ask(self, message: Message) -> float:
        """Seconds until the answer."""
        self._came.clear()
        began = time.perf_counter()
        self._send_message(message)
        if not self._came.wait(20):
            raise TimeoutError("no answer")
        return self._at - began

    def probe(self, user: str, blob: bytes) -> float:
        service = Message()
        service.add_bytes(cMSG_SERVICE_REQUEST)
        service.add_string("ssh-userauth")
        self.ask(service)
        message = Message()
        message.add_bytes(cMSG_USERAUTH_REQUEST)
        for text in (user, "ssh-connection", "publickey"):
            message.add_string(text)
        message.add_boolean(False)
        message.add_string("ssh-ed25519")
        message.add_string(blob)
        return self.ask(message)


def key_probe(port: int, user: str, blob: bytes) -> float:
    prober = Prober(port)
    try:
        return prober.probe(user, blob)
    finally:
        prober.close()


def recipient_probe(port: int, slug: str) -> float:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        lines = connection.makefile("rb")
        lines.readline()
        for command in (b"HELO x.example", b"MAIL FROM:<stranger@elsewhere.example>"):
            connection.sendall(command + b"\r\n")
            lines.readline()
        began = time.perf_counter()
        connection.sendall(f"RCPT TO:<{slug}@intake.localhost>\r\n".encode())
        answer = lines.readline()
        took = time.perf_counter() - began
        if not answer.startswith(b"550"):
            raise RuntimeError(f"expected a refusal, found {answer!r}")
        return took


def compare(title: str, probes: int, kinds: dict[str, Callable[[], float]]) -> None:
    """Probe in turns; the first kind is what the others are held against."""
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for act in kinds.values():
        act()  # warm
    for _ in range(probes):
        for kind, act in kinds.items():
            took[kind].append(act())
    medians = {kind: statistics.median(times) for kind, times in took.items()}
    first = next(iter(medians.values()))
    print(f"{title}, {probes} each")
    for kind, median in medians.items():
        quarters = statistics.quantiles(took[kind], n=4)
        print(
            f"  {kind:34} median {median * 1e6:8.0f} µs"
            f"  quartiles {quarters[0] * 1e6:.0f}-{quarters[2] * 1e6:.0f}  ratio {median / first:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=400)
    probes = parser.parse_args().probes
    template = make_template()
    gateway = Gateway(template)
    mail_port = free_port()
    text = gateway.config.read_text("utf-8").replace(SMTP_LISTEN, f'"127.0.0.1:{mail_port}"')
    gateway.config.write_text(text, "utf-8")
    door = None
    try:
        gateway.start()
        command = [sys.executable, "-m", "gateway.cli", "smtp", "-c", str(gateway.config)]
        door = CoreProcess(gateway.folder, command)
        blobs = {
            user: paramiko.PKey.from_path(str(gateway.key(user))).asbytes()
            for user in ("acme", "accountant")
        }
        compare(
            "SSH, an unsigned key",
            probes,
            {
                "no such account": lambda: key_probe(gateway.port, "nobody", blobs["acme"]),
                "an account, another's key": lambda: key_probe(
                    gateway.port, "acme", blobs["accountant"]
                ),
                "an account, its key": lambda: key_probe(gateway.port, "acme", blobs["acme"]),
            },
        )
        compare(
            "SMTP, RCPT of a stranger",
            probes,
            {
                "no such client": lambda: recipient_probe(mail_port, "nobody"),
                "a client": lambda: recipient_probe(mail_port, "acme"),
            },
        )
    finally:
        if door is not None:
            door.stop()
        gateway.close()
        shutil.rmtree(template.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
