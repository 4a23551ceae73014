"""Hostile code inside the mail door's process reaches nothing but what a mail door may ask of the core."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import sys
import time
from pathlib import Path

import pytest

from gateway.process.sandbox import probe_sandbox
from tests.servers.test_smtp_door import CLIENT, SENDER, Door, running
from tests.servers.test_smtp_real_core import MailGateway
from tests.support.core_process import CoreProcess

HOSTILE = Path(__file__).parents[1] / "support" / "hostile_mail_door.py"


@pytest.fixture(scope="module", autouse=True)
def fences():
    if not all(probe_sandbox().values()):
        pytest.skip(f"this kernel lacks fences: {probe_sandbox()}")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def taken_over(template, tmp_path_factory):
    """A gateway whose mail door runs hostile code, with a document in it."""
    folder = tmp_path_factory.mktemp("targets")
    gateway = MailGateway(template)
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        gateway.start()
        with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
            client.send_message(gateway.mail(size=50_000))
        gateway.door.stop()
        root = gateway.folder
        vault = [str(path) for path in (root / "vault").rglob("*") if path.is_file()][:40]
        sockets = [str(path) for path in root.rglob("*.sock")]
        assert len(sockets) > 3
        targets = {
            "root": str(root),
            "files": [
                str(root / "root.key"), str(root / "config.toml"), str(root / "demo" / "officer1"),
                "/etc/passwd", "/etc/shadow", "/proc/self/mem", sys.executable, *vault,
            ],
            "sockets": sockets,
            "port": listener.getsockname()[1],
            "descriptors": range(3, 40),
            "pids": [gateway.core.process.pid, os.getpid(), 1],
            "documents": [document["id"] for document in gateway.admin.call("document.list", client="mailer")],
        }  # fmt: skip
        targets["descriptors"] = list(targets["descriptors"])
        (folder / "targets").write_text(json.dumps(targets), "utf-8")
        gateway.door = CoreProcess(
            root, [sys.executable, str(HOSTILE), str(gateway.config), str(folder / "targets")]
        )
        gateway.listener = listener
        yield gateway
    finally:
        listener.close()
        gateway.close()


def test_nothing_can_be_reached_from_inside(taken_over):
    """No file by name, no socket, connection, program, process, signal or trace; nothing of another role."""
    with socket.create_connection(("127.0.0.1", taken_over.port), timeout=60) as peer:
        file = peer.makefile("rb")
        assert file.readline().startswith(b"220 ")
        peer.sendall(b"NOOP\r\n")
        answer = file.readline().decode()
    found = json.loads(re.search(r"\{.*\}", answer)[0])
    assert len(found) > 300
    assert {name: how for name, how in found.items() if how == "reached"} == {}
    assert {found[name] for name in ("a claim", "a login", "a transfer", "a file")} == {
        "Disconnected"
    }
    assert not Path("/tmp/sr-hostile-mail").exists()
    assert taken_over.core.process.poll() is None


def test_the_door_still_takes_mail_afterwards(taken_over):
    with smtplib.SMTP("127.0.0.1", taken_over.port, timeout=60) as client:
        client.send_message(taken_over.mail(size=10))
    assert len(taken_over.received()) == 2


def test_door_and_broker_have_no_capability_and_their_filters_stand(tmp_path):
    with running(tmp_path) as door:
        (broker,) = children(door.process.pid)
        for pid in (door.process.pid, broker):
            found = status(pid)
            rights = {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
            assert rights == {"0" * 16}
            assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_a_core_that_was_restarted_is_found_again(taken_over):
    """Under the fence the door can't connect; the broker, which is outside of it, does."""
    taken_over.core.process.send_signal(signal.SIGKILL)
    taken_over.core.process.wait(10)
    with smtplib.SMTP("127.0.0.1", taken_over.port, timeout=60) as client:
        client.ehlo()
        client.mail("ap@mailer.example")
        assert client.rcpt("mailer@intake.localhost")[0] == 451
    taken_over.core.stop()
    taken_over.core = CoreProcess(taken_over.folder)
    before = len(taken_over.received())
    with smtplib.SMTP("127.0.0.1", taken_over.port, timeout=60) as client:
        client.send_message(taken_over.mail(size=20))
    assert len(taken_over.received()) == before + 1


def test_the_broker_ends_with_its_door(tmp_path):
    with running(tmp_path) as door:
        (broker,) = children(door.process.pid)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{broker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{broker}").exists()


def test_a_door_that_lost_its_broker_ends_so_that_it_is_started_anew(tmp_path):
    door = Door(tmp_path, None)
    try:
        (broker,) = children(door.process.pid)
        os.kill(broker, signal.SIGKILL)
        with door.smtp() as client:
            client.ehlo()
            client.mail(SENDER)
            assert client.rcpt(CLIENT)[0] == 451
        assert door.process.wait(15) == 1
    finally:
        door.stop()


def test_the_listener_can_not_be_made_a_connection_out(taken_over):
    """Comes last: the listener is gone afterwards. Fast open connects without `connect` (sendto(2))."""
    with socket.create_connection(("127.0.0.1", taken_over.port), timeout=60) as peer:
        file = peer.makefile("rb")
        assert file.readline().startswith(b"220 ")
        peer.sendall(b"HELP\r\n")
        found = json.loads(file.readline().decode()[4:])
    assert found == ["Operation not permitted"] * 2
    taken_over.listener.settimeout(0.5)
    with pytest.raises(TimeoutError):
        taken_over.listener.accept()
