"""A core that kills itself at a named step: `killing_core.py CONFIG STEP before|after`.

It is the real core; only an observer of its named steps is added, which ends the process with SIGKILL, so
that nothing is flushed, closed or said.
"""

import os
import signal
import sys
from pathlib import Path

from gateway import config
from gateway.core import main, steps


def kill_at(step: str, phase: str):
    def observer(name: str, now: str) -> None:
        if (name, now) == (step, phase):
            os.kill(os.getpid(), signal.SIGKILL)

    return observer


if __name__ == "__main__":
    steps.observers.append(kill_at(sys.argv[2], sys.argv[3]))
    main.run(config.load(Path(sys.argv[1])))
