"""Read leases: the kernel's answer to whether anyone could still write into a file.

Promises: what is asked here changes no file, and never ends the process (a broken lease is a signal, which is
made a harmless one). Leaves out what follows from the answer (`vault.storage.blobs`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path
from typing import Final

# What fcntl and open say where there are no leases, no files without a name, or the file is another user's.
NOT_THERE: Final = frozenset(
    {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOLCK, errno.EACCES, errno.EISDIR}
)
_NAMELESS: Final = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC


def has_writer(fd: int) -> bool:
    """Whether any descriptor or mapping, in any process, lets write into the file that `fd` is open on.

    `fd` is read-only and the caller's own. A read lease (fcntl(2), F_SETLEASE) is granted only while nobody
    has the file open for writing; it is given back at once.

    Raises:
        OSError: the file system has no leases, or the file belongs to another user.
    """
    # A writer that opens the file in between breaks the lease, and its holder gets a signal: by default
    # SIGIO, which would end the process; this one is ignored unless someone wants it.
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def tells_writers(directory: Path) -> bool:
    """Whether `has_writer` can be relied on for files in a directory: tried with a file without a name.

    False on a file system without leases, and on one without nameless files (O_TMPFILE): those are the
    network file systems, which may refuse a lease for reasons of their own.

    Raises:
        OSError: it could not be tried.
    """
    try:
        writing = os.open(directory, _NAMELESS, 0o600)
    except OSError as error:
        if error.errno in NOT_THERE - {errno.EACCES}:
            return False
        raise
    try:
        reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            seen = has_writer(reading)
            os.close(writing)
            writing = -1
            return seen and not has_writer(reading)
        except OSError as error:
            if error.errno in NOT_THERE:
                return False
            raise
        finally:
            os.close(reading)
    finally:
        if writing >= 0:
            os.close(writing)
