"""How long a document waits for its inspection while another client sends what costs all the time there is.

`python benchmarks/turns.py [--notes N]`: the whole gateway with two inspectors over loopback. One client has
a backlog of documents over which a pattern rule runs for minutes (the worst that any document can do: its
whole processor time); another sends a note now and then. Printed: from the acknowledgement to the filing of
the notes, in seconds, without and with that backlog, and the ratio. Bounded: N notes, then all is stopped.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.install import demonstration
from tests.servers.gateway_process import Installation, installation, running
from tests.servers.test_inspection_turns import RULE, scp

BACKLOG = 40


def wait_of(made: Installation, name: str, content: bytes) -> float:
    """Send a note as the other client; seconds from its receipt to its filing."""
    note = made.folder / name
    note.write_bytes(content)
    scp(made, "other", note)
    found = made.wait_for(
        lambda found: any(each["name"] == name and each["state"] == "FILED" for each in found), 300
    )
    (document,) = [each["id"] for each in found if each["name"] == name]
    shown = made.json("document", "show", document)
    filed, received = (
        datetime.fromisoformat(shown[moment]) for moment in ("state_since", "received_at")
    )
    return (filed - received).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=10)
    notes = parser.parse_args().notes
    with installation(
        lambda text: text.replace("[inspect]\n", '[inspect]\nyara_rules = "rules"\n')
    ) as made:
        (made.folder / "rules").mkdir()
        (made.folder / "rules" / "burn.yar").write_text(RULE)
        key = made.demo / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        with running(made):
            made.json("client", "add", "other", "--name", "Other")
            made.json(
                "account",
                "add",
                "other",
                "--role",
                "client",
                "--client",
                "other",
                "--key",
                f"{key}.pub",
            )
            sample = made.sample(demonstration.NOTE).read_bytes()
            quiet = [wait_of(made, f"quiet{n}.txt", sample + b"q%d" % n) for n in range(notes)]
            bombs = [made.folder / f"bomb{number}.txt" for number in range(BACKLOG)]
            for number, bomb in enumerate(bombs):
                bomb.write_text(f"BURN {number}")
            sending = threading.Thread(target=scp, args=(made, "acme", *bombs))
            sending.start()
            sending.join()
            busy = [wait_of(made, f"busy{n}.txt", sample + b"b%d" % n) for n in range(notes)]
            left = sum(
                each["state"] == "RECEIVED"
                for each in made.json("document", "list", "--client", "acme")
            )
    for name, waits in (("alone", quiet), ("beside the backlog", busy)):
        print(f"{name:20} median {statistics.median(waits):6.2f} s, longest {max(waits):6.2f} s")
    print(f"ratio of medians     {statistics.median(busy) / statistics.median(quiet):.1f}")
    print(f"still in the backlog {left} of {BACKLOG}")


if __name__ == "__main__":
    main()
