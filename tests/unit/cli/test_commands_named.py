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
INNER = {" ".join(name.split()[:2]) for name in COMMANDS if name.count(" ") == 2}
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
        found = " ".join(words[: 2 if words[0] in GROUPS else 1])
        if found in INNER:  # a group in a group
            found = " ".join(words[:3])
            if "|" in found:
                for name in words[2].split("|"):
                    assert f"{' '.join(words[:2])} {name}" in COMMANDS, f"{where}: {command}"
                continue
        alternatives = [found]
        if "|" in found:  # `backup run|list|verify`
            group, _, names = found.partition(" ")
            alternatives = [f"{group} {name}" for name in names.split("|")]
        if words[1:] in ([], ["…"]) and words[0] in GROUPS:
            continue  # the group as such
        for each in alternatives:
            assert each in COMMANDS, f"{where}: {command}"
            for option in re.findall(r"--[a-z][a-z-]*", command):
                assert option in COMMANDS[each] | {"--json"}, f"{where}: {command}"
