"""Taking messages and archives apart, fuzzed: so many runs from one seed, so that a failure comes again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RUNS = 12_000  # about fifteen seconds
HANG = 60  # seconds for one input, by which a loaded machine is not yet a hang
MEMORY = 2048  # MiB of the whole process

pytest.importorskip("atheris", reason="atheris is not here (it is made for Linux on x86-64)")


def test_nothing_that_a_fuzzer_finds_crashes_hangs_or_grows_without_bound(tmp_path):
    found = tmp_path / "found"
    found.mkdir()
    shutil.copytree(HERE / "seeds", tmp_path / "corpus")
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "apart.py"),
            f"-runs={RUNS}",
            "-seed=1",
            f"-timeout={HANG}",
            f"-rss_limit_mb={MEMORY}",
            f"-artifact_prefix={found}/",
            str(tmp_path / "corpus"),
        ],
        capture_output=True,
        timeout=170,
        check=False,
        cwd=HERE.parents[1],
    )
    inputs = {path.name: path.read_bytes() for path in found.iterdir()}
    assert done.returncode == 0, (done.stderr[-3000:].decode(errors="replace"), inputs)
    assert f"Done {RUNS} runs".encode() in done.stderr
