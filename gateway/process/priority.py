"""Standing back: a process that others shall not wait for, and how long it stood in line itself.

Promises: `stand_back` takes the lowest priority that still gets a share on a machine that is never idle. Not
`SCHED_IDLE`: beside one busy process that leaves 0.3 hundredths of a processor where nice 19 leaves 1.5, and
wakes the other no sooner (docs/performance.md). Input and output follow: without a priority of its own a
process at nice 19 has the last one of the best-effort class.
Leaves out: shares between services, which are control groups' (systemd's units set them).

Sources: sched(7), ioprio_set(2), Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

LAST: Final = 19  # of nice(2)


def stand_back() -> bool:
    """Let everything else go first, in this process and those it forks; whether it does so now.

    Where a unit's filter forbids the calls, it has set the same itself.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, LAST)
    with contextlib.suppress(OSError):
        # Woken by a message, it does not push aside who is at work.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    return os.getpriority(os.PRIO_PROCESS, 0) == LAST


def stood_in_line(pid: int) -> float:
    """Seconds that a process was ready to run and others ran; 0.0 where the kernel doesn't tell."""
    try:
        descriptor = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0.0
    try:
        fields = os.read(descriptor, 100).split()
    except OSError:
        return 0.0
    finally:
        os.close(descriptor)
    return int(fields[1]) / 1e9 if len(fields) > 1 else 0.0
