"""Hostile code inside a connection's process reaches nothing but its own account's share of the core."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import paramiko
import pytest

from gateway.process.sandbox import probe_sandbox
from tests.support.core_process import CoreProcess
from tests.support.sftp import Gateway

HOSTILE = Path(__file__).parents[1] / "support" / "hostile_door.py"


@pytest.fixture(scope="module", autouse=True)
def fences():
    if not all(probe_sandbox().values()):
        pytest.skip(f"this kernel lacks fences: {probe_sandbox()}")


def ask(gateway: Gateway, path: str, user: str = "acme") -> dict[str, str]:
    with gateway.paramiko(user) as client, pytest.raises(OSError, match=r"\{") as caught:
        client.stat(path)
    found = re.search(r"\{.*\}", str(caught.value))
    assert found is not None
    return json.loads(found[0])


@pytest.fixture(scope="module")
def taken_over(template, tmp_path_factory):
    """A gateway whose door runs hostile code, with a document of acme's in it."""
    folder = tmp_path_factory.mktemp("targets")
    gateway = Gateway(template)
    try:
        gateway.start()
        (folder / "x").write_bytes(b"x" * 50_000)
        assert gateway.sftp(f"put {folder}/x /inbox/\n").returncode == 0
        gateway.file_received()
        gateway.door.stop()
        root = gateway.folder
        vault = [str(path) for path in (root / "vault").rglob("*") if path.is_file()][:40]
        targets = {
            "root": str(root),
            "files": [
                str(root / "root.key"), str(root / "config.toml"), str(root / "demo" / "officer1"),
                "/etc/passwd", "/etc/shadow", "/proc/self/mem", sys.executable, *vault,
            ],
            "pids": [gateway.core.process.pid, 1],
            "others": ["/clients/acme/2025/invoice/x", "/review", "/disposal", "/ledger",
                       "/clients", "/../../etc/passwd", "/inbox/../clients/acme"],
            "documents": [document["id"] for document in gateway.documents().values()],
        }  # fmt: skip
        (folder / "targets").write_text(json.dumps(targets), "utf-8")
        gateway.door = CoreProcess(
            root, [sys.executable, str(HOSTILE), str(gateway.config), str(folder / "targets")]
        )
        yield gateway
    finally:
        gateway.close()


def test_nothing_can_be_reached_from_inside(taken_over):
    """No file by name, no socket, program, process, signal or trace; no path of another role."""
    found = ask(taken_over, "/all")
    assert len(found) > 60
    assert {name: how for name, how in found.items() if how == "reached"} == {}
    assert not Path("/tmp/sr-hostile").exists()
    assert taken_over.core.process.poll() is None


@pytest.mark.parametrize("last", ["login", "claim", "mail"])
def test_a_request_of_another_role_or_login_ends_the_connection(taken_over, last):
    """The core hangs up; the client is told so, or loses its connection before it can be."""
    try:
        found = ask(taken_over, f"/{last}")
    except paramiko.SSHException as error:
        found = {last: "Disconnected"} if "dropped" in str(error) else {last: str(error)}
    assert found == {last: "Disconnected"}


def test_the_door_still_serves_others_afterwards(taken_over):
    done = taken_over.sftp("ls /inbox\n")
    assert "x" in done.stdout
