"""The program in this process: quick enough for tables of cases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.cli import app


@dataclass(frozen=True)
class Done:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        assert self.code in {0, 1}, self.err
        return json.loads(self.out)

    def one_line(self, code: int) -> str:
        """The one line of a failed command: exit code, form and brevity are asserted."""
        assert self.code == code, (self.code, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("strongroom: ")
        assert "expected" in lines[0]
        assert "Traceback" not in self.err
        return lines[0]


class Program:
    """Runs `strongroom` here, on one installation if it is given."""

    def __init__(self, capsys: pytest.CaptureFixture[str], config: object = None) -> None:
        self._capsys = capsys
        self._config = config

    def __call__(self, *arguments: object) -> Done:
        words = [str(argument) for argument in arguments]
        if self._config is not None and words[:1] != ["init"]:
            words += ["-c", str(self._config)]
        self._capsys.readouterr()
        try:
            app.main(words)
        except SystemExit as ended:
            code = ended.code
        captured = self._capsys.readouterr()
        assert isinstance(code, int)
        return Done(code, captured.out, captured.err)

    def json(self, *arguments: object) -> Any:
        done = self(*arguments, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)
