"""Penalties: guesses are bounded and remembered, and nobody pays for a neighbour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.login import throttle as p
from gateway.core.login.throttle import Penalties
from gateway.process.sources import parse_networks

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
OFFICE, HOME = "192.0.2.1", "198.51.100.9"


@pytest.fixture
def book():
    return Penalties(timedelta(seconds=600))


def guesses(book, peer, account, count, now=NOW):
    """So many wrong guesses; how many were looked at."""
    seen = 0
    for _ in range(count):
        seen += book.guess(peer, account, now).looked_at
        book.wrong(peer, account, now)
    return seen


def test_guesses_of_one_source_at_one_account_are_bounded_and_come_back_slowly(book):
    assert guesses(book, HOME, "alice", 1000) == 10
    assert guesses(book, HOME, "alice", 10, NOW + timedelta(seconds=59)) == 0
    assert guesses(book, HOME, "alice", 100, NOW + timedelta(hours=1)) == 10
    # A day of it: never more than one a minute.
    total = sum(
        guesses(book, HOME, "alice", 5, NOW + timedelta(hours=2, seconds=10 * step))
        for step in range(8640)
    )
    assert total <= 1440 + 10


def test_no_stranger_locks_an_account_for_its_owner_elsewhere(book):
    for number in range(300):
        guesses(book, f"203.0.113.{number % 250}", "alice", 20)
    ruling = book.guess(OFFICE, "alice", NOW)
    assert ruling.looked_at
    assert ruling.delay == p.DELAY


def test_an_account_that_logged_in_from_there_is_untouched_by_what_its_neighbours_do(book):
    book.right(OFFICE, "alice", NOW)
    for number in range(50):
        guesses(book, OFFICE, f"name-{number}", 50)
    assert book.penalised(NOW)
    ruling = book.guess(OFFICE, "alice", NOW)
    assert ruling.looked_at
    assert ruling.trusted
    assert ruling.delay == p.DELAY


def test_a_first_login_behind_a_guessing_neighbour_is_looked_at(book):
    """As long as the source has not used up what all strangers there share."""
    guesses(book, OFFICE, "bob", 1000)
    assert book.guess(OFFICE, "carol", NOW).looked_at


def test_one_source_can_not_try_one_password_on_every_account_there_is(book):
    seen = sum(guesses(book, HOME, f"account-{number}", 1) for number in range(5000))
    assert seen <= p.SHARED + p.RESERVE + 1
    seen = sum(
        guesses(book, HOME, f"account-{number}", 5, NOW + timedelta(hours=1))
        for number in range(5000)
    )
    assert seen <= 3600 * (p.SHARED_BACK + p.RESERVE_BACK)


def flooded(book, peer):
    """The source has spent what its strangers share, on names that nobody has."""
    for number in range(40):
        guesses(book, peer, book.stranger(f"name-{number}"), 10)
    assert not book.guess(peer, book.stranger("one more"), NOW).looked_at


def test_a_newcomers_first_password_is_looked_at_while_the_source_floods(book):
    """Three times, even all at once; a name that nobody has gets nothing of the reserve."""
    flooded(book, OFFICE)
    assert not book.guess(OFFICE, book.stranger("nobody"), NOW).looked_at
    seen = [book.guess(OFFICE, "carol", NOW) for _ in range(10)]
    assert [ruling.looked_at for ruling in seen] == [True] * 3 + [False] * 7
    assert seen[0].reserved
    assert guesses(book, OFFICE, "dave", 10) == 3
    later = NOW + timedelta(hours=1)
    flooded(book, OFFICE)
    assert guesses(book, OFFICE, "dave", 10, later) <= 10


def test_the_reserve_ends_too_and_does_not_grow_with_the_number_of_accounts(book):
    flooded(book, OFFICE)
    assert sum(guesses(book, OFFICE, f"account-{n}", 10) for n in range(500)) == p.RESERVE


def test_who_was_guessed_at_there_before_has_nothing_of_the_reserve(book):
    guesses(book, OFFICE, "carol", 3)
    flooded(book, OFFICE)
    assert not book.guess(OFFICE, "carol", NOW).looked_at
    assert not book.guess(OFFICE, "carol", NOW + timedelta(seconds=5)).looked_at


def test_a_guess_that_was_not_checked_after_all_is_given_back(book):
    book.note(OFFICE, "silent", NOW)
    ruling = book.guess(OFFICE, "alice", NOW)
    lane, source = book.lanes[OFFICE, "alice"], book.sources[OFFICE]
    assert (lane.budget, source.budget) == (p.NARROW - 1, p.SHARED - 1)
    book.give_back(OFFICE, "alice", ruling)
    assert (lane.budget, source.budget) == (p.NARROW, p.SHARED)
    flooded(book, OFFICE)
    ruling = book.guess(OFFICE, "carol", NOW)
    book.give_back(OFFICE, "carol", ruling)
    assert source.reserve == p.RESERVE
    assert source.budget < 1
    # One that was refused unseen took nothing and gives nothing.
    ruling = book.guess(OFFICE, book.stranger("x"), NOW)
    book.give_back(OFFICE, book.stranger("x"), ruling)
    assert source.budget < 1


def test_wrong_answers_get_slower_to_a_cap_and_a_right_login_starts_anew(book):
    delays = []
    for _ in range(8):
        delays.append(book.guess(HOME, "alice", NOW).delay)
        book.wrong(HOME, "alice", NOW)
    assert delays == sorted(delays)
    assert delays[0] == p.DELAY
    assert delays[-1] == p.DELAY_MAX
    book.right(HOME, "alice", NOW)
    ruling = book.guess(HOME, "alice", NOW)
    assert (ruling.delay, ruling.failures, ruling.looked_at) == (p.DELAY, 0, True)


def test_even_where_it_is_known_an_account_has_a_hundred_guesses_and_no_more(book):
    book.right(OFFICE, "alice", NOW)
    assert guesses(book, OFFICE, "alice", 1000) == 100


def test_trust_runs_out_after_thirty_days_without_a_login(book):
    book.right(OFFICE, "alice", NOW)
    assert book.guess(OFFICE, "alice", NOW + timedelta(days=29)).trusted
    assert not book.guess(OFFICE, "alice", NOW + timedelta(days=30)).trusted


def test_a_penalty_grows_with_each_event_to_its_cap_and_ends(book):
    book.note(HOME, "silent", NOW)
    assert book.penalised(NOW) == []  # one of them is nothing yet
    for _ in range(15):
        book.note(HOME, "silent", NOW)
    assert [name for name, _ in book.penalised(NOW)] == [HOME]
    for _ in range(1000):
        book.note(HOME, "grace", NOW)
    assert book.sources[HOME].until == NOW + timedelta(seconds=600)
    assert book.penalised(NOW + timedelta(seconds=600)) == []


def test_exempt_networks_are_neither_counted_nor_refused():
    book = Penalties(timedelta(seconds=600), parse_networks(["192.0.2.0/24"]))
    assert guesses(book, OFFICE, "alice", 500) == 500
    assert guesses(book, HOME, "alice", 500) == 10
    assert list(book.sources) == [HOME]


def test_what_is_remembered_is_bounded_and_the_worst_is_kept(book):
    guesses(book, HOME, "alice", 100)
    book.right(OFFICE, "alice", NOW)
    for number in range(20_000):
        peer = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        book.note(peer, "silent", NOW)
        book.guess(peer, "?x", NOW + timedelta(seconds=number / 1000))
    assert len(book.sources) <= p.MAX_SOURCES
    assert len(book.lanes) <= p.MAX_LANES
    assert HOME in book.sources
    assert book.lanes[OFFICE, "alice"].trusted


def test_a_clock_that_goes_back_gives_nothing(book):
    guesses(book, HOME, "alice", 20)
    assert not book.guess(HOME, "alice", NOW - timedelta(days=1)).looked_at


def test_lifting_a_penalty_gives_guesses_back_and_keeps_trust(book):
    book.right(OFFICE, "alice", NOW)
    guesses(book, OFFICE, "alice", 200)
    guesses(book, OFFICE, "bob", 200)
    assert book.forgive(OFFICE)
    assert not book.forgive(OFFICE)
    assert book.penalised(NOW) == []
    assert book.guess(OFFICE, "bob", NOW).looked_at
    assert book.guess(OFFICE, "alice", NOW).trusted


def test_a_name_that_nobody_has_is_not_kept_in_words(book):
    """It may be a password that was typed in the wrong place."""
    stranger = book.stranger("correct horse")
    assert "horse" not in stranger
    assert stranger == book.stranger("correct horse") != book.stranger("correct hors")
    assert stranger != Penalties(timedelta(seconds=600)).stranger("correct horse")


def test_what_is_over_is_forgotten(book):
    guesses(book, HOME, "alice", 3)
    book.right(OFFICE, "bob", NOW)
    book.forget(NOW + timedelta(days=2))
    assert not book.sources
    assert list(book.lanes) == [(OFFICE, "bob")]
