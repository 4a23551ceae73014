"""The sandbox of a process that reads hostile bytes.

Promises: after `enter_sandbox` the process can read nothing but the interpreter's and the system's
libraries, write nothing but descriptors it already holds, make no socket, start no process, signal
and trace nobody, gain no privilege, and spend no more memory, CPU and file size than its limits. It
dies with its manager and leaves no core file. `SandboxReport` says which layers hold on this kernel;
where one is missing the others stand.

Leaves out: namespaces and cgroups (systemd's units bring them), and limits on what the descriptors
given to the process can do. Connections (core, antivirus) must be open before.

Rules: layers are set in this order, as each needs what a later one denies: limits, no_new_privs,
capabilities, landlock, seccomp. If a layer that the kernel claims to have can't be set, that is an error.

Sources: landlock(7), seccomp(2), prctl(2), capget(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import site
import stat
import struct
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError
from gateway.process.prctl import (
    LIBC,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_GET_SECCOMP,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    PR_SET_SECCOMP,
    prctl,
)
from gateway.process.seccomp import ringless_program, seccomp_program

_SECCOMP_MODE_FILTER: Final = 2
_LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
_LAST_CAPABILITY: Final = 63


class SandboxError(GatewayError):
    """A layer that this kernel offers could not be set: the worker must not go on."""


MIB: Final = 1024 * 1024
UNLIMITED: Final = resource.RLIM_INFINITY


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What a worker may spend; `UNLIMITED` where a limit does not fit (a process that serves for ever).

    Args:
        memory: bytes of address space beyond what is mapped when the sandbox is entered.
        cpu_seconds: processor time from the start of the process.
        file_size: bytes up to which a file may be written (sealed parts, through descriptors).
        descriptors: open files at once.
    """

    memory: int = 1024 * MIB
    cpu_seconds: int = 120
    file_size: int = 2048 * MIB
    descriptors: int = 64


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """Which layers hold, by name: limits, no_new_privs, capabilities, landlock, seccomp."""

    layers: dict[str, bool]

    @property
    def missing(self) -> tuple[str, ...]:
        """The layers this kernel did not offer."""
        return tuple(name for name, holds in self.layers.items() if not holds)


def enter_sandbox(
    limits: SandboxLimits,
    parent: int | None,
    readable: Sequence[Path] | None = None,
    calls: frozenset[str] = frozenset(),
    tcp_ports: Sequence[int] = (),
) -> SandboxReport:
    """Restrict this process for good.

    Args:
        parent: process id of the manager; if it is gone already, the process ends. None: it has none.
        readable: files and folders that may still be read; None: `readable_folders()`.
        calls: system calls, by name, that this process needs although the filter denies them to others.
        tcp_ports: to which it may connect, of whatever host (landlock 4; `connect` must be in `calls`).

    Raises:
        SandboxError: a layer that the kernel offers could not be set.
    """
    if parent is not None:
        _die_with_parent(parent)
    _set_limits(limits)
    _prctl("dumpable", PR_SET_DUMPABLE, 0)
    _prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1)
    layers = {"limits": True, "no_new_privs": True}
    layers["capabilities"] = _drop_capabilities()
    layers["landlock"] = _landlock(readable_folders() if readable is None else readable, tcp_ports)
    layers["seccomp"] = _seccomp(calls)
    return SandboxReport(layers)


def forgo_rings() -> None:
    """Deny io_uring from now on, before a library that prefers it can begin to use it.

    A ring made before the sandbox would take system calls past its filter; so the filter denies its use, and
    who has built on it must not have it in the first place (libuv).

    Raises:
        SandboxError: a filter that the kernel offers could not be set.
    """
    _prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1)
    _filter(ringless_program(platform.machine()))


def file_limit(size: int) -> int:
    """The limit on files for a process that writes none larger than `size`, unless it is its own log.

    The limit counts for every file, also for a log that grows for years.
    """
    try:
        return UNLIMITED if stat.S_ISREG(os.fstat(2).st_mode) else size
    except OSError:
        return size


def probe_sandbox() -> dict[str, bool]:
    """The layers that this kernel offers, found out without restricting the caller.

    Keys: limits, no_new_privs, capabilities, landlock, landlock_network (ABI 4), landlock_scope
    (ABI 6: signals and abstract sockets), seccomp.
    """
    abi = _landlock_abi()
    seccomp_program(platform.machine(), 0)  # remembered by what forks from here
    pid = os.fork()
    if pid == 0:  # a child tries the filter on itself
        try:
            _prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1)
            os._exit(0 if _seccomp() else 1)
        finally:
            os._exit(1)
    _pid, status = os.waitpid(pid, 0)
    return {
        "limits": True,
        "no_new_privs": True,
        "capabilities": Path("/proc/self/status").exists(),
        "landlock": abi >= 1,
        "landlock_network": abi >= 4,
        "landlock_scope": abi >= 6,
        "seccomp": os.waitstatus_to_exitcode(status) == 0,
    }


