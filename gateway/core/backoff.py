"""How long to wait after a failure: one rule for whatever is tried again.

Promises: the delay doubles with each failure in a row, up to a longest one, and is never longer than that. It
is a little shorter by chance, so that what failed together is not tried together again. `delay` is pure: time
and chance are the caller's.

Leaves out: counting failures, and saying of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Final

FIRST: Final = timedelta(seconds=1)
JITTER: Final = 0.25  # the share of a delay that chance may take off
_DOUBLINGS: Final = 20  # 2^20 s are twelve days: more than any longest delay

chance: Final[Callable[[], float]] = random.SystemRandom().random
"""The chance of a running gateway: at least 0 and less than 1, each time another."""


def delay(
    failures: int, *, longest: timedelta, first: timedelta = FIRST, chance: float
) -> timedelta:
    """How long to wait after a number of failures in a row.

    Args:
        failures: how many, the last one included; at least 1.
        longest: what no delay exceeds.
        first: the delay after the first failure.
        chance: at least 0 (the whole delay) and less than 1 (almost `JITTER` of it taken off).

    >>> delay(4, longest=timedelta(hours=1), chance=0.0)
    datetime.timedelta(seconds=8)
    """
    doublings = min(failures - 1, _DOUBLINGS)
    return min(first * (1 << doublings), longest) * (1 - JITTER * chance)
