"""Accepted pairs are remembered as long as the clients' rows are what they were."""

from __future__ import annotations

from gateway.core.intake import acquaintances
from gateway.core.intake.acquaintances import Acquaintance, Acquaintances

NAME, ANOTHER = ("acme", ""), ("other", "")
ACME = Acquaintance("client-1", unlimited=True)
OTHER = Acquaintance("client-2", unlimited=False)


def test_what_was_accepted_is_found_by_its_pair_only():
    known = Acquaintances()
    known.note(1, NAME, "a@x", ACME)
    assert known.find(1, NAME, "a@x") is ACME
    assert known.find(1, NAME, "b@x") is None
    assert known.find(1, ANOTHER, "a@x") is None


def test_a_newer_version_of_the_rows_ends_what_was_known_and_what_is_noted_then_counts():
    known = Acquaintances()
    known.note(1, NAME, "a@x", ACME)
    assert known.find(2, NAME, "a@x") is None
    assert not known.unlimited(2, "client-1")
    known.note(2, ANOTHER, "b@x", OTHER)
    assert known.find(2, NAME, "a@x") is None
    assert known.find(2, ANOTHER, "b@x") is OTHER
    assert not known.unlimited(2, "client-1")


def test_a_read_that_a_change_overtook_is_not_remembered():
    known = Acquaintances()
    known.note(2, ANOTHER, "b@x", OTHER)
    known.note(1, NAME, "a@x", ACME)
    assert known.find(1, NAME, "a@x") is None
    assert known.find(2, NAME, "a@x") is None
    assert not known.unlimited(2, "client-1")


def test_only_a_client_without_any_quota_is_unlimited():
    known = Acquaintances()
    known.note(1, NAME, "a@x", ACME)
    known.note(1, ANOTHER, "b@x", OTHER)
    assert known.unlimited(1, "client-1")
    assert not known.unlimited(1, "client-2")
    assert not known.unlimited(1, "client-3")


def test_as_many_pairs_are_kept_as_are_allowed(monkeypatch):
    monkeypatch.setattr(acquaintances, "MOST", 3)
    known = Acquaintances()
    for number in range(4):
        known.note(1, NAME, f"{number}@x", ACME)
    assert known.find(1, NAME, "3@x") is ACME
    assert known.find(1, NAME, "0@x") is None
