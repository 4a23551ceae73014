"""The throttle: attempts are bounded and remembered, and nobody pays for a neighbour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.login import throttle as p
from gateway.core.login.throttle import Throttle
from gateway.process.sources import parse_networks

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
OFFICE, HOME = "192.0.2.1", "198.51.100.9"


@pytest.fixture
def book():
    return Throttle(timedelta(seconds=600))


def attempts(book, peer, account, count, now=NOW):
    """So many wrong attempts; how many were looked at."""
    seen = 0
    for _ in range(count):
        seen += book.attempt(peer, account, now).looked_at
        book.wrong(peer, account, now)
    return seen


def test_attempts_of_one_source_at_one_account_are_bounded_and_come_back_slowly(book):
    assert attempts(book, HOME, "alice", 1000) == 10
    assert attempts(book, HOME, "alice", 10, NOW + timedelta(seconds=59)) == 0
    assert attempts(book, HOME, "alice", 100, NOW + timedelta(hours=1)) == 10
    # A day of it: never more than one a minute.
    total = sum(
        attempts(book, HOME, "alice", 5, NOW + timedelta(hours=2, seconds=10 * step))
        for step in range(8640)
    )
    assert total <= 1440 + 10


def test_no_stranger_locks_an_account_for_its_owner_elsewhere(book):
    for number in range(300):
        attempts(book, f"203.0.113.{number % 250}", "alice", 20)
    ruling = book.attempt(OFFICE, "alice", NOW)
    assert ruling.looked_at
    assert ruling.delay == p.DELAY


def test_an_account_that_logged_in_from_there_is_untouched_by_what_its_neighbours_do(book):
    book.right(OFFICE, "alice", NOW)
    for number in range(50):
        attempts(book, OFFICE, f"name-{number}", 50)
    assert book.penalised(NOW)
    ruling = book.attempt(OFFICE, "alice", NOW)
    assert ruling.looked_at
    assert ruling.trusted
    assert ruling.delay == p.DELAY


def test_a_first_login_behind_a_guessing_neighbour_is_looked_at(book):
    """As long as the source has not used up its own bucket."""
    attempts(book, OFFICE, "bob", 1000)
    assert book.attempt(OFFICE, "carol", NOW).looked_at


def test_one_source_can_not_try_one_password_on_every_account_there_is(book):
    seen = sum(attempts(book, HOME, f"account-{number}", 1) for number in range(5000))
    assert seen == p.SOURCE.most
    seen = sum(
        attempts(book, HOME, f"account-{number}", 5, NOW + timedelta(hours=1))
        for number in range(5000)
    )
    assert seen <= 3600 / p.SOURCE.seconds


def test_what_a_source_may_try_does_not_grow_with_the_number_of_accounts(book):
    assert sum(attempts(book, OFFICE, f"account-{n}", 10) for n in range(500)) == p.SOURCE.most


def test_a_newcomers_first_password_is_looked_at_while_the_source_floods(book):
    """Names that nobody has take nothing from what the source's people have."""
    for number in range(400):
        attempts(book, OFFICE, book.unknown_user(f"name-{number}"), 10)
    assert attempts(book, OFFICE, "carol", 20) == 10


def test_a_source_that_has_spent_its_bucket_gets_one_attempt_back_each_ten_seconds(book):
    for number in range(20):
        attempts(book, OFFICE, f"account-{number}", 10)
    assert not book.attempt(OFFICE, "carol", NOW + timedelta(seconds=9)).looked_at
    assert book.attempt(OFFICE, "carol", NOW + timedelta(seconds=10)).looked_at
    assert not book.attempt(OFFICE, "dave", NOW + timedelta(seconds=10)).looked_at
    assert book.attempt(HOME, "dave", NOW + timedelta(seconds=10)).looked_at


