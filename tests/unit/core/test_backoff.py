"""Delays double, end at the longest one, and chance only shortens them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.core.backoff import JITTER, chance, delay

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("failures", "first", "longest", "seconds"),
    [
        (1, 1, 3600, 1),
        (2, 1, 3600, 2),
        (3, 1, 3600, 4),
        (12, 1, 3600, 2048),
        (13, 1, 3600, 3600),
        (1_000_000, 1, 3600, 3600),
        (1, 30, 3600, 30),
        (3, 30, 3600, 120),
        (8, 30, 3600, 3600),
        (1, 60, 10, 10),  # a first delay beyond the longest one
        (21, 1, 10**9, 2**20),
        (22, 1, 10**9, 2**20),  # no further doubling, and no number that grows without end
    ],
)
def test_a_delay_doubles_with_each_failure_up_to_the_longest(failures, first, longest, seconds):
    found = delay(
        failures,
        first=timedelta(seconds=first),
        longest=timedelta(seconds=longest),
        chance=0.0,
    )
    assert found == timedelta(seconds=seconds)


@pytest.mark.parametrize("failures", [1, 2, 12, 13, 40])
def test_chance_takes_off_a_share_and_never_adds(failures):
    whole = delay(failures, longest=HOUR, chance=0.0)
    least = delay(failures, longest=HOUR, chance=1.0)
    assert least == whole * (1 - JITTER)
    assert least < delay(failures, longest=HOUR, chance=0.5) < whole <= HOUR


def test_the_chance_of_a_running_gateway_is_another_each_time():
    drawn = {chance() for _ in range(100)}
    assert len(drawn) == 100
    assert all(0 <= each < 1 for each in drawn)
