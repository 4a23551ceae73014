"""The jail of a worker that opens hostile files.

Promises: after `enter_jail` the process can read nothing but the interpreter's and the system's
libraries, write nothing but descriptors it already holds, make no socket, start no process, signal
and trace nobody, gain no privilege, and spend no more memory, CPU and file size than its limits. It
dies with its manager and leaves no core file. `JailReport` says which fences hold on this kernel;
where one is missing the others stand.

Leaves out: namespaces and cgroups (systemd's units bring them), and limits on what the descriptors
given to the process can do. Connections (core, antivirus) must be open before.

Rules: fences go up from the one that needs most to the last: limits, no_new_privs, capabilities,
landlock, seccomp. A failure to raise a fence that the kernel claims to have is an error, not a
shrug. The seccomp filter allows by default and denies by a list, with EPERM: libraries then fail as
on any closed system instead of dying.

Sources: landlock(7), seccomp(2), prctl(2), capget(2), Linux 6.x system call tables (x86_64, aarch64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import site
import struct
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError
from gateway.inspect.document import MIB

_libc: Final = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_GET_SECCOMP: Final = 21
_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_SECCOMP_MODE_FILTER: Final = 2
_LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
_LAST_CAPABILITY: Final = 63


class JailError(GatewayError):
    """A fence that this kernel offers could not be raised: the worker must not go on."""


@dataclass(frozen=True, slots=True)
class JailLimits:
    """What a worker may spend.

    Args:
        memory: bytes of address space beyond what is mapped when the jail is entered.
        cpu_seconds: processor time from the start of the process.
        file_size: bytes up to which a file may be written (sealed parts, through descriptors).
        descriptors: open files at once.
    """

    memory: int = 1024 * MIB
    cpu_seconds: int = 120
    file_size: int = 2048 * MIB
    descriptors: int = 64


@dataclass(frozen=True, slots=True)
class JailReport:
    """Which fences hold, by name: limits, no_new_privs, capabilities, landlock, seccomp."""

    fences: dict[str, bool]

    @property
    def missing(self) -> tuple[str, ...]:
        """The fences this kernel did not offer."""
        return tuple(name for name, holds in self.fences.items() if not holds)


def enter_jail(limits: JailLimits, parent: int) -> JailReport:
    """Restrict this process for good.

    Args:
        parent: process id of the manager; if it is gone already, the process ends.

    Raises:
        JailError: a fence that the kernel offers could not be raised.
    """
    _die_with_parent(parent)
    _set_limits(limits)
    _prctl("dumpable", _PR_SET_DUMPABLE, 0)
    _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)
    fences = {"limits": True, "no_new_privs": True}
    fences["capabilities"] = _drop_capabilities()
    fences["landlock"] = _landlock(readable_folders())
    fences["seccomp"] = _seccomp()
    return JailReport(fences)


def probe_fences() -> dict[str, bool]:
    """What this kernel offers, found out without restricting the caller.

    Keys: limits, no_new_privs, capabilities, landlock, landlock_network (ABI 4), landlock_scope
    (ABI 6: signals and abstract sockets), seccomp.
    """
    abi = _landlock_abi()
    pid = os.fork()
    if pid == 0:  # a child tries the filter on itself
        try:
            _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)
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
    _prctl("parent death signal", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked to be told


def _prctl(name: str, option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) != 0:
        raise JailError(f"{name}: expected the kernel to set it, found {_reason()}")


def _reason() -> str:
    return os.strerror(ctypes.get_errno())


# ── limits ───────────────────────────────────────────────────────────────────────────────────────


def _set_limits(limits: JailLimits) -> None:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
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
        _soft, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))
    # Writing past the file limit is an error the code can report, not a signal that kills it.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _drop_capabilities() -> bool:
    """Give up every capability, also as root: root without them is an ordinary user."""
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails past the kernel's last one
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, bytes(24)) != 0:
        raise JailError(f"capabilities: expected to drop them, found {_reason()}")
    return True


# ── landlock ─────────────────────────────────────────────────────────────────────────────────────

_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD: Final = 445
_LANDLOCK_RESTRICT: Final = 446
_LANDLOCK_VERSION_FLAG: Final = 1
_LANDLOCK_PATH_BENEATH: Final = 1
_FS_EXECUTE: Final = 1 << 0  # also what mapping a library needs on some systems
_FS_READ_FILE: Final = 1 << 2
_FS_READ_DIR: Final = 1 << 3
_FS_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15}  # ABI → number of known rights; 5 and up: 16
_NET_RIGHTS: Final = 0b11  # bind and connect TCP, from ABI 4
_SCOPES: Final = 0b11  # abstract sockets and signals, from ABI 6


def _landlock_abi() -> int:
    """The kernel's landlock version; 0 where there is none."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION_FLAG)
    return max(0, int(version))


