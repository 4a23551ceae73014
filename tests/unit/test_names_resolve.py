"""What pages and docstrings name is there: modules, what is in them, and files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "vault", "retention_rules")
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "vault/FORMAT.md")),
]
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
NAMED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\(\))?`")
FILE = re.compile(r"`([a-z][\w./-]*/[\w.-]+\.(?:py|md|sql))`")
# Where a page may begin a path.
BASES = ("", "gateway", "gateway/core", "vault", "tests", "docs")


def defined(path: Path) -> set[str]:
    """The names that a module defines or imports at its top, and `Class.attribute`."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                targets = getattr(inner, "targets", [getattr(inner, "target", None)])
                names |= {
                    f"{node.name}.{name}"
                    for name in [
                        getattr(inner, "name", None),
                        *(getattr(each, "id", None) for each in targets),
                    ]
                    if name
                }
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for each in targets if isinstance(each, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def resolves(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        at = ROOT.joinpath(*parts[:length])
        rest = ".".join(parts[length:])
        for module in (at.with_suffix(".py"), at / "__init__.py"):
            if module.is_file():
                return not rest or rest in defined(module)
    return False


@pytest.mark.parametrize(
    "path", [*PAGES, *SOURCES], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_what_is_named_is_there(path):
    text = path.read_text("utf-8")
    missing = {name for name in NAMED.findall(text) if not resolves(name)}
    missing |= {
        name
        for name in FILE.findall(text)
        if not any((ROOT / base / name).exists() for base in BASES)
        and not (path.parent / name).exists()
    }
    assert missing == set()


def test_a_name_that_is_not_there_is_found():
    assert resolves("gateway.core.intake.receive.commit")
    assert not resolves("gateway.core.intake.receive.nothing_of_this_name")
    assert not resolves("gateway.core.no_such_module")
