"""Killed with SIGKILL just after each named step, it recovers (tests/faults/killing.py says what that means)."""

from __future__ import annotations

import pytest

from gateway.core.steps import STEPS
from tests.faults.killing import dies_and_recovers


@pytest.mark.parametrize("step", STEPS)
def test_it_recovers(template, step):
    """Die there, come back, keep every promise, finish the journey."""
    dies_and_recovers(template, step, "after")
