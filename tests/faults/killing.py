"""Killed with SIGKILL before and after each named step, from upload to certificate, it recovers.

The journey is driven over the real sockets of a real core process. At the first time the step is reached
the core dies; a fresh one is started on the same store, and the journey goes on from wherever it is.
After the crash and at the end: acknowledged means there, whole and in the ledger; not acknowledged means
absent; nothing is both filed and destroyed; ledger, `check --read-data` and the certificate hold.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from gateway.config import load
from gateway.core.opening import open_core
from gateway.core.sessions.admin import AdminSession
from gateway.core.wings import Wings
from gateway.errors import Disconnected, Refusal
from gateway.wire.messages import AdminCall
from tests.support.core_process import CoreProcess
from tests.support.wire import Admin, Door, inspect_one, until
from vault.certificate.verify import verify_certificate

NOTE = b"Strongroom demonstration note\n\nDate: 2026-11-20\nThis note may be discarded.\n"
KEPT = NOTE.replace(b"demonstration note", b"demonstration statement")
KILLER = Path(__file__).parents[1] / "support" / "killing_core.py"


def _short_folder() -> str:
    return tempfile.mkdtemp(prefix="sr-", dir="/tmp")


class Journey:
    """The whole journey as acts that can be repeated until they have happened."""

    def __init__(self, folder: Path, *, rotating: bool = False) -> None:
        self.folder = folder
        self.rotating = rotating
        self.sockets = folder / "run"
        self.admin = Admin(self.sockets / "admin.sock", folder / "demo")
        self.acknowledged: dict[str, bytes] = {}

    def send(self, name: str, data: bytes) -> None:
        if name in self.acknowledged:
            return
        door = Door(self.sockets / "sftp.sock", "acme", self.folder / "demo" / "acme")
        try:
            door.upload(f"/inbox/{name}", data)
            self.acknowledged[name] = data
        finally:
            door.close()

    def documents(self) -> list[dict]:
        return self.admin.call("document.list", client="acme")

    def inspect_all(self) -> None:
        while any(document["state"] == "RECEIVED" for document in self.documents()):
            inspect_one(self.sockets / "inspect.sock")

    def dispose(self) -> str:
        """Propose, approve, execute whatever of that is still to be done; returns the certificate."""
        batches = self.admin.call("disposal.list")
        if not batches:
            self.admin.call("disposal.propose")
            batches = self.admin.call("disposal.list")
        assert len(batches) == 1, batches
        batch = batches[0]["id"]
        for officer in ("officer1", "officer2"):
            state = self.admin.call("disposal.show", id=batch)
            if state["state"] == "PROPOSED" and officer not in {
                approval["name"] for approval in state["approvals"]
            }:
                self.admin.approve(batch, officer)
        if self.admin.call("disposal.show", id=batch)["state"] == "APPROVED":
            self.admin.call("disposal.execute", by="officer3", id=batch)
        finished = until(
            lambda: (
                (found := self.admin.call("disposal.show", id=batch))["state"] == "DONE" and found
            ),
            60,
        )
        return finished["certificate"]

    def rotate(self) -> None:
        """Change every kind of key; what a crash interrupted goes on by itself."""
        for what in ("groups", "ledger", "root"):
            states = self.rotations(what)
            if not states:
                self.admin.call("keys.rotate", what=what)
            assert until(lambda kind=what: self.rotations(kind) == {"done"}, 60)

    def rotations(self, what: str) -> set[str]:
        shown = self.admin.call("keys.status")["rotations"]
        return {rotation["state"] for rotation in shown if rotation["what"] == what}

    def read_kept(self) -> bytes:
        door = Door(self.sockets / "sftp.sock", "accountant", self.folder / "demo" / "accountant")
        try:
            return door.read("/clients/acme/2026/demonstration-statement/kept.txt")
        finally:
            door.close()

    def run(self) -> str:
        self.send("note.txt", NOTE)
        self.send("kept.txt", KEPT)
        self.inspect_all()
        if self.rotating:
            self.rotate()
        return self.dispose()


def dies_and_recovers(template: Path, step: str, phase: str) -> None:
    """One step, one phase: die there, come back, keep every promise, finish the journey."""
    home = Path(_short_folder())
    folder = home / "i"
    shutil.copytree(template, folder, symlinks=True)
    journey = Journey(folder, rotating=step.startswith("rotate."))
    try:
        # 1. Go until the core dies where it is told to.
        victim = CoreProcess(
            folder, [sys.executable, str(KILLER), str(folder / "config.toml"), step, phase]
        )
        with pytest.raises((Disconnected, Refusal, AssertionError)) as death:
            journey.run()
        assert victim.process.wait(30) == -signal.SIGKILL, (death.value, victim.log())
        # 2. Come back, and hold every promise at once.
        with CoreProcess(folder) as core:
            found = {document["name"]: document for document in journey.documents()}
            for name, data in journey.acknowledged.items():
                if "" in found:  # destroyed: its name is gone with it
                    continue
                assert found[name]["size"] == len(data)
            for name in found:
                # What was not acknowledged is absent, unless the crash came after it was durable.
                assert (
                    name in journey.acknowledged
                    or name == ""
                    or (step, phase) == ("receive.record", "after")
                ), (name, found)
            verified = journey.admin.call("ledger.verify")
            assert verified["findings"] == []
            if journey.rotating:
                # At once, whether the rotation has been taken up again or not.
                assert journey.read_kept() == KEPT
            # 3. Finish the journey.
            certificate = journey.run()
            _check_outcome(journey, certificate)
            core.stop()
        # 4. Read everything, with no core running.
        _check_offline(folder)
    finally:
        shutil.rmtree(home)


def _check_outcome(journey: Journey, certificate: str) -> None:
    documents = journey.documents()
    notes = [document for document in documents if document["record_class"] == "demonstration-note"]
    kept = [document for document in documents if document["name"] == "kept.txt"]
    assert {document["state"] for document in notes} == {"DESTROYED"}
    # A client that was cut off after the commit point sends again: then there are two.
    assert 1 <= len(kept) <= 2
    assert {document["state"] for document in kept} == {"FILED"}
    assert journey.read_kept() == KEPT
    reader = Door(
        journey.sockets / "sftp.sock", "accountant", journey.folder / "demo" / "accountant"
    )
    with pytest.raises(Refusal):
        reader.read("/clients/acme/2026/demonstration-note/note.txt")
    reader.close()
    assert len(journey.admin.call("certificate.list")) == 1
    shown = journey.admin.call("certificate.show", id=certificate)
    report = verify_certificate(shown["json"].encode(), shown["vkey"])
    assert report.passed, report
    destroyed = {document["id"] for document in notes}
    stored = {path.name for path in (journey.folder / "vault/blobs").rglob("*") if path.is_file()}
    assert not destroyed & stored


def _check_offline(folder: Path) -> None:
    """`check --read-data` with no core running: the store is opened here, under its lock."""

    async def check() -> list[dict]:
        core = open_core(load(folder / "config.toml"))
        try:
            answer, _ = await AdminSession(Wings.around(core), None).handle(
                AdminCall("check", {"read_data": True})
            )
            return answer.data["findings"]
        finally:
            core.close()

    assert asyncio.run(check()) == []
