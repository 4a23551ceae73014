"""Prepared statements: the same rows, changes, versions and errors as SQLAlchemy's own execution."""

from __future__ import annotations

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from vault.catalogue.prepared import Prepared
from vault.catalogue.schema import clients, documents, settings, usage
from vault.catalogue.states import STORED, ClientState, DocumentState
from vault.catalogue.store import Catalogue

PUT = Prepared(insert(settings).values(key=bindparam("key"), value=bindparam("value")))
DOCUMENT = {
    "id": "0" * 26, "client_id": "c" * 26, "channel": "sftp", "depth": 0, "state": DocumentState.RECEIVED,
    "reason": "", "received_at": "2026-01-01", "state_since": "2026-01-01", "size": 7, "attempts": 0,
    "wrapped_key": b"\x00key", "confidence": 0.5, "confirmed": True, "restricted": False,
}  # fmt: skip


@pytest.fixture
def catalogue(tmp_path):
    made = Catalogue.create(tmp_path / "c.sqlite3")

    def work(tx):
        tx.connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        tx.connection.execute(
            insert(clients),
            {
                column.name: {"id": "c" * 26, "state": ClientState.OPEN}.get(
                    column.name, b"" if column.type.python_type is bytes else "x"
                )
                for column in clients.columns
                if not column.nullable and column.server_default is None
            },
        )
        columns = {name: bindparam(name) for name in DOCUMENT}
        Prepared(insert(documents).values(columns)).execute(tx.connection, DOCUMENT)

    made.write(work)
    yield made
    made.close()


def test_rows_are_what_sqlalchemy_gives_types_included(catalogue):
    statement = select(documents).where(
        documents.c.client_id == bindparam("client"), documents.c.state.in_(STORED)
    )
    wanted = {"client": "c" * 26}

    def both(connection):
        (theirs,) = connection.execute(statement, wanted).all()
        (ours,) = Prepared(statement).all(connection, wanted)
        return theirs._asdict(), ours._asdict()

    theirs, ours = catalogue.read(both)
    assert ours == theirs
    assert {name: type(value) for name, value in ours.items()} == {
        name: type(value) for name, value in theirs.items()
    }
    assert (ours["confirmed"], ours["wrapped_key"]) == (True, b"\x00key")


def test_a_list_of_constants_a_null_and_a_missing_value(catalogue):
    gone = Prepared(select(documents.c.id).where(documents.c.state.in_(["DESTROYED", "EXPIRED"])))
    parent = Prepared(
        select(documents.c.id).where(documents.c.parent_id.is_not(bindparam("parent")))
    )
    assert catalogue.read(lambda c: gone.one_or_none(c, {})) is None
    assert catalogue.read(lambda c: parent.scalar(c, {"parent": None})) is None
    with pytest.raises(KeyError):
        catalogue.read(lambda c: parent.scalar(c, {}))


def test_a_write_counts_its_rows_and_makes_a_new_version(catalogue):
    before = catalogue.version(settings), catalogue.version(usage)
    rename = Prepared(
        update(settings).where(settings.c.key == bindparam("old")).values(value=bindparam("new"))
    )

    def work(tx):
        PUT.execute_all(tx.connection, [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}])
        return [rename.execute(tx.connection, {"old": key, "new": "3"}) for key in ("a", "z")]

    assert catalogue.write(work) == [1, 0]
    assert catalogue.version(settings) == before[0] + 1
    assert catalogue.version(usage) == before[1]


@pytest.mark.parametrize("several", [False, True])
def test_a_driver_s_error_is_sqlalchemy_s_and_does_not_tell_the_values(catalogue, several):
    def work(tx):
        row = {"key": "secret-key", "value": "secret-value"}
        PUT.execute(tx.connection, row)
        if several:
            PUT.execute_all(tx.connection, [row])
        else:
            PUT.execute(tx.connection, row)

    with pytest.raises(IntegrityError) as caught:
        catalogue.write(work)
    assert "secret" not in str(caught.value)
    assert catalogue.read(lambda c: c.execute(select(settings.c.key)).all()) == []
