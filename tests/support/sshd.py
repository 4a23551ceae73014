"""OpenSSH's server over loopback, as the far end of an SFTP place."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAM = shutil.which("sshd") or "/usr/sbin/sshd"
MISSING = None if Path(PROGRAM).is_file() else "sshd is not installed"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ssh_key(path: Path) -> Path:
    """Make an Ed25519 key pair at `path` (mode 0600)."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


class Sshd:
    """One server; `stop` and `start` as often as wanted, always on the same port with the same host key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.user = getpass.getuser()
        self.key = ssh_key(folder / "client")
        self.host_key = (ssh_key(folder / "host").with_suffix(".pub")).read_text().strip()
        self.home = folder / "home"
        self.home.mkdir()
        shutil.copy(folder / "client.pub", folder / "authorized")
        if Path("/run").stat().st_uid == os.geteuid():
            Path("/run/sshd").mkdir(exist_ok=True)
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\n"
            f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\n"
            "PidFile none\nSubsystem sftp internal-sftp\nPermitRootLogin yes\nLogLevel ERROR\n"
        )
        self.process: subprocess.Popen | None = None
        self.start()

    def address(self, path: Path | None = None) -> str:
        return f"sftp://{self.user}@127.0.0.1:{self.port}{path or self.home}"

    def start(self) -> None:
        command = [PROGRAM, "-D", "-e", "-f", str(self.folder / "config")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        scan = ["ssh-keyscan", "-T", "2", "-p", str(self.port), "127.0.0.1"]
        deadline = time.monotonic() + 20
        while not subprocess.run(scan, capture_output=True, check=False).stdout:
            assert time.monotonic() < deadline, "sshd does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and the sessions it has."""
        if self.process is None:
            return
        listed = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        for child in listed.stdout.split():
            subprocess.run(["kill", "-9", child], check=False, capture_output=True)
        self.process.terminate()
        self.process.wait()
        self.process = None
