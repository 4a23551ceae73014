"""The C library, and prctl(2) with the options that this program uses.

Promises: each number stands here once, under its name in the kernel's headers.
Leaves out: what is done with them (`service`, `sandbox`, `seccomp`).

Sources: prctl(2); include/uapi/linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_GET_SECCOMP: Final = 21
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4  # an argument of PR_CAP_AMBIENT


def prctl(option: int, *arguments: int) -> None:
    """Set something about this process; missing arguments are 0 (raises OSError)."""
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if LIBC.prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
