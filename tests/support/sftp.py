"""The sftp door and its core as processes of their own, and the real clients that call on them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import paramiko

from gateway.install import create
from gateway.wire.channel import Channel
from gateway.wire.messages import Claim, Classification, Scan, Verdict
from tests.support.core_process import CoreProcess
from tests.support.wire import Admin, inspect_one, until


def make_template() -> Path:
    """An installation with the demo accounts, in a short path (unix sockets are limited to 108 bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp")) / "i"
    create.create(folder, datetime.now(UTC), demo=True)
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Gateway:
    """A core and an sftp door on a copy of an installation, without inspectors."""

    def __init__(
        self,
        template: Path,
        *,
        sftp: str = "",
        store: str = "",
        login: str = 'exempt = ["127.0.0.0/8"]',
        place: Path | None = None,
    ) -> None:
        """`sftp`, `store`, `login`: lines added to those sections; `place`: where it goes (a small disk, say).

        Without a `login` of its own, nothing from this machine is paced or penalised: most tests are about
        something else.
        """
        self._own = None if place else Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
        self.folder = (place or self._own) / "i"
        shutil.copytree(template, self.folder, symlinks=True)
        self.port = free_port()
        self.config = self.folder / "config.toml"
        text = self.config.read_text("utf-8")
        text = text.replace('"127.0.0.1:2222"', f'"127.0.0.1:{self.port}"\n{sftp}')
        text = text.replace("[store]\n", f"[store]\n{store}\n")
        text = text.replace("[login]\n", f"[login]\n{login}\n")
        self.config.write_text(text, "utf-8")
        demo = self.folder / "demo"
        known = (demo / "known_hosts").read_text("ascii").split(" ", 1)[1]
        (demo / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {known}", "ascii")
        self.admin = Admin(self.folder / "run" / "admin.sock", demo)
        self.core: CoreProcess | None = None
        self.door: CoreProcess | None = None

    def start(self) -> Self:
        self.start_core()
        self.start_door()
        return self

    def start_core(self, command: list[str] | None = None) -> None:
        self.core = CoreProcess(self.folder, command)

    def start_door(self) -> None:
        self.door = CoreProcess(
            self.folder, [sys.executable, "-m", "gateway.cli", "sftp", "-c", str(self.config)]
        )

    def close(self) -> None:
        for process in (self.door, self.core):
            if process is not None:
                process.stop()
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── the processes ──

    def children(self) -> list[int]:
        """The door's connection processes."""
        assert self.door is not None
        pid = self.door.process.pid
        return [
            int(child)
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        ]

    def kill_children(self) -> None:
        for pid in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # ── documents ──

    def documents(self) -> dict[str, dict]:
        """What was acknowledged, by name (of one name, the newest)."""
        return {
            document["name"]: document
            for document in self.admin.call("document.list", client="acme")
            if document["state"] != "PARTIAL"
        }

    def partials(self) -> list[dict]:
        return [
            document
            for document in self.admin.call("document.list", client="acme")
            if document["state"] == "PARTIAL"
        ]

    def inspect_all(self) -> None:
        while any(document["state"] == "RECEIVED" for document in self.documents().values()):
            inspect_one(self.folder / "run" / "inspect.sock")

    def file_received(self, record_class: str = "invoice", day: str = "2025-03-01") -> None:
        """Deliver verdicts for what was received as an inspector would, without reading it again."""
        while waiting := {
            document["id"]: document
            for document in self.documents().values()
            if document["state"] == "RECEIVED"
        }:
            # One connection, one document.
            channel = Channel.connect(self.folder / "run" / "inspect.sock", timeout=60)
            try:
                work, descriptors = channel.call(Claim())
                os.close(descriptors[0])
                document = waiting[work.document_id]
                channel.call(
                    Verdict(
                        work.document_id,
                        document["size"],
                        bytes.fromhex(document["sha256"]),
                        scans=[Scan("yara", "clean")],
                        classification=Classification(record_class, 0.95, day),
                    )
                )
            finally:
                channel.close()

    def spooled(self) -> list[Path]:
        """Sealed files that are not settled; those that were made ahead of need have no byte."""
        spool = (self.folder / "vault").rglob("spool/*")
        return [path for path in spool if path.is_file() and path.stat().st_size]

    def stored(self) -> list[Path]:
        return [path for path in (self.folder / "vault").rglob("objects/*/*") if path.is_file()]

    # ── clients ──

    def key(self, user: str) -> Path:
        return self.folder / "demo" / user

    def options(self, user: str) -> list[str]:
        """Options of the OpenSSH clients: this account's key, this gateway's host key, no questions."""
        return [
            "-F", "none",
            "-i", str(self.key(user)),
            "-o", f"UserKnownHostsFile={self.folder / 'demo' / 'known_hosts'}",
            "-o", "StrictHostKeyChecking=yes",
            "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes",
            "-o", "LogLevel=ERROR",
        ]  # fmt: skip

    def sftp_command(self, user: str = "acme", *more: str) -> list[str]:
        return [
            "sftp", *self.options(user), "-P", str(self.port), *more, "-b", "-", f"{user}@127.0.0.1",
        ]  # fmt: skip

    def sftp(
        self, batch: str, user: str = "acme", *, timeout: float = 120
    ) -> subprocess.CompletedProcess:
        """Run a batch of commands with the OpenSSH client."""
        return subprocess.run(
            self.sftp_command(user), input=batch, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip

    @contextlib.contextmanager
    def paramiko(self, user: str = "acme", **options):
        """A paramiko client's SFTP session."""
        transport = paramiko.Transport(("127.0.0.1", self.port), **options)
        try:
            transport.connect(
                username=user, pkey=paramiko.Ed25519Key.from_private_key_file(str(self.key(user)))
            )
            client = paramiko.SFTPClient.from_transport(transport)
            assert client is not None
            yield client
        finally:
            transport.close()


__all__ = ["Gateway", "free_port", "make_template", "until"]