def _die_with_parent(parent: int) -> None:
    _prctl("parent death signal", PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked to be told


def _prctl(name: str, option: int, *arguments: int) -> None:
    try:
        prctl(option, *arguments)
    except OSError as error:
        raise SandboxError(
            f"{name}: expected the kernel to set it, found {error.strerror}"
        ) from error


def _reason() -> str:
    return os.strerror(ctypes.get_errno())


# ── limits ───────────────────────────────────────────────────────────────────────────────────────


def _set_limits(limits: SandboxLimits) -> None:
    # With bare calls: a text file's layers would copy pages that this process shares with its manager.
    descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    pages = int(os.read(descriptor, 100).split()[0])
    os.close(descriptor)
    mapped = pages * os.sysconf("SC_PAGE_SIZE")
    for kind, value in (
        (resource.RLIMIT_AS, mapped + limits.memory),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_NOFILE, limits.descriptors),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        # RLIMIT_NPROC counts all processes and threads of the user, so it can't be small where the
        # roles share one; seccomp denies new processes, this holds where there is no seccomp.
        (resource.RLIMIT_NPROC, 4096),
    ):
        if value == UNLIMITED:
            continue
        _soft, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))
    # Writing past the file limit is an error the code can report, not a signal that kills it.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _drop_capabilities() -> bool:
    """Give up every capability, also as root: root without them is an ordinary user."""
    LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails past the kernel's last one
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    if LIBC.capset(header, bytes(24)) != 0:
        raise SandboxError(f"capabilities: expected to drop them, found {_reason()}")
    return True


# ── landlock ─────────────────────────────────────────────────────────────────────────────────────

_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD: Final = 445
_LANDLOCK_RESTRICT: Final = 446
_LANDLOCK_VERSION_FLAG: Final = 1
_LANDLOCK_PATH_BENEATH: Final = 1
_LANDLOCK_NET_PORT: Final = 2
_NET_CONNECT_TCP: Final = 1 << 1
_FS_EXECUTE: Final = 1 << 0  # also what mapping a library needs on some systems
_FS_READ_FILE: Final = 1 << 2
_FS_READ_DIR: Final = 1 << 3
_FS_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15}  # ABI → number of known rights; 5 and up: 16
_NET_RIGHTS: Final = 0b11  # bind and connect TCP, from ABI 4
_SCOPES: Final = 0b11  # abstract sockets and signals, from ABI 6


def _landlock_abi() -> int:
    """The kernel's landlock version; 0 where there is none."""
    version = LIBC.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION_FLAG)
    return max(0, int(version))


def readable_folders() -> list[Path]:
    """What a worker in its sandbox may read: libraries of the interpreter, the system and this program."""
    paths = sysconfig.get_paths()
    folders = {Path(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.update(Path(folder) for folder in site.getsitepackages())
    for package in ("gateway", "vault", "retention_rules"):
        loaded = sys.modules.get(package)
        if loaded is not None and loaded.__file__:
            folders.add(Path(loaded.__file__).parent)
    folders.update(
        Path(folder) for folder in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
    )
    folders.update(Path(item) for item in ("/usr/share/zoneinfo", "/dev/urandom", "/dev/null"))
    return sorted(folder for folder in folders if folder.exists())


def _landlock(folders: Sequence[Path], tcp_ports: Sequence[int]) -> bool:
    abi = _landlock_abi()
    if abi == 0:
        return False
    rights = (1 << _FS_RIGHTS.get(abi, 16)) - 1
    attributes = struct.pack(
        "=QQQ", rights, _NET_RIGHTS if abi >= 4 else 0, _SCOPES if abi >= 6 else 0
    )
    attributes = attributes[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = LIBC.syscall(
        _LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)
    )
    if ruleset < 0:
        if ctypes.get_errno() in {errno.EOPNOTSUPP, errno.ENOSYS}:
            return False  # built in, not switched on
        raise SandboxError(f"landlock: expected a ruleset, found {_reason()}")
    try:
        for folder in folders:
            _allow_reading(ruleset, folder)
        for port in tcp_ports if abi >= 4 else ():
            _allow_connecting(ruleset, port)
        if LIBC.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(0)) != 0:
            raise SandboxError(f"landlock: expected to be restricted, found {_reason()}")
    finally:
        os.close(ruleset)
    return True


def _allow_reading(ruleset: int, folder: Path) -> None:
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _FS_READ_FILE
        if folder.is_dir():
            rights |= _FS_EXECUTE | _FS_READ_DIR
        rule = struct.pack("=Qi", rights, descriptor)
        if LIBC.syscall(_LANDLOCK_ADD, ruleset, _LANDLOCK_PATH_BENEATH, rule, 0) != 0:
            raise SandboxError(f"landlock: expected to allow {folder}, found {_reason()}")
    finally:
        os.close(descriptor)


def _allow_connecting(ruleset: int, port: int) -> None:
    rule = struct.pack("=QQ", _NET_CONNECT_TCP, port)
    if LIBC.syscall(_LANDLOCK_ADD, ruleset, _LANDLOCK_NET_PORT, rule, 0) != 0:
        raise SandboxError(f"landlock: expected to allow port {port}, found {_reason()}")


# ── seccomp ──────────────────────────────────────────────────────────────────────────────────────


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _seccomp(calls: frozenset[str] = frozenset()) -> bool:
    return _filter(seccomp_program(platform.machine(), os.getpid(), calls))


def _filter(program: bytes | None) -> bool:
    if program is None or LIBC.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return False
    fprog = _SockFprog(len(program) // 8, program)
    if LIBC.prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0) != 0:
        if ctypes.get_errno() == errno.EINVAL:
            return False  # strict mode only, no filters
        raise SandboxError(f"seccomp: expected the filter to be taken, found {_reason()}")
    return True
