"""OpenSSH's own regress scripts for sftp and scp, against the door's packet loop through their SFTPSERVER hook.

The scripts are Debian's package openssh-tests; nothing of them is here. They compare files on disk, so the loop
stands on a folder (`tests.support.sftp_server_on_folder`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.sftp_server_on_folder import SERVER
from tests.support.wire import until

REGRESS = Path("/usr/lib/openssh/regress")
ROOT = Path(__file__).parents[2]

# Scripts that apply. Links (hard and symbolic) and copies made by the server are not offered: a document is
# one person's act and stands for itself. What these steps of a script leave behind is listed here, word for word.
APPLY: dict[str, frozenset[str]] = {
    "sftp": frozenset(),
    "sftp-cmds": frozenset({
        "missing file after ln",
        "created file is not equal after ln",
        "missing file after ln -s",
        "created file is not equal after cp",
    }),
    "sftp-badcmds": frozenset(),
    "sftp-batch": frozenset(),
    "sftp-glob": frozenset(),
    "scp": frozenset(),
    "scp3": frozenset(),
    "scp-uri": frozenset(),
}  # fmt: skip

DO_NOT_APPLY: dict[str, str] = {
    "sftp-perm": "tests the options -R, -p and -P of OpenSSH's sftp-server program, and chmod",
    "sftp-uri": "forces internal-sftp inside sshd; the hook is not used",
    "sftp-chroot": "forces internal-sftp inside sshd; the hook is not used",
    "scp-ssh-wrapper": "no test: a program that scp.sh uses",
    "ssh-com-sftp": "needs the client of another vendor, from before 2005",
}


@dataclass
class Bench:
    """A folder the scripts work in, and the server they are given."""

    folder: Path
    log: Path

    def sessions(self) -> int:
        return self.log.read_text("utf-8").count("session begun")

    def run(self, script: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["/bin/sh", REGRESS / "test-exec.sh", self.folder, self.folder / "src" / f"{script}.sh"],
            env={
                "HOME": str(self.folder),
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C",
                "TEST_SHELL": "/bin/sh",
                "BUILDDIR": str(REGRESS),
                "TEST_SSH_SFTPSERVER": str(self.folder / "server"),
                # What the driver takes its test data from; smaller than the real one, which costs time.
                "TEST_SSH_SSHAGENT": str(self.folder / "agent"),
                "TEST_SSH_SFTP": need("sftp"),
                "TEST_SSH_SCP": need("scp"),
                "TEST_SSH_SSHD": need("sshd"),
                "TEST_SSH_UNSAFE_PERMISSIONS": "1",  # /tmp
                "TEST_SSH_QUIET": "yes",
            },
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip


def need(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@pytest.fixture(scope="module")
def bench():
    if not (REGRESS / "test-exec.sh").is_file():
        pytest.skip("openssh-tests is not installed")
    need("sshd")
    with contextlib.suppress(OSError):
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # the driver tries a configuration
    folder = Path(tempfile.mkdtemp(prefix="sr-regress-", dir="/tmp"))
    (folder / "src").mkdir()
    for found in REGRESS.iterdir():
        (folder / "src" / found.name).symlink_to(found)
    for program in ("netcat", "mkdtemp", "check-perm"):
        (folder / program).symlink_to(REGRESS / program)
    for name in APPLY:
        # Their first round is for the older protocol of scp, which never meets the hook.
        text = (REGRESS / f"{name}.sh").read_text("utf-8")
        (folder / "src" / f"{name}.sh").unlink()
        (folder / "src" / f"{name}.sh").write_text(
            text.replace("for mode in scp sftp ;", "for mode in sftp ;"), "utf-8"
        )
    (folder / "agent").write_bytes(os.urandom(70_001))
    (folder / "server").write_text(
        SERVER.format(netcat=folder / "netcat", socket=folder / "socket"), "utf-8"
    )
    for name in ("agent", "server"):
        (folder / name).chmod(0o755)
    log = folder / "server.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.support.sftp_server_on_folder",
                str(folder / "socket"), str(folder),
            ],
            cwd=ROOT, stderr=errors,
        )  # fmt: skip
    try:
        until((folder / "socket").exists)
        yield Bench(folder, log)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


@pytest.mark.parametrize("script", sorted(APPLY))
def test_openssh_regress_script(bench, script):
    """The script passes, but for the steps that make links or copies on the server."""
    before = bench.sessions()
    done = bench.run(script)
    # `fail` of the driver prints one line and goes on; the driver's last line sums up.
    failures = {
        line
        for line in done.stdout.splitlines()
        if re.search(r"fail|missing|corrupt|not equal|present|exist|FATAL|succeeded", line)
        and not re.match(r"\+|cmp:|failed |/usr/bin/scp:", line)
    }
    assert failures == APPLY[script], done.stdout[-3000:]
    assert done.returncode == (1 if APPLY[script] else 0), done.stdout[-3000:]
    assert bench.sessions() > before, "the script never used the server"


def test_every_script_of_the_suite_is_accounted_for():
    """A script for sftp or scp that a newer OpenSSH brings has to be looked at."""
    if not REGRESS.is_dir():
        pytest.skip("openssh-tests is not installed")
    there = {path.stem for path in REGRESS.glob("*.sh") if re.search(r"sftp|scp", path.stem)}
    assert there <= set(APPLY) | set(DO_NOT_APPLY)
    assert set(APPLY) <= there
