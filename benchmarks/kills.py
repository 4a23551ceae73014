"""Rounds of kills under load: what was acknowledged is there, once, with its bytes.

`python benchmarks/kills.py [--rounds N] [--clients N]`: the whole gateway over loopback, clients that send
small documents one after another, and in each round SIGKILL to one of its processes, the core in every second one;
the supervisor starts it again. At the end every name whose CLOSE was answered with success is looked up.
Prints how many were acknowledged, lost, doubled or different; exits 1 unless these are none, or if `check`
or `ledger verify` finds something. Bounded: N rounds of a few seconds, then all is stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import paramiko

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.servers.gateway_process import Installation, installation, running

ROLES = ("core", "inspect", "core", "sftp", "core", "courier", "core", "smtp")
SECONDS = 4.0  # of a round


class Client(threading.Thread):
    """Sends documents until told to stop; remembers which were acknowledged."""

    def __init__(self, made: Installation, number: int, stop: threading.Event) -> None:
        super().__init__()
        self._made = made
        self._number = number
        self._stopping = stop
        self.acknowledged: dict[str, str] = {}

    def run(self) -> None:
        count = 0
        while not self._stopping.is_set():
            try:
                with paramiko.SSHClient() as ssh:
                    ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
                    ssh.connect(
                        "127.0.0.1", self._made.sftp_port, "acme",
                        key_filename=str(self._made.key("acme")), look_for_keys=False,
                        allow_agent=False, timeout=10, banner_timeout=10, auth_timeout=10,
                    )  # fmt: skip
                    sftp = ssh.open_sftp()
                    while not self._stopping.is_set():
                        count += 1
                        name, data = (
                            f"{self._number}-{count}.txt",
                            os.urandom(random.randint(1, 60_000)),
                        )
                        file = sftp.open(f"/inbox/{name}", "w")
                        file.write(data)
                        file.close()
                        self.acknowledged[name] = hashlib.sha256(data).hexdigest()
            except (OSError, EOFError, paramiko.SSHException):
                time.sleep(0.3)


def kill(made: Installation, role: str) -> bool:
    """SIGKILL to the processes of a role of this installation."""
    found = subprocess.run(
        ["pgrep", "-f", f"{role} -c {made.config}"], capture_output=True, text=True, check=False
    )
    pids = [int(pid) for pid in found.stdout.split()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return bool(pids)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=6)
    wanted = parser.parse_args()
    with installation() as made, running(made):
        stop = threading.Event()
        clients = [Client(made, number, stop) for number in range(wanted.clients)]
        for client in clients:
            client.start()
        killed: Counter[str] = Counter()
        for number in range(wanted.rounds):
            time.sleep(SECONDS)
            role = ROLES[number % len(ROLES)]
            killed[role] += kill(made, role)
        time.sleep(SECONDS)
        stop.set()
        for client in clients:
            client.join()
        time.sleep(2 * SECONDS)
        there: dict[str, list[str]] = {}
        after = ""
        while page := made.json("document", "list", *(["--after", after] if after else [])):
            for each in page:
                there.setdefault(each["name"], []).append(each["sha256"])
            after = page[-1]["id"]
        sent = {name: digest for client in clients for name, digest in client.acknowledged.items()}
        lost = [name for name in sent if name not in there]
        doubled = [name for name in sent if len(there.get(name, [])) > 1]
        different = [
            name for name in sent if there.get(name, [""])[0] != sent[name] and name in there
        ]
        print(f"killed {dict(killed)}")
        print(
            f"acknowledged {len(sent)}, lost {len(lost)}, doubled {len(doubled)}, different {len(different)}"
        )
        sound = [made.cli("check"), made.cli("ledger", "verify")]
        for done in sound:
            print(done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr.strip())
    return int(bool(lost or doubled or different or any(done.returncode for done in sound)))


if __name__ == "__main__":
    sys.exit(main())
