"""What the programs that people reach the sftp door with have in common in the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.sftp import Gateway

ALL: Final = frozenset({"list", "resume", "rename"})
HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class Outcome:
    """How it ended, and what was said."""

    done: bool
    text: str


class Client:
    """One program. Remote paths are absolute; `user` is an account of the demonstration."""

    can = ALL  # besides uploads and downloads
    refusal = "{}"  # what it shows of a refusal's sentence: all of it, or words of its own

    def __init__(self, gateway: Gateway, home: Path) -> None:
        self.gateway = gateway
        self.home = home

    def upload(self, user: str, local: Path, remote: str) -> Outcome:
        """Send a file."""
        raise NotImplementedError

    def download(self, user: str, remote: str, local: Path) -> Outcome:
        """Fetch a file."""
        raise NotImplementedError

    def listing(self, user: str, folder: str) -> list[str]:
        """The names in a folder."""
        raise NotImplementedError

    def resume(self, user: str, local: Path, remote: str) -> Outcome:
        """Go on with an upload that was interrupted."""
        raise NotImplementedError

    def rename(self, user: str, old: str, new: str) -> Outcome:
        """Rename a file."""
        raise NotImplementedError

    def need(self, program: str) -> str:
        """The program's path; skips the test where it is not installed."""
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"{program} is not installed")
        return found

    def run(self, command: list[str], text: str = "") -> Outcome:
        """Run a program in the client's home, with `text` on its standard input."""
        done = subprocess.run(
            [self.need(command[0]), *command[1:]],
            input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=60, check=False, cwd=self.home,
            env={
                "HOME": str(self.home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8",
                "XDG_CONFIG_HOME": str(self.home), "XDG_CACHE_HOME": str(self.home),
            },
        )  # fmt: skip
        return Outcome(done.returncode == 0, done.stdout)

    @property
    def known_hosts(self) -> Path:
        """A file with every host key. Go's SSH asks for RSA first, whatever the file knows."""
        path = self.home / "known_hosts"
        if not path.exists():
            listed = subprocess.run(
                [self.need("ssh-keyscan"), "-p", str(self.gateway.port), HOST],
                capture_output=True, text=True, timeout=30, check=True,
            ).stdout  # fmt: skip
            pinned = (self.gateway.folder / "demo" / "known_hosts").read_text("ascii").split()[2]
            assert pinned in listed
            path.write_text(listed, "ascii")
        return path

    @property
    def fingerprint(self) -> str:
        """The pinned host key's, as ssh-keygen prints it."""
        known = self.gateway.folder / "demo" / "known_hosts"
        return self.run(["ssh-keygen", "-lf", str(known)]).text.split()[1]


def quoted(*words: str | Path) -> str:
    """Words as the command lines of most of these programs take them."""
    return " ".join(f'"{word}"' for word in words)
