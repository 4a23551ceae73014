"""Inspection stands back while doors have work, and never stands still."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from gateway.core.inspection import pace
from gateway.core.intake import intake as intake_module
from gateway.core.intake.intake import JUST_NOW, MANY, MOMENT, Intake


def an_intake(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(intake_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return Intake(SimpleNamespace()), clock


def test_a_few_documents_or_many_in_a_long_time_are_no_rush(monkeypatch):
    intake, clock = an_intake(monkeypatch)
    for _ in range(MANY - 1):
        intake.acknowledged()
    assert not intake.busy()
    clock.now += MOMENT
    for _ in range(3 * MANY):
        clock.now += MOMENT / MANY * 1.5
        intake.acknowledged()
        assert not intake.busy()


def test_many_at_once_are_one_until_a_moment_later(monkeypatch):
    intake, clock = an_intake(monkeypatch)
    for _ in range(MANY):
        clock.now += MOMENT / MANY / 2
        intake.acknowledged()
    assert intake.busy()
    clock.now += JUST_NOW
    assert not intake.busy()


async def test_in_a_rush_one_is_handed_out_each_interval_and_then_all(monkeypatch):
    rush = SimpleNamespace(on=True)
    clock = SimpleNamespace(now=0.0)

    async def pass_time(seconds):
        clock.now += seconds

    monkeypatch.setattr(pace, "asyncio", SimpleNamespace(sleep=pass_time))
    handed = pace.Pace(SimpleNamespace(busy=lambda: rush.on), clock=lambda: clock.now)
    times = []
    for _ in range(5):
        await handed.turn()
        times.append(clock.now)
    assert times[0] == 0.0
    assert all(
        pace.INTERVAL <= later - earlier <= 2 * pace.INTERVAL
        for earlier, later in itertools.pairwise(times)
    )
    rush.on = False
    for _ in range(5):
        await handed.turn()
    assert clock.now == times[-1]
