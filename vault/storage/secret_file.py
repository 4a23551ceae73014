"""Access to a file that holds a secret: its owner's, and nobody else's.

Promises: one rule for every such file: a root key, a token's PIN, what opens a place, a person's key.
Leaves out: opening and reading it; each caller raises an error of its own.

Rules:
    1. A regular file, of this process's user or root's.
    2. Nobody else has access: mode 0600 or 0400. OpenSSH asks the same of a private key.
    3. What systemd provides as a credential gives the service's user its right by the group bits: 0440 too.
"""

from __future__ import annotations

import os
import stat
from typing import Final

OTHERS: Final = 0o077
_OTHERS_OF_CREDENTIAL: Final = 0o037


def mode_fault(mode: int, *, credential: bool = False) -> str | None:
    """What is wrong with a secret file's mode (expected, found), or None.

    Args:
        mode: as `os.stat_result.st_mode` has it.
        credential: whether systemd provided the file (rule 3).
    """
    if not mode & (_OTHERS_OF_CREDENTIAL if credential else OTHERS):
        return None
    allowed = "0600, 0400 or 0440" if credential else "0600 or 0400 (access for nobody else)"
    return f"expected mode {allowed}, found {stat.S_IMODE(mode):04o}"


def fault(status: os.stat_result, *, credential: bool = False) -> str | None:
    """What is wrong with a secret file's kind, mode or owner (expected, found), or None."""
    if not stat.S_ISREG(status.st_mode):
        return "expected a regular file, found another kind"
    if found := mode_fault(status.st_mode, credential=credential):
        return found
    if status.st_uid not in {os.geteuid(), 0}:
        return f"expected owner {os.geteuid()} or 0, found {status.st_uid}"
    return None
