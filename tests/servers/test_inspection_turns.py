"""One client sends what costs all the time there is; another's documents are filed meanwhile."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from gateway.install import demonstration
from tests.servers.gateway_process import installation, running

pytestmark = pytest.mark.skipif(
    shutil.which("scp") is None, reason="the OpenSSH client is not installed"
)

# A pattern that takes minutes over anything that begins with its mark: every document of that kind is a bomb.
RULE = """
rule burn {
    strings: $mark = "BURN"
    condition: $mark at 0 and for all i in (1..9000000000) : ( uint8(i % 4) != 256 )
}
"""
BOMBS = 6


def scp(made, user, *files):
    subprocess.run(
        ["scp", "-q", *made.ssh_options(user), *map(str, files), f"{user}@127.0.0.1:/inbox/"],
        check=True,
        timeout=60,
    )


def test_others_are_served_while_one_client_sends_bombs():
    with installation(
        lambda text: text.replace("[inspect]\n", '[inspect]\nyara_rules = "rules"\n')
    ) as made:
        (made.folder / "rules").mkdir()
        (made.folder / "rules" / "burn.yar").write_text(RULE)
        other = made.demo / "other"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True
        )
        with running(made) as gateway:
            assert made.cli("client", "add", "other", "--name", "Other").returncode == 0
            added = made.cli(
                "account", "add", "other", "--role", "client", "--client", "other",
                "--key", f"{other}.pub",
            )  # fmt: skip
            assert added.returncode == 0, added.stderr
            bombs = []
            for number in range(BOMBS):
                bombs.append(made.folder / f"bomb{number}.txt")
                bombs[-1].write_text(f"BURN {number}")
            scp(made, "acme", *bombs)
            for number in range(4):
                note = made.folder / f"note{number}.txt"
                note.write_bytes(made.sample(demonstration.NOTE).read_bytes() + b"%d" % number)
                scp(made, "other", note)
                made.wait_for(
                    lambda found, name=note.name: any(
                        each["name"] == name and each["state"] == "FILED" for each in found
                    ),
                    30,
                )
            waiting = [
                each
                for each in made.json("document", "list", "--client", "acme")
                if each["state"] == "RECEIVED"
            ]
            assert waiting  # they are still at it
            assert "inspection-timed-out" in {each["reason"] for each in waiting}
            del gateway
