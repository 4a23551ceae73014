"""Every command that a message or a page of the documentation names exists, with the options it is named with."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.test_help import COMMANDS

ROOT = Path(__file__).parents[3]
NO_COMMANDS = {"ledger key hand-over v1"}  # the magic of a format
NAMED = re.compile(r"`strongroom ([a-z][^`\n]*)`")
GLUED = re.compile(r"\"\s*\n\s*f?\"")  # a sentence that goes on in the next line of the source
THREE = {" ".join(name.split()[:2]) for name in COMMANDS if name.count(" ") == 2}
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def texts() -> Iterator[tuple[str, str]]:
    for folder in ("gateway", "vault"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), GLUED.sub("", path.read_text("utf-8"))
    for path in sorted((ROOT / "docs").glob("*.md")):
        yield str(path.relative_to(ROOT)), path.read_text("utf-8")


@functools.cache
def named() -> tuple[tuple[str, str], ...]:
    return tuple(
        (where, command)
        for where, text in texts()
        for command in NAMED.findall(text)
        if command not in NO_COMMANDS
    )


def test_commands_are_named_in_many_places() -> None:
    assert len({where for where, _ in named()}) > 15
    assert len(named()) > 60


@pytest.mark.parametrize("where", sorted({where for where, _ in named()}))
def test_each_command_named_there_exists_with_its_options(where: str) -> None:
    for place, command in named():
        if place != where:
            continue
        words = command.split()
        depth = 3 if " ".join(words[:2]) in THREE else 2 if words[0] in GROUPS else 1
        if depth == 3 and len(words) == 2:
            continue  # the group as such
        found = " ".join(words[:depth])
        alternatives = [found]
        if "|" in found:  # `backup run|list|verify`
            group, _, names = found.rpartition(" ")
            alternatives = [f"{group} {name}" for name in names.split("|")]
        if words[1:] in ([], ["…"]) and words[0] in GROUPS:
            continue  # the group as such
        for each in alternatives:
            assert each in COMMANDS, f"{where}: {command}"
            for option in re.findall(r"--[a-z][a-z-]*", command):
                assert option in COMMANDS[each] | {"--json"}, f"{where}: {command}"
