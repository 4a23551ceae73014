"""An installation with the demonstration, and the gateway running on it, for tests over real sockets.

    with installation() as made, running(made) as gateway:       # everything, as `strongroom run`
    with installation() as made, running(made, "core"):          # only these roles, in this order
        made.json("document", "list")

`made` runs the command line (`cli`, `json`), knows the demonstration's keys (`key`) and how to reach the
doors (`ssh_options`, `sftp_port`, `smtp_port`). `gateway` has what the roles wrote (`stderr`, `stdout`) and
stops or kills them by process id. Leaving the blocks stops what still runs and removes the folder.

The folder is a short one below /tmp: a unix socket's path may have 107 bytes. Making a store takes seconds
(its host keys), so one is made per test run and copied; all installations of a run share those keys.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.install import create, demonstration
from tests.support.wire import Admin

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass
class Installation:
    """An installation in a folder of its own, with the demonstration."""

    folder: Path
    sftp_port: int
    smtp_port: int

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def admin(self) -> Admin:
        """Acts of the console, without a process of the command line for each."""
        return Admin(self.folder / "run" / "admin.sock", self.demo)

    @property
    def demo(self) -> Path:
        return self.folder / demonstration.FOLDER

    def key(self, name: str) -> Path:
        """The private key of a demonstration account."""
        return self.demo / name

    def sample(self, name: str) -> Path:
        """A sample document of the demonstration."""
        return self.demo / demonstration.SAMPLES / name

    def ssh_options(self, name: str) -> list[str]:
        """Options for sftp and scp to log in as a demonstration account (the port: `-P`)."""
        known = self.demo / "known_hosts"
        return [
            "-P", str(self.sftp_port), "-i", str(self.key(name)), "-o", "IdentitiesOnly=yes",
            "-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=/dev/null",
            "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
        ]  # fmt: skip

    def signed(self, name: str) -> list[str]:
        """`--as` and `--key` of a demonstration account."""
        return ["--as", name, "--key", str(self.key(name))]

    def configure(self, edit: Callable[[str], str]) -> None:
        """Change the configuration's text."""
        self.config.write_text(edit(self.config.read_text("utf-8")), "utf-8")

    def cli(
        self, *arguments: str, text: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `strongroom` on this installation, in this folder."""
        return subprocess.run(
            [sys.executable, "-m", "gateway.cli", *arguments, "-c", str(self.config)],
            cwd=self.folder,
            env=environment(),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """The JSON result of a command that must succeed."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, f"strongroom {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout)

    def wait_for(self, condition: Callable[[list[Any]], bool], seconds: float = 60) -> list[Any]:
        """The document list, once it fulfils a condition."""
        deadline = time.monotonic() + seconds
        while True:
            documents: list[Any] = self.admin.call("document.list")
            if condition(documents):
                return documents
            assert time.monotonic() < deadline, f"after {seconds} s the documents are {documents}"
            time.sleep(0.1)


@dataclass
class Gateway:
    """Processes of a running gateway, by role (`run` for all in one)."""

    made: Installation
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, role: str) -> None:
        """Start a role and wait until it serves; AssertionError with its last words if it does not."""
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = self.made.folder / f"n-{role}"
        address.unlink(missing_ok=True)
        notices.bind(str(address))
        notices.settimeout(0.1)
        with (
            notices,
            self._log(role, "out").open("ab") as out,
            self._log(role, "err").open("ab") as err,
        ):
            announced = out.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", role, "-c", str(self.made.config)],
                cwd=self.made.folder,
                env={**environment(), "NOTIFY_SOCKET": str(address)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
            self.processes[role] = process
            deadline = time.monotonic() + START_SECONDS
            while not self._ready(role, notices, announced):
                assert process.poll() is None, f"{role} ended: {self.stderr(role)}"
                assert time.monotonic() < deadline, f"{role} is not ready: {self.stderr(role)}"

    def _ready(self, role: str, notices: socket.socket, announced: int) -> bool:
        try:
            data = notices.recv(4096)
        except TimeoutError:
            data = b""
        if role != "run":
            return b"READY=1" in data
        # The supervisor keeps its roles' notices to itself, and says in words that all of them serve.
        return b"Strongroom serves" in self._log(role, "out").read_bytes()[announced:]

    def stop(self, role: str) -> int:
        """Ask a role to stop; its exit code."""
        process = self.processes.pop(role)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{role} did not stop: {self.stderr(role)}") from None

    def kill(self, role: str) -> None:
        """End a role as a crash would."""
        process = self.processes.pop(role)
        process.kill()
        process.wait()

    def stop_all(self) -> None:
        """Stop everything that still runs, in the reverse order of its start."""
        for role in reversed(list(self.processes)):
            self.stop(role)

    def stdout(self, role: str = "run") -> str:
        return self._log(role, "out").read_text("utf-8", "replace")

    def stderr(self, role: str = "run") -> str:
        return self._log(role, "err").read_text("utf-8", "replace")

    def _log(self, role: str, kind: str) -> Path:
        return self.made.folder / f"{role}.{kind}"


@contextmanager
def installation(edit: Callable[[str], str] | None = None) -> Iterator[Installation]:
    """An installation on free ports, removed at the end.

    Args:
        edit: changes the configuration's text.
    """
    folder = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    try:
        shutil.copytree(_template(), folder, dirs_exist_ok=True)
        sftp_port, smtp_port = free_ports(2)
        made = Installation(folder, sftp_port, smtp_port)
        made.configure(
            lambda text: text.replace(":2222", f":{sftp_port}").replace(":2525", f":{smtp_port}")
        )
        known = made.demo / "known_hosts"
        known.write_text(known.read_text("ascii").replace("]:2222 ", f"]:{sftp_port} "), "ascii")
        if edit is not None:
            made.configure(edit)
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(made: Installation, *roles: str) -> Iterator[Gateway]:
    """The gateway on an installation: `strongroom run`, or the roles named, each ready."""
    gateway = Gateway(made)
    try:
        for role in roles or ("run",):
            gateway.start(role)
        yield gateway
    finally:
        gateway.stop_all()


def environment() -> dict[str, str]:
    """This process's environment, with the source tree where a child process finds it."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody listened on a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sr-t-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    create.create(folder, datetime.now(UTC), demo=True)
    return folder
