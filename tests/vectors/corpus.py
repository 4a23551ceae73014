"""Where the tests find other projects' files; nothing of them is kept in this one."""

import os
from pathlib import Path

import pytest

ROOT = Path(
    os.environ.get("STRONGROOM_CORPUS", Path(__file__).resolve().parents[3] / "shared" / "corpus")
)


def corpus_file(name: str) -> Path:
    """Return the file `name` of the corpus, or skip the test that asked for it."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"no {name} in the corpus at {ROOT}")
    return path
