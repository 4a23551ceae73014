"""Locked files in a running gateway: a password at the command line, and documents that it opens in the sandbox."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.scenarios.test_locked import SECRET, locked_pdf
from tests.servers.gateway_process import installation, running

pytestmark = pytest.mark.skipif(
    shutil.which("scp") is None, reason="the OpenSSH client is not installed"
)


def send(made, name, data):
    path = made.folder / name
    path.write_bytes(data)
    subprocess.run(
        ["scp", "-q", *made.ssh_options("acme"), path, "acme@127.0.0.1:/inbox/"],
        check=True,
        timeout=60,
    )


def test_a_password_is_given_by_standard_input_and_opens_what_is_locked():
    with installation() as made, running(made):
        send(made, "first.pdf", locked_pdf())
        (first,) = made.wait_for(lambda found: [each["state"] for each in found] == ["REVIEW"])
        wrong = made.cli("document", "unlock", first["id"], text="no\n")
        assert wrong.returncode == 1
        assert "stays locked" in wrong.stdout
        made.cli(
            "document", "unlock", first["id"], "--deposit", "--label", "all", text=SECRET + "\n"
        )
        send(made, "second.pdf", locked_pdf())
        found = made.wait_for(
            lambda found: (
                sorted((each["name"], each["state"]) for each in found)
                == [("first.pdf", "FILED")] * 2 + [("second.pdf", "FILED")] * 2
            )
        )
        assert sorted(each["record_class"] for each in found) == ["invoice"] * 4
        (kept,) = made.json("client", "password", "list", "acme")
        assert (kept["label"], kept["used"]) == ("all", 2)
        made.cli("client", "password", "remove", "acme", kept["id"])
        assert made.json("client", "password", "list", "acme") == []
        assert made.cli("check").returncode == 0
        for path in made.folder.rglob("*"):
            if path.is_file() and path.suffix in {".log", ".sqlite3", ".sqlite3-wal", ""}:
                assert SECRET.encode() not in path.read_bytes(), path
