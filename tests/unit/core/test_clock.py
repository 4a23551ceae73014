"""Whether a time can be explained: the table of the rules in `gateway.core.clock`."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.clock import judge

KNOWN = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ABSENCE = 30 * DAY


@pytest.mark.parametrize(
    ("ahead", "believed"),
    [
        (timedelta(0), True),
        (timedelta(minutes=-9), True),
        (timedelta(minutes=-11), False),
        (-DAY, False),
        (-5 * 365 * DAY, False),
        (DAY, True),
        (30 * DAY, True),
        (30 * DAY + timedelta(seconds=1), False),
        (40 * DAY, False),
        (15 * 365 * DAY, False),
    ],
)
def test_a_start_is_believed_within_the_longest_absence_and_not_before_what_is_known(
    ahead, believed
):
    assert (judge(KNOWN + ahead, KNOWN, None, ABSENCE) is None) is believed


def test_a_new_store_knows_no_time_to_compare_with():
    assert judge(KNOWN, None, None, ABSENCE) is None


def test_what_was_written_under_a_wrong_clock_does_not_make_it_right():
    wrong = KNOWN + 400 * DAY
    assert "entry was written 400 days" in str(judge(KNOWN + DAY, KNOWN, wrong, ABSENCE))
    assert judge(wrong + DAY, KNOWN, wrong, ABSENCE) is not None


def test_a_clock_behind_the_newest_entry_is_not_believed_though_after_the_mark():
    assert "behind the newest ledger entry" in str(
        judge(KNOWN + DAY, KNOWN, KNOWN + 3 * DAY, ABSENCE)
    )
