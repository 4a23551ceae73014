"""A clock that jumps while the core is down: nothing falls due under it, and intake goes on.

libfaketime gives the whole gateway another time; a restart under it is what an administrator's slip, a dead
battery or a wrong time server does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers.gateway_process import Installation, installation, running

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

pytestmark = pytest.mark.skipif(
    FAKETIME is None or shutil.which("faketime") is None,
    reason="libfaketime is not installed (Debian: faketime)",
)


def under(monkeypatch: pytest.MonkeyPatch, offset: str) -> None:
    """Have every process started from now on live at an offset (`+40d`); none: the right time."""
    if not offset:
        for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
            monkeypatch.delenv(name, raising=False)
        return
    assert FAKETIME is not None
    monkeypatch.setenv("LD_PRELOAD", os.fspath(FAKETIME))
    monkeypatch.setenv("FAKETIME", offset)
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")


def put(made: Installation, name: str) -> None:
    """Put a document into the demonstration client's inbox."""
    done = subprocess.run(
        ["sftp", "-q", "-b", "-", *made.ssh_options("acme"), "acme@127.0.0.1"],
        input=f"put {made.sample('invoice.xml')} /inbox/{name}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def refused_everywhere(made: Installation, words: str) -> None:
    status = made.admin.call("status")
    assert not status["clock"]["believed"]
    assert words in status["clock"]["reason"]
    proposed = made.cli("disposal", "propose")
    assert proposed.returncode == 1
    assert "clock: expected" in proposed.stderr
    assert "clock confirm" in proposed.stderr
    doctor = json.loads(made.cli("doctor", "--json").stdout)
    assert [each["level"] for each in doctor if each["subject"] == "clock"] == ["problem"]


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        ("+40d", "ahead of the newest time known right"),
        ("+15y", "ahead of the newest time known right"),
        ("-1d", "behind the newest time known right"),
        ("-5y", "behind the newest time known right"),
    ],
)
def test_a_jump_over_a_restart_stops_what_ends_anything_until_an_officer_says_it_is_right(
    monkeypatch, offset, words
):
    with installation() as made:
        with running(made, "core"):
            assert made.admin.call("clock.show")["believed"]
        under(monkeypatch, offset)
        with running(made, "core", "sftp") as gateway:
            put(made, "under-a-wrong-clock.xml")  # intake goes on
            assert len(made.admin.call("document.list")) >= 1
            refused_everywhere(made, words)
            assert "nothing is ended or removed" in gateway.stderr("core")
            console = made.cli("clock", "confirm", "--reason", "by the console")
            assert console.returncode == 1
            assert "expected one of officer" in console.stderr
        # Set right again it is still the officer's to say so: entries were written meanwhile.
        under(monkeypatch, "")
        with running(made, "core"):
            refused_everywhere(made, words)
            made.json("clock", "confirm", "--reason", "battery", *made.signed("officer1"))
            assert made.admin.call("clock.show")["believed"]
            assert made.cli("disposal", "propose").returncode == 0
        with running(made, "core"):
            assert made.admin.call("clock.show")["believed"]


def test_a_day_is_a_plausible_absence_and_a_machine_that_ran_on_is_told(monkeypatch):
    with installation() as made:
        with running(made, "core"):
            pass
        under(monkeypatch, "+1d")
        with running(made, "core"):
            clock = made.admin.call("clock.show")
            assert clock["believed"]
            assert clock["moved_hours"] == pytest.approx(24, abs=0.2)
            assert made.cli("disposal", "propose").returncode == 0


def test_a_real_absence_of_sixty_days_goes_on_once_an_officer_has_said_so(monkeypatch):
    with installation() as made:
        with running(made, "core"):
            pass
        under(monkeypatch, "+60d")
        with running(made, "core"):
            refused_everywhere(made, "60 days ahead")
            made.json("clock", "confirm", "--reason", "office moved", *made.signed("officer2"))
            assert made.cli("disposal", "propose").returncode == 0
        with running(made, "core"):
            assert made.admin.call("clock.show")["believed"]
            assert made.cli("ledger", "export", "out.jsonl").returncode == 0
            (entry,) = [
                line
                for line in (made.folder / "out.jsonl").read_text("utf-8").splitlines()
                if "clock.confirmed" in line
            ]
            assert "console" not in entry
