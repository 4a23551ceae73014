"""Enters the jail and then tries one hostile act; prints what came of it as JSON. Run by test_jail.

Usage: jail_attempt.py ACT SECRET_FILE
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from gateway.process.sandbox import SandboxLimits, enter_sandbox

MIB = 1024 * 1024


def allocate(size):
    return len([bytearray(16 * MIB) for _ in range(size // (16 * MIB))])


def fork_bomb():
    children = 0
    for _ in range(50):
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        children += 1
    return children


def spawn_thread():
    done = threading.Event()
    threading.Thread(target=done.set).start()
    return done.wait(5)


def write_far(descriptor):
    os.lseek(descriptor, 10 * MIB, os.SEEK_SET)
    return os.write(descriptor, b"x")


def burn():
    while True:
        pass


def dump_core():
    os.abort()


def main() -> None:
    act, secret = sys.argv[1], sys.argv[2]
    held = os.open(secret, os.O_RDWR)
    answer = os.dup(1)
    report = enter_sandbox(
        SandboxLimits(memory=256 * MIB, cpu_seconds=2, file_size=4 * MIB, descriptors=32),
        os.getppid(),
    )
    acts = {
        "read passwd": lambda: Path("/etc/passwd").read_text(),
        "read secret": lambda: Path(secret).read_text(),
        "list home": lambda: list(Path("/root").iterdir()),
        "list vault": lambda: list(Path(secret).parent.iterdir()),
        "read environment": lambda: Path("/proc/self/environ").read_bytes(),
        "read library": lambda: Path(os.__file__).read_text() != "",
        "create file": lambda: Path(secret + ".new").write_text("x"),
        "write file": lambda: Path(secret).write_text("x"),
        "truncate file": lambda: os.truncate(secret, 0),
        "remove file": lambda: Path(secret).unlink(),
        "rename file": lambda: Path(secret).rename(secret + ".new"),
        "link file": lambda: Path(secret + ".new").symlink_to(secret),
        "change mode": lambda: Path(secret).chmod(0o777),
        "change mode of held": lambda: os.fchmod(held, 0o777),
        "change times": lambda: os.utime(secret),
        "write held": lambda: os.write(held, b"x"),
        "write held too far": lambda: write_far(held),
        "inet socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "inet6 datagram": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "exec": lambda: os.execv("/bin/sh", ["sh", "-c", "true"]),
        "spawn": lambda: subprocess.run(["/bin/true"], check=True),
        "fork bomb": fork_bomb,
        "kill parent": lambda: os.kill(os.getppid(), signal.SIGTERM),
        "probe parent": lambda: os.kill(os.getppid(), 0),
        "raise limit": lambda: __import__("resource").setrlimit(7, (4096, 4096)),
        "become root": lambda: os.setuid(0),
        "thread": spawn_thread,
        "allocate a little": lambda: allocate(64 * MIB),
        "allocate too much": lambda: allocate(1024 * MIB),
        "burn": burn,
        "dump core": dump_core,
    }
    try:
        value = acts[act]()
        result = {"did": True, "value": str(value)}
    except BaseException as error:
        result = {"did": False, "error": type(error).__name__}
    result["missing"] = list(report.missing)
    os.write(answer, json.dumps(result).encode())
    os._exit(0)


main()
