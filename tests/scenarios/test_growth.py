"""What a person looks at costs what it shows, not what the store keeps."""

from __future__ import annotations

import pytest
from sqlalchemy import event, update
from sqlalchemy.engine import Engine

from gateway.core.views import accountant
from gateway.core.views.base import split
from vault.catalogue.schema import documents
from vault.catalogue.states import DocumentState

FOLDER = "/clients/acme/2025/invoice"


@pytest.fixture
def plans():
    """SQLite's plans of the statements on documents that were run, as the test goes on."""
    found: list[str] = []

    def look(_connection, cursor, statement, parameters, _context, _many):
        if statement.lstrip().startswith("SELECT") and "FROM documents" in statement:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.extend(row[3] for row in cursor.fetchall())

    event.listen(Engine, "before_cursor_execute", look)
    yield found
    event.remove(Engine, "before_cursor_execute", look)


async def test_pages_of_a_class_hold_filed_and_archived_documents_once_each_in_order(
    house, monkeypatch
):
    monkeypatch.setattr(accountant, "PAGE", 3)
    names = [f"{number}.txt" for number in range(8)]
    ids = [await house.filed(name, name.encode()) for name in names]

    def archive(tx):
        chosen = documents.c.id.in_([ids[1], ids[2], ids[6]])
        tx.connection.execute(update(documents).where(chosen).values(state=DocumentState.ARCHIVED))

    house.core.store.catalogue.write(archive)
    assert await house.names(FOLDER, "accountant") == names


async def test_years_and_classes_are_those_of_documents_that_are_filed_or_archived(house):
    await house.filed("a.txt", b"a", day="2025-03-01")
    last = await house.filed("b.txt", b"b", day="2023-03-01")
    await house.filed("c.txt", b"c", record_class="bank-statement", day="2025-05-01")

    def archive(tx):
        tx.connection.execute(
            update(documents).where(documents.c.id == last).values(state=DocumentState.ARCHIVED)
        )

    house.core.store.catalogue.write(archive)
    assert await house.names("/clients/acme", "accountant") == ["2023", "2025"]
    assert await house.names("/clients/acme/2025", "accountant") == ["bank-statement", "invoice"]


async def test_no_page_of_names_sorts_or_reads_the_whole_table(house, plans):
    await house.filed("a.txt", b"a")
    for path in ("/clients/acme", "/clients/acme/2025", FOLDER):
        view = await house.view("accountant")
        plans.clear()
        await view.entries(split(path), "")
        assert plans
        assert not [each for each in plans if each.startswith(("SCAN", "USE TEMP B-TREE"))]
