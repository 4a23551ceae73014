"""hydra and ssh-audit against a real gateway, while people from the same address log in."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.sftp import Gateway, until

SECRET = "correct horse battery"
BOUND = 2.0  # seconds: what a right login may take meanwhile
ROUNDS = 5


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template, login="") as running:
        for name in ("acme", "newcomer-1", "newcomer-2"):
            running.admin.call(
                *(("account.password",) if name == "acme" else ("account.add",)),
                **({"name": name, "password": SECRET} if name == "acme" else
                   {"name": name, "role": "client", "client": "acme", "password": SECRET}),
            )  # fmt: skip
        yield running


def by_key(gateway: Gateway) -> float:
    """Seconds for a login with OpenSSH and a key, from a process of its own."""
    begun = time.monotonic()
    done = gateway.sftp("ls /\n")
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begun


def by_password(gateway: Gateway, user: str) -> float:
    """The same with a password."""
    script, secret = gateway.folder / "askpass", gateway.folder / "answer"
    secret.touch(mode=0o600)
    secret.write_text(SECRET + "\n", "utf-8")
    script.write_text(f'#!/bin/sh\nexec cat "{secret}"\n', "utf-8")
    script.chmod(0o700)
    command = [word.replace("BatchMode=yes", "BatchMode=no") for word in gateway.sftp_command(user)]
    at = command.index("-b")
    command[at : at + 2] = ["-o", "PreferredAuthentications=password"]
    begun = time.monotonic()
    done = subprocess.run(
        command, input="ls /\n", capture_output=True, text=True, timeout=8, check=False,
        env={**os.environ, "SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force"},
    )  # fmt: skip
    assert "inbox" in done.stdout, done.stderr
    return time.monotonic() - begun


def meanwhile(gateway: Gateway, users: list[str]) -> dict[str, float]:
    """Medians of logins by key and by password, one after the other."""
    keys = [by_key(gateway) for _ in range(ROUNDS)]
    passwords = [
        by_password(gateway, user) for user in itertools.islice(itertools.cycle(users), ROUNDS)
    ]
    return {"key": statistics.median(keys), "password": statistics.median(passwords)}


def guesses(gateway: Gateway) -> int:
    shown = gateway.admin.call("status")["penalised"]
    return sum(each["events"].get("failed", 0) for each in shown)


@pytest.mark.skipif(shutil.which("hydra") is None, reason="hydra is not installed")
def test_while_hydra_guesses_right_logins_from_its_address_take_less_than_two_seconds(
    gateway, tmp_path
):
    """At the very account that logs in, at others, and at none; by people known there and by newcomers."""
    by_password(gateway, "acme")  # acme is known at this address from here on
    (tmp_path / "users").write_text("acme\nofficer1\nroot\nadmin\n", "ascii")
    (tmp_path / "words").write_text("".join(f"guess{n}\n" for n in range(5000)), "ascii")
    hydra = subprocess.Popen(
        ["hydra", "-I", "-t", "16", "-L", "users", "-P", "words", "-s", str(gateway.port),
         "ssh://127.0.0.1"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=(tmp_path / "said").open("wb"),
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: guesses(gateway) >= 5, 20)
        before = guesses(gateway)
        took = meanwhile(gateway, ["acme", "newcomer-1", "newcomer-2"])
        assert hydra.poll() is None, "hydra gave up: nothing was measured"
        assert guesses(gateway) > before, "hydra did nothing meanwhile"
    finally:
        os.killpg(hydra.pid, signal.SIGKILL)  # it has a process for each of its connections
        hydra.wait()
    said = (tmp_path / "said").read_text("utf-8", "replace")
    assert "password:" not in said
    assert took["key"] < BOUND, took
    assert took["password"] < BOUND, took


# The real core, but for what a source has for accounts that are not trusted there: 200 take hydra minutes here.
SPARING = """
import sys
from pathlib import Path
from gateway import config
from gateway.core import main
from gateway.core.login import throttle
throttle.SOURCE = throttle.Size(20, 3600)
main.run(config.load(Path(sys.argv[1])))
"""


class Sparing(Gateway):
    """A gateway at which a source has twenty attempts at accounts, and one an hour after them."""

    def start_core(self, command: list[str] | None = None) -> None:
        super().start_core(command or [sys.executable, "-c", SPARING, str(self.config)])


@pytest.mark.skipif(shutil.which("hydra") is None, reason="hydra is not installed")
def test_a_first_password_is_right_after_hydra_has_spent_what_its_address_shares(
    template, tmp_path
):
    """Forty names: a colleague there whom hydra does not know logs in for the first time."""
    with Sparing(template, login="") as gateway:
        gateway.admin.call(
            "account.add", name="newcomer", role="client", client="acme", password=SECRET
        )
        names = ["acme", "officer1", *(f"name{n}" for n in range(38))]
        (tmp_path / "users").write_text("\n".join(names) + "\n", "ascii")
        (tmp_path / "words").write_text("".join(f"guess{n}\n" for n in range(5000)), "ascii")
        hydra = subprocess.Popen(
            ["hydra", "-I", "-u", "-t", "16", "-L", "users", "-P", "words", "-s", str(gateway.port),
             "ssh://127.0.0.1"],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=(tmp_path / "said").open("wb"),
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            until(lambda: guesses(gateway) >= 60, 40)
            took = by_password(gateway, "newcomer")
            assert hydra.poll() is None, "hydra gave up: nothing was measured"
        finally:
            os.killpg(hydra.pid, signal.SIGKILL)
            hydra.wait()
    assert took < BOUND


AUDIT = Path(sys.executable).with_name("ssh-audit")


@pytest.mark.skipif(not AUDIT.exists(), reason="ssh-audit is not installed")
def test_ssh_audit_finds_connections_paced_and_logins_go_on_meanwhile(gateway):
    """Its rate test (DHEat, CVE-2002-20001) asks for fewer than 20 connections a second."""
    until(lambda: not gateway.children())
    done = subprocess.run(
        [str(AUDIT), "-j", "-p", str(gateway.port), "127.0.0.1"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    notes = " ".join(report.get("additional_notes", []))
    assert "throttling" not in notes, notes
    assert "fail" not in {
        level
        for kind in ("kex", "key", "enc", "mac")
        for each in report[kind]
        for level in each.get("notes", {})
    }
    flood = subprocess.Popen(
        [str(AUDIT), "-p", str(gateway.port), "--conn-rate-test", "16", "127.0.0.1"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(1.5)  # the first second's worth is served at once
        took = meanwhile(gateway, ["acme", "newcomer-1"])
        assert flood.poll() is None, "the flood ended: nothing was measured"
    finally:
        flood.kill()
        flood.wait()
    assert took["key"] < BOUND, took
    assert took["password"] < BOUND, took
