"""The system-call filter of the sandbox, as a classic BPF program built by hand.

Promises: `seccomp_program` is pure and gives, for the machines it was written for, a program that
allows by default and refuses what `_DENIED` lists with EPERM; another architecture's calls kill.
A caller may leave out single calls of that list, by name.
Leaves out: installing it (`sandbox`), and arguments behind pointers, which a filter can't see.

Rules: every number stands with its name and both machines; what depends on an argument is written
out below the table. Sources: seccomp(2), Linux 6.x system call tables (x86_64; asm-generic for aarch64).
"""

from __future__ import annotations

import errno
import functools
import struct
from typing import Final

from gateway.process.prctl import PR_SET_DUMPABLE, PR_SET_PDEATHSIG

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
_MSG_FASTOPEN: Final = 0x20000000
# name → (number on each machine, which argument holds the flags)
_SENDING: Final = {
    "sendto": ((44, 206), 3),
    "sendmsg": ((46, 211), 2),
    "sendmmsg": ((307, 269), 3),
}


def seccomp_program(machine: str, pid: int, allowed: frozenset[str] = frozenset()) -> bytes | None:
    """The filter as an array of `struct sock_filter`; None for a machine it was not written for.

    Args:
        machine: as `platform.machine()` says it.
        pid: of the process to be filtered: it may signal its own threads.
        allowed: names of denied calls that this process needs after all.

    Raises:
        KeyError: one of `allowed` is not denied.
    """
    if machine not in _AUDIT_ARCH:
        return None
    return _before(machine, allowed) + _pack(_after(machine, pid))


def ringless_program(machine: str) -> bytes | None:
    """A filter that makes a kernel look as if it had no io_uring; None as above."""
    if machine not in _AUDIT_ARCH:
        return None
    program = [
        (_LOAD, 0, 0, _DATA_ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _RET_KILL),
        (_LOAD, 0, 0, _DATA_NUMBER),
    ]
    for name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
        number = _DENIED[name][0 if machine == "x86_64" else 1]
        assert number is not None
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _RET_ENOSYS)]
    return _pack([*program, (_RETURN, 0, 0, _RET_ALLOW)])


def _pack(program: list[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


@functools.cache
def _before(machine: str, allowed: frozenset[str]) -> bytes:
    """The first part of the filter, the same for every process: architecture, and calls always denied."""
    column = 0 if machine == "x86_64" else 1
    program = [
        (_LOAD, 0, 0, _DATA_ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _RET_KILL),  # another architecture's numbers mean other calls
        (_LOAD, 0, 0, _DATA_NUMBER),
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _RET_EPERM)]
    denied = dict(_DENIED)
    for name in allowed:
        del denied[name]
    for numbers in denied.values():
        number = numbers[column]
        if number is not None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _RET_EPERM)]
    # clone3 keeps its flags in memory, out of a filter's sight: libc then falls back to clone.
    program += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _RET_ENOSYS)]
    return _pack(program)


def _after(machine: str, pid: int) -> list[tuple[int, int, int, int]]:
    """The last part of the filter: calls whose arguments decide."""
    column = 0 if machine == "x86_64" else 1
    # clone: threads only.
    program = [
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
    # Sending must not connect: a listener that was shut down is a socket like a new one.
    for numbers, position in _SENDING.values():
        program += [
            (_EQUAL, 0, 4, numbers[column]),
            (_LOAD, 0, 0, _DATA_ARGUMENT + 8 * position),
            (_BITS_SET, 0, 1, _MSG_FASTOPEN),
            (_RETURN, 0, 0, _RET_EPERM),
            (_RETURN, 0, 0, _RET_ALLOW),
        ]
    # prctl: everything but undoing what this module did.
    program += [
        (_EQUAL, 0, 5, _PRCTL[column]),
        (_LOAD, 0, 0, _DATA_ARGUMENT),
        (_EQUAL, 1, 0, PR_SET_DUMPABLE),
        (_EQUAL, 0, 1, PR_SET_PDEATHSIG),
        (_RETURN, 0, 0, _RET_EPERM),
        (_RETURN, 0, 0, _RET_ALLOW),
    ]
    program.append((_RETURN, 0, 0, _RET_ALLOW))
    return program
