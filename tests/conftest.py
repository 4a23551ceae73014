"""What all tests share: where the corpus is, and a house (a core in this process)."""

from __future__ import annotations

import os
import shutil
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
async def house(tmp_path):
    """A core in this process with demo clients and accounts; see tests/support/house.py."""
    from tests.support.house import House

    made = House(tmp_path)
    await made.settle()
    yield made
    await made.end()


@pytest.fixture(scope="session")
def template():
    """An installation with the demo accounts, made once; each test works on a copy of it."""
    from tests.support.sftp import make_template

    folder = make_template()
    yield folder
    shutil.rmtree(folder.parent)


# A test whose tool is missing says so as a skip. CI installs every tool, so there a skip is a failure,
# unless the machine itself can't do it (mounting a small disk, a fence the kernel does not have).
_MACHINE = ("mount", "kernel")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(word in reason for word in _MACHINE):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: expected no skip in CI, found {reason}"
    return report
