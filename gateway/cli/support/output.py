"""What people and scripts get to see: tables, details, JSON, one-line errors, files written.

Promises: nothing is cut: a table too wide for the terminal becomes one block per row, and through a pipe
lines are as long as they need to be. Colour only on a terminal. What a sender chose (file names,
subjects) can't steer the terminal: control and direction characters are shown as escapes. JSON is one
document, indented, with the act's data as it came. A file is only ever made new, never overwritten.
Leaves out: exit codes, except that a broken pipe is nobody's error.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gateway import readable
from gateway.errors import ConfigurationError

_ENDLESS: Final = 100_000  # columns of a "terminal" that never wraps
_JSON_CONTROL: Final = re.compile(f"[\x7f-\x9f{readable.FORMATTING}]")


plain, size, moment = readable.plain, readable.size, readable.moment


@dataclass(frozen=True)
class Column:
    """One column of a table: the key in each row, its title, how its values are shown."""

    key: str
    title: str
    show: Callable[[object], str] = plain
    right: bool = False


def json_document(data: Any) -> None:
    """Print data as one indented JSON document."""
    text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
    say(_JSON_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def say(text: str = "") -> None:
    """Print a line of our own making."""
    print(text)


def write_text(text: str) -> None:
    """Print text exactly as it is: to be signed, or kept in a file."""
    sys.stdout.write(text)
    sys.stdout.flush()


def hint(text: str) -> None:
    """Say something beside the result, on standard error."""
    print(text, file=sys.stderr)


def error(message: str) -> None:
    """Say in one line what went wrong."""
    line = " ".join(plain(part) for part in message.split())
    print(f"strongroom: {line}", file=sys.stderr)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], empty: str) -> None:
    """Print rows as a table, or as blocks where the terminal is too narrow for it.

    Args:
        empty: the line that stands for no rows.
    """
    if not rows:
        say(empty)
        return
    console = _console()
    cells = [[column.show(row.get(column.key)) for column in columns] for row in rows]
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        grid.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            header_style="bold",
        )
    for line in cells:
        grid.add_row(*(Text(cell) for cell in line))
    wide = console.options.update(width=_ENDLESS)
    if Measurement.get(console, wide, grid).maximum <= console.width:
        with console.capture() as captured:
            console.print(grid)
        say("\n".join(line.rstrip() for line in captured.get().splitlines()))
        return
    for line in cells:
        console.print(Text(line[0], style="bold"), soft_wrap=True)
        pieces = [
            f"{column.title.lower()} {cell}"
            for column, cell in zip(columns[1:], line[1:], strict=True)
            if cell != "-"
        ]
        for packed in _pack(pieces, console.width - 4):
            console.print(Text(f"    {packed}"), soft_wrap=True)


def _pack(pieces: Sequence[str], width: int) -> list[str]:
    """Pieces put together into lines of at most `width` columns; a longer piece stays whole."""
    lines: list[str] = []
    for piece in pieces:
        if lines and cell_len(lines[-1]) + 3 + cell_len(piece) <= width:
            lines[-1] += f" · {piece}"
        else:
            lines.append(piece)
    return lines


def details(
    data: Mapping[str, Any], show: Mapping[str, Callable[[object], str]] | None = None
) -> None:
    """Print a record as `label  value` lines; lists of records and long lists one item a line."""
    show = show or {}
    labels = {key: key.replace("_", " ") for key in data}
    width = max((cell_len(label) for label in labels.values()), default=0) + 2
    console = _console()
    for key, value in data.items():
        label = Text(labels[key].ljust(width), style="bold")
        if isinstance(value, list) and len(value) > 1:
            lines = [plain(item) for item in value]
        else:
            lines = [show.get(key, plain)(value)]
        for line in lines:
            console.print(label + Text(line), soft_wrap=True)
            label = Text(" " * width)


def heading(text: str) -> None:
    """Print a line that stands above others."""
    _console().print(Text(text, style="bold"), soft_wrap=True)


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that must not be there yet, and sync it.

    Raises:
        ConfigurationError: it is there, or its folder can't be written to. Nothing half made stays.
    """
    write_pieces(path, [data], mode)


def write_pieces(path: Path, pieces: Iterable[bytes], mode: int = 0o644) -> None:
    """Like `write_new`, piece by piece; whatever `pieces` raises removes the file and passes through."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as failure:
        raise ConfigurationError(f"{path}: expected no file of that name, found one") from failure
    except OSError as failure:
        raise ConfigurationError(f"{path}: it could not be made: {failure.strerror}") from failure
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError as failure:
        path.unlink(missing_ok=True)
        raise ConfigurationError(
            f"{path}: it could not be written: {failure.strerror}"
        ) from failure
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_file(path: Path, limit: int) -> bytes:
    """Read a file that the command line names (raises ConfigurationError)."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as failure:
        raise ConfigurationError(
            f"{path}: expected a readable file, found {failure.strerror}"
        ) from failure
    if len(data) > limit:
        raise ConfigurationError(f"{path}: expected at most {limit} bytes, found more")
    return data


def read_text(path: Path, limit: int = 1 << 20) -> str:
    """Like `read_file`, as UTF-8 text."""
    try:
        return read_file(path, limit).decode("utf-8")
    except UnicodeDecodeError as failure:
        raise ConfigurationError(f"{path}: expected UTF-8 text, found other bytes") from failure


def _console() -> Console:
    terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        width=None if terminal else _ENDLESS,
        markup=False,
        highlight=False,
        emoji=False,
    )
