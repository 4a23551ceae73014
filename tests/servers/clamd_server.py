"""A real clamd for tests: its own configuration, socket and a signature database of one line.

`with clamd_running(folder) as clamd:` gives an object with `address` (for the gateway), `pid` and
`kill()`. The database is made here (an EICAR test signature), never downloaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

CLAMD = shutil.which("clamd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")

# In two pieces, so that a scanner of source trees does not find its own test.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD" + b"-ANTIVIRUS-TEST-FILE!$H+H*"

CONFIGURATION = """\
LocalSocket {folder}/clamd.sock
LocalSocketMode 666
DatabaseDirectory {folder}/db
TemporaryDirectory {folder}/tmp
LogFile {folder}/clamd.log
Foreground yes
MaxThreads 4
SelfCheck 3600
ConcurrentDatabaseReload no
AlertExceedsMax yes
AlertEncrypted yes
AlertEncryptedArchive yes
AlertEncryptedDoc yes
StreamMaxLength {stream_max}
MaxScanSize {scan_max}
MaxFileSize {scan_max}
"""


@dataclass
class Clamd:
    address: str
    pid: int
    process: subprocess.Popen

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop it from doing anything, as an overloaded machine would."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@contextlib.contextmanager
def clamd_running(folder: Path, *, stream_max: str = "25M", scan_max: str = "20M"):
    """Run clamd with everything below `folder` until the block ends."""
    if CLAMD is None:
        raise RuntimeError("clamd: expected it installed, found none")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("db", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    if os.geteuid() == 0:  # it drops to its own user where one is configured
        for path in (folder, folder / "db", folder / "tmp"):
            path.chmod(0o777)
    digest = hashlib.md5(EICAR, usedforsecurity=False).hexdigest()
    (folder / "db" / "test.hdb").write_text(f"{digest}:{len(EICAR)}:Strongroom-Test-Eicar-Hash\n")
    (folder / "db" / "test.ndb").write_text(f"Strongroom-Test-Eicar:0:*:{EICAR.hex()}\n")
    config = folder / "clamd.conf"
    config.write_text(CONFIGURATION.format(folder=folder, stream_max=stream_max, scan_max=scan_max))
    process = subprocess.Popen(
        [CLAMD, "--config-file", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_until_it_answers(folder / "clamd.sock", process, folder / "clamd.log")
        yield Clamd(f"unix:{folder}/clamd.sock", process.pid, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(path: Path, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(str(path))
            probe.sendall(b"zPING\0")
            if probe.recv(16).startswith(b"PONG"):
                return
        time.sleep(0.1)
    text = log.read_text()[-2000:] if log.exists() else "no log"
    raise RuntimeError(f"clamd: expected it to answer, found {text}")
