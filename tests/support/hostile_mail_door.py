"""A mail door taken over by a sender: `hostile_mail_door.py CONFIG TARGETS`.

It is the real door; only its session is replaced by one that answers NOOP with a report of what hostile code
can reach from inside the process. TARGETS is a JSON file of paths, sockets, ports and process ids.
"""

import ctypes
import json
import mmap
import os
import signal
import socket
import struct
import sys
from pathlib import Path

from gateway import config
from gateway.doors.smtp import main, session
from gateway.errors import GatewayError
from gateway.wire.messages import (
    Abandon,
    AuthenticateKey,
    BeginMail,
    Claim,
    ClaimTransfer,
    CommitMail,
    OpenRead,
)

TARGETS = json.loads(Path(sys.argv[2]).read_text("utf-8"))
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


def system(name, number, *arguments):
    if LIBC.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def attempts(connection):
    """Name and act of everything hostile code would try."""
    for path in TARGETS["files"]:
        yield f"read {path}", lambda path=path: os.open(path, os.O_RDONLY)
        yield f"list the folder of {path}", lambda path=path: list(Path(path).parent.iterdir())
        if path.startswith(TARGETS["root"]):  # a broken fence must not cost the tester's machine
            yield f"write {path}", lambda path=path: os.open(path, os.O_WRONLY)
            yield f"remove {path}", lambda path=path: Path(path).unlink()
    yield "write a new file", lambda: os.open("/tmp/sr-hostile-mail", os.O_WRONLY | os.O_CREAT)
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            yield f"a socket {family} {kind}", lambda f=family, k=kind: socket.socket(f, k)
    yield "a pair of sockets", socket.socketpair
    # Sockets that it has, turned to something else.
    descriptors = [int(name) for name in TARGETS["descriptors"]]
    for number in descriptors:
        for path in TARGETS["sockets"]:
            address = struct.pack("H107s", socket.AF_UNIX, path.encode())
            yield (
                f"connect {number} to {path}",
                lambda n=number, a=address: system("connect", 42, n, a, len(a)),
            )
        inet = struct.pack(
            "=H2s4s8x", socket.AF_INET, struct.pack("!H", TARGETS["port"]), b"\x7f\0\0\1"
        )
        yield (
            f"connect {number} to a port",
            lambda n=number, a=inet: system("connect", 42, n, a, len(a)),
        )
        yield f"listen on {number}", lambda n=number: system("listen", 50, n, 1)
        yield f"bind {number}", lambda n=number, a=inet: system("bind", 49, n, a, len(a))
    yield "a program", lambda: os.execv("/bin/true", ["true"])
    yield "a process", os.fork
    for pid in TARGETS["pids"]:
        yield f"signal {pid}", lambda pid=pid: os.kill(pid, 0)
        yield f"memory of {pid}", lambda pid=pid: os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        yield f"trace {pid}", lambda pid=pid: _trace(pid)
        yield f"a handle on {pid}", lambda pid=pid: system("pidfd_open", 434, pid, 0)
    yield "the broker's memory", lambda: os.open(f"/proc/{connection.broker_pid}/mem", os.O_RDONLY)
    yield "a signal to the broker", lambda: os.kill(connection.broker_pid, signal.SIGKILL)
    yield "a ring", lambda: system("io_uring_setup", 425, 8, bytes(120))
    yield "root's rights", lambda: os.setuid(0)
    yield "another root", lambda: os.chroot("/tmp")
    yield "a mount", lambda: system("mount", 165, b"none", b"/tmp", b"tmpfs", 0, None)
    yield "much memory", lambda: mmap.mmap(-1, 4 * 2**30)


async def requests(connection):
    """What the core is asked on connections that the broker gives."""
    for document in TARGETS["documents"]:
        yield f"commit {document}", CommitMail(document, 0, bytes(32), bytes(32))
        yield f"abandon {document}", Abandon(document)
    yield "mail for somebody", BeginMail("::1", "ap@mailer.example", ["mailer@intake.localhost"])
    yield "a login", AuthenticateKey("officer1", "ssh-ed25519", b"x", b"y")
    yield "a claim", Claim()
    yield "a transfer", ClaimTransfer()
    yield "a file", OpenRead("/inbox/x")


def _trace(pid):
    if LIBC.ptrace(16, pid, 0, 0):  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")


async def report(connection):
    """What every attempt met: "reached", or the type of the error."""
    found = {}
    for name, act in dict(attempts(connection)).items():
        try:
            act()
            found[name] = "reached"
        except (OSError, MemoryError, ValueError) as error:
            found[name] = type(error).__name__
    async for name, request in requests(connection):
        core = await connection.connect()
        try:
            await core.call(request)
            found[name] = "reached"
        except GatewayError as error:
            found[name] = type(error).__name__
        finally:
            core.close()
    return found


class HostileSession(session.DoorSession):
    async def _noop(self, _argument):
        self.connect = self._terms.lines._connect
        self.broker_pid = self.connect.__self__.pid
        self._say("250 " + json.dumps(await report(self)))

    async def _help(self, _argument):
        """Turn the listener into a socket that has no peer, and send without connecting first."""
        found = []
        for number in range(3, 40):
            try:
                listener = socket.socket(fileno=os.dup(number))
                if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    continue
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
            for send, data in ((listener.sendmsg, ([b"out"], [])), (listener.sendto, (b"out",))):
                try:
                    send(*data, socket.MSG_FASTOPEN, ("127.0.0.1", TARGETS["port"]))
                    found.append("reached")
                except OSError as error:
                    found.append(error.strerror)
        self._say("214 " + json.dumps(found))


if __name__ == "__main__":
    main.DoorSession = HostileSession
    session._VERBS = {**session._VERBS, "NOOP": HostileSession._noop, "HELP": HostileSession._help}
    main.run(config.load(Path(sys.argv[1])))