def readable_folders() -> list[Path]:
    """What a jailed worker may read: libraries of the interpreter, the system and this program."""
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


def _landlock(folders: list[Path]) -> bool:
    abi = _landlock_abi()
    if abi == 0:
        return False
    rights = (1 << _FS_RIGHTS.get(abi, 16)) - 1
    attributes = struct.pack(
        "=QQQ", rights, _NET_RIGHTS if abi >= 4 else 0, _SCOPES if abi >= 6 else 0
    )
    attributes = attributes[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _libc.syscall(
        _LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)
    )
    if ruleset < 0:
        if ctypes.get_errno() in {errno.EOPNOTSUPP, errno.ENOSYS}:
            return False  # built in, not switched on
        raise JailError(f"landlock: expected a ruleset, found {_reason()}")
    try:
        for folder in folders:
            _allow_reading(ruleset, folder)
        if _libc.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(0)) != 0:
            raise JailError(f"landlock: expected to be restricted, found {_reason()}")
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
        if _libc.syscall(_LANDLOCK_ADD, ruleset, _LANDLOCK_PATH_BENEATH, rule, 0) != 0:
            raise JailError(f"landlock: expected to allow {folder}, found {_reason()}")
    finally:
        os.close(descriptor)


# ── seccomp ──────────────────────────────────────────────────────────────────────────────────────

_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT: Final = 0x40000000
_RET_KILL: Final = 0x80000000
_RET_ALLOW: Final = 0x7FFF0000
_RET_EPERM: Final = 0x00050000 | errno.EPERM
_RET_ENOSYS: Final = 0x00050000 | errno.ENOSYS
_CLONE_THREAD: Final = 0x00010000
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_BITS_SET: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_DATA_NUMBER: Final = 0
_DATA_ARCH: Final = 4
_DATA_ARGUMENT: Final = 16  # of 8 bytes each, the low word first on little-endian machines

# name → (x86_64, aarch64); None where the machine has no such call.
_DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    # no new connections, to anywhere
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "connect": (42, 203),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # no programs and no processes
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    # no other process: tracing, memory, signals, descriptors, limits
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # the file tree's shape and attributes, which landlock does not cover
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    # the kernel's larger surfaces
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "unshare": (272, 97),
    "setns": (308, 268),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_secret": (447, 447),
    "personality": (135, 92),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "syslog": (103, 116),
    # the machine itself
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    # no change of identity
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "capset": (126, 91),
}
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_TGKILL: Final = (234, 131)
_PRLIMIT64: Final = (302, 261)
_PRCTL: Final = (157, 167)


def seccomp_program(machine: str, pid: int) -> bytes | None:
    """The filter as an array of `struct sock_filter`; None for a machine it was not written for.

    Args:
        machine: as `platform.machine()` says it.
        pid: of the process to be filtered: it may signal its own threads.
    """
    if machine not in _AUDIT_ARCH:
        return None
    column = 0 if machine == "x86_64" else 1
    program = [
        (_LOAD, 0, 0, _DATA_ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _RET_KILL),  # another architecture's numbers mean other calls
        (_LOAD, 0, 0, _DATA_NUMBER),
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _RET_EPERM)]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _RET_EPERM)]
    # clone3 keeps its flags in memory, out of a filter's sight: libc then falls back to clone.
    program += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _RET_ENOSYS)]
    # clone: threads only.
    program += [
        (_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _DATA_ARGUMENT),
        (_BITS_SET, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _RET_ALLOW),
        (_RETURN, 0, 0, _RET_EPERM),
    ]
    # tgkill: to itself only (abort). prlimit64: its own limits only.
    for number, allowed in ((_TGKILL[column], pid), (_PRLIMIT64[column], 0)):
        program += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _DATA_ARGUMENT),
            (_EQUAL, 0, 1, allowed),
            (_RETURN, 0, 0, _RET_ALLOW),
            (_RETURN, 0, 0, _RET_EPERM),
        ]
    # prctl: everything but undoing what this module did.
    program += [
        (_EQUAL, 0, 5, _PRCTL[column]),
        (_LOAD, 0, 0, _DATA_ARGUMENT),
        (_EQUAL, 1, 0, _PR_SET_DUMPABLE),
        (_EQUAL, 0, 1, _PR_SET_PDEATHSIG),
        (_RETURN, 0, 0, _RET_EPERM),
        (_RETURN, 0, 0, _RET_ALLOW),
    ]
    program.append((_RETURN, 0, 0, _RET_ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _seccomp() -> bool:
    program = seccomp_program(platform.machine(), os.getpid())
    if program is None or _libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return False
    fprog = _SockFprog(len(program) // 8, program)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0) != 0:
        if ctypes.get_errno() == errno.EINVAL:
            return False  # strict mode only, no filters
        raise JailError(f"seccomp: expected the filter to be taken, found {_reason()}")
    return True
