"""Copies of keyrings: the register of places, and what a certificate may say of each."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select

from vault.catalogue.schema import copy_places, copy_states, errands
from vault.catalogue.store import Catalogue
from vault.keys import copies
from vault.keys.copies import REMOVED, Change

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
OWNER = "01JD000000000000000000000A"
A = ("a", "/mnt/a", 0)
B = ("b", "sftp://u@h/b", 30)


class Book:
    """A catalogue with the functions of `vault.keys.copies` bound to it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def __getattr__(self, name):
        function = getattr(copies, name)
        return lambda *args, **named: self.catalogue.write(
            lambda tx: function(tx.connection, *args, **named)
        )

    def rows(self, table):
        return self.catalogue.read(lambda connection: connection.execute(select(table)).all())

    def seen(self, target: str, epoch: int, at: datetime = NOW, owner: str = OWNER) -> None:
        """The errand that is open is delivered, as the core records it."""
        self.record(target, owner, epoch, "00" * 32, at)

        def work(tx):
            tx.connection.execute(
                errands.update()
                .where(
                    errands.c.target == target,
                    errands.c.name == owner + copies.SUFFIX,
                    errands.c.delivered_at.is_(None),
                )
                .values(delivered_at=copies.stamp(at))
            )

        self.catalogue.write(work)

    def states(self, now: datetime = NOW, **named):
        return {
            state.name: (state.state, state.expires) for state in self.table(OWNER, now, **named)
        }


@pytest.fixture
def book(tmp_path):
    catalogue = Catalogue.create(tmp_path / "catalogue.sqlite3")
    yield Book(catalogue)
    catalogue.close()


LIVE = ("live", None)
GONE = ("destroyed", None)


# ── the register ─────────────────────────────────────────────────────────────────────────────────


def test_a_place_is_registered_once_and_nothing_changes_when_it_is_seen_again(book):
    assert book.register([A], NOW) == [Change("keyring.place-registered", "a", fill=True)]
    assert book.register([A], NOW + DAY) == []
    (row,) = book.rows(copy_places)
    assert (row.place, row.registered_at) == ("/mnt/a", copies.stamp(NOW))


def test_a_place_taken_out_is_withdrawn_once_and_back_again_it_is_to_be_filled(book):
    book.register([A, B], NOW)
    assert book.register([B], NOW) == [Change("keyring.place-withdrawn", "a", fill=False)]
    assert book.register([B], NOW) == []
    assert book.register([A, B], NOW) == [Change("keyring.place-registered", "a", fill=True)]
    assert {row.name: row.withdrawn_at for row in book.rows(copy_places)} == {"a": None, "b": None}


def test_a_name_that_means_another_place_leaves_the_old_one_behind_as_withdrawn(book):
    """Changing an address must not make the copies at the old one vanish from certificates."""
    book.register([A], NOW)
    book.request(["a"], OWNER, NOW)
    book.seen("a", 3)
    book.request(["a"], OWNER, NOW)  # epoch 4, not delivered to the old place
    changes = book.register([("a", "/mnt/elsewhere", 0)], NOW)
    assert [change.kind for change in changes] == [
        "keyring.place-withdrawn", "keyring.place-registered",
    ]  # fmt: skip
    former = changes[0].name
    assert former.startswith("a~")
    assert book.states() == {former: LIVE}
    assert not book.delivered_to("a")
    assert book.delivered_to(former)
    places = {row.name: row.place for row in book.rows(copy_places)}
    assert places == {former: "/mnt/a", "a": "/mnt/elsewhere"}


def test_the_longest_name_still_fits_when_it_is_retired(book):
    name = "n" * 64
    book.register([(name, "/x", 0)], NOW)
    changes = book.register([(name, "/y", 0)], NOW)
    assert len(changes[0].name) == 64
    assert changes[0].name.startswith("nnn")


def test_days_that_are_changed_in_the_configuration_are_taken_over(book):
    book.register([A], NOW)
    assert book.register([("a", "/mnt/a", 7)], NOW) == []
    assert book.rows(copy_places)[0].keeps_days == 7


def test_a_settled_place_that_comes_back_starts_anew(book):
    book.register([A], NOW)
    book.seen("a", 3)
    book.register([], NOW)
    book.settle("a", "officer", b"sealed", NOW)
    book.register([A], NOW + DAY)
    (row,) = book.rows(copy_places)
    assert (row.withdrawn_at, row.settled_at, row.settled_by, row.statement) == (None,) * 4
    assert not book.delivered_to("a")
    assert book.rows(copy_states) == []


# ── what waits ───────────────────────────────────────────────────────────────────────────────────


def test_of_several_changes_the_last_is_carried_and_behind_since_is_the_first(book):
    book.register([A], NOW)
    for hours in range(3):
        book.request(["a"], OWNER, NOW + timedelta(hours=hours))
    rows = book.rows(errands)
    assert [row.failure for row in rows] == ["superseded", "superseded", ""]
    assert rows[-1].delivered_at is None
    assert rows[-1].created_at == copies.stamp(NOW)
    assert rows[-1].next_attempt_at == copies.stamp(NOW + timedelta(hours=2))
    assert book.behind(OWNER) == {"a"}


