"""A core in its own process, ready when entered."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self


class CoreProcess:
    """Starts a core on an installation and waits until it says that it serves."""

    def __init__(self, folder: Path, command: list[str] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sr-n-", dir="/tmp"))
        self._log = (self._folder / "log").open("w+b")
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notices.bind(str(self._folder / "n"))
        notices.settimeout(60)
        command = command or [
            sys.executable, "-m", "gateway.cli", "core", "-c", str(folder / "config.toml"),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(self._folder / "n"),
                "PYTHONFAULTHANDLER": "1",  # says where it stood if it has to be aborted
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        notices.settimeout(0.2)
        try:
            while True:
                try:
                    if b"READY=1" in notices.recv(4096):
                        break
                except TimeoutError:
                    if self.process.poll() is not None:
                        raise AssertionError(
                            f"the core ended with {self.process.returncode}: {self.log()}"
                        ) from None
        finally:
            notices.close()

    def log(self) -> str:
        return (self._folder / "log").read_text("utf-8", "replace")

    def stop(self) -> None:
        """Ask it to stop; one that does not is aborted, and its stacks are shown."""
        try:
            self._end()
        finally:
            self._log.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(10)
            raise AssertionError(f"the process did not stop: {self.log()}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
