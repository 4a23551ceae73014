"""How a command is made: its options, its act, and how the answer is shown.

Promises: every command has `--config` and `--json`, and `--as` and `--key` if its act is one that a person
may sign; they are declared here, once. A command is a function of its own options that asks and returns a
`Shown`; whether that is printed as JSON or for people is decided here. Its exit code is the answer's.

Leaves out: the act itself (`gateway.core.admin`), how the core is reached (`connection`) and how things look
(`output`).

Usage:
    >>> @command(holds, act="hold.release", signed=True)
    ... def release(ask: Ask, hold: str = argument("ID", "The hold's id.")) -> Shown:
    ...     \"\"\"Release a hold (two officers sign the same).\"\"\"
    ...     data = ask(hold=hold)
    ...     return sentence(data, f"Hold {data['id']} released.")
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, get_type_hints

import typer

from gateway.cli.support import connection, output, signing, targets
from gateway.cli.support.connection import Console
from gateway.cli.support.options import As, ConfigPath, Json, Key
from gateway.cli.support.output import Column
from gateway.config import Config, load


@dataclass(frozen=True)
class Shown:
    """The result of a command.

    Args:
        data: what `--json` prints.
        show: prints it for people.
        code: the exit code, where it is not the answer's.
    """

    data: Any
    show: Callable[[], None]
    code: int = 0


Command: TypeAlias = Callable[..., Shown]


class Ask:
    """The first argument of a command: performs its act at the chosen installation, signed if wanted."""

    def __init__(
        self,
        act: str,
        config_path: Path | None,
        person: signing.Person | None,
        *,
        as_json: bool,
        carries: bool,
    ) -> None:
        self.config_path = config_path
        self.person = person
        self.as_json = as_json
        self.code = 0
        self._act = act
        self._carries = carries

    @property
    def config(self) -> Config:
        """The configuration (raises ConfigurationError)."""
        return load(self.config_path)

    def console(self) -> AbstractContextManager[Console]:
        """For a command of several acts."""
        return connection.at_console(self.config)

    def __call__(self, /, **arguments: Any) -> Any:
        """Perform the command's act; its data (raises as `connection.ask`)."""
        if self._carries:
            answer = targets.act(self.config, self._act, arguments, self.person)
        else:
            answer = connection.ask(self.config_path, self._act, arguments, self.person)
        self.code = answer.exit_code
        return answer.data


def sentence(data: Any, text: str) -> Shown:
    """A result of which people read one sentence."""
    return Shown(data, lambda: output.say(text))


def verbatim(data: Any, content: str) -> Shown:
    """A result that is text to be kept, or to be signed: printed exactly as it is."""
    return Shown(data, lambda: output.write_text(content))


def listing(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], empty: str) -> Shown:
    """A result that is a table (see `output.table`)."""
    return Shown(rows, lambda: output.table(rows, columns, empty))


def record(
    data: Any,
    shown: Mapping[str, Any] | None = None,
    show: Mapping[str, Callable[[object], str]] | None = None,
) -> Shown:
    """A result that is one record (see `output.details`); `shown` is what people see in place of `data`."""
    return Shown(data, lambda: output.details(data if shown is None else shown, show))


def findings(
    data: Mapping[str, Any],
    columns: Sequence[Column],
    show: Mapping[str, Callable[[object], str]] | None = None,
    code: int = 0,
) -> Shown:
    """A record with a table of what was found below it, if anything was looked for."""

    def both() -> None:
        output.details({key: data[key] for key in data if key != "findings"}, show)
        if "findings" in data:
            output.say()
            output.table(data["findings"], columns, "Everything is as it should be.")

    return Shown(data, both, code)


_ASK: Final = "ask"


def command(
    group: typer.Typer | None,
    name: str = "",
    *,
    act: str = "",
    signed: bool = False,
    must_sign: bool = False,
    carries: bool = False,
    offline: bool = False,
    key: Any = Key,
) -> Callable[[Command], Callable[..., None]]:
    """Make a command of a function that takes an `Ask` and its own options.

    Args:
        group: the group of commands it is added to; None: the caller adds it.
        name: what it is called; else the act's last word.
        act: as `gateway.core.admin.register.ACTS` has it; "" for a command that performs none, or several.
        signed: it has `--as` and `--key`. must_sign: it takes them.
        carries: something is carried to or from a backup target meanwhile (`targets`).
        offline: it needs no installation, and has no `--config`.
        key: the option for the signing key, where `--key` is another one.
    """

    def made(function: Command) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, config: Path | None = None, as_json: bool, **own: Any) -> None:
            person = None
            if signed:
                chosen = signing.required if must_sign else signing.person
                person = chosen(own.pop("as_name"), own.pop("signing_key"))
            ask = Ask(act, config, person, as_json=as_json, carries=carries)
            shown = function(ask, **own)
            if as_json:
                output.json_document(shown.data)
            else:
                shown.show()
            if code := shown.code or ask.code:
                raise typer.Exit(code)

        _declare(run, function, signed=signed, offline=offline, key=key)
        if group is not None:
            group.command(name or act.rpartition(".")[2])(run)
        return run

    return made


def _declare(
    run: Callable[..., None], function: Command, *, signed: bool, offline: bool, key: Any
) -> None:
    """Give `run` the parameters that Typer is to see: the function's own, then the shared ones."""
    hints = get_type_hints(function, include_extras=True)
    own = inspect.signature(function).parameters
    defaults = {name: each.default for name, each in own.items() if name != _ASK}
    types = {name: hints[name] for name in defaults}
    if not offline:
        types["config"], defaults["config"] = ConfigPath, None
    if signed:
        types["as_name"], defaults["as_name"] = As, ""
        types["signing_key"], defaults["signing_key"] = key, None
    types["as_json"], defaults["as_json"] = Json, False
    parameters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=types[name]
        )
        for name in types
    ]
    run.__annotations__ = {**types, "return": None}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