def test_a_withdrawn_place_is_not_waited_for(book):
    book.register([A, B], NOW)
    book.request(["a", "b"], OWNER, NOW)
    book.register([B], NOW)
    assert book.behind(OWNER) == {"b"}


# ── what a certificate lists ─────────────────────────────────────────────────────────────────────


def test_a_place_that_never_held_this_keyring_and_waits_for_nothing_is_left_out(book):
    book.register([A, B], NOW)
    book.seen("a", 1, owner="house")
    assert book.states() == {}


def test_a_first_delivery_that_never_succeeded_counts_as_a_live_copy(book):
    """It may have been written, and the report lost."""
    book.register([A], NOW)
    book.request(["a"], OWNER, NOW)
    assert book.states() == {"a": LIVE}
    assert book.states(epoch=1) == {"a": LIVE}


def test_a_copy_is_live_until_an_epoch_from_after_the_end_was_read_back(book):
    book.register([A], NOW)
    book.seen("a", 3)
    book.request(["a"], OWNER, NOW)
    assert book.states(epoch=4) == {"a": LIVE}
    assert book.states() == {"a": LIVE}
    book.seen("a", 4)
    assert book.states(epoch=4) == {"a": GONE}
    assert book.states() == {"a": GONE}


def test_a_later_change_that_is_still_waiting_does_not_bring_ended_keys_back(book):
    book.register([A], NOW)
    book.seen("a", 4)
    book.request(["a"], OWNER, NOW)  # epoch 5, about something else
    assert book.states(epoch=4) == {"a": GONE}
    assert book.states(epoch=5) == {"a": LIVE}
    assert book.states() == {"a": LIVE}


def test_an_older_file_read_back_after_a_newer_one_is_live_again(book):
    book.register([A], NOW)
    for epoch in (3, 4, 3):
        book.seen("a", epoch)
    assert book.states(epoch=4) == {"a": LIVE}


def test_a_removed_copy_is_destroyed_whatever_epoch_is_asked_for(book):
    book.register([A], NOW)
    book.seen("a", 3)
    book.seen("a", REMOVED)
    assert book.states(epoch=9) == {"a": GONE}
    assert book.states() == {"a": GONE}
    assert book.owners_at("a") == set()


def test_what_a_place_keeps_expires_that_many_days_after_it_was_replaced(book):
    book.register([B], NOW)
    book.seen("b", 3, NOW - DAY)
    book.seen("b", 4, NOW)
    until = NOW + 30 * DAY
    assert book.states(NOW, epoch=4) == {"b": ("live", date(2026, 12, 22))}
    assert book.states(until - timedelta(seconds=1), epoch=4) == {"b": ("live", date(2026, 12, 22))}
    assert book.states(until, epoch=4) == {"b": ("expired", date(2026, 12, 22))}


def test_later_deliveries_do_not_put_the_expiry_off(book):
    """Else a keyring that changes every day would never let a claim rise."""
    book.register([B], NOW)
    book.seen("b", 3, NOW - DAY)
    for day in range(60):
        book.seen("b", 4 + day, NOW + day * DAY)
    assert book.states(NOW + 59 * DAY, epoch=4)["b"][0] == "expired"
    assert book.states(NOW + 59 * DAY, epoch=63)["b"] == ("live", (NOW + 89 * DAY).date())


def test_the_record_of_deliveries_does_not_grow_without_end(book):
    book.register([A, B], NOW)
    for day in range(100):
        book.seen("a", day + 1, NOW + day * DAY)
        book.seen("b", day + 1, NOW + day * DAY)
    rows = book.rows(copy_states)
    assert sum(row.target == "a" for row in rows) <= 3
    assert sum(row.target == "b" for row in rows) <= 33
    # What was dropped had expired: the judgement is the same.
    assert book.states(NOW + 99 * DAY, epoch=5) == {
        "a": GONE, "b": ("expired", book.states(NOW + 99 * DAY, epoch=5)["b"][1]),
    }  # fmt: skip


def test_a_withdrawn_place_stays_live_until_it_is_settled(book):
    book.register([A], NOW)
    book.seen("a", 3)
    book.register([], NOW)
    assert book.states(NOW + 3650 * DAY) == {"a": LIVE}
    assert book.states(NOW + 3650 * DAY, epoch=4) == {"a": LIVE}
    book.settle("a", "officer", b"sealed", NOW)
    assert book.states(epoch=4) == {"a": GONE}


def test_a_withdrawn_place_that_had_followed_before_holds_nothing_of_that_batch(book):
    book.register([A], NOW)
    book.seen("a", 4)
    book.register([], NOW)
    assert book.states(epoch=4) == {"a": GONE}
    assert book.states(epoch=5) == {"a": LIVE}


def test_where_the_epoch_keys_were_erased_on_their_token_old_files_open_nothing(book):
    book.register([A, B], NOW)
    book.seen("a", 3)
    book.request(["a", "b"], OWNER, NOW)
    assert book.states(epoch=4, erased_since="") == {"a": GONE, "b": GONE}


def test_the_place_in_words_is_what_was_configured(book):
    book.register([B], NOW)
    book.seen("b", 1)
    (state,) = book.table(OWNER, NOW)
    assert (state.place, state.name) == ("sftp://u@h/b", "b")
