"""Statements of the hot road: written with SQLAlchemy, compiled once, run on the driver's own cursor.

Promises: the same text and the same values that `connection.execute` would send, in the caller's transaction,
at a third of its cost (benchmarks in docs/performance.md). Tables that are written to count as changed
(`Catalogue.version`). A driver's error arrives as SQLAlchemy's, without its parameters.
Leaves out: beginning a transaction: whoever runs one is inside a work of the catalogue. Statements whose
shape depends on their values (a list of ids, say) stay with `connection.execute`.

Rules:
- Constants in a statement are values of its own; everything else is a `bindparam` that each call gives.
- A row is a named tuple: `row.size`, as SQLAlchemy's.

    STANDING = Prepared(select(usage).where(usage.c.client_id == bindparam("client")))
    row = STANDING.one_or_none(connection, {"client": client_id})
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Dialect, LargeBinary
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement

TOUCHED: Final = "touched"
"""Where the `info` of the catalogue's writing connection has the names of the tables it wrote to."""


class _Compiled:
    """One statement for one dialect: text, the order of its values, and what turns them."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        if not compiled.positional:
            raise RuntimeError(f"{dialect.name}: expected values by their place, found named ones")
        given = {name for name, bound in compiled.binds.items() if bound.required}
        # Lists of constants are written out here, once.
        state = compiled.construct_expanded_state(dict.fromkeys(given), escape_names=False)
        self.text: str = state.statement
        self.table: str = statement.table.name if statement.is_dml else ""
        self._constants: dict[str, Any] = {}
        self._turns: dict[str, Callable[[Any], Any]] = {}
        order = list(state.positiontup or ())
        for name in order:
            turn: Any = state.processors.get(name)
            bound = compiled.binds.get(name)
            if bound is not None and isinstance(bound.type, LargeBinary):
                turn = None  # bytes are bytes to every driver
            if name in given:
                if turn is not None:
                    self._turns[name] = turn
                continue
            constant = state.parameters[name]
            if constant is not None and turn is not None:
                constant = turn(constant)
            # The driver would look for an adapter of an enumeration's member each time.
            self._constants[name] = str(constant) if isinstance(constant, str) else constant
        self._pick = itemgetter(*order) if len(order) > 1 else None
        self._only = order[0] if len(order) == 1 else ""
        self.row: Any = None  # makes a row
        self.turns: tuple[tuple[int, Callable[[Any], Any]], ...] = ()
        columns = getattr(statement, "selected_columns", None)
        if columns is not None:
            keys = [column.key or f"_{place}" for place, column in enumerate(columns)]
            made: Any = namedtuple("made", keys, rename=True)  # type: ignore[misc]  # noqa: PYI024  its fields are the statement's
            self.row = made
            found = (
                (place, column.type.dialect_impl(dialect).result_processor(dialect, None))
                for place, column in enumerate(columns)
            )
            self.turns = tuple((place, turn) for place, turn in found if turn is not None)

    def ordered(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of one execution, in the order of the text (raises KeyError for one that is missing)."""
        if self._constants or self._turns:
            whole = {**given, **self._constants}
            for name, turn in self._turns.items():
                if whole[name] is not None:
                    whole[name] = turn(whole[name])
            given = whole
        if self._pick is not None:
            picked: tuple[Any, ...] = self._pick(given)
            return picked
        return (given[self._only],) if self._only else ()


class Prepared:
    """A statement that is compiled once for each dialect."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def all(self, connection: Connection, given: Mapping[str, Any]) -> list[Any]:
        """The rows of a SELECT."""
        compiled, cursor = self._run(connection, given)
        rows = cursor.fetchall()
        return [_row(compiled, row) for row in rows]

    def one_or_none(self, connection: Connection, given: Mapping[str, Any]) -> Any:
        """The first row of a SELECT, or None; for those that find at most one."""
        compiled, cursor = self._run(connection, given)
        row = cursor.fetchone()
        return None if row is None else _row(compiled, row)

    def scalar(self, connection: Connection, given: Mapping[str, Any]) -> Any:
        """The first column of the first row, or None."""
        row = self.one_or_none(connection, given)
        return None if row is None else row[0]

    def execute(self, connection: Connection, given: Mapping[str, Any]) -> int:
        """Run a statement that writes; returns how many rows it changed."""
        _, cursor = self._run(connection, given)
        changed: int = cursor.rowcount
        return changed

    def execute_all(self, connection: Connection, given: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement that writes once for each of these."""
        compiled = self._of(connection)
        self._note(connection, compiled)
        cursor = _cursor(connection)
        try:
            cursor.executemany(compiled.text, [compiled.ordered(each) for each in given])
        except connection.dialect.loaded_dbapi.Error as error:
            raise _translated(connection, compiled, error) from error

    def _run(self, connection: Connection, given: Mapping[str, Any]) -> tuple[_Compiled, Any]:
        compiled = self._of(connection)
        self._note(connection, compiled)
        cursor = _cursor(connection)
        try:
            cursor.execute(compiled.text, compiled.ordered(given))
        except connection.dialect.loaded_dbapi.Error as error:
            raise _translated(connection, compiled, error) from error
        return compiled, cursor

    def _of(self, connection: Connection) -> _Compiled:
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = _Compiled(self._statement, dialect)
        return compiled

    def _note(self, connection: Connection, compiled: _Compiled) -> None:
        if compiled.table and (touched := connection.info.get(TOUCHED)) is not None:
            touched.add(compiled.table)


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()


def _row(compiled: _Compiled, row: Any) -> Any:
    if compiled.turns:
        values = list(row)
        for place, turn in compiled.turns:
            if values[place] is not None:
                values[place] = turn(values[place])
        return compiled.row._make(values)
    return compiled.row._make(row)


def _translated(connection: Connection, compiled: _Compiled, error: Exception) -> BaseException:
    """SQLAlchemy's exception for a driver's, without the values: they could be a secret."""
    return DBAPIError.instance(
        compiled.text,
        None,
        error,
        connection.dialect.loaded_dbapi.Error,
        hide_parameters=True,
        dialect=connection.dialect,
    )
