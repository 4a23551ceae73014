"""An sftp door taken over by its client: `hostile_door.py CONFIG TARGETS`.

It is the real door; only its session is replaced by one that answers STAT with a report of what hostile
code can reach from inside a connection's process. TARGETS is a JSON file of paths and process ids.
"""

import ctypes
import json
import mmap
import os
import socket
import sys
from pathlib import Path

from gateway import config
from gateway.doors.sftp import listener, session
from gateway.doors.sftp import protocol as p
from gateway.errors import GatewayError
from gateway.wire.messages import (
    AuthenticateKey,
    BeginMail,
    BeginUpload,
    Claim,
    Commit,
    List,
    OpenRead,
    Stat,
)

TARGETS = json.loads(Path(sys.argv[2]).read_text("utf-8"))


def attempts(core):
    """Name and act of everything hostile code would try."""
    for path in TARGETS["files"]:
        yield f"read {path}", lambda path=path: os.open(path, os.O_RDONLY)
        yield f"list the folder of {path}", lambda path=path: list(Path(path).parent.iterdir())
        if path.startswith(TARGETS["root"]):  # a broken fence must not cost the tester's machine
            yield f"write {path}", lambda path=path: os.open(path, os.O_WRONLY)
            yield f"remove {path}", lambda path=path: Path(path).unlink()
    yield "write a new file", lambda: os.open("/tmp/sr-hostile", os.O_WRONLY | os.O_CREAT)
    yield "a socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    yield "a unix socket", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    yield "a program", lambda: os.execv("/bin/true", ["true"])
    yield "a process", os.fork
    for pid in TARGETS["pids"]:
        yield f"signal {pid}", lambda pid=pid: os.kill(pid, 0)
        yield f"memory of {pid}", lambda pid=pid: os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        yield f"trace {pid}", lambda pid=pid: _trace(pid)
    yield "much memory", lambda: mmap.mmap(-1, 4 * 2**30)
    for path in TARGETS["others"]:
        yield f"stat {path}", lambda path=path: core.call(Stat(path))
        yield f"list {path}", lambda path=path: core.call(List(path))
        yield f"open {path}", lambda path=path: core.call(OpenRead(path))
        yield f"upload {path}", lambda path=path: core.call(BeginUpload(path))
    for document in TARGETS["documents"]:
        yield f"commit {document}", lambda d=document: core.call(Commit(d, 0, bytes(32)))


def last_attempts(core):
    """Each of these ends the connection to the core, so only one is tried per connection."""
    return {
        "login": lambda: core.call(AuthenticateKey("officer1", "ssh-ed25519", b"x", b"y")),
        "claim": lambda: core.call(Claim()),
        "mail": lambda: core.call(BeginMail("::1", "a@b", ["c@d"])),
    }


def _trace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0):  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")


def report(core, last):
    """What every attempt met: "reached", or the type of the error."""
    acts = dict(attempts(core)) if not last else {last: last_attempts(core)[last]}
    found = {}
    for name, act in acts.items():
        try:
            act()
            found[name] = "reached"
        except (OSError, GatewayError, MemoryError, ValueError) as error:
            found[name] = f"{type(error).__name__}"
    return found


class HostileSession(session.SftpSession):
    def answer(self, packet):
        if packet[0] in {p.STAT, p.LSTAT}:
            fields = p.Reader(packet[1:])
            request, path = fields.u32(), fields.path()
            last = path.removeprefix("/").removeprefix("all")
            return p.pack_status(request, p.FAILURE, json.dumps(report(self._core, last)))
        return super().answer(packet)


if __name__ == "__main__":
    listener.SftpSession = HostileSession
    listener.run(config.load(Path(sys.argv[1])))
