"""The lifecycle table: every pair of state and event, the illegal ones too; and who writes a state."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, update

from vault.catalogue.lifecycle import (
    TRANSITIONS,
    Event,
    IllegalTransition,
    add,
    change_state,
    next_state,
)
from vault.catalogue.schema import documents
from vault.catalogue.states import DISPOSABLE, READABLE, STORED, DocumentState

S, E = DocumentState, Event
# Written out by hand from the design's picture, so that a slip in the table shows.
ALLOWED = {
    "PARTIAL": {"complete": "RECEIVED", "expire": "EXPIRED"},
    "RECEIVED": {"file": "FILED", "question": "REVIEW", "quarantine": "QUARANTINED"},
    "REVIEW": {"reclassify": "FILED", "reject": "QUARANTINED", "unlock": "RECEIVED"},
    "QUARANTINED": {"release": "FILED", "admit": "RECEIVED", "destroy": "DESTROYED"},
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


ROOT = Path(__file__).parents[3]
LIFECYCLE = "vault/catalogue/lifecycle.py"


def sources():
    for folder in ("gateway", "vault"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def writes(tree):
    """The statements over `documents` that insert rows, or set columns: (what, names set) of each."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"insert", "insert_or", "update"}
            and [arg.id for arg in node.args if isinstance(arg, ast.Name)] == ["documents"]
        ):
            names, link = set(), node
            while isinstance(parents[link], ast.Attribute) and isinstance(
                parents[parents[link]], ast.Call
            ):
                link = parents[parents[link]]
                if link.func.attr == "values":
                    names |= {keyword.arg for keyword in link.keywords}
            yield node.func.id, names


def test_nothing_else_in_the_sources_writes_a_state():
    found = {path: list(writes(tree)) for path, tree in sources()}
    assert len(found[LIFECYCLE]) == 2  # it is found where it is
    for path, statements in found.items():
        for what, names in statements:
            if path != LIFECYCLE:
                assert what == "update", path
                assert "state" not in names, path


AT = "2026-11-28T00:00:00.000000+00:00"


@pytest.fixture
def connection():
    """Rows of every state that can be reached, in a catalogue without anything else."""
    engine = create_engine("sqlite://")
    documents.metadata.create_all(engine, tables=[documents])
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def made(connection, state):
    """A document in a state; put there directly, as the table is what is tested."""
    document = f"D-{state}"
    columns = {
        "id": document, "client_id": "C", "channel": "sftp", "submitter": "", "depth": 0, "size": 1,
        "received_at": AT, "reason": "", "attempts": 0, "confidence": 0.0, "confirmed": False,
        "restricted": False, "lane": 0,
    }  # fmt: skip
    add(connection, S.RECEIVED, AT, columns)
    connection.execute(update(documents).where(documents.c.id == document).values(state=state))
    return document


def state_of(connection, document):
    return connection.execute(
        select(documents.c.state).where(documents.c.id == document)
    ).scalar_one()


@pytest.mark.parametrize("state", list(DocumentState))
@pytest.mark.parametrize("event", list(Event))
def test_a_row_changes_along_the_table_and_not_otherwise(connection, state, event):
    document = made(connection, state)
    following = ALLOWED[state].get(event)
    if following is None:
        with pytest.raises(IllegalTransition, match=f"state {state}.*found {event}"):
            change_state(connection, [document], event, AT, reason="r")
        assert change_state(connection, [document], event, AT, where_possible=True) == 0
        assert state_of(connection, document) == state
    else:
        assert change_state(connection, [document], event, AT, reason="because") == 1
        row = connection.execute(select(documents).where(documents.c.id == document)).one()
        assert (row.state, row.state_since, row.reason) == (following, AT, "because")


def test_several_go_each_its_own_way_in_one_statement(connection):
    rows = [made(connection, S.REVIEW), made(connection, S.ARCHIVED)]
    assert change_state(connection, rows, E.RECLASSIFY, AT) == 2
    assert [state_of(connection, each) for each in rows] == ["FILED", "ARCHIVED"]


def test_one_that_may_not_or_is_not_there_stops_the_whole(connection):
    filed, received = made(connection, S.FILED), made(connection, S.RECEIVED)
    with pytest.raises(IllegalTransition, match="state RECEIVED"):
        change_state(connection, [filed, received], E.DESTROY, AT)
    with pytest.raises(IllegalTransition, match=r"document D-none: .*found none"):
        change_state(connection, ["D-none"], E.FILE, AT)


@pytest.mark.parametrize("state", list(DocumentState))
def test_a_restore_repeats_a_destruction_from_wherever_the_backup_stood(connection, state):
    document = made(connection, state)
    if state == S.DESTROYED:
        assert not change_state(
            connection, [document], E.DESTROY, AT, replayed=True, where_possible=True
        )
    else:
        assert change_state(connection, [document], E.DESTROY, AT, replayed=True) == 1
        assert state_of(connection, document) == "DESTROYED"


@pytest.mark.parametrize("state", sorted(set(DocumentState) - {S.PARTIAL, S.RECEIVED}))
def test_no_document_begins_in_any_other_state(connection, state):
    with pytest.raises(RuntimeError, match=state):
        add(connection, state, AT, {})
