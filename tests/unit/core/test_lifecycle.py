"""The lifecycle table: every pair of state and event, the illegal ones too."""

from __future__ import annotations

import pytest

from vault.catalogue.lifecycle import TRANSITIONS, Event, IllegalTransition, next_state
from vault.catalogue.states import DISPOSABLE, READABLE, STORED, DocumentState

S, E = DocumentState, Event
# Written out by hand from the design's picture, so that a slip in the table shows.
ALLOWED = {
    "PARTIAL": {"complete": "RECEIVED", "expire": "EXPIRED"},
    "RECEIVED": {"file": "FILED", "question": "REVIEW", "quarantine": "QUARANTINED"},
    "REVIEW": {"reclassify": "FILED", "reject": "QUARANTINED"},
    "QUARANTINED": {"release": "FILED", "destroy": "DESTROYED"},
    "FILED": {"reclassify": "FILED", "archive": "ARCHIVED", "destroy": "DESTROYED"},
    "ARCHIVED": {"reclassify": "ARCHIVED", "destroy": "DESTROYED"},
    "DESTROYED": {},
    "EXPIRED": {},
}


@pytest.mark.parametrize("state", list(DocumentState))
@pytest.mark.parametrize("event", list(Event))
def test_every_pair_leads_where_the_design_says_or_nowhere(state, event):
    following = ALLOWED[state].get(event)
    if following is None:
        with pytest.raises(IllegalTransition, match=f"state {state}.*found {event}"):
            next_state(state, event)
    else:
        assert next_state(state, event) == following


def test_destruction_is_final_and_only_from_where_it_may_come():
    assert {s for (s, e) in TRANSITIONS if e is E.DESTROY} == DISPOSABLE
    assert not [pair for pair in TRANSITIONS if pair[0] in {S.DESTROYED, S.EXPIRED}]


def test_what_can_be_read_was_judged():
    """Neither what has just arrived nor what was set apart is ever readable."""
    assert READABLE < STORED
    assert not READABLE & {S.RECEIVED, S.QUARANTINED, S.PARTIAL, S.DESTROYED}
