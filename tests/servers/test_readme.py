"""Every command that README and the guides show is one that the program takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.gateway_process import environment
from tests.unit.cli.here import Program
from tests.unit.cli.test_help import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_SHOWN = re.compile(r"`(strongroom [a-z][^`]*)`|^\s*(?:\$ )?(strongroom [a-z].*)$", re.MULTILINE)


def shown(page: Path) -> list[str]:
    """The commands a page shows, without comments and continuations."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    found = [first or second for first, second in _SHOWN.findall(text)]
    return [each.partition("  #")[0].strip() for each in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists_with_the_options_it_shows(page, capsys):
    wrong = []
    for line in shown(page):
        try:
            words = shlex.split(line)[1:]
        except ValueError:
            words = line.split()[1:]
        if any(mark in line for mark in ("…", "|", "<")) or not words:
            words = [word for word in words if re.fullmatch(r"[a-z-]+", word)][:2]
        name = next(
            (n for n in (" ".join(words[:2]), words[0] if words else "") if n in COMMANDS), None
        )
        if name is None:
            if not any(each.startswith(f"{words[0]} ") for each in COMMANDS if words):
                wrong.append(line)
            continue
        known = set(Program(capsys)(*name.split(), "--help").out.replace(",", " ").split())
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if not options <= known:
            wrong.append(f"{line}: {sorted(options - known)}")
    assert wrong == []


def test_what_the_readme_has_a_firm_do_works_as_it_stands(tmp_path):
    """The block of commands that adds clients and people, run line by line on a new installation."""
    block = re.search(
        r"```sh\n(\s*strongroom client add.*?)```",
        (ROOT / "README.md").read_text("utf-8"),
        re.DOTALL,
    )
    assert block is not None
    lines = [line.strip().partition("  #")[0] for line in block[1].splitlines() if line.strip()]
    assert len(lines) >= 5
    # A new installation, without the demonstration: the console makes its first officers.
    home = tmp_path / "srv"
    subprocess.run(
        [sys.executable, "-m", "gateway.cli", "init", str(home)],
        env=environment(),
        check=True,
        capture_output=True,
    )
    for name in ("example", "accountant1", "officer1"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True
        )
    for line in lines:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "gateway.cli",
                *shlex.split(line)[1:],
                "-c",
                home / "config.toml",
            ],
            cwd=home,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
