"""What holds in every scenario: nothing but the lifecycle writes a document's state."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

ROOT = Path(__file__).parents[2]
WRITES = re.compile(
    r"\s*(INSERT (OR \w+ )?INTO documents\b|UPDATE documents SET (.*, )?state ?=)", re.DOTALL
)


def writer():
    """The file of the innermost frame that is the project's own."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts:
            return path.relative_to(ROOT).as_posix()
        frame = frame.f_back
    return ""


def look(_connection, _cursor, statement, _parameters, _context, _many):
    if WRITES.match(statement) and not (found := writer()).startswith("tests/"):
        assert found == "vault/catalogue/lifecycle.py", statement


@pytest.fixture(scope="session", autouse=True)
def only_the_lifecycle_writes_states():
    event.listen(Engine, "before_cursor_execute", look)
    yield
    event.remove(Engine, "before_cursor_execute", look)