@pytest.mark.parametrize("spent", [0, 10, 200])
@pytest.mark.parametrize("tried", [0, 3, 10])
def test_known_and_unknown_names_are_ruled_on_alike(book, spent, tried):
    for number in range(spent // 10):
        attempts(book, OFFICE, f"account-{number}", 10)
    both = ("carol", book.unknown_user("nobody"))
    for who in both:
        attempts(book, OFFICE, who, tried)
    rulings = [book.attempt(OFFICE, who, NOW + timedelta(seconds=30)) for who in both]
    assert rulings[0].looked_at == rulings[1].looked_at
    assert rulings[0].delay == rulings[1].delay
    assert not rulings[0].trusted
    assert not rulings[1].trusted


def test_an_attempt_that_was_not_checked_after_all_is_given_back(book):
    ruling = book.attempt(OFFICE, "alice", NOW)
    bucket, source = book.buckets[OFFICE, "alice"], book.sources[OFFICE]
    assert (bucket.left, source.left) == (p.ACCOUNT.most - 1, p.SOURCE.most - 1)
    book.give_back(OFFICE, "alice", ruling)
    assert (bucket.left, source.left) == (p.ACCOUNT.most, p.SOURCE.most)
    # One that was refused unseen took nothing and gives nothing.
    attempts(book, OFFICE, "alice", 10)
    ruling = book.attempt(OFFICE, "alice", NOW)
    book.give_back(OFFICE, "alice", ruling)
    assert (bucket.left, source.left) == (0, p.SOURCE.most - 10)


# ── the arithmetic ──


@pytest.mark.parametrize(
    ("left", "size", "passed", "expected"),
    [
        (0, p.ACCOUNT, 0, 0),
        (0, p.ACCOUNT, 59, 59 / 60),
        (0, p.ACCOUNT, 60, 1),
        (9.5, p.ACCOUNT, 60, 10),
        (0, p.ACCOUNT, 86_400, 10),
        (5, p.ACCOUNT, -3600, 5),
        (0, p.TRUSTED, 10, 1),
        (0, p.TRUSTED, 1000, 100),
        (0, p.SOURCE, 1990, 199),
        (0, p.SOURCE, 2001, 200),
    ],
)
def test_a_bucket_fills_by_the_clock_to_its_size(left, size, passed, expected):
    assert p.refilled(left, size, timedelta(seconds=passed)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("failures", "alone", "penalised"),
    [(0, 0.2, 1), (1, 0.4, 1), (2, 0.8, 1), (3, 1.6, 1.6), (4, 3.2, 3.2), (5, 4, 4), (10**6, 4, 4)],
)
def test_a_wrong_answer_takes_twice_as_long_each_time_to_a_cap(failures, alone, penalised):
    assert p.delay_after(failures, penalised=False) == pytest.approx(alone)
    assert p.delay_after(failures, penalised=True) == pytest.approx(penalised)


@pytest.mark.parametrize(
    ("stands", "event", "after"),
    [
        (0, "failed", 5),
        (0, "silent", 1),
        (0, "grace", 10),
        (0, "nonsense", 10),
        (100, "failed", 105),
        (-3600, "failed", 5),  # what is over counts for nothing
        (598, "failed", 600),
        (900, "failed", 600),  # the maximum was made shorter
    ],
)
def test_an_event_adds_its_seconds_to_the_penalty_clock(stands, event, after):
    until = p.penalised_until(NOW + timedelta(seconds=stands), event, NOW, timedelta(minutes=10))
    assert until == NOW + timedelta(seconds=after)


@pytest.mark.parametrize(
    ("count", "looked_at", "last", "all_delays", "clock"),
    [
        (1, 1, 0.2, 0.2, 5),
        (3, 3, 0.8, 1.4, 15),
        (4, 4, 1.6, 3.0, 20),
        (6, 6, 4.0, 10.2, 30),
        (10, 10, 4.0, 26.2, 50),
        (11, 10, 4.0, 30.2, 55),
        (120, 10, 4.0, 466.2, 600),
    ],
)
def test_what_so_many_wrong_passwords_cost_is_as_adr_0011_tells(
    book, count, looked_at, last, all_delays, clock
):
    rulings = []
    for _ in range(count):
        rulings.append(book.attempt(HOME, "alice", NOW))
        book.wrong(HOME, "alice", NOW)
    assert sum(ruling.looked_at for ruling in rulings) == looked_at
    assert rulings[-1].delay == pytest.approx(last)
    assert sum(ruling.delay for ruling in rulings) == pytest.approx(all_delays)
    assert book.sources[HOME].until == NOW + timedelta(seconds=clock)
    assert bool(book.penalised(NOW)) == (clock > 15)


def test_wrong_answers_get_slower_to_a_cap_and_a_right_login_starts_anew(book):
    delays = []
    for _ in range(8):
        delays.append(book.attempt(HOME, "alice", NOW).delay)
        book.wrong(HOME, "alice", NOW)
    assert delays == sorted(delays)
    assert delays[0] == p.DELAY
    assert delays[-1] == p.DELAY_MAX
    book.right(HOME, "alice", NOW)
    ruling = book.attempt(HOME, "alice", NOW)
    assert (ruling.delay, ruling.failures, ruling.looked_at) == (p.DELAY, 0, True)


def test_even_where_it_is_known_an_account_has_a_hundred_attempts_and_no_more(book):
    book.right(OFFICE, "alice", NOW)
    assert attempts(book, OFFICE, "alice", 1000) == 100


def test_trust_runs_out_after_thirty_days_without_a_login(book):
    book.right(OFFICE, "alice", NOW)
    assert book.attempt(OFFICE, "alice", NOW + timedelta(days=29)).trusted
    assert not book.attempt(OFFICE, "alice", NOW + timedelta(days=30)).trusted


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
    book = Throttle(timedelta(seconds=600), parse_networks(["192.0.2.0/24"]))
    assert attempts(book, OFFICE, "alice", 500) == 500
    assert attempts(book, HOME, "alice", 500) == 10
    assert list(book.sources) == [HOME]


def test_what_is_remembered_is_bounded_and_the_worst_is_kept(book):
    attempts(book, HOME, "alice", 100)
    book.right(OFFICE, "alice", NOW)
    for number in range(20_000):
        peer = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        book.note(peer, "silent", NOW)
        book.attempt(peer, "?x", NOW + timedelta(seconds=number / 1000))
    assert len(book.sources) <= p.MAX_SOURCES
    assert len(book.buckets) <= p.MAX_BUCKETS
    assert HOME in book.sources
    assert book.buckets[OFFICE, "alice"].trusted_at


def test_a_clock_that_goes_back_gives_nothing(book):
    attempts(book, HOME, "alice", 20)
    assert not book.attempt(HOME, "alice", NOW - timedelta(days=1)).looked_at


def test_lifting_a_penalty_gives_attempts_back_and_keeps_trust(book):
    book.right(OFFICE, "alice", NOW)
    attempts(book, OFFICE, "alice", 200)
    attempts(book, OFFICE, "bob", 200)
    assert book.forgive(OFFICE)
    assert not book.forgive(OFFICE)
    assert book.penalised(NOW) == []
    assert book.attempt(OFFICE, "bob", NOW).looked_at
    assert book.attempt(OFFICE, "alice", NOW).trusted


def test_a_name_that_nobody_has_is_not_kept_in_words(book):
    """It may be a password that was typed in the wrong place."""
    unknown = book.unknown_user("correct horse")
    assert "horse" not in unknown
    assert unknown == book.unknown_user("correct horse") != book.unknown_user("correct hors")
    assert unknown != Throttle(timedelta(seconds=600)).unknown_user("correct horse")


def test_what_is_over_is_forgotten(book):
    attempts(book, HOME, "alice", 3)
    book.right(OFFICE, "bob", NOW)
    book.forget(NOW + timedelta(days=2))
    assert not book.sources
    assert list(book.buckets) == [(OFFICE, "bob")]
