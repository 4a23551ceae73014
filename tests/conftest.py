"""What all tests share: where the corpus is, and a house (a core in this process)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real files (README: "The corpus"); skips where there is none."""
    folder = Path(os.environ.get("STRONGROOM_CORPUS", ROOT.parent / "shared" / "corpus"))
    if not (folder / "manifest.tsv").is_file():
        pytest.skip(f"the corpus of real documents is not at {folder}")
    return folder


@pytest.fixture
def house(tmp_path):
    """A core in this process with demo clients and accounts; see tests/support/house.py."""
    from tests.support.house import House, run

    made = House(tmp_path)
    run(made.settle())
    yield made
    made.close()
