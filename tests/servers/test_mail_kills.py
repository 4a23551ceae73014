"""Mail is received, taken apart and answered while everything that does it is killed, again and again.

`benchmarks/mail_kills.py` is the same with more rounds and other seeds.
"""

from __future__ import annotations

from tests.support.mail_kills import receiving


def test_killed_anywhere_each_message_is_kept_once_taken_apart_once_and_answered_once() -> None:
    with receiving(seed=2) as mail:
        mail.run(rounds=6, messages=20)  # a round for each process and a worker, then three more
        tally = mail.settle()
    assert tally.faults == [], tally
    assert tally.killed["core"], tally
