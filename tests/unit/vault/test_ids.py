"""Identifiers: ordered as they were made, spread, and strictly read."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from vault.ids import is_id, made_at, new_id

NOW = datetime(2026, 11, 22, 8, 0, 0, 123000, tzinfo=UTC)


def test_of_two_made_at_one_time_the_later_is_the_greater():
    """Of two versions of a name sent within a millisecond, the newer one is the one that is shown."""
    made = [new_id(NOW) for _ in range(5000)]
    assert made == sorted(set(made))
    assert all(made_at(each) == NOW for each in made)


def test_a_later_time_makes_a_greater_identifier_and_an_earlier_time_a_smaller_one():
    first = new_id(NOW)
    assert new_id(NOW + timedelta(milliseconds=1)) > first > new_id(NOW - timedelta(hours=1))


def test_nobody_guesses_the_next_one():
    """Neighbours of one millisecond are far apart, and never by the same distance."""
    made = [int.from_bytes(new_id(NOW).encode()) for _ in range(200)]
    steps = {after - before for before, after in itertools.pairwise(made)}
    assert len(steps) == 199


@pytest.mark.parametrize(
    "text", ["", "0" * 25, "0" * 27, "8" + "0" * 25, "I" * 26, "a" * 26, "0" * 25 + "\n"]
)
def test_other_texts_are_no_identifiers(text):
    assert not is_id(text)
    with pytest.raises(ValueError, match="identifier: expected"):
        made_at(text)
